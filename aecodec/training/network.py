"""The model as it is trained: float transforms, a float twin of the exact prior, and the tables over quality."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..layers import Block, Depthwise, activate
from ..prior import GROUP, SCALE_MIN_LOG2, SCALES, STEPS, WEIGHT_BITS, Structure
from ..transforms import Analysis, Design, HyperAnalysis, Synthesis

LAMBDA_MIN, LAMBDA_MAX = 0.0005, 0.7
SCALE_MAX_LOG2 = SCALE_MIN_LOG2 + (SCALES - 1) / 8
LIKELIHOOD_FLOOR = 1e-9
KNOTS = 8
ORDER = torch.tensor([4 * p + GROUP[s][p] for s in range(STEPS) for p in range(4)])  # what is coded when


def lagrangian(t: Tensor) -> Tensor:
    """λ of the loss bpp + λ·255²·MSE for t = quality / 100."""
    return LAMBDA_MIN * (LAMBDA_MAX / LAMBDA_MIN) ** t


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


class _Bounded(torch.autograd.Function):
    """``x.clamp(low, high)`` whose gradient still passes where it would move x back inside."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.low, ctx.high = low, high
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (x,), (grad,) = ctx.saved_tensors, grads
        outwards = (x < ctx.low) & (grad > 0) | (x > ctx.high) & (grad < 0)
        return grad.masked_fill(outwards, 0), None, None


def _bounded(x: Tensor, low: float, high: float = math.inf) -> Tensor:
    return _Bounded.apply(x, low, high)  # type: ignore[no-any-return, no-untyped-call]


def gaussian_bits(x: Tensor, log2_scale: Tensor) -> Tensor:
    """Bits of a zero-mean Gaussian, integrated over ``x ± 1/2``, elementwise."""
    scale = torch.exp2(_bounded(log2_scale, SCALE_MIN_LOG2, SCALE_MAX_LOG2)) * math.sqrt(2)
    x = x.abs()
    mass = 0.5 * (torch.erfc((x - 0.5) / scale) - torch.erfc((x + 0.5) / scale))
    return -torch.log2(_bounded(mass, LIKELIHOOD_FLOOR))


def round_through(x: Tensor) -> Tensor:
    """Rounding whose gradient is that of the identity."""
    return x + (x.round() - x).detach()


def add_noise(x: Tensor) -> Tensor:
    return x + (torch.rand_like(x) - 0.5)


