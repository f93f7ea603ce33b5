"""EXIF blocks: TIFF structures of tags, with or without the prefix that JPEG has."""

import contextlib
import math
import struct
from fractions import Fraction

from PIL import ExifTags, Image

PREFIX = b"Exif\x00\x00"
INCHES, CENTIMETRES = 2, 3  # units of resolution
_EMPTY = b"MM\0*\0\0\0\x08\0\0\0\0\0\0"
_RESOLUTION = (ExifTags.Base.XResolution, ExifTags.Base.YResolution, ExifTags.Base.ResolutionUnit)
_BELOW = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)  # directories that tags point to
_RAW_PROFILE = "Raw profile type exif"  # a PNG's text
# TIFF's tags for layout, compression and embedded blocks, which are wrong for any other file
_STORAGE_TAGS = {0xFE, 0xFF, *range(0x100, 0x10D), 0x111, *range(0x115, 0x11A), 0x11C, 0x120, 0x121, 0x124, 0x125}
_STORAGE_TAGS |= {0x13D, *range(0x140, 0x146), 0x14A, *range(0x152, 0x15C), *range(0x200, 0x215), 0x2BC, 0x8649, 0x8773}


def bare(exif: Image.Exif | bytes) -> bytes:
    """The TIFF structure alone, without the prefix."""
    return (exif.tobytes() if isinstance(exif, Image.Exif) else bytes(exif)).removeprefix(PREFIX)


def of_image(image: Image.Image) -> bytes:
    """The block of an image, bare: byte for byte that of its file, unless it was edited through `Image.getexif`.

    Where the file has tags but no block (TIFF, old PNG), one is put together; broken tags make Pillow raise almost
    anything. A block that cannot be read is taken as it is.
    """
    block = image.info.get("exif")
    if isinstance(block, Image.Exif):
        return bare(block)
    if not isinstance(block, bytes):  # a PNG's comments may have the names of blocks
        block = b""
    original = Image.new("1", (1, 1))
    original.info = {**image.info, "exif": block or None}
    try:
        before = original.getexif()
        unedited = _tags(before)
    except Exception:
        if block:
            return bare(block)
        raise
    now = image.getexif()
    read = getattr(now, "_loaded_exif", None)
    if block and (read not in (None, block) or _tags(now) == unedited):
        return bare(block)
    if read and not block and _RAW_PROFILE not in image.info:  # it was taken out of the image
        return b""
    gone = [tag for tag in _BELOW if tag not in now and (tag in before or tag in getattr(image, "tag_v2", ()))]
    return without(now, *_STORAGE_TAGS, *gone)  # directories that are gone may be written if they had been read


def _tags(exif: Image.Exif) -> list[str]:
    directories = [dict(exif), *(exif.get_ifd(tag) for tag in (*_BELOW, ExifTags.IFD.IFD1))]
    return [repr(sorted(found.items())) for found in directories]


def without_storage(block: bytes) -> bytes:
    """A block without the tags that say how a TIFF stores its pixels; empty if no others are in it."""
    return without(_parsed(block), *_STORAGE_TAGS)


def without(exif: Image.Exif, *tags: int) -> bytes:
    """EXIF without some tags, bare; empty if no others are in it."""
    kept = _parsed(exif.tobytes())
    for tag in tags:
        if tag in kept:
            del kept[tag]
    return bare(kept) if len(kept) else b""


def _parsed(block: bytes) -> Image.Exif:
    exif = Image.Exif()
    exif.load(PREFIX + bare(block))
    return exif


def orientation(block: bytes) -> int:
    """From 1 to 8; 1, which means as it is, where the block does not tell."""
    with contextlib.suppress(Exception):  # broken EXIF makes Pillow raise almost anything
        number: int = _parsed(block).get(ExifTags.Base.Orientation, 1)
        if number in range(1, 9):
            return number
    return 1


def of_orientation(number: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = number
    return bare(exif)


def resolution(block: bytes) -> tuple[float, float] | None:
    """Dots per inch, horizontally and vertically; None where the block does not tell."""
    with contextlib.suppress(Exception):  # as above
        exif = _parsed(block)
        unit = 2.54 if exif.get(ExifTags.Base.ResolutionUnit) == CENTIMETRES else 1.0
        x, y = (float(exif[tag]) * unit for tag in _RESOLUTION[:2])
        if min(x, y) > 0 and math.isfinite(x + y):
            return x, y
    return None


def with_resolution(block: bytes, dpi: tuple[float, float]) -> bytes:
    """A bare block with that many dots per inch. A new directory is put at its end, so that nothing else moves.

    Raises ValueError for bytes that are no TIFF structure, or numbers that none can hold.
    """
    if not min(dpi) > 0:
        raise ValueError(f"a resolution of {dpi[0]}x{dpi[1]} dots per inch")
    block = block or _EMPTY
    if block[:4] not in (b"II*\0", b"MM\0*"):
        raise ValueError("exif that no resolution can be added to: no TIFF structure")
    order = "<" if block[:2] == b"II" else ">"
    block += bytes(len(block) % 2)
    try:
        (start,) = struct.unpack_from(f"{order}I", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, start)
        entries = [struct.unpack_from(f"{order}HHI4s", block, start + 2 + 12 * n) for n in range(count)]
        entries = [entry for entry in entries if entry[0] not in _RESOLUTION]
        (following,) = struct.unpack_from(f"{order}I", block, start + 2 + 12 * count)
        values = len(block) + 2 + 12 * (len(entries) + 3) + 4
        fractions = [Fraction(each).limit_denominator(100) for each in dpi[:2]]
        data = b"".join(struct.pack(f"{order}II", f.numerator, f.denominator) for f in fractions)
        entries += [(tag, 5, 1, struct.pack(f"{order}I", values + 8 * n)) for n, tag in enumerate(_RESOLUTION[:2])]
        entries.append((_RESOLUTION[2], 3, 1, struct.pack(f"{order}HH", INCHES, 0)))
    except (struct.error, OverflowError) as error:
        raise ValueError(f"exif that no resolution can be added to: {error}") from None
    table = b"".join(struct.pack(f"{order}HHI4s", *entry) for entry in sorted(entries))
    table = struct.pack(f"{order}H", len(entries)) + table + struct.pack(f"{order}I", following)
    return block[:4] + struct.pack(f"{order}I", len(block)) + block[8:] + table + data
