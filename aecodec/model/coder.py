"""The entropy coder: constriction's ANS behind one small class. Integer tables in, words out.

Asymmetric numeral systems (Duda 2013) as constriction's ``AnsCoder`` has them: 64-bit state, 32-bit words, 24-bit
precision. ANS is a stack: what is encoded last is decoded first. docs/FORMAT.md spells the arithmetic out.
"""

from collections.abc import Sequence
from typing import Any

import constriction
import numpy as np
import numpy.typing as npt

from ..errors import Corrupt

PRECISION = 16  # bits of a table's total; the coder's own 24 bits are 2^8 times finer
ESCAPE_CLASSES = 16  # bit lengths of an escaped value, uniformly coded

Symbols = npt.NDArray[np.int16] | npt.NDArray[np.int32]
Indices = npt.NDArray[np.uint8]

_Ans = constriction.stream.stack.AnsCoder
_Categorical = constriction.stream.model.Categorical
_Uniform = constriction.stream.model.Uniform


class Coder:
    """Codes symbols, each under the table that its index names.

    Table i covers the symbols -support[i]..support[i] and ends in an escape. Symbols of index 0 are zero and are not
    coded at all. Within one array, symbols are coded table by table, in the order of the array within each, and then
    the values of the escapes.

    >>> coder = Coder(supports=[0, 1], frequencies=[65535, 1, 16384, 32768, 16383, 1])
    >>> symbols, indices = np.array([0, 1, -7], np.int32), np.array([0, 1, 1], np.uint8)
    >>> decoder = coder.decoder(coder.encode([(symbols, indices)]))
    >>> decoder.decode(indices)
    array([ 0,  1, -7], dtype=int32)
    """

    def __init__(self, supports: Sequence[int], frequencies: Sequence[int]):
        """``frequencies``: those of all tables, one after the other, each of 2 * support + 2 positive integers."""
        self.supports = [int(k) for k in supports]
        if min(self.supports) < 0 or sum(2 * k + 2 for k in self.supports) != len(frequencies):
            raise ValueError("supports that do not fit the tables")
        ends = np.cumsum([2 * k + 2 for k in self.supports])
        self.frequencies = np.split(np.asarray(frequencies, np.int64), ends[:-1])
        for k, f in zip(self.supports, self.frequencies, strict=True):
            if len(f) != 2 * k + 2 or f.min() < 1 or f.sum() != 1 << PRECISION:
                raise ValueError("a table of the wrong length or sum")
        # constriction scales probabilities to 2^24 minus their number and then adds one to each: 256 f - 1 comes out
        # as exactly 256 f, without any rounding
        self._models = [_Categorical((256 * f - 1).astype(np.float64), perfect=False) for f in self.frequencies]

    def bits(self, symbols: Symbols, indices: Indices) -> float:
        """The rate of the symbols under their tables, in bits, the coder's own cost left out."""
        total = 0.0
        for i, where in _by_table(indices):
            k, s = self.supports[i], symbols[where]
            slots = np.where(np.abs(s) <= k, s + k, 2 * k + 1)
            total -= float(np.log2(self.frequencies[i][slots] / (1 << PRECISION)).sum())
            for value in s[np.abs(s) > k]:
                total += 4 + _escape(int(value), k)[0]
        return total

    def encode(self, parts: Sequence[tuple[Symbols, Indices]]) -> bytes:
        """Code the parts so that they decode in this order, a prefix of the words giving a prefix of the parts."""
        ans = _Ans()
        for symbols, indices in reversed(parts):
            groups = _by_table(indices)
            slots, escaped = [], []
            for i, where in groups:
                k, s = self.supports[i], symbols[where]
                outside = np.abs(s) > k
                slots.append(np.where(outside, 2 * k + 1, s + k).astype(np.int32))
                escaped += [(int(place), int(symbols[place]), k) for place in where[outside]]
            for _, value, k in sorted(escaped, reverse=True):
                length, rest = _escape(value, k)
                if length:
                    ans.encode_reverse(rest, _Uniform(1 << length))
                ans.encode_reverse(length, _Uniform(ESCAPE_CLASSES))
            for (i, _), slot in zip(reversed(groups), reversed(slots), strict=True):
                ans.encode_reverse(slot, self._models[i])
        return bytes(ans.get_compressed()[::-1].astype("<u4").tobytes())

    def decoder(self, words: bytes) -> "Decoder":
        return Decoder(self, words)


class Decoder:
    """Gives back, part by part, what `Coder.encode` was given."""

    def __init__(self, coder: Coder, words: bytes):
        if words[:4] == bytes(4):
            raise Corrupt("the first word of a tile is zero")
        self._coder = coder
        self._ans: Any = _Ans(np.frombuffer(words, "<u4")[::-1].astype(np.uint32))

    def decode(self, indices: Indices) -> npt.NDArray[np.int32]:
        """The next part: its symbols, given their tables."""
        symbols = np.zeros(len(indices), np.int32)
        escapes: list[tuple[int, int]] = []
        for i, where in _by_table(indices):
            k = self._coder.supports[i]
            slots = self._ans.decode(self._coder._models[i], len(where))
            symbols[where] = slots - k
            escapes += [(int(place), k) for place in where[slots == 2 * k + 1]]
        for place, k in sorted(escapes):
            length = int(self._ans.decode(_Uniform(ESCAPE_CLASSES)))
            rest = int(self._ans.decode(_Uniform(1 << length))) if length else 0
            value = (1 << length) + rest - 1  # 2 * (magnitude beyond the support) + sign
            magnitude = k + 1 + (value >> 1)
            symbols[place] = -magnitude if value & 1 else magnitude
        return symbols

    @property
    def starved(self) -> bool:
        """Whether so few words are left that the last part is right only if the next ones are the tile's last."""
        return int(self._ans.num_words()) < 2

    def finish(self) -> None:
        """Raise `Corrupt` unless exactly everything was decoded."""
        if not self._ans.is_empty():
            raise Corrupt("a tile holds more than its symbols")


def _by_table(indices: Indices) -> list[tuple[int, npt.NDArray[np.intp]]]:
    """Each table in use except 0, ascending, with the places of its symbols in order."""
    order = np.argsort(indices, kind="stable")
    ends = np.cumsum(np.bincount(indices, minlength=1))
    tables = np.flatnonzero(np.diff(ends)) + 1
    return [(int(i), order[ends[i - 1] : ends[i]]) for i in tables]


def _escape(symbol: int, support: int) -> tuple[int, int]:
    """Exponential-Golomb: the number of bits and their value for a symbol beyond the support."""
    value = 2 * (abs(symbol) - support - 1) + (symbol < 0) + 1
    length = value.bit_length() - 1
    return length, value - (1 << length)
