"""Rate-distortion of real files, and what it says in one number."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.progress import track
from scipy.interpolate import PchipInterpolator

from .codecs import Peer, psnr

Curve = npt.NDArray[np.float64]  # rows of (bits per pixel, PSNR), by quality


def measure(images: Sequence[Image.Image], peers: Sequence[Peer]) -> dict[str, list[Curve]]:
    """For every codec, a curve for each image."""
    found: dict[str, list[Curve]] = {peer.name: [] for peer in peers}
    for image in track(images, "images"):
        for peer in peers:
            points = []
            for quality in peer.qualities:
                data = peer.encode(image, quality)
                points.append((8 * len(data) / (image.width * image.height), psnr(image, peer.decode(data))))
            found[peer.name].append(np.array(points))
    return found


def bd_rate(anchor: Curve, test: Curve) -> float:
    """Percent of rate that ``test`` needs more than ``anchor`` for the same distortion.

    Bjontegaard's delta rate (VCEG-M33) with piecewise cubic interpolation of the log-rate. Raises ValueError where
    the curves share less than half of the anchor's range of distortion.
    """
    low, high = max(anchor[:, 1].min(), test[:, 1].min()), min(anchor[:, 1].max(), test[:, 1].max())
    if high - low < 0.5 * np.ptp(anchor[:, 1]):
        raise ValueError("the curves overlap too little")
    areas = []
    for curve in (anchor, test):
        ordered = curve[np.argsort(curve[:, 1])]
        areas.append(PchipInterpolator(ordered[:, 1], np.log(ordered[:, 0])).integrate(low, high))
    return float(100 * np.expm1((areas[1] - areas[0]) / (high - low)))


def mean_bd_rate(anchor: Sequence[Curve], test: Sequence[Curve]) -> float:
    """The mean over images of `bd_rate`."""
    return float(np.mean([bd_rate(a, t) for a, t in zip(anchor, test, strict=True)]))
