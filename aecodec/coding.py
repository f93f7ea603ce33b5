"""The way from planes to coded tiles and back, for one model: analysis, prior and coder joined.

Encoding: `analyse` -> `quantise` -> `code`. Decoding: `decode` -> `synthesise`. The two middle ones are exact.
"""

from collections.abc import Callable, Iterator, Sequence
from zlib import crc32

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from .coder import Indices, Symbols
from .container import Header, Tile
from .errors import Corrupt, SymbolMismatch
from .image import Plane
from .model import Model
from .prior import ACTIVATION_BITS, SYMBOL_LIMIT, TABLE_BITS
from .tiles import LATENT, WINDOW, Box, grid, latent_size, windows

TILE = 512  # pixels per side, in files that we write
TILE_BATCH = 8  # tiles that pass the prior together

Part = tuple[Symbols, Indices]  # what is coded at once: a tile's hyper-latents, or one context step of it


def symbols(
    m: Model, pixels: Plane, qualities: Sequence[int], tile_size: int = TILE
) -> Iterator[tuple[int, list[Part]]]:
    """All that the networks do in encoding: places and parts of the tiles of pixels ``[H, W, 1 or 3]``.

    ``qualities``: one, or one for each tile.
    """
    return quantise(m, analyse(m, pixels, qualities, tile_size), qualities, tile_size)


@torch.inference_mode()
def analyse(m: Model, pixels: Plane, qualities: Sequence[int], tile_size: int = TILE, window: int = WINDOW) -> Tensor:
    """Latents y ``[h, w, N]`` of pixels ``[H, W, 1 or 3]``, by windows of ``window`` latents a side."""
    height, width = (latent_size(n) for n in pixels.shape[:2])
    quality = by_latent(m, height, width, tile_size, qualities)
    y = torch.empty(height, width, m.design.latents, dtype=torch.float32, device=m.device)
    for core, outer in windows(height, width, m.analysis.halo, window):
        part = outer.scaled(LATENT)
        x = pixels[part.rows, part.columns]
        # the last row and column are repeated up to a whole number of latents
        x = np.pad(x, ((0, part.height - x.shape[0]), (0, part.width - x.shape[1]), (0, 0)), "edge")
        tensor = torch.from_numpy(x).to(m.device)[None].float() / 255
        factors = factors_of(m.analysis_rate, quality[outer.rows, outer.columns])
        latents = m.analysis(tensor.expand(-1, -1, -1, 3), factors)
        inner = core.within(outer)
        y[core.rows, core.columns] = latents[0, inner.rows, inner.columns]
    return y


@torch.inference_mode()
def quantise(m: Model, y: Tensor, qualities: Sequence[int], tile_size: int = TILE) -> Iterator[tuple[int, list[Part]]]:
    """Every tile's place in raster order and its parts, hyper-latents first and then step by step.

    Tiles come batch by batch, so that those of a large picture need not be held together.
    """
    boxes = grid(y.shape[0], y.shape[1], tile_size // LATENT)
    each = list(qualities) * (1 if len(qualities) > 1 else len(boxes))
    for batch in _batches(boxes, each):
        tiles, quality = torch.stack([y[boxes[i].rows, boxes[i].columns] for i in batch]), each[batch[0]]
        found, _ = quantise_batch(m, tiles, hyper_latents(m, tiles, quality), quality)
        for row, i in enumerate(batch):
            yield i, [(part[row], indices[row]) for part, indices in found]


def hyper_latents(m: Model, y: Tensor, quality: int) -> Tensor:
    """Z ``[B, ceil(h/4), ceil(w/4), Nz]`` of tiles ``[B, h, w, N]``, not yet rounded, in units of their symbols."""
    padded = F.pad(y, (0, 0, 0, -y.shape[2] % 4, 0, -y.shape[1] % 4))
    return m.hyper_analysis(padded) * m.hyper_gain[quality]  # type: ignore[no-any-return]


@torch.inference_mode()
def quantise_batch(
    m: Model, y: Tensor, z: Tensor, quality: int
) -> tuple[list[tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]], Tensor]:
    """Symbols and indices ``[B, n]`` of z and of each step, for tiles ``[B, h, w, N]`` of one shape, and ŷ.

    ŷ is in units of 2^-8, as in `decode`.
    """
    batch, height, width, _ = y.shape
    z = z.round().clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT)
    z[..., torch.from_numpy(m.hyper_index[quality] == 0).to(z.device)] = 0
    found = [(_integers(z).reshape(batch, -1), np.tile(m.hyper_index[quality], (batch, z.shape[1] * z.shape[2])))]
    # what is quantised, in the units of the prior's means
    target = y.double() * m.prior.tensors["gain"][quality] * 0.5 ** (TABLE_BITS - ACTIVATION_BITS)

    def answer(step: int, mean: Tensor, index: Tensor) -> Tensor:
        chosen: Tensor = (m.prior.arrange(step, target) - mean).mul(0.5**ACTIVATION_BITS).round()
        chosen = chosen.clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT) * (index > 0)
        found.append((_integers(chosen), index.byte().cpu().numpy()))
        return chosen

    latents = m.prior.decode(z.double(), torch.full((batch,), quality, device=m.device), height, width, answer)
    return found, latents


