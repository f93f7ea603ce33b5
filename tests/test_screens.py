"""The screens of the bench: sources do not overlap, plans follow the seed, and what is drawn shows something."""

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import islice
from pathlib import Path
from random import Random
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import bench.__main__
from bench import screens
from bench.screens import Package
from bench.screens.browser import Browser, browse
from bench.screens.charts import CHARTS, chart
from bench.screens.lineart import SKETCHES
from bench.screens.sources import TEST, TRAINING, Sources, Spec

SETS = pytest.mark.parametrize("sources", [TRAINING, TEST], ids=["training", "test"])
FONTS = [str(path) for path in Path(mpl.get_data_path(), "fonts", "ttf").glob("*.ttf")]
FOUND = {
    name: Package("1", tuple(f"/usr/share/{name}/{kind}/{n}{kind}" for n in range(9) for kind in (".html", ".svg")))
    for sources in (TRAINING, TEST)
    for name in (*sources.documents, *sources.drawings)
}


def spec(kind: str, file: str, theme: str = screens.OWN, seed: int = 1) -> Spec:
    return Spec(kind, "somewhere", "1", file, theme, 400, 300, 2, 1.0, seed)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(bench.__main__.app, [str(a) for a in arguments])


# sources and plans


def _sources(sources: Sources) -> dict[str, set[object]]:
    themes = sources.themes
    colours = ("ground", "ink", "link", "box", "heading")
    return {
        "packages": {*sources.documents, *sources.drawings, *sources.fonts},
        "families": {*sources.generic, *(family for theme in themes for family in (theme.text, theme.code))},
        "themes": {theme.name for theme in themes},
        "style sheets": {tuple(getattr(theme, colour) for colour in colours) for theme in themes},
        "styles": {*sources.styles},
        "sketches": {*sources.sketches},
    }


def test_the_sources_of_the_two_sets_do_not_overlap() -> None:
    training, test = _sources(TRAINING), _sources(TEST)
    assert {what: training[what] & test[what] for what in training} == {what: set() for what in training}


@SETS
def test_every_source_is_one_that_there_is(sources: Sources) -> None:
    assert {*sources.styles} <= {"default", *mpl.style.available}
    assert {*sources.sketches} <= {*SKETCHES}


def test_sizes_are_those_that_the_trainer_and_a_run_of_minutes_need() -> None:
    sizes = {sources: [(w * scale, h * scale) for w, h, scale in sources.views] for sources in (TRAINING, TEST)}
    assert min(min(size) for size in sizes[TRAINING]) >= 520
    assert all(width <= 800 and height <= 600 for width, height in sizes[TEST])