class TrainablePrior(nn.Module, Structure):
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
            self.layers[f"context{s}_depthwise"] = Depthwise(w)
            self.layers[f"context{s}_mix"] = nn.Linear(w, w)
            for g in range(4):
                head = nn.Linear(w, n // 2)
                nn.init.zeros_(head.bias)
                with torch.no_grad():
                    head.weight.mul_(0.3)
                self.layers[f"context{s}_head{g}"] = head
        self.hyper_rate = Knots(p)

    @torch.no_grad()
    def clamp_(self) -> None:
        """Keep the weights within what fixed point can hold."""
        limit = 0.999 * 2 ** (15 - WEIGHT_BITS)
        for layer in self.layers.values():
            layer.get_parameter("weight").clamp_(-limit, limit)

    def pointwise(self, name: str, x: Tensor) -> Tensor:
        return self.layers[name](x)  # type: ignore[no-any-return]

    def depthwise(self, name: str, x: Tensor) -> Tensor:
        return self.layers[name](x)  # type: ignore[no-any-return]

    def activate(self, x: Tensor) -> Tensor:
        return activate(x)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y

    def scale(self, name: str, x: Tensor, quality: Tensor) -> Tensor:
        return x * torch.exp(getattr(self, name)(quality))

    def concatenate(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.cat((x, y), -1)


class Network(nn.Module):
    """Everything that is trained. Quality enters as t in 0..1, one per sample."""

    def __init__(self, d: Design):
        super().__init__()
        self.design = d
        span = math.log(LAMBDA_MAX / LAMBDA_MIN) / 2  # the best step size goes with 1/sqrt(λ)
        self.analysis = Analysis(d)
        self.hyper_analysis = HyperAnalysis(d)
        self.prior = TrainablePrior(d)
        self.synthesis = Synthesis(d)
        self.analysis_rate = Knots(d.features)
        self.synthesis_rate = Knots(d.features)
        self.gain = Knots(d.latents, span)  # log of what multiplies y before it is quantised
        self.scale_offset = Knots(d.latents, span / math.log(2))  # log2, added to the prior's log-scale
        self.hyper_gain = Knots(d.hyper_latents, span)
        self.hyper_scale = Knots(d.hyper_latents, span / math.log(2), 1.0)  # log2 of the hyper-latents' deviation

    def forward(self, pixels: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``pixels``: ``[B, H, W, 3]`` -> reconstruction, bits of y ``[B]``, bits of z ``[B]``."""
        reduced = torch.autocast(pixels.device.type, torch.bfloat16, enabled=fast_bfloat16(pixels.device))
        with reduced:
            y = self.analysis(pixels, torch.exp(self.analysis_rate(t)))
        latents, y_bits, z_bits = self.code(y.float(), t)
        with reduced:
            reconstruction = self.synthesis(latents, torch.exp(self.synthesis_rate(t)))
        return reconstruction.float(), y_bits, z_bits

    def code(self, y: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``y``: ``[B, h, w, N]`` -> ŷ, bits of y ``[B]``, bits of z ``[B]``.

        In training, noise stands for rounding in the rate; rounding with a straight-through gradient feeds the context
        and the synthesis (Minnen and Singh 2020).
        """
        perturb = add_noise if self.training else torch.round
        hyper_gain = torch.exp(self.hyper_gain(t))
        z = self.hyper_analysis(y) * hyper_gain
        z_bits = gaussian_bits(perturb(z), self.hyper_scale(t)).sum((1, 2, 3))
        features = self.prior.features(round_through(z) / hyper_gain, t, y.shape[1], y.shape[2])

        # one operation for all four cell positions of a step: small ones cost more time in training than their sums
        gain = _by_step(torch.exp(self.gain(t)).expand(-1, 2, 2, -1))
        offset = _by_step(self.scale_offset(t).expand(-1, 2, 2, -1))
        target = _by_step(y) * gain  # [STEPS, 4, B, h/2, w/2, N/4]
        n = self.design.latents // 4
        values = list(torch.zeros_like(target))  # ŷ so far, in the latents' own scale
        residuals, log_scales = [], []
        for s in range(STEPS):
            raw = torch.stack(self.prior.step(s, features, _in_place(values)))  # [4, B, h/2, w/2, N/2]
            mean = raw[..., :n] * gain[s]
            residuals.append(target[s] - mean)
            log_scales.append(raw[..., n:] + offset[s])
            values[s] = (round_through(residuals[s]) + mean) / gain[s]
        y_bits = gaussian_bits(perturb(torch.stack(residuals)), torch.stack(log_scales)).sum((0, 1, 3, 4, 5))
        return _in_place(values), y_bits, z_bits


def _by_step(x: Tensor) -> Tensor:
    """``[B, h, w, N]`` -> ``[STEPS, 4, B, h/2, w/2, N/4]``: what each context step codes at each cell position."""
    b, h, w, n = x.shape
    x = x.reshape(b, h // 2, 2, w // 2, 2, 4, n // 4).permute(2, 4, 5, 0, 1, 3, 6)  # [2, 2, group, B, h/2, w/2, N/4]
    x = x.flatten(0, 2).index_select(0, ORDER.to(x.device))
    return x.reshape(STEPS, 4, *x.shape[1:])


def _in_place(parts: list[Tensor]) -> Tensor:
    """The inverse of `_by_step`."""
    x = torch.cat(parts).index_select(0, ORDER.argsort().to(parts[0].device))
    x = x.reshape(2, 2, 4, *x.shape[1:]).permute(3, 4, 0, 5, 1, 2, 6)  # [B, h/2, 2, w/2, 2, group, N/4]
    return x.flatten(5, 6).flatten(3, 4).flatten(1, 2)


def fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 matrix products are faster than float32 ones here, so that training uses them."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
