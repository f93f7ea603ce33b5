"""Random patches of a folder of photographs, reproducible from a seed and a step number."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".ppm"}
GRAY_SHARE = 0.05
HALVED_SHARE = 0.25
CACHE_BYTES = 4 << 30


def find_images(folders: Sequence[Path], smallest_side: int) -> tuple[list[Path], int]:
    """All images below the folders with sides of at least ``smallest_side``, and how many files were skipped."""
    files, skipped = [], 0
    for path in sorted(p for folder in folders for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        try:
            with Image.open(path) as image:
                large_enough = min(image.size) >= smallest_side
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
            large_enough = False
        if large_enough:
            files.append(path)
        else:
            skipped += 1
    return files, skipped


class Patches(Dataset[Tensor]):
    """Item ``step`` is a batch ``[batch, patch, patch, 3]`` of bytes that depends on the seed and the step alone.

    Files whose names start alike (a camera, a series) form a group; groups are drawn by the square root of their
    size, so that one large series does not drown the rest.
    """

    def __init__(self, files: Sequence[Path], batch: int, patch: int, seed: int):
        self.files, self.batch, self.patch, self.seed = list(files), batch, patch, seed
        groups = [f"{p.parent}/{re.sub(r'[-_ ]*[0-9].*', '', p.stem)}" for p in self.files]
        sizes = {g: groups.count(g) for g in set(groups)}
        weights = np.array([sizes[g] ** -0.5 for g in groups])
        self.weights = weights / weights.sum()
        self.cache: dict[int, npt.NDArray[np.uint8]] = {}
        self.cached_bytes = 0

    def __getitem__(self, step: int) -> Tensor:
        rng = np.random.default_rng((self.seed, step))
        chosen = rng.choice(len(self.files), self.batch, p=self.weights)
        return torch.from_numpy(np.stack([self._patch(self._image(int(i)), rng) for i in chosen]))

    def _image(self, index: int) -> npt.NDArray[np.uint8]:
        if index in self.cache:
            return self.cache[index]
        with Image.open(self.files[index]) as image:
            pixels = np.asarray(image.convert("RGB"))
        if self.cached_bytes + pixels.nbytes <= CACHE_BYTES:
            self.cache[index] = pixels
            self.cached_bytes += pixels.nbytes
        return pixels

    def _patch(self, image: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
        halve = rng.random() < HALVED_SHARE and min(image.shape[:2]) >= 2 * self.patch
        side = self.patch * (2 if halve else 1)
        top, left = (int(rng.integers(n - side + 1)) for n in image.shape[:2])
        patch = image[top : top + side, left : left + side]
        if halve:
            pairs = patch.reshape(self.patch, 2, self.patch, 2, 3).astype(np.uint16)
            patch = ((pairs.sum((1, 3)) + 2) // 4).astype(np.uint8)
        if rng.random() < GRAY_SHARE:
            patch = np.repeat(patch.mean(2, keepdims=True).astype(np.uint8), 3, axis=2)
        if rng.random() < 0.5:
            patch = patch.swapaxes(0, 1)
        if rng.random() < 0.5:
            patch = patch[::-1]
        if rng.random() < 0.5:
            patch = patch[:, ::-1]
        return patch


def loader(patches: Patches, start: int) -> "DataLoader[Tensor]":
    """Batches from step ``start`` on, without end, prepared by one worker process."""
    return DataLoader(patches, batch_size=None, sampler=range(start, 1 << 31), num_workers=1, prefetch_factor=8)
