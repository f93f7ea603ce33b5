"""Whole folders: several jobs at once, what is reported, what goes on after an error."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from aecodec import Codec, TargetMissed, batch, container, files, formats, planning
from aecodec.arguments import Progress
from aecodec.batch import Done
from aecodec.cli import app
from aecodec.image import Plane
from aecodec.planning import Job

from .conftest import INTERRUPTS, PERMISSIONS, SIGNALS


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    """Two in each test, as several jobs at once share them, and what there were after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture
def tree(tmp_path: Path, photo: Plane) -> Path:
    """Nine images in two folders, and two that are none."""
    for i in range(9):
        path = tmp_path / "in" / ("a" if i % 2 else "b/c") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo[i * 10 : i * 10 + 50, : 40 + i]).save(path)
    (tmp_path / "in" / "a" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnot one")
    (tmp_path / "in" / "empty.jpg").touch()
    return tmp_path


@pytest.mark.parametrize("jobs", [1, 3])
def test_folders_there_and_back(tree: Path, jobs: int) -> None:
    report = tree / "report.jsonl"
    result = run("compress", "-r", tree / "in", "-o", tree / "out", "--jobs", jobs, "--report", report)
    assert result.exit_code == 1
    *lines, total = result.output.splitlines()
    assert len(lines) == 11
    assert total.startswith("11 files in ")
    assert "9 done, 2 failed; " in total
    assert total.endswith(" MB/s")
    records = {record["source"]: record for record in map(json.loads, report.read_text().splitlines())}
    assert len(records) == 11
    for path in (tree / "in").rglob("*.png"):
        record = records[str(path)]
        target = tree / "out" / path.relative_to(tree / "in").with_suffix(".aec")
        assert record["target"] == str(target)
        if path.stem == "broken":
            assert (record["status"], record["error"]) == ("failed", "OSError")
            assert str(path) in record["message"]
            assert not target.exists()
            continue
        with Image.open(path) as image:
            assert (record["width"], record["height"]) == image.size
        assert record["status"] == "done"
        assert record["bytes_before"] == path.stat().st_size
        assert record["bytes_after"] == target.stat().st_size
    back = run("decompress", "-r", tree / "out", "-o", tree / "back", "--jobs", jobs)
    assert back.exit_code == 0
    assert len(list((tree / "back").rglob("*.png"))) == 9
    assert run("verify", "-r", tree / "out", "--jobs", jobs).exit_code == 0


def test_folders_go_on_where_they_stopped(tree: Path) -> None:
    run("compress", "-r", tree / "in", "-o", tree / "out")
    (tree / "out" / "a" / "1.aec").unlink()
    before = {path: path.stat().st_mtime_ns for path in (tree / "out").rglob("*.aec")}
    report = tree / "report.jsonl"
    again = run("compress", "-r", tree / "in", "-o", tree / "out", "--report", report)
    assert "1 done, 8 skipped, 2 failed" in again.output
    statuses = [json.loads(line)["status"] for line in report.read_text().splitlines()]
    assert sorted(statuses) == ["done"] + 2 * ["failed"] + 8 * ["skipped"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    forced = run("compress", "-r", tree / "in", "-o", tree / "out", "--overwrite", "--jobs", 2)
    assert "9 done, 2 failed" in forced.output


@pytest.mark.parametrize("jobs", [1, 3])
def test_what_is_skipped_but_not_as_asked_for(tree: Path, jobs: int) -> None:
    """Another quality, other weights, no whole file: what is kept is told of, and how to make it anew."""
    command = ["compress", "-r", tree / "in" / "b", "-o", tree / "out", "--jobs", jobs]
    hint = "skipped, but not as asked for: --overwrite makes them anew"
    assert hint not in run(*command, "-q", 50).output
    assert hint not in run(*command).output, "the default is the same"
    report = tree / "report.jsonl"
    result = run(*command, "-q", 70, "--report", report)
    assert result.exit_code == 0
    assert result.output.count("made with quality 50 in place of 70") == 5
    assert f"5 {hint}" in result.output
    assert all("quality 50" in json.loads(line)["message"] for line in report.read_text().splitlines())
    first, second, *_ = sorted((tree / "out").rglob("*.aec"))
    first.write_bytes(b"cut")
    parsed = container.read(second.read_bytes())
    second.write_bytes(container.write(replace(parsed, header=replace(parsed.header, model=b"another!"))))
    result = run(*command)
    assert "which cannot be read: not an .aec file" in result.output
    assert "made with other weights" in result.output
    assert f"2 {hint}" in result.output
    assert hint not in run(*command, "-q", 70, "--overwrite").output
    assert hint not in run(*command, "--target-bytes", 900).output, "no file says what it was made for"


def test_names_and_places_that_a_skipped_file_still_holds(tmp_path: Path, small_image: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    small_image.save(tmp_path / "turned.jpg", exif=exif)
    exif[0x010F] = "a camera"
    small_image.save(tmp_path / "named.jpg", exif=exif)
    command = ["compress", "-r", tmp_path, "--strip"]
    assert run(*command[:-1]).exit_code == 0
    result = run(*command)
    assert f"{tmp_path / 'named.aec'} exists, made without --strip" in result.output
    assert "1 skipped, but not as asked for" in result.output
    assert "not as asked for" not in run(*command, "--overwrite").output
    assert "not as asked for" not in run(*command).output


@pytest.mark.parametrize("jobs", [1, 3])
def test_one_target_for_two_sources(tmp_path: Path, small_image: Image.Image, jobs: int) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        small_image.save(tmp_path / name / "x.png")
    sources = tmp_path / "a" / "x.png", tmp_path / "b" / "x.png"
    result = run("compress", *sources, "-o", tmp_path / "out", "--jobs", jobs)
    assert result.exit_code == 1
    assert f"x.png.aec is what {sources[0]} becomes" in result.output


def test_names_that_differ_by_their_suffix_alone(tmp_path: Path, small_image: Image.Image) -> None:
    """Both are kept, under names that do not depend on which of them is there still."""
    names = ("x.png", "x.jpg", "deep/X.webp", "deep/x.tif", "y.png")
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        small_image.save(tmp_path / "in" / name)
    assert run("compress", "-r", tmp_path / "in", "-o", tmp_path / "out").exit_code == 0
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.aec")}
    assert written == {"x.png.aec", "x.jpg.aec", "deep/X.webp.aec", "deep/x.tif.aec", "y.aec"}
    assert run("decompress", "-r", tmp_path / "out", "-o", tmp_path / "back").exit_code == 0
    assert len(list((tmp_path / "back").rglob("*.png"))) == len(names)


def test_every_format_that_pillow_reads(tmp_path: Path, small_image: Image.Image) -> None:
    names = ["a.JFIF", "b.jpe", "c.apng", "d.pbm", "e.tga", "f.ico", "g.mpo", "h.sgi", "i.j2k", "j.PNG"]
    plugins = {"k.jxl": "pillow_jxl", "l.heic": "pillow_heif"}
    names += [name for name, plugin in plugins.items() if find_spec(plugin)]
    files.image_suffixes()  # loads the plugins
    for name in names:
        small_image.convert("1" if name == "d.pbm" else "RGB").save(tmp_path / name)
    result = run("compress", "-r", tmp_path, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert {path.stem for path in (tmp_path / "out").iterdir()} == {name[0] for name in names}


def test_plugins_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PLUGINS", ("no_such_plugin", "json.no_such_module"))
    suffixes = files.image_suffixes.__wrapped__()
    assert {".jpg", ".png", ".tif"} <= suffixes
    assert not {".eps", ".h5", ".mpg", ".aec"} & suffixes


def test_what_is_left_out_is_named_and_counted(tree: Path) -> None:
    (tree / "in" / "a" / "broken.png").unlink()
    (tree / "in" / "empty.jpg").unlink()
    others = [tree / "in" / "a" / name for name in ("notes.txt", "._1.png", "raw", "drawing.eps")]
    for path in others:
        path.write_bytes(b"\0\5\x16\7")
    (tree / "in" / "a" / "1.aec").write_bytes(b"what was coded already is no loss")
    result = run("compress", "-r", tree / "in", "-o", tree / "out")
    assert result.exit_code == 0
    named = {line.split(": left out, ")[0] for line in result.output.splitlines() if ": left out, " in line}
    assert named == {str(path) for path in others}
    assert "9 done, 4 left out; " in result.output
    (tree / "out" / "a" / "._1.aec").write_bytes(b"\0\5\x16\7")
    assert run("verify", "-r", tree / "out").exit_code == 0
    for path in (tree / "in").rglob("*.png"):
        path.rename(path.with_suffix(".raw"))
    nothing = run("compress", "-r", tree / "in", "-o", tree / "out")
    assert (nothing.exit_code, "no files found; " in nothing.output) == (2, True)
    assert "1.raw: left out, no picture by its name" in nothing.output
    assert ".raw: left out, no .aec file by its name" in run("verify", "-r", tree / "in" / "b").output


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path: Path, small_image: Image.Image) -> None:
    for folder in ("in", "elsewhere", "in/z"):
        (tmp_path / folder).mkdir()
        small_image.save(tmp_path / folder / f"{folder[-1]}.png")
    links = {"in/more": "elsewhere", "in/self": "in", "in/z/up": "in", "elsewhere/back": "in", "in/again": "in/z"}
    for link, target in links.items():
        (tmp_path / link).symlink_to(tmp_path / target)
    (tmp_path / "in" / "dead").symlink_to(tmp_path / "nowhere")
    result = run("compress", "-r", tmp_path / "in", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert written == {"n.aec", "z/z.aec", "more/e.aec"}
    left = [line.split(":")[0] for line in result.output.splitlines() if "left out, leads to" in line]
    assert sorted(left) == sorted(str(tmp_path / "in" / name) for name in ("self", "z/up", "more/back", "again"))


def test_a_report_that_cannot_be_written(tmp_path: Path, small_image: Image.Image) -> None:
    small_image.save(tmp_path / "x.png")
    result = run("compress", tmp_path / "x.png", "--report", tmp_path / "x.png" / "report")
    assert result.exit_code == 2
    assert not (tmp_path / "x.aec").exists()


def test_jobs_run_side_by_side() -> None:
    """Each waits for another one: one after the other they would never end."""
    barrier = threading.Barrier(2, timeout=20)

    def work(job: Job, _: Progress) -> Done:
        barrier.wait()
        return Done(1, 2, 3, 4, "met")

    jobs = [Job(Path(str(i)), Path("-")) for i in range(4)]
    results: list[batch.Result] = []
    batch.run(jobs, work, results.append, lambda _: None, at_once=2)
    assert [result.status for result in results] == ["done"] * 4
    assert {result.job for result in results} == set(jobs)


def test_what_ends_the_batch_ends_long_jobs() -> None:
    """Those that had begun are told of, too."""
    begun: list[Job] = []
    results: list[batch.Result] = []

    def work(job: Job, advance: Progress) -> Done:
        begun.append(job)
        while job.source.name != "0":
            time.sleep(0.01)
            advance(0.5)
        return Done(1, 2, 3, 4, "first")

    def tell(result: batch.Result) -> None:
        results.append(result)
        if result.status == "done":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        batch.run([Job(Path(str(i)), Path("-")) for i in range(9)], work, tell, lambda _: None, at_once=2)
    assert len(begun) <= 4
    assert {result.job for result in results} == set(begun)


@pytest.mark.parametrize("at_once", [1, 2])
def test_no_error_ends_the_batch(at_once: int) -> None:
    def work(job: Job, _: Progress) -> Done:
        raise TypeError("of the program")

    results: list[batch.Result] = []
    batch.run([Job(Path("a"), Path("-")), Job(Path("b"), Path("-"))], work, results.append, lambda _: None, at_once)
    assert sorted(result.line for result in results) == ["a: TypeError: of the program", "b: TypeError: of the program"]
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_mistake_in_the_program_keeps_its_traceback(
    tree: Path, jobs: int, monkeypatch: pytest.MonkeyPatch, codec: Codec
) -> None:
    """It may be of a class that is raised on purpose elsewhere; the batch goes on."""
    compress = Codec.compress

    def mistaken(self: Codec, picture: Any, *arguments: Any, **named: Any) -> bytes:
        if picture.pixels.shape[1] == 43:
            np.zeros(2) + np.zeros(3)
        return compress(self, picture, *arguments, **named)

    monkeypatch.setattr(Codec, "compress", mistaken)
    result = run("compress", "-r", tree / "in", "-o", tree / "out", "--jobs", jobs)
    assert result.exit_code == 1
    assert "8 done, 3 failed" in result.output
    assert result.output.count("Traceback") == 1
    assert "    np.zeros(2) + np.zeros(3)" in result.output
    assert f"{tree / 'in/a/3.png'}: ValueError: operands could not be broadcast" in result.output


def test_a_lack_of_memory_is_no_mistake(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For which torch has no class of errors on a CPU."""
    monkeypatch.setattr(Codec, "compress", lambda *_, **__: torch.empty(1 << 60))
    path = tree / "in" / "a" / "1.png"
    result = run("compress", path)
    assert (result.exit_code, "Traceback" in result.output) == (1, False)
    assert result.output.startswith(f"{path}: ")
    assert "DefaultCPUAllocator" in result.output


def test_a_result_keeps_no_picture() -> None:
    """Of those whose target was missed, as of others: a folder has many."""
    held = []

    class Pixels:
        pass

    def work(job: Job, _: Progress) -> Done:
        pixels = Pixels()
        held.append(weakref.ref(pixels))
        raise TargetMissed("it was", b"nearest")

    results: list[batch.Result] = []
    batch.run([Job(Path("a"), Path("-"))], work, results.append, lambda _: None)
    assert (results[0].code, results[0].error) == (5, "TargetMissed")
    assert held[0]() is None


def test_damage_is_told_of_the_damaged(tree: Path) -> None:
    run("compress", "-r", tree / "in", "-o", tree / "out")
    cut = sorted((tree / "out").rglob("*.aec"))[::2]
    for path in cut:
        path.write_bytes(path.read_bytes()[:-12])
    result = run("decompress", "-r", tree / "out", "-o", tree / "back", "--salvage", "--jobs", 3)
    told = {line.split(" -> ")[0] for line in result.output.splitlines() if "damaged" in line}
    assert told == {str(path) for path in cut}


def test_a_report_is_no_picture(tree: Path) -> None:
    """Nothing is lost by naming the wrong file."""
    png, aec = tree / "in" / "a" / "1.png", tree / "x.aec"
    other = tree / "in" / "a" / "3.png"
    before = png.read_bytes()
    for report in (png, other, aec, "-"):
        for arguments in (["--overwrite"], []):
            result = run("compress", png, "-o", aec, "--report", report, *arguments)
            assert result.exit_code == 2, result.output
            assert not aec.exists()
    assert png.read_bytes() == before
    assert other.read_bytes().startswith(b"\x89PNG")


def test_reports_of_several_runs(tree: Path) -> None:
    report = tree / "new" / "report.jsonl"
    command = ["compress", tree / "in" / "a" / "1.png", "-o", tree / "x.aec", "-r", "--report", report]
    for arguments, lines in (([], 1), ([], 2), (["--overwrite"], 1)):
        assert run(*command, *arguments).exit_code == 0
        statuses = [json.loads(line)["status"] for line in report.read_text().splitlines()]
        assert len(statuses) == lines
    assert statuses == ["done"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_one_target_by_two_names(tmp_path: Path, small_image: Image.Image, jobs: int) -> None:
    """Nothing is deleted that was not kept."""
    (tmp_path / "p").mkdir()
    (tmp_path / "q").symlink_to("p")
    (tmp_path / "elsewhere").mkdir()
    small_image.save(tmp_path / "p" / "z.jpg")
    small_image.save(tmp_path / "elsewhere" / "z.jpg")
    (tmp_path / "elsewhere" / "z.jpg.aec").symlink_to(tmp_path / "p" / "z.jpg.aec")
    (tmp_path / "elsewhere" / "z.aec").symlink_to(tmp_path / "p" / "z.aec")
    sources = tmp_path / "q" / "z.jpg", tmp_path / "elsewhere" / "z.jpg"
    result = run("compress", *sources, "--delete-source", "--overwrite", "--jobs", jobs)
    assert result.exit_code == 1
    assert f"z.jpg.aec is what {sources[0]} becomes" in result.output
    assert {path.name for path in (tmp_path / "p").iterdir()} == {"z.jpg.aec"}
    assert sources[1].exists()


def test_names_that_mean_something_to_a_terminal(tmp_path: Path, codec: Codec, small: Plane) -> None:
    for name in ("x\ngood.aec", "red\x1b[31m.aec", "\udcff.aec", "漢" * 77 + ".aec"):
        (tmp_path / name).write_bytes(codec.compress(small[:20, :20]))
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    command = [sys.executable, "-m", "aecodec", "verify", "-r", str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert len(done.stdout.splitlines()) == 4
    assert b"\x1b" not in done.stdout
    assert run("decompress", "-r", tmp_path, "-o", tmp_path / "out").exit_code == 0
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_notes_are_in_the_report(tmp_path: Path, small_image: Image.Image) -> None:
    small_image.convert("CMYK").save(tmp_path / "x.jpg")
    report = tmp_path / "report.jsonl"
    assert run("compress", tmp_path / "x.jpg", "--report", report).exit_code == 0
    (tmp_path / "x.aec").write_bytes((tmp_path / "x.aec").read_bytes()[:-8])
    assert run("decompress", tmp_path / "x.aec", "--salvage", "--report", report).exit_code == 0
    notes = [json.loads(line)["notes"] for line in report.read_text().splitlines()]
    assert "CMYK converted" in notes[0][0]
    assert "damaged" in notes[1][0]


@pytest.mark.skipif(not hasattr(os, "fchmod"), reason="no such permissions here")
def test_what_was_private_stays_private(tmp_path: Path, small_image: Image.Image) -> None:
    small_image.save(tmp_path / "x.png")
    (tmp_path / "x.aec").touch(0o600)
    assert run("compress", tmp_path / "x.png", "--overwrite").exit_code == 0
    assert (tmp_path / "x.aec").stat().st_mode & 0o777 == 0o600


@PERMISSIONS
def test_a_closed_folder_stops_no_other(tree: Path) -> None:
    (tree / "in" / "a").chmod(0)
    result = run("compress", "-r", tree / "in", "-o", tree / "out")
    (tree / "in" / "a").chmod(0o755)
    assert "5 done, 2 failed" in result.output


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device here")
def test_a_report_that_cannot_go_on_ends_no_job(tree: Path) -> None:
    result = run("compress", tree / "in" / "a" / "1.png", "-o", tree / "x.aec", "--report", "/dev/full")
    assert result.exit_code == 1
    assert "/dev/full: No space left on device" in result.output
    assert (tree / "x.aec").exists()


@pytest.mark.slow
@INTERRUPTS
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.usefixtures("heeded")
def test_a_signal_ends_several_jobs(tmp_path: Path, photo: Plane, number: signal.Signals) -> None:
    for i in range(40):
        Image.fromarray(np.tile(photo, (2, 2, 1))).save(tmp_path / f"{i}.png", compress_level=1)
    command = [sys.executable, "-m", "aecodec", "compress", "-r", tmp_path, "-o", tmp_path / "out", "--jobs", "2"]
    with subprocess.Popen([*map(str, command), "--device", "cpu"], stderr=subprocess.PIPE) as process:
        assert process.stderr
        process.stderr.readline()  # the first is done
        process.send_signal(number)
        assert process.wait(60) in (128 + number, -number)
    written = list((tmp_path / "out").iterdir())
    assert 0 < len(written) < 40
    assert all(path.suffix == ".aec" for path in written)
    assert run("verify", *written).exit_code == 0


def test_a_source_that_has_changed_since_stays(
    tmp_path: Path, small_image: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, verify = tmp_path / "x.png", Codec.verify

    def slow(self: Codec, data: bytes) -> Any:
        small_image.rotate(90).save(path)
        return verify(self, data)

    monkeypatch.setattr(Codec, "verify", slow)
    small_image.save(path)
    result = run("compress", path, "--delete-source")
    assert result.exit_code == 1
    assert "has changed since it was read" in result.output
    assert path.exists()


def test_a_closed_folder_that_is_given_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_walk", lambda folder, suffixes: ([folder], []))
    assert planning.expand([tmp_path], True, {".png"}) == ([(tmp_path, Path())], [])


def test_only_the_metadata_that_does_not_fit_is_left_out(small_image: Image.Image) -> None:
    image = small_image.copy()
    image.info |= {"exif": b"Exif\0\0" + bytes(70_000), "xmp": b"<x/>"}
    data, notes = formats.encode_picture(image, "JPEG")
    with Image.open(io.BytesIO(data)) as found:
        assert found.info["xmp"] == b"<x/>"
        assert "exif" not in found.info
    assert len(notes) == 1


def test_postscript_is_not_run() -> None:
    with pytest.raises(OSError, match="PostScript"):
        files.open_picture(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", 100)
