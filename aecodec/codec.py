"""The codec: pictures to bytes and back."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload
from zlib import crc32

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from . import container, image, model, registry
from .coder import Decoder, Indices, Symbols
from .container import Container, Header, Tile
from .errors import Corrupt, SymbolMismatch
from .image import Kind, Picture, Plane
from .prior import ACTIVATION_BITS, SYMBOL_LIMIT, WEIGHT_BITS
from .tiles import LATENT, Box, grid, latent_size, windows

if TYPE_CHECKING:
    from PIL import Image

DEFAULT_QUALITY = 50
TILE = 512  # pixels per side
TILE_BATCH = 8  # tiles that pass the prior together
IN_FLIGHT = 3  # images of `compress_many` between analysis and output

Device = Literal["auto", "cpu", "cuda"]
Part = tuple[Symbols, Indices]  # what is coded at once: hyper-latents, or one context step


class Codec:
    """Compresses and decompresses many pictures with one set of weights on one device.

    Safe to share between threads; pickles as its arguments.

    Args:
        device: ``"auto"`` takes a GPU if there is one, else the CPU. Files do not depend on it.
        weights: what to compress with: the name of installed weights, or the path of a weights file. Files of these
            and of all installed weights can be decompressed.
        max_pixels: pictures with more pixels are refused with `LimitExceeded`, before any work is done.

    >>> codec = Codec(device="cpu")
    >>> data = codec.compress(np.zeros((40, 60, 3), np.uint8), quality=50)
    >>> codec.decompress(data).size
    (60, 40)
    """

    def __init__(self, device: Device = "auto", weights: str | Path = "base", max_pixels: int = container.MAX_PIXELS):
        if device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device {device!r}: expected auto, cpu or cuda")
        if device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device 'cuda': torch finds no GPU")
        self._arguments = (device, weights, max_pixels)
        name = "cpu" if device == "cpu" or not torch.cuda.is_available() else "cuda"
        self.device = torch.device(name)
        self.max_pixels = max_pixels
        path = weights if isinstance(weights, Path) else registry.folder() / f"{weights}.safetensors"
        if not path.is_file():
            raise ValueError(f"no weights {str(weights)!r}")
        self._model = model.load(path, self.device)

    def __reduce__(self) -> tuple[type["Codec"], tuple[Any, ...]]:
        return Codec, self._arguments

    # Encoding

    def compress(self, picture: Any, quality: int = DEFAULT_QUALITY) -> bytes:
        """An .aec file of a picture.

        Args:
            picture: a PIL image, ``[H, W]`` or ``[H, W, C]`` uint8 array, or ``[C, H, W]`` tensor (uint8, or float in
                0..1). C: 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha. Alpha is kept losslessly; ICC, EXIF and
                XMP of PIL images are kept, the EXIF orientation as metadata (the pixels are not turned).
            quality: 0 (smallest) to 100 (best).

        Raises:
            TypeError, ValueError: for what is no picture, or a quality out of range.
            LimitExceeded: for a side above 65535 or more than ``max_pixels`` pixels.
        """
        prepared = self._prepare(picture)
        return self._write(prepared, quality, self._symbols(prepared, quality))

    def compress_many(self, pictures: Iterable[Any], quality: int = DEFAULT_QUALITY) -> Iterator[bytes]:
        """`compress` for each picture in order; one is entropy-coded while the next passes the networks.

        Pictures are taken from the iterable as they are needed, a few ahead of the output.
        """
        with ThreadPoolExecutor(1) as pool:
            pending: deque[Future[bytes]] = deque()
            for picture in pictures:
                prepared = self._prepare(picture)
                pending.append(pool.submit(self._write, prepared, quality, self._symbols(prepared, quality)))
                if len(pending) == IN_FLIGHT:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

    def _prepare(self, picture: Any) -> Picture:
        prepared = picture if isinstance(picture, Picture) else image.from_any(picture)
        height, width, _ = prepared.pixels.shape
        container.check_size(width, height, self.max_pixels)
        return prepared

    def _write(self, picture: Picture, quality: int, tiles: list[list[Part]]) -> bytes:
        height, width, _ = picture.pixels.shape
        header = Header(self._model.id, width, height, picture.mode, quality, TILE)
        alpha = None if picture.alpha is None else image.encode_alpha(picture.alpha)
        coded = [Tile(quality, _symbol_crc(parts), self._model.coder.encode(parts)) for parts in tiles]
        return container.write(Container(header, coded, dict(picture.metadata), alpha))

    @torch.inference_mode()
    def _symbols(self, picture: Picture, quality: int) -> list[list[Part]]:
        """Analysis, hyper-analysis and prior: the symbols of every tile, in raster order."""
        if not 0 <= quality <= 100:
            raise ValueError(f"quality {quality}: expected 0 to 100")
        y = self._analyse(picture.pixels, quality)
        boxes = grid(y.shape[0], y.shape[1], TILE // LATENT)
        tiles: list[list[Part]] = [[] for _ in boxes]
        for batch in _batches(boxes, [quality] * len(boxes)):
            found = self._encode_batch(torch.stack([y[boxes[i].rows, boxes[i].columns] for i in batch]), quality)
            for row, i in enumerate(batch):
                tiles[i] = [(symbols[row], indices[row]) for symbols, indices in found]
        return tiles

    def _analyse(self, pixels: Plane, quality: int) -> Tensor:
        """Latents y ``[h, w, N]`` of the whole picture, window by window."""
        m = self._model
        height, width = (latent_size(n) for n in pixels.shape[:2])
        y = torch.empty(height, width, m.design.latents, device=self.device)
        for core, outer in windows(height, width, m.analysis.halo):
            part = outer.scaled(LATENT)
            x = pixels[part.rows, part.columns]
            # the last row and column are repeated up to a whole number of latents
            x = np.pad(x, ((0, part.height - x.shape[0]), (0, part.width - x.shape[1]), (0, 0)), "edge")
            tensor = torch.from_numpy(x).to(self.device)[None] / 255
            latents = m.analysis(tensor.expand(-1, -1, -1, 3), m.analysis_rate[quality])
            inner = core.within(outer)
            y[core.rows, core.columns] = latents[0, inner.rows, inner.columns]
        return y

    def _encode_batch(self, y: Tensor, quality: int) -> list[Part]:
        """Symbols and indices ``[B, n]`` of z and of each step, for tiles ``[B, h, w, N]`` of one shape."""
        m = self._model
        batch, height, width, _ = y.shape
        padded = F.pad(y, (0, 0, 0, -width % 4, 0, -height % 4))
        z = (m.hyper_analysis(padded) * m.hyper_gain[quality]).round().clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT)
        hyper_index = self._hyper_indices(quality, z.shape[1] * z.shape[2])
        z[..., torch.from_numpy(m.hyper_index[quality] == 0).to(z.device)] = 0
        found = [(_int32(z).reshape(batch, -1), np.broadcast_to(hyper_index, (batch, len(hyper_index))))]
        # what is quantised, in the units of the prior's means
        target = y.double() * m.prior.tensors["gain"][quality] * 0.5 ** (WEIGHT_BITS - ACTIVATION_BITS)

        def quantise(step: int, mean: Tensor, index: Tensor) -> Tensor:
            symbols = (m.prior.arrange(step, target) - mean).mul(0.5**ACTIVATION_BITS).round()
            symbols = symbols.clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT) * (index > 0)
            found.append((_int32(symbols), index.byte().cpu().numpy()))
            return symbols

        qualities = torch.full((batch,), quality, device=self.device)
        m.prior.decode(z.double(), qualities, height, width, quantise)
        return found

    def _hyper_indices(self, quality: int, positions: int) -> Indices:
        """Table indices of a tile's hyper-latents, flat in (row, column, channel) order."""
        return np.tile(self._model.hyper_index[quality], positions)

    # Decoding

    @overload
    def decompress(self, data: bytes) -> "Image.Image": ...
    @overload
    def decompress(self, data: bytes, output: Literal["pil"]) -> "Image.Image": ...
    @overload
    def decompress(self, data: bytes, output: Literal["numpy"]) -> Plane: ...
    @overload
    def decompress(self, data: bytes, output: Literal["torch"]) -> Tensor: ...

    def decompress(self, data: bytes, output: Kind = "pil") -> "Image.Image | Plane | Tensor":
        """The picture of an .aec file.

        Args:
            data: the bytes of the file.
            output: ``"pil"``, ``"numpy"`` (``[H, W, C]`` uint8) or ``"torch"`` (``[C, H, W]`` uint8, on the CPU).

        Raises:
            AecError: one of its subclasses, whatever is wrong with the bytes.
        """
        if output not in ("pil", "numpy", "torch"):
            raise ValueError(f"output {output!r}: expected pil, numpy or torch")
        return image.to_any(self._picture(container.read(data, self.max_pixels)), output)

    def verify(self, data: bytes) -> Header:
        """Check a whole file, decoding every symbol but no pixels. Raises `AecError`; returns the header."""
        parsed = container.read(data, self.max_pixels)
        self._latents(parsed)
        if parsed.alpha is not None:
            image.decode_alpha(parsed.alpha, parsed.header.height, parsed.header.width)
        return parsed.header

    def _picture(self, parsed: Container) -> Picture:
        h = parsed.header
        # alpha first: it is cheap to refuse
        alpha = None if parsed.alpha is None else image.decode_alpha(parsed.alpha, h.height, h.width)
        m, latents = self._latents(parsed)
        return Picture(_synthesise(m, latents, parsed), alpha, parsed.metadata)

    @torch.inference_mode()
    def _latents(self, parsed: Container) -> tuple[model.Model, Tensor]:
        """The file's model, and ŷ ``[h, w, N]``, float32 holding exact integers in units of 2^-8."""
        h = parsed.header
        m = self._model if h.model == self._model.id else model.load(registry.find(h.model), self.device)
        height, width = latent_size(h.height), latent_size(h.width)
        boxes = grid(height, width, h.tile_size // LATENT)
        plane = torch.empty(height, width, m.design.latents, device=self.device)
        for batch in _batches(boxes, [tile.quality for tile in parsed.tiles]):
            latents = _decode_batch(m, [parsed.tiles[i] for i in batch], boxes[batch[0]])
            for row, i in enumerate(batch):
                plane[boxes[i].rows, boxes[i].columns] = latents[row]
        return m, plane


def _decode_batch(m: model.Model, tiles: list[Tile], box: Box) -> Tensor:
    """ŷ ``[B, h, w, N]`` of tiles that share the shape of ``box`` and their quality."""
    quality = tiles[0].quality
    decoders = [m.coder.decoder(tile.words) for tile in tiles]
    checks = [0] * len(tiles)

    def decode(indices: Indices) -> Symbols:
        """The next part of every tile, ``[B, n]``."""
        symbols = np.stack([decoder.decode(row) for decoder, row in zip(decoders, indices, strict=True)])
        if np.abs(symbols).max() > SYMBOL_LIMIT:
            raise Corrupt(f"a symbol beyond ±{SYMBOL_LIMIT}")
        for i, row in enumerate(symbols.astype("<i2")):
            checks[i] = crc32(row.tobytes(), checks[i])
        return symbols

    def answer(step: int, mean: Tensor, index: Tensor) -> Tensor:
        return torch.from_numpy(decode(index.byte().cpu().numpy())).to(mean)

    h, w = -(-box.height // 4), -(-box.width // 4)
    z = decode(np.tile(m.hyper_index[quality], (len(tiles), h * w)))
    latents = m.prior.decode(
        torch.from_numpy(z.reshape(len(tiles), h, w, -1)).to(m.device).double(),
        torch.full((len(tiles),), quality, device=m.device),
        box.height,
        box.width,
        answer,
    )
    for tile, decoder, check in zip(tiles, decoders, checks, strict=True):
        decoder.finish()
        if tile.symbol_crc != check:
            raise SymbolMismatch("the decoded symbols are not those that were encoded")
    return latents  # type: ignore[no-any-return]


@torch.inference_mode()
def _synthesise(m: model.Model, latents: Tensor, parsed: Container) -> Plane:
    """Pixels ``[H, W, 1 or 3]`` of the latents ``[h, w, N]``, window by window."""
    h = parsed.header
    height, width, _ = latents.shape
    qualities = torch.empty(height, width, dtype=torch.long, device=m.device)
    for box, tile in zip(grid(height, width, h.tile_size // LATENT), parsed.tiles, strict=True):
        qualities[box.rows, box.columns] = tile.quality
    gray = h.mode.startswith("L")
    pixels = np.empty((h.height, h.width, 1 if gray else 3), np.uint8)
    for core, outer in windows(height, width, m.synthesis.halo):
        quality = qualities[outer.rows, outer.columns]
        if quality.min() == quality.max():
            rate = m.synthesis_rate[quality[0, 0]]
        else:
            rate = m.synthesis_rate[quality.repeat_interleave(2, 0).repeat_interleave(2, 1)]  # [2h, 2w, C]
        x = m.synthesis(latents[None, outer.rows, outer.columns] * 0.5**ACTIVATION_BITS, rate)[0]
        inner, place = core.within(outer).scaled(LATENT), core.scaled(LATENT)
        x = x[inner.rows, inner.columns]
        if gray:
            x = x.mean(2, keepdim=True)
        part = (x.clamp(0, 1) * 255).round().byte().cpu().numpy()
        # the plane may end within a latent
        target = pixels[place.rows, place.columns]
        target[:] = part[: target.shape[0], : target.shape[1]]
    return pixels


def _batches(boxes: list[Box], qualities: list[int]) -> Iterator[list[int]]:
    """Places of tiles of one shape and quality, at most `TILE_BATCH` together."""
    kinds: dict[tuple[int, int, int], list[int]] = {}
    for i, (box, quality) in enumerate(zip(boxes, qualities, strict=True)):
        kinds.setdefault((box.height, box.width, quality), []).append(i)
    for places in kinds.values():
        for start in range(0, len(places), TILE_BATCH):
            yield places[start : start + TILE_BATCH]


def _symbol_crc(parts: list[Part]) -> int:
    return crc32(b"".join(symbols.astype("<i2").tobytes() for symbols, _ in parts))


def _int32(x: Tensor) -> npt.NDArray[np.int32]:
    return x.to("cpu", torch.int32).numpy()


@lru_cache(maxsize=4)
def _shared(device: Device) -> Codec:
    return Codec(device)


def compress(picture: Any, quality: int = DEFAULT_QUALITY, device: Device = "auto") -> bytes:
    """`Codec.compress` with a shared codec of the default weights.

    >>> import aecodec
    >>> from PIL import Image
    >>> data = aecodec.compress(Image.new("RGB", (64, 48), "teal"), quality=30)
    >>> aecodec.decompress(data).size
    (64, 48)
    """
    return _shared(device).compress(picture, quality)


@overload
def decompress(data: bytes, *, device: Device = "auto") -> "Image.Image": ...
@overload
def decompress(data: bytes, output: Literal["pil"], device: Device = "auto") -> "Image.Image": ...
@overload
def decompress(data: bytes, output: Literal["numpy"], device: Device = "auto") -> Plane: ...
@overload
def decompress(data: bytes, output: Literal["torch"], device: Device = "auto") -> Tensor: ...


def decompress(data: bytes, output: Kind = "pil", device: Device = "auto") -> "Image.Image | Plane | Tensor":
    """`Codec.decompress` with a shared codec.

    >>> import aecodec
    >>> data = aecodec.compress(np.zeros((20, 30), np.uint8))
    >>> aecodec.decompress(data, "numpy").shape
    (20, 30, 1)
    """
    return _shared(device).decompress(data, output)
