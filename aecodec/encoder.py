"""Encoding: picture -> latents -> symbols -> tiles, for one model: analysis, entropy model and coder joined."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import numpy.typing as npt

from . import alpha_plane, container, image
from .container import THUMBNAIL, Container, Header, Tile
from .geometry import LATENT, WINDOW, Box, Tiling, windows
from .image import Picture, Pixels
from .model.coder import Indices, Symbols
from .model.entropy import HYPER, SYMBOL_LIMIT
from .model.fixed_point import ACTIVATION_BITS, TABLE_BITS
from .model.structure import Array, repeat_edge
from .model.weights import Model

# latents of tiles that pass the entropy model together: on a CPU what stays in its cache, else what keeps it busy
BATCH, BATCH_ON_GPU = 1024, 8192

SIDE_BY_SIDE = 16  # batches that threads share
THUMBNAIL_QUALITY = 60  # about 33 dB, for 4 to 6 kB per megapixel of the picture

Part = tuple[Symbols, Indices]  # what is coded at once: a tile's hyper-latents, a context step of it, its fine latents


class Quantised(NamedTuple):
    """A tile, ready to be coded."""

    picture: int  # of those that went through the networks together
    place: int  # in raster order
    parts: list[Part]  # in the order of the file
    latents: Array  # ŷ [h, w, channels] in units of 2^-8


def symbols(m: Model, pictures: Sequence[Pixels], tiling: Tiling) -> Iterator[Quantised]:
    """All that the networks do in encoding pictures of one shape, ``[H, W, 1 or 3]``."""
    return quantise(m, analyse(m, pictures, tiling), tiling)


def analyse(
    m: Model,
    pictures: Sequence[Pixels],
    tiling: Tiling,
    window: int = WINDOW,
    started: dict[Box, Any] | None = None,
) -> Array:
    """Main and fine latents y ``[B, h, w, N + M]`` of B pictures ``[H, W, 1 or 3]``.

    Computed by windows of ``window`` latents a side. ``started`` keeps what does not depend on the qualities, by
    window, for whoever analyses the same pictures again.
    """
    whole, d = tiling.whole, m.design
    with m.ops.inference():
        y = m.ops.empty(len(pictures), whole.height, whole.width, d.latents + d.fine)
        for core, outer in windows(whole, d.analysis_halo, whole.height, whole.width, window):
            x = started.get(core) if started else None
            if x is None:
                x = m.analysis_start(part_of(m, pictures, outer.scaled(LATENT)))
            if started is not None:
                started[core] = x
            latents = m.analysis_end(x, factors_of(m.analysis_rate, tiling.plane[outer.rows, outer.columns]))
            inner = core.within(outer)
            y[:, core.rows, core.columns] = latents[:, inner.rows, inner.columns]
    return y


def part_of(m: Model, pictures: Sequence[Pixels], part: Box) -> Array:
    """Floats ``[B, H, W, 3]`` in 0..1 of a part that may reach beyond the pictures, whose edges are repeated there."""
    x = m.ops.xp.stack([m.ops.array(pixels[part.rows, part.columns]) for pixels in pictures])
    x = repeat_edge(x, part.height, part.width) / 255
    return x[..., [0, 0, 0]] if x.shape[3] == 1 else x


def quantise(m: Model, y: Array, tiling: Tiling) -> Iterator[Quantised]:
    """Every tile of y ``[B, h, w, N + M]``, batch by batch: those of a large picture need not be held together."""
    boxes, found = tiling.boxes, list[Quantised]()

    def add(batch: list[tuple[int, int]]) -> None:
        with m.ops.inference():
            tiles = m.ops.xp.stack([y[n, boxes[i].rows, boxes[i].columns] for n, i in batch])
            quality = tiling.qualities[batch[0][1]]
            parts, latents = quantise_batch(m, tiles, hyper_latents(m, tiles, quality), quality)
        for row, (n, i) in enumerate(batch):
            found.append(Quantised(n, i, [(part[row], indices[row]) for part, indices in parts], latents[row]))

    waiting = batches(m, len(y), tiling)
    while some := list(islice(waiting, SIDE_BY_SIDE)):
        with m.ops.inference():
            m.each(add, some)
        yield from found
        found.clear()


def hyper_latents(m: Model, y: Array, quality: int) -> Array:
    """Z ``[B, ceil(h/4), ceil(w/4), Nz]`` of tiles ``[B, h, w, N + M]``, not rounded, in units of their symbols."""
    return m.hyper_analysis(y[..., : m.design.latents]) * m.hyper_gain[quality]


def quantise_batch(m: Model, y: Array, z: Array, quality: int) -> tuple[list[tuple[Any, Any]], Array]:
    """Symbols and indices ``[B, n]`` of all parts, z first, for tiles ``[B, h, w, N + M]`` of one shape, and ŷ.

    ŷ is in units of 2^-8.
    """
    batch, height, width, _ = y.shape
    tiles, number = m.entropy.tiles(batch, height, width, quality), m.entropy.ops.number
    # what is quantised, in the units of the means
    hyper = number(z).reshape(batch, -1) * 2**ACTIVATION_BITS
    target = number(y) * gain(m, quality) * 0.5 ** (TABLE_BITS - ACTIVATION_BITS)
    found = []
    for part in range(tiles.parts):
        mean, index = tiles.predict()
        wanted = hyper if part == HYPER else tiles.arrange(target)
        chosen = ((wanted - mean) * 0.5**ACTIVATION_BITS).round()
        chosen = chosen.clip(-SYMBOL_LIMIT, SYMBOL_LIMIT) * (index > 0)
        tiles.update(chosen)
        found.append((m.entropy.ops.integers(chosen, np.int16), m.entropy.ops.integers(index, np.uint8)))
    return found, tiles.latents


def gain(m: Model, quality: int) -> Array:
    """What multiplies main and fine latents before they are quantised, ``[N + M]``, in units of 2^-16."""
    names = ("gain", "fine_gain") if m.design.fine else ("gain",)
    return m.entropy.ops.xp.concatenate([m.entropy.tables[name][quality] for name in names])


def with_thumbnail(m: Model, picture: Picture) -> Picture:
    """The picture with a copy at 1/8 of its size in its metadata."""
    small = np.dstack([image.reduced(plane, THUMBNAIL) for plane in np.moveaxis(image.plane(picture.pixels), 2, 0)])
    tiling = Tiling.uniform(small.shape, THUMBNAIL_QUALITY)
    found = sorted(symbols(m, [small], tiling), key=lambda tile: tile.place)
    tiles = [code(m, tile.parts, THUMBNAIL_QUALITY) for tile in found]
    return replace(picture, metadata={**picture.metadata, "thumbnail": container.pack_thumbnail(tiles)})


def packed_alpha(picture: Picture) -> bytes | None:
    return None if picture.alpha is None else alpha_plane.encode(picture.alpha)


def pack(m: Model, picture: Picture, alpha: bytes | None, tiling: Tiling, tiles: Iterable[Quantised]) -> bytes:
    """The file of a picture. ``alpha``: its `packed_alpha`."""
    header = Header(
        m.id, tiling.width, tiling.height, picture.mode, min(tiling.qualities), tiling.side, picture.equal_colours
    )
    coded = {tile.place: code(m, tile.parts, tiling.qualities[tile.place]) for tile in tiles}
    in_order = [coded[place] for place in range(len(coded))]
    return container.write(Container(header, in_order, dict(picture.metadata), alpha))


def code(m: Model, parts: Sequence[Part], quality: int) -> Tile:
    """Entropy-code one tile."""
    return Tile(quality, crc32(b"".join(covered(part) for part, _ in parts)), m.coder.encode(parts))


def covered(part: Symbols) -> bytes:
    """What the CRC-32 of the symbols covers."""
    return part.astype("<i2").tobytes()


def factors_of(table: Array, quality: npt.NDArray[np.int64]) -> Array:
    """What multiplies a transform's features: ``[C]``, or ``[2h, 2w, C]`` where the quality ``[h, w]`` varies."""
    if quality.min() == quality.max():
        return table[int(quality[0, 0])]
    return table[quality.repeat(2, 0).repeat(2, 1)]


def batches(
    m: Model, pictures: int, tiling: Tiling, places: Iterable[int] | None = None
) -> Iterator[list[tuple[int, int]]]:
    """Tiles of one shape and quality that go together, as pairs (picture, place); all places unless some are given."""
    kinds: dict[tuple[int, int, int], list[tuple[int, int]]] = {}
    for i in range(len(tiling.boxes)) if places is None else places:
        box = tiling.boxes[i]
        kinds.setdefault((box.height, box.width, tiling.qualities[i]), []).extend((n, i) for n in range(pictures))
    for (height, width, _), tiles in kinds.items():
        size = max(1, together(m) // (height * width))
        for start in range(0, len(tiles), size):
            yield tiles[start : start + size]


def together(m: Model) -> int:
    """How many latents pass the networks at once."""
    return BATCH if m.device == "cpu" else BATCH_ON_GPU
