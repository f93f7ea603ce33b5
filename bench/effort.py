"""What each level of ``--effort`` gains over plain rounding, and what it costs."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from aecodec import Codec
from aecodec.targets import psnr
from aecodec.training.bd import NoOverlap, bd_rate

from .codecs import EFFORT_QUALITIES, EFFORTS, OURS, Peer, roster

Point = tuple[float, float]  # bits per pixel, PSNR


@dataclass(frozen=True)
class Row:
    """A level on a number of images."""

    level: int
    bd_rates: list[float]  # of each image, against plain rounding
    seconds: float  # an image and quality
    times: float  # as long as plain rounding
    worse: list[float]  # R + λD over that of the level before, of the files where it is above 1
    files: int


def measure(pictures: Sequence[Image.Image], levels: Sequence[int], show: Callable[[], object]) -> list[Row]:
    """Each picture at each quality and level, the levels in turns; ``show`` is called after each file."""
    peers = {level: roster()[0][EFFORTS.get(level, OURS)] for level in (0, *levels)}
    peers[0].encode(pictures[0], 50)  # warm
    lagrangian = Codec(device="cpu").model.lagrangian.tolist()
    seconds = dict.fromkeys(peers, 0.0)
    bd_rates: dict[int, list[float]] = {level: [] for level in peers}
    worse: dict[int, list[float]] = {level: [] for level in peers}
    for picture in pictures:
        curves: dict[int, list[Point]] = {level: [] for level in peers}
        for quality in EFFORT_QUALITIES:
            before = None
            for level, peer in peers.items():
                start = time.perf_counter()
                data = peer.encode(picture, quality)
                seconds[level] += time.perf_counter() - start
                point = _point(picture, data, peer)
                curves[level].append(point)
                cost = _cost(point, lagrangian[quality])
                if before is not None and cost > before:
                    worse[level].append(cost / before)
                before = cost
                show()
        for level in peers:
            with contextlib.suppress(NoOverlap):  # a flat picture has no curve
                bd_rates[level].append(bd_rate(np.array(curves[0]), np.array(curves[level])))
    files = len(pictures) * len(EFFORT_QUALITIES)
    return [Row(n, bd_rates[n], seconds[n] / files, seconds[n] / seconds[0], worse[n], files) for n in peers]


def _point(picture: Image.Image, data: bytes, peer: Peer) -> Point:
    return 8 * len(data) / (picture.width * picture.height), psnr(np.asarray(picture), np.asarray(peer.decode(data)))


def _cost(point: Point, weight: float) -> float:
    """Bits and λ times the squared error, per pixel."""
    return point[0] + weight * 255**2 * 10 ** (-point[1] / 10)
