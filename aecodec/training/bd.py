"""The Bjontegaard delta rate, by which codecs are compared."""

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator

Curve = npt.NDArray[np.float64]  # rows of (bits per pixel, quality metric, larger is better)

LEAST_OVERLAP = 0.5


class NoOverlap(ValueError):
    """Two curves that share too little of their range to be compared."""


def bd_rate(anchor: Curve, test: Curve, within: tuple[float, float] | None = None) -> float:
    """Percent of rate that ``test`` needs more than ``anchor`` for the same distortion.

    Bjontegaard's delta rate (VCEG-M33) with piecewise cubic interpolation (PCHIP) of the log-rate, over the values of
    the metric that ``within`` bounds, else over the anchor's range. Raises `NoOverlap` where the curves share less than
    half of that.
    """
    anchor, test = _increasing(anchor), _increasing(test)
    if min(len(anchor), len(test)) < 2:
        raise NoOverlap("a curve needs two points")
    least, most = within or (anchor[0, 1], anchor[-1, 1])
    low, high = max(least, anchor[0, 1], test[0, 1]), min(most, anchor[-1, 1], test[-1, 1])
    if high <= low or high - low < LEAST_OVERLAP * (most - least):
        raise NoOverlap("the curves overlap too little")
    areas = [PchipInterpolator(c[:, 1], np.log(c[:, 0])).integrate(low, high) for c in (anchor, test)]
    return float(100 * np.expm1((areas[1] - areas[0]) / (high - low)))


def _increasing(curve: Curve) -> Curve:
    """Without the points that another one beats in both rate and distortion."""
    kept: list[npt.NDArray[np.float64]] = []
    for row in curve[np.lexsort((-curve[:, 1], curve[:, 0]))]:
        if not kept or row[1] > kept[-1][1]:
            kept.append(row)
    return np.array(kept).reshape(-1, 2)
