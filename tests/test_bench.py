"""The codecs, runs, report and figures of the bench, and what it does with images that cannot be measured."""

import csv
import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import bench.__main__
from aecodec import Codec
from aecodec.image import Plane
from bench import codecs, figures, gallery, images, measure, metrics, pictures, plot, rd, screens, speed
from bench.codecs import JPEG, OURS, Peer

from .conftest import SIGNALS

EFFORT = codecs.EFFORTS[1]
FIGURES = Path(__file__).parent.parent / "docs" / "kodak" / "rd.json"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two codecs with three qualities each, and an empty cache."""
    present, _ = codecs.roster()
    roster = {
        name: Peer(name, "1", "", qualities, present[name].encode, present[name].decode)
        for name, qualities in ((OURS, (10, 50, 90)), (JPEG, (10, 50, 90)), (EFFORT, (10, 50, 90)))
    }
    monkeypatch.setattr(codecs, "roster", lambda threads=1: (roster, {"JPEG XL": "not here"}))
    monkeypatch.setattr(measure, "roster", codecs.roster)
    monkeypatch.setattr(pictures, "roster", codecs.roster)
    monkeypatch.setattr(measure, "spread", lambda work, tasks, need: ((i, work(*t)) for i, t in enumerate(tasks)))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(bench.__main__.app, [str(a) for a in arguments])


def test_handlers_of_signals_are_left_as_they_were(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    assert run("compare", tmp_path / "none.json", tmp_path / "none.json").exit_code == 2
    assert [signal.getsignal(number) for number in SIGNALS] == before


# codecs


PEERS = [peer for peer in codecs.roster()[0].values() if peer.name not in codecs.EFFORTS.values()]


@pytest.mark.parametrize("peer", PEERS, ids=lambda p: p.name)
def test_every_codec_has_more_bytes_and_less_error_at_more_quality(peer: Peer, small_image: Image.Image) -> None:
    low, high = (peer.encode(small_image, q) for q in (peer.qualities[1], peer.qualities[-1]))
    assert len(low) < len(high)
    errors = [metrics.psnr(small_image, peer.decode(d)) for d in (low, high)]
    assert errors[0] is not None
    assert errors[1] is not None
    assert errors[0] < errors[1]


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, threads: int) -> Peer:
        raise ModuleNotFoundError(name="pillow_jxl")

    monkeypatch.setitem(codecs._MAKERS, "JPEG XL", missing)
    present, absent = codecs.roster.__wrapped__()
    assert "JPEG XL" not in present
    assert JPEG in present
    assert absent["JPEG XL"] == 'pillow_jxl is not installed: pip install ".[bench]"'


def test_what_is_measured_without_being_asked_for_is_known() -> None:
    assert codecs._MAKERS.keys() >= codecs.ALWAYS


@pytest.mark.parametrize("name", [codecs.AVIF, codecs.AVIF_SLOW])
def test_avif_tells_what_it_is_tuned_for(name: str, small_image: Image.Image) -> None:
    peer = codecs.roster()[0][name]
    tune = re.fullmatch(r".*, tune (\w+) by default", peer.settings)
    assert tune
    speed = {"subsampling": "4:4:4", "speed": int(name[-1]), "max_threads": 1, "codec": "aom"}
    expected = codecs._save(small_image, "AVIF", quality=50, **speed, advanced={"tune": tune[1]})
    assert peer.encode(small_image, 50) == expected
    with pytest.raises(ImportError, match="aom knows no tune nothing"):
        codecs._avif(4, "nothing")(name, 1)


def test_what_pillow_cannot_write(small_image: Image.Image) -> None:
    """Ten bits in AVIF, and WebP whose reduced colours are found by a search."""
    roster, _ = codecs.roster()
    data = roster["AVIF 4:4:4, speed 4, 10 bits"].encode(small_image, 50)
    assert b"pixi\0\0\0\0\x03\x0a\x0a\x0a" in data
    plain, sharp = (roster[name] for name in ("WebP", "WebP, sharp YUV"))
    assert plain.encode(small_image, 80) != sharp.encode(small_image, 80)


def test_jpegli_by_its_tool(monkeypatch: pytest.MonkeyPatch, small_image: Image.Image, tmp_path: Path) -> None:
    """Or by one that is called as it is."""
    tool = tmp_path / "cjpegli"
    tool.write_text(
        f"#!{sys.executable}\nimport sys\nfrom PIL import Image\n_, source, target, _, quality = sys.argv\n"
        "Image.open(source).save(target, quality=int(quality))\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    peer = codecs._MAKERS["jpegli"]("jpegli", 1)
    assert peer.encode(small_image, 60) == codecs._save(small_image, "JPEG", quality=60)
    assert peer.decode(peer.encode(small_image, 60)).size == small_image.size
    tool.unlink()
    with pytest.raises(ImportError, match="cjpegli is not installed"):
        codecs._MAKERS["jpegli"]("jpegli", 1)


def test_jpeg_2000_uses_its_colour_transform(photo: Plane) -> None:
    """Without it, which is Pillow's default, the same number of bytes gives a worse picture."""
    image = Image.fromarray(photo)
    peer = codecs.roster()[0]["JPEG 2000"]
    data_with = peer.encode(image, 34)
    ratio = image.width * image.height * 3 / len(data_with)
    without = codecs._save(image, "JPEG2000", irreversible=True, quality_layers=[ratio], quality_mode="rates")
    assert len(without) == pytest.approx(len(data_with), rel=0.02)
    with_, none = (metrics.psnr(image, peer.decode(d)) for d in (data_with, without))
    assert with_ is not None
    assert none is not None
    assert with_ > none + 1


