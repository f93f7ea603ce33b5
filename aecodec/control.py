"""Rate control: which quality meets a size or a PSNR."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

BEST = 100  # the largest quality
OCTAVES = 0.054  # by which a file grows per step of quality, on average
DECIBELS = 0.18  # by which its PSNR grows
SECANTS = 5  # measurements that trust in a straight line


def psnr(original: npt.NDArray[np.uint8], decoded: npt.NDArray[np.uint8]) -> float:
    """In decibels, at most 138."""
    error = decoded.astype(np.float64) - original
    return float(10 * np.log10(255**2 / max(float(np.mean(error**2)), 1e-9)))


def crossing(measure: Callable[[int], float], goal: float, slope: float) -> int:
    """The smallest quality whose ``measure``, which grows with it, is above ``goal``; one more than the best if none.

    ``slope``: a first guess at the growth per step. Few measurements are made: where a straight line would cross.

    >>> tried = []
    >>> crossing(lambda q: tried.append(q) or 0.1 * q, 7.32, slope=0.2)
    74
    >>> tried
    [50, 61, 73, 74]
    """
    low, high = -1, BEST + 1
    points: list[tuple[int, float]] = []
    quality = BEST // 2
    while high - low > 1:
        value = measure(quality)
        low, high = (low, quality) if value > goal else (quality, high)
        if points:
            rise, run = value - points[-1][1], quality - points[-1][0]
            slope = rise / run if rise * run > 0 else slope
        points.append((quality, value))
        # what does not behave like a line is halved
        guess = quality + (goal - value) / slope if len(points) <= SECANTS else (low + high) / 2
        quality = min(max(math.floor(guess), low + 1), high - 1)
    return high
