"""The codec: pictures to bytes and back."""

import contextlib
import math
import operator
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, Union, overload

import numpy as np
import numpy.typing as npt

from . import alpha_plane, container, decoder, devices, encoder, files, image, recovery, registry, roi, targets
from .container import DEFAULT_QUALITY, THUMBNAIL, Container, Data, Header
from .encoder import Quantised
from .errors import Corrupt, DamageWarning, TargetMissed
from .geometry import Box, Tiling, View
from .image import Picture, Plane
from .loading import LOADING
from .model import weights as model
from .model.entropy import EntropyModel
from .model.fixed_point import ACTIVATION_BITS
from .model.structure import Array
from .roi import Offsets
from .streams import MOST_TOGETHER, grouped
from .targets import Attempt, Reached

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

IN_FLIGHT = 3  # images of `compress_many` between analysis and output
MOST_STARTED = 1 << 24  # pixels of a picture of which `compress_to` keeps what all qualities share, 12 bytes for each
MOST_EFFORT = 9

Source = str | os.PathLike[str] | IO[bytes]  # a file: its path, or one that is open
ImageLike = Union["Image.Image", npt.NDArray[Any], "Tensor", Source, Picture]
Errors = Literal["strict", "conceal"]
Output = Literal["pil", "numpy", "torch"]
Decoded = Union["Image.Image", Plane, "Tensor"]
Rectangle = tuple[int, int, int, int]  # x, y, width, height in pixels
Progress = Callable[[float], object]  # called with a share from 0 to 1


