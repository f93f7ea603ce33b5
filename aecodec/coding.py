"""The way from planes to coded tiles and back, for one model: analysis, prior and coder joined.

Encoding: `analyse` -> `quantise` -> `code`. Decoding: `decode` -> `synthesise`. The two middle ones are exact.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple
from zlib import crc32

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .coder import Indices, Symbols
from .container import Header, Tile
from .errors import Corrupt, SymbolMismatch
from .image import Pixels
from .layers import shuffle
from .model import Model
from .prior import ACTIVATION_BITS, SYMBOL_LIMIT, TABLE_BITS
from .tiles import LATENT, WINDOW, Box, grid, latent_size, windows

TILE = 512  # pixels per side, in files that we write
# latents of tiles that pass the prior together: on a CPU what stays in its cache, else what keeps it busy
BATCH = {"cpu": 1024, "cuda": 8192}

Part = tuple[Symbols, Indices]  # what is coded at once: a tile's hyper-latents, a context step of it, its fine latents


class Quantised(NamedTuple):
    """A tile, ready to be coded."""

    picture: int  # of those that went through the networks together
    place: int  # in raster order
    parts: list[Part]  # in the order of the file
    latents: Tensor  # ŷ [h, w, channels] in units of 2^-8


def symbols(
    m: Model, pictures: Sequence[Pixels], qualities: Sequence[int], tile_size: int = TILE
) -> Iterator[Quantised]:
    """All that the networks do in encoding pictures of one shape, ``[H, W, 1 or 3]``.

    ``qualities``: one, or one for each tile.
    """
    return quantise(m, analyse(m, pictures, qualities, tile_size), qualities, tile_size)


@torch.inference_mode()
def analyse(
    m: Model, pictures: Sequence[Pixels], qualities: Sequence[int], tile_size: int = TILE, window: int = WINDOW
) -> Tensor:
    """Main and fine latents y ``[B, h, w, N + M]`` of B pictures ``[H, W, 1 or 3]``.

    Computed by windows of ``window`` latents a side.
    """
    height, width = (latent_size(n) for n in pictures[0].shape[:2])
    quality = by_latent(m, height, width, tile_size, qualities)
    shape = (len(pictures), height, width, m.design.latents + m.design.fine)
    y = torch.empty(shape, dtype=torch.float32, device=m.device)
    for core, outer in windows(Box(0, 0, height, width), m.analysis.halo, height, width, window):
        part = outer.scaled(LATENT)
        x = torch.stack([tensor(pixels[part.rows, part.columns], m.device) for pixels in pictures])
        for dim, size in ((1, part.height), (2, part.width)):
            # the last row and column are repeated up to a whole number of latents
            x = x.index_select(dim, torch.arange(size, device=m.device).clamp(max=x.shape[dim] - 1))
        factors = factors_of(m.analysis_rate, quality[outer.rows, outer.columns])
        with m.in_float32():
            latents = m.analysis((x.float() / 255).expand(-1, -1, -1, 3), factors)
        inner = core.within(outer)
        y[:, core.rows, core.columns] = latents[:, inner.rows, inner.columns]
    return y


def tensor(pixels: Pixels, device: torch.device) -> Tensor:
    """Bytes as a tensor of one's own."""
    return (pixels.clone() if isinstance(pixels, Tensor) else torch.from_numpy(pixels.copy())).to(device)


@torch.inference_mode()
def quantise(m: Model, y: Tensor, qualities: Sequence[int], tile_size: int = TILE) -> Iterator[Quantised]:
    """Every tile of y ``[B, h, w, N + M]``, batch by batch: those of a large picture need not be held together."""
    boxes = grid(y.shape[1], y.shape[2], tile_size // LATENT)
    each = list(qualities) * (1 if len(qualities) > 1 else len(boxes))
    for batch in _batches(m, len(y), boxes, each):
        tiles, quality = torch.stack([y[n, boxes[i].rows, boxes[i].columns] for n, i in batch]), each[batch[0][1]]
        found, latents = quantise_batch(m, tiles, hyper_latents(m, tiles, quality), quality)
        for row, (n, i) in enumerate(batch):
            yield Quantised(n, i, [(part[row], indices[row]) for part, indices in found], latents[row])


def hyper_latents(m: Model, y: Tensor, quality: int) -> Tensor:
    """Z ``[B, ceil(h/4), ceil(w/4), Nz]`` of tiles ``[B, h, w, N + M]``, not rounded, in units of their symbols."""
    with m.in_float32():
        return m.hyper_analysis(y[..., : m.design.latents]) * m.hyper_gain[quality]  # type: ignore[no-any-return]


@torch.inference_mode()
def quantise_batch(
    m: Model, y: Tensor, z: Tensor, quality: int
) -> tuple[list[tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]], Tensor]:
    """Symbols and indices ``[B, n]`` of all parts, z first, for tiles ``[B, h, w, N + M]`` of one shape, and ŷ.

    ŷ is in units of 2^-8, as in `decode_batch`.
    """
    batch, height, width, _ = y.shape
    z = z.round().clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT)
    z[..., torch.from_numpy(m.hyper_index[quality] == 0).to(z.device)] = 0
    found = [(_integers(z).reshape(batch, -1), np.tile(m.hyper_index[quality], (batch, z.shape[1] * z.shape[2])))]
    # what is quantised, in the units of the prior's means
    target = y.double() * gain(m, quality) * 0.5 ** (TABLE_BITS - ACTIVATION_BITS)

    def answer(part: int, mean: Tensor, index: Tensor) -> Tensor:
        chosen: Tensor = (m.prior.arrange(part, target) - mean).mul(0.5**ACTIVATION_BITS).round()
        chosen = chosen.clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT) * (index > 0)
        found.append((_integers(chosen), index.byte().cpu().numpy()))
        return chosen

    latents = m.prior.decode(z.double(), torch.full((batch,), quality, device=m.device), height, width, answer)
    return found, latents


