"""The geometry: boxes, tiles that are coded alone, views of a picture, windows that bound the transforms' memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

LATENT = 16  # pixels per latent on each side
TILE = 512  # pixels per side, in files that we write
WINDOW = 96  # latents per side of a window's core: a picture of up to 1536x1536 pixels is transformed in one piece


@dataclass(frozen=True)
class Box:
    top: int
    left: int
    height: int
    width: int

    @property
    def rows(self) -> slice:
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        return slice(self.left, self.left + self.width)

    def scaled(self, factor: int) -> "Box":
        return Box(self.top * factor, self.left * factor, self.height * factor, self.width * factor)

    def grown(self, halo: int, height: int, width: int) -> "Box":
        """With ``halo`` more on every side, as far as a plane of ``height`` x ``width`` goes."""
        top, left = max(self.top - halo, 0), max(self.left - halo, 0)
        bottom = min(self.top + self.height + halo, height)
        right = min(self.left + self.width + halo, width)
        return Box(top, left, bottom - top, right - left)

    def common(self, other: "Box") -> "Box | None":
        """Where both are, if they meet."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        bottom = min(self.top + self.height, other.top + other.height)
        right = min(self.left + self.width, other.left + other.width)
        return Box(top, left, bottom - top, right - left) if bottom > top and right > left else None

    def covering(self, size: int) -> "Box":
        """The same box in units of ``size``, with every unit that it touches."""
        top, left = self.top // size, self.left // size
        return Box(top, left, -(-(self.top + self.height) // size) - top, -(-(self.left + self.width) // size) - left)

    def within(self, outer: "Box") -> "Box":
        """The same box in the coordinates of a box that contains it."""
        return Box(self.top - outer.top, self.left - outer.left, self.height, self.width)


def latent_size(pixels: int) -> int:
    """Latents that cover so many pixels."""
    return -(-pixels // LATENT)


def grid(height: int, width: int, size: int) -> list[Box]:
    """Squares of ``size`` in raster order, smaller at the right and at the bottom."""
    return [
        Box(top, left, min(size, height - top), min(size, width - left))
        for top in range(0, height, size)
        for left in range(0, width, size)
    ]


@dataclass(frozen=True)
class Tiling:
    """A picture's tiles: squares of ``side`` pixels in raster order, smaller at the right and at the bottom, each at a
    quality of its own.
    """

    height: int  # of the picture, in pixels
    width: int
    side: int
    qualities: tuple[int, ...]

    @classmethod
    def uniform(cls, shape: Sequence[int], quality: int, side: int = TILE) -> "Tiling":
        """One quality for all tiles of a picture of the ``shape`` ``[H, W, ...]``."""
        height, width = shape[:2]
        return cls(height, width, side, (quality,) * (-(-height // side) * -(-width // side)))

    def of_qualities(self, qualities: Sequence[int]) -> "Tiling":
        """The same tiles at other qualities."""
        return Tiling(self.height, self.width, self.side, tuple(qualities))

    @property
    def whole(self) -> Box:
        """The picture in latents."""
        return Box(0, 0, latent_size(self.height), latent_size(self.width))

    @cached_property
    def boxes(self) -> list[Box]:
        """The tiles in latents."""
        return grid(self.whole.height, self.whole.width, self.side // LATENT)

    @cached_property
    def plane(self) -> npt.NDArray[np.int64]:
        """The quality of every latent, ``[h, w]``."""
        plane = np.empty((self.whole.height, self.whole.width), np.int64)
        for box, quality in zip(self.boxes, self.qualities, strict=True):
            plane[box.rows, box.columns] = quality
        return plane


@dataclass(frozen=True)
class View:
    """What is wanted of a picture: a box of its pixels, each pixel of the result the mean of ``shrink`` squared."""

    box: Box
    shrink: int = 1

    @classmethod
    def whole(cls, height: int, width: int, shrink: int = 1) -> "View":
        return cls(Box(0, 0, height, width), shrink)

    @property
    def result(self) -> Box:
        """In pixels of the result: every one that the box touches."""
        return self.box.covering(self.shrink)


def windows(part: Box, halo: int, height: int, width: int, size: int = WINDOW) -> Iterator[tuple[Box, Box]]:
    """Pairs (core, outer): the cores tile a part of a plane of ``height`` x ``width``, each outer box is its core and
    ``halo`` more within the plane.

    A network whose receptive field the halo covers computes the same core from the outer box as from the whole plane:
    where the outer box ends early, so does the plane, and what the networks put around it is the same.
    """
    for box in grid(part.height, part.width, size):
        core = Box(part.top + box.top, part.left + box.left, box.height, box.width)
        yield core, core.grown(halo, height, width)
