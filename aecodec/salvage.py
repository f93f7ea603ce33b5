"""What can be saved of a damaged file: the chunks that are whole, the tiles in them, and a picture without holes.

Of a tile that the end of the file cuts off, the parts before the cut decode exactly, and what follows takes the prior's
means. Of a tile whose bytes were changed nothing is trusted: an entropy decoder turns wrong bits into symbols that look
as likely as any.
"""

from dataclasses import dataclass, field
from zlib import crc32

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from . import coding, container
from .container import Data, Header, Tile
from .errors import BadChecksum, Corrupt, Truncated
from .model import Model
from .prior import STEPS, SYMBOL_LIMIT
from .tiles import LATENT, Box, grid, latent_size

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
    """Raises as `container.read_header`: without a header that is whole there is nothing to save."""
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


def decode(m: Model, found: Remains) -> tuple[Tensor, str]:
    """Latents ŷ ``[h, w, channels]`` in units of 2^-8, and in words what is damaged."""
    header = found.header
    height, width = latent_size(header.height), latent_size(header.width)
    channels = coding.channels(m, {tile.quality for tile in found.tiles if tile})
    plane = torch.zeros(height, width, channels, dtype=torch.float32, device=m.device)
    known = torch.zeros(height, width, dtype=torch.bool, device=m.device)
    damaged = []
    for place, box in enumerate(grid(height, width, header.tile_size // LATENT)):
        tile, parts, whole = found.tiles[place], 0, 0
        if tile:
            whole = _parts(m, tile.quality)
            try:
                latents, parts = coding.decode_batch(m, [tile], box), whole
            except Corrupt:
                if tile is found.cut:
                    latents, parts = _decode_start(m, tile, box)
        if parts:
            plane[box.rows, box.columns, : latents.shape[-1]] = latents[0]
            known[box.rows, box.columns] = parts > 1  # the hyper-latents alone say less than the neighbours
        if parts < whole or not tile:
            damaged.append(f"{place} ({parts} of {whole} parts are left)" if parts else str(place))
    if not damaged:
        return plane, ""
    names = ", ".join(damaged[:NAMED]) + (", ..." if len(damaged) > NAMED else "")
    return fill(plane, known), f"{len(damaged)} of {header.tile_count} tiles are damaged: {names}"


def _parts(m: Model, quality: int) -> int:
    """Of a tile: the hyper-latents, the steps, and the fine latents where the quality has them."""
    return 1 + STEPS + m.prior.has_fine(quality)


def _decode_start(m: Model, tile: Tile, box: Box) -> tuple[Tensor, int]:
    """ŷ ``[1, h, w, channels]`` of a tile whose end is missing, and how many of its parts were there."""
    parts, sound, check = 0, True, 0
    try:
        decoder = m.coder.decoder(tile.words)
    except Corrupt:
        sound = False

    def next_part(indices: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
        nonlocal parts, sound, check
        if sound:
            symbols = decoder.decode(indices[0])[None]
            sound = not decoder.starved and int(np.abs(symbols).max()) <= SYMBOL_LIMIT
        if not sound:
            return np.zeros(indices.shape, np.int32)
        parts, check = parts + 1, crc32(coding.covered(symbols), check)
        return symbols

    latents = coding.latents_of(m, box, 1, tile.quality, next_part)
    # what has all its symbols was not cut: if they are not the right ones, it was changed
    return latents, 0 if parts == _parts(m, tile.quality) and check != tile.symbol_crc else parts


def fill(plane: Tensor, known: Tensor) -> Tensor:
    """``[h, w, C]`` with what is not known, ``[h, w]``, from a pyramid of averages (Gortler et al. 1996, push-pull)."""
    if known.all() or not known.any():
        return plane
    height, width = known.shape
    sums, counts = (
        F.avg_pool2d(x.permute(2, 0, 1)[None], 2, ceil_mode=True, divisor_override=1)[0].permute(1, 2, 0)
        for x in (plane * known[..., None], known[..., None].float())
    )  # [h/2, w/2, C], [h/2, w/2, 1]
    coarse = fill(sums / counts.clamp(min=1), counts[..., 0] > 0)
    smooth = F.interpolate(coarse.permute(2, 0, 1)[None], scale_factor=2, mode="bilinear")[0].permute(1, 2, 0)
    return torch.where(known[..., None], plane, smooth[:height, :width])
