"""Rate control: which quality meets a size or a score, and which tiles get more than others."""

import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from .image import Plane, check_format, without_pillows_limit
from .metrics import ssimulacra2 as metric
from .tiles import Box, grid

Offsets = npt.NDArray[np.integer[Any]]  # [H, W]: what is added to the quality at each pixel

BEST = 100  # the largest quality
OCTAVES = 0.054  # by which a file grows per step of quality, on average
ROI_TILE = 128  # pixels per side where there are regions of interest: the files grow by about 1 %
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


def by_tile(offsets: Offsets, shape: tuple[int, ...], quality: int) -> list[int]:
    """The quality of each tile of `ROI_TILE` pixels: ``quality`` and the largest offset in the tile, in 0..100."""
    offsets = np.asarray(offsets)
    if offsets.shape != shape[:2] or not np.issubdtype(offsets.dtype, np.integer):
        raise ValueError(f"roi of shape {offsets.shape} and type {offsets.dtype}: expected integers {shape[:2]}")
    tiles = (int(offsets[box.rows, box.columns].max()) for box in grid(shape[0], shape[1], ROI_TILE))
    return [min(max(quality + offset, 0), BEST) for offset in tiles]


@dataclass(frozen=True)
class Region:
    """Where the quality differs: in a box of pixels, or where a mask image is neither black nor transparent."""

    place: Box | Path
    offset: int

    @classmethod
    def parse(cls, text: str) -> "Region":
        """``x,y,width,height:+20`` or ``mask.png:+20``. Raises ValueError.

        >>> Region.parse("10,20,300,200:-15")
        Region(place=Box(top=20, left=10, height=200, width=300), offset=-15)
        """
        place, _, offset = text.rpartition(":")
        numbers = re.fullmatch(r"([0-9]{1,5}),([0-9]{1,5}),([0-9]{1,5}),([0-9]{1,5})", place)
        left, top, width, height = map(int, numbers.groups()) if numbers else (0, 0, 1, 1)
        named = re.search(r"[^-+0-9., ]", place)
        if not re.fullmatch(r"[+-]?[0-9]{1,3}", offset) or not width or not height or not (numbers or named):
            raise ValueError(f"region {text}: expected x,y,width,height:+20 or mask.png:+20")
        return cls(Box(top, left, height, width) if numbers else Path(place), int(offset))


def offsets(regions: Sequence[Region], height: int, width: int) -> Offsets:
    """Of a picture; where regions overlap, the last one counts. Masks of another size are stretched.

    Raises OSError or ValueError for a mask that cannot be read or a box that lies outside the picture.
    """
    plane = np.zeros((height, width), np.int16)
    for region in regions:
        if isinstance(region.place, Path):
            mask = _read_mask(region.place).resize((width, height), Image.Resampling.BOX)  # keeps marks that shrink
            plane[np.asarray(mask) > 0] = region.offset
            continue
        part = plane[region.place.rows, region.place.columns]
        if not part.size:
            at = f"{region.place.left},{region.place.top}"
            raise ValueError(f"a region at {at} lies outside a picture of {width}x{height} pixels")
        part[:] = region.offset
    return plane


@without_pillows_limit()
def _read_mask(path: Path) -> Image.Image:
    """More than 0 where the mask is neither black nor transparent."""
    try:
        with warnings.catch_warnings(), Image.open(path) as mask:
            warnings.simplefilter("ignore")
            check_format(mask)
            pixels = np.asarray(mask.convert("RGBA") if mask.mode in ("P", "PA", "LA", "CMYK") else mask)
    except FileNotFoundError:
        raise
    except Exception as error:  # Pillow's readers raise almost anything
        raise OSError(f"mask {path}: {error}") from error
    marked = pixels != 0
    if pixels.ndim == 3:
        marked = marked[..., :3].any(2) & (marked[..., 3] if pixels.shape[2] == 4 else True)
    return Image.fromarray(marked.astype(np.float32))
