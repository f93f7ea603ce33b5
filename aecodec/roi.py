"""Regions of interest: which tiles get more than others."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from .geometry import LATENT, Box, Tiling
from .image import check_format, without_pillows_limit

Offsets = npt.NDArray[np.integer[Any]]  # [H, W]: what is added to the quality at each pixel

SIDE = 128  # pixels of a tile where there are regions of interest: the files grow by about 1 %


def tiling(offsets: Offsets, height: int, width: int, quality: int) -> Tiling:
    """Tiles of `SIDE` pixels, each at ``quality`` and the largest offset in it, in 0..100."""
    offsets = np.asarray(offsets)
    if offsets.shape != (height, width) or not np.issubdtype(offsets.dtype, np.integer):
        raise ValueError(f"roi of shape {offsets.shape} and type {offsets.dtype}: expected integers {(height, width)}")
    found = Tiling.uniform((height, width), quality, SIDE)
    pixels = [box.scaled(LATENT) for box in found.boxes]
    largest = (int(offsets[box.rows, box.columns].max()) for box in pixels)
    return found.of_qualities([min(max(quality + offset, 0), 100) for offset in largest])


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
