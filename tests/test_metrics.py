"""Rates and metrics, where the right answer is known."""

import tracemalloc
from importlib.metadata import version
from pathlib import Path
from typing import Any

import bjontegaard
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.signal import convolve
from skimage import data

from aecodec.image import Plane
from aecodec.metrics.ssimulacra2 import error_sum, score, ssimulacra2
from aecodec.training.bd import NoOverlap, bd_rate
from bench import metrics, rd
from bench.codecs import JPEG

CURVE = np.array([[0.2, 28.0], [0.4, 31.0], [0.8, 34.0], [1.6, 37.0]])


# rates


def test_bd_rate_of_a_shifted_curve() -> None:
    """A codec that needs 30 % less everywhere has a BD-rate of -30 %."""
    assert bd_rate(CURVE, CURVE * (0.7, 1)) == pytest.approx(-30)
    assert bd_rate(CURVE, CURVE) == pytest.approx(0)
    assert bd_rate(CURVE * (0.7, 1), CURVE) == pytest.approx(100 * (1 / 0.7 - 1))


@pytest.mark.parametrize("seed", range(5))
def test_bd_rate_is_that_of_the_bjontegaard_package(seed: int) -> None:
    rng = np.random.default_rng(seed)
    anchor, test = (np.cumsum(rng.uniform(0.1, 1, (7, 2)), 0) + np.array([0.1, 30]) for _ in range(2))
    ours = bd_rate(anchor, test)
    theirs = bjontegaard.bd_rate(*anchor.T, *test.T, method="pchip", require_matching_points=False, min_overlap=0)
    assert ours == pytest.approx(theirs, rel=1e-9)


def test_bd_rate_needs_an_overlap() -> None:
    with pytest.raises(NoOverlap, match="overlap"):
        bd_rate(CURVE, CURVE + np.array([0, 6]))
    with pytest.raises(NoOverlap, match="two points"):
        bd_rate(CURVE, CURVE[:1])


STRAIGHT = np.stack((np.exp(0.2 * np.arange(30, 41)), np.arange(30, 41)), 1)
STEEPER = np.stack((np.exp(0.22 * np.arange(30, 41) - 0.7), np.arange(30, 41)), 1)  # less below 35, more above


def ratio(low: float, high: float) -> float:
    """What the second needs more than the first, between two values."""
    return float(100 * np.expm1(0.02 * (low + high) / 2 - 0.7))


def test_bd_rate_within_a_range() -> None:
    assert bd_rate(STRAIGHT, STEEPER, (30, 34)) == pytest.approx(ratio(30, 34))
    assert bd_rate(STRAIGHT, STEEPER, (36, 39)) == pytest.approx(ratio(36, 39))
    assert bd_rate(STRAIGHT, STEEPER) == pytest.approx(0)
    assert bd_rate(STRAIGHT, STEEPER, (38, 42)) == pytest.approx(ratio(38, 40)), "half of it is enough"
    for within in ((37.9, 42.2), (41, 45)):
        with pytest.raises(NoOverlap, match="overlap"):
            bd_rate(STRAIGHT, STEEPER, within)


def test_bd_rates_by_range_of_scores() -> None:
    """Ten scores a decibel: the qualities at which the anchor has the scores, by any metric."""

    def points(curve: Any, most: float = 100) -> list[dict[str, float]]:
        table = [{"bytes": bpp, "psnr": db, "ssimulacra2": 10 * (db - 30)} for bpp, db in curve]
        return [p for p in table if p["ssimulacra2"] <= most]

    images = {name: {"width": 8, "height": 1} for name in "abc"}
    curves = {
        "x": {"a": points(STRAIGHT), "b": points(STRAIGHT), "c": points(STRAIGHT, 70)},
        "y": {"a": points(STEEPER), "b": points(STEEPER), "c": points(STEEPER)},
    }
    found = {"images": images, "codecs": {name: {"points": p} for name, p in curves.items()}}
    found["bd_rate"] = {"psnr": {}, "ssimulacra2": {}}
    tables = rd.by_range(found, "x")
    assert tables["anchor"] == "x"
    for metric in ("psnr", "ssimulacra2"):
        rates, left_out = tables["bd_rate"][metric], tables["left_out"][metric]
        assert left_out == {"whole": [], "30-60": [], "60-80": [], "80-90": ["c"]}
        assert rates["30-60"]["y"] == {"mean": round(ratio(33, 36), 2), "standard_error": 0.0}
        assert rates["80-90"]["y"] == {"mean": round(ratio(38, 39), 2), "standard_error": 0.0}
        assert rates["60-80"]["x"] == {"mean": 0.0, "standard_error": 0.0}
        some = [ratio(36, 38), ratio(36, 38), ratio(36, 37)]  # half of the scores is all that the anchor has on c
        assert rates["60-80"]["y"]["mean"] == round(float(np.mean(some)), 2)


