"""What the documentation shows: the reference is that of the code, the examples run, and the links lead somewhere."""

import contextlib
import io
import re
import runpy
import shlex
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import aecodec
from aecodec.cli import app

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def sections(name: str) -> Iterator[Any]:
    """The code blocks of each section that has some: language and text."""
    for section in re.split(r"^## ", (DOCS / name).read_text("utf-8"), flags=re.M)[1:]:
        title = section.splitlines()[0]
        if blocks := re.findall(r"^```(python|sh)\n(.*?)^```$", section, re.M | re.S):
            absent = "--engine ray" in section and not find_spec("ray")
            marks = [pytest.mark.skipif(absent, reason="needs the extra [ray]")]
            yield pytest.param(blocks, id=f"{name}: {title}", marks=marks)


# the section of the README that shows what there is
README = [example for example in sections("../README.md") if str(example.id).endswith(": Use")]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that the examples run in. Modules that they write and import there are forgotten."""
    with Image.open(DOCS / "sample.jpg") as photo:
        photo.save(tmp_path / "photo.jpg", quality="keep")
        (tmp_path / "photos").mkdir()
        for i, suffix in enumerate(("png", "jpg", "png")):
            photo.crop((i * 150, i * 120, i * 150 + 128, i * 120 + 96)).save(tmp_path / f"photos/{i}.{suffix}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    modules, threads = set(sys.modules), torch.get_num_threads()
    yield tmp_path
    for name in {path.stem for path in tmp_path.glob("*.py")} - modules:
        sys.modules.pop(name, None)
    torch.set_num_threads(threads)  # which several jobs at once change


def run_shell(text: str) -> None:
    for line in text.splitlines():
        name, *words = shlex.split(line, comments=True)
        if name == "aecodec":
            result = CliRunner().invoke(app, words)
            assert result.exit_code == 0, f"{line}\n{result.output}"


def run_python(text: str, namespace: dict[str, Any]) -> None:
    """Run a block, or write it to the file that its first line names. What it prints is what comments say of it."""
    if found := re.match(r"# (\w+\.py)\n", text):
        Path(found[1]).write_text(text)
        return
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(text, "example", "exec"), namespace)
    assert printed.getvalue().splitlines() == re.findall(r"^ *print\(.*\)  # (.*)$", text, re.M)


@pytest.mark.slow
@pytest.mark.filterwarnings("default:.*multi-threaded:DeprecationWarning")  # from Python 3.12, for forks
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # of two processes for one core
@pytest.mark.filterwarnings("default:`use_:DeprecationWarning")  # of what Ray itself does
@pytest.mark.parametrize(
    "blocks", [*README, *sections("QUICKSTART.md"), *sections("COOKBOOK.md"), *sections("AUTOENCODERS.md")]
)
@pytest.mark.usefixtures("place")
def test_examples_run(blocks: list[tuple[str, str]]) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for language, text in blocks:
        if language == "sh":
            run_shell(text)
        else:
            run_python(text, namespace)


@pytest.fixture
def port(place: Path) -> Iterator[int]:
    """Of the cookbook's web server, which serves the folder ``packed``."""
    (text,) = re.findall(r"^```python\n(# server.py\n.*?)^```$", (DOCS / "COOKBOOK.md").read_text("utf-8"), re.M | re.S)
    (place / "server.py").write_text(text)
    (place / "packed").mkdir()
    module = runpy.run_path("server.py")
    server = module["server"](place / "packed", 0)
    module["Handler"].log_message = lambda *_: None
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def get(port: int, path: str, accept: str = "*/*") -> tuple[int, str, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path, headers={"Accept": accept})
    response = connection.getresponse()
    found = response.status, response.headers["Content-Type"], response.read()
    connection.close()
    return found


def test_web_server(port: int, place: Path) -> None:
    image = Image.new("RGBA", (40, 24), (0, 0, 200, 0))
    image.getexif()[0x112] = 6  # lies on its side
    data = aecodec.Codec().compress(image)
    (place / "packed" / "a-1.aec").write_bytes(data)
    (place / "secret.aec").write_bytes(data)
    browser = "image/avif,image/webp,image/png;q=0.8,*/*;q=0.5"
    for accept, kind in ((browser, "webp"), ("*/*", "jpeg"), ("image/webp;q=0, image/*", "jpeg")):
        status, content, body = get(port, "/a-1.aec?x=1", accept)
        assert (status, content) == (200, f"image/{kind}")
        with Image.open(io.BytesIO(body)) as sent:
            assert sent.format == kind.upper()
            assert sent.size == (24, 40)
            assert not sent.getexif()
            if kind == "jpeg":
                assert sent.getpixel((12, 20)) == (255, 255, 255)
    assert get(port, "/a-1.aec", "image/png, */*;q=0")[0] == 406


@pytest.mark.parametrize(
    "path", ["/", "/b.aec", "/../secret.aec", "/%2e%2e/secret.aec", "/..%2Fsecret.aec", "/%00.aec", f"/{'a' * 999}.aec"]
)
def test_web_server_finds_nothing_elsewhere(port: int, place: Path, path: str) -> None:
    (place / "secret.aec").write_bytes(aecodec.compress(Image.new("L", (9, 9))))
    assert get(port, path)[0] == 404


def test_web_server_and_bad_files(port: int, place: Path) -> None:
    expected = {
        "BadChecksum-of-a-tile": 422,
        "NotAec-png": 422,
        "Truncated-2^28-pixels-in-one-tile": 413,  # what the server's limit refuses, before the default would
        "UnknownModel": 415,
        "UnsupportedFeature-flags": 415,
        "UnsupportedVersion-2": 415,
    }
    for name, status in expected.items():
        data = (ROOT / "tests" / "corrupt" / f"{name}.aec").read_bytes()
        (place / "packed" / "bad.aec").write_bytes(data)
        assert get(port, "/bad.aec")[0] == status, name


@pytest.mark.parametrize("name", ["cli", "api"])
def test_reference_is_that_of_the_code(name: str) -> None:
    """If not: `python docs/make_reference.py`."""
    made = runpy.run_path(str(DOCS / "make_reference.py"))[name]()
    assert (DOCS / f"{name.upper()}.md").read_text("utf-8") == made


def test_reference_is_complete() -> None:
    api = (DOCS / "API.md").read_text("utf-8")
    missing = [name for name in aecodec.__all__ if not re.search(rf"^(#+ |\** *\* |`){name}\b", api, re.M)]
    assert not missing


def anchors(path: Path) -> set[str]:
    """What GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "source", sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")]), ids=lambda path: str(path.relative_to(ROOT))
)
def test_links_lead_somewhere(source: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", source.read_text("utf-8"), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if not link.startswith(("http://", "https://")):
            name, _, anchor = link.partition("#")
            target = (source.parent / name).resolve() if name else source
            assert target.exists(), link
            assert target.is_relative_to(ROOT), link
            assert not anchor or anchor in anchors(target), link
