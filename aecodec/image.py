"""Pictures in and out: PIL images, arrays and tensors on one side, planes of bytes and metadata on the other."""

import contextlib
import os
import sys
import warnings
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union, overload

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageFile

from . import contents, exif, profiles
from .container import MAX_PIXELS, check_size
from .errors import ConversionWarning, Corrupt
from .loading import LOADING

if TYPE_CHECKING:
    from torch import Tensor

Plane = npt.NDArray[np.uint8]
Pixels = Union[Plane, "Tensor"]  # bytes; a tensor stays on its device
Kind = Literal["pil", "numpy"]

_SAMPLE_BITS, _PHOTOMETRIC, _PLANAR = 0x102, 0x106, 0x11C  # TIFF's tags
_UNKEPT_TAGS = {0x14A: "pictures below the first", 0x8649: "Photoshop resources"}


@dataclass(frozen=True)
class Picture:
    """What is coded: colour or gray planes, an alpha plane, metadata, and what was changed to get there."""

    pixels: Pixels  # [H, W, 1 or 3]: one sample also for RGB whose colours are equal
    alpha: Plane | None = None  # [H, W]
    metadata: Mapping[str, bytes] = field(default_factory=dict)  # icc, exif (TIFF structure), xmp, thumbnail
    notes: tuple[str, ...] = ()  # what was lost: conversions, and what there was besides
    equal_colours: bool = False  # an RGB picture that is gray

    @property
    def mode(self) -> str:
        gray = self.pixels.shape[2] == 1 and not self.equal_colours
        return ("L" if gray else "RGB") + ("" if self.alpha is None else "A")

    def stripped(self) -> "Picture":
        return replace(self, metadata=stripped(self.metadata))


def stripped(metadata: Mapping[str, bytes]) -> dict[str, bytes]:
    """Without EXIF and XMP, except for what showing the picture needs: profile and orientation."""
    kept = {key: value for key, value in metadata.items() if key == "icc"}
    if (number := exif.orientation(metadata.get("exif", b""))) > 1:
        kept["exif"] = exif.of_orientation(number)
    return kept


def from_any(image: Any, max_pixels: int = MAX_PIXELS) -> Picture:
    """A picture of a PIL image, an array ``[H, W]`` or ``[H, W, C]``, or a tensor ``[C, H, W]``.

    C is 1 (gray), 2 (gray and alpha), 3 (RGB) or 4 (RGB and alpha). Arrays and tensors hold uint8, or floats in 0..1. A
    PIL image
    gives the same whether it was loaded before or not; its notes say what is lost of it and of its file. Raises
    TypeError for any other type, ValueError for any other shape, OSError where Pillow cannot read the image, and
    `LimitExceeded` before any work for a picture that is too large.
    """
    if isinstance(image, Image.Image):
        check_size(image.width, image.height, max_pixels)
        return _as_gray(_from_pil(image))
    torch = sys.modules.get("torch")  # who has a tensor has torch
    if torch is not None and isinstance(image, torch.Tensor):
        if image.ndim != 3 or image.shape[0] not in (1, 2, 3, 4):
            raise ValueError(f"a tensor of shape {tuple(image.shape)}: expected [C, H, W] with 1 to 4 channels")
        check_size(image.shape[2], image.shape[1], max_pixels)
        image = image.detach()
        if image.is_floating_point():
            image = image.float()  # coarser types hold few numbers near 1
            if not ((image > -1e-3) & (image < 1 + 1e-3)).all():
                raise ValueError("a tensor of floats beyond 0..1")
            image = (image.clamp(0, 1) * 255).round().byte()
        image = image.permute(1, 2, 0)
        if image.dtype == torch.uint8 and image.shape[2] in (1, 3):
            return _as_gray(Picture(image))
        image = image.cpu().numpy()  # alpha is coded there
    if not isinstance(image, np.ndarray):
        raise TypeError(f"expected a PIL image, an array, a tensor, a path or a file, not {type(image).__name__}")
    if np.issubdtype(image.dtype, np.floating):
        if not ((image > -1e-3) & (image < 1 + 1e-3)).all():
            raise ValueError("an array of floats beyond 0..1")
        image = np.round(image.clip(0, 1).astype(np.float32) * 255).astype(np.uint8)
    if image.dtype != np.uint8:
        raise TypeError(f"expected bytes (uint8) or floats in 0..1, not {image.dtype}")
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] not in (1, 2, 3, 4):
        raise ValueError(f"an array of shape {image.shape}: expected [H, W] or [H, W, 1 to 4]")
    check_size(image.shape[1], image.shape[0], max_pixels)
    colours = 3 if image.shape[2] >= 3 else 1
    alpha = image[:, :, -1] if image.shape[2] in (2, 4) else None
    return _as_gray(Picture(_hide(image[:, :, :colours], alpha), alpha))


