"""Rate control: sizes and qualities that are asked for."""

import json
import pickle
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from aecodec import Codec, TargetMissed, container, targets
from aecodec.cli import app
from aecodec.image import Plane
from aecodec.metrics.ssimulacra2 import ssimulacra2
from aecodec.roi import Region, offsets
from aecodec.targets import BEST, OCTAVES, crossing

from .conftest import psnr


@pytest.mark.parametrize("seed", range(40))
def test_crossing_is_found_in_few_steps(seed: int) -> None:
    rng = random.Random(seed)
    steep, bent = rng.uniform(0.03, 0.08), rng.uniform(-0.0003, 0.0003)
    values = [steep * q + bent * q * q for q in range(BEST + 1)]
    goal = rng.uniform(-0.2, values[-1] + 0.2)
    tried: list[int] = []

    def measure(quality: int) -> float:
        tried.append(quality)
        return values[quality]

    found = crossing(measure, goal, OCTAVES)
    assert found == sum(v <= goal for v in values)
    assert len(tried) == len(set(tried)) <= 12


@pytest.mark.parametrize("values", [[0.0] * 101, [1.0] * 101, [0.0] * 33 + [1.0] * 68])
def test_crossing_of_what_is_no_line(values: list[float]) -> None:
    assert crossing(lambda q: values[q], 0.5, OCTAVES) == sum(v <= 0.5 for v in values)


@pytest.mark.slow
def test_sizes_are_kept_and_used(codec: Codec, photo: Plane) -> None:
    """Files stay below the target and within 2 % of it, by the finest steps that the tiles allow."""
    picture = np.hstack((photo, photo[:, ::-1], photo[::-1]))  # three tiles
    for limit in (12_000, 40_000, 150_000):
        data = codec.compress_to(picture, size=limit)
        assert 0.98 * limit < len(data) <= limit
    qualities = {tile.quality for tile in container.read(codec.compress_to(picture, size=40_000)).tiles}
    assert max(qualities) - min(qualities) <= 1


def test_one_tile_takes_the_best_quality_that_fits(codec: Codec, small: Plane) -> None:
    limit = len(codec.compress(small, 42))
    assert codec.compress_to(small, size=limit) == codec.compress(small, 42)
    assert codec.compress_to(small, size=limit - 1) == codec.compress(small, 41)
    assert codec.compress_to(small, bpp=8 * limit / (70 * 90)) == codec.compress(small, 42)


def test_the_smallest_file_of_a_psnr(codec: Codec, small: Plane) -> None:
    data = codec.compress_to(small, psnr=33.0)
    quality = container.read(data).header.quality
    assert psnr(codec.decompress(data, "numpy"), small) >= 33
    assert psnr(codec.decompress(codec.compress(small, quality - 1), "numpy"), small) < 33


def test_hidden_pixels_have_no_part_in_a_psnr(codec: Codec, small: Plane) -> None:
    """They are filled with what codes cheaply, and decode to that almost exactly."""
    alpha = np.zeros(small.shape[:2], np.uint8)
    alpha[20:50, 30:60] = 255
    data = codec.compress_to(np.dstack((small, alpha)), psnr=36.0)
    visible = codec.decompress(data, "numpy")[20:50, 30:60, :3]
    assert 36 <= psnr(visible, small[20:50, 30:60]) < 36.6
    hidden = np.dstack((small, 0 * alpha))
    assert codec.compress_to(hidden, psnr=60.0) == codec.compress(hidden, 0)


@pytest.mark.parametrize("effort", [0, 1])
@pytest.mark.parametrize("channels", [3, 1])
def test_the_smallest_file_of_a_score(codec: Codec, small: Plane, channels: int, effort: int) -> None:
    picture = small[..., :channels]
    data = codec.compress_to(picture, ssimulacra2=60.0, effort=effort)
    below = codec.compress(picture, container.read(data).header.quality - 1, effort=effort)
    at, under = (ssimulacra2(picture, codec.decompress(d, "numpy")) for d in (data, below))
    assert at >= 60 > under