def test_points_that_others_beat_do_not_count() -> None:
    worse = np.vstack((CURVE, [[1.0, 33.0], [0.8, 33.9], [1.6, 37.0]]))
    assert bd_rate(CURVE, worse) == pytest.approx(0)


def test_means_are_of_the_images_that_all_codecs_have_rates_on() -> None:
    def points(curve: Any) -> list[dict[str, float]]:
        return [{"bytes": bpp, "psnr": value} for bpp, value in curve]

    far, one = CURVE + np.array([0, 6]), CURVE * (0.8, 1)
    images = {name: {"width": 8, "height": 1} for name in "abc"}
    curves = {
        JPEG: {"a": CURVE, "b": CURVE, "c": CURVE},
        "x": {"a": one, "b": CURVE * (0.6, 1), "c": one},
        "y": {"a": CURVE, "b": CURVE, "c": far},
        "never": {"a": far, "b": far, "c": far},
        "once": {"a": one, "b": far, "c": far},
    }
    table = {n: {"points": {image: points(c) for image, c in by.items()}} for n, by in curves.items()}
    rates, left_out = rd.bd_rates({"images": images, "codecs": table}, "psnr")
    assert left_out == ["c"]
    assert rates["never"] is None
    assert rates["once"] is None
    assert rates["x"] == {"mean": -30.0, "standard_error": 10.0}  # the deviation of -20 and -40 is 10·√2
    rates, _ = rd.bd_rates({"images": {"a": images["a"]}, "codecs": table}, "psnr")
    assert rates["x"] == {"mean": -20.0, "standard_error": None}


def test_means_are_of_the_same_images_for_all_codecs() -> None:
    sizes = {name: {"width": 8, "height": 1} for name in "ab"}
    points = {
        "x": {"a": [{"bytes": 1, "psnr": 30.0}], "b": [{"bytes": 3, "psnr": 40.0}]},
        "y": {"a": [{"bytes": 2, "psnr": 31.0}], "b": [{"error": "too wide"}]},
        "broken": {"a": [{"error": "no"}], "b": [{"error": "no"}]},
    }
    found = {"images": sizes, "codecs": {name: {"points": p} for name, p in points.items()}}
    assert rd.whole_images(found, "psnr") == ["a"]
    assert rd.mean_curve(found, "x", "psnr").tolist() == [[1.0, 30.0]]
    assert len(rd.mean_curve(found, "broken", "psnr")) == 0
    assert rd.failures(found) == {"y, b": "too wide", "broken, a": "no", "broken, b": "no"}


# metrics


def test_psnr_of_a_known_error() -> None:
    a, b = Image.new("RGB", (8, 8), (10, 20, 30)), Image.new("RGB", (8, 8), (11, 21, 31))
    assert metrics.psnr(a, b) == pytest.approx(48.1308, abs=1e-4)
    assert metrics.psnr(a, a) is None


