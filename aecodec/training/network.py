"""The model as it is trained: float transforms, a float twin of the exact prior, and the tables over quality."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import rate
from ..layers import Block, Depthwise
from ..prior import STEPS, WEIGHT_BITS
from ..rate import LAMBDA_MAX, LAMBDA_MIN, FloatStructure, gaussian_bits
from ..transforms import Analysis, Design, HyperAnalysis, Synthesis

KNOTS = 8


class Knots(nn.Module):
    """A vector for every quality: piecewise linear over a few knots."""

    def __init__(self, channels: int, slope: float = 0.0, start: float = 0.0):
        super().__init__()
        t = torch.linspace(-0.5, 0.5, KNOTS)
        self.values = nn.Parameter((start + slope * t)[:, None].repeat(1, channels))  # [KNOTS, channels]

    def forward(self, t: Tensor) -> Tensor:
        """``t``: ``[B]`` in 0..1 -> ``[B, 1, 1, channels]``."""
        x = t * (len(self.values) - 1)
        low = x.floor().clamp(0, len(self.values) - 2).long()
        part = (x - low)[:, None]
        return torch.lerp(self.values[low], self.values[low + 1], part)[:, None, None]


def round_through(x: Tensor) -> Tensor:
    """Rounding whose gradient is that of the identity."""
    return x + (x.round() - x).detach()


def add_noise(x: Tensor) -> Tensor:
    return x + (torch.rand_like(x) - 0.5)


class TrainablePrior(nn.Module, FloatStructure):
    """`Structure` in float, with gradients."""

    def __init__(self, d: Design):
        super().__init__()
        p, n, w = d.hyper, d.latents, d.context
        self.layers = nn.ModuleDict()
        self.layers["hyper_enter"] = nn.Linear(d.hyper_latents, 4 * p)
        self.layers["hyper_up"] = nn.Linear(p, 4 * p)
        for name in ("hyper_block0", "hyper_block1"):
            for part, layer in Block(p, 2 * p).named_children():
                self.layers[f"{name}_{part}"] = layer
        for s in range(STEPS):
            self.layers[f"context{s}_enter"] = nn.Linear(p + n, w)
            self.layers[f"context{s}_depthwise"] = Depthwise(w, edge=False)
            self.layers[f"context{s}_mix"] = nn.Linear(w, w)
            for g in range(4):
                head = nn.Linear(w, n // 2)
                nn.init.zeros_(head.bias)
                with torch.no_grad():
                    head.weight.mul_(0.3)
                self.layers[f"context{s}_head{g}"] = head
        self.layers["fine_enter"] = nn.Linear(p + n, d.fine_context)
        for part, layer in Block(d.fine_context, d.fine_context).named_children():
            self.layers[f"fine_block_{part}"] = layer
        head = nn.Linear(d.fine_context, 2 * d.fine)
        nn.init.zeros_(head.bias)
        with torch.no_grad():
            head.weight.mul_(0.3)
        self.layers["fine_head"] = head
        self.hyper_rate = Knots(p)

    @torch.no_grad()
    def clamp_(self) -> None:
        """Keep the weights within what fixed point can hold."""
        limit = 0.999 * 2 ** (15 - WEIGHT_BITS)
        for layer in self.layers.values():
            layer.get_parameter("weight").clamp_(-limit, limit)

    def pointwise(self, name: str, x: Tensor, columns: int | None = None) -> Tensor:
        layer = self.layers[name]
        return F.linear(x, layer.get_parameter("weight")[:, :columns], layer.get_parameter("bias"))

    def depthwise(self, name: str, x: Tensor) -> Tensor:
        return self.layers[name](x)  # type: ignore[no-any-return]

    def scale(self, name: str, x: Tensor, quality: Tensor) -> Tensor:
        return x * torch.exp(getattr(self, name)(quality))


class Network(nn.Module):
    """Everything that is trained. Quality enters as t in 0..1, one per sample: λ's place in its range, by its log."""

    def __init__(self, d: Design):
        super().__init__()
        self.design = d
        span = math.log(LAMBDA_MAX / LAMBDA_MIN) / 2  # the best step size goes with 1/sqrt(λ)
        self.analysis = Analysis(d)
        self.hyper_analysis = HyperAnalysis(d)
        self.prior = TrainablePrior(d)
        self.synthesis = Synthesis(d)
        self.analysis_rate = Knots(d.eighth)
        self.synthesis_rate = Knots(d.eighth)
        self.gain = Knots(d.latents, span)  # log of what multiplies y before it is quantised
        self.scale_offset = Knots(d.latents, span / math.log(2))  # log2, added to the prior's log-scale
        self.fine_gain = Knots(d.fine, span)
        self.fine_scale_offset = Knots(d.fine, span / math.log(2))
        self.hyper_gain = Knots(d.hyper_latents, span)
        self.hyper_scale = Knots(d.hyper_latents, span / math.log(2), 1.0)  # log2 of the hyper-latents' deviation

    def reduce(self, reduced: bool) -> None:
        """Whether the branches of the transforms' blocks are computed in bfloat16. What they are added to never is."""
        for block in (*self.analysis.modules(), *self.synthesis.modules()):
            if isinstance(block, Block):
                block.reduced = reduced

    def forward(self, pixels: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """``pixels``: ``[B, H, W, 3]`` -> reconstruction, bits ``[B]``."""
        latents, bits = self.code(self.analysis(pixels, torch.exp(self.analysis_rate(t))), t)
        return self.synthesis(latents, torch.exp(self.synthesis_rate(t))), bits

    def code(self, latents: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Main and fine latents ``[B, h, w, N + M]`` -> the same as they are decoded, bits ``[B]``.

        In training, noise stands for rounding in the rate; rounding with a straight-through gradient feeds the context
        and the synthesis (Minnen and Singh 2020). Fine latents of samples of a low t are zero and cost nothing.
        """
        perturb = add_noise if self.training else torch.round
        y, fine = latents[..., : self.design.latents], latents[..., self.design.latents :]
        hyper_gain = torch.exp(self.hyper_gain(t))
        z = self.hyper_analysis(y) * hyper_gain
        bits = gaussian_bits(perturb(z), self.hyper_scale(t)).sum((1, 2, 3))
        features = self.prior.features(round_through(z) / hyper_gain, t, y.shape[1], y.shape[2])

        def quantise(rest: Tensor) -> tuple[Tensor, Tensor]:
            return perturb(rest), round_through(rest)

        gain, offset = torch.exp(self.gain(t)), self.scale_offset(t)
        y, y_bits = rate.code(self.prior, features, y, gain, offset, quantise)
        gain, offset = torch.exp(self.fine_gain(t)), self.fine_scale_offset(t)
        fine, fine_bits = rate.code_fine(self.prior, features, y, fine, gain, offset, quantise)
        coded = (t >= rate.FINE_FROM).float()
        return torch.cat((y, fine * coded[:, None, None, None]), -1), bits + y_bits + fine_bits * coded


def fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 matrix products are faster than float32 ones here, so that training uses them."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    tests = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # not in every release of torch
    return device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in tests)
