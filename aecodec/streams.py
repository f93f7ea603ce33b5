"""Streams of pictures: neighbours that pass the networks together."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from . import arguments, encoder, views
from .container import DEFAULT_QUALITY, THUMBNAIL, Container
from .encoder import Quantised
from .errors import Corrupt
from .geometry import Tiling
from .image import Picture, Plane
from .model.structure import Array
from .model.weights import Model
from .views import ModelOf

T = TypeVar("T")

MOST_TOGETHER = 16  # pictures that pass the networks at once, whatever their size
IN_FLIGHT = 3  # pictures between analysis and output


def compress(m: Model, pictures: Iterable[Picture], quality: int) -> Iterator[bytes]:
    """Files of pictures in order; one is entropy-coded while the next passes the networks."""
    pending: deque[Future[bytes]] = deque()
    process = os.getpid()

    def pack(picture: Picture, tiling: Tiling, tiles: list[Quantised]) -> bytes:
        return encoder.pack(m, picture, encoder.packed_alpha(picture), tiling, tiles)

    def due() -> bytes:
        if os.getpid() != process:  # without the thread that codes
            raise RuntimeError("compress_many cannot go on in a forked child: begin it there")
        return pending.popleft().result()

    groups = grouped(map(_own, pictures), lambda p: p.pixels.shape, lambda p: _together(m, *p.pixels.shape[:2]))
    with ThreadPoolExecutor(1) as pool:
        while True:
            try:
                group = next(groups)
                tiling = Tiling.uniform(group[0].pixels.shape, quality)
                tiles: list[list[Quantised]] = [[] for _ in group]
                for tile in encoder.symbols(m, [picture.pixels for picture in group], tiling):
                    tiles[tile.picture].append(tile)
            except StopIteration:
                break
            except Exception:
                while pending:  # what came before the failure is still due
                    yield due()
                raise
            for picture, own in zip(group, tiles, strict=True):
                pending.append(pool.submit(pack, picture, tiling, own))
            while len(pending) >= IN_FLIGHT:
                yield due()
        while pending:
            yield due()


def decompress(model_of: ModelOf, files: Iterable[Container], shrink: int) -> Iterator[Picture]:
    """Pictures of files in order; neighbours of one size and quality pass the networks together."""

    def opened(file: Container) -> tuple[Container, Plane | None]:
        return file, views.alpha(file, arguments.view(file.header, None, shrink))[0]  # before any network

    def key(item: tuple[Container, Plane | None]) -> Any:
        h, tiles, small = item[0].header, item[0].tiles, shrink == THUMBNAIL and "thumbnail" in item[0].metadata
        qualities = [tile.quality for tile in tiles]
        return h.model, h.width, h.height, h.tile_size, h.mode.removesuffix("A"), h.equal_colours, qualities, small

    def size(item: tuple[Container, Plane | None]) -> int:
        h = item[0].header
        return _together(model_of(h), h.height, h.width)

    for group in grouped(map(opened, files), key, size):
        header = group[0][0].header
        m, view = model_of(header), arguments.view(header, None, shrink)
        planes: Iterable[Array]
        try:
            planes, _ = views.decode(m, [file for file, _ in group], view)
        except Corrupt:  # in one of them; those before it are still due
            planes = (views.decode(m, [file], view)[0][0] for file, _ in group)
        for (file, alpha), pixels in zip(group, planes, strict=True):
            yield Picture(pixels, alpha, file.metadata, equal_colours=header.equal_colours)


def grouped(items: Iterable[T], key: Callable[[T], Any], size: Callable[[T], int]) -> Iterator[list[T]]:
    """Neighbours with the same key, at most ``size`` of them; what came before a failure comes before it."""
    group: list[T] = []
    try:
        for item in items:
            if group and key(item) != key(group[0]):
                yield group
                group = []
            group.append(item)
            if len(group) >= size(item):
                yield group
                group = []
    except Exception:
        if group:
            yield group
        raise
    if group:
        yield group


def _own(picture: Picture) -> Picture:
    """A picture with memory of its own: whoever gives arrays may use theirs for the next ones."""
    pixels: Any = picture.pixels
    pixels = pixels.copy() if isinstance(pixels, np.ndarray) else pixels.clone()
    return replace(picture, pixels=pixels, alpha=None if picture.alpha is None else picture.alpha.copy())


def _together(m: Model, height: int, width: int) -> int:
    """How many pictures of this size pass the networks at once."""
    whole = Tiling.uniform((height, width), DEFAULT_QUALITY).whole
    return min(max(1, encoder.together(m) // (whole.height * whole.width)), MOST_TOGETHER)
