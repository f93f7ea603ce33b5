"""The codec: pictures to bytes and back."""

import contextlib
import math
import operator
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, Union, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from . import coding, container, control, image, model, registry, salvage, search
from .coding import Part
from .container import DEFAULT_QUALITY, THUMBNAIL, Container, Data, Header
from .control import Offsets
from .errors import Corrupt, DamageWarning, TargetMissed
from .image import Picture, Plane
from .loading import LOADING
from .prior import ACTIVATION_BITS, ExactPrior
from .tiles import LATENT, Box, grid, latent_size

if TYPE_CHECKING:
    from PIL import Image

T = TypeVar("T")

MOST_TOGETHER = 16  # pictures that pass the networks at once, whatever their size
THUMBNAIL_QUALITY = 60  # about 33 dB, for 4 to 6 kB per megapixel of the picture
IN_FLIGHT = 3  # images of `compress_many` between analysis and output

Device = str | torch.device  # "auto", "cpu", "cuda", "cuda:1"
Errors = Literal["strict", "conceal"]
Output = Literal["pil", "numpy", "torch"]
Decoded = Union["Image.Image", Plane, Tensor]
Rectangle = tuple[int, int, int, int]  # x, y, width, height in pixels
Progress = Callable[[float], object]  # called with a share from 0 to 1


class Reached(NamedTuple):
    """What a search for a target ended with."""

    data: bytes
    scores: dict[str, float]  # of the decoded picture, where the target was one
    missed: str  # why it is not what was asked for, if it is not


