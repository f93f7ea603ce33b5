"""Pictures in and out: PIL images, arrays and tensors on one side, planes of bytes and metadata on the other."""

import contextlib
import io
import sys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Union, overload

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from .container import MAX_PIXELS, check_size
from .errors import Corrupt
from .loading import LOADING

if TYPE_CHECKING:
    from torch import Tensor

Plane = npt.NDArray[np.uint8]
Pixels = Union[Plane, "Tensor"]  # bytes; a tensor stays on its device
Kind = Literal["pil", "numpy"]

_EXIF_PREFIX = b"Exif\x00\x00"
_ORIENTATION = 0x112
_SAMPLE_BITS, _PHOTOMETRIC, _PLANAR = 0x102, 0x106, 0x11C  # TIFF's tags
# TIFF's tags for layout, compression and embedded blocks, which are wrong for any other file
_STORAGE_TAGS = {0xFE, 0xFF, *range(0x100, 0x10E), 0x111, *range(0x115, 0x11A), 0x11C, 0x11D, 0x124, 0x125, 0x13D}
_STORAGE_TAGS |= {*range(0x140, 0x146), 0x14A, *range(0x152, 0x15C), *range(0x200, 0x215), 0x2BC, 0x8649, 0x8773}


@dataclass(frozen=True)
class Picture:
    """What is coded: colour or gray planes, an alpha plane, metadata, and what was changed to get there."""

    pixels: Pixels  # [H, W, 1 or 3]
    alpha: Plane | None = None  # [H, W]
    metadata: Mapping[str, bytes] = field(default_factory=dict)  # icc, exif (TIFF structure), xmp, thumbnail
    notes: tuple[str, ...] = ()  # conversions that lose something, for the user to read
    frames: int = 1  # that there were; the first is kept

    @property
    def mode(self) -> str:
        return ("L" if self.pixels.shape[2] == 1 else "RGB") + ("" if self.alpha is None else "A")

    def stripped(self) -> "Picture":
        """Without EXIF and XMP, except for what showing the picture needs: profile and orientation."""
        metadata = {key: value for key, value in self.metadata.items() if key == "icc"}
        old, new = Image.Exif(), Image.Exif()
        with contextlib.suppress(Exception):  # broken EXIF makes Pillow raise almost anything
            old.load(_EXIF_PREFIX + self.metadata.get("exif", b""))
        orientation = old.get(_ORIENTATION)
        if orientation in range(2, 9):
            new[_ORIENTATION] = orientation
            metadata["exif"] = new.tobytes().removeprefix(_EXIF_PREFIX)
        return replace(self, metadata=metadata)


def from_any(image: Any, max_pixels: int = MAX_PIXELS) -> Picture:
    """A picture of a PIL image, an array ``[H, W]`` or ``[H, W, C]`` of uint8, or a tensor ``[C, H, W]``.

    C is 1 (gray), 2 (gray and alpha), 3 (RGB) or 4 (RGB and alpha). Tensors hold uint8, or floats in 0..1. Raises
    TypeError for any other type, ValueError for any other shape, OSError where Pillow cannot read the image, and
    `LimitExceeded` before any work for a picture that is too large.
    """
    if isinstance(image, Image.Image):
        check_size(image.width, image.height, max_pixels)
        return _from_pil(image)
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
            return Picture(image)
        image = image.cpu().numpy()  # alpha is coded there
    if not isinstance(image, np.ndarray):
        raise TypeError(f"expected a PIL image, an array or a tensor, not {type(image).__name__}")
    if image.dtype != np.uint8:
        raise TypeError(f"expected bytes (uint8), not {image.dtype}")
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] not in (1, 2, 3, 4):
        raise ValueError(f"an array of shape {image.shape}: expected [H, W] or [H, W, 1 to 4]")
    check_size(image.shape[1], image.shape[0], max_pixels)
    colours = 3 if image.shape[2] >= 3 else 1
    alpha = image[:, :, -1] if image.shape[2] in (2, 4) else None
    return Picture(_hide(image[:, :, :colours], alpha), alpha)


@overload
def to_any(picture: Picture, kind: Literal["pil"]) -> Image.Image: ...
@overload
def to_any(picture: Picture, kind: Literal["numpy"]) -> Plane: ...


