"""The model as it is trained: the parameters of its networks, and its tables over quality as a few knots."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..model import rate, structure
from ..model.fixed_point import WEIGHT_BITS
from ..model.rate import LAMBDA_MAX, LAMBDA_MIN, gaussian_bits
from ..model.structure import Design, Layer
from ..model.torch_ops import TorchOperations

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


class Reducible(TorchOperations):
    """Operations whose residual branches, not the sums that they add to, may be computed in bfloat16."""

    reduced = False

    def residual(self, x: Tensor, mix: Callable[[Tensor], Tensor], pointwise: Callable[[Tensor], Tensor]) -> Tensor:
        if not torch.is_grad_enabled():
            return super().residual(x, mix, pointwise)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.reduced):
            branch = pointwise(mix(x))
        return x + branch


class Network(nn.Module):
    """Everything that is trained. Quality enters as t in 0..1, one per sample: λ's place in its range, by its log."""

    def __init__(self, d: Design):
        super().__init__()
        self.design = d
        self.tensors: dict[str, Tensor] = {}  # weights and biases, by the names that weights files have for them
        for name, layer in structure.layers(d).items():
            made = _layer(name, layer)
            _hang(self, name.replace("prior.", "prior.layers."), made)
            self.tensors |= {f"{name}.{kind}": value for kind, value in made.named_parameters()}
        self._transforms = Reducible(self.tensors, torch.device("cpu"))
        self._prior = TorchOperations(self.tensors, torch.device("cpu"))
        span = math.log(LAMBDA_MAX / LAMBDA_MIN) / 2  # the best step size goes with 1/sqrt(λ)
        self.get_submodule("prior").add_module("hyper_rate", Knots(d.hyper))
        self.analysis_rate = Knots(d.features)
        self.synthesis_rate = Knots(d.features)
        self.gain = Knots(d.latents, span)  # log of what multiplies y before it is quantised
        self.scale_offset = Knots(d.latents, span / math.log(2))  # log2, added to the prior's log-scale
        self.fine_gain = Knots(d.fine, span)
        self.fine_scale_offset = Knots(d.fine, span / math.log(2))
        self.hyper_gain = Knots(d.hyper_latents, span)
        self.hyper_scale = Knots(d.hyper_latents, span / math.log(2), 1.0)  # log2 of the hyper-latents' deviation

    def reduce(self, reduced: bool) -> None:
        """Whether the branches of the transforms' blocks are computed in bfloat16. What they are added to never is."""
        self._transforms.reduced = reduced

    def matrices(self) -> list[nn.Parameter]:
        """The weights of 1x1 convolutions."""
        return [p for name, p in self.named_parameters() if name.endswith(".weight") and p.ndim == 2]

    @torch.no_grad()
    def clamp_(self) -> None:
        """Keep the prior's weights within what fixed point can hold."""
        limit = 0.999 * 2 ** (15 - WEIGHT_BITS)
        for name, value in self.tensors.items():
            if name.startswith("prior.") and name.endswith(".weight"):
                value.clamp_(-limit, limit)

    def forward(self, pixels: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """``pixels``: ``[B, H, W, 3]`` -> reconstruction, bits ``[B]``."""
        latents = structure.analysis(self._transforms, self.design, pixels, torch.exp(self.analysis_rate(t)))
        latents, bits = self.code(latents, t)
        return structure.synthesis(self._transforms, self.design, latents, torch.exp(self.synthesis_rate(t))), bits

    def code(self, latents: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Main and fine latents ``[B, h, w, N + M]`` -> the same as they are decoded, bits ``[B]``.

        In training, noise stands for rounding in the rate; rounding with a straight-through gradient feeds the context
        and the synthesis (Minnen and Singh 2020). Fine latents of samples of a low t are zero and cost nothing.
        """
        perturb = add_noise if self.training else torch.round
        y, fine = latents[..., : self.design.latents], latents[..., self.design.latents :]
        hyper_gain = torch.exp(self.hyper_gain(t))
        z = structure.hyper_analysis(self._prior, y) * hyper_gain
        bits = gaussian_bits(perturb(z), self.hyper_scale(t)).sum((1, 2, 3))
        hyper_rate = torch.exp(self.get_submodule("prior.hyper_rate")(t))
        features = structure.hyper_synthesis(self._prior, round_through(z) / hyper_gain, hyper_rate, *y.shape[1:3])

        def quantise(rest: Tensor) -> tuple[Tensor, Tensor]:
            return perturb(rest), round_through(rest)

        gain, offset = torch.exp(self.gain(t)), self.scale_offset(t)
        y, y_bits = rate.code(self._prior, features, y, gain, offset, quantise)
        gain, offset = torch.exp(self.fine_gain(t)), self.fine_scale_offset(t)
        fine, fine_bits = rate.code_fine(self._prior, features, y, fine, gain, offset, quantise)
        coded = (t >= rate.FINE_FROM).float()
        return torch.cat((y, fine * coded[:, None, None, None]), -1), bits + y_bits + fine_bits * coded


def fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 matrix products are faster than float32 ones here, so that training uses them."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    tests = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # not in every release of torch
    return device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in tests)


class _Parameters(nn.Module):
    """The weight and the bias of a layer."""

    def __init__(self, weight: Tensor, bias: Tensor):
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)


def _layer(name: str, layer: Layer) -> _Parameters:
    """A layer as training starts: blocks are the identity, and depthwise convolutions near it."""

    def uniform(limit: float, *shape: int) -> Tensor:
        return limit * (2 * torch.rand(*shape) - 1)

    zeros = torch.zeros(layer.rows)
    if not layer.columns:
        weight = uniform(0.1, *layer.shape)
        weight[:, 1, 1] += 1
        return _Parameters(weight, zeros)
    if name.endswith("project"):
        return _Parameters(torch.zeros(layer.shape), zeros)
    limit = layer.columns**-0.5
    if "head" in name:
        return _Parameters(uniform(0.3 * limit, *layer.shape), zeros)
    return _Parameters(uniform(limit, *layer.shape), uniform(limit, layer.rows))


def _hang(root: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module where its name, with dots, says, below modules that hold nothing else."""
    *way, last = name.split(".")
    for part in way:
        if part not in dict(root.named_children()):
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    root.add_module(last, module)
