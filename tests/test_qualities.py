"""The bench's table of qualities."""

import pytest
from PIL import Image

from bench import codecs, qualities
from bench.codecs import OURS, Peer


def peer(name: str, *qualities: int) -> Peer:
    return Peer(name, "1", "", qualities, lambda image, quality: b"", lambda data: Image.new("L", (1, 1)))


OURS_AT = peer(OURS, 0, 50, 100)
OTHER = peer(codecs.JPEG_XL, 10, 90)


def points(*values: tuple[int, float, float]) -> list[dict[str, float]]:
    return [{"bytes": size, "psnr": psnr, "ssimulacra2": score} for size, psnr, score in values]


FOUND: qualities.Found = {
    OURS: {
        "a": points((10, 20, 10), (20, 30, 60), (30, 29.5, 95)),
        "b": points((30, 30, 30), (40, 40, 80), (50, 41, 79)),
    },
    OTHER.name: {"a": points((1, 1, 20), (2, 2, 80)), "b": points((1, 1, 40), (2, 2, 80))},
}


def test_means_and_the_same_look() -> None:
    table = qualities.rows(FOUND, (OURS_AT, OTHER), {"a": 80, "b": 160})
    assert [row.quality for row in table] == [0, 50, 100]
    assert [row.bpp for row in table] == pytest.approx([(1 + 1.5) / 2, (2 + 2) / 2, (3 + 2.5) / 2])
    assert [row.ssimulacra2 for row in table] == [20, 70, 87]
    # its mean scores are 30 and 80: 20 and 87 lie beyond, 70 lies at four fifths
    assert [row.same[OTHER.name] for row in table] == [None, pytest.approx(74), None]


def test_an_image_on_which_a_codec_failed_is_left_out() -> None:
    failed: qualities.Found = {
        **FOUND,
        OTHER.name: {**FOUND[OTHER.name], "b": [{"error": "too large"}, *points((2, 2, 80))]},
    }
    table = qualities.rows(failed, (OURS_AT, OTHER), {"a": 80, "b": 160})
    assert [row.psnr for row in table] == [20, 30, 29.5]


def test_where_a_single_image_gets_worse() -> None:
    psnr, score = qualities.falls(FOUND, OURS_AT)
    assert psnr == ("psnr", 0.5, "a", 100)
    assert score == ("ssimulacra2", 1, "b", 100)
    rising = {OURS: {"a": FOUND[OURS]["a"][:2]}}
    assert [fall.by for fall in qualities.falls(rising, peer(OURS, 0, 50))] == [0, 0]