def _as_gray(picture: Picture) -> Picture:
    """With one sample a pixel where the three colours are equal everywhere: it costs less, and stays without a tint."""
    pixels: Any = picture.pixels
    if pixels.shape[2] == 1 or not (pixels[..., :1] == pixels[..., 1:]).all():
        return picture
    return replace(picture, pixels=pixels[..., :1], equal_colours=True)


def warn_of(picture: Picture) -> None:
    """Warn of a picture's notes, in the name of the line that called this package or Pillow."""
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] in (__package__, "PIL"):
        level, frame = level + 1, frame.f_back
    for note in picture.notes:
        warnings.warn(note, ConversionWarning, stacklevel=level)


def plane(pixels: Pixels) -> Plane:
    """Pixels as an array."""
    return pixels if isinstance(pixels, np.ndarray) else pixels.cpu().numpy()


@overload
def to_any(picture: Picture, kind: Literal["pil"]) -> Image.Image: ...
@overload
def to_any(picture: Picture, kind: Literal["numpy"]) -> Plane: ...


def to_any(picture: Picture, kind: Kind) -> "Image.Image | Plane":
    """The inverse: a PIL image with its metadata, or ``[H, W, C]`` bytes."""
    planes = plane(picture.pixels)
    if picture.equal_colours:
        planes = np.repeat(planes, 3, 2)
    if picture.alpha is not None:
        planes = np.concatenate((planes, picture.alpha[:, :, None]), 2)
    if kind == "numpy":
        return planes
    image = Image.fromarray(planes[:, :, 0] if planes.shape[2] == 1 else planes, picture.mode)
    image.info.update(info_of(picture.metadata))
    return image


def info_of(metadata: Mapping[str, bytes]) -> dict[str, Any]:
    """What Pillow calls the same."""
    names = {"icc": "icc_profile", "exif": "exif", "xmp": "xmp"}
    info: dict[str, Any] = {names[key]: value for key, value in metadata.items() if key in names}
    if "exif" in info:
        if dpi := exif.resolution(info["exif"]):
            info["dpi"] = dpi
        info["exif"] = exif.PREFIX + info["exif"]
    return info


def encode_alpha(alpha: Plane) -> bytes:
    """A zlib stream of the plane's rows, each sample less its left neighbour, modulo 256."""
    return zlib.compress(np.diff(alpha, axis=1, prepend=np.uint8(0)).tobytes(), 9)


def decode_alpha(payload: bytes, height: int, width: int) -> Plane:
    """Raises `Corrupt` unless the stream holds just the plane; unpacks no more than that."""
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(payload, height * width + 1)
    except zlib.error as error:
        raise Corrupt(f"alpha plane: {error}") from None
    if len(data) != height * width or not unpacker.eof or unpacker.unused_data:
        raise Corrupt("the alpha plane is not of the picture's size")
    return np.cumsum(np.frombuffer(data, np.uint8).reshape(height, width), axis=1, dtype=np.uint8)


def reduced(plane: Plane, factor: int) -> Plane:
    """``[H, W]`` as means of squares of ``factor`` pixels, sides rounded up."""
    return plane if factor == 1 else np.array(Image.fromarray(plane).reduce(factor))


def salvage_alpha(payload: bytes, height: int, width: int) -> Plane:
    """The rows that a stream holds which ends too early; opaque below them, and everywhere where it was changed."""
    alpha = np.full((height, width), 255, np.uint8)
    try:
        data = zlib.decompressobj().decompress(payload, height * width)
    except zlib.error:
        return alpha
    rows = len(data) // width
    np.cumsum(np.frombuffer(data[: rows * width], np.uint8).reshape(rows, width), axis=1, out=alpha[:rows])
    return alpha