def distorted(name: str, kind: str) -> tuple[Image.Image, Image.Image]:
    """A photograph and a version of it that any machine draws alike."""
    photo = np.asarray(getattr(data, name)())
    if kind == "noise":
        changed = np.clip(photo + np.random.default_rng(0).normal(0, 4, photo.shape).round(), 0, 255)
    else:
        changed = photo // 16 * 16 + 8 if kind == "coarse" else np.roll(photo, 1, 1)
    return Image.fromarray(photo), Image.fromarray(changed.astype(np.uint8))


@pytest.mark.parametrize("kind", ["coarse", "shift"])
@pytest.mark.parametrize("name", ["chelsea", "coffee"])
def test_ms_ssim_is_that_of_the_paper(name: str, kind: str) -> None:
    def channel(x: Any, y: Any) -> float:
        window = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
        window = np.outer(window, window) / window.sum() ** 2
        value = 1.0
        for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
            if scale:  # means of 2x2; an odd row or column gets a partner of zeros, as in the original code
                x, y = (np.pad(v, [(n % 2, 0) for n in v.shape]) for v in (x, y))
                x, y = ((v[::2, ::2] + v[1::2, ::2] + v[::2, 1::2] + v[1::2, 1::2]) / 4 for v in (x, y))
            mx, my, xx, yy, xy = (convolve(v, window, "valid") for v in (x, y, x * x, y * y, x * y))
            structure = (2 * (xy - mx * my) + 58.5225) / (xx - mx**2 + yy - my**2 + 58.5225)
            luminance = (2 * mx * my + 6.5025) / (mx**2 + my**2 + 6.5025) if scale == 4 else 1.0
            value *= np.mean(luminance * structure) ** weight
        return value

    a, b = distorted(name, kind)
    planes = (np.moveaxis(np.asarray(i, np.float64), 2, 0) for i in (a, b))
    expected = np.mean([channel(x, y) for x, y in zip(*planes, strict=True)])
    assert metrics.ms_ssim(a, b) == pytest.approx(-10 * np.log10(1 - expected), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("astronaut", "coarse", 0.9838806),
        ("astronaut", "shift", 0.9628384),
        ("astronaut", "noise", 0.9898987),
        ("chelsea", "coarse", 0.9824159),  # 451x300 pixels: odd sides at several scales
        ("coffee", "shift", 0.9498742),
    ],
)
def test_ms_ssim_is_that_of_pytorch_msssim(name: str, kind: str, expected: float) -> None:
    """Within that package's single precision; the values are those of its release 1.0.0."""
    found = metrics.ms_ssim(*distorted(name, kind))
    assert found is not None
    assert 1 - 10 ** (-found / 10) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "kind", "whole", "corner"),
    [
        ("astronaut", "coarse", 52.43120601, 58.33130085),
        ("astronaut", "shift", 16.36720238, None),
        ("chelsea", "coarse", 64.26354001, 64.87123322),
        ("chelsea", "shift", 25.53644813, None),
        ("coffee", "coarse", 65.06179021, 65.07978303),
        ("coffee", "shift", -12.02520911, None),
        ("astronaut", "noise", 80.46768586, None),
        ("chelsea", "noise", 81.27574869, None),
        ("coffee", "noise", 80.99240756, None),
    ],
)
def test_ssimulacra2_is_that_of_libjxl(name: str, kind: str, whole: float, corner: float | None) -> None:
    """Within what the reference's single precision costs; the scores are those of the tool of libjxl 0.11.2."""
    a, b = map(np.asarray, distorted(name, kind))
    assert ssimulacra2(a, b) == pytest.approx(whole, abs=0.02 if whole < 80 else 0.07)
    if corner is not None:  # too small for all six scales
        a, b = a[:90, :130], b[:90, :130]
        assert ssimulacra2(a, b, as_reference=True) == pytest.approx(corner, abs=0.02)


@pytest.mark.skipif("butteraugli" not in metrics.slow()[0], reason="needs butteraugli_main of libjxl")
@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("astronaut", "coarse", 2.272370),
        ("chelsea", "shift", 9.077205),
        ("coffee", "noise", 1.207080),
    ],
)
def test_butteraugli_is_that_of_libjxl(name: str, kind: str, expected: float) -> None:
    """The norms are those of the tool of libjxl 0.7.0; later versions may differ a little."""
    a, b = (image.crop((0, 0, 200, 160)) for image in distorted(name, kind))
    assert metrics.measure(a, b, "butteraugli") == {"butteraugli": pytest.approx(expected, rel=0.01)}
    assert metrics.butteraugli(a, a) is None


