"""The codec's model as an autoencoder: features, anomalies, samples and denoising, in the library and the commands."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from safetensors.numpy import load_file
from typer.testing import CliRunner, Result

from aecodec import Codec, LimitExceeded, anomalies
from aecodec.anomalies import Gaussian, Moments
from aecodec.cli import app
from aecodec.denoising import denoise
from aecodec.features import features, latents, nearest
from aecodec.image import Plane
from aecodec.model import weights
from aecodec.sampling import sample
from bench.anomalies import KINDS, auc, with_defects

from .conftest import SMALL

SIDES = [(512, 512), (70, 90), (9, 5), (1, 1)]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(params=["codec", "fine"])
def either(request: pytest.FixtureRequest) -> Codec:
    """With the shipped weights, and with small ones that have fine latents."""
    found: Codec = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize(("height", "width"), SIDES)
def test_features_have_one_length(either: Codec, photo: Plane, height: int, width: int) -> None:
    y = latents(either, photo[:height, :width])
    assert y.shape[:2] == (-(-height // 16), -(-width // 16))
    found = features(either, photo[:height, :width])
    assert found.shape == (2 * (either.model.design.latents + either.model.design.fine),)
    np.testing.assert_allclose(found[: y.shape[2]], y.mean((0, 1)), rtol=1e-5, atol=1e-6)


def test_the_nearest_picture_is_that_of_the_same_place(either: Codec, photo: Plane) -> None:
    parts = [photo[y : y + 128, x : x + 128] for y in (0, 192, 384) for x in (0, 192, 384)]
    candidates = np.stack([features(either, part) for part in parts])
    darker = (photo[192:320, 384:] * 0.95).astype(np.uint8)
    found = nearest(features(either, darker), candidates, 3)
    assert found[0][0] == 5
    assert len(found) == 3
    assert found[0][1] < found[1][1] <= found[2][1]
    with pytest.raises(ValueError, match=r"expected \[d\] and \[n, d\]"):
        nearest(candidates[0], candidates[0])


def test_distances_are_those_of_mahalanobis() -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(5000, 3)) @ rng.normal(size=(3, 3)) + 5).astype(np.float32)
    found = Gaussian.of(Moments.of(x[:2000]) + Moments.of(x[2000:])).distances(x)
    inverse, off = np.linalg.inv(np.cov(x.T)), x - x.mean(0)
    np.testing.assert_allclose(found, np.sqrt(np.einsum("ni,ij,nj->n", off, inverse, off) / 3), rtol=0.02)


def test_defects_score_higher(either: Codec) -> None:
    def surface(seed: int) -> Plane:
        noise = np.random.default_rng(seed).normal(0, 60, (160, 240, 3))
        return np.asarray(Image.fromarray((128 + noise).clip(0, 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(1)))

    normal = [surface(seed) for seed in range(4)]
    detector = anomalies.fit(either, normal)
    changed, where = with_defects(surface(4), 3)
    scores = detector.scores(changed)
    clean = ~np.logical_or.reduce([*where.values()])
    assert {kind: auc(scores[where[kind]], scores[clean]) > 0.9 for kind in KINDS} == dict.fromkeys(KINDS, True)
    assert (scores[clean] > detector.threshold).mean() < 0.2
    assert 0.5 < np.median(detector.scores(normal[0])) < 1.5


def test_the_threshold_is_a_quantile(codec: Codec, photo: Plane) -> None:
    parts = [photo[i : i + 128] for i in range(0, 512, 52)][:9]  # more than folds
    low, high = (anomalies.fit(codec, parts, quantile) for quantile in (0.5, 0.99))
    assert low.threshold < high.threshold
    assert 0.3 < np.mean([(low.scores(part) > low.threshold).mean() for part in parts]) < 0.7


def test_flat_normal_pictures(codec: Codec) -> None:
    flat = [np.full((32, 32), 128, np.uint8)] * 2
    detector = anomalies.fit(codec, flat)
    other = flat[0].copy()
    other[:16, :16] = np.arange(16) * 16
    scores = detector.scores(other)
    assert np.isfinite(scores).all()
    assert scores.argmax() == 0
    black = anomalies.fit(codec, [np.zeros((1, 1), np.uint8)] * 2)
    assert black.threshold == 0
    shown = anomalies.heat_map(np.zeros((1, 32, 1), np.uint8), np.array([[0, 1]], np.float32), black.threshold)
    assert [shown[0, x, 0] > 100 for x in (0, 16)] == [False, True]


@pytest.mark.parametrize(("count", "quantile", "message"), [(1, 0.9, "at least two"), (2, 1.0, "quantile 1.0")])
def test_what_no_detector_is_made_of(codec: Codec, photo: Plane, count: int, quantile: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        anomalies.fit(codec, [photo[:32, :32]] * count, quantile)


def test_heat_maps_are_red_above_the_threshold(small: Plane) -> None:
    scores = np.full((5, 6), 0.1, np.float32)
    scores[1, 2] = 9
    shown = anomalies.heat_map(small, scores, 2.0)
    assert shown.shape == small.shape
    red = shown[..., 0].astype(int) - shown[..., 1]
    assert red[16:32, 32:48].min() > 100
    red[16:32, 32:48] = 0
    assert not red.any()


@pytest.mark.parametrize(("width", "height"), [(90, 70), (1, 1)])
@pytest.mark.parametrize("quality", [0, 100])
def test_samples_of_any_size_again(either: Codec, width: int, height: int, quality: int) -> None:
    first, again = (sample(either, width, height, quality=quality, seed=1) for _ in range(2))
    assert first.size == (width, height)
    assert first.mode == "RGB"
    assert first.tobytes() == again.tobytes()


def test_another_seed_gives_another_sample(either: Codec) -> None:
    first, other = (sample(either, 64, 64, quality=100, seed=seed) for seed in (1, 2))
    assert first.tobytes() != other.tobytes()


def test_samples_are_as_wide_as_their_tables(codec: Codec) -> None:
    """The deviation of symbols drawn from a table is the one that the table has."""
    from aecodec.sampling import _draw

    support, frequencies = codec.model.coder.supports[40], codec.model.coder.frequencies[40][:-1]
    drawn = _draw(codec, np.full(20000, 40, np.uint8), np.random.default_rng(0))
    values = np.arange(-support, support + 1)
    deviation = np.sqrt((frequencies * values**2).sum() / frequencies.sum())
    assert abs(drawn.std() / deviation - 1) < 0.03
    assert not _draw(codec, np.zeros(9, np.uint8), np.random.default_rng(0)).any()


@pytest.mark.parametrize("wrong", [{"quality": 101}, {"seed": -1}, {"width": 0}])
def test_what_cannot_be_sampled(codec: Codec, wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        sample(codec, **wrong)


def test_samples_beyond_the_limit(fine_weights: Path) -> None:
    with pytest.raises(LimitExceeded):
        sample(Codec("cpu", fine_weights, max_pixels=100), 11, 10)


def test_denoising_is_a_file_decoded(codec: Codec, small: Plane) -> None:
    with pytest.warns(UserWarning, match="not trained with noise"):
        found = denoise(codec, small, 60)
    assert found.tobytes() == codec.decompress(codec.compress(small, 60)).tobytes()


def test_weights_tell_of_noise(fine: Codec, fine_weights: Path, small: Plane, tmp_path: Path) -> None:
    path = tmp_path / "noise.safetensors"
    identity = weights.write(path, load_file(fine_weights), asdict(SMALL), "eye", noise=25.0)
    codec = Codec("cpu", path)
    assert codec.model.noise == 25
    assert identity == fine.model.id.hex(), "files do not depend on it"
    assert denoise(codec, small).size == (90, 70)  # without a warning


# The commands


@pytest.fixture
def pictures(tmp_path: Path, photo: Plane) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(3):
        Image.fromarray(photo[i * 60 : i * 60 + 96, 200:300]).save(folder / f"{i}.png")
    return folder


def test_features_and_nearest(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "features.npz"
    result = run("features", pictures / "1.png", pictures / "2.png", "--nearest", pictures, "--count", 2, "-o", out)
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["nearest"][0]["file"] for line in lines] == [str(pictures / "1.png"), str(pictures / "2.png")]
    assert [len(line["nearest"]) for line in lines] == [2, 2]
    with np.load(out) as found:
        assert found["names"].tolist() == [str(pictures / "1.png"), str(pictures / "2.png")]
        assert found["features"].shape == (2, 640)
    assert run("features", pictures / "1.png", "-o", out).exit_code == 2  # it exists


def test_anomalies(pictures: Path, tmp_path: Path, photo: Plane) -> None:
    tested = tmp_path / "tested"
    tested.mkdir()
    turned = Image.Exif()
    turned[0x112] = 6
    Image.fromarray(photo[400:440, :50]).save(tested / "other.jpg", exif=turned)
    Image.fromarray(photo[30:33, 200:205]).save(tested / "tiny.png")
    out = tmp_path / "heat"
    result = run("anomalies", "-r", tested, "--normal", pictures, "-o", out, "--json")
    assert result.exit_code == 0, result.output
    other, tiny = (json.loads(line) for line in result.stdout.splitlines())
    assert np.shape(other["scores"]) == (3, 4)
    assert np.shape(tiny["scores"]) == (1, 1)
    assert other["score"] == pytest.approx(np.max(other["scores"]), abs=1e-3)
    assert other["blocks_above"] == (np.array(other["scores"]) > other["threshold"]).sum()
    with Image.open(out / "other.png") as heat:
        assert heat.size == (50, 40)
        assert heat.getexif()[0x112] == 6
    assert run("anomalies", pictures / "0.png", "--normal", pictures).exit_code == 0


def test_sampling(tmp_path: Path) -> None:
    out = tmp_path / "new" / "sample.webp"
    assert run("sample", "--size", "40x24", "-o", out).exit_code == 0
    with Image.open(out) as found:
        assert found.size == (40, 24)
    result = run("sample", "--size", "16384x1", "-o", tmp_path / "wide.webp")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "exceeds WebP limit" in result.stderr


def test_denoising(pictures: Path, tmp_path: Path) -> None:
    result = run("denoise", "-r", pictures, "--weights", "base", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("base: these weights were not trained with noise")
    assert len([*(tmp_path / "out").iterdir()]) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["features", "pictures/0.png"], "give --out"),
        (["features", "pictures/0.png", "-o", "a.npy"], "expected the name of an .npz file"),
        (["features", "-r", "empty", "-o", "a.npz"], "no files found"),
        (["features", "pictures/0.png", "--nearest", "empty"], "no files found"),
        (["features", "pictures/0.png", "--nearest", "bad"], "none of the pictures can be read"),
        (["anomalies", "pictures/0.png", "--normal", "empty"], "no files found"),
        (["anomalies", "pictures/0.png", "--normal", "bad"], "0 normal pictures: at least two"),
        (["anomalies", "pictures/0.png", "--normal", "pictures/0.png"], "1 normal pictures: at least two"),
        (["anomalies", "pictures/0.png", "--normal", "pictures", "--quantile", "1"], "quantile 1.0"),
        (["anomalies", "pictures/0.png", "--normal", "pictures", "-o", "a.jpg"], "a name for JPEG"),
        (["anomalies", "pictures/0.png"], "--normal"),
        (["sample", "-o", "a.png", "--size", "0x9"], "0x9 pixels"),
        (["sample", "-o", "a.png", "--size", "9"], "expected WIDTHxHEIGHT"),
        (["sample", "-o", "a.png", "--size", "99999x9"], "at most 65535"),
        (["sample", "-o", "a.xyz"], "expected a suffix"),
        (["denoise", "pictures/0.png", "--weights", "bad/bad.png"], "not a weights file"),
        (["denoise", "pictures/0.png", "--weights", "nowhere"], "no weights 'nowhere'"),
    ],
)
def test_wrong_usage(
    arguments: list[str], message: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "bad.png").write_bytes(b"no picture")
    before = {*tmp_path.rglob("*")}
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert {*tmp_path.rglob("*")} == before


@pytest.mark.parametrize("command", [["features", "--out", "a.npz"], ["anomalies", "--normal", "pictures"]])
def test_unreadable_pictures(
    command: list[str], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.png").write_bytes(b"no picture")
    result = run(*command, "bad.png", "pictures/0.png", "nowhere.png")
    assert result.exit_code == 1
    assert "bad.png: not an image that Pillow can read" in result.stderr + result.stdout
    assert "nowhere.png: " in result.stderr + result.stdout
    assert isinstance(result.exception, SystemExit)
