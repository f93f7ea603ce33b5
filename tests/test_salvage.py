"""Damaged files: what is whole comes out as it was, and the rest without holes."""

import struct
import warnings
from pathlib import Path
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from typer.testing import CliRunner

import aecodec
from aecodec import AecError, Codec, DamageWarning, NotAec, UnsupportedFeature, container, salvage
from aecodec.cli import app
from aecodec.image import Plane

from .conftest import psnr
from .make_corrupt import chunk

HEADER = container.FIRST_CHUNK


@pytest.fixture(scope="module")
def picture(photo: Plane) -> Plane:
    """Colours that are near those of the neighbours, and an alpha plane, ``[200, 300, 4]``."""
    alpha = np.broadcast_to(np.linspace(10, 250, 300).astype(np.uint8), (200, 300))
    return np.concatenate((photo[20:220, 100:400], alpha[..., None]), 2)


@pytest.fixture(scope="module")
def tiled(codec: Codec, picture: Plane) -> bytes:
    """Six tiles of 128 pixels, without alpha."""
    return codec.compress(picture[..., :3], 60, roi=np.zeros(picture.shape[:2], int))


def tiles_of(data: bytes) -> list[slice]:
    """Where the TILE chunks lie."""
    found, position = [], HEADER
    while position < len(data):
        kind, _, end = container.next_chunk(memoryview(data), position)
        if kind == b"TILE":
            found.append(slice(position, end))
        position = end
    return found


def conceal(codec: Codec, data: bytes, match: str) -> Plane:
    with pytest.warns(DamageWarning, match=match):
        return codec.decompress(data, "numpy", errors="conceal")


def box(place: int, margin: int = 0) -> tuple[slice, slice]:
    """The pixels of a tile of the picture, two rows of three, and of what is nearer than ``margin``."""
    top, left = (128 * n for n in divmod(place, 3))
    return slice(max(0, top - margin), top + 128 + margin), slice(max(0, left - margin), left + 128 + margin)