class Codec:
    """Compresses and decompresses many pictures with one set of weights on one device.

    Safe to share between threads; pickles as its arguments. A forked child can use it too, on a CPU: since torch's
    threads do not come along, it computes with one, and must not ask torch for more. For a GPU, processes have to be
    started with the method "spawn". Files of these and of all installed weights can be decompressed.

    Args:
        device: ``"auto"`` takes a GPU if there is one, else the CPU; ``"cuda:1"`` is the second GPU. What files decode
            to does not depend on it. A CPU computes with torch where the process has imported it, else with NumPy.
        weights: what to compress with: the name of installed weights, or else a weights file.
        max_pixels: pictures with more pixels are refused with `LimitExceeded`, before any work is done.

    >>> import numpy as np
    >>> codec = Codec(device="cpu")
    >>> data = codec.compress(np.zeros((40, 60, 3), np.uint8), quality=50)
    >>> codec.decompress(data).size
    (60, 40)
    """

    def __init__(self, device: object = "auto", weights: str | Path = "base", max_pixels: int = container.MAX_PIXELS):
        name = registry.device(device)
        installed = registry.named(weights) if isinstance(weights, str) else None
        path = installed or Path(weights).absolute()  # whoever unpickles may be in another folder
        if not path.is_file():
            raise ValueError(f"no weights {str(weights)!r}")
        self._arguments: tuple[Any, ...] = (name, weights if installed else path, max_pixels)
        self.max_pixels = max_pixels
        self.device, self._torch = devices.choose(name)
        self._path, self._installed = path, bool(installed)
        self.model = self._load(self._torch)

    def __reduce__(self) -> tuple[type["Codec"], tuple[Any, ...]]:
        return Codec, self._arguments

    @cached_property
    def _on_torch(self) -> model.Model:
        """The model as a search needs it, which takes gradients."""
        return self.model if self._torch else self._load(torch=True)

    def _load(self, torch: bool) -> model.Model:
        return (_installed if self._installed else model.load)(self._path, self.device, torch)

    # Encoding

    def compress(
        self,
        picture: ImageLike,
        quality: int = DEFAULT_QUALITY,
        *,
        roi: Offsets | None = None,
        effort: int = 0,
        thumbnail: bool = False,
        progress: Progress | None = None,
    ) -> bytes:
        """An .aec file of a picture.

        Args:
            picture: a PIL image, an array ``[H, W]`` or ``[H, W, C]``, a tensor ``[C, H, W]`` (bytes or floats in 0..1
                both), the path of an image file, or a file that is open. C: 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and
                alpha. Alpha is kept losslessly; ICC, EXIF and XMP of images are kept, the EXIF orientation as metadata
                (the pixels are not turned). A `ConversionWarning` says what else is lost: of the pixels' depth, and of
                what the file of an image holds besides.
            quality: 0 (smallest) to 100 (best).
            roi: what to add to the quality at each pixel, ``[H, W]`` integers, for regions of interest. Tiles of 128
                pixels take the largest number in them.
            effort: 0 (plain rounding) to 9 (three thousand steps of a search for better symbols, which decode as fast).
                It needs torch. The search draws its random numbers from a fixed seed: on the same machine, with as many
                threads, it finds the same file.
            thumbnail: store a copy at 1/8 of the size too, which ``scale=1/8`` then decodes alone, in little time.
            progress: called with the share of the search that is done, from 0 to 1. What it raises ends the search.

        Raises:
            TypeError, ValueError: for what is no picture, a quality or effort out of range, or a roi of another size.
            OSError: for a file that cannot be read.
            LimitExceeded: for a side above 65535, more than ``max_pixels`` pixels, or 16 MiB of metadata of a kind.
            RuntimeError: on a device that is not exact, whose files could be read nowhere else.
            TorchMissing: for an effort without torch.
        """
        quality, effort, prepared = _checked(quality), _checked_effort(effort), self._prepare(picture, thumbnail)
        tiling = _tiling(prepared, roi, quality)
        return self._pack(prepared, tiling, self._tiles(prepared, tiling, effort, progress))

    def compress_to(
        self,
        picture: ImageLike,
        *,
        size: float | None = None,
        bpp: float | None = None,
        psnr: float | None = None,
        ssimulacra2: float | None = None,
        roi: Offsets | None = None,
        effort: int = 0,
        thumbnail: bool = False,
        progress: Progress | None = None,
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
            thumbnail: as for `compress`.
            progress: as for `compress`, for one file after the other.

        Raises:
            TargetMissed: where no quality that was tried meets the target; it carries the nearest file.
            TypeError, ValueError, LimitExceeded and others: as `compress`, and unless exactly one target is given.
        """
        name, target = targets.one_target({"size": size, "bpp": bpp, "psnr": psnr, "ssimulacra2": ssimulacra2})
        found = self._reach(picture, name, target, roi, effort, thumbnail, progress)
        if found.missed:
            raise TargetMissed(found.missed, found.data)
        return found.data

    def _reach(
        self,
        picture: ImageLike,
        name: str,
        target: float,
        roi: Offsets | None,
        effort: int,
        thumbnail: bool,
        progress: Progress | None,
    ) -> Reached:
        """`compress_to` for those who want to know what was reached."""
        effort, prepared = _checked_effort(effort), self._prepare(picture, thumbnail)
        height, width, _ = prepared.pixels.shape
        alpha, started = _packed_alpha(prepared), dict[Box, Array]() if height * width <= MOST_STARTED else None
        scale = targets.SCALES.get(name)
        visible = None if prepared.alpha is None else prepared.alpha > 0

        def attempt(tiling: Tiling, effort: int) -> Attempt:
            tiles = self._tiles(prepared, tiling, effort, progress, started)
            if not scale:
                return Attempt(encoder.pack(self.model, prepared, alpha, tiling, tiles), math.nan)
            m, view, gray = self.model, View.whole(tiling.height, tiling.width), prepared.pixels.shape[2] == 1
            latents, tiles = decoder.assemble(m, tiling, tiles)
            pixels = decoder.synthesise(m, latents, tiling.whole, tiling, view, gray)
            score = scale.score(image.plane(prepared.pixels), m.ops.numpy(pixels[0]), visible)
            return Attempt(encoder.pack(m, prepared, alpha, tiling, tiles), score)

        return targets.reach(attempt, lambda quality: _tiling(prepared, roi, quality), name, target, effort)

    def compress_many(self, pictures: Iterable[ImageLike], quality: int = DEFAULT_QUALITY) -> Iterator[bytes]:
        """`compress` for each picture in order; one is entropy-coded while the next passes the networks.

        Neighbours of one size pass them together, up to 16 if they are small; where floats round otherwise then, a
        file may differ from that of `compress` by some bytes. Pictures are taken from the iterable as they are needed,
        not more than 20 ahead of the output. Raises RuntimeError where it is to go on in a forked child.
        """
        return self._compress_many(pictures, _checked(quality))

    def _compress_many(self, pictures: Iterable[ImageLike], quality: int) -> Iterator[bytes]:
        pending: deque[Future[bytes]] = deque()
        process = os.getpid()

        def due() -> bytes:
            if os.getpid() != process:  # without the thread that codes
                raise RuntimeError("compress_many cannot go on in a forked child: begin it there")
            return pending.popleft().result()

        groups = grouped(
            map(self._taken, pictures), lambda p: p.pixels.shape, lambda p: self._together(*p.pixels.shape[:2])
        )
        with ThreadPoolExecutor(1) as pool:
            while True:
                try:
                    group = next(groups)
                    tiling = Tiling.uniform(group[0].pixels.shape, quality)
                    tiles: list[list[Quantised]] = [[] for _ in group]
                    for tile in encoder.symbols(self.model, [picture.pixels for picture in group], tiling):
                        tiles[tile.picture].append(tile)
                except StopIteration:
                    break
                except Exception:
                    while pending:  # what came before the failure is still due
                        yield due()
                    raise
                for picture, own in zip(group, tiles, strict=True):
                    pending.append(pool.submit(self._pack, picture, tiling, own))
                while len(pending) >= IN_FLIGHT:
                    yield due()
            while pending:
                yield due()

    def latents(self, source: Data | ImageLike, quality: int = DEFAULT_QUALITY) -> npt.NDArray[np.float32]:
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
            plane = decoder.decode_latents(m, [parsed.tiles], decoder.tiling_of(parsed.header, parsed.tiles))
        else:
            pixels, m = self._prepare(source).pixels, self.model
            tiling = Tiling.uniform(pixels.shape, _checked(quality))
            plane, _ = decoder.assemble(m, tiling, encoder.symbols(m, [pixels], tiling))
        found = m.ops.numpy(plane[0]) * np.float32(0.5**ACTIVATION_BITS)
        return np.pad(found, ((0, 0), (0, 0), (0, m.design.latents + m.design.fine - found.shape[2])))

    @cached_property
    def _exact(self) -> bool:
        """Whether the device computes the entropy model's numbers as NumPy does, tried on a few of them."""
        expected = registry.metadata(self._path).get("prior_digest")
        return self.model.entropy.digest() == (expected or EntropyModel(model.tensors(self._path)).digest())

    def _prepare(self, picture: ImageLike, thumbnail: bool = False) -> Picture:
        if self.device != "cpu" and not self._exact:
            raise RuntimeError(f"device {self.device} is not exact: its files could be read nowhere else; take cpu")
        if isinstance(picture, Picture):
            prepared = picture
        else:
            if isinstance(picture, str | os.PathLike) or hasattr(picture, "readinto"):
                prepared = files.open_picture(_read(picture), self.max_pixels)
            else:
                prepared = image.from_any(picture, self.max_pixels)
            image.warn_of(prepared)
        container.check_metadata(prepared.metadata)
        return encoder.with_thumbnail(self.model, prepared) if thumbnail else prepared

    def _taken(self, picture: ImageLike) -> Picture:
        """A picture of one's own: whoever gives arrays may use their memory for the next ones."""
        found = self._prepare(picture)
        pixels: Any = found.pixels
        pixels = pixels.copy() if isinstance(pixels, np.ndarray) else pixels.clone()
        return replace(found, pixels=pixels, alpha=None if found.alpha is None else found.alpha.copy())

    def _together(self, height: int, width: int) -> int:
        """How many pictures of this size pass the networks at once."""
        whole = Tiling.uniform((height, width), DEFAULT_QUALITY).whole
        return min(max(1, encoder.together(self.model) // (whole.height * whole.width)), MOST_TOGETHER)

    def _tiles(
        self,
        picture: Picture,
        tiling: Tiling,
        effort: int,
        progress: Progress | None,
        started: dict[Box, Array] | None = None,
    ) -> Iterable[Quantised]:
        if not effort:
            y = encoder.analyse(self.model, [picture.pixels], tiling, started=started)
            return encoder.quantise(self.model, y, tiling)
        devices.torch_for("an effort")
        from . import refine

        return refine.symbols(self._on_torch, picture.pixels, tiling, effort, progress)

    def _pack(self, picture: Picture, tiling: Tiling, tiles: Iterable[Quantised]) -> bytes:
        return encoder.pack(self.model, picture, _packed_alpha(picture), tiling, tiles)

    # Decoding

    @overload
    def decompress(
        self,
        data: Data | Source,
        output: Literal["pil"] = "pil",
        *,
        errors: Errors = "strict",
        region: Rectangle | None = None,
        scale: float = 1,
    ) -> "Image.Image": ...
    @overload
    def decompress(
        self,
        data: Data | Source,
        output: Literal["numpy"],
        *,
        errors: Errors = "strict",
        region: Rectangle | None = None,
        scale: float = 1,
    ) -> Plane: ...
    @overload
    def decompress(
        self,
        data: Data | Source,
        output: Literal["torch"],
        *,
        errors: Errors = "strict",
        region: Rectangle | None = None,
        scale: float = 1,
    ) -> "Tensor": ...

    def decompress(
        self,
        data: Data | Source,
        output: Output = "pil",
        *,
        errors: Errors = "strict",
        region: Rectangle | None = None,
        scale: float = 1,
    ) -> Decoded:
        """The picture of an .aec file.

        Args:
            data: the bytes of the file (or a bytearray or memoryview of them), its path, or a file that is open.
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
            TypeError: for what is no bytes and no file.
            OSError: for a file that cannot be read.
            ValueError: for a region that is not within the picture, or another scale.
            TorchMissing: for tensors without torch.
        """
        if errors not in ("strict", "conceal"):
            raise ValueError(f"errors {errors!r}: expected strict or conceal")
        shrink = _shrink(scale)
        _check_output(output)
        whole = _read(data)
        if errors == "conceal":
            pixels, alpha, metadata, damage = self._remains(whole, region, shrink)
            if damage:
                warnings.warn(damage, DamageWarning, stacklevel=2)
            return self._finish(pixels, alpha, metadata, output)
        parsed = container.read(whole, self.max_pixels)
        view = _view(region, parsed.header, shrink)
        alpha = _alpha(parsed, view)  # first: it is cheap to refuse
        return self._finish(self._pixels([parsed], view)[0], alpha, parsed.metadata, output)

    @overload
    def decompress_many(
        self, files: Iterable[Data | Source], output: Literal["pil"] = "pil", *, scale: float = 1
    ) -> "Iterator[Image.Image]": ...
    @overload
    def decompress_many(
        self, files: Iterable[Data | Source], output: Literal["numpy"], *, scale: float = 1
    ) -> Iterator[Plane]: ...
    @overload
    def decompress_many(
        self, files: Iterable[Data | Source], output: Literal["torch"], *, scale: float = 1
    ) -> "Iterator[Tensor]": ...

    def decompress_many(
        self, files: Iterable[Data | Source], output: Output = "pil", *, scale: float = 1
    ) -> Iterator[Decoded]:
        """`decompress` for each file in order. Neighbours of one size and quality pass the networks together, if they
        are small.
        """
        _check_output(output)
        return self._decompress_many(files, output, _shrink(scale))

    def _decompress_many(self, files: Iterable[Data | Source], output: Output, shrink: int) -> Iterator[Decoded]:
        def opened(data: Data | Source) -> tuple[Container, Plane | None]:
            parsed = container.read(_read(data), self.max_pixels)
            return parsed, _alpha(parsed, _view(None, parsed.header, shrink))  # before any network

        def key(item: tuple[Container, Plane | None]) -> Any:
            parsed = item[0]
            h, qualities = parsed.header, [tile.quality for tile in parsed.tiles]
            small = shrink == THUMBNAIL and "thumbnail" in parsed.metadata
            return h.model, h.width, h.height, h.tile_size, h.mode.removesuffix("A"), h.equal_colours, qualities, small

        def size(item: tuple[Container, Plane | None]) -> int:
            return self._together(item[0].header.height, item[0].header.width)

        for group in grouped(map(opened, files), key, size):
            view = _view(None, group[0][0].header, shrink)
            planes: Iterable[Array]
            try:
                planes = self._pixels([parsed for parsed, _ in group], view)
            except Corrupt:  # in one of them; those before it are still due
                planes = (self._pixels([parsed], view)[0] for parsed, _ in group)
            for (parsed, alpha), pixels in zip(group, planes, strict=True):
                yield self._finish(pixels, alpha, parsed.metadata, output)

    def salvage(
        self, data: Data | Source, *, region: Rectangle | None = None, scale: float = 1
    ) -> tuple["Image.Image", str]:
        """`decompress` with ``errors="conceal"``, but what is missing is given in words, empty if it is nothing."""
        pixels, alpha, metadata, damage = self._remains(_read(data), region, _shrink(scale))
        return image.to_any(Picture(self.model.ops.numpy(pixels), alpha, metadata), "pil"), damage

    def preview(self, data: Data | Source, *, region: Rectangle | None = None, scale: float = 1) -> "Image.Image":
        """The picture as far as the first bytes of a file tell, while the others are still on their way.

        As `salvage`, but nothing is wrong with a file that goes on. Raises `Truncated` as long as the header is not
        there, and `NotAec` for no bytes at all.
        """
        return self.salvage(data, region=region, scale=scale)[0]

    def verify(self, data: Data | Source) -> Header:
        """Check a whole file, decoding every symbol but no pixels. Raises `AecError`; returns the header."""
        parsed = container.read(_read(data), self.max_pixels)
        found = [parsed]
        if parsed.alpha is not None:  # first: it is cheap to refuse
            alpha_plane.decode(parsed.alpha, parsed.header.height, parsed.header.width)
        if "thumbnail" in parsed.metadata:
            found.append(container.thumbnail(parsed.header, parsed.metadata["thumbnail"]))
        for file in found:
            tiling = decoder.tiling_of(file.header, file.tiles)
            decoder.decode_latents(self._model_of(file.header), [file.tiles], tiling)
        return parsed.header

    def _pixels(self, files: list[Container], view: View) -> Array:
        return decoder.decode(self._model_of(files[0].header), files, view)

    def _remains(
        self, data: Data, region: Rectangle | None, shrink: int
    ) -> tuple[Array, Plane | None, Mapping[str, bytes], str]:
        """Pixels, alpha and metadata, and what of them is damaged."""
        found = recovery.parse(data, self.max_pixels)
        h, m = found.header, self._model_of(found.header)
        view, pixels, damage = _view(region, h, shrink), None, ""
        if shrink == THUMBNAIL and "thumbnail" in found.metadata:
            with contextlib.suppress(Corrupt):  # then there is the estimate
                pixels = decoder.thumbnail(m, h, found.metadata["thumbnail"], view.box)[0]
        if pixels is None:
            latents, damage = recovery.decode(m, found)
            tiling = decoder.tiling_of(h, found.tiles)
            pixels = decoder.in_mode(h, decoder.synthesise(m, latents[None], tiling.whole, tiling, view, h.is_gray))[0]
        alpha = None
        if h.has_alpha:
            try:
                alpha = alpha_plane.decode(found.alpha or b"", h.height, h.width)
            except Corrupt:
                alpha = alpha_plane.salvage(found.alpha or b"", h.height, h.width)
                damage += f"{'; ' if damage else ''}the alpha plane is damaged"
            alpha = _part(alpha, view)
        return pixels, alpha, found.metadata, damage

    def _model_of(self, header: Header) -> model.Model:
        if header.model == self.model.id:
            return self.model
        return _installed(registry.find(header.model), self.device, self._torch)

    def _finish(self, pixels: Array, alpha: Plane | None, metadata: Mapping[str, bytes], output: Output) -> Decoded:
        """What the caller wants, of bytes ``[H, W, C]``."""
        if output != "torch":
            return image.to_any(Picture(self.model.ops.numpy(pixels), alpha, metadata), output)
        torch = devices.torch_for("a tensor")
        planes = [torch.as_tensor(p) for p in (pixels, *([] if alpha is None else [alpha[:, :, None]]))]
        found: Tensor = torch.cat([p.to(planes[0].device) for p in planes], 2).permute(2, 0, 1).contiguous()
        return found


class _Shared(Codec):
    """The codec of the default weights, which is made when it is first used."""

    def __init__(self) -> None:
        self._arguments = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        with LOADING:  # threads that ask at the same time wait for one of them
            if "model" not in self.__dict__:
                Codec.__init__(self)
        return self.__dict__[name]


_shared = _Shared()
compress, decompress = _shared.compress, _shared.decompress


def _installed(path: Path, device: str, torch: bool) -> model.Model:
    with LOADING:  # threads that ask at the same time wait for one of them
        return model.load_installed(path, device, torch)


def _read(source: Any) -> Any:
    """The bytes of a file, where it is one that is given."""
    if isinstance(source, str | os.PathLike):
        return Path(source).read_bytes()
    data = source.read() if hasattr(source, "read") else source
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"expected bytes, a path or a file opened in binary mode, not {type(source).__name__}")
    return data


def _tiling(picture: Picture, offsets: Offsets | None, quality: int) -> Tiling:
    height, width, _ = picture.pixels.shape
    if offsets is None:
        return Tiling.uniform((height, width), quality)
    return roi.tiling(offsets, height, width, quality)


def _packed_alpha(picture: Picture) -> bytes | None:
    return None if picture.alpha is None else alpha_plane.encode(picture.alpha)


def _shrink(scale: float) -> int:
    for shrink in (1, 2, 4, 8):
        if scale * shrink == 1:
            return shrink
    raise ValueError(f"scale {scale}: expected 1, 1/2, 1/4 or 1/8")


def _check_output(output: str) -> None:
    if output not in ("pil", "numpy", "torch"):
        raise ValueError(f"output {output!r}: expected pil, numpy or torch")


def _view(region: Rectangle | None, header: Header, shrink: int) -> View:
    if region is None:
        return View.whole(header.height, header.width, shrink)
    if len(region) != 4:
        raise ValueError(f"region {region}: expected x, y, width and height")
    x, y, width, height = map(operator.index, region)
    if min(x, y) < 0 or min(width, height) < 1 or x + width > header.width or y + height > header.height:
        raise ValueError(f"region {x},{y},{width},{height}: not within the {header.width}x{header.height} pixels")
    return View(Box(y, x, height, width), shrink)


def _alpha(parsed: Container, view: View) -> Plane | None:
    if parsed.alpha is None:
        return None
    return _part(alpha_plane.decode(parsed.alpha, parsed.header.height, parsed.header.width), view)


def _part(alpha: Plane, view: View) -> Plane:
    """What a view shows of the plane."""
    whole = view.result.scaled(view.shrink)  # up to pixels that are whole there, or to the picture's end
    return image.reduced(alpha[whole.rows, whole.columns], view.shrink)


def _checked(quality: int) -> int:
    quality = operator.index(quality)
    if not 0 <= quality <= 100:
        raise ValueError(f"quality {quality}: expected 0 to 100")
    return quality


def _checked_effort(effort: int) -> int:
    effort = operator.index(effort)
    if not 0 <= effort <= MOST_EFFORT:
        raise ValueError(f"effort {effort}: expected 0 to {MOST_EFFORT}")
    return effort
