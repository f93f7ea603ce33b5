"""Random patches of a folder of photographs, reproducible from a seed and a step number."""

import contextlib
import re
import string
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..container import MAX_PIXELS
from ..files import image_suffixes, open_picture
from ..image import Plane, without_pillows_limit

GRAY_SHARE = 0.05
DRAWN_SHARE = 0.06  # of patches that are drawn, as photographs lack text, flat areas and hard edges
REDUCED_SHARE, MOST_REDUCED = 0.25, 4.0  # photographs shown smaller are sharper: from 2/3 to a quarter of their size
RECOLOURED_SHARE = 0.1  # strong colours are rare in photographs, and compress badly where nothing was learnt of them
CACHE_BYTES = 4 << 30
LETTERS = list(string.ascii_letters + string.digits + string.punctuation + 12 * " ")


@without_pillows_limit()  # the photographs are one's own
def find_images(folders: Sequence[Path], smallest_side: int) -> tuple[list[Path], int]:
    """All images below the folders with sides of at least ``smallest_side``, and how many files were skipped."""
    files, skipped = [], 0
    for path in sorted(p for folder in folders for p in folder.rglob("*") if p.suffix.lower() in image_suffixes()):
        large_enough = False
        with contextlib.suppress(Exception):  # broken files make Pillow's readers raise almost anything
            if path.is_file():  # a pipe would never end
                with Image.open(path) as image:
                    large_enough = min(image.size) >= smallest_side
        if large_enough:
            files.append(path)
        else:
            skipped += 1
    return files, skipped


def check_apart(training: Sequence[Path], valid: Sequence[Path]) -> None:
    """Raise ValueError if an image would be measured on that was learnt from."""
    shared = {p.resolve() for p in training} & {p.resolve() for p in valid}
    if shared:
        raise ValueError(f"{min(shared)} is among both the training and the validation images")


def check_readable(files: Sequence[Path]) -> None:
    """Raise ValueError, with its name, for an image of which the header alone is whole: now, not after hours."""
    for path in files:
        try:
            read_rgb(path)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from None


def read_rgb(path: Path) -> Plane:
    """Pixels ``[H, W, 3]`` of a file. Raises OSError or ValueError."""
    pixels: Plane = np.asarray(open_picture(path.read_bytes(), MAX_PIXELS).pixels)
    return np.repeat(pixels, 3, 2) if pixels.shape[2] == 1 else pixels