def test_butteraugli_of_a_tool_that_fails(monkeypatch: pytest.MonkeyPatch, photo: Plane, tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\necho no such colours >&2\nexit 3\n")
    tool.chmod(0o755)
    monkeypatch.setattr(metrics, "BUTTERAUGLI", str(tool))
    with pytest.raises(OSError, match="ended with 3: no such colours"):
        metrics.butteraugli(Image.fromarray(photo), Image.fromarray(photo // 2))


@pytest.mark.skipif("cvvdp" not in metrics.slow()[0], reason="needs cvvdp")
@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("astronaut", "coarse", 9.247648),
        ("chelsea", "shift", 7.687290),
        ("coffee", "noise", 9.676516),
    ],
)
def test_cvvdp_is_that_of_its_authors(name: str, kind: str, expected: float) -> None:
    """The values are those of cvvdp 0.5.7."""
    a, b = (image.crop((0, 0, 200, 160)) for image in distorted(name, kind))
    assert metrics.measure(a, b, "cvvdp") == {"cvvdp": pytest.approx(expected, abs=0.002)}
    assert metrics.cvvdp(a, a) == 10


@pytest.mark.parametrize("name", ["butteraugli", "cvvdp"])
def test_slow_metrics_of_pictures_too_small_for_them(name: str) -> None:
    a, b = Image.new("RGB", (7, 60)), Image.new("RGB", (7, 60), "red")
    assert metrics.measure(a, b, name) == {name: None}


def test_slow_metrics_that_are_absent_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(metrics, "version", lambda name: version("no-such-package"))
    assert metrics.slow.__wrapped__() == (
        {},
        {
            "butteraugli": "butteraugli_main is not installed: Debian has it in libjxl-devtools",
            "cvvdp": "cvvdp is not installed: pip install cvvdp",
        },
    )


def test_scales_of_bd_rates_grow_with_quality() -> None:
    """So that a codec that needs 30 % less for the same value has a BD-rate of -30 % by any metric."""
    values = {"butteraugli": [4.0, 2.5, 1.2, 0.6], "cvvdp": [7.5, 9.1, 9.8, 10.0], "psnr": [28.0, 31.0, 34.0, 37.0]}
    for metric, column in values.items():
        points = [{"bytes": 1000 * 2**i, metric: value} for i, value in enumerate(column)]
        fewer = [point | {"bytes": 0.7 * point["bytes"]} for point in points]
        table = {JPEG: {"points": {"a": points}}, "x": {"points": {"a": fewer}}}
        rates, _ = rd.bd_rates({"images": {"a": {"width": 8, "height": 8}}, "codecs": table}, metric)
        assert rates["x"] == {"mean": -30.0, "standard_error": None}, metric


def planes(name: str, kind: str, side: int, dtype: torch.dtype) -> list[torch.Tensor]:
    """A corner of a photograph and of its changed version, ``[1, 3, side, side]`` in 0..1."""
    images = (np.asarray(image)[:side, :side] / 255 for image in distorted(name, kind))
    return [torch.from_numpy(image).permute(2, 0, 1)[None].to(dtype) for image in images]


@pytest.mark.parametrize("kind", ["coarse", "shift", "noise"])
def test_ssimulacra2_in_training_is_that_of_the_bench(kind: str) -> None:
    """In float32, without the smallest weights: to 0.01 of a score."""
    x, y = planes("astronaut", kind, 512, torch.float32)
    found = score(float(error_sum(x, y, least=0.01, tiny=1e-18)))
    a, b = map(np.asarray, distorted("astronaut", kind))
    assert found == pytest.approx(ssimulacra2(a, b), abs=0.01)


@pytest.mark.parametrize("side", [40, 128])
def test_the_gradient_of_ssimulacra2(side: int) -> None:
    """Against finite differences along random directions, in double precision."""
    x, y = planes("chelsea", "noise", side, torch.float64)
    y.requires_grad_()

    def value(z: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor = error_sum(x, z, least=0.01, tiny=1e-18)
        return total.sum()

    (gradient,) = torch.autograd.grad(value(y), y)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        direction = torch.randn(y.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            slope = float(value(y + 1e-6 * direction) - value(y - 1e-6 * direction)) / 2e-6
        assert float((gradient * direction).sum()) == pytest.approx(slope, rel=1e-3)


def test_ssimulacra2_of_a_batch_is_that_of_each() -> None:
    pairs = [planes("coffee", kind, 100, torch.float64) for kind in ("coarse", "shift", "noise")]
    x, y = (torch.cat([pair[i] for pair in pairs]) for i in (0, 1))
    found = error_sum(x, y)
    assert found.shape == (3,)
    for i, (a, b) in enumerate(pairs):
        assert score(float(found[i])) == pytest.approx(ssimulacra2(_bytes(a), _bytes(b)), abs=1e-9)


def test_ssimulacra2_by_bands_is_that_of_the_whole(photo: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands of few rows, the last one odd: each is blurred with the rows around it."""
    a, b = photo[:175, :130], photo[1:176, :130]
    whole = ssimulacra2(a, b)
    monkeypatch.setattr("aecodec.metrics.ssimulacra2.BAND", 2000)
    assert ssimulacra2(a, b) == pytest.approx(whole, abs=1e-9)


def test_ssimulacra2_leaves_room_for_large_pictures(photo: Plane) -> None:
    large = np.tile(photo, (4, 2, 1))
    tracemalloc.start()
    try:
        ssimulacra2(large, large[::-1])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 15 * large.shape[0] * large.shape[1] + 70e6


def test_ssimulacra2_of_gray_and_of_tiny_pictures(photo: Plane) -> None:
    """Gray is three equal channels; a short side is repeated up to eight pixels."""
    gray = photo[:40, :50, :1]
    coarse = gray // 16 * 16 + 8
    assert 0 < ssimulacra2(gray, coarse) == ssimulacra2(gray.repeat(3, 2), coarse.repeat(3, 2)) < 90
    column, changed = photo[:100, :1], photo[:100, 1:2]
    assert ssimulacra2(column, changed) == ssimulacra2(column.repeat(8, 1), changed.repeat(8, 1)) < 90
    dot = photo[:1, :1]
    assert ssimulacra2(dot, dot) == 100 > ssimulacra2(dot, dot // 2)


def _bytes(x: torch.Tensor) -> Plane:
    plane: Plane = (x[0] * 255).round().byte().permute(1, 2, 0).numpy()
    return plane


def test_the_same_picture_has_the_best_values(photo: Plane) -> None:
    image = Image.fromarray(photo)
    assert metrics.measure(image, image) == pytest.approx({"psnr": None, "ms_ssim": None, "ssimulacra2": 100})


def test_a_picture_of_another_size_is_an_error() -> None:
    with pytest.raises(ValueError, match="decoded to 9x8"):
        metrics.measure(Image.new("RGB", (8, 8)), Image.new("RGB", (9, 8)))


def test_the_gradient_of_ssimulacra2_is_bounded_in_the_dark() -> None:
    """A pixel that undershoots black, by whatever, does not outweigh a picture."""
    original = torch.zeros(1, 3, 64, 64)
    norms = []
    for offset in torch.linspace(-0.3, 0.0, 61):
        y = (original + 0.01 * torch.rand(original.shape)).index_put(
            (torch.tensor(0),) * 2 + (torch.tensor(5),) * 2, offset
        )
        y.requires_grad_()
        (gradient,) = torch.autograd.grad(error_sum(original, y, least=0.01, tiny=1e-18).sum(), y)
        norms.append(float(gradient.norm()))
    assert max(norms) < 10 * norms[-1]