# runs


def test_a_run_and_its_files(few: None, one_photo: Path, tmp_path: Path) -> None:
    result = run("rd", "--data", one_photo, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "absent: JPEG XL: not here" in result.output
    found = rd.load(tmp_path / "out" / "rd.json")
    assert found["model"] == Codec().model.id.hex()
    ours = found["bd_rate"]["psnr"][OURS]
    assert ours is not None
    assert ours["mean"] < -10
    rows = list(csv.DictReader((tmp_path / "out" / "rd.csv").read_text().splitlines()))
    assert len(rows) == 6
    sizes = [float(r["bpp"]) * 200 * 240 / 8 for r in rows]
    assert sizes == pytest.approx([int(r["bytes"]) for r in rows], abs=0.1)
    for metric in metrics.METRICS:
        assert "</svg>" in (tmp_path / "out" / f"rd-{metric}.svg").read_text()
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "JPEG XL" in page
    assert "python -m bench speed" in page
    assert not re.search(r"""(src|href)=["'](?!data:|#)|url\((?!#)""", page), "the page needs the network"


@pytest.mark.slow
def test_tables_by_range_and_their_anchor(few: None, one_photo: Path, tmp_path: Path) -> None:
    """The anchor is JPEG where AVIF is not installed, unless one is chosen."""
    for options, anchor, other in (((), JPEG, OURS), (("--anchor", OURS), OURS, JPEG)):
        result = run("rd", "--data", one_photo, "--out", tmp_path, *options)
        assert result.exit_code == 0, result.output
        tables = rd.load(tmp_path / "rd.json")["by_range"]
        assert tables["anchor"] == anchor
        for metric, label in metrics.METRICS.items():
            ranges = tables["bd_rate"][metric]
            assert list(ranges) == ["whole", "30-60", "60-80", "80-90"]
            assert ranges["whole"][anchor]["mean"] == 0
            cells = [rd.written(rates[other]) for rates in ranges.values()]
            table = result.output.partition(f"{label}: BD-rate against {anchor}, by score")[2]
            shown = re.search(rf"^{other} +(.*)$", table, re.M)
            assert shown
            assert re.split("  +", shown[1]) == cells
        ours = tables["bd_rate"]["ssimulacra2"]["30-60"][other]
        assert abs(ours["mean"]) > 10
        assert ours["mean"] < 0 if other == OURS else ours["mean"] > 0
        sums = rd.load(tmp_path / "rd.json")["bd_rate"]["psnr"]
        assert sums[JPEG]["mean"] == 0, "the first table keeps its anchor"
    result = run("rd", "--data", one_photo, "--anchor", "JPEG XL")
    assert result.exit_code == 2
    assert "JPEG XL: not here" in result.output
    assert "aecodec; JPEG 4:2:0" in run("rd", "--data", one_photo, "--anchor", "none").output


def test_what_is_known_is_not_measured_again(few: None, one_photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run("rd", "--data", one_photo)
    asked: list[int] = []

    def spy(image: Image.Image, codec: Peer, quality: int, parts: Sequence[str]) -> dict[str, measure.Point]:
        asked.append(quality)
        return measured(image, codec, quality, parts)

    measured = measure.points
    monkeypatch.setattr(measure, "points", spy)
    assert run("rd", "--data", one_photo).stdout == first.stdout
    assert asked == []
    cache = measure.default_cache()
    cache.write_text(cache.read_text()[:-40])  # the last line as a power cut leaves it
    assert run("rd", "--data", one_photo).stdout == first.stdout
    assert asked == [90]
    with Image.open(one_photo / "photo.png") as image:
        image.crop((0, 0, 180, 180)).save(one_photo / "photo.png")
    run("rd", "--data", one_photo)
    assert asked == [90, 10, 50, 90, 10, 50, 90]


def test_screens_are_drawn_into_the_cache_once(
    few: None, one_photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Path] = []

    def draw(out: Path, sources: screens.Sources, count: int, seed: int, show: Callable[[], None]) -> None:
        assert sources is screens.TEST
        drawn.append(out)
        shutil.copytree(one_photo, out)

    monkeypatch.setattr(screens, "draw", draw)
    first, again = run("rd", "--screens"), run("rd", "--screens")
    assert first.exit_code == 0
    assert first.stdout == again.stdout == run("rd", "--data", one_photo).stdout
    assert [path.parent for path in drawn] == [tmp_path / "cache" / "aecodec-bench"]
    assert run("rd", "--screens", "--data", one_photo).exit_code == 2


def test_screens_that_cannot_be_drawn_are_no_traceback(few: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    result = run("rd", "--screens")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "dpkg-query" in result.stderr


@pytest.fixture
def noise_norm(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Instead of Butteraugli, which takes long: a norm of the error. What it has found, in order."""
    found: list[float] = []

    def norm(original: Image.Image, decoded: Image.Image) -> float:
        found.append(float(np.abs(np.asarray(original, float) - np.asarray(decoded)).mean()))
        return found[-1]

    monkeypatch.setattr(metrics, "slow", lambda: ({"butteraugli": "version 1"}, {"cvvdp": "not here"}))
    monkeypatch.setattr(metrics, "butteraugli", norm)
    return found


@pytest.mark.slow
def test_a_slow_metric_is_measured_when_asked_for_and_kept(
    few: None, noise_norm: list[float], one_photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = run("rd", "--data", one_photo, "--out", tmp_path)
    assert "absent: Butteraugli 3-norm: measured with --slow or --metric only" in plain.output
    assert "absent: ColorVideoVDP (JOD): not here" in plain.output
    assert noise_norm == []
    asked: list[str] = []

    def spy(image: Image.Image, codec: Peer, quality: int, parts: Sequence[str]) -> dict[str, measure.Point]:
        asked.extend(parts)
        return measured(image, codec, quality, parts)

    measured = measure.points
    monkeypatch.setattr(measure, "points", spy)
    for arguments in (("--metric", "butteraugli"), ("--slow",)):
        result = run("rd", "--data", one_photo, "--out", tmp_path, *arguments)
        assert result.exit_code == 0, result.output
        assert "Butteraugli 3-norm: version 1" in result.output
        assert asked == ["butteraugli"] * 6  # the others are known already
        found = rd.load(tmp_path / "rd.json")
        points = [p for codec in (OURS, JPEG) for p in found["codecs"][codec]["points"]["photo.png"]]
        assert [p["butteraugli"] for p in points] == noise_norm
        assert all(p["psnr"] > 20 for p in points)
        ours = found["bd_rate"]["butteraugli"][OURS]
        assert ours is not None
        assert ours["mean"] < -10
        assert "</svg>" in (tmp_path / "rd-butteraugli.svg").read_text()
        assert "version 1" in (tmp_path / "report.html").read_text("utf-8")
    run("rd", "--data", one_photo, "--out", tmp_path)
    assert not (tmp_path / "rd-butteraugli.svg").exists()


def test_a_slow_metric_that_fails_or_is_absent_is_named(
    few: None, noise_norm: list[float], one_photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run("rd", "--data", one_photo, "--metric", "cvvdp")
    assert result.exit_code == 2
    assert "not here" in result.output
    monkeypatch.setattr(metrics, "butteraugli", lambda *_: Path("/nowhere").read_bytes())
    result = run("rd", "--data", one_photo, "--metric", "butteraugli")
    assert result.exit_code == 0, result.output
    assert f"failed: {OURS}, photo.png: FileNotFoundError" in result.output
    assert re.search(rf"^{OURS} +psnr +-\S+ %.* butteraugli +-$", result.output, re.M), result.output


def test_comparing_runs_by_the_metrics_of_both(
    few: None, noise_norm: list[float], one_photo: Path, tmp_path: Path
) -> None:
    """Among them runs from before there were slow metrics."""
    run("rd", "--data", one_photo, "--out", tmp_path / "old", "--slow")
    found = rd.load(tmp_path / "old" / "rd.json")
    for p in found["codecs"][OURS]["points"]["photo.png"]:
        p["bytes"] *= 0.9
    new, before = tmp_path / "new.json", tmp_path / "before.json"
    new.write_text(json.dumps(found))
    found["bd_rate"].pop("butteraugli")
    found.pop("slow_metrics")
    before.write_text(json.dumps(found))
    assert f"{OURS}, butteraugli: -10.00 %" in run("compare", tmp_path / "old" / "rd.json", new).output
    output = run("compare", tmp_path / "old" / "rd.json", before).output
    assert f"{OURS}, psnr: -10.00 %" in output
    assert "butteraugli" not in output


def test_a_cache_that_cannot_be_written_is_done_without(
    few: None, one_photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(one_photo / "photo.png"))
    result = run("rd", "--data", one_photo)
    assert result.exit_code == 0, result.output
    assert result.output.count("no cache") == 1


def test_what_is_below_the_smallest_size_of_a_metric(few: None, one_photo: Path, tmp_path: Path) -> None:
    with Image.open(one_photo / "photo.png") as image:
        image.crop((0, 0, 140, 140)).save(one_photo / "photo.png")
    result = run("rd", "--data", one_photo, "--out", tmp_path)
    assert "not in the BD-rates of ms_ssim, for want of a value from every codec: photo.png" in result.output
    assert not (tmp_path / "rd-ms_ssim.svg").exists()
    assert "No plot of MS-SSIM" in (tmp_path / "report.html").read_text("utf-8")


def test_a_folder_that_cannot_be_written(few: None, one_photo: Path) -> None:
    for command in ("rd", "speed"):
        result = run(command, "--data", one_photo, "--out", one_photo / "photo.png")
        assert result.exit_code == 2
        assert "photo.png: File exists" in result.output


def test_an_interrupted_run_keeps_what_it_had(few: None, one_photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(work: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], need: int) -> Iterator[Any]:
        yield 0, work(*tasks[0])
        raise KeyboardInterrupt

    monkeypatch.setattr(measure, "spread", interrupted)
    result = run("rd", "--data", one_photo)
    assert result.exit_code == 130
    assert "run again to go on" in result.output
    assert len(measure.Cache(measure.default_cache()).points) == 3


def test_images_that_cannot_be_measured_are_named(few: None, one_photo: Path) -> None:
    (one_photo / "broken.png").write_bytes(b"no image")
    (one_photo / "cut.jpg").write_bytes(codecs._save(Image.new("RGB", (64, 64), "red"), "JPEG")[:300])
    Image.linear_gradient("L").save(one_photo / "gray.png")
    Image.new("RGB", (5, 4), "blue").save(one_photo / "tiny.png")
    result = run("rd", "--data", one_photo)
    assert result.exit_code == 0, result.output
    (one_photo / "gone.png").symlink_to(one_photo / "nowhere.png")
    os.mkfifo(one_photo / "pipe.png")
    shutil.copy(one_photo / "photo.png", one_photo / "twice.png")
    result = run("rd", "--data", one_photo)
    (one_photo / "pipe.png").unlink()  # for whoever reads this folder next
    assert "left out: gone.png: No such file" in result.output
    assert "left out: pipe.png: not a file" in result.output
    assert "left out: twice.png: the same pixels as photo.png" in result.output
    assert "left out: broken.png: not an image" in result.output
    assert "left out: cut.jpg" in result.output
    assert "5 of 8 files left out" in result.output
    assert "note: gray.png: gray, measured as RGB" in result.output
    assert "tiny.png: below 8 pixels: no SSIMULACRA 2; below 161 pixels: no MS-SSIM" in result.output


def test_a_codec_that_fails_is_named_and_the_rest_goes_on(
    few: None, one_photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(image: Image.Image, quality: int) -> bytes:
        raise OSError("too wide")

    roster, _ = codecs.roster()
    roster["WebP"] = Peer("WebP", "1", "", (1, 2), broken, roster[JPEG].decode)
    result = run("rd", "--data", one_photo, "--out", one_photo)
    assert result.exit_code == 0, result.output
    assert "failed: WebP, photo.png: OSError: too wide" in result.output
    assert "too wide" in (one_photo / "report.html").read_text("utf-8")
    roster["WebP"] = Peer("WebP", "1", "", (1, 2), roster[JPEG].encode, roster[JPEG].decode)
    assert "too wide" not in run("rd", "--data", one_photo).output  # an error is not remembered


def test_names_of_any_kind(few: None, one_photo: Path) -> None:
    (one_photo / "photo.png").rename(one_photo / b'<b>&"\xff\xc3\xa9.png'.decode("utf-8", "surrogateescape"))
    result = run("rd", "--data", one_photo, "--out", one_photo)
    assert result.exit_code == 0, result.output
    assert "<b>" not in (one_photo / "report.html").read_text("utf-8")
    assert rd.load(one_photo / "rd.json")["images"].keys() == {'<b>&"\\udcffé.png'}


def test_a_damaged_cache_is_no_obstacle(few: None, one_photo: Path) -> None:
    first = run("rd", "--data", one_photo).stdout
    cache = measure.default_cache()
    cache.write_bytes(b"\xff\xfe garbage\n[]\n{}\n" + cache.read_bytes())
    assert len(measure.Cache(cache).points) == 6
    assert run("rd", "--data", one_photo).stdout == first


@pytest.mark.parametrize("content", ["nothing", "empty", "broken"])
def test_a_folder_without_images(few: None, tmp_path: Path, content: str) -> None:
    path = tmp_path / "here"
    if content != "nothing":
        path.mkdir()
    if content == "broken":
        (path / "a.png").write_bytes(b"")
    result = run("rd", "--data", path)
    assert result.exit_code == 2
    assert {"nothing": "not a folder", "empty": "no images in", "broken": "none of 1 images can be used: a.png"}[
        content
    ] in result.output.replace("\n", " ")


def test_the_default_images_are_there() -> None:
    samples, skipped = images.survey(images.find(None), None, lambda: None)
    assert not skipped
    assert len(samples) == len(images.PHOTOGRAPHS)


@pytest.mark.slow
def test_workers_find_what_this_process_finds(one_photo: Path) -> None:
    """The real processes, on one image and the fastest codec."""
    samples, _ = images.survey(images.find(one_photo), one_photo, lambda: None)
    task = (samples[0], JPEG, {10: [""], 90: [""]})
    assert list(measure.spread(measure._points, [task], 1)) == [(0, measure._points(*task))]


def test_comparing_two_runs(few: None, one_photo: Path, tmp_path: Path) -> None:
    for name in ("old", "new"):
        run("rd", "--data", one_photo, "--out", tmp_path / name)
    old, new = (tmp_path / name / "rd.json" for name in ("old", "new"))
    assert f"{OURS}: the same" in run("compare", old, new).output
    found = rd.load(new)
    for p in found["codecs"][OURS]["points"]["photo.png"]:
        p["bytes"] *= 0.9
    found["codecs"]["another"] = found["codecs"].pop(JPEG)
    found["codecs"]["another"]["points"]["photo.png"] = [{"error": "gone"}] * 3
    new.write_text(json.dumps(found))
    output = run("compare", old, new).output
    assert f"{OURS}, psnr: -10.00 %" in output
    assert f"{OURS}, psnr at scores 30-60: -10.00 %" in output
    assert "another: only in the new run" in output
    assert "fails now: another, photo.png: gone" in output
    assert f"{JPEG}: only in the old run" in output
    (one_photo / "x.json").write_text('{"kind": "rate-distortion"}')
    for bad in (one_photo / "x.json", one_photo / "photo.png", one_photo / "missing.json"):
        assert run("compare", old, bad).exit_code == 2


# report


def test_files_within_a_budget(small_image: Image.Image) -> None:
    jpeg = codecs.roster()[0][JPEG]
    best = codecs.largest_within(jpeg, small_image, 2000)
    assert best is not None
    quality, chosen = best
    assert len(chosen) <= 2000 < len(jpeg.encode(small_image, quality + 1))
    assert codecs.largest_within(jpeg, small_image, 10) is None


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
def test_the_slider_works_in_a_browser(few: None, one_photo: Path, tmp_path: Path) -> None:
    run("rd", "--data", one_photo, "--out", tmp_path)
    page = tmp_path / "report.html"
    probe = """<script>
    addEventListener("load", async () => {
      const figure = document.querySelector(".comparison"), edge = figure.querySelector(".edge");
      const [right, left, original] = figure.querySelectorAll("img");
      const [rate, codec, other, zoom] = figure.querySelectorAll("select");
      const bar = () => figure.querySelector(".bar").getBoundingClientRect().left - right.getBoundingClientRect().left;
      const change = (select, value) => { select.value = value; select.dispatchEvent(new Event("change")); };
      await Promise.all([right, left, original].map(image => image.decode()));
      edge.value = 25;
      edge.dispatchEvent(new Event("input"));
      const seen = {width: left.clientWidth, clip: left.style.clipPath, bar: Math.round(bar())};
      const low = left.src, caption = figure.querySelector(".captions p");
      seen.caption = caption.textContent;
      change(rate, 3);
      seen.rate = left.src !== low && caption.textContent !== seen.caption;
      change(rate, 0);
      change(other, "JPEG 4:2:0");
      await right.decode();
      seen.small = figure.querySelector(".captions").textContent.includes("none as small");
      change(codec, "");
      seen.original = left.src === original.src;
      const key = type => { window.dispatchEvent(new KeyboardEvent(type, {key: "o"})); };
      const visible = () => getComputedStyle(original).visibility;
      seen.key = [visible(), (key("keydown"), visible()), (key("keyup"), visible())];
      change(zoom, 2);
      seen.larger = left.clientWidth;
      change(zoom, "fit");
      const box = right.getBoundingClientRect();
      const where = {clientX: box.left + box.width * 0.75, clientY: box.top + 5, bubbles: true};
      figure.querySelector(".slider").dispatchEvent(new PointerEvent("pointerdown", where));
      seen.edge = Number(edge.value);
      seen.plots = [...document.querySelectorAll(".plots img")].map(plot => plot.naturalWidth > 0);
      document.title = JSON.stringify(seen);
    });
    </script></body>"""
    page.write_text(page.read_text().replace("</body>", probe))
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    command += ["--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
    command += ["--disable-sync", "--virtual-time-budget=10000", f"--user-data-dir={tmp_path / 'profile'}"]
    for _ in range(5):  # its time does not wait for pictures that another process decodes
        done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=60, check=True)
        assert "CONSOLE" not in done.stderr
        title = html.unescape(done.stdout.partition("<title>")[2].partition("</title>")[0])
        if title.startswith("{"):
            break
    seen = json.loads(title)
    assert seen.pop("caption").startswith("aecodec: quality ")
    assert seen == {
        "width": 240,
        "clip": "inset(0px 75% 0px 0px)",
        "bar": 60 - 1,
        "rate": True,
        "small": True,
        "original": True,
        "key": ["hidden", "visible", "hidden"],
        "larger": 480,
        "edge": 75,
        "plots": [True] * 3,
    }


def test_pictures_at_the_same_rates(few: None, one_photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each at its best within the rate, and from the cache the next time."""
    samples, _ = images.survey(images.find(one_photo), one_photo, lambda: None)
    roster, _ = codecs.roster()
    cache = measure.default_cache()
    (found,) = pictures.compare(samples, roster.values(), cache, lambda *_: None)
    image = found.original.image()
    assert image.tobytes() == images.read(one_photo / "photo.png")[0].tobytes()
    assert found.versions[0.1][JPEG] is None, "JPEG cannot be so small"
    for name in (OURS, JPEG):
        version = found.versions[0.8][name]
        assert version
        assert version.bytes <= 0.8 * 200 * 240 / 8 < len(roster[name].encode(image, version.quality + 1))
        decoded = roster[name].decode(roster[name].encode(image, version.quality))
        assert version.image().tobytes() == decoded.tobytes()
        assert version.values == metrics.measure(image, decoded)
    asked: list[tuple[int, int]] = []
    assert pictures.compare(samples, roster.values(), cache, lambda *counts: asked.append(counts)) == [found]
    assert asked == [(3, 3)], "nothing is made again"
    roster[JPEG] = replace(roster[JPEG], version="2")
    pictures.compare(samples, roster.values(), cache, lambda *counts: asked.append(counts))
    assert asked[1:] == [(2, 3), (1, 3)]
    assert len(list(cache.iterdir())) == 3, "what another version left is replaced"


def test_the_gallery_is_small_and_tells_what_was_printed(few: None, one_photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "gallery"
    out.mkdir()
    (out / "old.webp").write_bytes(b"of an earlier run")
    result = run("gallery", "--data", one_photo, "--out", out)
    assert result.exit_code == 0, result.output
    page = (out / "README.md").read_text()
    shown = re.findall(r"\(([^)]*webp)\)", page)
    assert {path.name for path in out.glob("*.webp")} == set(shown)
    for name in shown:
        with Image.open(out / name) as detail:
            assert detail.size == (gallery.DETAIL, gallery.DETAIL)
    figures = re.findall(r"quality \d+, (\d+) bytes, PSNR (\S+) dB", result.output)
    assert len(figures) >= 4
    assert figures == re.findall(r"<br>(\d+) bytes<br>PSNR (\S+) dB", page)
    assert page.count("no file so small") == result.output.count("no file so small") > 0
    assert sum(path.stat().st_size for path in out.iterdir()) < 500_000


@pytest.mark.parametrize("metric", metrics.METRICS)
def test_plots_show_the_useful_range(metric: str) -> None:
    """Our rates up to 2 bits per pixel, and no values that are worse than our worst."""
    found = rd.load(FIGURES)
    curves = {name: rd.mean_curve(found, name, metric) for name in found["codecs"]}
    (least, most), (low, high) = plot._useful(metric, curves)
    ours = curves[OURS]
    assert least < ours[2, 0] < most < 2.5
    assert low < ours[2, 1] < high
    assert low > min(curve[:, 1].min() for curve in curves.values())
    if metric == "ssimulacra2":
        assert low > -5
    assert plot._useful(metric, {JPEG: curves[JPEG]})[0][1] > curves[JPEG][-1, 0]


# committed figures


def test_committed_figures_are_those_of_the_committed_weights(codec: Codec) -> None:
    found = rd.load(FIGURES)
    assert found["model"] == codec.model.id.hex()
    assert found["model"] in found["codecs"][OURS]["version"]


def test_tables_show_the_committed_figures(codec: Codec) -> None:
    """If not: `python -m bench figures`."""
    assert speed.load(FIGURES.with_name("speed.json"))["model"] == rd.load(FIGURES)["model"] == codec.model.id.hex()
    made = figures.tables(FIGURES.parent)
    for name in figures.PAGES:
        text = (figures.ROOT / name).read_text("utf-8")
        assert "<!-- figures: against-jpeg -->" in text
        assert figures.filled(text, made) == text, name


def test_a_table_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="no table prices: there are bytes"):
        figures.filled("<!-- figures: prices -->\n<!-- end -->", {"bytes": str})
    assert figures.filled("a\n<!-- figures: b -->\nold\n<!-- end -->\nc", {"b": lambda: "new"}) == (
        "a\n<!-- figures: b -->\nnew\n<!-- end -->\nc"
    )


def test_published_points_are_drawn_for_kodak_alone() -> None:
    found = rd.load(FIGURES)
    assert "VTM" in plot.published(found)
    found["images"].pop("kodim01.png")
    assert plot.published(found) == {}


# effort


def test_efforts_are_codecs_of_their_own(few: None, one_photo: Path, tmp_path: Path) -> None:
    plain = run("rd", "--data", one_photo)
    assert EFFORT not in plain.output
    result = run("rd", "--data", one_photo, "--effort", 1, "--out", tmp_path)
    gain = re.search(rf"{EFFORT} against {OURS}: psnr +(\S+) %", result.output)
    assert gain, result.output
    assert -4 < float(gain[1]) < -0.3
    assert EFFORT in json.loads((tmp_path / "rd.json").read_text())["codecs"]


# speed


@pytest.mark.slow
def test_a_speed_run_and_its_place_in_the_report(few: None, one_photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "codec_speed", lambda path, threads: speed._codec_speed(path, threads, 1))
    monkeypatch.setattr(speed, "start_up", lambda path: {"import torch": 2.0, f"{OURS}: decode": 3.0, "x: decode": 2.0})
    monkeypatch.setattr(speed, "why_not_without_torch", lambda: "not possible: no torch")
    monkeypatch.setattr(speed, "peak_memory", lambda size, image: {"compress": {"gibibytes": size / 4, "seconds": 1}})
    (one_photo / "a.png").write_bytes(b"not the first readable one")
    monkeypatch.setattr(speed, "roster", codecs.roster)
    result = run("speed", "--data", one_photo, "--out", one_photo)
    assert result.exit_code == 0, result.output
    assert "100 MP compress   25.00 GiB" in result.output
    assert f"absent: {speed.WITHOUT_TORCH}: not possible: no torch" in result.output
    assert len(re.findall(r"^x: decode +2000.0 +1.50 x$", result.output, re.M)) == 2
    assert re.findall(r"^(idle|busy), new processes", result.output, re.M) == ["idle", "busy"]
    run("rd", "--data", one_photo, "--out", one_photo)
    page = (one_photo / "report.html").read_text("utf-8")
    assert "25.00 GiB" in page
    assert "another one" not in page
    (one_photo / "speed.json").write_text("[")
    run("rd", "--data", one_photo, "--out", one_photo)
    assert "speed.json: not the result of a speed run" in (one_photo / "report.html").read_text("utf-8")


# networks


def test_the_picture_and_the_counts_of_the_readme(tmp_path: Path) -> None:
    result = run("picture", "--out", tmp_path / "picture.png")
    assert result.exit_code == 0, result.output
    readme = (FIGURES.parents[2] / "README.md").read_text("utf-8")
    made = np.array(re.findall(r" (\d+) bytes, (\S+) dB", result.output), float) / (1000, 1)
    told = np.array(re.findall(r" in (\S+) kB, (\S+) dB", readme), float)
    np.testing.assert_allclose(told, made, atol=0.06)
    assert made[1, 0] <= made[0, 0], "ours has no more bytes"
    with Image.open(tmp_path / "picture.png") as new, Image.open(FIGURES.parents[1] / "picture.png") as shown:
        assert new.size == shown.size == (980, 320)
        assert np.abs(np.asarray(new, int) - np.asarray(shown)).max() <= 2
    counts = re.findall(r"^(decoder|encoder) +(\S+) kMAC", run("macs").output, re.M)
    assert len(counts) == 2
    for part, kilo in counts:
        assert f"| {part} | {float(kilo):.1f} kMAC per pixel" in readme
