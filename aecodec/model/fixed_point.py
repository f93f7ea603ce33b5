"""The layers in exact arithmetic: integers in float64, in NumPy or torch, the same bits everywhere.

Method: integer networks for a prior that decodes on every machine (Ballé, Johnston, Minnen 2019).

**Exactness.** Activations are integers in units of 2^-8, weights integers in units of 2^-12 and tables over quality
integers in units of 2^-16 (the scales' offsets: 2^-8), all held in float64. Every product and every partial sum is an
integer below 2^53 (`EntropyModel.bound` computes how far below), so that the order of summation, the BLAS, the number
of threads and the device cannot change a bit.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .numpy_ops import NEIGHBOURS
from .structure import LEAK, Array, Operations

ACTIVATION_BITS = 8  # an activation of 1.0 is 2^8
WEIGHT_BITS = 12  # a weight of 1.0 is 2^12
TABLE_BITS = 16  # an entry of 1.0 in a table over quality is 2^16: gains multiply large latents, so they are finer
ACTIVATION_LIMIT = 1 << 20  # activations are clamped to ±2^20, that is ±4096.0


class FixedPoint(Operations):
    """``tensors``: integers, as numpy arrays, by ``<layer>.weight`` and ``<layer>.bias``.

    ``xp`` is the library, numpy or torch, whose arrays are on ``device``.
    """

    def __init__(self, tensors: Mapping[str, Array], xp: Any = np, device: Any = "cpu"):
        self.xp, self.device = xp, device
        # a layer shifts its sums right and rounds them: where weights and biases are shifted beforehand, and the half
        # that rounding adds is part of the bias, only a floor is left to do. Powers of two change no bit of a sum
        self._shifted = {
            name: self.number(value) * 0.5**WEIGHT_BITS + 0.5 * name.endswith(".bias")
            for name, value in tensors.items()
            if name.endswith((".weight", ".bias"))
        }

    def number(self, x: Array) -> Array:
        """Numbers of any library and type as this arithmetic holds them."""
        if self.xp is np:
            return np.asarray(x if isinstance(x, np.ndarray) else x.cpu(), np.float64)
        return self.xp.asarray(x, dtype=self.xp.float64, device=self.device)

    def integers(self, x: Array, kind: type[np.integer[Any]]) -> npt.NDArray[Any]:
        """An array of this arithmetic as one of NumPy's."""
        return np.asarray(x if self.xp is np else x.cpu()).astype(kind)

    def real(self) -> dict[str, Array]:
        """Weights and biases as the numbers that they stand for."""
        return {
            name: (value - 0.5) * 0.5**ACTIVATION_BITS if name.endswith(".bias") else value
            for name, value in self._shifted.items()
        }

    def shift(self, x: Array, bits: int) -> Array:
        """Divide by 2^bits and round to the nearest integer, halves upwards."""
        return self.xp.floor(x * 0.5**bits + 0.5)

    def clamp(self, x: Array) -> Array:
        return x.clip(-ACTIVATION_LIMIT, ACTIVATION_LIMIT)

    def _floor(self, y: Array) -> Array:
        """The end of a layer, in place: half of the time goes into passes over memory."""
        self.xp.floor(y, out=y)
        return self.xp.clip(y, -ACTIVATION_LIMIT, ACTIVATION_LIMIT, out=y)

    def pointwise(self, layer: str, x: Array, columns: int | None = None) -> Array:
        weight = self._shifted[f"{layer}.weight"][:, :columns]
        y = x.reshape(-1, x.shape[-1]) @ weight.swapaxes(0, 1)
        y += self._shifted[f"{layer}.bias"]
        return self._floor(y).reshape(*x.shape[:-1], len(weight))

    def depthwise(self, layer: str, x: Array, edge: bool) -> Array:
        """Zeros are around x: the exact networks know no other border."""
        assert not edge
        weight = self._shifted[f"{layer}.weight"]  # [C, 3, 3]
        _, h, w, _ = x.shape
        y = x * weight[:, 1, 1]
        y += self._shifted[f"{layer}.bias"]
        product = self.xp.empty_like(x)
        for i, j in NEIGHBOURS:
            # where the neighbour is outside of the plane there is nothing to add
            down, right = i - 1, j - 1
            rows, columns = slice(max(0, -down), h - max(0, down)), slice(max(0, -right), w - max(0, right))
            there = x[:, max(0, down) : h + min(0, down), max(0, right) : w + min(0, right)]
            part = product[:, rows, columns]
            self.xp.multiply(there, weight[:, i, j], out=part)
            y[:, rows, columns] += part
        return self._floor(y)

    def activate(self, x: Array) -> Array:
        return self.xp.maximum(x, self.xp.floor(x * LEAK))

    def add(self, x: Array, y: Array) -> Array:
        return self.clamp(x + y)

    def scale(self, x: Array, factors: Array) -> Array:
        """``factors``: entries of a table over quality."""
        return self.clamp(self.shift(x * factors, TABLE_BITS))

    def concatenate(self, x: Array, y: Array) -> Array:
        return self.xp.concatenate((x, y), -1)

    def zeros(self, like: Array, *shape: int) -> Array:
        return self.xp.zeros(shape, dtype=like.dtype, device=like.device)

    def bound(self) -> int:
        """The largest magnitude that a layer's sums, in any order, can reach."""
        largest = 0
        for name, weight in self._shifted.items():
            if name.endswith(".weight"):
                rows = abs(weight.reshape(len(weight), -1)).sum(1)
                sums = rows * ACTIVATION_LIMIT + abs(self._shifted[name.replace(".weight", ".bias")]) + 1
                largest = max(largest, int(sums.max() * 2**WEIGHT_BITS))
        return largest