def to_any(picture: Picture, kind: Kind) -> "Image.Image | Plane":
    """The inverse: a PIL image with its metadata, or ``[H, W, C]`` bytes."""
    planes: Plane = np.asarray(picture.pixels)
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
    known = {names[key]: value for key, value in metadata.items() if key in names}
    return {name: _EXIF_PREFIX + value if name == "exif" else value for name, value in known.items()}


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
    notes: list[str] = []
    raw_modes = [str(tile[3]) for tile in getattr(image, "tile", ()) if len(tile) > 3]
    frames = _frames(image, notes)
    tags = getattr(image, "tag_v2", {})  # a TIFF's
    bits = tags.get(_SAMPLE_BITS, (8,))  # of each sample
    if tags.get(_PLANAR) == 2 and len(bits) > 1 and max(bits) > 8:
        raise ValueError("a TIFF of separate planes of more than 8 bits per sample: Pillow misreads these")
    inverted = tags.get(_PHOTOMETRIC) == 0 and image.mode.startswith("I")  # which Pillow sees to in 8 bits alone
    image.load()  # before the metadata: Pillow turns TIFFs as their orientation says when it loads them
    metadata = _metadata(image, notes)
    clear = image.info.get("transparency")
    if image.mode.startswith("I"):
        image = _reduce(image, 4095 if any("I;12" in mode for mode in raw_modes) else 65535, inverted, notes)
    elif any(";16" in mode and "BGR;16" not in mode for mode in raw_modes):  # BGR;16 has five or six bits a sample
        notes.append("16 bits per sample reduced to 8")
        if raw_modes[0].startswith("LA"):  # which Pillow reads as RGBA
            image = image.convert("LA")
        if isinstance(clear, tuple):  # in 16 bits, where the pixels are the upper 8 of these
            image = image.copy()
            image.info["transparency"] = tuple(level >> 8 for level in clear)
    elif raw_modes[:1] in (["L;2"], ["L;4"]) and isinstance(clear, int):  # where the pixels fill 8 bits
        image = image.copy()
        image.info["transparency"] = clear * (85 if raw_modes[0] == "L;2" else 17)
    if image.mode == "CMYK":
        image = _cmyk_to_rgb(image, metadata.pop("icc", None), notes)
    elif image.mode == "F":
        raise ValueError("floating-point pixels: convert them to 8 bits first")
    transparent = "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa")
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
    return Picture(_hide(colours, alpha), alpha, metadata, tuple(notes), frames)


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


def _frames(image: Image.Image, notes: list[str]) -> int:
    """How many pictures there are, of which one is taken; 2 where this cannot be told."""
    sizes = image.info.get("sizes", ()) if image.format in ("ICO", "ICNS") else ()
    if len(sizes) > 1:
        notes.append(f"largest of {len(sizes)} sizes")
        return len(sizes)
    try:
        frames: int = getattr(image, "n_frames", 1)
    except Exception:  # broken files make Pillow raise almost anything
        image.seek(0)
        notes.append("first of several frames, of which some are broken")
        return 2
    if frames > 1:
        notes.append(f"first of {frames} frames")
    return max(1, frames)


def _reduce(image: Image.Image, most: int, inverted: bool, notes: list[str]) -> Image.Image:
    """Gray of more than 8 bits (I;16 and its byte orders; 32-bit I holds 16 bits or 8) to L, or LA if a level is clear.

    ``most`` is white, or black where it is ``inverted``.
    """
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"samples from {values.min()} to {values.max()}: expected 8 or 16 bits")
    if image.mode == "I" and values.max() <= 255:
        notes.append("integer samples taken as 8 bits")
        return Image.fromarray(values.astype(np.uint8))
    notes.append(f"{most.bit_length()} bits per sample reduced to 8")
    reduced = ((255 * values + most // 2) // most).clip(0, 255).astype(np.uint8)
    if inverted:
        reduced = 255 - reduced
    clear = image.info.get("transparency")
    if not isinstance(clear, int):
        return Image.fromarray(reduced)
    return Image.fromarray(np.dstack((reduced, np.where(values == clear, 0, 255).astype(np.uint8))), "LA")


def _metadata(image: Image.Image, notes: list[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    # a PNG's comments may have the names of blocks: only what is bytes is one
    if isinstance(icc := image.info.get("icc_profile"), bytes) and icc:
        found["icc"] = icc
    try:
        exif = image.info.get("exif")
        if not exif or not isinstance(exif, bytes | Image.Exif):
            # what is no separate block in its file (TIFF, old PNG) is put together from the tags
            exif = exif_without_storage(image.getexif())
    except Exception:  # broken blocks make Pillow raise almost anything
        exif = b""
        notes.append("unreadable EXIF left out")
    if exif:
        found["exif"] = exif_bytes(exif)
    if isinstance(xmp := image.info.get("xmp"), str | bytes) and xmp:
        found["xmp"] = xmp.encode() if isinstance(xmp, str) else xmp
    return found


def exif_bytes(exif: Image.Exif | bytes) -> bytes:
    """The TIFF structure alone."""
    return (exif.tobytes() if isinstance(exif, Image.Exif) else bytes(exif)).removeprefix(_EXIF_PREFIX)


def exif_without_storage(exif: Image.Exif) -> bytes:
    """EXIF less the tags that say how a TIFF stores its pixels; nothing if that leaves nothing."""
    kept = Image.Exif()
    kept.load(exif.tobytes())
    for tag in list(kept):
        if tag in _STORAGE_TAGS:
            del kept[tag]
    return kept.tobytes() if len(kept) else b""


def _cmyk_to_rgb(image: Image.Image, icc: bytes | None, notes: list[str]) -> Image.Image:
    if icc:
        try:
            srgb = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, io.BytesIO(icc), srgb, outputMode="RGB")
        except ImageCms.PyCMSError:
            converted = None
        if converted is not None:
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