class Patches(Dataset[tuple[Tensor, Tensor]]):
    """Item ``step`` is what the encoder sees and what the decoder should give, two batches ``[batch, patch, patch, 3]``
    of bytes that depend on the seed and the step alone.

    They are the same unless ``noise`` asks for denoising: then each patch that the encoder sees has white Gaussian
    noise of a deviation of up to ``noise`` grey levels.

    Files whose names start alike (a camera, a series) form a group; groups are drawn by the square root of their
    size, so that one large series does not drown the rest.
    """

    def __init__(self, files: Sequence[Path], batch: int, patch: int, seed: int, noise: float = 0.0):
        self.files, self.batch, self.patch, self.seed, self.noise = list(files), batch, patch, seed, noise
        groups = [f"{p.parent}/{re.sub(r'[-_ ]*[0-9].*', '', p.stem)}" for p in self.files]
        sizes = Counter(groups)
        weights = np.array([sizes[g] ** -0.5 for g in groups])
        self.weights = weights / weights.sum()
        self.cache: dict[int, Plane] = {}
        self.cached_bytes = 0

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng((self.seed, step))
        clean = np.stack([self._one(rng) for _ in range(self.batch)])
        target = torch.from_numpy(clean)
        if not self.noise:
            return target, target
        deviations = rng.uniform(0, self.noise, (self.batch, 1, 1, 1))
        noisy = clean + deviations * rng.standard_normal(clean.shape)
        return torch.from_numpy(noisy.round().clip(0, 255).astype(np.uint8)), target

    def _one(self, rng: np.random.Generator) -> Plane:
        if rng.random() < DRAWN_SHARE:
            return drawing(self.patch, rng)
        return self._patch(self._choose(rng), rng)

    def _choose(self, rng: np.random.Generator) -> Plane:
        """An image at random. One whose end turns out to be missing is passed over."""
        for _ in range(100):
            index = int(rng.choice(len(self.files), p=self.weights))
            with contextlib.suppress(OSError, ValueError):
                return self._image(index)
        raise OSError(f"a hundred unreadable images in a row, the last one {self.files[index]}")

    def _image(self, index: int) -> Plane:
        if index in self.cache:
            return self.cache[index]
        pixels = read_rgb(self.files[index])
        if self.cached_bytes + pixels.nbytes <= CACHE_BYTES:
            self.cache[index] = pixels
            self.cached_bytes += pixels.nbytes
        return pixels

    def _patch(self, image: Plane, rng: np.random.Generator) -> Plane:
        side = self.patch
        if rng.random() < REDUCED_SHARE:
            side = min(round(side * float(rng.uniform(1.5, MOST_REDUCED))), *image.shape[:2])
        top, left = (int(rng.integers(n - side + 1)) for n in image.shape[:2])
        patch = image[top : top + side, left : left + side]
        if side > self.patch:
            reduced = Image.fromarray(patch).resize((self.patch, self.patch), Image.Resampling.LANCZOS)
            patch = np.asarray(reduced)
        if rng.random() < RECOLOURED_SHARE:
            patch = recoloured(patch, rng)
        if rng.random() < GRAY_SHARE:
            patch = np.repeat(patch.mean(2, keepdims=True).astype(np.uint8), 3, axis=2)
        if rng.random() < 0.5:
            patch = patch.swapaxes(0, 1)
        if rng.random() < 0.5:
            patch = patch[::-1]
        if rng.random() < 0.5:
            patch = patch[:, ::-1]
        return patch


def recoloured(patch: Plane, rng: np.random.Generator) -> Plane:
    """The patch with its channels exchanged and its colours made up to 1.8 times as strong."""
    pixels = patch[..., rng.permutation(3)].astype(np.float64)
    gray = pixels.mean(2, keepdims=True)
    strong: Plane = (gray + rng.uniform(1, 1.8) * (pixels - gray)).round().clip(0, 255).astype(np.uint8)
    return strong


def drawing(side: int, rng: np.random.Generator) -> Plane:
    """A patch ``[side, side, 3]`` as screenshots, charts and skies have them: flat or graded, with shapes and text."""

    def colour() -> tuple[int, int, int]:
        r, g, b = rng.integers(256, size=3).tolist() if rng.random() < 0.5 else [int(rng.integers(256))] * 3
        return r, g, b

    def place() -> tuple[int, int]:
        x, y = rng.integers(-side // 4, side, size=2).tolist()
        return x, y

    steep = rng.normal(size=2) * (rng.random() < 0.5)  # no slope: flat
    ramp = np.add.outer(*(s * np.linspace(0, 1, side) for s in steep))
    mixture = ((ramp - ramp.min()) / max(np.ptp(ramp), 1e-9))[..., None]
    pixels = mixture * colour() + (1 - mixture) * np.array(colour())
    image = Image.fromarray(pixels.round().astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(6))):
        (x, y), (w, h) = place(), rng.integers(2, side, size=2).tolist()
        shape = (pen.rectangle, pen.ellipse, pen.line)[int(rng.integers(3))]
        shape((x, y, x + w, y + h), fill=colour())
    for _ in range(int(rng.integers(4))):
        letters = rng.choice(LETTERS, size=160)
        lines = "\n".join(textwrap.wrap("".join(letters), int(rng.integers(8, 40))))
        pen.multiline_text(place(), lines, fill=colour(), font=ImageFont.load_default(int(rng.integers(8, 32))))
    return np.asarray(image)


def loader(patches: Patches, start: int, stride: int) -> "DataLoader[tuple[Tensor, Tensor]]":
    """Every ``stride``-th batch from ``start`` on, without end, prepared by one worker process."""
    return DataLoader(patches, batch_size=None, sampler=range(start, 1 << 31, stride), num_workers=1, prefetch_factor=8)
