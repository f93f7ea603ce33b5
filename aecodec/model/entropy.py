"""The entropy model: what decides how every symbol is coded, the same bits on every machine."""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .fixed_point import ACTIVATION_BITS, ACTIVATION_LIMIT, TABLE_BITS, FixedPoint
from .structure import CELL, GROUP, STEPS, Array, context, fine_context, hyper_synthesis

HYPER, FINE = 0, 1 + STEPS  # the first part of a tile, and the one that comes after the context steps
SYMBOL_LIMIT = 1 << 13  # symbols lie in -2^13..2^13
SCALES = 80  # number of tables; neighbours differ by a factor of 2^(1/8) in standard deviation
SCALE_STEP_BITS = 5  # 2^-3 octaves in units of 2^-8
SCALE_MIN_LOG2 = -3.25  # log2 of the standard deviation of table 0


class EntropyModel:
    """The prior's networks in fixed point and its tables over quality.

    ``tensors``: those of the weights file, as numpy arrays. ``xp`` is the library that computes, numpy or torch, whose
    arrays are on ``device``; nothing that comes out depends on either.
    """

    def __init__(self, tensors: Mapping[str, npt.NDArray[Any]], xp: Any = np, device: Any = "cpu"):
        own = {name: value for name, value in tensors.items() if name.startswith("prior.")}
        layers = {name for name in own if name.endswith((".weight", ".bias"))}
        self.ops = FixedPoint({name: own[name] for name in layers}, xp, device)
        self.tables = {name.removeprefix("prior."): self.ops.number(own[name]) for name in own.keys() - layers}
        self.hyper_index: npt.NDArray[np.uint8] = tensors["coder.hyper_index"]  # [101, Nz]
        self.latents = self.tables["gain"].shape[1]
        self.fine_latents = self.tables["fine_gain"].shape[1] if "fine_gain" in self.tables else 0

    def has_fine(self, quality: int) -> bool:
        """Whether fine latents are coded at a quality."""
        return bool(self.fine_latents and self.tables["fine_coded"][quality])

    def parts(self, quality: int) -> int:
        """What a tile consists of: hyper-latents, context steps, and fine latents where the quality has them."""
        return 1 + STEPS + self.has_fine(quality)

    def tiles(self, batch: int, height: int, width: int, quality: int) -> "Tiles":
        """``batch`` tiles of ``height`` x ``width`` latents of which nothing is known yet."""
        return Tiles(self, batch, height, width, quality)

    def digest(self) -> str:
        """SHA-256 of what comes of fixed symbols: one value for these weights, on whatever machine."""
        digest, (height, width) = hashlib.sha256(), (10, 14)
        tiles = self.tiles(1, height, width, 100 if self.fine_latents else 60)  # at 100 there are all parts
        # of a part's symbols; there are fewer hyper-latents
        count = height * width * max(self.latents // 4, self.fine_latents)
        for part in range(tiles.parts):
            mean, index = tiles.predict()
            # the hyper-latents' symbols are drawn last
            seed = tiles.parts - 1 if part == HYPER else part - 1
            drawn = np.frombuffer(hashlib.shake_256(bytes((seed,))).digest(count), np.uint8)[: index.shape[1]]
            symbols = (drawn & 3).astype(np.int64) - (drawn >> 2 & 3)  # from -3 to 3, most of them small
            symbols = self.ops.number(symbols[None])
            if part != HYPER:
                symbols = symbols * (index > 0)
                digest.update(self._bytes(mean) + self._bytes(index))
            tiles.update(symbols)
        digest.update(self._bytes(tiles.latents))
        return digest.hexdigest()

    def _bytes(self, x: Array) -> bytes:
        return self.ops.integers(x, np.int32).astype("<i4").tobytes()

    def bound(self) -> int:
        """The largest magnitude that any sum, in any order, can reach with these weights; exactness needs < 2^53."""
        largest = self.ops.bound()
        tables = [n for n in self.tables if n.endswith("gain") or n == "hyper_rate"]
        factor = max(int(abs(self.tables[name]).max()) for name in tables)
        value_limit = ACTIVATION_LIMIT + (SYMBOL_LIMIT << ACTIVATION_BITS)
        return max(largest, factor * value_limit) + (1 << TABLE_BITS)  # what rounding adds


class Tiles:
    """Tiles of one shape and quality while their parts are coded, one part after the other.

    `predict` says how the next part is coded, `update` takes its symbols. Parts are arrays ``[B, n]``: the
    hyper-latents by row, column and channel; the context steps by cell position, then row, column and channel of the
    group; the fine latents by row, column and channel.
    """

    def __init__(self, model: EntropyModel, batch: int, height: int, width: int, quality: int):
        self._model, self._ops = model, model.ops
        self.batch, self.height, self.width, self.quality = batch, height, width, quality
        self.hyper_height, self.hyper_width = -(-height // 4), -(-width // 4)
        self.parts, self._part = model.parts(quality), HYPER
        self.latents: Array = None  # ŷ [B, h, w, N or, with the fine ones, N + M], in units of 2^-8

    def predict(self) -> tuple[Array, Array]:
        """Means of the next part, in units of 2^-8, and the indices of its tables, both ``[B, n]``."""
        if self._part == HYPER:
            row = np.tile(self._model.hyper_index[self.quality], (self.batch, self.hyper_height * self.hyper_width))
            index = self._ops.number(row)
            return index * 0, index
        if self._part == FINE:
            decided = [self._decide(fine_context(self._ops, self._features, self.latents), "fine_", slice(None))]
        else:
            step = self._part - 1
            raw = context(self._ops, step, self._features, self.latents)
            decided = [self._decide(r, "", self._group(g)) for r, g in zip(raw, GROUP[step], strict=True)]
        self._mean, index = (_join(self._ops.xp, parts) for parts in zip(*decided, strict=True))
        return self._mean, index

    def update(self, symbols: Array) -> None:
        """The symbols ``[B, n]`` of the part that was predicted, each in ±`SYMBOL_LIMIT`, zero where the index is."""
        part, ops = self._part, self._ops
        self._part += 1
        if part == HYPER:
            z = symbols.reshape(self.batch, self.hyper_height, self.hyper_width, -1)
            z = ops.clamp(ops.shift(z * self._table("hyper_inverse_gain"), TABLE_BITS - ACTIVATION_BITS))
            self._features = hyper_synthesis(ops, z, self._table("hyper_rate"), self.height, self.width)
            self.latents = ops.zeros(z, self.batch, self.height, self.width, self._model.latents)
            return
        value = self._mean + symbols * (1 << ACTIVATION_BITS)
        if part == FINE:
            value = value.reshape(self.batch, self.height, self.width, -1)
            fine = ops.scale(value, self._table("fine_inverse_gain"))
            self.latents = ops.concatenate(self.latents, fine)
            return
        inverse, start = self._table("inverse_gain"), 0
        for (i, j), g in zip(CELL, GROUP[part - 1], strict=True):
            group = self._group(g)
            shape = self.latents[:, i::2, j::2, group].shape
            end = start + math.prod(shape[1:])
            self.latents[:, i::2, j::2, group] = ops.scale(value[:, start:end].reshape(shape), inverse[group])
            start = end

    def arrange(self, plane: Array) -> Array:
        """The entries of ``[B, h, w, N + M]`` that the next part, not the first, codes, in its order: ``[B, n]``."""
        if self._part == FINE:
            return plane[..., self._model.latents :].reshape(self.batch, -1)
        cells = zip(CELL, GROUP[self._part - 1], strict=True)
        return _join(self._ops.xp, [plane[:, i::2, j::2, self._group(g)] for (i, j), g in cells])

    def _group(self, g: int) -> slice:
        """Its channels."""
        n = self._model.latents // 4
        return slice(g * n, (g + 1) * n)

    def _table(self, name: str) -> Array:
        return self._model.tables[name][self.quality]

    def _decide(self, raw: Array, kind: str, channels: slice) -> tuple[Array, Array]:
        """Means in the symbols' scale and table indices, from what a part's last layer says of both."""
        n = raw.shape[-1] // 2
        mean = self._ops.scale(raw[..., :n], self._table(f"{kind}gain")[channels])
        offset = self._table(f"{kind}scale_offset")[channels]
        return mean, self._ops.shift(raw[..., n:] + offset, SCALE_STEP_BITS).clip(0, SCALES - 1)


def _join(xp: Any, parts: "list[Array] | tuple[Array, ...]") -> Array:
    return xp.concatenate([p.reshape(len(p), -1) for p in parts], -1)
