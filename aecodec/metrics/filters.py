"""Separable filters over numpy arrays or torch tensors ``[..., H, W]``, as products with banded matrices.

For rows of up to some hundred samples, and for gradients, that is faster on a CPU than convolutions or shifted sums.
"""

import sys
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Array = Any  # numpy.ndarray or torch.Tensor
Kernel = npt.NDArray[np.float64]

BLOCK = 64  # samples of a row that one product gives: more would multiply more zeros


def namespace(x: Array) -> Any:
    """The library that an array belongs to."""
    return sys.modules[type(x).__module__.partition(".")[0]]


def constant(value: npt.NDArray[np.float64], like: Array) -> Array:
    """A numpy array as one of the library, type and device of another array."""
    return namespace(like).asarray(value, dtype=like.dtype, device=like.device)


def smooth(x: Array, kernel: Kernel, pad: bool) -> Array:
    """Correlate both axes with an odd kernel of 2r + 1 entries: zeros around, or r results fewer on each side."""
    return _smooth_rows(_smooth_rows(x, kernel, pad).mT, kernel, pad).mT


def _smooth_rows(x: Array, kernel: Kernel, pad: bool) -> Array:
    reach, size, parts, entries = len(kernel) // 2, x.shape[-1], [], tuple(kernel.tolist())
    first = 0 if pad else reach
    for start in range(first, size - first, BLOCK):
        stop = min(start + BLOCK, size - first)
        low, high = max(start - reach, 0), min(stop + reach, size)
        parts.append(x[..., low:high] @ constant(_band(entries, low - start, high - start, stop - start), x))
    return parts[0] if len(parts) == 1 else namespace(x).concatenate(parts, -1)


@lru_cache(maxsize=64)
def _band(kernel: tuple[float, ...], low: int, high: int, size: int) -> npt.NDArray[np.float64]:
    """``[high - low, size]``: what the samples low..high add to 0..size."""
    offsets = np.arange(low, high)[:, None] - np.arange(size) + len(kernel) // 2
    inside = (offsets >= 0) & (offsets < len(kernel))
    return np.where(inside, np.array(kernel)[offsets.clip(0, len(kernel) - 1)], 0.0)
