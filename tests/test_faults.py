"""What goes wrong around the codec: kills, signals, full disks, other writers. No half file, no lost input."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from aecodec import Codec, files
from aecodec.cli import app
from aecodec.image import Plane

from . import kills
from .conftest import INTERRUPTS
from .make_golden import FOLDER

TOOL = (sys.executable, "-m", "aecodec")


@pytest.mark.slow
def test_kills() -> None:
    """A short run of `tests.kills`."""
    found = kills.run(8, seed=1)
    assert sum(found.values()) == 8


@pytest.fixture
def batch(tmp_path: Path, photo: Plane) -> Path:
    """A folder of images that take seconds together."""
    (tmp_path / "in").mkdir()
    for i in range(8):
        Image.fromarray(np.roll(photo, 50 * i, 1)).save(tmp_path / "in" / f"{i}.png")
    return tmp_path


@pytest.mark.slow
@INTERRUPTS
@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_a_batch(codec: Codec, batch: Path, number: signal.Signals, code: int) -> None:
    """After the first file: those that are there are whole, and nothing else is."""
    arguments = ("compress", "-r", str(batch / "in"), "-o", str(batch / "out"), "--effort", "2")
    with subprocess.Popen([*TOOL, *arguments], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        assert "0.png" in process.stderr.readline()
        process.send_signal(number)
        rest = process.stderr.read()
        assert process.wait(60) == code, rest
    assert "Traceback" not in rest
    written = sorted(path.name for path in (batch / "out").iterdir())
    assert written == [f"{i}.aec" for i in range(len(written))]
    assert 1 <= len(written) < 8
    for name in written:
        codec.verify((batch / "out" / name).read_bytes())
    assert len(list((batch / "in").iterdir())) == 8


@pytest.mark.slow
def test_two_processes_and_two_threads_write_the_same_file(tmp_path: Path) -> None:
    """Whoever reads sees one of them whole."""
    target = tmp_path / "a.aec"
    contents = [bytes((i,)) * 300_000 for i in range(4)]
    files.write(target, contents[0])
    others = [get_context("spawn").Process(target=_rewrite, args=(target, contents[i])) for i in (0, 1)]
    with ThreadPoolExecutor(2) as pool:
        for process in others:
            process.start()
        tasks = [pool.submit(_rewrite, target, contents[i]) for i in (2, 3)]
        seen = set()
        while any(process.is_alive() for process in others):
            found = target.read_bytes()
            assert found in contents
            seen.add(found[0])
        for task in tasks:
            task.result()
    assert [process.exitcode for process in others] == [0, 0]
    assert len(seen) > 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.aec"]


def _rewrite(target: Path, content: bytes) -> None:
    for _ in range(100):
        files.write(target, content)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place))
    if sys.platform != "linux" or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted")
    yield place
    subprocess.run(("umount", str(place)), check=True)


def test_a_full_disk(codec: Codec, photo: Plane, tmp_path: Path, small_disk: Path) -> None:
    """What fits is written; what does not leaves neither a part of itself nor the old file damaged."""
    sources = [tmp_path / f"{name}.png" for name in ("large", "small")]
    for source, side in zip(sources, (512, 64), strict=True):
        Image.fromarray(photo[:side, :side]).save(source)
    old = codec.compress(photo[:64, :64])
    (small_disk / "large.aec").write_bytes(old)
    options = ("-q", "95", "-o", str(small_disk), "--overwrite", "--delete-source")
    result = CliRunner().invoke(app, ["compress", *map(str, sources), *options])
    assert result.exit_code == 1
    assert "No space left" in result.stderr
    assert sorted(path.name for path in small_disk.iterdir()) == ["large.aec", "small.aec"]
    assert (small_disk / "large.aec").read_bytes() == old
    codec.verify((small_disk / "small.aec").read_bytes())
    assert [source.exists() for source in sources] == [True, False]


def test_the_partial_file_is_a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a link nor a file of that name is written to, or removed."""
    monkeypatch.setattr("secrets.token_hex", lambda _: "known")
    partial, other = tmp_path / ".a.aec.known.partial", tmp_path / "other"
    other.write_bytes(b"another's")
    partial.symlink_to(other)
    with pytest.raises(FileExistsError):
        files.write(tmp_path / "a.aec", b"new")
    assert partial.is_symlink()
    assert other.read_bytes() == b"another's"
    partial.unlink()
    files.write(tmp_path / "a.aec", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"other": b"another's", "a.aec": b"new"}


def test_a_limit_of_file_size(tmp_path: Path) -> None:
    """As a full disk, where none can be mounted."""
    resource = pytest.importorskip("resource")
    target = tmp_path / "a.aec"
    target.write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="too large") as caught:
            files.write(target, bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.filename == str(target)
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.aec"]


def test_an_image_is_not_written_over_by_way_of_a_link(tmp_path: Path, small_image: Image.Image) -> None:
    source = tmp_path / "photo.png"
    small_image.save(source)
    before = source.read_bytes()
    (tmp_path / "photo.aec").symlink_to(source)
    result = CliRunner().invoke(app, ["compress", str(source), "--overwrite", "--delete-source"])
    assert result.exit_code == 2
    assert "over itself" in result.stderr
    assert source.read_bytes() == before


@pytest.mark.parametrize(
    ("command", "unbuffered"), [("verify -r .", ""), ("info 0.aec", ""), ("info 0.aec", "1"), ("decompress - -o -", "")]
)
def test_a_pipe_that_nobody_reads_ends_the_command_without_a_word(
    tmp_path: Path, command: str, unbuffered: str
) -> None:
    (tmp_path / "0.aec").write_bytes((FOLDER / "rgb.aec").read_bytes())
    end, start = os.pipe()
    os.close(end)
    with (tmp_path / "0.aec").open("rb") as source:
        done = subprocess.run(
            (*TOOL, *command.split()),
            check=False,
            cwd=tmp_path,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            stdin=source,
            stdout=start,
            stderr=subprocess.PIPE,
        )
    os.close(start)
    assert (done.returncode, done.stderr) == (1, b"")


def test_no_file_is_written_to_a_terminal(tmp_path: Path, small_image: Image.Image) -> None:
    pty = pytest.importorskip("pty")
    small_image.save(tmp_path / "photo.png")
    controller, terminal = pty.openpty()
    for arguments in (("photo.png", "-o", "-"), ("-",)):
        with (tmp_path / "photo.png").open("rb") as source:
            command = [*TOOL, "compress", *arguments]
            done = subprocess.run(
                command, check=False, cwd=tmp_path, stdin=source, stdout=terminal, stderr=subprocess.PIPE, text=True
            )
        assert (done.returncode, "no file is written to a terminal" in done.stderr) == (2, True)
    for name in (os.ttyname(terminal), f"/dev/fd/{terminal}"):
        with pytest.raises(files.UsageError, match="terminal"):
            files.write(Path(name), b"binary")
    os.close(terminal)
    os.close(controller)


@pytest.mark.slow
def test_closed_streams(tmp_path: Path, small_image: Image.Image) -> None:
    """As a daemon starts it: there is nobody to tell, but the work is done. What one asks for has to be there."""
    small_image.save(tmp_path / "photo.png")

    def code(*arguments: str) -> int:
        command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *TOOL, *arguments]
        return subprocess.run(command, check=False, cwd=tmp_path).returncode

    assert code("compress", "photo.png") == 0
    assert code("verify", "photo.aec") == 0
    assert code("verify", "photo.png") == 3
    assert code("info", "-") == 3
    assert code("decompress", "photo.aec", "-o", "-") == 1
