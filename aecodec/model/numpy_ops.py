"""The layers in NumPy: float32 on a CPU, without torch, which takes longer to import than a picture to decode."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import numpy.typing as npt

from ..threads import each, one_for_blas
from .structure import LEAK, FloatOperations

Floats = npt.NDArray[np.floating[Any]]

NEIGHBOURS = [(i, j) for i in range(3) for j in range(3) if (i, j) != (1, 1)]
BAND = 1 << 15  # floats that a depthwise convolution works on at once, which stay in a core's cache
PIECE = 2048  # positions that a 1x1 convolution works on at once


class NumpyOperations(FloatOperations):
    """``tensors``: weights and biases of all layers, by ``<layer>.weight`` and ``<layer>.bias``."""

    xp = np

    def __init__(self, tensors: Mapping[str, Floats]):
        self.tensors = {
            # as they are multiplied: [columns, rows], and [3, 3, C]
            name: np.ascontiguousarray(np.moveaxis(value, 0, -1)) if name.endswith(".weight") else value
            for name, value in tensors.items()
        }

    def array(self, x: Any) -> Floats:
        return np.asarray(x, np.float32)

    def to_bytes(self, x: Floats) -> npt.NDArray[np.uint8]:
        x = np.clip(x, 0, 1) * x.dtype.type(255)
        return np.round(x, out=x).astype(np.uint8)

    def numpy(self, x: Floats) -> Floats:
        return x

    def inference(self) -> AbstractContextManager[None]:
        return one_for_blas()

    def pointwise(self, layer: str, x: Floats, columns: int | None = None) -> Floats:
        weight, bias = self.tensors[f"{layer}.weight"][:columns], self.tensors[f"{layer}.bias"]
        flat = x.reshape(-1, x.shape[-1])
        if len(flat) <= PIECE:
            return (flat @ weight + bias).reshape(*x.shape[:-1], weight.shape[1])
        y = np.empty((len(flat), weight.shape[1]), x.dtype)

        def piece(part: slice) -> None:
            np.matmul(flat[part], weight, out=y[part])
            y[part] += bias

        each(piece, pieces(len(flat)), torch=False)
        return y.reshape(*x.shape[:-1], weight.shape[1])

    def depthwise(self, layer: str, x: Floats, edge: bool) -> Floats:
        weight, bias = self.tensors[f"{layer}.weight"], self.tensors[f"{layer}.bias"]
        _, h, w, c = x.shape
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), "edge" if edge else "constant")
        y, rows = np.empty_like(x), max(1, BAND // (w * c))

        def band(top: int) -> None:
            part = y[:, top : top + rows]
            height, product = part.shape[1], np.empty_like(part)
            np.multiply(padded[:, top + 1 : top + 1 + height, 1:-1], weight[1, 1], out=part)
            part += bias
            for i, j in NEIGHBOURS:
                there = padded[:, top + i : top + i + height, j : j + w]
                part += np.multiply(there, weight[i, j], out=product)

        each(band, range(0, h, rows), torch=False)
        return y

    def activate(self, x: Floats) -> Floats:
        return np.maximum(x, x * x.dtype.type(LEAK), out=x)

    def add(self, x: Floats, y: Floats) -> Floats:
        return x + y

    def scale(self, x: Floats, factors: Floats) -> Floats:
        return x * factors

    def concatenate(self, x: Floats, y: Floats) -> Floats:
        return np.concatenate((x, y), -1)

    def residual(self, x: Floats, mix: Callable[[Floats], Floats], pointwise: Callable[[Floats], Floats]) -> Floats:
        inner, result = (array.reshape(-1, x.shape[-1]) for array in (mix(x), np.array(x)))

        def piece(part: slice) -> None:
            result[part] += pointwise(inner[part])

        each(piece, pieces(len(result)), torch=False)
        return result.reshape(x.shape)


def pieces(count: int) -> Iterator[slice]:
    """Of so many positions, such that what is hidden of one, the largest thing in the networks, stays in the cache."""
    return (slice(start, start + PIECE) for start in range(0, count, PIECE))
