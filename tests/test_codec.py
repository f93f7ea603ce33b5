"""The codec end to end: sizes, kinds of pictures, windows, threads, devices."""

import io
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import aecodec
from aecodec import Codec, DamageWarning, Truncated, container, decoder, devices, encoder, errors, registry
from aecodec.cli import app
from aecodec.container import Container, Tile
from aecodec.geometry import WINDOW, Tiling, View
from aecodec.image import Plane
from aecodec.model import weights
from aecodec.model.entropy import EntropyModel

from .conftest import psnr


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 70), (70, 1), (16, 16), (17, 15), (64, 64), (513, 40), (33, 1030), (1, 65535), (65535, 1)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_sizes(codec: Codec, photo: Plane, size: tuple[int, int], channels: int) -> None:
    picture = np.resize(photo, (*size, 3))[:, :, :channels]
    decoded = codec.decompress(codec.compress(picture, 70), "numpy")
    assert decoded.shape == picture.shape
    assert psnr(decoded, picture) > 25


def test_quality_is_monotonic(codec: Codec, photo: Plane) -> None:
    files = [codec.compress(photo, quality) for quality in (0, 20, 40, 60, 80, 100)]
    distortion = [psnr(codec.decompress(data, "numpy"), photo) for data in files]
    assert [len(data) for data in files] == sorted(len(data) for data in files)
    assert distortion == sorted(distortion)
    assert distortion[0] > 20
    assert distortion[-1] > 38


def test_the_rate_is_what_the_tables_say(codec: Codec, photo: Plane) -> None:
    tiles = encoder.symbols(codec.model, [photo], Tiling.uniform(photo.shape, 50))
    estimated = sum(codec.model.coder.bits(*part) for tile in tiles for part in tile.parts)
    assert 8 * len(codec.compress(photo, 50)) < 1.01 * estimated


def test_gray_stays_gray(codec: Codec, photo: Plane) -> None:
    gray = photo[:, :, 1]
    data = codec.compress(Image.fromarray(gray), 60)
    decoded = codec.decompress(data)
    assert decoded.mode == "L"
    assert psnr(np.asarray(decoded), gray) > 30


def test_kinds_of_input_give_the_same_file(codec: Codec, small: Plane, small_image: Image.Image) -> None:
    tensor = torch.from_numpy(small).permute(2, 0, 1)
    files = {codec.compress(x, 40) for x in (small, small_image, tensor, tensor / 255)}
    assert len(files) == 1


