"""The codec: pictures to bytes and back."""

import warnings
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import numpy.typing as npt

from . import arguments, compression, container, decoder, devices, encoder, image, registry, streams, targets, views
from .arguments import Decoded, Errors, ImageLike, Output, Progress, Rectangle, Source
from .container import DEFAULT_QUALITY, Data, Header
from .errors import DamageWarning, TargetMissed
from .geometry import Tiling
from .image import Picture, Plane
from .model import weights
from .model.entropy import EntropyModel
from .model.fixed_point import ACTIVATION_BITS
from .model.weights import Model
from .roi import Offsets
from .targets import Reached

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor


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
    def _on_torch(self) -> Model:
        """The model as a search needs it, which takes gradients."""
        return self.model if self._torch else self._load(torch=True)

    def _load(self, torch: bool) -> Model:
        return (weights.shared if self._installed else weights.load)(self._path, self.device, torch)

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
        quality, effort = arguments.quality(quality), arguments.effort(effort)
        prepared = self._prepare(picture, thumbnail)
        return compression.compress(self.model, lambda: self._on_torch, prepared, quality, roi, effort, progress)

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
        effort, prepared = arguments.effort(effort), self._prepare(picture, thumbnail)
        return compression.reach(self.model, lambda: self._on_torch, prepared, name, target, roi, effort, progress)

    def compress_many(self, pictures: Iterable[ImageLike], quality: int = DEFAULT_QUALITY) -> Iterator[bytes]:
        """`compress` for each picture in order; one is entropy-coded while the next passes the networks.

        Neighbours of one size pass them together, up to 16 if they are small; where floats round otherwise then, a
        file may differ from that of `compress` by some bytes. Pictures are taken from the iterable as they are needed,
        not more than 20 ahead of the output. Raises RuntimeError where it is to go on in a forked child.
        """
        return streams.compress(self.model, map(self._prepare, pictures), arguments.quality(quality))

    def latents(self, source: Data | ImageLike, quality: int = DEFAULT_QUALITY) -> npt.NDArray[np.float32]:
        """Main and fine latents ŷ ``[ceil(H/16), ceil(W/16), N + M]``: what the synthesis sees, for pipelines that need
        no pixels.

        The latents are those of the file, in the one scale that all qualities share. Where the quality has no fine ones
        these are zero.

        Args:
            source: an .aec file as for `decompress`, or a picture as for `compress`, which is analysed and rounded.
                Whether a path or an open file is an .aec file, its first bytes tell, or the path's ending in .aec.
            quality: of the picture's latents; an .aec file has its own.

        Raises: what `decompress` or `compress` raises.

        >>> import numpy as np
        >>> Codec(device="cpu").latents(np.zeros((40, 60), np.uint8)).shape
        (3, 4, 320)
        """
        source = arguments.read_if_aec(source)
        if isinstance(source, bytes | bytearray | memoryview):
            parsed = container.read(source, self.max_pixels)
            m = self._model_of(parsed.header)
            plane = decoder.decode_latents(m, [parsed.tiles], decoder.tiling_of(parsed.header, parsed.tiles))
        else:
            quality, pixels, m = arguments.quality(quality), self._prepare(source).pixels, self.model
            tiling = Tiling.uniform(pixels.shape, quality)
            plane, _ = decoder.assemble(m, tiling, encoder.symbols(m, [pixels], tiling))
        found = m.ops.numpy(plane[0]) * np.float32(0.5**ACTIVATION_BITS)
        return np.pad(found, ((0, 0), (0, 0), (0, m.design.latents + m.design.fine - found.shape[2])))

    @cached_property
    def _exact(self) -> bool:
        """Whether the device computes the entropy model's numbers as NumPy does, tried on a few of them."""
        expected = registry.metadata(self._path).get("prior_digest")
        return self.model.entropy.digest() == (expected or EntropyModel(weights.tensors(self._path)).digest())

    def _prepare(self, picture: ImageLike, thumbnail: bool = False) -> Picture:
        if self.device != "cpu" and not self._exact:
            raise RuntimeError(f"device {self.device} is not exact: its files could be read nowhere else; take cpu")
        prepared = arguments.picture(picture, self.max_pixels)
        container.check_metadata(prepared.metadata)
        return encoder.with_thumbnail(self.model, prepared) if thumbnail else prepared

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
            errors: ``"conceal"`` salvages a damaged file whose header is whole: it decodes what there is, conceals the
                rest (missing tiles are filled from their neighbours, and missing alpha is opaque), and says in a
                `DamageWarning` which tiles are missing.
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
        conceals, deliver = arguments.conceals(errors), arguments.output(output)
        picture, damage = self._decode(data, region, scale, conceals)
        if damage:
            warnings.warn(damage, DamageWarning, stacklevel=2)
        found: Decoded = deliver(picture)
        return found

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
        deliver, shrink = arguments.output(output), arguments.shrink(scale)
        opened = (container.read(arguments.read(data), self.max_pixels) for data in files)
        return map(deliver, streams.decompress(self._model_of, opened, shrink))

    def salvage(
        self, data: Data | Source, *, region: Rectangle | None = None, scale: float = 1
    ) -> tuple["Image.Image", str]:
        """The picture of `decompress` with ``errors="conceal"``, and in words what is missing, empty if nothing is."""
        picture, damage = self._decode(data, region, scale, conceals=True)
        return image.to_pil(picture), damage

    def preview(self, data: Data | Source, *, region: Rectangle | None = None, scale: float = 1) -> "Image.Image":
        """The picture as far as the first bytes of a file tell, while the others are still on their way.

        As `salvage`, but that bytes are missing is not told. Raises `Truncated` as long as the header is not there, and
        `NotAec` for no bytes at all.
        """
        return self.salvage(data, region=region, scale=scale)[0]

    def verify(self, data: Data | Source) -> Header:
        """Check a whole file, decoding every symbol but no pixels. Raises `AecError`; returns the header."""
        return views.verify(self._model_of, arguments.read(data), self.max_pixels)

    def _decode(
        self, data: Data | Source, region: Rectangle | None, scale: float, conceals: bool
    ) -> tuple[Picture, str]:
        shrink = arguments.shrink(scale)
        return views.show(self._model_of, arguments.read(data), self.max_pixels, region, shrink, conceals)

    def _model_of(self, header: Header) -> Model:
        if header.model == self.model.id:
            return self.model
        return weights.shared(registry.find(header.model), self.device, self._torch)
