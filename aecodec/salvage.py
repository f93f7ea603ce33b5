"""Damaged files: to salvage one is to decode what there is, to conceal what is missing is to fill it from around it.

Of a tile that the end of the file cuts off, the parts before the cut decode exactly, and what follows takes the prior's
means. Of a tile whose bytes were changed nothing is trusted: an entropy decoder turns wrong bits into symbols that look
as likely as any.
"""

from dataclasses import dataclass, field
from zlib import crc32

import numpy as np
import numpy.typing as npt

from . import container
from .container import Data, Header, Tile
from .decoder import channels, decode_batch
from .encoder import covered
from .errors import BadChecksum, Corrupt, Truncated
from .geometry import Box, Tiling
from .model.entropy import SYMBOL_LIMIT
from .model.numpy_ops import Floats
from .model.structure import Array
from .model.weights import Model

NAMED = 8  # damaged tiles that are named one by one
EFFORT = 16  # times the length of the file that checksums are computed over, in search of tiles


@dataclass
class Remains:
    """A file as far as it is there. ``tiles``: in raster order, None for what is lost."""

    header: Header
    tiles: list[Tile | None] = field(default_factory=list)
    metadata: dict[str, bytes] = field(default_factory=dict)
    alpha: bytes | None = None
    cut: Tile | None = None  # the one of the tiles that the end of the file cuts off


def parse(data: Data, max_pixels: int) -> Remains:
    """Raises as `container.read_header`: without a header that is whole there is nothing to salvage."""
    found = Remains(container.read_header(data, max_pixels))
    whole = bytes(data)
    view, position, budget = memoryview(whole), container.FIRST_CHUNK, EFFORT * len(whole)
    run = 0  # where the tiles begin that follow each other up to here
    ends_well = True
    while position < len(whole):
        start = position
        try:
            kind, payload, position = container.next_chunk(view, start)
            _keep(found, kind, payload)
        except Corrupt as error:
            # one chunk is taken as lost, up to the next whole one
            position, budget = _next_whole(whole, start, budget)
            ends_well = position < len(whole)
            cut = isinstance(error, Truncated) and not ends_well
            kind, payload = whole[start : start + 4], view[start + 8 : position - (0 if cut else 4)]
            if kind in container.METADATA.values():
                continue
            _keep(found, b"aLPH" if kind == b"aLPH" else b"TILE", payload)
            if kind != b"aLPH":
                run = len(found.tiles)
                found.cut = found.tiles[-1] if cut else None
    lost = found.header.tile_count - len(found.tiles)
    if run and ends_well:  # the last tiles of the file are the last of the picture, wherever others are lost
        found.tiles[run:run] = [None] * lost
        del found.tiles[max(0, run + lost) : run]
    found.tiles += [None] * lost
    del found.tiles[found.header.tile_count :]
    return found


def _keep(found: Remains, kind: bytes, payload: memoryview) -> None:
    """Raises `UnsupportedFeature` for what this release cannot decode."""
    if kind == b"TILE":
        try:
            found.tiles.append(container.parse_tile(payload[: len(payload) - (len(payload) - 1) % 4]))
        except Corrupt:
            found.tiles.append(None)
        return
    if kind == b"HEAD":  # a second one
        return
    container.check_critical(kind)
    if kind == b"aLPH":
        found.alpha = bytes(payload)
    for key, known in container.METADATA.items():
        if kind == known and len(payload) <= container.MAX_METADATA:
            found.metadata[key] = bytes(payload)


def _next_whole(whole: bytes, start: int, budget: int) -> tuple[int, int]:
    """Where the chunk after the damaged one begins, or the next whole tile, or the end; what is left of the budget."""
    view = memoryview(whole)
    length = int.from_bytes(whole[start + 4 : start + 8], "little")  # of the damaged one, if that is right
    position, searched = start + 12 + length, start
    budget -= length if position <= len(whole) else 1  # for its own checksum
    if budget > 0 and whole[position : position + 4] == b"TILE":  # it is right, however damaged the next one is
        return position, budget
    while budget > 0 and position >= 0:
        try:
            if position < len(whole):
                container.next_chunk(view, position)
                return position, budget
        except BadChecksum:
            budget -= int.from_bytes(whole[position + 4 : position + 8], "little")
        except Corrupt:
            budget -= 1
        searched = position = whole.find(b"TILE", searched + 1)
    return len(whole), budget


