"""Every attack of the corpus gets the error that its name says, whatever is asked for, and none takes much memory."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from aecodec import AecError, Codec, container, errors

from . import fuzz
from .conftest import GOLDEN
from .make_corrupt import FOLDER, attacks

FILES = sorted(FOLDER.glob("*.aec"))


def test_all_are_there() -> None:
    assert [path.stem for path in FILES] == sorted(name.replace(" ", "-") for name in attacks())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_attack(codec: Codec, path: Path) -> None:
    data, expected = path.read_bytes(), getattr(errors, path.stem.partition("-")[0])
    for use in (codec.decompress, codec.verify):
        with pytest.raises(AecError) as caught:
            use(data)
        assert type(caught.value) is expected


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_salvage_of_an_attack(path: Path) -> None:
    """A picture of the header's size, unless there is no header to trust or something that this release cannot know."""
    small, data = Codec(device="cpu", max_pixels=1 << 20), path.read_bytes()
    try:
        header = container.read_header(data, small.max_pixels)
    except AecError as error:
        with pytest.raises(type(error)):
            small.decompress(data, errors="conceal")
        return
    if path.stem in ("UnknownModel", "UnsupportedFeature-critical-chunk"):
        with pytest.raises(AecError):
            small.decompress(data, errors="conceal")
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert small.decompress(data, errors="conceal").size == (header.width, header.height)


# a first picture brings the libraries in; the limit is for what a file adds
PEAK = """
import resource, sys
from aecodec import Codec
codec = Codec(device="cpu")
with open(sys.argv[1], "rb") as file:
    codec.decompress(file.read())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(codec.decompress(sys.stdin.buffer.read()).size)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in other units")
def test_a_tiny_file_takes_little_memory(codec: Codec) -> None:
    """The largest picture of one tile without any words: the most that 57 bytes can ask for."""
    data = fuzz.without_words(codec, 512, 512)
    assert len(data) <= 60
    program = (sys.executable, "-c", PEAK, str(GOLDEN[0]))
    done = subprocess.run(program, input=data, capture_output=True, check=True)
    size, kibibytes = done.stdout.decode().splitlines()
    assert size == "(512, 512)"
    assert int(kibibytes) < 64 * 1024


@pytest.mark.slow
def test_mutated_files() -> None:
    """A short run of `tests.fuzz`."""
    found = fuzz.run(1500, seed=1)
    assert sum(found.values()) == 1500
    assert found["decoded"] < 150, "only changes of metadata are not seen"
    assert len(found) > 6, "many kinds of errors are reached"
