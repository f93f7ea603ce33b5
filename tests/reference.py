"""A decoder of the entropy stage from docs/FORMAT.md alone: Python integers, no torch, no numpy, no constriction.

It shares no code with the package, so that the two can disagree. Slow is fine.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Vector = list[int]
Grid = list[list[Vector]]  # rows of columns of channels

LIMIT = 1 << 20
GROUP = ((0, 1, 2, 3), (2, 3, 0, 1), (3, 2, 1, 0), (1, 0, 3, 2))  # channel group by step and cell position


def clamp(x: int) -> int:
    return max(-LIMIT, min(LIMIT, x))


def shift(x: int, bits: int) -> int:
    return (x + (1 << bits >> 1)) >> bits


class Weights:
    """A safetensors file as nested lists of Python integers."""

    def __init__(self, path: Path):
        raw = path.read_bytes()
        (length,) = struct.unpack_from("<Q", raw)
        self.entries: dict[str, Any] = json.loads(raw[8 : 8 + length])
        self.data = raw[8 + length :]
        self.cache: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self.cache:
            entry = self.entries[name]
            code = {"I16": "h", "I32": "i", "U8": "B"}[entry["dtype"]]
            begin, end = entry["data_offsets"]
            flat = list(struct.unpack(f"<{(end - begin) // struct.calcsize(code)}{code}", self.data[begin:end]))
            self.cache[name] = _nest(flat, entry["shape"])
        return self.cache[name]


def _nest(flat: list[int], shape: list[int]) -> Any:
    if len(shape) <= 1:
        return flat
    size = len(flat) // shape[0]
    return [_nest(flat[i * size : (i + 1) * size], shape[1:]) for i in range(shape[0])]


class Ans:
    """64-bit state, 32-bit words, 24-bit precision."""

    def __init__(self, words: Vector):
        self.words, self.next, self.state = words, 0, 0
        while self.state < 1 << 32 and self.next < len(words):
            self._refill()

    def _refill(self) -> None:
        self.state = self.state << 32 | self.words[self.next]
        self.next += 1

    def pop(self, frequencies: Vector) -> int:
        """A slot under frequencies that sum to 2^24."""
        quantile, left = self.state & 0xFFFFFF, 0
        for slot, frequency in enumerate(frequencies):
            if quantile < left + frequency:
                self.state = (self.state >> 24) * frequency + quantile - left
                if self.state < 1 << 32 and self.next < len(self.words):
                    self._refill()
                return slot
            left += frequency
        raise AssertionError("the frequencies do not sum to 2^24")

    def bits(self, count: int) -> int:
        value = (self.state & 0xFFFFFF) >> (24 - count)
        self.state = (self.state >> 24 << (24 - count)) + (self.state & ((1 << (24 - count)) - 1))
        if self.state < 1 << 32 and self.next < len(self.words):
            self._refill()
        return value


@dataclass
class TileSymbols:
    """z and the four steps, flat, in coding order; the means and indices that coded the steps."""

    parts: list[Vector]
    means: list[Vector]
    indices: list[Vector]
    latents: Grid


class Reference:
    def __init__(self, weights: Path):
        self.weights = Weights(weights)
        self.tables: list[Vector] = []
        start, flat = 0, self.weights["coder.frequencies"]
        for support in self.weights["coder.supports"]:
            self.tables.append([256 * f for f in flat[start : start + 2 * support + 2]])
            start += 2 * support + 2

    def decode(self, data: bytes) -> list[TileSymbols]:
        """Every tile of a file that is known to be valid."""
        header, tiles = b"", []
        for kind, payload in _chunks(data):
            if kind == b"HEAD":
                header = payload
            elif kind == b"TILE":
                tiles.append(payload)
        width, height, size = struct.unpack_from("<HHH", header, 8)
        boxes = [
            (min(size, height - top), min(size, width - left))
            for top in range(0, height, size)
            for left in range(0, width, size)
        ]
        return [self._tile(payload, *box) for payload, box in zip(tiles, boxes, strict=True)]

    def _tile(self, payload: bytes, pixel_height: int, pixel_width: int) -> TileSymbols:
        w = self.weights
        quality = payload[0]
        height, width = -(-pixel_height // 16), -(-pixel_width // 16)
        hyper_height, hyper_width = -(-height // 4), -(-width // 4)
        ans = Ans(list(struct.unpack(f"<{(len(payload) - 5) // 4}I", payload[5:])))

        inverse = w["prior.hyper_inverse_gain"][quality]
        flat = self._part(ans, w["coder.hyper_index"][quality] * (hyper_height * hyper_width))
        found = TileSymbols([flat], [], [], [])
        rows = iter(flat)
        z = [
            [[clamp(shift(next(rows) * factor, 8)) for factor in inverse] for _ in range(hyper_width)]
            for _ in range(hyper_height)
        ]
        features = self._features(z, quality)
        channels = len(w["prior.gain"][quality])
        n = channels // 4
        known = [[[0] * channels for _ in range(width)] for _ in range(height)]
        gains, inverses, offsets = (w[f"prior.{t}"][quality] for t in ("gain", "inverse_gain", "scale_offset"))
        for step in range(4):
            raw = self._context(step, features, known)
            means: Vector = []
            indices: Vector = []
            places = list(_order(step, height, width))
            for row, column, group in places:
                out = self._pointwise(f"context{step}_head{group}", raw[row][column])
                for c in range(n):
                    channel = group * n + c
                    means.append(clamp(shift(out[c] * gains[channel], 16)))
                    indices.append(max(0, min(79, shift(out[n + c] + offsets[channel], 5))))
            symbols = self._part(ans, indices)
            values = iter(zip(symbols, means, strict=True))
            for row, column, group in places:
                for channel in range(group * n, (group + 1) * n):
                    symbol, mean = next(values)
                    known[row][column][channel] = clamp(shift((mean + 256 * symbol) * inverses[channel], 16))
            found.parts.append(symbols)
            found.means.append(means)
            found.indices.append(indices)
        if "prior.fine_coded" in w.entries and w["prior.fine_coded"][quality]:
            known = self._fine(ans, quality, features, known, found)
        found.latents = known
        assert ans.state == 0
        assert ans.next == len(ans.words)
        return found

    def _fine(self, ans: Ans, quality: int, features: Grid, known: Grid, found: TileSymbols) -> Grid:
        """The sixth part; returns main and fine latents."""
        x = _activate(self._each("fine_enter", _join(features, known)))
        raw = [v for row in self._each("fine_head", self._block("fine_block", x)) for v in row]
        tables = ("fine_gain", "fine_inverse_gain", "fine_scale_offset")
        gains, inverses, offsets = (self.weights[f"prior.{t}"][quality] for t in tables)
        m, width = len(gains), len(known[0])
        means = [clamp(shift(v[c] * gains[c], 16)) for v in raw for c in range(m)]
        indices = [max(0, min(79, shift(v[m + c] + offsets[c], 5))) for v in raw for c in range(m)]
        symbols = self._part(ans, indices)
        found.parts.append(symbols)
        found.means.append(means)
        found.indices.append(indices)
        values = [
            clamp(shift((mean + 256 * symbol) * inverses[i % m], 16))
            for i, (mean, symbol) in enumerate(zip(means, symbols, strict=True))
        ]
        fine = [values[i : i + m] for i in range(0, len(values), m)]
        return _join(known, [fine[i : i + width] for i in range(0, len(fine), width)])

    def _part(self, ans: Ans, indices: Vector) -> Vector:
        symbols = [0] * len(indices)
        escaped = []
        for table in range(1, len(self.tables)):
            frequencies = self.tables[table]
            support = len(frequencies) // 2 - 1
            for place, index in enumerate(indices):
                if index == table:
                    slot = ans.pop(frequencies)
                    symbols[place] = slot - support
                    if slot == 2 * support + 1:
                        escaped.append((place, support))
        for place, support in sorted(escaped):
            length = ans.bits(4)
            value = (1 << length) + (ans.bits(length) if length else 0) - 1
            magnitude = support + 1 + (value >> 1)
            symbols[place] = -magnitude if value & 1 else magnitude
        return symbols

    # The networks

    def _pointwise(self, name: str, x: Vector) -> Vector:
        weight, bias = self.weights[f"prior.{name}.weight"], self.weights[f"prior.{name}.bias"]
        return [clamp(shift(sum(map(int.__mul__, row, x)) + b, 12)) for row, b in zip(weight, bias, strict=True)]

    def _each(self, name: str, x: Grid) -> Grid:
        return [[self._pointwise(name, v) for v in row] for row in x]

    def _depthwise(self, name: str, x: Grid) -> Grid:
        weight, bias = self.weights[f"prior.{name}.weight"], self.weights[f"prior.{name}.bias"]
        height, width = len(x), len(x[0])

        def one(row: int, column: int) -> Vector:
            around = [
                (x[row + i][column + j], i + 1, j + 1)
                for i in (-1, 0, 1)
                for j in (-1, 0, 1)
                if 0 <= row + i < height and 0 <= column + j < width
            ]
            return [clamp(shift(b + sum(v[c] * weight[c][i][j] for v, i, j in around), 12)) for c, b in enumerate(bias)]

        return [[one(row, column) for column in range(width)] for row in range(height)]

    def _block(self, name: str, x: Grid) -> Grid:
        hidden = _activate(self._each(f"{name}_expand", self._depthwise(f"{name}_depthwise", x)))
        return _add(x, self._each(f"{name}_project", hidden))

    def _features(self, z: Grid, quality: int) -> Grid:
        rate = self.weights["prior.hyper_rate"][quality]
        x = self._block("hyper_block0", _shuffle(self._each("hyper_enter", z)))
        x = [[[clamp(shift(v * r, 16)) for v, r in zip(vector, rate, strict=True)] for vector in row] for row in x]
        return self._block("hyper_block1", _shuffle(self._each("hyper_up", x)))

    def _context(self, step: int, features: Grid, known: Grid) -> Grid:
        x = _activate(self._each(f"context{step}_enter", _join(features, known)))
        return _add(x, _activate(self._each(f"context{step}_mix", self._depthwise(f"context{step}_depthwise", x))))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 8
    while position < len(data):
        kind, length = struct.unpack_from("<4sI", data, position)
        yield kind, data[position + 8 : position + 8 + length]
        position += 12 + length


def _order(step: int, height: int, width: int) -> Iterator[tuple[int, int, int]]:
    """Row, column and group of what a step codes, in order."""
    for position, group in enumerate(GROUP[step]):
        for row in range(position // 2, height, 2):
            for column in range(position % 2, width, 2):
                yield row, column, group


def _join(features: Grid, known: Grid) -> Grid:
    """The channels of both; features are cropped."""
    return [[f + k for f, k in zip(*rows, strict=False)] for rows in zip(features, known, strict=False)]


def _activate(x: Grid) -> Grid:
    return [[[max(v, v >> 3) for v in vector] for vector in row] for row in x]


def _add(x: Grid, y: Grid) -> Grid:
    return [
        [[clamp(a + b) for a, b in zip(v, w, strict=True)] for v, w in zip(r, s, strict=True)]
        for r, s in zip(x, y, strict=True)
    ]


def _shuffle(x: Grid) -> Grid:
    """Depth to space by 2."""
    c = len(x[0][0]) // 4
    return [[v[(2 * i + j) * c : (2 * i + j + 1) * c] for v in row for j in (0, 1)] for row in x for i in (0, 1)]
