"""PIL images to planes of bytes and metadata, with notes of what is lost on the way."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageFile

from . import exif, inventory, profiles

_SAMPLE_BITS, _PHOTOMETRIC, _PLANAR = 0x102, 0x106, 0x11C  # TIFF's tags
_UNKEPT_TAGS = {0x14A: "pictures below the first", 0x8649: "Photoshop resources"}


class Converted(NamedTuple):
    colours: npt.NDArray[np.uint8]  # [H, W, 1 or 3]
    alpha: npt.NDArray[np.uint8] | None  # [H, W]
    metadata: dict[str, bytes]  # icc, exif (TIFF structure), xmp
    notes: tuple[str, ...]


def convert(image: Image.Image) -> Converted:
    """What comes out depends on the image as it is once loaded, and on its file as long as that can be read."""
    notes: list[str] = []
    kind = image.format
    found = inventory.look(_file_of(image), kind)
    _note_frames(image, notes)
    tags = getattr(image, "tag_v2", {})  # a TIFF's
    samples = tags.get(_SAMPLE_BITS, (8,))
    bits = max(found.bits, *samples)
    if tags.get(_PLANAR) == 2 and len(samples) > 1 and bits > 8:
        raise ValueError("a TIFF of separate planes of more than 8 bits per sample: Pillow misreads these")
    inverted = tags.get(_PHOTOMETRIC) == 0 and image.mode.startswith("I")  # Pillow inverts 8 bits alone
    image.load()  # before the metadata: Pillow turns TIFFs as their orientation says when it loads them
    info, metadata = image.info, _metadata(image, found.profile, notes)
    if image.mode.startswith("I"):
        known = bits if bits in range(9, 17) else 16 if image.mode != "I" or kind == "PPM" else None
        image = _reduce(image, known, 4095 if samples == (12,) else 65535, inverted, notes)
    elif image.mode != "F" and bits > 8:
        notes.append(f"{bits} bits per sample reduced to 8")
    if found.gray and image.mode == "RGBA":  # as Pillow reads 16 bits of gray and alpha
        red, green, blue, _ = image.split()
        if red == green == blue:  # it may have been painted on since
            image = image.convert("LA")
    if image.mode in ("L", "RGB") and (clear := _clear(image, found.bits)) is not None:
        image = image.copy()
        image.info["transparency"] = clear
    if image.mode == "CMYK":
        image = _cmyk_to_rgb(image, metadata.pop("icc", None), notes)
    elif image.mode == "F":
        raise ValueError("floating-point pixels: convert them to 8 bits first")
    transparent = image.has_transparency_data
    gray = image.mode in ("1", "L", "LA", "La")
    target = ("L" if gray else "RGB") + ("A" if transparent else "")
    if image.mode not in (target, "1", "P", "PA", "La", "RGBa", "RGBX") and not transparent:
        notes.append(f"{image.mode} converted to {target}")
        metadata.pop("icc", None)  # it describes the colours that were
    planes = np.asarray(image if image.mode == target else image.convert(target))
    if planes.ndim == 2:
        planes = planes[:, :, None]
    alpha = planes[:, :, -1] if transparent else None
    colours = planes[:, :, :-1] if transparent else planes
    _describe_colours(metadata, info, found.colours, gray, notes)
    others = [*found.others, *(name for tag, name in _UNKEPT_TAGS.items() if tag in tags)]
    return Converted(colours, alpha, metadata, (*notes, *(f"{name} left out" for name in others)))


def _file_of(image: Image.Image) -> bytes:
    """The bytes that an image was opened from, as far as they can be had, loaded or not; empty for a copy."""
    if not isinstance(image, ImageFile.ImageFile):
        return b""
    for file in (image.fp, getattr(image, "_fp", None)):
        try:
            position = file.tell()  # type: ignore[union-attr]
            file.seek(0)  # type: ignore[union-attr]
            data: bytes = file.read()  # type: ignore[union-attr]
            file.seek(position)  # type: ignore[union-attr]
            return data
        except (AttributeError, OSError, ValueError):  # there is none, or it was closed
            continue
    try:
        return Path(os.fsdecode(image.filename)).read_bytes()
    except OSError:
        return b""


def _note_frames(image: Image.Image, notes: list[str]) -> None:
    """Note which picture is taken of a file that holds several."""
    sizes = image.info.get("sizes", ()) if image.format in ("ICO", "ICNS") else ()
    if len(sizes) > 1:
        notes.append(f"largest of {len(sizes)} sizes")
    try:
        frames: int = getattr(image, "n_frames", 1)
    except Exception:  # broken files make Pillow raise almost anything
        image.seek(0)
        notes.append("first of several frames, of which some are broken")
    else:
        if frames > 1:
            notes.append(f"first of {frames} frames")


def _clear(image: Image.Image, bits: int) -> int | tuple[int, ...] | None:
    """The transparent level or colour of a PNG as 8 bits hold it, where Pillow gives it in the ``bits`` of the file.

    They are 0 for a copy, whose file is unknown. Then more than 8 show in a level above 255; fewer show where the level
    itself does not occur, but what Pillow scales it to does, and all pixels are scaled like that.
    """
    clear = image.info.get("transparency")
    if isinstance(clear, tuple) and (bits == 16 or max(clear) > 255):
        return tuple(level >> 8 for level in clear)
    if isinstance(clear, int) and bits in (0, 2, 4):
        plane = np.asarray(image)
        for fewer, step in ((2, 85), (4, 17)):
            occurs = not (plane == clear).any() and (plane == clear * step).any() and not (plane % step).any()
            if clear < 1 << fewer and (bits == fewer or (not bits and occurs)):
                return clear * step
    return None


def _reduce(image: Image.Image, bits: int | None, most: int, inverted: bool, notes: list[str]) -> Image.Image:
    """Gray of more than 8 bits (I;16 and its byte orders, 32-bit I) to L, or LA if a level is clear.

    ``bits``: of its file; None where nothing tells them, so that integers up to 255 are taken for 8 and others for 16.
    ``most`` is white, or black where it is ``inverted``.
    """
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"samples from {values.min()} to {values.max()}: expected 8 or 16 bits")
    if bits is None and values.max() <= 255:
        notes.append("integer samples taken as 8 bits")
        return Image.fromarray(values.astype(np.uint8))
    notes.append(f"{bits or 16} bits per sample reduced to 8")
    reduced = ((255 * values + most // 2) // most).clip(0, 255).astype(np.uint8)
    if inverted:
        reduced = 255 - reduced
    clear = image.info.get("transparency")
    if not isinstance(clear, int):
        return Image.fromarray(reduced)
    return Image.fromarray(np.dstack((reduced, np.where(values == clear, 0, 255).astype(np.uint8))), "LA")


def _metadata(image: Image.Image, profile: bytes, notes: list[str]) -> dict[str, bytes]:
    """``profile``: one in the file that Pillow does not read."""
    found: dict[str, bytes] = {}
    # a PNG's comments may have the names of blocks: only what is bytes is one
    icc, xmp = image.info.get("icc_profile"), image.info.get("xmp")
    if icc is None and "icc_profile" in image.info:  # None: Pillow could not put it together
        notes.append("unreadable profile left out")
    if icc := icc if isinstance(icc, bytes) and icc else profile:
        found["icc"] = icc
    try:
        block = exif.of_image(image)
    except Exception:  # broken blocks make Pillow raise almost anything
        block = b""
        notes.append("unreadable EXIF left out")
    if (dpi := _resolution(image.info)) and not exif.resolution(block):
        try:
            block = exif.with_resolution(block, dpi)
        except ValueError:
            notes.append("resolution left out")
    density = image.info.get("aspect") or (image.info.get("jfif_unit") == 0 and image.info.get("jfif_density"))
    if isinstance(density, tuple) and density[0] != density[1]:
        notes.append("shape of the pixels, {}:{}, left out".format(*density))
    if block:
        found["exif"] = block
    if isinstance(xmp, str | bytes) and xmp:
        found["xmp"] = xmp.encode() if isinstance(xmp, str) else xmp
    return found


def _resolution(info: dict[Any, Any]) -> tuple[float, float] | None:
    """Dots per inch, unless they are what Pillow makes up for a TIFF or JPEG that does not tell."""
    dpi = info.get("dpi")
    made_up = dpi == (1, 1) or (dpi == (72, 72) and info.get("jfif_unit", 0) == 0)
    return dpi if isinstance(dpi, tuple) and any(dpi) and not made_up else None


def _describe_colours(
    metadata: dict[str, bytes], info: dict[Any, Any], colours: tuple[int, int] | None, gray: bool, notes: list[str]
) -> None:
    """Keep the profile if it is for such pixels; where there is none, make one of the colours that the file names."""
    if icc := metadata.get("icc"):
        if profiles.fits(icc, gray):
            return
        del metadata["icc"]
        notes.append(f"profile left out: it is for {profiles.space(icc)}, not {'gray' if gray else 'RGB'}")
    gamma, chroma = info.get("gamma"), info.get("chromaticity")  # a PNG's comments may have these names
    made = b""
    if colours:
        try:
            made = profiles.of_h273(*colours, gray)
        except KeyError:
            notes.append("colours left out: primaries {}, transfer {} of H.273".format(*colours))
    elif "srgb" not in info and (isinstance(gamma, float) or isinstance(chroma, tuple)):
        gamma = gamma if isinstance(gamma, float) else 1 / 2.2
        points = tuple(zip(chroma[::2], chroma[1::2], strict=True)) if isinstance(chroma, tuple) else None
        try:
            made = profiles.of_png(gamma, points or profiles.SRGB_POINTS, gray)
        except ValueError as error:
            notes.append(f"colours left out: {error}")
    if made:
        metadata["icc"] = made


def _cmyk_to_rgb(image: Image.Image, icc: bytes | None, notes: list[str]) -> Image.Image:
    if icc:
        try:
            converted = profiles.to_srgb(image, icc)
        except ImageCms.PyCMSError:
            pass
        else:
            notes.append("CMYK converted to sRGB by its profile")
            return converted
    notes.append("CMYK converted to RGB without a profile")
    return image.convert("RGB")