def test_kinds_of_output_give_the_same_picture(codec: Codec, small: Plane) -> None:
    data = codec.compress(small, 40)
    array = codec.decompress(data, "numpy")
    tensor = codec.decompress(data, "torch")
    assert tensor.dtype == torch.uint8
    np.testing.assert_array_equal(array, np.asarray(codec.decompress(data)))
    np.testing.assert_array_equal(array, tensor.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("window", [1, 3, 7, 32])
def test_windows_do_not_show(codec: Codec, photo: Plane, window: int) -> None:
    data = container.read(codec.compress(photo[:300, :413], 80))
    tiling, view, m = decoder.tiling_of(data.header, data.tiles), View.whole(300, 413), codec.model
    latents = decoder.decode_latents(m, [data.tiles], tiling)
    whole, parts = (
        m.ops.numpy(decoder.synthesise(m, latents, tiling.whole, tiling, view, False, window=w)).astype(int)
        for w in (WINDOW, window)
    )
    assert np.abs(whole - parts).max() <= 1


@pytest.mark.parametrize("window", [5, 16])
def test_windows_of_the_analysis(codec: Codec, photo: Plane, window: int) -> None:
    tiling = Tiling.uniform((300, 413), 80)
    whole, parts = (
        codec.model.ops.numpy(encoder.analyse(codec.model, [photo[:300, :413]], tiling, window=w))
        for w in (WINDOW, window)
    )
    np.testing.assert_allclose(whole, parts, atol=1e-3, rtol=1e-3)


def test_tiles_may_differ_in_quality(codec: Codec, photo: Plane) -> None:
    picture = np.hstack((photo, photo[:, :200]))
    low, high = (container.read(codec.compress(picture, quality)) for quality in (10, 90))
    mixed = Container(low.header, [low.tiles[0], high.tiles[1]])
    decoded = codec.decompress(container.write(mixed), "numpy")
    assert psnr(decoded[:, 530:], picture[:, 530:]) > psnr(decoded[:, :500], picture[:, :500]) + 5


def test_smaller_tiles_decode(codec: Codec, photo: Plane) -> None:
    """Encoders may choose the tile size; decoders take it from the header."""
    picture = photo[:300, :270]
    tiling = Tiling.uniform(picture.shape, 50, 64)
    found = sorted(encoder.symbols(codec.model, [picture], tiling), key=lambda tile: tile.place)
    tiles = [encoder.code(codec.model, tile.parts, 50) for tile in found]
    header = container.Header(codec.model.id, 270, 300, "RGB", 50, 64)
    assert len(tiles) == header.tile_count == 25  # 16 of one shape, more than one batch
    assert psnr(codec.decompress(container.write(Container(header, tiles)), "numpy"), picture) > 25


def test_many_is_the_same_as_one_by_one(codec: Codec, photo: Plane) -> None:
    pictures = [photo[: 40 + i, : 90 - i] for i in range(7)]
    assert list(codec.compress_many(pictures, 30)) == [codec.compress(p, 30) for p in pictures]


def test_many_gives_what_came_before_the_bad_one(codec: Codec, small: Plane) -> None:
    results = codec.compress_many([small, small, object(), small], 30)  # type: ignore[list-item]
    assert [next(results), next(results)] == [codec.compress(small, 30)] * 2
    with pytest.raises(TypeError):
        next(results)


def test_many_gives_what_came_before_a_failing_source(codec: Codec, small: Plane) -> None:
    def source() -> Iterator[Plane]:
        yield small
        raise KeyError("no more")

    results = codec.compress_many(source(), 30)
    assert next(results) == codec.compress(small, 30)
    with pytest.raises(KeyError):
        next(results)


def test_threads_share_a_codec(codec: Codec, photo: Plane) -> None:
    pictures = [photo[i : i + 60, :80] for i in range(16)]
    with ThreadPoolExecutor(4) as pool:
        files = list(pool.map(codec.compress, pictures))
        decoded = list(pool.map(lambda data: codec.decompress(data, "numpy"), files))
    for picture, data, pixels in zip(pictures, files, decoded, strict=True):
        assert data == codec.compress(picture)
        np.testing.assert_array_equal(pixels, codec.decompress(data, "numpy"))


def test_pickles(codec: Codec, small: Plane) -> None:
    again = pickle.loads(pickle.dumps(codec))
    assert again.compress(small, 20) == codec.compress(small, 20)


@pytest.mark.parametrize("kind", [str, Path])
def test_own_weights(
    codec: Codec, small: Plane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[str] | type[Path]
) -> None:
    """By a name that is relative, which another process with another folder has to find, too."""
    (tmp_path / "mine.safetensors").write_bytes(registry.find(codec.model.id).read_bytes())
    with monkeypatch.context() as there:
        there.chdir(tmp_path)
        own = Codec("cpu", kind("mine.safetensors"))
    assert pickle.loads(pickle.dumps(own)).compress(small, 20) == codec.compress(small, 20)


def test_a_name_is_that_of_installed_weights_before_it_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("base").write_bytes(b"none")
    Codec("cpu", "base")
    with pytest.raises(ValueError, match="base: not a weights file"):
        Codec("cpu", Path("base"))
    with pytest.raises(ValueError, match="no weights"):
        Codec("cpu", str(registry.folder() / "base"))


@pytest.mark.parametrize("device", ["cpu", "cpu:0", torch.device("cpu"), torch.device("cpu", 0)])
def test_names_of_the_cpu(codec: Codec, small: Plane, device: str | torch.device) -> None:
    own = pickle.loads(pickle.dumps(Codec(device)))
    assert own.device == "cpu"
    assert own.compress(small, 20) == codec.compress(small, 20)


def test_names_of_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which there may be none here: nothing is loaded."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(weights, "load_installed", lambda path, device, torch: device)
    for name, expected in (
        ("auto", "cuda"),
        ("cuda", "cuda"),
        ("cuda:1", "cuda:1"),
        (torch.device("cuda", 1), "cuda:1"),
    ):
        codec = Codec(name)
        assert [codec.device, codec.model] == [expected] * 2
    with pytest.raises(ValueError, match="'cuda:2': torch finds 2 GPUs"):
        Codec("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Codec("auto").device == "cpu"
    with pytest.raises(ValueError, match="'cuda:1000': expected"):
        Codec("cuda:1000")
    with pytest.raises(ValueError, match="'cuda:0': torch finds no GPU"):
        Codec(torch.device("cuda", 0))


def test_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match="'mps': torch finds no such GPU"):
        Codec("mps")
    for kind in (Codec, aecodec.register_pillow):
        with pytest.raises(ValueError, match="'tpu': expected auto, cpu, cuda"):
            kind("tpu")


def test_a_device_that_is_not_exact_writes_nothing(
    codec: Codec, small_image: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here one that is called a GPU and is none."""
    monkeypatch.setattr(devices, "choose", lambda name: (str(name), True))
    monkeypatch.setattr(weights, "load_installed", lambda *_: codec.model)
    data = Codec("cuda").compress(small_image)
    monkeypatch.setattr(EntropyModel, "digest", lambda self: self.ops.xp.__name__)
    other = Codec("cuda")
    calls: list[Callable[[], object]] = [
        lambda: other.compress(small_image),
        lambda: other.compress_to(small_image, size=999),
        lambda: list(other.compress_many([small_image])),
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match="cuda is not exact"):
            call()
    other.verify(data)
    small_image.save(tmp_path / "x.png")
    result = CliRunner().invoke(app, ["compress", str(tmp_path / "x.png"), "--device", "cuda", "--thumbnail"])
    assert (result.exit_code, result.output.count("is not exact"), len(list(tmp_path.iterdir()))) == (1, 1, 1)
    assert Codec("cpu").compress(small_image) == data


def test_module_level_functions(small: Plane) -> None:
    data = aecodec.compress(small, 30)
    assert aecodec.decompress(data, "numpy").shape == small.shape


def test_a_model_that_is_not_there(codec: Codec, small: Plane) -> None:
    parsed = container.read(codec.compress(small))
    foreign = replace(parsed, header=replace(parsed.header, model=b"unknown!"))
    with pytest.raises(errors.UnknownModel, match=b"unknown!".hex()):
        codec.decompress(container.write(foreign))


def test_pixel_limit_holds_both_ways(codec: Codec, small: Plane) -> None:
    strict = Codec(device="cpu", max_pixels=1000)
    with pytest.raises(errors.LimitExceeded):
        strict.compress(small)
    with pytest.raises(errors.LimitExceeded):
        strict.decompress(codec.compress(small))


def test_symbols_beyond_the_limit_are_refused(codec: Codec) -> None:
    """Escapes can say more than the format allows."""
    m = codec.model
    index = m.entropy.hyper_index[50]
    channel = int(np.flatnonzero(index)[0])
    z = np.zeros(len(index), np.int16)
    z[channel] = 10000
    words = m.coder.encode([(z, index)])
    header = container.Header(m.id, 16, 16, "RGB", 50, 512)
    with pytest.raises(errors.Corrupt, match="beyond"):
        codec.decompress(container.write(Container(header, [Tile(50, 0, words)])))


@pytest.mark.parametrize(
    "picture",
    [
        np.full((4, 4), 1.5),
        np.zeros((4, 4), np.int16),
        np.zeros((4, 4, 5), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        Image.new("RGB", (0, 5)),
        torch.zeros(4, 4),
        torch.full((3, 4, 4), 200.0),
        torch.full((3, 4, 4), torch.nan),
        torch.zeros(60, 4, 3, dtype=torch.uint8),
        object(),
    ],
)
def test_no_picture(codec: Codec, picture: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        codec.compress(picture)


@pytest.mark.parametrize("quality", [-1, 101, 50.0, "50"])
def test_quality_out_of_range(codec: Codec, small: Plane, quality: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        codec.compress(small, quality)


@pytest.mark.parametrize("data", [None, [1, 2], 5])
def test_what_is_no_bytes(codec: Codec, data: Any) -> None:
    with pytest.raises(TypeError):
        codec.decompress(data)


def test_files_by_path_and_open_ones(codec: Codec, small: Plane, tmp_path: Path) -> None:
    source, target = tmp_path / "a.png", tmp_path / "a.aec"
    Image.fromarray(small).save(source)
    data = codec.compress(small, 40)
    target.write_bytes(data)
    with source.open("rb") as opened:
        for picture in (source, str(source), io.BytesIO(source.read_bytes()), opened):
            assert codec.compress(picture, 40) == data
    with target.open("rb") as opened:
        for file in (target, str(target), io.BytesIO(data), opened):
            np.testing.assert_array_equal(codec.decompress(file, "numpy"), codec.decompress(data, "numpy"))
    with pytest.raises(FileNotFoundError, match="none"):
        codec.compress(tmp_path / "none.png")
    with pytest.raises(FileNotFoundError, match="none"):
        codec.decompress("none.aec")
    with pytest.raises(OSError, match="not an image"):
        codec.compress(io.BytesIO(b"text"))


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_floats_in_an_array(codec: Codec, small: Plane, kind: type[np.floating[Any]]) -> None:
    assert codec.compress(small.astype(kind) / kind(255), 40) == codec.compress(small, 40)
    with pytest.raises(ValueError, match=r"beyond 0\.\.1"):
        codec.compress(small.astype(kind))


def test_other_kinds_of_bytes(codec: Codec, small: Plane) -> None:
    data = codec.compress(small)
    for same in (bytearray(data), memoryview(data), memoryview(data).cast("b")):
        assert codec.decompress(same).size == (90, 70)


def test_wrong_arguments(codec: Codec) -> None:
    with pytest.raises(ValueError, match="device"):
        Codec(device="tpu")
    with pytest.raises(ValueError, match="weights"):
        Codec(weights="nothing")
    with pytest.raises(ValueError, match="output"):
        codec.decompress(b"", "jpeg")  # type: ignore[call-overload]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu_and_cpu_agree(codec: Codec, photo: Plane) -> None:
    gpu = Codec(device="cuda")
    for source in (codec, gpu):
        data = source.compress(photo, 60)
        a, b = (c.decompress(data, "numpy").astype(int) for c in (codec, gpu))
        assert np.abs(a - b).max() <= 1


def test_metadata_that_is_too_long_is_refused_before_the_work(codec: Codec, small_image: Image.Image) -> None:
    image = small_image.copy()
    image.info["xmp"] = bytes(container.MAX_METADATA + 1)
    steps: list[float] = []
    with pytest.raises(errors.LimitExceeded, match="xmp"):
        codec.compress(image, effort=1, progress=steps.append)
    assert not steps


def test_alpha_is_refused_before_the_networks(codec: Codec, small: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    good = codec.compress(small)
    parsed = container.read(codec.compress(np.dstack((small, small[..., 0]))))
    bad = container.write(replace(parsed, alpha=b"no zlib"))
    many = codec.decompress_many([good, bad], "numpy")
    np.testing.assert_array_equal(next(many), codec.decompress(good, "numpy"))
    monkeypatch.setattr(decoder, "decode_latents", None)
    for call in (lambda: codec.verify(bad), lambda: codec.decompress(bad), lambda: next(many)):
        with pytest.raises(errors.Corrupt, match="alpha"):
            call()


# fine latents


@pytest.mark.parametrize("shape", [(70, 90), (16, 16), (1, 1), (530, 40)])
def test_fine_latents_make_good_pictures_better(fine: Codec, photo: Plane, shape: tuple[int, int]) -> None:
    pixels = photo[: shape[0], : shape[1]] if shape[0] < 512 else np.tile(photo, (2, 1, 1))[: shape[0], : shape[1]]
    files = {quality: fine.compress(pixels, quality) for quality in (10, 59, 60, 70, 100)}
    for quality, data in files.items():
        fine.verify(data)
        coded = fine.latents(data)
        assert coded.shape == (-(-shape[0] // 16), -(-shape[1] // 16), 64)
        np.testing.assert_array_equal(coded, fine.latents(pixels, quality))
        assert coded[..., 32:].any() <= (quality >= 60)
    assert fine.latents(files[100])[..., 32:].any()
    parsed = container.read(files[100])
    tiling, errors = decoder.tiling_of(parsed.header, parsed.tiles), []
    plane = decoder.decode_latents(fine.model, [parsed.tiles], tiling)
    for latents in (plane, plane[..., :32]):
        decoded = decoder.synthesise(fine.model, latents, tiling.whole, tiling, View.whole(*shape), False)
        errors.append(np.abs(fine.model.ops.numpy(decoded[0]).astype(int) - pixels).mean())
    assert errors[0] < errors[1] or shape == (1, 1)


def test_tiles_with_and_without_fine_latents(fine: Codec, photo: Plane) -> None:
    """One picture of both. A region shows the same, and search and small versions know either kind."""
    offsets = np.zeros(photo.shape[:2], int)
    offsets[:128, :128] = 50
    data = fine.compress(photo[:256, :256], 20, roi=offsets[:256, :256])
    fine.verify(data)
    pixels = fine.decompress(data, "numpy")
    np.testing.assert_array_equal(fine.decompress(data, "numpy", region=(100, 90, 60, 70)), pixels[90:160, 100:160])
    coded = fine.latents(data)
    assert coded[:8, :8, 32:].any()
    assert not coded[8:, 8:, 32:].any()
    searched, costs = fine.compress(photo[:256, :256], 20, roi=offsets[:256, :256], effort=2), []
    weight = fine.model.lagrangian[20 + offsets[:256, :256, None]]
    for file in (data, searched):
        error = fine.decompress(file, "numpy").astype(float) - photo[:256, :256]
        costs.append(8 * len(file) + float((weight * error**2).sum()) / 3)
    assert costs[1] < costs[0]
    for scale in (1 / 2, 1 / 4, 1 / 8):
        assert fine.decompress(data, "numpy", scale=scale).shape[0] == 256 * scale


def test_a_fine_part_that_is_cut_is_taken_as_its_means(fine: Codec, small: Plane) -> None:
    data = fine.compress(small, 100)
    with pytest.raises(Truncated):
        fine.decompress(data[:-8])
    with pytest.warns(DamageWarning, match="5 of 6 parts"):
        cut = fine.decompress(data[: len(data) - 40], "numpy", errors="conceal")
    whole = fine.decompress(data, "numpy")
    assert 30 < psnr(cut, whole) < 60, "all but the fine latents is there"


# gray pictures in RGB


@pytest.mark.parametrize("kind", ["array", "RGB", "RGBA", "tensor", "floats"])
def test_equal_colours_are_coded_as_gray(codec: Codec, small: Plane, kind: str) -> None:
    gray = np.ascontiguousarray(small[:, :, 1])
    colours = np.repeat(gray[:, :, None], 3, 2)
    pictures: dict[str, Any] = {
        "array": colours,
        "RGB": Image.fromarray(colours),
        "RGBA": Image.fromarray(np.dstack((colours, gray))),
        "tensor": torch.from_numpy(colours).permute(2, 0, 1),
        "floats": torch.from_numpy(colours).permute(2, 0, 1) / 255,
    }
    data = codec.compress(pictures[kind], 60)
    header = container.read_header(data)
    assert (header.mode, header.equal_colours) == ("RGBA" if kind == "RGBA" else "RGB", True)
    decoded = codec.decompress(data, "numpy")
    assert decoded.shape[2] == (4 if kind == "RGBA" else 3)
    for other in (decoded[..., 1], decoded[..., 2], codec.decompress(codec.compress(gray, 60), "numpy")[..., 0]):
        np.testing.assert_array_equal(decoded[..., 0], other)
    if kind != "RGBA":
        assert len(data) == len(codec.compress(gray, 60))
    for scale in (1 / 2, 1 / 8):
        part = codec.decompress(data, "numpy", scale=scale)
        np.testing.assert_array_equal(part[..., 0], part[..., 2])
    assert aecodec.decompress(data).mode == header.mode


def test_one_pixel_of_colour_is_kept(codec: Codec, small: Plane) -> None:
    colours = np.repeat(small[:, :, 1:2], 3, 2)
    colours[3, 4] = (255, 0, 0)
    assert not container.read_header(codec.compress(colours, 60)).equal_colours


def test_targets_and_batches_of_equal_colours(codec: Codec, small: Plane) -> None:
    gray = np.ascontiguousarray(small[:, :, 1:2])
    colours = np.repeat(gray, 3, 2)
    data = codec.compress_to(colours, psnr=36.0)
    assert psnr(codec.decompress(data, "numpy"), colours) >= 36
    files = list(codec.compress_many([colours, gray, small, colours], 50))
    assert files == [codec.compress(picture, 50) for picture in (colours, gray, small, colours)]
    decoded = [p.shape for p in codec.decompress_many(files, "numpy")]
    assert decoded == [colours.shape, gray.shape, small.shape, colours.shape]
    assert len(codec.compress(colours, 50, effort=2, thumbnail=True)) > 100
