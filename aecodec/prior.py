"""The prior: what decides how every symbol is coded, in arithmetic that is exact everywhere.

Method: mean-scale hyperprior (Minnen, Ballé, Toderici 2018) with a four-step parallel context over 2x2 cells and
channel groups (after He et al. 2021 and Li et al. 2023), evaluated in fixed point (Ballé, Johnston, Minnen 2019).

`Structure` says which layers follow each other. It knows no arithmetic: the trainer fills it with float layers that
have gradients, `ExactPrior` with fixed-point ones.

**Exactness.** Activations are integers in units of 2^-8, weights integers in units of 2^-12 and tables over quality
integers in units of 2^-16 (the scales' offsets: 2^-8), all held in float64. Every product and every partial sum is an
integer below 2^53 (`ExactPrior.bound` computes how far below), so that the order of summation, the BLAS, the number of
threads and the device cannot change a bit.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy

STEPS = 4
FINE = STEPS  # the part that comes after the steps, of the fine latents
# PATTERN[group][cell position]: the step that codes the channel group at the position of the 2x2 cell (row by row)
PATTERN = ((0, 3, 1, 2), (3, 0, 2, 1), (1, 2, 0, 3), (2, 1, 3, 0))
# GROUP[step][cell position]: the same, asked the other way round
GROUP = tuple(tuple(g for p in range(4) for g in range(4) if PATTERN[g][p] == s) for s in range(STEPS))
CELL = ((0, 0), (0, 1), (1, 0), (1, 1))
_NEIGHBOURS = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]

ACTIVATION_BITS = 8  # an activation of 1.0 is 2^8
WEIGHT_BITS = 12  # a weight of 1.0 is 2^12
TABLE_BITS = 16  # an entry of 1.0 in a table over quality is 2^16: gains multiply large latents, so they are finer
ACTIVATION_LIMIT = 1 << 20  # activations are clamped to ±2^20, that is ±4096.0
SYMBOL_LIMIT = 1 << 13  # symbols lie in -2^13..2^13
SCALES = 80  # number of tables; neighbours differ by a factor of 2^(1/8) in standard deviation
SCALE_STEP_BITS = 5  # 2^-3 octaves in units of 2^-8
SCALE_MIN_LOG2 = -3.25  # log2 of the standard deviation of table 0

Array = Any  # numpy.ndarray or torch.Tensor: the code below uses what they share


class Structure(ABC):
    """The layers of the prior in order; subclasses say what a layer computes.

    Arrays are ``[B, H, W, C]``. ``quality`` is whatever the subclass' ``scale`` finds a vector with.
    """

    @abstractmethod
    def pointwise(self, name: str, x: Array, columns: int | None = None) -> Array:
        """1x1 convolution, or its first ``columns`` alone, where the other channels would be zero."""

    @abstractmethod
    def depthwise(self, name: str, x: Array) -> Array:
        """3x3 convolution of each channel by itself, zeros around."""

    @abstractmethod
    def activate(self, x: Array) -> Array:
        """Leaky ReLU with slope 1/8."""

    @abstractmethod
    def add(self, x: Array, y: Array) -> Array: ...

    @abstractmethod
    def scale(self, name: str, x: Array, quality: Any) -> Array:
        """Multiply the channels by the vector that table ``name`` has for the quality."""

    @abstractmethod
    def concatenate(self, x: Array, y: Array) -> Array:
        """Join the channels."""

    def shuffle(self, x: Array) -> Array:
        """Depth to space by 2, channels in (row, column, channel) order."""
        b, h, w, c = x.shape
        x = x.reshape(b, h, w, 2, 2, c // 4).swapaxes(2, 3)
        return x.reshape(b, 2 * h, 2 * w, c // 4)

    def block(self, name: str, x: Array) -> Array:
        hidden = self.activate(self.pointwise(f"{name}_expand", self.depthwise(f"{name}_depthwise", x)))
        return self.add(x, self.pointwise(f"{name}_project", hidden))

    def features(self, z: Array, quality: Any, height: int, width: int) -> Array:
        """h_s: hyper-latents ``[B, h, w, Nz]`` -> features ``[B, height, width, P]``, cropped from 4h x 4w."""
        x = self.shuffle(self.pointwise("hyper_enter", z))  # [B, 2h, 2w, P]
        x = self.scale("hyper_rate", self.block("hyper_block0", x), quality)
        x = self.block("hyper_block1", self.shuffle(self.pointwise("hyper_up", x)))  # [B, 4h, 4w, P]
        return x[:, :height, :width]

    def step(self, step: int, features: Array, latents: Array) -> list[Array]:
        """One context step: for each cell position, means and log-scales of the group that it codes there.

        ``latents``: ``[B, h, w, N]``, zero where not yet known. Returns four arrays ``[B, h_p, w_p, 2 * N/4]``,
        raw, in the latents' own scale.
        """
        name = f"context{step}"
        if step:
            x = self.pointwise(f"{name}_enter", self.concatenate(features, latents))
        else:  # zeros need no multiplications
            x = self.pointwise(f"{name}_enter", features, features.shape[-1])
        x = self.activate(x)  # [B, h, w, W]
        x = self.add(x, self.activate(self.pointwise(f"{name}_mix", self.depthwise(f"{name}_depthwise", x))))
        return [self.pointwise(f"{name}_head{GROUP[step][p]}", x[:, i::2, j::2]) for p, (i, j) in enumerate(CELL)]

    def fine(self, features: Array, latents: Array) -> Array:
        """Means and log-scales of the fine latents ``[B, h, w, 2M]``, raw, from features and all main latents."""
        x = self.activate(self.pointwise("fine_enter", self.concatenate(features, latents)))
        return self.pointwise("fine_head", self.block("fine_block", x))


class ExactPrior(Structure):
    """`Structure` in fixed point, and the loop that turns symbols into latents.

    ``tensors``: the integer tensors of the weights, by name, as numpy arrays. The codec computes with torch; ``xp``
    may as well be numpy, which shows that nothing depends on it. ``place`` puts an array where ``xp`` wants it.
    """

    def __init__(self, tensors: Mapping[str, Array], xp: Any, place: Any = lambda x: x):
        self.xp, self._place = xp, place
        self.tensors = {name: self.number(value) for name, value in tensors.items()}
        self.latents = tensors["gain"].shape[1]
        self.fine_latents = tensors["fine_gain"].shape[1] if "fine_gain" in tensors else 0
        # a layer shifts its sums right and rounds them: where weights and biases are shifted beforehand, and the half
        # that rounding adds is part of the bias, only a floor is left to do. Powers of two change no bit of a sum
        layers = {n: t for n, t in self.tensors.items() if n.endswith((".weight", ".bias"))}
        self._shifted = {n: t * 0.5**WEIGHT_BITS + 0.5 * n.endswith(".bias") for n, t in layers.items()}

    # The arithmetic. Every array holds integers; what follows alone knows how.

    def number(self, x: Array) -> Array:
        """A numpy array of integers as this arithmetic holds it."""
        return self._place(x.astype("float64"))

    def _shift(self, x: Array, bits: int) -> Array:
        """Divide by 2^bits and round to the nearest integer, halves upwards."""
        return self.xp.floor(x * 0.5**bits + 0.5)

    def _clamp(self, x: Array) -> Array:
        return x.clip(-ACTIVATION_LIMIT, ACTIVATION_LIMIT)

    def _floor(self, y: Array) -> Array:
        """The end of a layer, in place: half of the time goes into passes over memory."""
        self.xp.floor(y, out=y)
        return self.xp.clip(y, -ACTIVATION_LIMIT, ACTIVATION_LIMIT, out=y)

    def pointwise(self, name: str, x: Array, columns: int | None = None) -> Array:
        y = x @ self._shifted[f"{name}.weight"][:, :columns].swapaxes(0, 1)
        y += self._shifted[f"{name}.bias"]
        return self._floor(y)

    def depthwise(self, name: str, x: Array) -> Array:
        weight = self._shifted[f"{name}.weight"]  # [C, 3, 3]
        _, h, w, _ = x.shape
        y = x * weight[:, 1, 1]
        y += self._shifted[f"{name}.bias"]
        product = self.xp.empty_like(x)
        for i, j in _NEIGHBOURS:
            # where the neighbour is outside of the plane there is nothing to add
            rows, columns = slice(max(0, -i), h - max(0, i)), slice(max(0, -j), w - max(0, j))
            there = x[:, max(0, i) : h + min(0, i), max(0, j) : w + min(0, j)]
            part = product[:, rows, columns]
            self.xp.multiply(there, weight[:, 1 + i, 1 + j], out=part)
            y[:, rows, columns] += part
        return self._floor(y)

    def activate(self, x: Array) -> Array:
        return self.xp.maximum(x, self.xp.floor(x * 0.125))

    def add(self, x: Array, y: Array) -> Array:
        return self._clamp(x + y)

    def scale(self, name: str, x: Array, quality: Array) -> Array:
        """``quality``: integers ``[B]``. Multiplies by row ``quality`` of table ``name``."""
        return self._clamp(self._shift(x * self.tensors[name][quality][:, None, None], TABLE_BITS))

    def concatenate(self, x: Array, y: Array) -> Array:
        return self.xp.concatenate((x, y), -1)

    def _zeros(self, like: Array, *shape: int) -> Array:
        return self.xp.zeros(shape, dtype=like.dtype, device=like.device)

    # The loop.

    def decode(self, z: Array, quality: Array, height: int, width: int, symbols: Any) -> Array:
        """Latents ŷ ``[B, height, width, N]`` in units of 2^-8, from symbols that are asked for part by part.

        Where the qualities have fine latents, either all of them or none, these follow: ``[B, height, width, N + M]``.

        ``z``: integer hyper-latents ``[B, ceil(height/4), ceil(width/4), Nz]``. ``quality``: ``[B]`` in 0..100.
        ``symbols(part, mean, index)`` is given the part's means (units of 2^-8) and table indices, both ``[B, n]``,
        and answers with its symbols ``[B, n]``, each in ±`SYMBOL_LIMIT` and zero where the index is zero. The parts are
        the steps, whose n symbols are ordered by cell position, then row, column and channel of the group, and then
        the fine latents, ordered by row, column and channel.
        """
        t = self.tensors
        z = self._clamp(self._shift(z * t["hyper_inverse_gain"][quality][:, None, None], TABLE_BITS - ACTIVATION_BITS))
        features = self.features(z, quality, height, width)
        n = self.latents // 4
        known = self._zeros(features, len(z), height, width, self.latents)
        for step in range(STEPS):
            means, indices = [], []
            groups = [slice(g * n, (g + 1) * n) for g in GROUP[step]]
            for raw, group in zip(self.step(step, features, known), groups, strict=True):
                gain, offset = (t[name][quality][:, None, None, group] for name in ("gain", "scale_offset"))
                mean, index = self._decide(raw, gain, offset)
                means.append(mean)
                indices.append(index)
            mean = _join(self.xp, means)
            value = mean + symbols(step, mean, _join(self.xp, indices)) * (1 << ACTIVATION_BITS)
            inverse = t["inverse_gain"][quality][:, None, None]
            for (i, j), group, part in zip(CELL, groups, _split(value, means), strict=True):
                latents = self._clamp(self._shift(part * inverse[..., group], TABLE_BITS))
                known[:, i::2, j::2, group] = latents
        if not self.has_fine(quality):
            return known
        gain, inverse, offset = (
            t[name][quality][:, None, None] for name in ("fine_gain", "fine_inverse_gain", "fine_scale_offset")
        )
        means, indices = ([x] for x in self._decide(self.fine(features, known), gain, offset))
        mean = _join(self.xp, means)
        value = mean + symbols(FINE, mean, _join(self.xp, indices)) * (1 << ACTIVATION_BITS)
        (part,) = _split(value, means)
        return self.concatenate(known, self._clamp(self._shift(part * inverse, TABLE_BITS)))

    def _decide(self, raw: Array, gain: Array, offset: Array) -> tuple[Array, Array]:
        """Means in the symbols' scale and table indices, from what a part's last layer says of both."""
        n = raw.shape[-1] // 2
        mean = self._clamp(self._shift(raw[..., :n] * gain, TABLE_BITS))
        return mean, self._shift(raw[..., n:] + offset, SCALE_STEP_BITS).clip(0, SCALES - 1)

    def has_fine(self, quality: Array) -> bool:
        """Whether fine latents are coded at a quality, or at all of an array of qualities."""
        return bool(self.fine_latents and self.tensors["fine_coded"][quality].all())

    def arrange(self, part: int, plane: Array) -> Array:
        """The entries of ``[B, h, w, N + M]`` that a part codes, in its order: ``[B, n]``."""
        if part == FINE:
            return plane[..., self.latents :].reshape(len(plane), -1)
        n = self.latents // 4
        parts = [plane[:, i::2, j::2, g * n : (g + 1) * n] for (i, j), g in zip(CELL, GROUP[part], strict=True)]
        return _join(self.xp, parts)

    def digest(self) -> str:
        """SHA-256 of what comes of fixed symbols: one value for these weights, on whatever machine."""
        digest, (height, width) = hashlib.sha256(), (10, 14)
        # of a part's symbols; there are fewer hyper-latents
        count = height * width * max(self.latents // 4, self.fine_latents)
        parts = [list(hashlib.shake_256(bytes((part,))).digest(count)) for part in range(6)]

        def symbols(part: int, n: int) -> Array:
            """From -3 to 3, most of them small."""
            return numpy.array([(byte & 3) - (byte >> 2 & 3) for byte in parts[part][:n]], numpy.int64)

        def answer(part: int, mean: Array, index: Array) -> Array:
            chosen = self.number(symbols(part, mean.shape[1])[None]) * (index > 0)
            for found in (mean, index):
                digest.update(_integers(found))
            return chosen

        hyper = len(self.tensors["hyper_inverse_gain"][0])
        z = self.number(symbols(5 if self.fine_latents else 4, 3 * 4 * hyper).reshape(1, 3, 4, hyper))
        quality = 100 if self.fine_latents else 60  # at 100 there are all parts
        latents = self.decode(z, self._place(numpy.array([quality])), height, width, answer)
        digest.update(_integers(latents))
        return digest.hexdigest()

    def bound(self) -> int:
        """The largest magnitude that any sum, in any order, can reach with these weights; exactness needs < 2^53."""
        largest = 0
        for name, value in self.tensors.items():
            if name.endswith(".weight"):
                rows = abs(value.reshape(len(value), -1)).sum(1)
                sums = rows * ACTIVATION_LIMIT + abs(self.tensors[name.replace(".weight", ".bias")])
                largest = max(largest, int(sums.max()))
        tables = [n for n in self.tensors if n.endswith("gain") or n == "hyper_rate"]
        factor = max(int(abs(self.tensors[name]).max()) for name in tables)
        value_limit = ACTIVATION_LIMIT + (SYMBOL_LIMIT << ACTIVATION_BITS)
        return max(largest, factor * value_limit) + (1 << TABLE_BITS)  # what rounding adds


def _integers(x: Array) -> bytes:
    return bytes(numpy.asarray(x.cpu() if hasattr(x, "cpu") else x).astype("<i4").tobytes())


def _join(xp: Any, parts: list[Array]) -> Array:
    return xp.concatenate([p.reshape(len(p), -1) for p in parts], -1)


def _split(x: Array, like: list[Array]) -> list[Array]:
    parts, start = [], 0
    for p in like:
        size = p[0].reshape(-1).shape[0]
        parts.append(x[:, start : start + size].reshape(p.shape))
        start += size
    return parts
