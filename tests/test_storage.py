"""Files and folders on disks and in object stores."""

import os
import pickle
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from aecodec.files import UsageError

pytest.importorskip("pyarrow")

from aecodec.storage import Place

from .conftest import PERMISSIONS, SECRET


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "disk":
        return Place.at(str(tmp_path))
    return Place.at(request.getfixturevalue("bucket").format(tmp_path.name))


def test_there_and_back(place: Place) -> None:
    file = place / "a b/ü%.bin"
    assert not file.exists()
    file.write(b"content")
    assert file.is_file()
    assert (place / "a b").exists()
    assert not (place / "a b").is_file()
    assert pickle.loads(pickle.dumps(file)).read() == b"content"
    with file.open() as opened:
        opened.seek(3)
        assert opened.read() == b"tent"
    file.remove()
    assert not file.exists()


def test_large_files_are_there_when_they_are_whole(place: Place) -> None:
    file = place / "new/large"
    with pytest.raises(RuntimeError, match="stopped"), file.create() as opened:
        opened.write(b"some")
        raise RuntimeError("stopped")
    assert not file.exists()
    assert (place / "new").children() == []
    with file.create() as opened:
        opened.write(b"all of it")
        assert not file.exists()
    assert file.read() == b"all of it"
    with file.create() as opened:
        opened.write(b"anew")
    assert file.read() == b"anew"


def test_walk(place: Place) -> None:
    for name in ("b.png", "a.PNG", "a.txt", "._c.png", "x/1.png", "x/y/2.jpg", "x y/3.png", "z/4.txt"):
        (place / name).write(b"12")
    found = list(place.walk({".png", ".jpg"}))
    assert found == [
        [("a.PNG", 2), ("b.png", 2)],
        [("x/1.png", 2)],
        [("x/y/2.jpg", 2)],
        [("x y/3.png", 2)],
    ]
    assert list((place / "none").walk({".png"})) == []


def test_what_is_missing(place: Place) -> None:
    with pytest.raises(FileNotFoundError) as error:
        (place / "none").read()
    assert (error.value.filename, error.value.strerror) == (f"{place.name}/none", "No such file or directory")


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links here")
def test_links(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").touch()
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "other.png").symlink_to(tmp_path / "a" / "1.png")
    found = [name for folder in Place.at(str(tmp_path)).walk({".png"}) for name, _ in folder]
    assert found == ["a/1.png", "a/other.png"]


@PERMISSIONS
def test_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o000)
    assert list(Place.at(str(tmp_path)).walk({".png"})) == [[("closed", 0)]]


def test_names_tell_no_secrets(bucket: str) -> None:
    place = Place.at(bucket.format("below"))
    assert (place / "a").name == "s3://bucket/below/a"
    with pytest.raises(FileNotFoundError) as error:
        (place / "a").read()
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("url", ["s3x://a:secret@b/c?x=y", "gs://b/x?none=secret", "s3://b/with space"])
def test_no_url(url: str) -> None:
    with pytest.raises(UsageError, match="no URL that can be used") as error:
        Place.at(url)
    assert "secret" not in str(error.value)


@pytest.fixture
def closed() -> Iterator[int]:
    """The port of an S3 server that lets nobody in."""

    class Handler(BaseHTTPRequestHandler):
        def refuse(self) -> None:
            body = b"<Error><Code>InvalidAccessKeyId</Code><Message>Who are you?</Message></Error>"
            self.send_response(403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_PUT = do_POST = refuse  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_credentials_that_fail(closed: int) -> None:
    place = Place.at(f"s3://key:{SECRET}@bucket/x?endpoint_override=127.0.0.1:{closed}&scheme=http&region=us-east-1")
    for call in (place.exists, place.read, place.children, lambda: place.write(b"")):
        with pytest.raises(OSError, match=r"ACCESS_DENIED|INVALID_ACCESS_KEY_ID") as error:
            call()
        assert "\n" not in str(error.value)
        assert SECRET not in str(error.value)


def test_names_that_open_nothing(tmp_path: Path) -> None:
    """They are listed, for what reads them to fail, and the others go on."""
    (tmp_path / "good.png").touch()
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")) / "x").mkdir(parents=True)
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")).touch()
    found = [name for folder in Place.at(str(tmp_path)).walk({".png"}) for name, _ in folder]
    assert found == [r"\xff.png", "good.png", r"\xff"]
