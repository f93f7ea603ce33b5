"""Targets: which quality meets a size or a score."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from . import container
from .geometry import Tiling
from .image import Plane
from .metrics import ssimulacra2 as metric

BEST = 100  # the largest quality
OCTAVES = 0.054  # by which a file grows per step of quality, on average
BAND = 64  # rows that are compared at once
SECANTS = 5  # measurements that trust in a straight line


def psnr(original: Plane, decoded: Plane, where: npt.NDArray[np.bool_] | None = None) -> float:
    """In decibels, at most 138, of pictures ``[H, W, C]`` or of their pixels ``where`` a plane ``[H, W]`` is true."""
    squares, samples = 0, 0
    for top in range(0, len(original), BAND):  # a large picture leaves no room for its differences
        rows = slice(top, top + BAND)
        difference = np.subtract(original[rows], decoded[rows], dtype=np.int32)
        if where is not None:
            difference = difference[where[rows]]
        squares, samples = squares + int((difference**2).sum(dtype=np.int64)), samples + difference.size
    return 10 * math.log10(255**2 / max(squares / max(samples, 1), 1e-9))


def ssimulacra2(original: Plane, decoded: Plane, where: npt.NDArray[np.bool_] | None = None) -> float:
    """The score, at most 100, of pictures ``[H, W, 1 or 3]``; where a plane ``[H, W]`` is false they count as equal."""
    # to keep what is computed of the original alone would save a search 5 % of its time, for 100 bytes per pixel
    return metric.ssimulacra2(original, decoded if where is None else np.where(where[..., None], decoded, original))


@dataclass(frozen=True)
class Scale:
    """A measure of decoded pictures that a target can be given in."""

    score: Callable[[Plane, Plane, npt.NDArray[np.bool_] | None], float]
    slope: float  # by which it grows per step of quality, on average
    words: str  # that a score is told in


SCALES = {"psnr": Scale(psnr, 0.18, "{:.2f} dB"), "ssimulacra2": Scale(ssimulacra2, 0.9, "{:.2f} by SSIMULACRA 2")}


def one_target(targets: Mapping[str, float | None]) -> tuple[str, float]:
    """The one that is given of the targets of `Codec.compress_to`, by name. Raises ValueError."""
    given = [(name, target) for name, target in targets.items() if target is not None]
    if len(given) != 1:
        *names, last = targets
        raise ValueError(f"give one of {', '.join(names)} and {last}")
    name, target = given[0]
    if not -1e12 < target < 1e12 or (name == "ssimulacra2" and target > 100):
        raise ValueError(f"target {target}: expected a number that a file can have")
    return name, target


def crossing(measure: Callable[[int], float], goal: float, slope: float, start: int = BEST // 2) -> int:
    """The smallest quality whose ``measure``, which grows with it, is above ``goal``; one more than the best if none.

    ``slope``: a first guess at the growth per step. Few measurements are made: at ``start``, then where a straight line
    would cross.

    >>> tried = []
    >>> crossing(lambda q: tried.append(q) or 0.1 * q, 7.32, slope=0.2)
    74
    >>> tried
    [50, 61, 73, 74]
    """
    low, high = -1, BEST + 1
    points: list[tuple[int, float]] = []
    quality = start
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


class Attempt(NamedTuple):
    """A file, and the score of its picture where the target is one."""

    data: bytes
    score: float


class Reached(NamedTuple):
    """What a search for a target ended with."""

    data: bytes
    scores: dict[str, float]  # of the decoded picture, where the target was one
    missed: str  # why it is not what was asked for, if it is not


def reach(
    attempt: Callable[[Tiling, int], Attempt],
    tiling: Callable[[int], Tiling],
    name: str,
    target: float,
    effort: int,
) -> Reached:
    """The best file of at most a size, or the smallest of at least a score.

    ``attempt`` makes a file with an effort; ``tiling`` says which tiles there are for a quality.
    """
    at = cache(lambda quality, effort: attempt(tiling(quality), effort))

    def above(measure: Callable[[Attempt], float], goal: float, slope: float) -> int:
        """The first quality above the goal, found without effort first, so that this is spent on few files."""
        first = crossing(lambda quality: measure(at(quality, 0)), goal, slope)
        if not effort:
            return first
        return crossing(lambda quality: measure(at(quality, effort)), goal, slope, min(first, BEST))

    if name in SCALES:
        scale = SCALES[name]
        found = above(lambda attempt: attempt.score, math.nextafter(target, -math.inf), scale.slope)
        data, score = at(min(found, BEST), effort)
        missed = f"the best file has {scale.words.format(score)}" if found > BEST else ""
        return Reached(data, {name: score}, missed)

    # bits per pixel that were computed from a file's size mean that size, however the quotient was rounded
    pixels = tiling(0).height * tiling(0).width
    limit = math.floor(target if name == "size" else target * pixels / 8 + 1e-6)
    goal = math.log2(limit) if limit > 0 else -1.0
    exceeds = above(lambda attempt: math.log2(len(attempt.data)), goal, OCTAVES)
    if exceeds == 0:
        smallest = at(0, effort).data
        return Reached(smallest, {}, f"the smallest file has {len(smallest)} bytes")
    if exceeds > BEST:
        return Reached(at(BEST, effort).data, {}, "")
    fits, larger = at(exceeds - 1, effort).data, at(exceeds, effort).data
    return Reached(_fill(lambda tiling: attempt(tiling, effort).data, tiling(exceeds - 1), fits, larger, limit), {}, "")


def _fill(encode: Callable[[Tiling], bytes], tiling: Tiling, fits: bytes, exceeds: bytes, limit: int) -> bytes:
    """Give tiles of the smaller file the quality of the larger one, in raster order, while the file fits."""
    small, large = (container.read(data, container.MAX_SIDE**2).tiles for data in (fits, exceeds))
    room, qualities, raised = limit - len(fits), list(tiling.qualities), []
    for place, (low, high) in enumerate(zip(small, large, strict=True)):
        more = len(high.words) - len(low.words)
        if low.quality < high.quality and more <= room:
            room, qualities[place] = room - more, high.quality
            raised.append(place)
    drop = 1
    while raised:  # what a tile needs depends a little on its neighbours' quality
        data = encode(tiling.of_qualities(qualities))
        if len(data) <= limit:
            return data
        for place in raised[-drop:]:
            qualities[place] = tiling.qualities[place]
        del raised[-drop:]
        drop *= 2
    return fits
