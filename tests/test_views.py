"""Parts and small versions of a picture, previews, latents, and many at once."""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from aecodec import (
    BadChecksum,
    Codec,
    Corrupt,
    LimitExceeded,
    NotAec,
    SymbolMismatch,
    Truncated,
    container,
    decoder,
    encoder,
)
from aecodec.container import Container
from aecodec.image import Plane, from_any

from .conftest import DEVICES, GOLDEN, psnr


@pytest.fixture(scope="module", params=DEVICES)
def codec(request: pytest.FixtureRequest) -> Codec:
    return Codec(device=request.param)


@pytest.fixture(scope="module")
def large(photo: Plane) -> Plane:
    """Of 2x2 tiles, with alpha, ``[530, 700, 4]``."""
    picture = np.hstack((photo, photo[:, :188]))
    picture = np.vstack((picture, picture[:18]))
    return np.dstack((picture, np.indices(picture.shape[:2]).sum(0).astype(np.uint8)))


@pytest.fixture(scope="module")
def file(codec: Codec, large: Plane) -> bytes:
    return codec.compress(large, 60)


@pytest.fixture(scope="module")
def whole(codec: Codec, file: bytes) -> Plane:
    return codec.decompress(file, "numpy")


REGIONS = [(0, 0, 700, 530), (0, 0, 1, 1), (699, 529, 1, 1), (500, 500, 30, 30), (100, 17, 333, 45), (13, 514, 640, 5)]


@pytest.mark.parametrize("region", REGIONS)
def test_region_is_the_crop_of_the_whole(codec: Codec, file: bytes, whole: Plane, region: tuple[int, ...]) -> None:
    x, y, width, height = region
    part = codec.decompress(file, "numpy", region=(x, y, width, height))
    crop = whole[y : y + height, x : x + width]
    assert part.shape == crop.shape
    assert np.abs(part.astype(int) - crop).max() <= 1
    np.testing.assert_array_equal(part[..., 3], crop[..., 3])


def test_region_decodes_the_tiles_around_it_alone(codec: Codec, file: bytes) -> None:
    parsed = container.read(file)
    tiles = list(parsed.tiles)
    tiles[3] = container.Tile(tiles[3].quality, tiles[3].symbol_crc ^ 1, tiles[3].words)
    changed = container.write(Container(parsed.header, tiles, {}, parsed.alpha))
    codec.decompress(changed, region=(0, 0, 400, 400))
    with pytest.raises(SymbolMismatch):  # the synthesis needs something of the last tile here
        codec.decompress(changed, region=(400, 400, 90, 90))


@pytest.mark.parametrize("region", [(-1, 0, 5, 5), (0, 0, 0, 5), (0, 0, 701, 1), (690, 520, 5, 11), (0, 530, 1, 1)])
def test_region_beyond_the_picture(codec: Codec, file: bytes, region: tuple[int, int, int, int]) -> None:
    for errors in ("strict", "conceal"):
        with pytest.raises(ValueError, match="not within the 700x530 pixels"):
            codec.decompress(file, errors=errors, region=region)


