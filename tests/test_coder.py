"""The entropy coder against random symbols, its own rate, and the reference decoder's arithmetic."""

import numpy as np
import pytest

from aecodec.errors import Corrupt
from aecodec.model.coder import Coder

from .reference import Ans

SUPPORTS = [0, 1, 5, 40]


def make_coder() -> Coder:
    frequencies: list[int] = []
    for support in SUPPORTS:
        table = np.maximum(20000 * 0.5 ** np.abs(np.arange(-support, support + 2)), 1).astype(int)
        table[support] += 65536 - table.sum()
        frequencies += table.tolist()
    return Coder(SUPPORTS, frequencies)


def parts(seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    found = []
    for size in (0, 7, 1000):
        indices = rng.integers(0, len(SUPPORTS), size).astype(np.uint8)
        symbols = np.round(rng.standard_t(1, size) * 2).clip(-8192, 8192).astype(np.int16)
        symbols[indices == 0] = 0
        found.append((symbols, indices))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_round_trip_with_escapes(seed: int) -> None:
    coder, coded = make_coder(), parts(seed)
    decoder = coder.decoder(coder.encode(coded))
    for symbols, indices in coded:
        np.testing.assert_array_equal(decoder.decode(indices), symbols)
    decoder.finish()


@pytest.mark.parametrize("symbol", [-8192, -42, -41, 41, 42, 8192])
def test_escapes_at_their_edges(symbol: int) -> None:
    coder = make_coder()
    part = (np.array([symbol], np.int16), np.array([3], np.uint8))
    assert coder.decoder(coder.encode([part])).decode(part[1]).tolist() == [symbol]


def test_size_is_the_rate() -> None:
    coder, coded = make_coder(), parts(1)
    estimated = sum(coder.bits(*part) for part in coded)
    assert estimated <= 8 * len(coder.encode(coded)) <= estimated + 64


def test_arithmetic_is_that_of_the_reference() -> None:
    coder = make_coder()
    symbols = np.random.default_rng(2).integers(-6, 7, 500).astype(np.int16).clip(-5, 5)
    words = coder.encode([(symbols, np.full(500, 2, np.uint8))])
    ans = Ans(np.frombuffer(words, "<u4").tolist())
    table = [256 * int(f) for f in coder.frequencies[2]]
    assert [ans.pop(table) - 5 for _ in symbols] == symbols.tolist()
    assert ans.state == 0


def test_nothing_to_code_costs_nothing() -> None:
    nothing = (np.zeros(100, np.int16), np.zeros(100, np.uint8))
    assert make_coder().encode([nothing]) == b""


def test_words_left_over_are_noticed() -> None:
    coder, coded = make_coder(), parts(3)
    decoder = coder.decoder(coder.encode(coded))
    decoder.decode(coded[0][1])
    with pytest.raises(Corrupt):
        decoder.finish()


def test_a_leading_zero_word_is_refused() -> None:
    with pytest.raises(Corrupt):
        make_coder().decoder(bytes(8))


@pytest.mark.parametrize("frequencies", [[65535, 2], [65536, 0], [65536]])
def test_wrong_tables_are_refused(frequencies: list[int]) -> None:
    with pytest.raises(ValueError, match="table"):
        Coder([0], frequencies)