class Codec:
    """Compresses and decompresses many pictures with one set of weights on one device.

    Safe to share between threads; pickles as its arguments. A forked child can use it too, on a CPU: since torch's
    threads do not come along, it computes with one, and must not ask torch for more. For a GPU, processes have to be
    started with the method "spawn".

    Args:
        device: ``"auto"`` takes a GPU if there is one, else the CPU; ``"cuda:1"`` is the second GPU. What files decode
            to does not depend on it.
        weights: what to compress with: the name of installed weights, or else a weights file. Files of these and of all
            installed weights can be decompressed.
        max_pixels: pictures with more pixels are refused with `LimitExceeded`, before any work is done.

    >>> import numpy as np
    >>> codec = Codec(device="cpu")
    >>> data = codec.compress(np.zeros((40, 60, 3), np.uint8), quality=50)
    >>> codec.decompress(data).size
    (60, 40)
    """

    def __init__(self, device: Device = "auto", weights: str | Path = "base", max_pixels: int = container.MAX_PIXELS):
        name = registry.device(device)
        self.device = _device(name)
        installed = registry.named(weights) if isinstance(weights, str) else None
        path = installed or Path(weights).absolute()  # whoever unpickles may be in another folder
        if not path.is_file():
            raise ValueError(f"no weights {str(weights)!r}")
        self._arguments = (name, weights if installed else path, max_pixels)
        self.max_pixels = max_pixels
        self.model = (_installed if installed else model.load)(path, self.device)

    def __reduce__(self) -> tuple[type["Codec"], tuple[Any, ...]]:
        return Codec, self._arguments

    # Encoding

    def compress(
        self,
        picture: Any,
        quality: int = DEFAULT_QUALITY,
        roi: Offsets | None = None,
        effort: int = 0,
        progress: Progress | None = None,
        thumbnail: bool = False,
    ) -> bytes:
        """An .aec file of a picture.

        Args:
            picture: a PIL image, ``[H, W]`` or ``[H, W, C]`` uint8 array, or ``[C, H, W]`` tensor (uint8, or float in
                0..1). C: 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha. Alpha is kept losslessly; ICC, EXIF and
                XMP of PIL images are kept, the EXIF orientation as metadata (the pixels are not turned). A
                `ConversionWarning` says what else is lost: of the pixels' depth, and of what the file of an image holds
                besides.
            quality: 0 (smallest) to 100 (best).
            roi: what to add to the quality at each pixel, ``[H, W]`` integers, for regions of interest. Tiles of 128
                pixels take the largest number in them.
            effort: 0 (plain rounding) to 9 (three thousand steps of a search for better symbols, which decode as fast).
                The search draws its random numbers from a fixed seed: on the same machine, with as many threads, it
                finds the same file.
            progress: called with the share of the search that is done, from 0 to 1. What it raises ends the search.
            thumbnail: store a copy at 1/8 of the size too, which ``scale=1/8`` then decodes alone, in little time.

        Raises:
            TypeError, ValueError: for what is no picture, a quality or effort out of range, or a roi of another size.
            LimitExceeded: for a side above 65535, more than ``max_pixels`` pixels, or 16 MiB of metadata of a kind.
            RuntimeError: on a device that is not exact, whose files could be read nowhere else.
        """
        quality, effort, prepared = _checked(quality), _checked_effort(effort), self._prepare(picture, thumbnail)
        if roi is None:
            return self._encode(prepared, [quality], coding.TILE, effort, progress)
        qualities = control.by_tile(roi, prepared.pixels.shape, quality)
        return self._encode(prepared, qualities, control.ROI_TILE, effort, progress)

    def compress_to(
        self,
        picture: Any,
        *,
        size: float | None = None,
        bpp: float | None = None,
        psnr: float | None = None,
        ssimulacra2: float | None = None,
        roi: Offsets | None = None,
        effort: int = 0,
        progress: Progress | None = None,
        thumbnail: bool = False,
    ) -> bytes:
        """The best file of at most ``size`` bytes or ``bpp`` bits per pixel, or the smallest of at least ``psnr`` dB or
        a score of ``ssimulacra2``.

        Files are encoded until neighbouring qualities lie on both sides of the target, about four of them. Where there
        are several tiles, some then get the better quality as far as the size allows. With ``roi``, it is the quality
        that its numbers are added to that is searched for, from 0 to 100. Size and score are taken to grow with the
        quality; in flat or tiny pictures they do not always, and a better file than the one found can exist.

        Args:
            picture: as for `compress`.
            size: of the whole file, metadata, alpha and thumbnail included.
            bpp: the same over the number of pixels, times 8.
            psnr: of the decoded 8-bit pixels, those under alpha 0 left aside.
            ssimulacra2: of the decoded 8-bit pixels, up to 100: 90 visually lossless, 70 high, 50 medium, 30 low
                quality. Gray counts as three equal channels, what alpha 0 hides as without error, and a side below 8
                pixels is made as long by repeating the last row or column. Computing it takes some 15 bytes of memory
                per pixel.
            roi: as for `compress`.
            effort: as for `compress`, spent on every file near the target that is tried, about three.
            progress: as for `compress`, for one file after the other.
            thumbnail: as for `compress`.

        Raises:
            TargetMissed: where no quality that was tried meets the target; it carries the nearest file.
            TypeError, ValueError, LimitExceeded: as `compress`, and unless exactly one target is given.
        """
        name, target = control.one_target({"size": size, "bpp": bpp, "psnr": psnr, "ssimulacra2": ssimulacra2})
        found = self._reach(picture, name, target, roi, effort, progress, thumbnail)
        if found.missed:
            raise TargetMissed(found.missed, found.data)
        return found.data

    def _reach(
        self,
        picture: Any,
        name: str,
        target: float,
        roi: Offsets | None,
        effort: int,
        progress: Progress | None,
        thumbnail: bool,
    ) -> Reached:
        """`compress_to` for those who want to know what was reached."""
        effort, prepared = _checked_effort(effort), self._prepare(picture, thumbnail)
        encode = cache(lambda quality, effort: self.compress(prepared, quality, roi, effort, progress))

        def above(measure: Callable[[int, int], float], goal: float, slope: float) -> int:
            """The first quality above the goal, found without effort first, so that this is spent on few files."""
            first = control.crossing(lambda quality: measure(quality, 0), goal, slope)
            if not effort:
                return first
            start = min(first, control.BEST)
            return control.crossing(lambda quality: measure(quality, effort), goal, slope, start)

        if name in control.SCALES:
            scale, original = control.SCALES[name], coding.tensor(prepared.pixels, torch.device("cpu")).numpy()
            visible = None if prepared.alpha is None else prepared.alpha > 0

            @cache
            def score(quality: int, effort: int) -> float:
                (decoded,) = self._pixels([container.read(encode(quality, effort), self.max_pixels)], None, 1)
                return scale.score(original, decoded.cpu().numpy(), visible)

            found = above(score, math.nextafter(target, -math.inf), scale.slope)
            quality = min(found, control.BEST)
            reached = score(quality, effort)
            missed = f"the best file has {scale.words.format(reached)}" if found > control.BEST else ""
            return Reached(encode(quality, effort), {name: reached}, missed)

        height, width, _ = prepared.pixels.shape
        # bits per pixel that were computed from a file's size mean that size, however the quotient was rounded
        limit = math.floor(target if name == "size" else target * height * width / 8 + 1e-6)
        goal = math.log2(limit) if limit > 0 else -1.0
        exceeds = above(lambda quality, effort: math.log2(len(encode(quality, effort))), goal, control.OCTAVES)
        if exceeds == 0:
            smallest = encode(0, effort)
            return Reached(smallest, {}, f"the smallest file has {len(smallest)} bytes")
        if exceeds > control.BEST:
            return Reached(encode(control.BEST, effort), {}, "")
        fits, larger = encode(exceeds - 1, effort), encode(exceeds, effort)
        return Reached(self._fill(prepared, fits, larger, limit, effort, progress), {}, "")

    def _fill(
        self, picture: Picture, fits: bytes, exceeds: bytes, limit: int, effort: int, progress: Progress | None
    ) -> bytes:
        """Give tiles of the smaller file the quality of the larger one, in raster order, while the file fits."""
        small, large = (container.read(data, self.max_pixels) for data in (fits, exceeds))
        room, qualities, raised = limit - len(fits), [tile.quality for tile in small.tiles], []
        for place, (low, high) in enumerate(zip(small.tiles, large.tiles, strict=True)):
            more = len(high.words) - len(low.words)
            if low.quality < high.quality and more <= room:
                room, qualities[place] = room - more, high.quality
                raised.append(place)
        drop = 1
        while raised:  # what a tile needs depends a little on its neighbours' quality
            data = self._encode(picture, qualities, small.header.tile_size, effort, progress)
            if len(data) <= limit:
                return data
            for place in raised[-drop:]:
                qualities[place] = small.tiles[place].quality
            del raised[-drop:]
            drop *= 2
        return fits

    def compress_many(self, pictures: Iterable[Any], quality: int = DEFAULT_QUALITY) -> Iterator[bytes]:
        """`compress` for each picture in order; one is entropy-coded while the next passes the networks.

        Neighbours of one size pass them together, up to 16 if they are small; where floats round otherwise then, a
        file may differ from that of `compress` by some bytes. Pictures are taken from the iterable as they are needed,
        not more than 20 ahead of the output. Raises RuntimeError where it is to go on in a forked child.
        """
        return self._compress_many(pictures, _checked(quality))

    def _compress_many(self, pictures: Iterable[Any], quality: int) -> Iterator[bytes]:
        pending: deque[Future[bytes]] = deque()
        process = os.getpid()

        def due() -> bytes:
            if os.getpid() != process:  # without the thread that codes
                raise RuntimeError("compress_many cannot go on in a forked child: begin it there")
            return pending.popleft().result()

        groups = _grouped(
            map(self._taken, pictures), lambda p: p.pixels.shape, lambda p: self._together(*p.pixels.shape[:2])
        )
        with ThreadPoolExecutor(1) as pool:
            while True:
                try:
                    group = next(groups)
                    tiles: list[list[tuple[int, list[Part]]]] = [[] for _ in group]
                    for tile in coding.symbols(self.model, [picture.pixels for picture in group], [quality]):
                        tiles[tile.picture].append((tile.place, tile.parts))
                except StopIteration:
                    break
                except Exception:
                    while pending:  # what came before the failure is still due
                        yield due()
                    raise
                for picture, own in zip(group, tiles, strict=True):
                    pending.append(pool.submit(self._write, picture, [quality], coding.TILE, own))
                while len(pending) >= IN_FLIGHT:
                    yield due()
            while pending:
                yield due()

    def _taken(self, picture: Any) -> Picture:
        """A picture of one's own: whoever gives arrays may use their memory for the next ones."""
        found = self._prepare(picture)
        pixels = coding.tensor(found.pixels, self.device)
        return replace(found, pixels=pixels, alpha=None if found.alpha is None else found.alpha.copy())

    def _together(self, height: int, width: int) -> int:
        """How many pictures of this size pass the networks at once."""
        latents = latent_size(height) * latent_size(width)
        return min(max(1, coding.BATCH[self.device.type] // latents), MOST_TOGETHER)

    def latents(self, source: Any, quality: int = DEFAULT_QUALITY) -> npt.NDArray[np.float32]:
        """Main and fine latents ŷ ``[ceil(H/16), ceil(W/16), N + M]``: what the synthesis sees, for pipelines that need
        no pixels.

        The latents are those of the file, in the one scale that all qualities share. Where the quality has no fine ones
        these are zero.

        Args:
            source: the bytes of an .aec file, or a picture as for `compress`, which is analysed and rounded.
            quality: of the picture's latents; a file has its own.

        Raises: what `decompress` or `compress` raises.

        >>> import numpy as np
        >>> Codec(device="cpu").latents(np.zeros((40, 60), np.uint8)).shape
        (3, 4, 320)
        """
        if isinstance(source, bytes | bytearray | memoryview):
            parsed = container.read(source, self.max_pixels)
            m = self._model_of(parsed.header)
            plane = coding.decode(m, parsed.header, [parsed.tiles])[0]
        else:
            pixels, quality, m = self._prepare(source).pixels, _checked(quality), self.model
            y = coding.analyse(m, [pixels], [quality])
            height, width = y.shape[1:3]
            plane = y.new_empty(height, width, coding.channels(m, [quality]))
            boxes = grid(height, width, coding.TILE // LATENT)
            for tile in coding.quantise(m, y, [quality]):
                plane[boxes[tile.place].rows, boxes[tile.place].columns] = tile.latents
        plane = F.pad(plane, (0, m.design.latents + m.design.fine - plane.shape[-1]))
        return (plane * 0.5**ACTIVATION_BITS).cpu().numpy()

    @cached_property
    def _exact(self) -> bool:
        """Whether the device computes the prior's numbers as numpy does, tried on a few of them."""
        prior = self.model.prior
        tensors = {name: value.cpu().numpy() for name, value in prior.tensors.items()}
        return prior.digest() == ExactPrior(tensors, np).digest()

    def _prepare(self, picture: Any, thumbnail: bool = False) -> Picture:
        if self.device.type != "cpu" and not self._exact:
            raise RuntimeError(f"device {self.device} is not exact: its files could be read nowhere else; take cpu")
        if isinstance(picture, Picture):
            prepared = picture
        else:
            prepared = image.from_any(picture, self.max_pixels)
            image.warn_of(prepared)
        container.check_metadata(prepared.metadata)
        if not thumbnail:
            return prepared
        pixels = coding.tensor(prepared.pixels, torch.device("cpu")).numpy()
        small = np.dstack([image.reduced(plane, THUMBNAIL) for plane in np.moveaxis(pixels, 2, 0)])
        found = sorted(coding.symbols(self.model, [small], [THUMBNAIL_QUALITY]), key=lambda tile: tile.place)
        tiles = [coding.code(self.model, tile.parts, THUMBNAIL_QUALITY) for tile in found]
        return replace(prepared, metadata={**prepared.metadata, "thumbnail": container.pack_thumbnail(tiles)})

    def _encode(
        self, picture: Picture, qualities: list[int], tile_size: int, effort: int, progress: Progress | None
    ) -> bytes:
        """``qualities``: one, or one for each tile."""
        if effort:
            tiles = search.symbols(self.model, picture.pixels, qualities, tile_size, effort, progress)
        else:
            found = coding.symbols(self.model, [picture.pixels], qualities, tile_size)
            tiles = ((tile.place, tile.parts) for tile in found)
        return self._write(picture, qualities, tile_size, tiles)

    def _write(
        self, picture: Picture, qualities: list[int], tile_size: int, tiles: Iterable[tuple[int, list[Part]]]
    ) -> bytes:
        height, width, _ = picture.pixels.shape
        header = Header(self.model.id, width, height, picture.mode, min(qualities), tile_size, picture.equal_colours)
        alpha = None if picture.alpha is None else image.encode_alpha(picture.alpha)
        each = qualities * (1 if len(qualities) > 1 else header.tile_count)
        coded = {place: coding.code(self.model, parts, each[place]) for place, parts in tiles}
        in_order = [coded[place] for place in range(header.tile_count)]
        return container.write(Container(header, in_order, dict(picture.metadata), alpha))

    # Decoding

    @overload
    def decompress(
        self,
        data: Data,
        output: Literal["pil"] = "pil",
        errors: Errors = "strict",
        region: Rectangle | None = None,
        scale: float = 1,
    ) -> "Image.Image": ...
    @overload
    def decompress(
        self,
        data: Data,
        output: Literal["numpy"],
        errors: Errors = "strict",
        region: Rectangle | None = None,
        scale: float = 1,
    ) -> Plane: ...
    @overload
    def decompress(
        self,
        data: Data,
        output: Literal["torch"],
        errors: Errors = "strict",
        region: Rectangle | None = None,
        scale: float = 1,
    ) -> Tensor: ...

    def decompress(
        self,
        data: Data,
        output: Output = "pil",
        errors: Errors = "strict",
        region: Rectangle | None = None,
        scale: float = 1,
    ) -> Decoded:
        """The picture of an .aec file.

        Args:
            data: the bytes of the file (or a bytearray or memoryview of them).
            output: ``"pil"``, ``"numpy"`` (``[H, W, C]`` uint8) or ``"torch"`` (``[C, H, W]`` uint8, on the codec's
                device).
            errors: ``"conceal"`` decodes what there is of a damaged file whose header is whole, with a `DamageWarning`
                that says which tiles are missing: they are filled from their neighbours, and what is missing of the
                alpha plane is opaque.
            region: (x, y, width, height) of the only pixels that are wanted, within the picture. Only the tiles around
                are decoded, but all of them with ``errors="conceal"``; the pixels are those of the whole picture, to
                within the rounding of floats.
            scale: 1, 1/2, 1/4 or 1/8: a smaller picture, each pixel the mean of a square of pixels, in less time; sides
                are rounded up, and squares at the right and bottom edges may take in what the decoder makes up beyond
                the picture. At 1/8 it is the file's thumbnail if there is one, else an estimate from the latents,
                without the synthesis. With a region, what comes out is every pixel of the smaller picture that the
                region touches.

        Raises:
            AecError: one of its subclasses, whatever is wrong with the bytes.
            TypeError: for what is no bytes.
            ValueError: for a region that is not within the picture, or another scale.
        """
        return self._decompress(data, output, errors, region, scale)

    def _decompress(
        self, data: Data, output: Output, errors: Errors, region: Rectangle | None, scale: float
    ) -> Decoded:
        """What the method and the function of that name share: a warning names the line that called either."""
        if errors not in ("strict", "conceal"):
            raise ValueError(f"errors {errors!r}: expected strict or conceal")
        shrink = _shrink(scale)
        _check_output(output)
        if errors == "conceal":
            pixels, alpha, metadata, damage = self._remains(data, region, shrink)
            if damage:
                warnings.warn(damage, DamageWarning, stacklevel=3)
            return _finish(pixels, alpha, metadata, output)
        parsed = container.read(data, self.max_pixels)
        alpha = _alpha(parsed, region, shrink)  # first: it is cheap to refuse
        return _finish(self._pixels([parsed], region, shrink)[0], alpha, parsed.metadata, output)

    @overload
    def decompress_many(
        self, files: Iterable[Data], output: Literal["pil"] = "pil", scale: float = 1
    ) -> "Iterator[Image.Image]": ...
    @overload
    def decompress_many(self, files: Iterable[Data], output: Literal["numpy"], scale: float = 1) -> Iterator[Plane]: ...
    @overload
    def decompress_many(
        self, files: Iterable[Data], output: Literal["torch"], scale: float = 1
    ) -> Iterator[Tensor]: ...

    def decompress_many(self, files: Iterable[Data], output: Output = "pil", scale: float = 1) -> Iterator[Decoded]:
        """`decompress` for each file in order. Neighbours of one size and quality pass the networks together, if they
        are small.
        """
        _check_output(output)
        return self._decompress_many(files, output, _shrink(scale))

    def _decompress_many(self, files: Iterable[Data], output: Output, shrink: int) -> Iterator[Decoded]:
        def opened(data: Data) -> tuple[Container, Plane | None]:
            parsed = container.read(data, self.max_pixels)
            return parsed, _alpha(parsed, None, shrink)  # before any network: it is cheap to refuse

        def key(item: tuple[Container, Plane | None]) -> Any:
            parsed = item[0]
            h, qualities = parsed.header, [tile.quality for tile in parsed.tiles]
            small = shrink == THUMBNAIL and "thumbnail" in parsed.metadata
            return h.model, h.width, h.height, h.tile_size, h.mode.removesuffix("A"), h.equal_colours, qualities, small

        def size(item: tuple[Container, Plane | None]) -> int:
            return self._together(item[0].header.height, item[0].header.width)

        for group in _grouped(map(opened, files), key, size):
            planes: Iterable[Tensor]
            try:
                planes = self._pixels([parsed for parsed, _ in group], None, shrink)
            except Corrupt:  # in one of them; those before it are still due
                planes = (self._pixels([parsed], None, shrink)[0] for parsed, _ in group)
            for (parsed, alpha), pixels in zip(group, planes, strict=True):
                yield _finish(pixels, alpha, parsed.metadata, output)

    def salvage(self, data: Data, *, region: Rectangle | None = None, scale: float = 1) -> tuple["Image.Image", str]:
        """`decompress` with ``errors="conceal"``, but what is missing is given in words, empty if it is nothing."""
        pixels, alpha, metadata, damage = self._remains(data, region, _shrink(scale))
        return image.to_any(Picture(pixels.cpu().numpy(), alpha, metadata), "pil"), damage

    def preview(self, data: Data, *, region: Rectangle | None = None, scale: float = 1) -> "Image.Image":
        """The picture as far as the first bytes of a file tell, while the others are still on their way.

        As `salvage`, but nothing is wrong with a file that goes on. Raises `Truncated` as long as the header is not
        there, and `NotAec` for no bytes at all.
        """
        return self.salvage(data, region=region, scale=scale)[0]

    def verify(self, data: Data) -> Header:
        """Check a whole file, decoding every symbol but no pixels. Raises `AecError`; returns the header."""
        parsed = container.read(data, self.max_pixels)
        files = [parsed]
        if parsed.alpha is not None:  # first: it is cheap to refuse
            image.decode_alpha(parsed.alpha, parsed.header.height, parsed.header.width)
        if "thumbnail" in parsed.metadata:
            files.append(container.thumbnail(parsed.header, parsed.metadata["thumbnail"]))
        for file in files:
            coding.decode(self._model_of(file.header), file.header, [file.tiles])
        return parsed.header

    def _pixels(self, files: Sequence[Container], region: Rectangle | None, shrink: int) -> Tensor:
        """Bytes ``[B, H, W, C]`` of files that share header and qualities, and whether they have thumbnails."""
        h, qualities = files[0].header, [tile.quality for tile in files[0].tiles]
        m, box = self._model_of(h), _box(region, h)
        if shrink == THUMBNAIL and "thumbnail" in files[0].metadata:
            return torch.cat([self._thumbnail(h, parsed.metadata["thumbnail"], box) for parsed in files])
        halo = coding.halo(m, shrink)
        area = box.covering(LATENT).grown(halo, latent_size(h.height), latent_size(h.width))
        latents = coding.decode(m, h, [parsed.tiles for parsed in files], area)
        return coding.synthesise(m, latents, area, h, qualities, box, shrink)

    def _thumbnail(self, header: Header, payload: bytes, box: Box) -> Tensor:
        """Bytes ``[1, H, W, C]`` of what a box of the picture covers of its thumbnail. Raises `Corrupt`."""
        part = box.covering(THUMBNAIL)
        return self._pixels([container.thumbnail(header, payload)], (part.left, part.top, part.width, part.height), 1)

    def _remains(
        self, data: Data, region: Rectangle | None, shrink: int
    ) -> tuple[Tensor, Plane | None, Mapping[str, bytes], str]:
        """Pixels, alpha and metadata, and what of them is damaged."""
        found = salvage.parse(data, self.max_pixels)
        h, m = found.header, self._model_of(found.header)
        box, pixels, damage = _box(region, h), None, ""
        if shrink == THUMBNAIL and "thumbnail" in found.metadata:
            with contextlib.suppress(Corrupt):  # then there is the estimate
                pixels = self._thumbnail(h, found.metadata["thumbnail"], box)[0]
        if pixels is None:
            latents, damage = salvage.decode(m, found)
            area = Box(0, 0, *latents.shape[:2])
            qualities = [tile.quality if tile else h.quality for tile in found.tiles]
            pixels = coding.synthesise(m, latents[None], area, h, qualities, box, shrink)[0]
        alpha = None
        if h.has_alpha:
            try:
                alpha = image.decode_alpha(found.alpha or b"", h.height, h.width)
            except Corrupt:
                alpha = image.salvage_alpha(found.alpha or b"", h.height, h.width)
                damage += f"{'; ' if damage else ''}the alpha plane is damaged"
            alpha = _part(alpha, box, shrink)
        return pixels, alpha, found.metadata, damage

    def _model_of(self, header: Header) -> model.Model:
        if header.model == self.model.id:
            return self.model
        return _installed(registry.find(header.model), self.device)


def _device(name: str) -> torch.device:
    if name.startswith("cpu"):  # without a look for GPUs, which some processes must not touch
        return torch.device(name)
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = torch.device(name if name != "auto" else "cuda" if gpus else "cpu")
    if found.type == "cuda" and (found.index or 0) >= gpus:
        raise ValueError(f"device {name!r}: torch finds {gpus or 'no'} GPU{'s' if gpus > 1 else ''}")
    return found


def _installed(path: Path, device: torch.device) -> model.Model:
    with LOADING:  # threads that ask at the same time wait for one of them
        return model.load_installed(path, device)


def _grouped(items: Iterable[T], key: Callable[[T], Any], size: Callable[[T], int]) -> Iterator[list[T]]:
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


def _shrink(scale: float) -> int:
    for shrink in (1, 2, 4, 8):
        if scale * shrink == 1:
            return shrink
    raise ValueError(f"scale {scale}: expected 1, 1/2, 1/4 or 1/8")


def _check_output(output: str) -> None:
    if output not in ("pil", "numpy", "torch"):
        raise ValueError(f"output {output!r}: expected pil, numpy or torch")


def _box(region: Rectangle | None, header: Header) -> Box:
    if region is None:
        return Box(0, 0, header.height, header.width)
    x, y, width, height = map(operator.index, region)
    if min(x, y) < 0 or min(width, height) < 1 or x + width > header.width or y + height > header.height:
        raise ValueError(f"region {x},{y},{width},{height}: not within the {header.width}x{header.height} pixels")
    return Box(y, x, height, width)


def _alpha(parsed: Container, region: Rectangle | None, shrink: int) -> Plane | None:
    if parsed.alpha is None:
        return None
    h = parsed.header
    return _part(image.decode_alpha(parsed.alpha, h.height, h.width), _box(region, h), shrink)


def _part(alpha: Plane, box: Box, shrink: int) -> Plane:
    """What a box covers of the smaller picture."""
    whole = box.covering(shrink).scaled(shrink)  # up to pixels that are whole there, or to the picture's end
    return image.reduced(alpha[whole.rows, whole.columns], shrink)


def _finish(pixels: Tensor, alpha: Plane | None, metadata: Mapping[str, bytes], output: Output) -> Decoded:
    """What the caller wants, of bytes ``[H, W, C]``."""
    if output != "torch":
        return image.to_any(Picture(pixels.cpu().numpy(), alpha, metadata), output)
    planes = [pixels] if alpha is None else [pixels, torch.from_numpy(alpha).to(pixels.device)[:, :, None]]
    return torch.cat(planes, 2).permute(2, 0, 1).contiguous()


def _checked(quality: int) -> int:
    quality = operator.index(quality)
    if not 0 <= quality <= 100:
        raise ValueError(f"quality {quality}: expected 0 to 100")
    return quality


def _checked_effort(effort: int) -> int:
    effort = operator.index(effort)
    if not 0 <= effort <= search.MOST:
        raise ValueError(f"effort {effort}: expected 0 to {search.MOST}")
    return effort


@lru_cache(maxsize=4)
def _shared(device: Device) -> Codec:
    return Codec(device)


def compress(
    picture: Any,
    quality: int = DEFAULT_QUALITY,
    device: Device = "auto",
    effort: int = 0,
    roi: Offsets | None = None,
    thumbnail: bool = False,
) -> bytes:
    """`Codec.compress` with a shared codec of the default weights.

    >>> import aecodec
    >>> from PIL import Image
    >>> data = aecodec.compress(Image.new("RGB", (64, 48), "teal"), quality=30)
    >>> aecodec.decompress(data).size
    (64, 48)
    """
    return _shared(device).compress(picture, quality, roi, effort, thumbnail=thumbnail)


@overload
def decompress(
    data: Data,
    output: Literal["pil"] = "pil",
    device: Device = "auto",
    errors: Errors = "strict",
    region: Rectangle | None = None,
    scale: float = 1,
) -> "Image.Image": ...
@overload
def decompress(
    data: Data,
    output: Literal["numpy"],
    device: Device = "auto",
    errors: Errors = "strict",
    region: Rectangle | None = None,
    scale: float = 1,
) -> Plane: ...
@overload
def decompress(
    data: Data,
    output: Literal["torch"],
    device: Device = "auto",
    errors: Errors = "strict",
    region: Rectangle | None = None,
    scale: float = 1,
) -> Tensor: ...


def decompress(
    data: Data,
    output: Output = "pil",
    device: Device = "auto",
    errors: Errors = "strict",
    region: Rectangle | None = None,
    scale: float = 1,
) -> Decoded:
    """`Codec.decompress` with a shared codec.

    >>> import aecodec, numpy as np
    >>> data = aecodec.compress(np.zeros((20, 30), np.uint8))
    >>> aecodec.decompress(data, "numpy").shape
    (20, 30, 1)
    """
    return _shared(device)._decompress(data, output, errors, region, scale)
