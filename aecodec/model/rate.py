"""The rate of latents in float, with gradients: what training and the encoder's search minimise."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .entropy import SCALE_MIN_LOG2, SCALES, EntropyModel
from .fixed_point import ACTIVATION_BITS, TABLE_BITS
from .structure import GROUP, STEPS, Operations, context, fine_context
from .torch_ops import TorchOperations

LAMBDA_MIN, LAMBDA_MAX = 0.0005, 5.0
FINE_FROM = 0.6  # t from which fine latents are coded: below, leaving them out costs next to nothing
SCALE_MAX_LOG2 = SCALE_MIN_LOG2 + (SCALES - 1) / 8
LIKELIHOOD_FLOOR = 1e-9
ORDER = [4 * p + GROUP[s][p] for s in range(STEPS) for p in range(4)]  # what is coded when
PLACES = sorted(range(len(ORDER)), key=ORDER.__getitem__)  # the inverse


def lagrangian(t: Tensor) -> Tensor:
    """λ of the loss bpp + λ·distortion for t in 0..1, its place in the range by its logarithm."""
    return LAMBDA_MIN * (LAMBDA_MAX / LAMBDA_MIN) ** t


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


def code(
    ops: Operations,
    features: Tensor,
    y: Tensor,
    gain: Tensor,
    offset: Tensor,
    quantise: Callable[[Tensor], tuple[Tensor, Tensor]],
    inside: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Latents y ``[B, h, w, N]``, h and w even -> ŷ and the bits of y, ``[B]``.

    ``gain``, ``offset`` (to the prior's log2 of scales): ``[B, 1, 1, N]``. ``quantise`` turns what is left of y after
    its mean into what the rate is measured on and what context and synthesis see. Where ``inside``, of y's shape, is
    zero, nothing is coded, and ŷ is zero.
    """
    # one operation for all four cell positions of a step: small ones cost more time than their sums
    gain, offset = (_by_step(table.expand(-1, 2, 2, -1)) for table in (gain, offset))
    target = _by_step(y) * gain  # [STEPS, 4, B, h/2, w/2, N/4]
    coded = torch.ones_like(target) if inside is None else _by_step(inside)
    n = y.shape[-1] // 4
    values = list(torch.zeros_like(target))  # ŷ so far, in the latents' own scale
    symbols, log_scales = [], []
    for s in range(STEPS):
        raw = torch.stack(context(ops, s, features, _in_place(values)))  # [4, B, h/2, w/2, N/2]
        mean = raw[..., :n] * gain[s]
        symbol, seen = quantise(target[s] - mean)
        symbols.append(symbol)
        log_scales.append(raw[..., n:] + offset[s])
        values[s] = (seen + mean) / gain[s] * coded[s]
    bits = gaussian_bits(torch.stack(symbols), torch.stack(log_scales)) * coded
    return _in_place(values), bits.sum((0, 1, 3, 4, 5))


def code_fine(
    ops: Operations,
    features: Tensor,
    latents: Tensor,
    f: Tensor,
    gain: Tensor,
    offset: Tensor,
    quantise: Callable[[Tensor], tuple[Tensor, Tensor]],
) -> tuple[Tensor, Tensor]:
    """Fine latents f ``[B, h, w, M]`` -> f̂ and their bits ``[B]``. ``latents``: ŷ; the rest as in `code`."""
    raw = fine_context(ops, features, latents)
    mean = raw[..., : f.shape[-1]] * gain
    symbols, seen = quantise(f * gain - mean)
    bits = gaussian_bits(symbols, raw[..., f.shape[-1] :] + offset)
    return (seen + mean) / gain, bits.sum((1, 2, 3))


def _by_step(x: Tensor) -> Tensor:
    """``[B, h, w, N]`` -> ``[STEPS, 4, B, h/2, w/2, N/4]``: what each context step codes at each cell position."""
    b, h, w, n = x.shape
    x = x.reshape(b, h // 2, 2, w // 2, 2, 4, n // 4).permute(2, 4, 5, 0, 1, 3, 6)  # [2, 2, group, B, h/2, w/2, N/4]
    x = x.flatten(0, 2).index_select(0, torch.tensor(ORDER, device=x.device))
    return x.reshape(STEPS, 4, *x.shape[1:])


def _in_place(parts: list[Tensor]) -> Tensor:
    """The inverse of `_by_step`."""
    x = torch.cat(parts).index_select(0, torch.tensor(PLACES, device=parts[0].device))
    x = x.reshape(2, 2, 4, *x.shape[1:]).permute(3, 4, 0, 5, 1, 2, 6)  # [B, h/2, 2, w/2, 2, group, N/4]
    return x.flatten(5, 6).flatten(3, 4).flatten(1, 2)


def float_prior(entropy: EntropyModel, device: torch.device) -> tuple[TorchOperations, dict[str, Tensor]]:
    """The layers of an entropy model, and its tables over quality, as floats, which have gradients."""
    ops = TorchOperations({}, device)
    bits = {name: ACTIVATION_BITS if name.endswith("scale_offset") else TABLE_BITS for name in entropy.tables}
    tables = {name: ops.array(value * 0.5 ** bits[name]) for name, value in entropy.tables.items()}
    return TorchOperations({name: ops.array(value) for name, value in entropy.ops.real().items()}, device), tables