def code(m: Model, parts: Sequence[Part], quality: int) -> Tile:
    """Entropy-code one tile."""
    return Tile(quality, crc32(b"".join(_bytes(part) for part, _ in parts)), m.coder.encode(parts))


@torch.inference_mode()
def decode(m: Model, header: Header, tiles: Sequence[Tile]) -> Tensor:
    """Latents ŷ ``[h, w, N]`` of a file's tiles: float32 that holds exact integers in units of 2^-8.

    Raises `Corrupt`, of which `SymbolMismatch`.
    """
    height, width = latent_size(header.height), latent_size(header.width)
    boxes = grid(height, width, header.tile_size // LATENT)
    plane = torch.empty(height, width, m.design.latents, dtype=torch.float32, device=m.device)
    for batch in _batches(boxes, [tile.quality for tile in tiles]):
        latents = decode_batch(m, [tiles[i] for i in batch], boxes[batch[0]])
        for row, i in enumerate(batch):
            plane[boxes[i].rows, boxes[i].columns] = latents[row]
    return plane


def decode_batch(m: Model, tiles: Sequence[Tile], box: Box) -> Tensor:
    """ŷ ``[B, h, w, N]`` of tiles that share the shape of ``box`` and their quality."""
    decoders = [m.coder.decoder(tile.words) for tile in tiles]
    checks = [0] * len(tiles)

    def next_part(indices: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
        part = np.stack([decoder.decode(row) for decoder, row in zip(decoders, indices, strict=True)])
        if np.abs(part).max() > SYMBOL_LIMIT:
            raise Corrupt(f"a symbol beyond ±{SYMBOL_LIMIT}")
        for i, row in enumerate(part):
            checks[i] = crc32(_bytes(row), checks[i])
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
    """ŷ ``[B, h, w, N]`` of tiles of the shape of ``box``; ``next_part`` answers indices ``[B, n]`` with symbols."""

    def answer(step: int, mean: Tensor, index: Tensor) -> Tensor:
        return m.prior.number(next_part(index.byte().cpu().numpy()))  # type: ignore[no-any-return]

    h, w = -(-box.height // 4), -(-box.width // 4)
    z = next_part(np.tile(m.hyper_index[quality], (batch, h * w))).reshape(batch, h, w, -1)
    qualities = torch.full((batch,), quality, device=m.device)
    latents: Tensor = m.prior.decode(m.prior.number(z), qualities, box.height, box.width, answer)
    return latents


@torch.inference_mode()
def synthesise(m: Model, latents: Tensor, header: Header, qualities: Sequence[int], window: int = WINDOW) -> Plane:
    """Pixels ``[H, W, 1 or 3]`` of latents ``[h, w, N]`` in units of 2^-8, by windows of ``window`` latents a side.

    ``qualities``: of the tiles.
    """
    height, width, _ = latents.shape
    quality = by_latent(m, height, width, header.tile_size, qualities)
    gray = header.mode.startswith("L")
    pixels = np.empty((header.height, header.width, 1 if gray else 3), np.uint8)
    for core, outer in windows(height, width, m.synthesis.halo, window):
        factors = factors_of(m.synthesis_rate, quality[outer.rows, outer.columns])
        x = m.synthesis(latents[None, outer.rows, outer.columns] * 0.5**ACTIVATION_BITS, factors)[0]
        inner, place = core.within(outer).scaled(LATENT), core.scaled(LATENT)
        x = x[inner.rows, inner.columns]
        if gray:
            x = x.mean(2, keepdim=True)
        part = (x.clamp(0, 1) * 255).round().byte().cpu().numpy()
        target = pixels[place.rows, place.columns]  # the picture may end within a latent
        target[:] = part[: target.shape[0], : target.shape[1]]
    return pixels


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


def _batches(boxes: list[Box], qualities: list[int]) -> Iterator[list[int]]:
    """Places of tiles of one shape and quality, at most `TILE_BATCH` together."""
    kinds: dict[tuple[int, int, int], list[int]] = {}
    for i, (box, quality) in enumerate(zip(boxes, qualities, strict=True)):
        kinds.setdefault((box.height, box.width, quality), []).append(i)
    for places in kinds.values():
        for start in range(0, len(places), TILE_BATCH):
            yield places[start : start + TILE_BATCH]


def _bytes(part: Symbols) -> bytes:
    """What the CRC-32 of the symbols covers."""
    return part.astype("<i2").tobytes()


def _integers(x: Tensor) -> npt.NDArray[np.int16]:
    return x.to("cpu", torch.int16).numpy()
