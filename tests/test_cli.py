"""The command line as a user meets it: in processes of its own where that matters, else in this one."""

import contextlib
import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from typer.testing import CliRunner, Result

import aecodec
from aecodec import Codec, SymbolMismatch, container, profiles, registry
from aecodec.cli import app
from aecodec.cli.running import progress_bar
from aecodec.container import Container, Tile
from aecodec.formats import FORMATS
from aecodec.image import Plane, without_pillows_limit
from aecodec.training import loop

from .conftest import PERMISSIONS, PIPES, SIGNALS, needs
from .make_golden import FOLDER
from .test_inventory import SRGB

DOCS = Path(__file__).parent.parent / "docs"


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)


def program(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def png(tmp_path: Path, small_image: Image.Image) -> Path:
    path = tmp_path / "photo.png"
    small_image.save(path)
    return path


def left(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_below_the_lines_of_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with progress_bar(2, stream, slow=False) as (show, advance):
        advance(0.5)
        show("a [bold] :cat: of 95 letters" + "." * 67)
    text = stream.getvalue()
    assert "a [bold] :cat: of 95 letters" + "." * 67 + "\n" in text, "neither markup nor broken in two"
    assert "50%" in text
    assert text.rstrip("\r").endswith("\x1b[2K"), "the bar goes in the end"


@pytest.mark.parametrize(
    ("stream", "slow", "quiet", "bar"),
    [
        (io.StringIO(), True, False, False),
        (Terminal(), False, False, False),
        (Terminal(), True, True, False),
        (Terminal(), True, False, True),
    ],
)
def test_no_bar_for_one_quick_file_or_without_a_terminal_or_when_quiet(
    stream: io.StringIO, slow: bool, quiet: bool, bar: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar(1, stream, slow, quiet) as (show, advance):
        advance(0.25)
        show("done")
    assert ("100%" in stream.getvalue()) is bar
    assert "done\n" in stream.getvalue()


def test_there_and_back(png: Path) -> None:
    result = run("compress", png)
    assert result.exit_code == 0
    assert "bpp" in result.stderr
    png.unlink()
    assert run("decompress", png.with_suffix(".aec")).exit_code == 0
    with Image.open(png) as image:
        assert image.size == (90, 70)
    assert left(png.parent) == {"photo.png", "photo.aec"}


def test_quality_and_output(png: Path) -> None:
    small, large = png.parent / "new" / "small.aec", png.parent / "large.aec"
    assert run("compress", png, "-o", small, "-q", 0).exit_code == 0
    assert run("compress", png, "-o", large, "-q", 100, "--device", "cpu").exit_code == 0
    assert small.stat().st_size < large.stat().st_size / 3


def test_formats_by_suffix(png: Path) -> None:
    run("compress", png)
    for suffix, name in ((".jpg", "JPEG"), (".webp", "WEBP"), (".tif", "TIFF")):
        target = png.with_suffix(suffix)
        assert run("decompress", png.with_suffix(".aec"), "-o", target).exit_code == 0
        with Image.open(target) as image:
            assert image.format == name


def test_a_png_of_fewer_bytes(png: Path) -> None:
    run("compress", png)
    plain, small = png.with_name("plain.png"), png.with_name("small.png")
    assert run("decompress", png.with_suffix(".aec"), plain).exit_code == 0
    assert run("decompress", png.with_suffix(".aec"), small, "--small").exit_code == 0
    assert small.stat().st_size < plain.stat().st_size
    with Image.open(plain) as first, Image.open(small) as second:
        assert first.tobytes() == second.tobytes()


def test_formats_by_name(png: Path) -> None:
    """For folders and standard output, which have no suffix, and for names that say nothing."""
    folder, aec = png.parent, png.with_suffix(".aec")
    run("compress", png)
    assert run("decompress", "-r", folder, "-o", folder / "out", "--format", "WebP").exit_code == 0
    assert run("decompress", aec, "-o", folder / "out" / "x.tmp", "--format", "jpeg").exit_code == 0
    assert run("decompress", aec, "--format", "tif").exit_code == 0
    written = {"out/photo.webp": "WEBP", "out/x.tmp": "JPEG", "photo.tif": "TIFF"}
    assert left(folder) == {"photo.png", "photo.aec", *written}
    streamed = run("decompress", aec, "-o", "-", "--format", "bmp").stdout_bytes
    encoded = {name: (folder / path).read_bytes() for path, name in written.items()} | {"BMP": streamed}
    for name, data in encoded.items():
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, image.size) == (name, (90, 70))
    for arguments, said in (
        (["-o", folder / "x.png", "--format", "jpg"], "x.png: a name for PNG, but JPEG is asked for"),
        (["--format", "gif"], "format gif: expected one of png, jpg"),
    ):
        result = run("decompress", aec, *arguments)
        assert (result.exit_code, said in result.stderr) == (2, True)


@pytest.mark.parametrize("name", ["jpg", "webp", "avif"])
def test_the_quality_of_what_is_written(png: Path, codec: Codec, name: str) -> None:
    """WebP, which is lossless otherwise, is not at a quality."""
    needs(FORMATS[f".{name}"])
    run("compress", png)
    sizes, decoded = [], codec.decompress(png.with_suffix(".aec").read_bytes(), "numpy")
    for quality in (["--output-quality", 90], ["--output-quality", 30], []):
        result = run("decompress", png.with_suffix(".aec"), "-o", "-", "--format", name, *quality)
        sizes.append(len(result.stdout_bytes))
        with Image.open(io.BytesIO(result.stdout_bytes)) as image:
            exact = np.array_equal(np.asarray(image), decoded)
        assert exact is (name == "webp" and not quality)
    assert sizes[1] < sizes[0] < sizes[2]
    result = run("decompress", png.with_suffix(".aec"), "-o", png.parent, "--output-quality", 90)
    assert (result.exit_code, "PNG has no quality: --output-quality goes with" in result.stderr) == (2, True)


def test_a_format_that_this_pillow_cannot_write(png: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is decoded; some builds know a format whose library they lack."""
    run("compress", png)
    said = "aecodec: the Pillow that is installed here cannot write {}\n"

    def lacking(*_: object) -> None:
        raise OSError("encoder jpeg2k not available")

    Image.init()
    monkeypatch.delitem(Image.SAVE, "WEBP")
    monkeypatch.setitem(Image.SAVE, "JPEG2000", lacking)
    for suffix, name in (("webp", "WEBP"), ("jp2", "JPEG2000")):
        result = run("decompress", png.with_suffix(".aec"), "--format", suffix)
        assert (result.exit_code, result.stderr) == (2, said.format(name))
    assert left(png.parent) == {"photo.png", "photo.aec"}


def test_a_file_that_grew_is_told_of(png: Path) -> None:
    dot = png.with_name("dot.png")
    Image.new("L", (1, 1)).save(dot)
    for path, grew in ((dot, True), (png, False)):
        result = run("compress", path, "-q", 100)
        assert (path.with_suffix(".aec").stat().st_size > path.stat().st_size) is grew
        assert ("(larger than its source)" in result.stderr) is grew


def test_quiet(png: Path) -> None:
    """Nothing is said of what went well; errors and exit codes stay."""
    (png.parent / "notes.txt").touch()
    commands: tuple[tuple[object, ...], ...] = (
        ("compress", "-r", png.parent),
        ("compress", "-r", png.parent, "-q", 10),  # skipped, and not as asked for
        ("decompress", "-r", png.parent, "-o", png.parent / "out"),
        ("verify", "-r", png.parent),
    )
    for arguments in commands:
        result = run(*arguments, "--quiet")
        assert (result.exit_code, result.output) == (0, "")
    whole, cut = png.with_suffix(".aec"), png.with_name("cut.aec")
    cut.write_bytes(whole.read_bytes()[:-9])
    for arguments in (("decompress", cut, whole, "-o", png.parent / "new"), ("verify", cut, whole)):
        result = run(*arguments, "--quiet")
        assert (result.exit_code, len(result.output.splitlines())) == (3, 1)
        assert result.output.startswith(f"{cut}: ")


def test_a_file_to_read_and_one_to_write(png: Path) -> None:
    aec, webp = png.parent / "new" / "out.aec", png.parent / "out.webp"
    assert run("compress", png, aec, "-q", 10).exit_code == 0
    assert run("decompress", aec, webp).exit_code == 0
    with Image.open(webp) as image:
        assert (image.format, image.size) == ("WEBP", (90, 70))
    assert left(png.parent) == {"photo.png", "new/out.aec", "out.webp"}
    result = run("compress", png, aec)
    assert (result.exit_code, "out.aec exists; add --overwrite" in result.stderr) == (1, True)
    assert run("decompress", aec, png.parent / "out.xpm").exit_code == 2, "a format that is read, not written"
    assert run("decompress", "-", png.parent / "again.png", stdin=aec.read_bytes()).exit_code == 0
    assert run("decompress", aec, png.parent / "again.png", "--overwrite").exit_code == 0
    aec.with_name("copy.aec").write_bytes(aec.read_bytes())
    assert run("decompress", aec, aec.with_name("copy.aec")).exit_code == 0
    assert left(aec.parent) == {"out.aec", "out.png", "copy.aec", "copy.png"}, "two to read"


def test_standard_streams(png: Path) -> None:
    coded = run("compress", "-", "-o", "-", stdin=png.read_bytes())
    assert coded.exit_code == 0
    decoded = run("decompress", "-", stdin=coded.stdout_bytes)
    with Image.open(io.BytesIO(decoded.stdout_bytes)) as image:
        assert image.size == (90, 70)


def test_a_file_called_dash(png: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only - itself is a standard stream."""
    monkeypatch.chdir(png.parent)
    Path("photo.png").rename("-")
    assert run("compress", "./-", "-o", "x.aec", stdin=b"").exit_code == 0
    assert run("compress", "./-", "--report", "report", stdin=b"").exit_code == 0
    assert left(Path()) == {"-", "x.aec", "-.aec", "report"}
    Path("-").unlink()
    result = run("compress", "-", "-o", "./-", stdin=run("decompress", "x.aec", "-o", "-").stdout_bytes)
    assert (result.exit_code, result.stdout) == (0, "")
    assert run("verify", "./-", stdin=b"").exit_code == 0
    assert run("info", "./-", stdin=b"").exit_code == 0
    assert run("decompress", "./-", "-o", "y.png", "--report", "./-", stdin=b"").exit_code == 2, (
        "a report on its source"
    )
    assert run("decompress", "./-", "-o", "y.png", stdin=b"").exit_code == 0


def test_a_slash_means_a_folder(png: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(png.parent)
    assert run("compress", png, "-o", f"{png.parent}/new/").exit_code == 0
    assert run("compress", png, "-o", "./-/").exit_code == 0
    assert left(png.parent) == {"photo.png", "new/photo.aec", "-/photo.aec"}


def test_own_weights(png: Path, codec: Codec) -> None:
    own = registry.find(codec.model.id)
    assert run("compress", png, "--weights", own).exit_code == 0
    assert run("verify", png.with_suffix(".aec"), "--weights", own).exit_code == 0
    assert run("compress", png, "--overwrite", "--weights", png).exit_code == 2
    assert run("compress", png, "--overwrite", "--weights", "base").exit_code == 0
    assert run("compress", png, "--overwrite", "--weights", "none").exit_code == 2


def test_links_stay_links(png: Path) -> None:
    link = png.parent / "link.aec"
    link.symlink_to(png.parent / "real.aec")
    (png.parent / "real.aec").write_bytes(b"old")
    assert run("compress", png, "-o", link, "--overwrite").exit_code == 0
    assert link.is_symlink()
    assert (png.parent / "real.aec").read_bytes() != b"old"


def test_folders_keep_their_tree(tmp_path: Path, small_image: Image.Image) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    small_image.save(tmp_path / "in" / "a.png")
    small_image.save(tmp_path / "in" / "deep" / "b.jpg")
    (tmp_path / "in" / "notes.txt").write_text("not an image")
    assert run("compress", tmp_path / "in").exit_code == 2
    assert run("compress", "-r", tmp_path / "in", "-o", tmp_path / "out").exit_code == 0
    assert left(tmp_path / "out") == {"a.aec", "deep/b.aec"}
    assert run("decompress", "-r", tmp_path / "out", "-o", tmp_path / "back").exit_code == 0
    assert left(tmp_path / "back") == {"a.png", "deep/b.png"}
    assert run("verify", "-r", tmp_path / "out").exit_code == 0
    assert run("verify", tmp_path / "out" / "a.aec", tmp_path / "out" / "deep" / "b.aec").exit_code == 0


def test_existing_files(png: Path) -> None:
    target = png.with_suffix(".aec")
    target.write_bytes(b"mine")
    assert run("compress", png).exit_code == 1
    assert run("compress", png, "--skip-existing").exit_code == 0
    assert target.read_bytes() == b"mine"
    assert run("compress", png, "--overwrite").exit_code == 0
    assert target.read_bytes() != b"mine"


def test_two_sources_for_one_target(tmp_path: Path, small_image: Image.Image) -> None:
    """The first has it, even where files may be replaced."""
    names = ("x/a.png", "y/a.png", "b.png")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        small_image.save(tmp_path / name)
    result = run("compress", "--overwrite", *(tmp_path / name for name in names), "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "is what" in result.stderr
    assert left(tmp_path / "out") == {"a.png.aec", "b.aec"}


def test_nothing_is_written_over_its_source(png: Path) -> None:
    before = png.read_bytes()
    assert run("compress", png, "-o", png, "--overwrite").exit_code == 2
    assert run("compress", png, "-o", png.with_suffix(".jpg"), "--overwrite").exit_code == 2
    assert run("decompress", png, "--overwrite").exit_code == 2
    assert png.read_bytes() == before


def test_devices_are_written_as_they_are(png: Path) -> None:
    assert run("compress", png, "-o", os.devnull).exit_code == 0
    assert not Path(os.devnull).is_file()


@PIPES
def test_pipes_with_names(png: Path) -> None:
    """They are read once: nothing is compared with what was read, and nobody waits for that."""
    pipe = png.with_name("pipe")
    os.mkfifo(pipe)
    for paths in ((pipe, png.with_name("a.aec")), (png, "-o", pipe)):
        result = run("compress", *paths, "--delete-source")
        assert (result.exit_code, f"goes with files, not with {pipe}" in result.stderr) == (2, True)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(pipe.write_bytes, png.read_bytes())
        assert run("compress", pipe, png.with_name("a.aec")).exit_code == 0
        writing.result()
    png.with_name("b.aec").touch()
    assert png.with_name("a.aec").stat().st_mode == png.with_name("b.aec").stat().st_mode, "not as its pipe"


def test_webp_and_tiff_are_lossless(codec: Codec, png: Path) -> None:
    run("compress", png)
    expected = codec.decompress(png.with_suffix(".aec").read_bytes(), "numpy")
    for suffix in (".webp", ".tif", ".ppm", ".bmp", ".jp2"):
        assert run("decompress", png.with_suffix(".aec"), "-o", png.with_suffix(suffix)).exit_code == 0
        with Image.open(png.with_suffix(suffix)) as image:
            np.testing.assert_array_equal(np.asarray(image), expected)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".avif", ".tif", ".bmp", ".jp2"])
@pytest.mark.parametrize("icc", [b"no profile", bytes(16) + b"RGB " + bytes(16) + b"acsp" + bytes(200)])
@pytest.mark.parametrize("exif", [b"junkjunkjunk", b"II*\0", b"", b"MM\0*\0\0\0\x08" + bytes(70000)])
def test_broken_metadata_costs_itself_alone(
    codec: Codec, tmp_path: Path, small_image: Image.Image, suffix: str, icc: bytes, exif: bytes
) -> None:
    needs(FORMATS[suffix])
    plain = container.read(codec.compress(small_image, 10))
    metadata = {"exif": exif, "icc": icc, "xmp": b"\xff<x>"}
    (tmp_path / "a.aec").write_bytes(container.write(replace(plain, metadata=metadata)))
    result = run("decompress", tmp_path / "a.aec", "-o", tmp_path / f"a{suffix}")
    assert result.exit_code == 0, result.stderr
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of what is broken
        with Image.open(tmp_path / f"a{suffix}") as image:
            assert image.size == (90, 70)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_metadata_reaches_the_file(tmp_path: Path, small_image: Image.Image, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x010F] = "camera"
    small_image.save(tmp_path / "a.jpg", exif=exif, xmp=b"<x:xmpmeta/>")
    run("compress", tmp_path / "a.jpg")
    assert run("decompress", tmp_path / "a.aec", "-o", tmp_path / f"b{suffix}").exit_code == 0
    with Image.open(tmp_path / f"b{suffix}") as image:
        assert image.getexif()[0x010F] == "camera"
        assert b"xmpmeta" in (tmp_path / f"b{suffix}").read_bytes()


def test_storage_tags_do_not_reach_a_tiff(tmp_path: Path, small_image: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0100], exif[0x0106], exif[0x010F] = 4000, 6, "camera"
    small_image.save(tmp_path / "a.jpg", exif=exif)
    run("compress", tmp_path / "a.jpg", "-q", 100)
    assert run("decompress", tmp_path / "a.aec", "-o", tmp_path / "b.tif").exit_code == 0
    with Image.open(tmp_path / "b.tif") as image:
        assert image.size == (90, 70)
        assert np.abs(np.asarray(image).astype(int) - np.asarray(small_image)).mean() < 5
        assert image.getexif()[0x010F] == "camera"


def test_damaged_checkpoints_and_weights(png: Path) -> None:
    arguments = ("--data", png.parent, "--valid", png.parent, "--out", png.parent / "x.safetensors")
    assert run("export", png, *arguments).exit_code == 2
    assert run("compress", png, "--weights", png).exit_code == 2


@PIPES
def test_pipes_in_a_folder_are_passed_over(png: Path) -> None:
    os.mkfifo(png.parent / "pipe.png")
    result = run("compress", "-r", png.parent)
    (png.parent / "pipe.png").unlink()
    assert result.exit_code == 0
    assert left(png.parent) == {"photo.png", "photo.aec"}


def test_some_fail_and_the_rest_goes_on(png: Path) -> None:
    bad = png.parent / "bad.png"
    bad.write_bytes(b"\x89PNG but no more")
    result = run("compress", bad, png)
    assert result.exit_code == 1
    assert str(bad) in result.stderr
    assert left(png.parent) == {"photo.png", "bad.png", "photo.aec"}


def test_the_exit_code_of_several_files(tmp_path: Path) -> None:
    """What all failures have in common, if anything."""
    whole = (FOLDER / "rgb.aec").read_bytes()
    for name, data in (
        ("whole", whole),
        ("cut", whole[:-9]),
        ("text", b"text"),
        ("new", whole[:7] + b"\x09" + whole[8:]),
    ):
        (tmp_path / f"{name}.aec").write_bytes(data)
    for names, code in (("whole cut", 3), ("cut text", 3), ("new whole", 4), ("cut new", 1), ("cut missing", 1)):
        assert run("verify", *(tmp_path / f"{name}.aec" for name in names.split())).exit_code == code, names


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", 3),
        (b"GIF89a", 3),
        ((FOLDER / "rgb.aec").read_bytes()[:-9], 3),
        ((FOLDER / "rgb.aec").read_bytes().replace(b"TILE", b"TILF"), 3),
        ((FOLDER / "rgb.aec").read_bytes()[:7] + b"\x09" + (FOLDER / "rgb.aec").read_bytes()[8:], 4),
    ],
)
def test_bad_files(tmp_path: Path, content: bytes, code: int) -> None:
    path = tmp_path / "bad.aec"
    path.write_bytes(content)
    for command in ("decompress", "verify", "info"):
        result = run(command, path)
        assert result.exit_code == code, command
        assert str(path) in result.output
        assert "Traceback" not in result.output
    assert left(tmp_path) == {"bad.aec"}


@pytest.mark.parametrize("place", [0, 2])
def test_tracebacks_where_they_are_asked_for(tmp_path: Path, place: int) -> None:
    path = tmp_path / "bad.aec"
    path.write_bytes(b"text")
    for arguments in (["verify", path], ["info", path], ["verify", path, "--weights", "none"]):
        plain, shown = run(*arguments), run(*arguments[:place], "--debug", *arguments[place:])
        assert "Traceback" not in plain.output
        assert shown.output.startswith("Traceback (most recent call last):")
        assert shown.output.endswith(plain.output)
        assert shown.exit_code == plain.exit_code


def test_a_mistake_in_the_program_is_no_wrong_usage(png: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deep in training, in what opens weights, in what reads a header."""
    monkeypatch.setattr(Codec, "__init__", lambda *_: np.zeros(2) + np.zeros(3))
    monkeypatch.setattr(loop, "find_images", lambda *_: int("one"))
    monkeypatch.setattr(container, "read", lambda *_, **__: torch.zeros(2) + torch.zeros(3))
    train = ("train", "--data", png.parent, "--out", png.parent / "run")
    for arguments, kind in ((["compress", png], ValueError), (train, ValueError), (["info", png], RuntimeError)):
        result = run(*arguments)
        assert (result.exit_code, type(result.exception)) == (1, kind)
        assert not result.output


def test_broken_images_are_no_mistakes_of_the_program(png: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever Pillow says of them."""
    monkeypatch.setattr(Image.Image, "load", lambda self: int("one"))
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda self: int("one"))
    result = run("compress", png)
    assert result.exit_code == 1
    assert result.output == f"{png}: broken image: ValueError: invalid literal for int() with base 10: 'one'\n"
    assert "invalid literal" in run("compress", png, "--debug").output.partition("direct cause")[0]


def test_a_foreign_model(tmp_path: Path) -> None:
    path = tmp_path / "foreign.aec"
    header = container.Header(b"unknown!", 16, 16, "RGB", 50, 512)
    path.write_bytes(container.write(Container(header, [Tile(50, 0, b"")])))
    result = run("decompress", path)
    assert (result.exit_code, "pip install -U aecodec" in result.stderr) == (4, True)
    assert run("info", path).exit_code == 0  # what the header says can still be told


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\xff\xd8\xff\xe0 JPEG cut short"])
def test_bad_images(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    result = run("compress", path)
    assert result.exit_code == 1
    assert str(path) in result.stderr
    assert left(tmp_path) == {"bad.jpg"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["compress"],
        ["compress", "a.png", "-q", "101"],
        ["compress", "a.png", "--device", "tpu"],
        ["compress", "-", "b.png"],
        ["compress", "a.png", "b.png", "-o", "-"],
        ["decompress", "a.aec", "-o", "b.xyz"],
        ["unknown"],
    ],
)
def test_wrong_usage(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_missing_file(tmp_path: Path) -> None:
    result = run("compress", tmp_path / "none.png")
    assert result.exit_code == 1
    assert "none.png: No such file" in result.stderr


def test_transparency_into_jpeg_is_refused(tmp_path: Path) -> None:
    result = run("decompress", FOLDER / "alpha.aec", "-o", tmp_path / "a.jpg")
    assert result.exit_code == 1
    assert "transparency" in result.stderr
    assert left(tmp_path) == set()


def test_a_target_that_cannot_be_written(png: Path) -> None:
    """A file stands where a folder would have to be."""
    (png.parent / "wall").write_bytes(b"")
    result = run("compress", png, "-o", png.parent / "wall" / "a.aec")
    assert result.exit_code == 1
    assert left(png.parent) == {"photo.png", "wall"}


@PERMISSIONS
def test_a_folder_that_cannot_be_written(png: Path) -> None:
    png.parent.chmod(0o500)
    try:
        assert run("compress", png).exit_code == 1
    finally:
        png.parent.chmod(0o700)


def test_info(codec: Codec) -> None:
    result = run("info", FOLDER / "two_tiles.aec", "--json")
    found = json.loads(result.stdout)
    assert (found["width"], found["height"], found["mode"], found["quality"]) == (552, 10, "RGB", 20)
    assert (found["tiles"], found["weights"]) == (2, "base")
    assert found["model"] == codec.model.id.hex()
    assert "552" in run("info", FOLDER / "two_tiles.aec").stdout


def test_info_of_several_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("gray", "alpha"):
        (tmp_path / "in" / f"{name}.aec").write_bytes((FOLDER / f"{name}.aec").read_bytes())
    (tmp_path / "bad.aec").write_bytes(b"text")
    assert run("info", tmp_path / "in").exit_code == 2
    result = run("info", FOLDER / "rgb.aec", tmp_path / "bad.aec", "-r", tmp_path / "in", "--json")
    assert result.exit_code == 3
    assert result.stderr == f"{tmp_path / 'bad.aec'}: not an .aec file\n"
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [one["mode"] for one in found] == ["RGB", "RGBA", "L"]
    assert found[1]["file"] == str(tmp_path / "in" / "alpha.aec")
    assert run("info", tmp_path / "bad.aec", tmp_path / "none.aec").exit_code == 1, "of two kinds"
    first, second = run("info", FOLDER / "rgb.aec", FOLDER / "gray.aec").stdout.split("\n\n")
    assert (first.split()[:2], second.split()[:2]) == (
        ["file", str(FOLDER / "rgb.aec")],
        ["file", str(FOLDER / "gray.aec")],
    )


@pytest.mark.parametrize("jobs", [1, 2])
def test_verify_for_programs(tmp_path: Path, jobs: int) -> None:
    """Its lines are those of the report; what goes wrong is said there, too."""
    (tmp_path / "cut.aec").write_bytes((FOLDER / "rgb.aec").read_bytes()[:-9])
    command = ("verify", FOLDER / "rgb.aec", tmp_path / "cut.aec", "--jobs", jobs, "--report", tmp_path / "report")
    result = run(*command, "--json")
    assert result.exit_code == 3
    assert result.stdout == (tmp_path / "report").read_text()
    found = {Path(record["source"]).stem: record for record in map(json.loads, result.stdout.splitlines())}
    assert (found["rgb"]["status"], found["rgb"]["width"]) == ("done", 90)
    assert (found["cut"]["status"], found["cut"]["error"]) == ("failed", "Truncated")
    assert "Traceback" in run(*command, "--json", "--debug").stderr


def test_help_and_tracebacks_with_every_command() -> None:
    for command in re.findall(r"^## aecodec (\w+)$", (DOCS / "CLI.md").read_text("utf-8"), re.M):
        short, long = run(command, "-h"), run(command, "--help")
        assert (short.exit_code, short.output) == (0, long.output)
        assert "--debug" in short.output
    assert run("-h").output == run("--help").output


def test_start_up_imports_neither_torch_nor_pillow() -> None:
    listing = "import sys; print(sorted({'torch', 'PIL', 'numpy'} & set(sys.modules)))"
    assert program(f"import aecodec; {listing}") == "[]\n"
    golden = FOLDER / "gray.aec"
    for arguments in (["--help"], ["info", str(golden)]):
        code = (
            "import sys\nfrom aecodec.cli import app\n"
            f"sys.argv = ['aecodec', *{arguments}]\n"
            "try:\n    app()\nexcept SystemExit:\n    pass\n"
            "print(bool({'torch', 'PIL', 'numpy'} & set(sys.modules)))"
        )
        assert program(code).endswith("False\n")


def iptc(payload: bytes) -> bytes:
    """A file that says it has 16x16 pixels, and holds another one."""

    def field(number: int, kind: int, data: bytes) -> bytes:
        return struct.pack(">BBBH", 0x1C, number, kind, len(data)) + data

    size = struct.pack(">H", 16)
    fields = [
        (3, 60, b"\1\0"),
        (3, 65, b"\1"),
        (3, 20, size),
        (3, 30, size),
        (3, 120, b"\5"),
        (8, 10, payload),
        (9, 10, b""),
    ]
    return b"".join(field(*one) for one in fields)


def test_what_is_wrapped_is_not_opened(png: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a picture beyond the limits nor PostScript, which Pillow would hand to Ghostscript."""
    wrapped = png.with_name("wrapped.jpg")
    wrapped.write_bytes(iptc(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\nshowpage\n%%EOF\n"))
    with Image.open(wrapped) as image:
        assert image.format == "IPTC"
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("a program has been run"))
    result = run("compress", wrapped)
    assert (result.exit_code, "wrapper" in result.stderr) == (1, True)
    result = run("compress", png, "--roi", f"{wrapped}:+20")
    assert (result.exit_code, "wrapper" in result.stderr) == (1, True)
    assert left(png.parent) == {"photo.png", "wrapped.jpg"}


def test_a_mask_is_not_deleted(png: Path) -> None:
    assert run("compress", png, "--roi", f"{png}:+20", "--delete-source").exit_code == 2
    assert left(png.parent) == {"photo.png"}


def test_more_bytes_than_there_are(png: Path) -> None:
    run("compress", png)
    result = run("decompress", png.with_suffix(".aec"), "--preview", 10**20, "--overwrite")
    assert result.exit_code == 0, result.output


def test_a_command_leaves_the_process_as_it_was(png: Path) -> None:
    def state() -> list[object]:
        streams = [sys.stdin, sys.stdout, sys.stderr]
        return [Image.MAX_IMAGE_PIXELS, *map(signal.getsignal, SIGNALS), *streams, *(s and s.errors for s in streams)]

    for stdout in (io.TextIOWrapper(io.BytesIO(), "ascii", "strict"), None):
        with contextlib.redirect_stdout(stdout):
            before = state()
            for jobs, code in (("1", 0), ("2", 1)):  # the second time, its target exists
                with pytest.raises(SystemExit) as ended:
                    app(["compress", str(png), "--roi", f"{png}:+20", "--jobs", jobs])
                assert ended.value.code == code
                assert state() == before
        png.with_suffix(".aec").unlink()


def test_a_command_in_a_thread(png: Path) -> None:
    """Where no signal can be asked for."""
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(run, "compress", png).result().exit_code == 0


def test_pillows_limit_comes_back_with_the_last_thread() -> None:
    before = Image.MAX_IMAGE_PIXELS
    first, second = without_pillows_limit(), without_pillows_limit()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert Image.MAX_IMAGE_PIXELS is None
    second.__exit__(None, None, None)
    assert before == Image.MAX_IMAGE_PIXELS


def test_version() -> None:
    """In a tree that nobody has installed, too."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import aecodec; print(aecodec.__version__)"
    command = [sys.executable, "-S", "-c", code, str(Path(aecodec.__file__).parent.parent)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert run("--version").stdout == printed
    assert re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+\n", printed)


def test_messages_name_what_was_converted(tmp_path: Path) -> None:
    Image.fromarray(np.full((5, 5), 60000, np.uint16)).save(tmp_path / "deep.png")
    assert "16 bits" in run("compress", tmp_path / "deep.png").stderr


@pytest.mark.parametrize("orientation", [1, 6])
def test_stripped_metadata(tmp_path: Path, small_image: Image.Image, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x112], exif[0x10F] = orientation, "a camera"
    exif.get_ifd(0x8825)[1] = "N"  # where it was
    source, target = tmp_path / "photo.png", tmp_path / "photo.aec"
    small_image.save(source, exif=exif, icc_profile=SRGB)
    assert run("compress", source).exit_code == 0
    assert b"a camera" in target.read_bytes()
    assert run("compress", source, "--strip", "--overwrite").exit_code == 0
    kept = container.read(target.read_bytes()).metadata
    assert kept["icc"] == SRGB
    found = Image.Exif()
    found.load(b"Exif\0\0" + kept.get("exif", b"MM\0*\0\0\0\x08\0\0\0\0\0\0"))
    assert dict(found) == ({0x112: orientation} if orientation > 1 else {})


def test_sources_are_deleted_only_when_their_files_decode(png: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Codec, data: bytes) -> None:
        raise SymbolMismatch("broken memory")

    target = png.with_suffix(".aec")
    assert run("compress", png, "-o", "-", "--delete-source").exit_code == 2
    assert run("compress", "-", "-o", target, "--delete-source", stdin=png.read_bytes()).exit_code == 2
    assert left(png.parent) == {"photo.png"}
    with monkeypatch.context() as patch:
        patch.setattr(Codec, "verify", fail)
        assert run("compress", png, "--delete-source").exit_code == 3
    assert left(png.parent) == {"photo.png", "photo.aec"}
    result = run("compress", png, "--delete-source", "--overwrite", "--target-bytes", 1)
    assert result.exit_code == 5, "a target that is missed is no reason to lose the source"
    assert png.exists()
    result = run("compress", png, "--delete-source", "--overwrite")
    assert result.exit_code == 0
    assert "source deleted" in result.stderr
    assert left(png.parent) == {"photo.aec"}
    assert run("verify", target).exit_code == 0


@pytest.mark.parametrize("name", ["motion.jpg", "text.png", "deep.png", "two.gif"])
def test_a_source_that_holds_more_than_was_kept_stays(tmp_path: Path, small_image: Image.Image, name: str) -> None:
    path, info = tmp_path / name, PngInfo()
    info.add_text("Title", "of it")
    {
        "motion.jpg": lambda: small_image.save(path),
        "text.png": lambda: small_image.save(path, pnginfo=info),
        "deep.png": lambda: Image.fromarray(np.full((9, 9), 60000, np.uint16)).save(path),
        "two.gif": lambda: small_image.save(path, save_all=True, append_images=[small_image.rotate(90)]),
    }[name]()
    if name == "motion.jpg":
        path.write_bytes(path.read_bytes() + b"\0\0\0\x18ftypmp42")
    note = {
        "motion.jpg": "12 bytes behind the picture's end left out",
        "text.png": "text Title left out",
        "deep.png": "16 bits per sample reduced to 8",
        "two.gif": "first of 2 frames",
    }[name]
    result = run("compress", path, "--delete-source")
    assert result.exit_code == 0
    assert f"({note})" in result.stderr
    assert "source stays" in result.stderr
    assert path.exists()


def test_what_is_kept_lets_the_source_go(tmp_path: Path, small_image: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x010F] = "camera"
    path = tmp_path / "photo.jpg"
    small_image.save(path, exif=exif, dpi=(300, 300), xmp=b"<x/>", icc_profile=SRGB)
    assert run("compress", path, "--delete-source").exit_code == 0
    assert left(tmp_path) == {"photo.aec"}
    assert run("decompress", tmp_path / "photo.aec", "-o", path).exit_code == 0
    with Image.open(path) as image:
        assert image.info["dpi"] == (300, 300)
        assert (image.info["icc_profile"], image.getexif()[0x010F]) == (SRGB, "camera")


@pytest.mark.skipif(not hasattr(os, "fchmod"), reason="no such permissions here")
def test_permissions_and_the_date_go_on(png: Path) -> None:
    """Neither file may be read by more people than its source; the date is that of the source it takes the place of."""
    aec, back = png.with_suffix(".aec"), png.with_name("back.png")
    png.chmod(0o600)
    os.utime(png, (1_000_000_000, 1_000_000_000))
    assert run("compress", png, "--delete-source").exit_code == 0
    assert (aec.stat().st_mode & 0o777, int(aec.stat().st_mtime)) == (0o600, 1_000_000_000)
    assert run("decompress", aec, "-o", back).exit_code == 0
    assert back.stat().st_mode & 0o777 == 0o600
    back.chmod(0o777)
    assert run("compress", back).exit_code == 0
    assert not back.with_suffix(".aec").stat().st_mode & 0o111


@pytest.mark.parametrize("suffix", [".bmp", ".ppm", ".jp2"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_formats_without_profile_and_orientation(
    tmp_path: Path, small_image: Image.Image, suffix: str, mode: str
) -> None:
    """Get what is seen: the pixels turned and in sRGB."""
    if mode == "RGBA" and suffix != ".jp2":
        pytest.skip("no transparency there")
    exif = Image.Exif()
    exif[0x0112] = 6
    linear = profiles.make(profiles.SRGB_POINTS, (1.0,), gray=mode == "L")
    small_image.convert(mode).save(tmp_path / "a.png", exif=exif, icc_profile=linear)
    source, target, plain = tmp_path / "a.aec", tmp_path / f"b{suffix}", tmp_path / "c.png"
    assert run("compress", tmp_path / "a.png").exit_code == 0
    result = run("decompress", source, "-o", target)
    assert f"70x90 {mode}  (converted to sRGB by its profile)  (turned as its orientation says)" in result.stderr
    run("decompress", source, "-o", plain)
    with Image.open(target) as image, Image.open(plain) as as_stored:
        assert (image.size, image.mode) == ((70, 90), mode)
        before = np.asarray(as_stored.transpose(Image.Transpose.ROTATE_270)).astype(float) / 255
        after = np.asarray(image).astype(float)
    seen = 255 * np.where(before > 0.0031308, 1.055 * before ** (1 / 2.4) - 0.055, 12.92 * before)
    if mode == "RGBA":
        seen[:, :, 3] = 255
    np.testing.assert_allclose(after, seen, atol=6)  # in the darkest pixels, where a curve of 8 bits is coarse
    assert np.abs(after - seen).mean() < 1


def test_a_profile_of_another_space_reaches_no_file(tmp_path: Path, codec: Codec, small_image: Image.Image) -> None:
    plain = container.read(codec.compress(small_image, 10))
    gray = SRGB[:16] + b"GRAY" + SRGB[20:]
    (tmp_path / "a.aec").write_bytes(container.write(replace(plain, metadata={"icc": gray})))
    result = run("decompress", tmp_path / "a.aec")
    assert (result.exit_code, "it is for GRAY, not for RGB" in result.stderr) == (0, True)
    with Image.open(tmp_path / "a.png") as image:
        assert "icc_profile" not in image.info


def test_the_limit_of_pixels(png: Path) -> None:
    assert run("compress", png, "--max-pixels", 90 * 70 - 1).exit_code == 4
    assert run("compress", png, "--max-pixels", 90 * 70).exit_code == 0
    png.unlink()
    for command in ("decompress", "verify"):
        result = run(command, png.with_suffix(".aec"), "--max-pixels", 1000)
        assert result.exit_code == 4
        assert "more than the limit of 1000" in result.output


def test_a_region_a_small_version_and_a_preview(tmp_path: Path, codec: Codec, photo: Plane) -> None:
    source, target = tmp_path / "p.aec", tmp_path / "p.png"
    source.write_bytes(codec.compress(photo, 50))

    def decoded(*arguments: object) -> Plane:
        assert run("decompress", source, "-o", target, "--overwrite", *arguments).exit_code == 0
        with Image.open(target) as image:
            return np.asarray(image)

    whole = codec.decompress(source.read_bytes(), "numpy")
    np.testing.assert_allclose(decoded("--region", "30,400,70,60").astype(int), whole[400:460, 30:100], atol=1)
    assert decoded("--scale", "1/8").shape == (64, 64, 3)
    assert decoded("--scale", "1/2", "--region", "0,0,100,51").shape == (26, 50, 3)
    assert run("compress", target, "-o", source, "--thumbnail", "--overwrite").exit_code == 0
    parsed = container.read(source.read_bytes())
    thumbnail = container.write(container.thumbnail(parsed.header, parsed.metadata["thumbnail"]))
    np.testing.assert_array_equal(decoded("--scale", "1/8"), codec.decompress(thumbnail, "numpy"))
    source.write_bytes(codec.compress(photo, 50))
    assert decoded("--preview", source.stat().st_size // 2).shape == whole.shape
    np.testing.assert_array_equal(decoded("--preview", 10**9), whole)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--region", "1,2,3"], 2, "region 1,2,3: expected x,y,width,height"),
        (["--region", "0,0,100,1"], 1, "gray.aec: region 0,0,100,1: not within the 60x37 pixels"),
        (["--scale", "1/3"], 2, "1/3"),
        (["--preview", "0"], 2, "greater than or equal to 1"),
        (["--preview", "30"], 3, "gray.aec: chunk 'HEAD'"),
    ],
)
def test_parts_that_there_are_not(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    result = run("decompress", FOLDER / "gray.aec", "-o", tmp_path / "x.png", *arguments)
    assert result.exit_code == code
    assert said in result.output
    assert not list(tmp_path.iterdir())


def test_options_that_exclude_each_other(png: Path) -> None:
    for command, path in (("compress", png), ("decompress", FOLDER / "gray.aec")):
        result = run(
            command,
            path,
            "-o",
            png.parent / "out.png" if command == "decompress" else png.parent / "out.aec",
            "--overwrite",
            "--skip-existing",
        )
        assert result.exit_code == 2
        assert "exclude each other" in result.output
    assert left(png.parent) == {"photo.png"}