def test_hidden_pixels_are_without_error_in_a_score(codec: Codec, small: Plane) -> None:
    alpha = np.zeros(small.shape[:2], np.uint8)
    alpha[20:50, 30:60] = 255
    data = codec.compress_to(np.dstack((small, alpha)), ssimulacra2=80.0)
    visible = codec.decompress(data, "numpy")[20:50, 30:60, :3]
    whole = small.copy()
    whole[20:50, 30:60] = visible
    assert 79 < ssimulacra2(small, whole) < 83, "what is hidden is another colour in the file"
    hidden = np.dstack((small, 0 * alpha))
    assert codec.compress_to(hidden, ssimulacra2=100) == codec.compress(hidden, 0)


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 20, 1), (20, 7, 4)])
def test_scores_of_tiny_pictures(codec: Codec, small: Plane, shape: tuple[int, int, int]) -> None:
    picture = np.dstack((small, small[..., :1] | 1))[: shape[0], : shape[1], : shape[2]]
    data = codec.compress_to(picture, ssimulacra2=30)
    assert targets.ssimulacra2(picture[..., :3], codec.decompress(data, "numpy")[..., :3]) >= 30


def test_a_score_takes_numpy_alone() -> None:
    program = """
import sys, numpy
from aecodec import targets
gray = numpy.arange(400, dtype=numpy.uint8).reshape(20, 20, 1)
assert targets.ssimulacra2(gray, gray, gray[..., 0] > 9) == 100
print({"torch", "scipy"} & set(sys.modules))
"""
    done = subprocess.run((sys.executable, "-c", program), check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("effort", [0, 1])
def test_no_file_is_scored_twice(codec: Codec, small: Plane, effort: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scored: list[bytes] = []

    def score(original: Plane, decoded: Plane, where: object) -> float:
        scored.append(decoded.tobytes())
        return targets.psnr(original, decoded)

    monkeypatch.setitem(targets.SCALES, "psnr", replace(targets.SCALES["psnr"], score=score))
    with pytest.raises(TargetMissed):
        codec.compress_to(small, psnr=90, effort=effort)
    assert len(scored) == len(set(scored)) > 1


def test_targets_that_cannot_be_met(codec: Codec, small: Plane) -> None:
    with pytest.raises(TargetMissed, match="smallest") as missed:
        codec.compress_to(small, size=50)
    assert missed.value.nearest == codec.compress(small, 0)
    with pytest.raises(TargetMissed, match="dB") as missed:
        codec.compress_to(small, psnr=90)
    assert missed.value.nearest == codec.compress(small, 100)
    with pytest.raises(TargetMissed, match=r"the best file has [89]\d\.\d\d by SSIMULACRA 2") as missed:
        codec.compress_to(small, ssimulacra2=99.9)
    assert missed.value.nearest == codec.compress(small, 100)
    assert codec.compress_to(small, size=10**9) == codec.compress(small, 100), "more room than the best needs"
    with pytest.raises(TargetMissed):
        codec.compress_to(small, bpp=0)
    with pytest.raises(ValueError, match="one of"):
        codec.compress_to(small)
    with pytest.raises(ValueError, match="one of"):
        codec.compress_to(small, size=100, bpp=1)


def test_command_line_targets(small_image: Image.Image, tmp_path: Path) -> None:
    source, target = tmp_path / "a.png", tmp_path / "a.aec"
    small_image.save(source)
    run = CliRunner().invoke
    assert run(app, ["compress", str(source), "--target-bytes", "2000"]).exit_code == 0
    assert target.stat().st_size <= 2000
    target.unlink()
    result = run(app, ["compress", str(source), "--target-psnr", "99", "--strict"])
    assert result.exit_code == 5
    assert "best file has" in result.stderr
    assert not target.exists()
    result = run(app, ["compress", str(source), "--target-bpp", "0.001"])
    assert result.exit_code == 5
    assert "target missed: the smallest file has" in result.stderr
    assert container.read(target.read_bytes()).header.quality == 0
    assert run(app, ["compress", str(source), "-q", "50", "--target-bpp", "1"]).exit_code == 2
    assert run(app, ["compress", str(source), "--target-psnr", "30", "--target-ssimulacra2", "50"]).exit_code == 2
    assert run(app, ["compress", str(source), "--target-ssimulacra2", "100.1"]).exit_code == 2
    for name in ("--target-ssimulacra2", "--target-psnr", "--target-bpp"):
        assert run(app, ["compress", str(source), name, "nan"]).exit_code == 2


@pytest.mark.parametrize(
    ("option", "goal", "missed"),
    [("bytes", 2000, 9), ("bpp", 2, 0.01), ("psnr", 33, 99), ("ssimulacra2", 60, 99), ("ssimulacra2", -10.5, 100)],
)
def test_what_a_target_led_to_is_told(
    small: Plane, small_image: Image.Image, codec: Codec, tmp_path: Path, option: str, goal: float, missed: float
) -> None:
    """In the line and in the report, whether it was met or not."""
    source, target, report = tmp_path / "a.png", tmp_path / "a.aec", tmp_path / "report.jsonl"
    small_image.save(source)
    for number, code in ((goal, 0), (missed, 5)):
        arguments = ["compress", str(source), f"--target-{option}", str(number), "--report", str(report), "--overwrite"]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == code
        (record,) = map(json.loads, report.read_text().splitlines())
        data = target.read_bytes()
        decoded, quality = codec.decompress(data, "numpy"), container.read(data).header.quality
        expected: dict[str, float] = {"quality": quality, "bpp": 8 * len(data) / (70 * 90)}
        words = f" bpp  quality {quality}  "
        if option == "psnr":
            expected["psnr"] = psnr(decoded, small)
            words = f"bpp  quality {quality}, {expected['psnr']:.2f} dB  "
        elif option == "ssimulacra2":
            expected["ssimulacra2"] = ssimulacra2(small, decoded)
            words = f"bpp  quality {quality}, {expected['ssimulacra2']:.2f} by SSIMULACRA 2  "
        assert words in result.stderr
        found = {name: record.get(name) for name in ("quality", "bpp", "psnr", "ssimulacra2") if name in record}
        assert found == pytest.approx(expected, abs=6e-5)


def test_a_region_of_interest(codec: Codec, photo: Plane) -> None:
    """Its tiles get better, the others stay, and the file costs less than the better quality everywhere."""
    roi = np.zeros(photo.shape[:2], np.int8)
    roi[130:250, 260:370] = 40  # within one tile of 128 pixels
    data = codec.compress(photo, 30, roi=roi)
    decoded, plain = (codec.decompress(d, "numpy") for d in (data, codec.compress(photo, 30)))
    inside = slice(128, 256), slice(256, 384)
    assert psnr(decoded[inside], photo[inside]) > psnr(plain[inside], photo[inside]) + 4
    assert psnr(decoded[384:], photo[384:]) == pytest.approx(psnr(plain[384:], photo[384:]), abs=0.3)
    assert len(codec.compress(photo, 30)) < len(data) < len(codec.compress(photo, 70))
    header = container.read(data).header
    assert (header.quality, header.tile_size) == (30, 128)
    with pytest.raises(ValueError, match="roi"):
        codec.compress(photo, 30, roi=roi[1:])
    with pytest.raises(ValueError, match="roi"):
        codec.compress(photo, 30, roi=roi.astype(float))


def test_a_region_within_a_size(codec: Codec, photo: Plane) -> None:
    roi = np.zeros(photo.shape[:2], np.int16)
    roi[:128] = 300  # beyond what there is: the best
    data = codec.compress_to(photo, size=60_000, roi=roi)
    assert 58_000 < len(data) <= 60_000
    tiles = container.read(data).tiles
    assert {tile.quality for tile in tiles[:4]} == {100}
    assert max(tile.quality for tile in tiles[4:]) < 80


def test_regions_are_parsed(tmp_path: Path) -> None:
    mask = Image.new("L", (10, 5))
    mask.putpixel((9, 4), 255)
    mask.save(tmp_path / "mask.png")
    regions = [Region.parse(text) for text in ("0,0,20,10:-5", "2,1,100,2:7", f"{tmp_path / 'mask.png'}:+20")]
    plane = offsets(regions, 10, 20)
    assert plane[0, 0] == -5
    assert (plane[1:3, 2:] == 7).all()
    assert (plane[8:, 18:] == 20).all()
    assert (plane == 20).sum() == 4
    for text in (
        "",
        "1,2,3:+5",
        "1,2,3,4",
        "1,2,3,4:",
        "a.png:much",
        "1,2,3,4:+5000",
        "1,1,0,5:+2",
        "-5,0,9,9:+2",
        ":+20",
    ):
        with pytest.raises((ValueError, OSError)):
            offsets([Region.parse(text)], 10, 10)
    with pytest.raises(ValueError, match="outside"):
        offsets([Region.parse("20,0,5,5:+3")], 10, 20)


def test_command_line_regions(small_image: Image.Image, tmp_path: Path) -> None:
    source, target = tmp_path / "a.png", tmp_path / "a.aec"
    small_image.save(source)
    run = CliRunner().invoke
    assert run(app, ["compress", str(source), "-q", "20", "--roi", "0,0,9,9:+30"]).exit_code == 0
    assert [tile.quality for tile in container.read(target.read_bytes()).tiles] == [50]
    assert run(app, ["compress", str(source), "--roi", "nonsense", "--overwrite"]).exit_code == 2
    assert run(app, ["compress", str(source), "--roi", "900,0,9,9:+30", "--overwrite"]).exit_code == 1


def test_targets_that_are_none(codec: Codec, small: Plane) -> None:
    for target in (float("inf"), float("nan"), 1e300):
        with pytest.raises(ValueError, match="expected a number"):
            codec.compress_to(small, psnr=target)
    for target in (float("nan"), 100.001, float("-inf")):
        with pytest.raises(ValueError, match="expected a number"):
            codec.compress_to(small, ssimulacra2=target)
    missed = pickle.loads(pickle.dumps(TargetMissed("too small", b"data")))
    assert (str(missed), missed.nearest) == ("too small", b"data")


def test_masks_of_many_kinds(tmp_path: Path) -> None:
    """Black and transparent pixels are outside; a mark stays where the mask shrinks."""
    marks = np.zeros((40, 60, 4), np.uint8)
    marks[..., :3] = 255
    marks[10, 20, 3] = 255
    dark = np.zeros((40, 60, 3), np.uint8)
    dark[10, 20] = (0, 0, 3)
    deep = np.zeros((40, 60), np.uint16)
    deep[10, 20] = 1
    for name, pixels in (("rgba", marks), ("dark", dark), ("deep", deep), ("gray", dark[..., 2])):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    Image.fromarray(dark).quantize(4).save(tmp_path / "palette.png")
    for path in sorted(tmp_path.glob("*.png")):
        plane = offsets([Region(path, 5)], 10, 15)
        assert plane[2, 5] == 5, path.name
        assert (plane == 5).sum() == 1, path.name
    damaged = bytearray((tmp_path / "rgba.png").read_bytes())
    (tmp_path / "damaged.png").write_bytes(damaged[: len(damaged) // 2])
    with pytest.raises(OSError, match="damaged"):
        offsets([Region(tmp_path / "damaged.png", 5)], 10, 15)


def test_psnr_of_more_rows_than_are_looked_at_together(photo: Plane) -> None:
    other = photo[::-1]
    assert targets.psnr(photo, other) == pytest.approx(psnr(photo, other))
    assert targets.psnr(photo, photo) > 130
