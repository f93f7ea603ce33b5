"""Data for autoencoders: folders of pictures, .npy, .npz, .csv, MNIST's idx files, and scikit-learn's digits."""

import gzip
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from .. import files

IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


@dataclass
class Samples:
    """Rows ``x [n, features]``; ``shape`` (channels, height, width) of pictures; ``labels [n]`` where there are any."""

    x: npt.NDArray[np.float32]
    shape: tuple[int, int, int] | None
    labels: npt.NDArray[Any] | None = None


def load(name: str, labels: Path | None = None) -> Samples:
    """The samples of a path, or `digits`. Bytes are scaled to 0..1.

    Raises ValueError, naming the source, for what is empty, of mixed sizes, not finite, or has more or fewer labels.
    """
    path = Path(name)
    if name == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        found = Samples((digits.data / 16).astype(np.float32), (1, 8, 8), digits.target)
    elif path.is_dir():
        found = _folder(path)
    else:
        found = _array(path)
    if labels:
        found.labels = _values(labels).ravel()
    if not found.x.size:
        raise ValueError(f"{name} has no samples")
    if not np.isfinite(found.x).all():
        row = int(np.flatnonzero(~np.isfinite(found.x).all(1))[0])
        raise ValueError(f"{name} holds NaN or infinity (sample {row})")
    if found.labels is not None and len(found.labels) != len(found.x):
        raise ValueError(f"there are {len(found.labels)} labels for the {len(found.x)} samples of {name}")
    return found


def _folder(folder: Path) -> Samples:
    """Its pictures; where they lie in folders of their own, these are the labels."""
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in files.image_suffixes())
    if not paths:
        raise ValueError(f"{folder} has no pictures")
    pictures: list[npt.NDArray[np.uint8]] = []
    mode = "L"
    for path in paths:
        with Image.open(path) as image:
            mode = "L" if image.mode in {"1", "L"} and mode == "L" else "RGB"
            pixels = np.asarray(image.convert("RGB"))
        if pictures and pixels.shape != pictures[0].shape:
            sizes = [f"{p.shape[1]}x{p.shape[0]}" for p in (pictures[0], pixels)]
            raise ValueError(
                f"{folder} has pictures of mixed sizes: {paths[0].name} {sizes[0]}, {path.name} {sizes[1]}"
            )
        pictures.append(pixels)
    stack = np.stack(pictures)[..., :1] if mode == "L" else np.stack(pictures)
    names = [str(path.parent.relative_to(folder)) for path in paths]
    return _pictures(stack, np.array(names) if len(set(names)) > 1 else None)


def _array(path: Path) -> Samples:
    values = _values(path)
    if values.ndim in (3, 4):
        return _pictures(values if values.ndim == 4 else values[..., None], None)
    if values.ndim != 2:
        raise ValueError(
            f"{path} holds an array of {values.ndim} dimensions, not [n, features], [n, H, W] or [n, H, W, C]"
        )
    return Samples(_scaled(values), None)


def _pictures(stack: npt.NDArray[Any], labels: npt.NDArray[Any] | None) -> Samples:
    n, height, width, channels = stack.shape
    shape = (channels, height, width)
    return Samples(_scaled(stack.transpose(0, 3, 1, 2)).reshape(n, math.prod(shape)), shape, labels)


def _scaled(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return (values / 255 if values.dtype == np.uint8 else values).astype(np.float32)


def _values(path: Path) -> npt.NDArray[Any]:
    """The array of a file; the first of an .npz. Raises ValueError, naming the file, and OSError."""
    suffix = path.suffix.lower()
    data = files.read(path)
    try:
        if suffix in {".npy", ".npz"}:
            with path.open("rb") as file:
                loaded = np.load(file, allow_pickle=False)
                values: npt.NDArray[Any] = loaded if suffix == ".npy" else loaded[loaded.files[0]]
                return values
        if suffix == ".csv":
            text = data.decode("utf-8-sig").splitlines()
            return np.loadtxt(text, delimiter=",", skiprows=_header(text), ndmin=2)
        if "idx" in path.name:
            return _idx(gzip.decompress(data) if suffix == ".gz" else data)
    except (ValueError, KeyError, EOFError, IndexError, OSError) as error:
        raise ValueError(f"{path} cannot be read as {suffix or 'idx'}: {error}") from None
    raise ValueError(f"{path} is no folder, .npy, .npz, .csv or idx file, nor digits")


def _header(lines: list[str]) -> int:
    """1 where the first line holds names, as no number does."""
    try:
        [float(word) for word in lines[0].split(",")]
    except ValueError:
        return 1
    return 0


def _idx(data: bytes) -> npt.NDArray[Any]:
    """MNIST's format (LeCun): two zeros, type, number of dimensions, the sides, the values."""
    kind, dimensions = IDX_TYPES[data[2]], data[3]
    sides = np.frombuffer(data, ">u4", dimensions, 4)
    return np.frombuffer(data, kind, math.prod(map(int, sides)), 4 + 4 * dimensions).reshape(sides)
