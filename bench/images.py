"""The images that are measured: where they are, what they are, and which cannot be used."""

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

from aecodec.batch import printable
from aecodec.container import MAX_PIXELS
from aecodec.files import image_suffixes, open_picture
from aecodec.image import without_pillows_limit
from aecodec.metrics.ssimulacra2 import SMALLEST as SSIMULACRA2_SMALLEST

from .metrics import MS_SSIM_SMALLEST

PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png")
LOSSY = {"JPEG", "MPO", "WEBP", "AVIF"}


@dataclass(frozen=True)
class Sample:
    """An image file; ``digest`` identifies its pixels."""

    name: str
    path: Path
    width: int
    height: int
    digest: str
    note: str  # what is particular about it


def default_folder() -> Path:
    """Where scikit-image keeps the photographs that its wheel brings along."""
    return Path(skimage.data.__file__).parent


def find(folder: Path | None) -> list[Path]:
    """The image files below a folder, or the photographs of scikit-image. Raises ValueError where there are none."""
    if folder is None:
        return [default_folder() / name for name in PHOTOGRAPHS]
    if not folder.is_dir():
        raise ValueError(f"{folder}: not a folder")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in image_suffixes() and not p.is_dir())
    if not paths:
        raise ValueError(f"no images in {folder}")
    return paths


def survey(paths: Sequence[Path], root: Path | None, show: Callable[[], None]) -> tuple[list[Sample], dict[str, str]]:
    """The readable images, and why the others are not; ``show`` is called after each."""
    samples: dict[str, Sample] = {}
    skipped = {}
    for path in paths:
        name = printable(path.relative_to(root).as_posix() if root else path.name)
        try:
            image, notes = read(path)
        except (OSError, ValueError) as error:
            skipped[name] = getattr(error, "strerror", None) or str(error)
        else:
            if min(image.size) < SSIMULACRA2_SMALLEST:
                notes = (*notes, f"below {SSIMULACRA2_SMALLEST} pixels: no SSIMULACRA 2")
            if min(image.size) < MS_SSIM_SMALLEST:
                notes = (*notes, f"below {MS_SSIM_SMALLEST} pixels: no MS-SSIM")
            sample = Sample(name, path, image.width, image.height, digest(image), "; ".join(notes))
            first = samples.setdefault(sample.digest, sample)
            if first is not sample:
                skipped[name] = f"the same pixels as {first.name}"
        show()
    return list(samples.values()), skipped


def digest(image: Image.Image) -> str:
    """What identifies an RGB image: SHA-256 of its size and pixels, in hexadecimal."""
    return hashlib.sha256(f"{image.width}x{image.height}".encode() + image.tobytes()).hexdigest()


@without_pillows_limit()
def read(path: Path) -> tuple[Image.Image, tuple[str, ...]]:
    """The image as 8-bit RGB, and what was changed for that. Raises OSError or ValueError."""
    if path.exists() and not path.is_file():
        raise OSError("not a file")  # a pipe would never end
    data = path.read_bytes()
    picture = open_picture(data, MAX_PIXELS)
    notes = picture.notes
    with Image.open(io.BytesIO(data)) as opened:
        if opened.format in LOSSY:  # whose traces favour the codec that left them
            notes = (*notes, f"was a {opened.format} file")
    if picture.pixels.shape[2] == 1:
        notes = (*notes, "gray, measured as RGB")
    if picture.alpha is not None:
        notes = (*notes, "alpha left out")
    return Image.fromarray(np.broadcast_to(picture.pixels, (*picture.pixels.shape[:2], 3))), notes


def centre(image: Image.Image, width: int, height: int) -> Image.Image:
    """At most so many pixels of it."""
    width, height = min(width, image.width), min(height, image.height)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
