"""The scale of qualities: what each of ours gives, what AVIF and JPEG XL call the same, and whether it rises."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from . import codecs
from .measure import Point

PEERS = (codecs.AVIF_SLOW, codecs.JPEG_XL)
METRICS = ("psnr", "ssimulacra2")
Found = Mapping[str, Mapping[str, Sequence[Point]]]  # by codec and image, in the order of the codec's qualities


class Row(NamedTuple):
    """Means over the images at one of our qualities."""

    quality: int
    bpp: float
    psnr: float
    ssimulacra2: float
    same: dict[str, float | None]  # each peer's quality of the same mean SSIMULACRA 2; None beyond its scale


class Fall(NamedTuple):
    """The most that a metric of a single image falls from one quality to the next one measured; 0 if it never does."""

    metric: str
    by: float
    image: str
    quality: int  # the higher one


def measured(every: int) -> list[codecs.Peer]:
    """Ours at every so many qualities, and the peers that are installed."""
    present, _ = codecs.roster()
    ours = replace(present[codecs.OURS], qualities=tuple(range(0, 101, every)))
    return [ours, *(present[name] for name in PEERS if name in present)]


def rows(found: Found, peers: Sequence[codecs.Peer], pixels: Mapping[str, int]) -> list[Row]:
    """The scale. ``pixels``: of each image. Images on which a codec failed are left out."""
    whole = [image for image in pixels if all("ssimulacra2" in p for codec in found.values() for p in codec[image])]

    def mean(codec: codecs.Peer, metric: str) -> list[float]:
        points = np.array([[p[metric] for p in found[codec.name][image]] for image in whole])
        return [float(value) for value in points.mean(0)]

    ours, *others = peers
    sizes = np.array([[8 * p["bytes"] / pixels[image] for p in found[ours.name][image]] for image in whole])
    scores = {peer.name: mean(peer, "ssimulacra2") for peer in others}
    table = []
    columns = (ours.qualities, sizes.mean(0).tolist(), mean(ours, "psnr"), mean(ours, "ssimulacra2"))
    for quality, bpp, psnr, score in zip(*columns, strict=True):
        same = {peer.name: _where(peer.qualities, scores[peer.name], score) for peer in others}
        table.append(Row(quality, bpp, psnr, score, same))
    return table


def _where(qualities: Sequence[int], scores: Sequence[float], score: float) -> float | None:
    if not scores[0] <= score <= scores[-1]:
        return None
    return float(np.interp(score, scores, qualities))


def falls(found: Found, ours: codecs.Peer) -> list[Fall]:
    """For each metric, the worst place of all images."""
    worst = []
    for metric in METRICS:
        steps = [
            Fall(metric, a[metric] - b[metric], image, quality)
            for image, points in found[ours.name].items()
            for (a, b), quality in zip(pairwise(points), ours.qualities[1:], strict=True)
            if a.get(metric) is not None and b.get(metric) is not None
        ]
        largest = max(steps, key=lambda fall: fall.by)
        worst.append(largest if largest.by > 0 else largest._replace(by=0.0))
    return worst