def gain(m: Model, quality: int) -> Tensor:
    """What multiplies main and fine latents before they are quantised, ``[N + M]``, in units of 2^-16."""
    names = ("gain", "fine_gain") if m.design.fine else ("gain",)
    return torch.cat([m.prior.tensors[name][quality] for name in names])


def code(m: Model, parts: Sequence[Part], quality: int) -> Tile:
    """Entropy-code one tile."""
    return Tile(quality, crc32(b"".join(covered(part) for part, _ in parts)), m.coder.encode(parts))


@torch.inference_mode()
def decode(m: Model, header: Header, files: Sequence[Sequence[Tile]], area: Box | None = None) -> Tensor:
    """Latents ŷ of the tiles of B files: float32 that holds exact integers in units of 2^-8.

    ``[B, h, w, N]``, or ``[B, h, w, N + M]`` where any tile has fine latents, with zeros for those that have none.
    The files share the header, and the qualities of their tiles. With ``area``, in latents, only the tiles are decoded
    that it meets, and what is in it comes out. Raises `Corrupt`, of which `SymbolMismatch`.
    """
    height, width = latent_size(header.height), latent_size(header.width)
    area = area or Box(0, 0, height, width)
    boxes = grid(height, width, header.tile_size // LATENT)
    meeting = {i: common for i, box in enumerate(boxes) if (common := box.common(area))}
    qualities = [tile.quality for tile in files[0]]
    shape = (len(files), area.height, area.width, channels(m, {qualities[i] for i in meeting}))
    plane = torch.zeros(shape, dtype=torch.float32, device=m.device)
    for batch in _batches(m, len(files), boxes, qualities, meeting):
        latents = decode_batch(m, [files[n][i] for n, i in batch], boxes[batch[0][1]])
        for row, (n, i) in enumerate(batch):
            inner, place = meeting[i].within(boxes[i]), meeting[i].within(area)
            plane[n, place.rows, place.columns, : latents.shape[-1]] = latents[row, inner.rows, inner.columns]
    return plane


def channels(m: Model, qualities: Iterable[int]) -> int:
    """Those of ŷ: the main latents, and the fine ones where any of the qualities has them."""
    return m.design.latents + (m.design.fine if any(map(m.prior.has_fine, qualities)) else 0)


def decode_batch(m: Model, tiles: Sequence[Tile], box: Box) -> Tensor:
    """ŷ ``[B, h, w, channels]`` of tiles that share the shape of ``box`` and their quality, in units of 2^-8."""
    decoders = [m.coder.decoder(tile.words) for tile in tiles]
    checks = [0] * len(tiles)

    def next_part(indices: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
        part = np.stack([decoder.decode(row) for decoder, row in zip(decoders, indices, strict=True)])
        if np.abs(part).max() > SYMBOL_LIMIT:
            raise Corrupt(f"a symbol beyond ±{SYMBOL_LIMIT}")
        for i, row in enumerate(part):
            checks[i] = crc32(covered(row), checks[i])
        return part

    latents = latents_of(m, box, len(tiles), tiles[0].quality, next_part)
    for tile, decoder, check in zip(tiles, decoders, checks, strict=True):
        decoder.finish()
        if tile.symbol_crc != check:
            raise SymbolMismatch("the decoded symbols are not those that were encoded")
    return latents


@torch.inference_mode()
def latents_of(
    m: Model,
    box: Box,
    batch: int,
    quality: int,
    next_part: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.int32]],
) -> Tensor:
    """ŷ ``[B, h, w, channels]`` of tiles of the shape of ``box``; ``next_part`` answers indices with symbols.

    Both ``[B, n]``.
    """

    def answer(part: int, mean: Tensor, index: Tensor) -> Tensor:
        return m.prior.number(next_part(index.byte().cpu().numpy()))  # type: ignore[no-any-return]

    h, w = -(-box.height // 4), -(-box.width // 4)
    z = next_part(np.tile(m.hyper_index[quality], (batch, h * w))).reshape(batch, h, w, -1)
    qualities = torch.full((batch,), quality, device=m.device)
    latents: Tensor = m.prior.decode(m.prior.number(z), qualities, box.height, box.width, answer)
    return latents


@torch.inference_mode()
def synthesise(
    m: Model,
    latents: Tensor,
    area: Box,
    header: Header,
    qualities: Sequence[int],
    region: Box,
    shrink: int = 1,
    window: int = WINDOW,
) -> Tensor:
    """Bytes ``[B, H, W, 1 or 3]`` of a region, in pixels, as averages of ``shrink`` x ``shrink`` pixels.

    Pixels at the region's edge of which it holds a part only are averaged whole. ``latents``: ŷ
    ``[B, h, w, channels]`` in units of 2^-8 of the ``area``, in latents: the region and the synthesis' halo around it.
    ``qualities`` are those of the header's tiles, the same for all B. The result does not depend on ``window``.
    """
    height, width = latent_size(header.height), latent_size(header.width)
    quality = by_latent(m, height, width, header.tile_size, qualities)
    side, wanted = LATENT // shrink, region.covering(shrink)
    shape = (len(latents), wanted.height, wanted.width, 1 if header.mode.startswith("L") else 3)
    pixels = torch.empty(shape, dtype=torch.uint8, device=m.device)
    for core, outer in windows(region.covering(LATENT), halo(m, shrink), height, width, window):
        inside = outer.within(area)
        y = latents[:, inside.rows, inside.columns] * 0.5**ACTIVATION_BITS
        with m.in_float32():
            x = _transform(m, y, quality[outer.rows, outer.columns], shrink)
        place = core.scaled(side).common(wanted)  # the region may begin and end within a latent
        assert place
        source, target = place.within(outer.scaled(side)), place.within(wanted)
        x = x[:, source.rows, source.columns]
        if header.is_gray:
            x = x.mean(3, keepdim=True)  # in mode RGB, three times the same
        pixels[:, target.rows, target.columns] = x.clamp(0, 1).mul_(255).round_().byte()
    return pixels


def halo(m: Model, shrink: int) -> int:
    """Latents on each side that pixels depend on."""
    return 0 if _reads_out(m, shrink) else m.synthesis.halo


def _reads_out(m: Model, shrink: int) -> bool:
    return shrink == 8 and m.readout is not None


def _transform(m: Model, y: Tensor, quality: Tensor, shrink: int) -> Tensor:
    """Pixels ``[B, 16h/shrink, 16w/shrink, 3]`` of ŷ ``[B, h, w, channels]`` and the quality ``[h, w]`` there."""
    if not _reads_out(m, shrink):
        x: Tensor = m.synthesis(y, factors_of(m.synthesis_rate, quality), shrink)
        return x
    assert m.readout is not None
    x = torch.empty(*y.shape[:3], 2 * 2 * 3, dtype=torch.float32, device=m.device)
    for q in set(quality.flatten().tolist()):
        there = quality == q
        x[:, there] = y[:, there][..., : m.design.latents] @ m.readout[q, :-1] + m.readout[q, -1]
    return shuffle(x, 2)


def by_latent(m: Model, height: int, width: int, tile_size: int, qualities: Sequence[int]) -> Tensor:
    """The quality of every latent, ``[height, width]``."""
    plane = torch.full((height, width), qualities[0], device=m.device)
    if len(qualities) > 1:
        for box, quality in zip(grid(height, width, tile_size // LATENT), qualities, strict=True):
            plane[box.rows, box.columns] = quality
    return plane


def factors_of(table: Tensor, quality: Tensor) -> Tensor:
    """What multiplies a transform's features: ``[C]``, or ``[2h, 2w, C]`` where the quality ``[h, w]`` varies."""
    if quality.min() == quality.max():
        return table[quality[0, 0]]
    return table[quality.repeat_interleave(2, 0).repeat_interleave(2, 1)]


def _batches(
    m: Model, pictures: int, boxes: list[Box], qualities: Sequence[int], places: Iterable[int] | None = None
) -> Iterator[list[tuple[int, int]]]:
    """Tiles of one shape and quality that go together, as pairs (picture, place); all places unless some are given."""
    kinds: dict[tuple[int, int, int], list[tuple[int, int]]] = {}
    for i in range(len(boxes)) if places is None else places:
        kinds.setdefault((boxes[i].height, boxes[i].width, qualities[i]), []).extend((n, i) for n in range(pictures))
    for (height, width, _), tiles in kinds.items():
        size = max(1, BATCH[m.device.type] // (height * width))
        for start in range(0, len(tiles), size):
            yield tiles[start : start + size]


def covered(part: Symbols) -> bytes:
    """What the CRC-32 of the symbols covers."""
    return part.astype("<i2").tobytes()


def _integers(x: Tensor) -> npt.NDArray[np.int16]:
    return x.to("cpu", torch.int16).numpy()