def latents(m: Model, found: Remains, tiling: Tiling) -> tuple[Array, str]:
    """ŷ ``[1, h, w, channels]`` in units of 2^-8, without holes, and in words what is damaged."""
    shape = tiling.plane.shape
    plane = np.zeros((*shape, channels(m, {tile.quality for tile in found.tiles if tile})), np.float32)
    known, damaged = np.zeros(shape, np.bool_), []
    for place, (box, tile) in enumerate(zip(tiling.boxes, found.tiles, strict=True)):
        parts, whole = 0, 0
        if tile:
            whole = m.entropy.parts(tile.quality)
            try:
                decoded, parts = decode_batch(m, [tile], box), whole
            except Corrupt:
                if tile is found.cut:
                    decoded, parts = _decode_start(m, tile, box)
        if parts:
            plane[box.rows, box.columns, : decoded.shape[-1]] = m.ops.numpy(decoded[0])
            known[box.rows, box.columns] = parts > 1  # the hyper-latents alone say less than the neighbours
        if parts < whole or not tile:
            damaged.append(f"{place} ({parts} of {whole} parts are left)" if parts else str(place))
    if not damaged:
        return m.ops.array(plane[None]), ""
    names = ", ".join(damaged[:NAMED]) + (", ..." if len(damaged) > NAMED else "")
    told = f"{len(damaged)} of {found.header.tile_count} tiles are damaged: {names}"
    return m.ops.array(conceal(plane, known)[None]), told


def _decode_start(m: Model, tile: Tile, box: Box) -> tuple[Array, int]:
    """ŷ ``[1, h, w, channels]`` of a tile whose end is missing, and how many of its parts were there."""
    there, sound, check = 0, True, 0
    try:
        decoder = m.coder.decoder(tile.words)
    except Corrupt:
        sound = False
    with m.ops.inference():
        tiles = m.entropy.tiles(1, box.height, box.width, tile.quality)
        for _ in range(tiles.parts):
            _, index = tiles.predict()
            symbols = np.zeros(index.shape, np.int32)  # the means, for what is missing
            if sound:
                decoded = decoder.decode(m.entropy.ops.integers(index[0], np.uint8))
                sound = not decoder.starved and int(np.abs(decoded).max()) <= SYMBOL_LIMIT
            if sound:
                symbols, there, check = decoded[None], there + 1, crc32(covered(decoded), check)
            tiles.update(m.entropy.ops.number(symbols))
    # what has all its symbols was not cut: if they are not the right ones, it was changed
    changed = there == tiles.parts and check != tile.symbol_crc
    return m.ops.array(tiles.latents), 0 if changed else there


def conceal(plane: Floats, known: npt.NDArray[np.bool_]) -> Floats:
    """``[h, w, C]`` with what is not known, ``[h, w]``, from a pyramid of averages (Gortler et al. 1996, push-pull)."""
    if known.all() or not known.any():
        return plane
    height, width = known.shape
    down, right = height % 2, width % 2
    sums, counts = (
        np.pad(x, ((0, down), (0, right), (0, 0))).reshape(-(-height // 2), 2, -(-width // 2), 2, -1).sum((1, 3))
        for x in (plane * known[..., None], known[..., None].astype(np.float32))
    )  # [h/2, w/2, C], [h/2, w/2, 1]
    coarse = conceal(sums / np.maximum(counts, 1), counts[..., 0] > 0)
    smooth = _doubled(_doubled(coarse).swapaxes(0, 1)).swapaxes(0, 1)
    return np.where(known[..., None], plane, smooth[:height, :width])


def _doubled(x: Floats) -> Floats:
    """Twice as many rows, linearly interpolated between the middles of the old ones."""
    above, below = np.concatenate((x[:1], x[:-1])), np.concatenate((x[1:], x[-1:]))
    pairs: Floats = np.stack((0.25 * above + 0.75 * x, 0.75 * x + 0.25 * below), 1)
    return pairs.reshape(-1, *x.shape[1:])
