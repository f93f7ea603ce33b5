"""Pillow reads and writes .aec files once `register` was called.

>>> import aecodec, io
>>> from PIL import Image
>>> aecodec.register_pillow()
>>> file = io.BytesIO()
>>> Image.new("RGB", (60, 40), "teal").save(file, "AEC", quality=60)
>>> Image.open(file).size
(60, 40)

Opening reads the header and the metadata; the networks are loaded when pixels are wanted.
"""

import io
from dataclasses import replace
from functools import cache
from typing import IO, TYPE_CHECKING, Any, ClassVar

from PIL import Image, ImageFile

from . import container, exif, registry
from .errors import AecError, Truncated
from .image import from_any, info_of, warn_of

if TYPE_CHECKING:
    from .codec import Codec

FORMAT = "AEC"


def register(device: object = "cpu") -> None:
    """Make .aec a format of Pillow's: `Image.open`, `Image.save`, its suffix and its MIME type, image/x-aec.

    ``save`` takes ``quality``, ``effort`` and ``thumbnail`` as `Codec.compress` does, and as Pillow's other formats
    ``icc_profile`` (the image's own unless told), ``exif``, ``xmp`` and ``dpi``; a `ConversionWarning` says what else
    of an image or its file is lost. A ``save`` that fails leaves nothing of a file that it was to replace, as with
    Pillow's other formats. `Image.draft` and `Image.thumbnail` decode at 1/2, 1/4 or 1/8. Damaged files raise
    `OSError`, or are salvaged where ``ImageFile.LOAD_TRUNCATED_IMAGES`` is set.

    ``device``: what computes, as for `Codec`. A GPU has to be asked for, since pictures are often opened in processes
    that must not touch one, such as the workers of a data loader.
    """
    AecImageFile.device = registry.device(device)
    Image.register_open(FORMAT, AecImageFile, lambda prefix: prefix.startswith(container.SIGNATURE))
    Image.register_save(FORMAT, _save)
    Image.register_extension(FORMAT, ".aec")
    Image.register_mime(FORMAT, "image/x-aec")


class AecImageFile(ImageFile.ImageFile):
    format = FORMAT
    format_description = "aecodec"
    device: ClassVar[str] = "cpu"
    _shrink = 1

    def _open(self) -> None:
        assert self.fp is not None
        try:
            header, metadata = container.read_start(self.fp)  # type: ignore[arg-type]
        except AecError as error:
            raise SyntaxError(str(error)) from None  # which Pillow takes for: not identified
        self._size, self._mode = (header.width, header.height), header.mode
        self.info.update(info_of(metadata))
        self.tile = [ImageFile._Tile("raw", (0, 0, *self.size), 0, self.mode)]

    def draft(self, mode: str | None, size: tuple[int, int] | None) -> tuple[str, tuple[int, int, float, float]] | None:
        """Load a picture of at least ``size`` in less time, at 1/2, 1/4 or 1/8. The mode stays what it is."""
        if size is None or self._shrink > 1 or not self.tile:
            return None
        (width, height), room = self.size, min(self.size[0] // size[0], self.size[1] // size[1])
        self._shrink = next(shrink for shrink in (8, 4, 2, 1) if room >= shrink or shrink == 1)
        self._size = -(-width // self._shrink), -(-height // self._shrink)
        self.tile = [ImageFile._Tile("raw", (0, 0, *self.size), 0, self.mode)]
        return self.mode, (0, 0, width / self._shrink, height / self._shrink)

    def load(self) -> Any:
        if self.tile and self.fp is not None:
            scale = 1 / self._shrink
            data = self._read()
            try:
                if ImageFile.LOAD_TRUNCATED_IMAGES:
                    image = _codec(self.device).preview(data, scale=scale)
                else:
                    image = _codec(self.device).decompress(data, scale=scale)
            except (ValueError, RuntimeError) as error:  # AecError, no GPU, and torch's word for trouble with it
                raise _as_pillow(error) from error
            if self._exclusive_fp:
                self.fp.close()
            self.fp = io.BytesIO(image.tobytes())  # which Pillow's raw decoder reads
        return super().load()

    def load_seek(self, pos: int) -> None:
        """Nothing to do, but there to be found: it keeps Pillow from mapping the file, whose bytes are no pixels."""

    def verify(self) -> None:
        """Check structure and checksums, without the symbols. Raises OSError; the file must be opened again."""
        if self.fp is None or not self.tile:
            raise RuntimeError("verify must be called directly after open")
        try:
            container.read(self._read(), container.MAX_SIDE**2)
        except AecError as error:
            raise _as_pillow(error) from error
        super().verify()

    def _read(self) -> bytes:
        assert self.fp is not None
        self.fp.seek(0)
        return self.fp.read()


def _as_pillow(error: Exception) -> OSError:
    return OSError(f"image file is truncated: {error}" if isinstance(error, Truncated) else str(error))


@cache
def _codec(device: str) -> "Codec":
    from . import Codec

    return Codec(device, max_pixels=container.MAX_SIDE**2)  # Pillow's own limit, if any, has been kept


def _save(image: Image.Image, file: IO[bytes], _: str | bytes) -> None:
    options: dict[str, Any] = image.encoderinfo
    try:
        found = from_any(image, container.MAX_SIDE**2)
    except AecError as error:
        raise _as_pillow(error) from error
    except ValueError as error:
        raise OSError(f"cannot write mode {image.mode} as {FORMAT}: {error}") from None
    warn_of(found)
    metadata = {"icc": options.get("icc_profile", found.metadata.get("icc")), **_given(options)}
    picture = replace(found, metadata={key: value for key, value in metadata.items() if value})
    quality = options.get("quality", container.DEFAULT_QUALITY)
    effort, thumbnail = options.get("effort", 0), options.get("thumbnail", False)
    try:
        file.write(_codec(AecImageFile.device).compress(picture, quality, effort=effort, thumbnail=thumbnail))
    except AecError as error:  # metadata that is too long
        raise _as_pillow(error) from error


def _given(options: dict[str, Any]) -> dict[str, bytes]:
    """What the caller wants to be kept besides pixels and profile."""
    block, xmp, dpi = exif.bare(options.get("exif") or b""), options.get("xmp", b""), options.get("dpi")
    if dpi:
        try:
            block = exif.with_resolution(block, dpi)
        except ValueError as error:
            raise OSError(str(error)) from None
    return {"exif": block, "xmp": xmp.encode() if isinstance(xmp, str) else xmp}
