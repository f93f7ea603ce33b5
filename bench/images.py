"""The images that are measured: where they are, what they are, and which cannot be used."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

from aecodec.container import MAX_PIXELS
from aecodec.files import IMAGE_SUFFIXES, open_picture

from .metrics import MS_SSIM_SMALLEST
from .ssimulacra2 import SMALLEST as SSIMULACRA2_SMALLEST

PHOTOGRAPHS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "motorcycle_left.png",
    "rocket.jpg",
)


@dataclass(frozen=True)
class Sample:
    """An image file; ``digest`` identifies its pixels."""

    name: str
    path: Path
    width: int
    height: int
    digest: str
    note: str  # what is particular about it

    def pixels(self) -> int:
        return self.width * self.height


def default_folder() -> Path:
    """Where scikit-image keeps the photographs that its wheel brings along."""
    return Path(skimage.data.__file__).parent


def find(folder: Path | None) -> list[Path]:
    """The image files below a folder, or the photographs of scikit-image. Raises ValueError where there are none."""
    if folder is None:
        return [default_folder() / name for name in PHOTOGRAPHS]
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    if not paths:
        raise ValueError(f"no images in {folder}")
    return paths


def survey(paths: Sequence[Path], root: Path | None, show: Callable[[], None]) -> tuple[list[Sample], dict[str, str]]:
    """The readable images, and why the others are not; ``show`` is called after each."""
    samples, skipped = [], {}
    for path in paths:
        name = str(path.relative_to(root)) if root else path.name
        try:
            pixels, notes = read(path)
        except (OSError, ValueError) as error:
            skipped[name] = str(error)
        else:
            height, width = pixels.height, pixels.width
            if min(width, height) < SSIMULACRA2_SMALLEST:
                notes = (*notes, f"below {SSIMULACRA2_SMALLEST} pixels: no SSIMULACRA 2")
            if min(width, height) < MS_SSIM_SMALLEST:
                notes = (*notes, f"below {MS_SSIM_SMALLEST} pixels: no MS-SSIM")
            digest = hashlib.sha256(f"{width}x{height}".encode() + pixels.tobytes()).hexdigest()
            samples.append(Sample(name, path, width, height, digest, "; ".join(notes)))
        show()
    return samples, skipped


def read(path: Path) -> tuple[Image.Image, tuple[str, ...]]:
    """The image as 8-bit RGB, and what was changed for that. Raises OSError or ValueError."""
    picture = open_picture(path.read_bytes(), MAX_PIXELS)
    notes = picture.notes
    if picture.pixels.shape[2] == 1:
        notes = (*notes, "gray, measured as RGB")
    if picture.alpha is not None:
        notes = (*notes, "alpha left out")
    return Image.fromarray(np.broadcast_to(picture.pixels, (*picture.pixels.shape[:2], 3))), notes