def _from_pil(image: Image.Image) -> Picture:
    """Everything is decided from what an image is once it was loaded, and from its file while that is there."""
    notes: list[str] = []
    kind = image.format
    found = contents.look(_file_of(image), kind)
    _note_frames(image, notes)
    tags = getattr(image, "tag_v2", {})  # a TIFF's
    samples = tags.get(_SAMPLE_BITS, (8,))
    bits = max(found.bits, *samples)
    if tags.get(_PLANAR) == 2 and len(samples) > 1 and bits > 8:
        raise ValueError("a TIFF of separate planes of more than 8 bits per sample: Pillow misreads these")
    inverted = tags.get(_PHOTOMETRIC) == 0 and image.mode.startswith("I")  # which Pillow sees to in 8 bits alone
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
    return Picture(_hide(colours, alpha), alpha, metadata, (*notes, *(f"{name} left out" for name in others)))


def _file_of(image: Image.Image) -> bytes:
    """The bytes that an image was opened from, as far as it still has them, loaded or not; none of a copy."""
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


_limits: list[int | None] = []  # Pillow's when each of those began who are within the next function


@contextlib.contextmanager
def without_pillows_limit() -> Iterator[None]:
    """For those who have a limit of pixels of their own. It is one for all threads, and comes back with the last."""
    with LOADING:
        _limits.append(Image.MAX_IMAGE_PIXELS)
        Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        with LOADING:
            Image.MAX_IMAGE_PIXELS = _limits.pop()


def check_format(image: Image.Image) -> None:
    """Raises OSError for a file that was opened but may not be loaded, since Pillow would do more than decode it."""
    if image.format == "EPS":  # Pillow would run Ghostscript
        raise OSError("PostScript: a program, not an image")
    if image.format == "IPTC":  # Pillow would load whatever is in there, of whatever size
        raise OSError("IPTC: a wrapper of another file, not an image")


def _note_frames(image: Image.Image, notes: list[str]) -> None:
    """One picture is taken of those that there are."""
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

    Of a copy these are not known: more than 8 are told by the numbers, less by a level that occurs as these alone.
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
    """``profile``: one that Pillow does not read."""
    found: dict[str, bytes] = {}
    # a PNG's comments may have the names of blocks: only what is bytes is one
    icc, xmp = image.info.get("icc_profile"), image.info.get("xmp")
    if icc is None and "icc_profile" in image.info:  # as Pillow says where it cannot put one together
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
    """Keep a profile if it is for such pixels, or make one of what the file says instead of its colours."""
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


def _hide(colours: Plane, alpha: Plane | None) -> Plane:
    """Replace the colours that alpha 0 hides by averages of what is near, which cost almost no bits."""
    if alpha is None or alpha.all():
        return colours
    return _fill(colours, alpha > 0)


def _fill(colours: Plane, known: npt.NDArray[np.bool_]) -> Plane:
    """Fill the unknown from a pyramid of averages (Gortler et al. 1996, push-pull)."""
    height, width, channels = colours.shape
    if height == width == 1:
        return colours if known.all() else np.full_like(colours, 128)
    shape = (-(-height // 2), -(-width // 2))
    sums, counts = np.zeros((*shape, channels), np.uint16), np.zeros((*shape, 1), np.uint16)
    quarters = [(slice(i, None, 2), slice(j, None, 2)) for i in (0, 1) for j in (0, 1)]
    for rows, columns in quarters:
        mask = known[rows, columns]
        place = (slice(mask.shape[0]), slice(mask.shape[1]))
        sums[place] += colours[rows, columns] * mask[:, :, None]
        counts[place] += mask[:, :, None]
    coarse = ((sums + counts // 2) // np.maximum(counts, 1)).astype(np.uint8)
    some = counts[:, :, 0] > 0
    if not some.all():
        coarse = _fill(coarse, some)
    filled = colours.copy()
    for rows, columns in quarters:
        hidden = ~known[rows, columns]
        filled[rows, columns][hidden] = coarse[: hidden.shape[0], : hidden.shape[1]][hidden]
    return filled
