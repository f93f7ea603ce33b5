"""The container alone: round trip, every check, and no way to read past a mistake."""

import struct
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from aecodec import container, errors
from aecodec.container import Container, Header, Tile

from .make_corrupt import chunk

HEADER = Header(b"modelid.", 600, 300, "RGB", 40, 512)
FILE = Container(HEADER, [Tile(40, 1, b"abcd"), Tile(41, 2, b"")], {"icc": b"profile", "exif": b"MM", "xmp": b"<x/>"})
DATA = container.write(FILE)


def head(**fields: int) -> bytes:
    """A file that is a header alone, with some fields replaced, its CRC right."""
    values = {"width": 16, "height": 16, "tile": 512, "mode": 2, "quality": 50, "flags": 0} | fields
    return DATA[:8] + chunk(b"HEAD", b"modelid." + struct.pack("<HHHBBI", *values.values()))


def test_round_trip() -> None:
    assert container.read(DATA) == FILE
    assert container.read_header(DATA[:40]) == HEADER


@some.composite
def containers(draw: some.DrawFn) -> Container:
    """Any that an encoder may write."""
    sides, qualities = some.integers(1, 300), some.integers(0, 100)
    model, mode = draw(some.binary(min_size=8, max_size=8)), draw(some.sampled_from(container.MODES))
    header = Header(model, draw(sides), draw(sides), mode, draw(qualities), draw(some.sampled_from((64, 192, 512))))
    words = some.lists(some.binary(min_size=4, max_size=4), max_size=6).map(b"".join)
    tiles = some.builds(Tile, qualities, some.integers(0, 2**32 - 1), words)
    payloads = some.binary(min_size=1, max_size=50)
    return Container(
        header,
        draw(some.lists(tiles, min_size=header.tile_count, max_size=header.tile_count)),
        draw(some.dictionaries(some.sampled_from(list(container.METADATA)), payloads)),
        draw(payloads) if header.has_alpha else None,
    )


@settings(deadline=None)
@given(containers())
def test_any_round_trip(file: Container) -> None:
    assert container.read(container.write(file)) == file


@settings(deadline=None)
@given(some.binary(max_size=300), some.booleans())
def test_bytes_of_any_kind(data: bytes, signed: bool) -> None:
    """None is a file, and each has its error."""
    with pytest.raises(errors.AecError):
        container.read((container.SIGNATURE + b"\1") * signed + data)


def test_round_trip_with_alpha() -> None:
    file = replace(FILE, header=replace(HEADER, mode="LA"), alpha=b"plane", metadata={})
    assert container.read(container.write(file)) == file


def test_one_tile_costs_at_most_80_bytes() -> None:
    one = Container(replace(HEADER, width=10, height=10), [Tile(0, 0, b"")])
    assert len(container.write(one)) <= 80


def test_every_prefix_is_refused() -> None:
    for end in range(len(DATA)):
        expected = errors.NotAec if end == 0 else errors.Truncated
        with pytest.raises(expected):
            container.read(DATA[:end])


def test_every_flipped_bit_is_refused() -> None:
    for position in range(len(DATA)):
        for bit in range(8):
            flipped = bytearray(DATA)
            flipped[position] ^= 1 << bit
            with pytest.raises(errors.AecError):
                container.read(bytes(flipped))


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", errors.NotAec),
        (b"\x89PNG\r\n\x1a\n" + DATA[8:], errors.NotAec),
        (DATA[:7] + b"\x02" + DATA[8:], errors.UnsupportedVersion),
        (DATA + b"\0", errors.Corrupt),
        (DATA + bytes(40), errors.Corrupt),
        (DATA + chunk(b"TILE", bytes(5)), errors.Corrupt),
        (DATA + chunk(b"note", b""), errors.Corrupt),
        (DATA[:8] + DATA[40:], errors.Corrupt),
        (head(flags=2), errors.UnsupportedFeature),
        (head(flags=1, mode=0), errors.Corrupt),
        (head(mode=4), errors.UnsupportedFeature),
        (head(tile=100), errors.UnsupportedFeature),
        (head(tile=0), errors.UnsupportedFeature),
        (head(tile=576), errors.UnsupportedFeature),
        (head(quality=101), errors.Corrupt),
        (head(width=0), errors.Corrupt),
        (head(width=65535, height=65535), errors.LimitExceeded),
        (head(width=40000, height=25000), errors.LimitExceeded),
        (head(), errors.Truncated),
        (head() + chunk(b"HEAD", b""), errors.Corrupt),
        (head() + chunk(b"NEWS", b""), errors.UnsupportedFeature),
        (head() + chunk(b"aLPH", b"") + chunk(b"TILE", bytes(5)), errors.Corrupt),
        (head() + chunk(b"TILE", bytes(4)), errors.Corrupt),
        (head() + chunk(b"TILE", bytes(7)), errors.Corrupt),
        (head() + chunk(b"TILE", b"\x65" + bytes(8)), errors.Corrupt),
        (head(mode=3) + chunk(b"TILE", bytes(5)), errors.Corrupt),
        (head() + 2 * chunk(b"iCCP", b"x"), errors.Corrupt),
        (head() + 65 * chunk(b"note", b"x"), errors.LimitExceeded),
        (head() + chunk(b"note", bytes(container.MAX_METADATA + 1)), errors.LimitExceeded),
        (head() + struct.pack("<4sI", b"TILE", 0xFFFFFFFF), errors.Truncated),
        (DATA[:8] + chunk(b"HEAD", bytes(19)), errors.Corrupt),
    ],
)
def test_what_is_refused(data: bytes, error: type[errors.AecError]) -> None:
    with pytest.raises(errors.AecError) as caught:
        container.read(data)
    assert type(caught.value) is error


def test_unknown_ancillary_chunks_are_skipped() -> None:
    data = head() + chunk(b"note", b"hello") + chunk(b"TILE", bytes(5))
    assert container.read(data).tiles == [Tile(0, 0, b"")]


def test_the_pixel_limit_is_the_callers() -> None:
    with pytest.raises(errors.LimitExceeded):
        container.read(DATA, max_pixels=600 * 300 - 1)
    assert container.read(DATA, max_pixels=600 * 300) == FILE


@pytest.mark.parametrize("size", [(0x10000, 1), (1, 0x10000)])
def test_sides_beyond_the_format_are_not_written(size: tuple[int, int]) -> None:
    with pytest.raises(errors.LimitExceeded):
        container.write(replace(FILE, header=replace(HEADER, width=size[0], height=size[1])))


def test_metadata_beyond_the_limit_is_not_written() -> None:
    with pytest.raises(errors.LimitExceeded):
        container.write(replace(FILE, metadata={"xmp": bytes(container.MAX_METADATA + 1)}))