def test_a_whole_file_is_decoded_as_ever(codec: Codec, tiled: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = codec.decompress(tiled, "numpy", errors="conceal")
    np.testing.assert_array_equal(found, codec.decompress(tiled, "numpy"))


def test_a_file_cut_anywhere_after_its_header_gives_a_picture(codec: Codec, tiled: bytes, picture: Plane) -> None:
    original, last = picture[..., :3], 0.0
    for end in (HEADER, HEADER + 1, HEADER + 8, *range(HEADER + 9, len(tiled), len(tiled) // 12), len(tiled) - 8):
        found = conceal(codec, tiled[:end], "tiles are damaged")
        assert found.shape == original.shape
        gain = psnr(found, original) - last
        assert gain > -0.5, "more bytes give a better picture"
        last += gain
    assert last > 34
    for end in (HEADER - 1, 8, 3):
        with pytest.raises(AecError):
            codec.decompress(tiled[:end], errors="conceal")


@pytest.mark.parametrize("place", range(6))
def test_a_changed_tile_costs_itself_alone(codec: Codec, tiled: bytes, picture: Plane, place: int) -> None:
    where = tiles_of(tiled)[place]
    data = bytearray(tiled)
    data[(where.start + where.stop) // 2] ^= 16
    found, whole = conceal(codec, bytes(data), f"1 of 6 tiles are damaged: {place}$"), codec.decompress(tiled, "numpy")
    same = (found == whole).all(2)
    assert not same[box(place)].all()
    same[box(place, codec.model.design.synthesis_halo * 16)] = True
    assert same.all()
    guess = psnr(found[box(place)], picture[box(place)][..., :3])
    assert guess > 8, "the neighbours tell something"


@pytest.mark.parametrize("offset", [0, 3, 4, 5, 7])
@pytest.mark.parametrize("place", [0, 2, 4])
def test_a_changed_head_of_a_chunk_costs_nothing(codec: Codec, tiled: bytes, place: int, offset: int) -> None:
    """The tile's own checksum says that it is whole."""
    data = bytearray(tiled)
    data[tiles_of(tiled)[place].start + offset] ^= 9
    found = salvage.parse(bytes(data), 1 << 20)
    assert found.tiles[place] == container.read(tiled).tiles[place]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_array_equal(
            codec.decompress(bytes(data), "numpy", errors="conceal"), codec.decompress(tiled, "numpy")
        )


def test_lost_chunks(tiled: bytes) -> None:
    """The last tiles keep their place although nothing in the file numbers them."""
    where, tiles = tiles_of(tiled), container.read(tiled).tiles

    def places(data: bytes) -> list[int]:
        return [tiles.index(t) if t in tiles else -1 for t in salvage.parse(data, 1 << 20).tiles]

    zeros = tiled[: where[1].start] + bytes(where[3].stop - where[1].start) + tiled[where[4].start :]
    assert places(zeros) == [0, -1, -1, -1, 4, 5]
    assert places(tiled[: where[2].stop]) == [0, 1, 2, -1, -1, -1]
    gone = tiled[: where[1].start] + b"xx" + tiled[where[2].start :]
    assert places(gone) == [0, -1, 2, 3, 4, 5]
    extra = tiled[: where[1].start] + b"xx" + tiled[where[1].start :]
    assert places(extra) == list(range(6))

    def damaged(*which: int) -> bytes:
        data = bytearray(tiled)
        for place in which:
            data[where[place].start + 20] ^= 1
        return bytes(data)

    assert places(damaged(1, 2, 4)) == [0, -1, -1, 3, -1, 5]
    assert places(damaged(1, 2)[: where[5].start + 30])[:5] == [0, -1, -1, 3, 4]
    cut = salvage.parse(damaged(1)[: where[2].start + 30], 1 << 20)
    assert cut.tiles[2] is cut.cut is not None, "the start of the one after a damaged one"


def test_checksums_take_no_more_than_their_budget(tiled: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads of tiles that reach to the end of the file, each with a whole tile behind it."""
    small, count, spent = chunk(b"TILE", bytes(5)), 2000, 0
    data = tiled[:HEADER]
    for n in range(count):
        data += struct.pack("<4sI", b"TILE", (count - n - 1) * (8 + len(small)) + len(small) - 4) + small

    def counted(payload: memoryview, start: int = 0) -> int:
        nonlocal spent
        spent += len(payload)
        return crc32(payload, start)

    monkeypatch.setattr(container, "crc32", counted)
    salvage.parse(data, 1 << 20)
    assert spent < (salvage.EFFORT + 3) * len(data)


def test_a_warning_names_the_line_that_asked(codec: Codec, tiled: bytes) -> None:
    for decompress in (codec.decompress, aecodec.decompress):
        with pytest.warns(DamageWarning) as caught:
            decompress(tiled[:-20], errors="conceal")
        assert [Path(warning.filename) for warning in caught] == [Path(__file__)]


def test_the_start_of_a_tile(codec: Codec, photo: Plane) -> None:
    data = codec.compress(photo, 60)
    found = [conceal(codec, data[: len(data) * part // 10], "parts are left") for part in (2, 5, 8)]
    quality = [psnr(picture, photo) for picture in found]
    assert quality[0] > 10
    assert quality[1] > quality[0] + 3
    assert quality[2] > quality[1] + 3


def test_alpha(codec: Codec, picture: Plane) -> None:
    data = codec.compress(picture, 40)
    start = data.index(b"aLPH")
    tile = data.index(b"TILE")
    found = conceal(codec, data[: start + 40], "1 of 1 tiles are damaged: 0; the alpha plane is damaged")
    assert set(found[-1, :, 3]) == {255}
    broken = bytearray(data)
    broken[start + 20] ^= 255
    found = conceal(codec, bytes(broken), "^the alpha plane is damaged$")
    np.testing.assert_array_equal(found[..., :3], codec.decompress(data, "numpy")[..., :3])
    noisy = picture.copy()
    noisy[..., 3] = np.random.default_rng(0).integers(0, 256, (200, 300))
    data = codec.compress(noisy, 40)
    found = conceal(codec, data[: len(data) // 3], "the alpha plane is damaged")
    np.testing.assert_array_equal(found[:20, :, 3], noisy[:20, :, 3])
    assert (found[-20:, :, 3] == 255).all()
    assert tile > start


def test_metadata_that_is_whole_is_kept(codec: Codec, small_image: Image.Image) -> None:
    small_image.info["icc_profile"] = b"a profile" * 20
    small_image.info["xmp"] = b"<x:xmpmeta/>"
    data = bytearray(codec.compress(small_image, 40))
    del small_image.info["icc_profile"], small_image.info["xmp"]
    data[data.index(b"iCCP") + 20] ^= 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = codec.decompress(bytes(data), errors="conceal")
    assert "icc_profile" not in found.info
    assert found.info["xmp"] == b"<x:xmpmeta/>"


def test_what_cannot_be_salvaged(codec: Codec, tiled: bytes) -> None:
    with pytest.raises(NotAec):
        codec.decompress(b"\xff\xd8\xff", errors="conceal")
    critical = tiled[:HEADER] + container._chunk(b"NEWS", b"") + tiled[HEADER:]
    with pytest.raises(UnsupportedFeature):
        codec.decompress(critical, errors="conceal")
    with pytest.raises(ValueError, match="strict or conceal"):
        codec.decompress(tiled, errors="ignore")  # type: ignore[call-overload]


def test_the_search_for_tiles_ends(tiled: bytes) -> None:
    """A file of nothing but heads of chunks, each as long as the rest of the file."""
    heads = b"".join(b"TILE" + (20_000 - i).to_bytes(4, "little") for i in range(0, 16_000, 8))
    found = salvage.parse(tiled[:HEADER] + heads + bytes(20_000), 1 << 20)
    assert len(found.tiles) == 6


def test_fill_is_between_what_it_is_made_of() -> None:
    plane = np.zeros((5, 7, 2), np.float32)
    plane[:, 0], plane[:, 6] = 10.0, 20.0
    known = np.zeros((5, 7), np.bool_)
    known[:, [0, 6]] = True
    filled = salvage.conceal(plane, known)
    np.testing.assert_array_equal(filled[known], plane[known])
    middle: npt.NDArray[np.float32] = filled[~known]
    assert middle.min() >= 10
    assert middle.max() <= 20
    assert filled[2, 1, 0] < filled[2, 5, 0]
    assert (salvage.conceal(plane, np.zeros_like(known)) == plane).all(), "nothing to make it of"


def test_command_line(tiled: bytes, tmp_path: Path) -> None:
    (tmp_path / "cut.aec").write_bytes(tiled[: len(tiled) // 2])
    source, target = str(tmp_path / "cut.aec"), tmp_path / "cut.png"
    result = CliRunner().invoke(app, ["decompress", source])
    assert result.exit_code == 3
    assert not target.exists()
    result = CliRunner().invoke(app, ["decompress", source, "--salvage"])
    assert result.exit_code == 0
    assert "of 6 tiles are damaged: " in result.stderr
    with Image.open(target) as image:
        assert image.size == (300, 200)


def test_symbols_that_are_all_there_and_wrong_are_not_shown(codec: Codec, picture: Plane) -> None:
    """Length and checksum of the symbols are changed: it looks like a tile that the file's end cuts off."""
    data = bytearray(codec.compress(picture[:120, :120, :3]))
    (tile,) = tiles_of(bytes(data))
    data[tile.start + 6] ^= 1
    data[tile.start + 9] ^= 1
    conceal(codec, bytes(data), "1 of 1 tiles are damaged: 0$")
