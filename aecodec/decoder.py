"""Decoding: tiles -> symbols -> latents -> picture, for one model."""

from collections.abc import Iterable, Sequence
from zlib import crc32

import numpy as np
import numpy.typing as npt

from .container import Header, Tile
from .encoder import Quantised, batches, covered, factors_of
from .errors import Corrupt, SymbolMismatch
from .geometry import LATENT, WINDOW, Box, Tiling, View, windows
from .model.entropy import SYMBOL_LIMIT
from .model.fixed_point import ACTIVATION_BITS
from .model.structure import Array, shuffle
from .model.weights import Model


def tiling_of(header: Header, tiles: Sequence[Tile | None]) -> Tiling:
    """That of a file; the header's quality stands for those of tiles that are lost."""
    qualities = (tile.quality if tile else header.quality for tile in tiles)
    return Tiling(header.height, header.width, header.tile_size, tuple(qualities))


def decode_latents(m: Model, files: Sequence[Sequence[Tile]], tiling: Tiling, area: Box | None = None) -> Array:
    """Latents ŷ of the tiles of B files: float32 that holds exact integers in units of 2^-8.

    ``[B, h, w, N]``, or ``[B, h, w, N + M]`` where any tile has fine latents, with zeros for those that have none.
    With ``area``, in latents, only the tiles are decoded that it meets, and what is in it comes out.
    """
    area, boxes = area or tiling.whole, tiling.boxes
    meeting = {i: common for i, box in enumerate(boxes) if (common := box.common(area))}
    plane = m.ops.empty(len(files), area.height, area.width, channels(m, {tiling.qualities[i] for i in meeting}))
    plane[:] = 0

    def fill(batch: list[tuple[int, int]]) -> None:
        latents = decode_batch(m, [files[n][i] for n, i in batch], boxes[batch[0][1]])
        with m.ops.inference():  # a mode is a thread's own
            for row, (n, i) in enumerate(batch):
                inner, place = meeting[i].within(boxes[i]), meeting[i].within(area)
                plane[n, place.rows, place.columns, : latents.shape[-1]] = latents[row, inner.rows, inner.columns]

    with m.ops.inference():
        m.each(fill, batches(m, len(files), tiling, meeting))
    return plane


def assemble(m: Model, tiling: Tiling, tiles: Iterable[Quantised]) -> tuple[Array, list[Quantised]]:
    """Latents ŷ of all tiles of one picture, as `decode_latents` gives them, and the tiles without theirs."""
    whole, rest = tiling.whole, []
    plane = m.ops.empty(1, whole.height, whole.width, channels(m, tiling.qualities))
    plane[:] = 0
    for tile in tiles:
        box = tiling.boxes[tile.place]
        plane[0, box.rows, box.columns, : tile.latents.shape[-1]] = m.ops.array(tile.latents)
        rest.append(tile._replace(latents=None))
    return plane, rest


def channels(m: Model, qualities: Iterable[int]) -> int:
    """Those of ŷ: the main latents, and the fine ones where any of the qualities has them."""
    return m.design.latents + (m.design.fine if any(map(m.entropy.has_fine, qualities)) else 0)


def decode_batch(m: Model, files: Sequence[Tile], box: Box) -> Array:
    """ŷ ``[B, h, w, channels]`` of tiles that share the shape of ``box`` and their quality, in units of 2^-8."""
    decoders, checks = [m.coder.decoder(file.words) for file in files], [0] * len(files)
    with m.ops.inference():
        tiles = m.entropy.tiles(len(files), box.height, box.width, files[0].quality)
        for _ in range(tiles.parts):
            _, index = tiles.predict()
            rows = m.entropy.ops.integers(index, np.uint8)
            symbols = np.stack([decoder.decode(row) for decoder, row in zip(decoders, rows, strict=True)])
            if np.abs(symbols).max() > SYMBOL_LIMIT:
                raise Corrupt(f"a symbol beyond ±{SYMBOL_LIMIT}")
            checks = [crc32(covered(row), check) for row, check in zip(symbols, checks, strict=True)]
            tiles.update(m.entropy.ops.number(symbols))
    for file, decoder, check in zip(files, decoders, checks, strict=True):
        decoder.finish()
        if file.symbol_crc != check:
            raise SymbolMismatch("the decoded symbols are not those that were encoded")
    return m.ops.array(tiles.latents)


def synthesise(
    m: Model, latents: Array, area: Box, tiling: Tiling, view: View, gray: bool, window: int = WINDOW
) -> Array:
    """Bytes ``[B, H, W, 1 or 3]`` of a view. Pixels of which its box holds a part only are averaged whole.

    ``latents``: ŷ ``[B, h, w, channels]`` in units of 2^-8 of the ``area``, in latents: the view and the synthesis'
    halo around it. The result does not depend on ``window``.
    """
    whole, side, wanted = tiling.whole, LATENT // view.shrink, view.result
    pixels = m.ops.empty(len(latents), wanted.height, wanted.width, 1 if gray else 3, kind="uint8")
    with m.ops.inference():
        for core, outer in windows(view.box.covering(LATENT), halo(m, view), whole.height, whole.width, window):
            inside = outer.within(area)
            y = latents[:, inside.rows, inside.columns] * 0.5**ACTIVATION_BITS
            x = _transform(m, y, tiling.plane[outer.rows, outer.columns], view.shrink)
            place = core.scaled(side).common(wanted)  # the view may begin and end within a latent
            assert place
            source, target = place.within(outer.scaled(side)), place.within(wanted)
            x = x[:, source.rows, source.columns]
            if gray:
                x = x.mean(3)[..., None]
            pixels[:, target.rows, target.columns] = m.ops.to_bytes(x)
    return pixels


def halo(m: Model, view: View) -> int:
    """Latents on each side that pixels depend on."""
    return 0 if _reads_out(m, view.shrink) else m.design.synthesis_halo


def _reads_out(m: Model, shrink: int) -> bool:
    return shrink == 8 and m.readout is not None


def _transform(m: Model, y: Array, quality: npt.NDArray[np.int64], shrink: int) -> Array:
    """Pixels ``[B, 16h/shrink, 16w/shrink, 3]`` of ŷ ``[B, h, w, channels]`` and the quality ``[h, w]`` there."""
    if not _reads_out(m, shrink):
        return m.synthesis(y, factors_of(m.synthesis_rate, quality), shrink)
    assert m.readout is not None
    x = m.ops.empty(*y.shape[:3], 2 * 2 * 3)
    for q in np.unique(quality).tolist():
        there = np.nonzero(quality == q)
        x[:, there[0], there[1]] = y[:, there[0], there[1], : m.design.latents] @ m.readout[q, :-1] + m.readout[q, -1]
    return shuffle(x, 2)
