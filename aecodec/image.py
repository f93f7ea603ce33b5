"""Pictures in and out: PIL images, arrays and tensors on one side, planes of bytes and metadata on the other."""

import contextlib
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Union

import numpy as np
import numpy.typing as npt
from PIL import Image

from . import conversion, devices, exif
from .container import MAX_PIXELS, check_size
from .errors import ConversionWarning
from .loading import LOADING

if TYPE_CHECKING:
    from torch import Tensor

Plane = npt.NDArray[np.uint8]
Pixels = Union[Plane, "Tensor"]  # bytes; a tensor stays on its device


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
    PIL image gives the same whether it was loaded before or not; the notes say what of it and of its file is lost.
    Raises TypeError for any other type, ValueError for any other shape, OSError where Pillow cannot read the image, and
    `LimitExceeded` before any work for a picture that is too large.
    """
    if isinstance(image, Image.Image):
        check_size(image.width, image.height, max_pixels)
        found = conversion.convert(image)
        return _as_gray(Picture(_hide(found.colours, found.alpha), found.alpha, found.metadata, found.notes))
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
    """Warn of a picture's notes, as if at the line that called this package or Pillow."""
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] in (__package__, "PIL"):
        level, frame = level + 1, frame.f_back
    for note in picture.notes:
        warnings.warn(note, ConversionWarning, stacklevel=level)


def plane(pixels: Pixels) -> Plane:
    """Pixels as an array."""
    return pixels if isinstance(pixels, np.ndarray) else pixels.cpu().numpy()


def to_array(picture: Picture) -> Plane:
    """``[H, W, C]`` bytes."""
    planes = plane(picture.pixels)
    if picture.equal_colours:
        planes = np.repeat(planes, 3, 2)
    if picture.alpha is not None:
        planes = np.concatenate((planes, picture.alpha[:, :, None]), 2)
    return planes


def to_pil(picture: Picture) -> Image.Image:
    """A PIL image with its metadata."""
    planes = to_array(picture)
    image = Image.fromarray(planes[:, :, 0] if planes.shape[2] == 1 else planes, picture.mode)
    image.info.update(info_of(picture.metadata))
    return image


def to_tensor(picture: Picture) -> "Tensor":
    """``[C, H, W]`` bytes, on the device of the pixels. Raises `TorchMissing`."""
    torch = devices.torch_for("a tensor")
    pixels: Tensor = torch.as_tensor(picture.pixels)
    planes = [pixels.expand(-1, -1, 3) if picture.equal_colours else pixels]
    if picture.alpha is not None:
        planes.append(torch.as_tensor(picture.alpha[:, :, None]).to(pixels.device))
    found: Tensor = torch.cat(planes, 2).permute(2, 0, 1).contiguous()
    return found


def info_of(metadata: Mapping[str, bytes]) -> dict[str, Any]:
    """Metadata by the names that Pillow has for it in `Image.info`."""
    names = {"icc": "icc_profile", "exif": "exif", "xmp": "xmp"}
    info: dict[str, Any] = {names[key]: value for key, value in metadata.items() if key in names}
    if "exif" in info:
        if dpi := exif.resolution(info["exif"]):
            info["dpi"] = dpi
        info["exif"] = exif.PREFIX + info["exif"]
    return info


def reduced(plane: Plane, factor: int) -> Plane:
    """``[H, W]`` as means of squares of ``factor`` pixels, sides rounded up."""
    return plane if factor == 1 else np.array(Image.fromarray(plane).reduce(factor))


_limits: list[int | None] = []  # Pillow's, as each who is within `without_pillows_limit` found it


@contextlib.contextmanager
def without_pillows_limit() -> Iterator[None]:
    """Lift Pillow's limit of pixels, where there is one of our own. It is the process's, and returns with the last."""
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