@SETS
@pytest.mark.parametrize("kind", screens.KINDS)
def test_the_same_seed_draws_the_same_plan(kind: str, sources: Sources) -> None:
    first, again, other = (list(islice(screens.plan(kind, sources, FOUND, seed), 40)) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    known = {"", "matplotlib", *sources.documents, *sources.drawings}
    assert {one.package for one in first} <= known
    assert {one.theme for one in first} <= {screens.OWN, *sources.styles, *(theme.name for theme in sources.themes)}
    assert len({one.theme for one in first}) > 3


def test_a_missing_package_is_named_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    present = {"chromium", *TRAINING.documents[1:], *TRAINING.drawings, *TRAINING.fonts[:-1]}
    lines = [f"{name}\t1\tinstalled" for name in present] + [f"{TRAINING.documents[0]}\t\tnot-installed"]
    monkeypatch.setattr(screens, "_dpkg", lambda *_: lines)
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/dpkg-query")
    result = run("screens", tmp_path / "out")
    missing = f"{TRAINING.documents[0]} {TRAINING.fonts[-1]}"
    assert result.exit_code == 1
    assert result.stderr == f"not installed; run: apt-get install --no-install-recommends {missing}\n"
    assert not (tmp_path / "out").exists()


def test_a_package_without_its_documents_is_named() -> None:
    found = FOUND | {name: Package("1", ("/usr/share/doc/copyright",)) for name in TEST.documents}
    with pytest.raises(screens.ScreensError, match="without its documents"):
        next(screens.plan("page", TEST, found, 1))


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    result = run("screens", tmp_path)
    assert (result.exit_code, result.stderr) == (1, f"{tmp_path}: not empty\n")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


# charts and line art


@pytest.mark.slow
@pytest.mark.parametrize("kind", CHARTS)
def test_every_chart_shows_something_and_the_same_again(kind: str) -> None:
    style = TEST.styles[0]
    first, again, other = (chart(spec("chart", kind, style, seed), "DejaVu Sans") for seed in (1, 1, 2))
    assert first.size == (800, 600)
    assert first.tobytes() == again.tobytes() != other.tobytes()
    assert screens._ink(first) > 0.03


@pytest.mark.parametrize("name", SKETCHES)
def test_every_sketch_is_sound_svg_and_the_same_again(name: str) -> None:
    first, again, other = (SKETCHES[name](Random(seed), 640, 480, TEST.themes[0]) for seed in (1, 1, 2))
    assert first == again != other
    root = ElementTree.fromstring(first)
    assert len(root) > 20
    assert {"text"} < {part.tag.rpartition("}")[2] for part in root.iter()}


# pages


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not shutil.which("chromium"):
        pytest.skip("needs Chromium")
    with browse(FONTS, ("DejaVu Serif", "DejaVu Sans", "DejaVu Sans Mono")) as opened:
        yield opened


def _page(folder: Path, body: str) -> str:
    path = folder / "page.html"
    path.write_text(f"<!DOCTYPE html><meta charset=utf-8><body>{body}", "utf-8")
    return path.as_uri()


def test_a_page_shows_its_text_in_the_colours_of_the_theme(browser: Browser, tmp_path: Path) -> None:
    address = _page(tmp_path, "<h1>Title</h1>" + "<p>Words, and more words. Ελληνικά, кириллица.</p>" * 40)
    theme = TEST.themes[2]
    shown = browser.open(address, spec("page", ""), theme, screens.LEAST_TEXT)
    assert shown
    assert shown.size == (800, 600)
    assert max(shown.getcolors(1 << 20) or [])[1] == tuple(bytes.fromhex(theme.ground[1:]))
    assert 0.03 < screens._ink(shown) < 0.6
    plain = browser.open(address, spec("page", ""), None, screens.LEAST_TEXT)
    assert plain
    assert max(plain.getcolors(1 << 20) or [])[1] == (255, 255, 255)


def test_a_page_that_is_mostly_empty_or_never_done_is_passed_over(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert browser.open(_page(tmp_path, "<p>Moved."), spec("page", ""), None, screens.LEAST_TEXT) is None
    assert browser.open((tmp_path / "gone.html").as_uri(), spec("page", ""), None, 0) is None
    monkeypatch.setattr("bench.screens.browser.SECONDS", 2)
    assert browser.open(_page(tmp_path, "<script>for (;;);</script>"), spec("page", ""), None, 0) is None
    monkeypatch.undo()
    assert browser.open(_page(tmp_path, "Words. " * 999), spec("page", ""), None, screens.LEAST_TEXT)


def test_a_page_reaches_no_host(browser: Browser, tmp_path: Path) -> None:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        picture = f'<img src="http://127.0.0.1:{server.server_port}/picture.png">'
        assert browser.open(_page(tmp_path, picture + "Words. " * 999), spec("page", ""), None, screens.LEAST_TEXT)
        server.shutdown()
    assert asked == []


def test_a_drawing_fills_its_cell_whatever_size_it_says(browser: Browser, tmp_path: Path) -> None:
    shares = []
    for size in ('width="10" height="10"', 'viewBox="0 0 10 10"', 'width="900" height="900" viewBox="0 0 10 10"'):
        path = tmp_path / "square.svg"
        path.write_text(f'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" {size}>'
                        '<rect width="10" height="10" fill="#f00"/></svg>')  # fmt: skip
        one = spec("line", str(path), TEST.themes[0].name)
        shown = screens.picture(one, TEST, {"somewhere": Package("1", (str(path),))}, browser)
        assert shown
        red, green, _ = np.asarray(shown).astype(int).transpose(2, 0, 1)
        shares.append(np.mean((red > 200) & (green < 60)))
    assert min(shares) == max(shares) > 0.2


@pytest.mark.slow
def test_a_set_is_drawn_with_a_manifest_of_its_sources(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("full", "empty"):
        (tmp_path / f"{name}.html").write_text("<p>Words. " + "Words. " * 999 * (name == "full"))
    drawing = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><circle cx="5" cy="5" r="4"/></svg>'
    (tmp_path / "circle.svg").write_text(drawing)
    files = {"pages": ["full.html", "empty.html"], "icons": ["circle.svg"], "letters": FONTS, "chromium": []}
    found = {name: Package("7-1", tuple(str(tmp_path / file) for file in files[name])) for name in files}
    monkeypatch.setattr(screens, "packages", lambda names: {name: found[name] for name in names})
    sources = TEST._replace(documents=("pages",), drawings=("icons",), fonts=("letters",))
    shown: list[int] = []
    screens.draw(tmp_path / "new" / "set", sources, 6, 3, lambda: shown.append(1))
    manifest = json.loads((tmp_path / "new" / "set" / "manifest.json").read_text())
    names = [picture["name"] for picture in manifest["pictures"]]
    assert names == [
        f"{kind}_{n:03}.png" for kind, many in zip(screens.KINDS, (3, 2, 2), strict=True) for n in range(many)
    ]
    assert len(shown) == len(names)
    assert {path.name for path in (tmp_path / "new" / "set").iterdir()} == {*names, "manifest.json"}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["set"]
    assert manifest["packages"] == dict.fromkeys(files, "7-1") | {"matplotlib": mpl.__version__}
    for picture in manifest["pictures"]:
        with Image.open(tmp_path / "new" / "set" / picture["name"]) as image:
            assert (
                [*image.size] == picture["pixels"] == [picture[side] * picture["scale"] for side in ("width", "height")]
            )
    assert {picture["file"] for picture in manifest["pictures"][:3]} == {str(tmp_path / "full.html")}
