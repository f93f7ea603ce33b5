"""The image files that pictures are decoded to: which formats there are, what they hold, and how they are written."""

import io
from pathlib import Path
from typing import Any

from PIL import Image, ImageCms, ImageOps
from PIL.PngImagePlugin import PngInfo

from . import exif, profiles
from .files import STANDARD, UsageError

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".avif": "AVIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".jp2": "JPEG2000",
    ".bmp": "BMP",
    ".ppm": "PPM",
}
OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {"compress_level": 4},  # faster than the usual 6, for little more bytes
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True, "exact": True},
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
}
LOSSY = ("JPEG", "WEBP", "AVIF")  # what can be written at a quality
CARRIED = {
    "PNG": ("icc_profile", "exif", "xmp", "dpi"),
    "JPEG": ("icc_profile", "exif", "xmp", "dpi"),
    "WEBP": ("icc_profile", "exif", "xmp", "dpi"),  # as EXIF
    "AVIF": ("icc_profile", "exif", "xmp", "dpi"),  # as EXIF
    "TIFF": ("icc_profile", "exif", "dpi"),
    "BMP": ("dpi",),
}


def suffix_of(name: str) -> str:
    """The suffix of a format that is named as people name it. Raises `UsageError`.

    >>> suffix_of("WebP")
    '.webp'
    """
    suffix = f".{name.lower()}"
    if suffix not in FORMATS:
        raise UsageError(f"format {name}: expected one of {', '.join(known[1:] for known in FORMATS)}")
    return suffix


def image_format(path: Path, asked: str | None = None) -> str:
    """Pillow's name of the format to write: that of the path's suffix, or of ``asked``, a suffix too.

    PNG for standard output, unless another is asked for. Raises `UsageError`.
    """
    named = FORMATS.get(path.suffix.lower())
    wanted = FORMATS[asked or ".png"] if asked or path == STANDARD else named
    if wanted is None:
        raise UsageError(f"{path}: expected a suffix of {', '.join(FORMATS)}")
    if named not in (None, wanted):
        raise UsageError(f"{path}: a name for {named}, but {wanted} is asked for")
    return wanted


def check_writable(name: str, quality: int | None = None) -> None:
    """Raises `UsageError` for a format that this Pillow cannot write, or not at a quality."""
    if quality is not None and name not in LOSSY:
        raise UsageError(f"{name} has no quality: --output-quality goes with {', '.join(LOSSY)}")
    try:
        Image.new("L", (8, 8)).save(io.BytesIO(), name)  # some libraries are missed only now
    except (KeyError, OSError):
        raise UsageError(f"the Pillow that is installed here cannot write {name}") from None


def fit(image: Image.Image, name: str) -> tuple[Image.Image, list[str]]:
    """The image as a format can hold it, and what was changed for that.

    For formats without profile or orientation, the pixels are converted to sRGB and turned. A profile for other pixels
    than these is left out.
    """
    notes, carried = [], CARRIED.get(name, ())
    icc = image.info.get("icc_profile")
    if icc and not profiles.fits(icc, image.mode in ("L", "LA")):
        notes.append(f"profile left out: it is for {profiles.space(icc)}, not for {image.mode}")
        del image.info["icc_profile"]
    elif icc and "icc_profile" not in carried:
        image = _in_srgb(image, notes)
    if "exif" not in carried and (number := exif.orientation(image.info.get("exif", b""))) > 1:
        image.info["exif"] = exif.PREFIX + exif.of_orientation(number)  # whatever is broken in the other tags
        image = ImageOps.exif_transpose(image)
        notes.append("turned as its orientation says")
    return image, notes


def _in_srgb(image: Image.Image, notes: list[str]) -> Image.Image:
    """The same colours, without the profile that says which they are."""
    info, alpha = dict(image.info), image.getchannel("A") if "A" in image.mode else None
    icc = info.pop("icc_profile")
    try:
        image = profiles.to_srgb(image.convert(image.mode.removesuffix("A")), icc)
        notes.append("converted to sRGB by its profile")
    except ImageCms.PyCMSError as error:
        notes.append(f"icc_profile left out: {error}")
    else:
        if alpha:
            image.putalpha(alpha)
    image.info = info
    return image


def encode_picture(
    image: Image.Image, name: str, quality: int | None = None, small: bool = False
) -> tuple[bytes, list[str]]:
    """The bytes of an image file, and what it could not hold. Raises ValueError for transparency that it cannot hold.

    Without a quality, formats that can be lossless are; JPEG and AVIF are written at a high one. ``small``: take time
    for a PNG with fewer bytes.
    """
    if "A" in image.mode and name in ("JPEG", "PPM", "BMP"):
        raise ValueError(f"{name} cannot hold transparency: choose PNG, WebP or TIFF")
    options = dict(OPTIONS.get(name, {}))
    if quality is not None:
        options |= {"quality": quality, "lossless": False}  # the latter is WebP's alone
    if small and name == "PNG":
        options["compress_level"] = 9
    metadata = {key: image.info[key] for key in CARRIED.get(name, ()) if key in image.info}
    notes = [f"{name} holds no {key}" for key in image.info if key not in metadata]
    if name == "PNG" and "xmp" in metadata:
        options["pnginfo"] = info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", metadata.pop("xmp").decode("utf-8", "replace"))
    image.info = {}  # Pillow would take metadata from there too
    reason: Exception | None = None
    for missing in dict.fromkeys([(), *((key,) for key in metadata), tuple(metadata)]):
        kept = {key: value for key, value in metadata.items() if key not in missing}
        buffer = io.BytesIO()
        try:
            if name == "TIFF" and "exif" in kept:
                kept["exif"] = exif.without_storage(kept["exif"])
            image.save(buffer, name, **options, **kept)
            return buffer.getvalue(), notes + [f"{key} left out: {reason}" for key in missing]
        except Exception as error:  # broken or overlong metadata make Pillow raise almost anything
            reason = reason or error
    raise OSError(f"{name} cannot be written: {reason}") from reason