def averaged(plane: Plane, shrink: int) -> Plane:
    height, width = (-(-n // shrink) * shrink for n in plane.shape[:2])
    padded = np.pad(plane, ((0, height - plane.shape[0]), (0, width - plane.shape[1]), (0, 0)), "edge").astype(float)
    blocks = padded.reshape(height // shrink, shrink, width // shrink, shrink, -1)
    means: Plane = blocks.mean((1, 3)).round().astype(np.uint8)
    return means


@pytest.mark.parametrize("shrink", [2, 4, 8])
@pytest.mark.parametrize("channels", [1, 3])
def test_small_version_is_the_large_one_averaged(codec: Codec, photo: Plane, shrink: int, channels: int) -> None:
    data = codec.compress(photo[:301, :413, :channels], 70)
    small = codec.decompress(data, "numpy", scale=1 / shrink)
    expected = averaged(codec.decompress(data, "numpy"), shrink)
    assert small.shape == expected.shape
    assert psnr(small, expected) > (33 if shrink == 8 else 45)


def test_small_version_without_a_readout(codec: Codec, photo: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that know nothing of it take the synthesis."""
    data = codec.compress(photo[:100, :90], 70)
    monkeypatch.setattr(codec.model, "readout", None)
    small = codec.decompress(data, "numpy", scale=1 / 8)
    assert psnr(small, averaged(codec.decompress(data, "numpy"), 8)) > 45


def test_small_version_of_several_qualities(codec: Codec, photo: Plane) -> None:
    offsets = np.zeros((512, 512), int)
    offsets[:100, :100] = 50
    data = codec.compress(photo, 40, roi=offsets)
    assert psnr(codec.decompress(data, "numpy", scale=1 / 8), averaged(photo, 8)) > 33


@pytest.mark.parametrize(
    "region", [(504, 96, 101, 99), (3, 0, 2, 4), (6, 1, 50, 64), (699, 529, 1, 1), (1, 1, 698, 528)]
)
@pytest.mark.parametrize("shrink", [2, 4, 8])
def test_small_version_of_a_region(codec: Codec, file: bytes, region: tuple[int, ...], shrink: int) -> None:
    """Every pixel of the small picture that the region touches, alpha in its place."""
    x, y, width, height = region
    whole = codec.decompress(file, "numpy", scale=1 / shrink)
    expected = whole[y // shrink : -(-(y + height) // shrink), x // shrink : -(-(x + width) // shrink)]
    for errors in ("strict", "conceal"):
        part = codec.decompress(file, "numpy", errors=errors, region=(x, y, width, height), scale=1 / shrink)
        np.testing.assert_allclose(part.astype(int), expected, atol=1)
        np.testing.assert_array_equal(part[..., 3], expected[..., 3])
    tensor = codec.decompress(file, "torch", region=(x, y, width, height), scale=1 / shrink)
    np.testing.assert_array_equal(tensor.cpu().permute(1, 2, 0).numpy()[..., 3], expected[..., 3])


def test_no_more_tiles_than_the_readout_needs(codec: Codec, file: bytes) -> None:
    parsed = container.read(file)
    tiles = [*parsed.tiles[:3], container.Tile(parsed.tiles[3].quality, 0, parsed.tiles[3].words)]
    changed = container.write(Container(parsed.header, tiles, {}, parsed.alpha))
    codec.decompress(changed, region=(400, 400, 90, 90), scale=1 / 8)


@pytest.mark.parametrize("scale", [0, 2, 1 / 3, 0.3, 1 / 16, -1])
def test_other_scales(codec: Codec, file: bytes, scale: float) -> None:
    with pytest.raises(ValueError, match="expected 1, 1/2, 1/4 or 1/8"):
        codec.decompress(file, scale=scale)


def test_preview(codec: Codec, photo: Plane) -> None:
    """More bytes, a better picture; and no warning, since nothing is wrong."""
    data = codec.compress(photo, 60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [psnr(np.asarray(codec.preview(data[: len(data) * n // 8])), photo) for n in range(1, 9)]
        assert codec.preview(data, scale=1 / 8).size == (64, 64)
        assert codec.preview(data[: len(data) // 2], region=(10, 20, 30, 40)).size == (30, 40)
    assert found == sorted(found)
    assert found[-1] == psnr(codec.decompress(data, "numpy"), photo)
    with pytest.raises(Truncated):
        codec.preview(data[:30])


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_latents_of_a_file(codec: Codec, path: Path) -> None:
    parsed = container.read(path.read_bytes())
    tiling = decoder.tiling_of(parsed.header, parsed.tiles)
    expected = codec.model.ops.numpy(decoder.decode_latents(codec.model, [parsed.tiles], tiling)[0]) / 256
    latents = codec.latents(path.read_bytes())
    assert latents.dtype == np.float32
    np.testing.assert_array_equal(latents, expected)


def test_latents_of_a_picture_are_those_of_its_file(codec: Codec, large: Plane) -> None:
    latents = codec.latents(large, 30)
    assert latents.shape == (34, 44, codec.model.design.latents)
    np.testing.assert_array_equal(latents, codec.latents(codec.compress(large, 30)))


def test_latents_of_a_path_and_of_an_open_file(codec: Codec, photo: Plane, tmp_path: Path) -> None:
    """Whether it is an .aec file, its first bytes tell."""
    data = codec.compress(photo[:60, :50], 30)
    files = [tmp_path / name for name in ("a.aec", "renamed.bin", "a.png")]
    files[0].write_bytes(data)
    files[1].write_bytes(data)
    Image.fromarray(photo[:60, :50]).save(files[2])
    expected = codec.latents(data)
    for path in files:
        np.testing.assert_array_equal(codec.latents(path, 30), expected)
        with path.open("rb") as file:
            np.testing.assert_array_equal(codec.latents(file, 30), expected)
    files[2].rename(files[0])
    with pytest.raises(NotAec, match=r"not an \.aec file"):
        codec.latents(files[0])
    files[1].write_bytes(b"neither")
    with pytest.raises(OSError, match="not an image"):
        codec.latents(files[1])
    with files[1].open(encoding="utf-8") as text, pytest.raises(TypeError):
        codec.latents(text)  # type: ignore[arg-type]
    with pytest.raises(NotAec):
        codec.latents(b"neither")


def test_pictures_of_one_size_go_together(codec: Codec, photo: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which may round a float otherwise: the files need not be the same bytes, and are in practice."""
    together: list[int] = []
    analyse = encoder.analyse

    def counted(m: Any, pictures: Any, *rest: Any, **named: Any) -> Any:
        together.append(len(pictures))
        return analyse(m, pictures, *rest, **named)

    monkeypatch.setattr(encoder, "analyse", counted)
    pictures = [photo[i : i + 128, :128] for i in range(20)] + [photo[:40, :50]] + [photo[i:, :, :1] for i in range(2)]
    files = list(codec.compress_many(iter(pictures), 40))
    assert together == [16, 4, 1, 1, 1]
    for picture, data in zip(pictures, files, strict=True):
        assert abs(len(data) - len(codec.compress(picture, 40))) <= 8
        decoded = codec.decompress(data, "numpy")
        assert decoded.shape == picture.shape
        assert psnr(decoded, picture) > 25


@pytest.mark.parametrize("scale", [1, 1 / 4])
def test_files_of_one_size_go_together(codec: Codec, photo: Plane, scale: float) -> None:
    pictures = [photo[i : i + 120, :128] for i in range(18)] + [photo[:40, :50, :1]]
    files = [codec.compress(picture, 30 + 20 * (n > 9)) for n, picture in enumerate(pictures)]
    for data, array in zip(files, codec.decompress_many(files, "numpy", scale=scale), strict=True):
        np.testing.assert_allclose(array.astype(int), codec.decompress(data, "numpy", scale=scale), atol=1)
    assert [x.size for x in codec.decompress_many(files[:2])] == [(128, 120)] * 2
    assert [tuple(x.shape) for x in codec.decompress_many(files[:2], "torch")] == [(3, 120, 128)] * 2


def test_what_comes_before_a_bad_file_comes_out(codec: Codec, photo: Plane) -> None:
    files = [codec.compress(photo[i : i + 50, :60], 50) for i in range(4)]
    found = codec.decompress_many([*files[:2], files[2][:-3] + b"abc", files[3]], "numpy")
    for data in files[:2]:
        np.testing.assert_array_equal(next(found), codec.decompress(data, "numpy"))
    with pytest.raises(BadChecksum):
        next(found)
    parsed = container.read(files[2])
    tile = container.Tile(50, parsed.tiles[0].symbol_crc ^ 1, parsed.tiles[0].words)
    found = codec.decompress_many([*files[:2], container.write(Container(parsed.header, [tile])), files[3]], "numpy")
    assert len([next(found), next(found)]) == 2
    with pytest.raises(SymbolMismatch):
        next(found)


def test_tensors_are_on_the_codecs_device(codec: Codec, file: bytes, whole: Plane) -> None:
    tensor = codec.decompress(file, "torch")
    assert tensor.device.type == codec.device
    assert tensor.is_contiguous()
    torch.testing.assert_close(tensor.cpu().permute(1, 2, 0), torch.from_numpy(whole))
    assert codec.decompress(file).tobytes() == Image.fromarray(whole).tobytes()


def test_many_where_one_cannot_be_written(codec: Codec, small_image: Image.Image) -> None:
    """No other file takes its place."""
    pictures = [small_image.crop((0, 0, 40 + i, 40)) for i in range(5)]
    pictures[1].info["exif"] = bytes(17 << 20)
    found = codec.compress_many(pictures, 30)
    assert next(found) == codec.compress(pictures[0], 30)
    with pytest.raises(LimitExceeded):
        next(found)
    with pytest.raises(StopIteration):
        next(found)


def test_many_takes_no_more_than_it_says(codec: Codec, photo: Plane) -> None:
    taken = 0

    def pictures() -> Iterator[Plane]:
        nonlocal taken
        for _ in range(60):
            taken += 1
            yield photo[:32, :32]

    for number, _ in enumerate(codec.compress_many(pictures())):
        assert taken <= number + 1 + 20


@pytest.mark.parametrize("channels", [1, 4])
def test_many_of_one_buffer(codec: Codec, channels: int) -> None:
    """As cameras and videos have it: what was given is used again for the next."""

    def frames() -> Iterator[Plane]:
        buffer = np.empty((32, 32, channels), np.uint8)
        for i in range(6):
            buffer[:] = i * 40 + 10
            yield buffer

    found = [codec.decompress(data, "numpy").mean((0, 1)) for data in codec.compress_many(frames(), 60)]
    np.testing.assert_allclose(found, np.repeat([[i * 40 + 10] for i in range(6)], channels, 1), atol=3)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_tensors_stay_where_they_are(codec: Codec, large: Plane, channels: int) -> None:
    """On their way to the codec's networks; alpha is coded elsewhere."""
    planes = np.ascontiguousarray(
        large[:100, :130, (*range(channels - 1), 3) if channels in (2, 4) else slice(channels)]
    )
    tensor = torch.from_numpy(planes).permute(2, 0, 1).to(codec.device)
    pixels = from_any(tensor).pixels
    if channels in (1, 3):
        assert isinstance(pixels, torch.Tensor)
        assert pixels.device == tensor.device
    data = codec.compress(tensor, 40)
    assert data == codec.compress(planes, 40)
    assert data == next(codec.compress_many([tensor], 40))
    decoded = codec.decompress(data, "torch")
    assert decoded.device == tensor.device
    assert decoded.shape == tensor.shape


@pytest.fixture(scope="module")
def thumbnailed(codec: Codec, large: Plane) -> bytes:
    return codec.compress(large, 60, thumbnail=True)


def test_thumbnail_is_what_is_shown_at_an_eighth(codec: Codec, large: Plane, file: bytes, thumbnailed: bytes) -> None:
    parsed = container.read(thumbnailed)
    assert len(thumbnailed) == len(file) + len(parsed.metadata["thumbnail"]) + 12
    tiles = [container.Tile(tile.quality, tile.symbol_crc ^ 1, tile.words) for tile in parsed.tiles]
    changed = container.write(Container(parsed.header, tiles, parsed.metadata, parsed.alpha))
    small = codec.decompress(changed, "numpy", scale=1 / 8)  # no other symbol is looked at
    expected = averaged(large, 8)
    assert small.shape == expected.shape
    assert psnr(small[..., :3], expected[..., :3]) > 30
    np.testing.assert_array_equal(small[..., 3], codec.decompress(file, "numpy", scale=1 / 8)[..., 3])
    part = codec.decompress(changed, "numpy", region=(504, 96, 101, 99), scale=1 / 8)
    np.testing.assert_allclose(part.astype(int), small[12:25, 63:76], atol=1)
    for scale in (1, 1 / 2, 1 / 4):
        whole, plain = (codec.decompress(data, "numpy", scale=scale) for data in (thumbnailed, file))
        np.testing.assert_array_equal(whole, plain)
    assert "thumbnail" not in codec.decompress(thumbnailed, scale=1 / 8).info
    assert codec.verify(thumbnailed) == parsed.header


def test_thumbnails_of_some_of_many(codec: Codec, photo: Plane) -> None:
    files = [codec.compress(photo[i : i + 100, :90, :1], 20, thumbnail=i != 2) for i in range(4)]
    for small, data in zip(codec.decompress_many(files, "numpy", scale=1 / 8), files, strict=True):
        np.testing.assert_array_equal(small, codec.decompress(data, "numpy", scale=1 / 8))


def test_size_with_a_thumbnail(codec: Codec, photo: Plane) -> None:
    data = codec.compress_to(photo[:128, :128], size=3000, thumbnail=True)
    assert len(data) <= 3000
    assert container.read(data).metadata["thumbnail"]


@pytest.mark.parametrize("kind", ["cut", "longer", "no tile", "symbols", "another size"])
def test_wrong_thumbnails(codec: Codec, photo: Plane, kind: str) -> None:
    file = container.read(codec.compress(photo[:80, :100], 30, thumbnail=True))
    good = file.metadata["thumbnail"]
    (tile,) = container.thumbnail(file.header, good).tiles
    bad = {
        "cut": good[:-4],
        "longer": good + b"\0",
        "no tile": b"\4\0\0\0tile",
        "symbols": container.pack_thumbnail([replace(tile, symbol_crc=tile.symbol_crc ^ 1)]),
        "another size": container.pack_thumbnail(container.read(codec.compress(photo[:40, :50], 60)).tiles),
    }
    data = container.write(replace(file, metadata={"thumbnail": bad[kind]}))
    for look in (codec.verify, lambda data: codec.decompress(data, scale=1 / 8)):
        with pytest.raises(Corrupt):
            look(data)
    assert codec.decompress(data).size == (100, 80)  # which needs none
    small, damage = codec.salvage(data, scale=1 / 8)  # from the latents then
    assert not damage
    assert psnr(np.asarray(small), averaged(photo[:80, :100], 8)) > 25


def test_thumbnail_of_a_file_that_is_still_coming(codec: Codec, thumbnailed: bytes) -> None:
    start = thumbnailed[: thumbnailed.index(b"TILE")]
    small = np.asarray(codec.preview(start, scale=1 / 8))
    np.testing.assert_array_equal(small, codec.decompress(thumbnailed, "numpy", scale=1 / 8))


def test_tiles_of_a_damaged_thumbnail_are_none_of_the_picture(codec: Codec, thumbnailed: bytes) -> None:
    begins = thumbnailed.index(b"tHMB")
    damaged = thumbnailed[: begins + 40] + bytes((thumbnailed[begins + 40] ^ 1,)) + thumbnailed[begins + 41 :]
    picture, damage = codec.salvage(damaged)
    assert not damage
    np.testing.assert_array_equal(np.asarray(picture), codec.decompress(thumbnailed, "numpy"))
    damage = codec.salvage(thumbnailed[: begins + 200])[1]
    assert damage.startswith("4 of 4 tiles are damaged: 0, 1, 2, 3")


def test_many_refuse_wrong_arguments_at_once(codec: Codec) -> None:
    with pytest.raises(ValueError, match="scale 3"):
        codec.decompress_many([], scale=3)
    with pytest.raises(ValueError, match="quality 101"):
        codec.compress_many([], 101)
