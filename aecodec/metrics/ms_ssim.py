"""MS-SSIM (Wang, Simoncelli, Bovik 2003), over numpy arrays or torch tensors."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from .filters import Array, Kernel, namespace, smooth

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, the finest first
WINDOW = 11  # pixels on a side
SIGMA = 1.5
C1, C2 = 0.01**2, 0.03**2
LEAST = 1e-9  # of a scale's structure, whose power has no gradient at 0
LEAST_DISTANCE = 1e-9  # from 1, below which float64 has no digits left: 90 dB


def smallest(window: int = WINDOW) -> int:
    """Pixels that a side must have, for the coarsest scale to hold a window."""
    return ((window - 1) << (len(WEIGHTS) - 1)) + 1


def decibels(original: npt.NDArray[np.uint8], decoded: npt.NDArray[np.uint8]) -> float:
    """-10·log10(1 - MS-SSIM) of 8-bit pixels ``[H, W, C]``; 90 for the same picture. Sides from `smallest`."""
    x, y = (np.moveaxis(pixels / 255, 2, 0) for pixels in (original, decoded))
    return float(-10 * np.log10(max(1 - ms_ssim(x, y), LEAST_DISTANCE)))


def ms_ssim(x: Array, y: Array, window: int = WINDOW) -> Array:
    """The mean over the channels of ``[..., C, H, W]`` in 0..1, ``[...]``: 1 for the same picture.

    Sides from `smallest`.
    """
    value: Array = 1.0
    for scale, weight in enumerate(WEIGHTS):
        if scale:
            x, y = _half(x), _half(y)
        maps = namespace(x).stack((x, y, x * x + y * y, x * y))
        mean_x, mean_y, squares, products = smooth(maps, _gaussian(window), pad=False)
        means = mean_x * mean_x + mean_y * mean_y
        term = (2 * (products - mean_x * mean_y) + C2) / (squares - means + C2)
        if scale == len(WEIGHTS) - 1:
            term = term * (2 * mean_x * mean_y + C1) / (means + C1)
        value = value * term.mean((-2, -1)).clip(LEAST) ** weight
    return value.mean(-1)


@lru_cache
def _gaussian(window: int) -> Kernel:
    kernel = np.exp(-((np.arange(window) - window // 2) ** 2) / (2 * SIGMA**2))
    normalised: Kernel = kernel / kernel.sum()
    return normalised


def _half(x: Array) -> Array:
    """Means over 2x2; an odd first row or column has zeros for a partner, as in the authors' code."""
    if x.shape[-2] % 2:
        x = namespace(x).concatenate((0 * x[..., :1, :], x), -2)
    if x.shape[-1] % 2:
        x = namespace(x).concatenate((0 * x[..., :1], x), -1)
    x = x[..., ::2, :] + x[..., 1::2, :]
    return (x[..., ::2] + x[..., 1::2]) / 4
