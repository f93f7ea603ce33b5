"""A CPU does without torch, and what does not says so in one sentence."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from aecodec.image import Plane

HIDDEN = "import sys; sys.modules['torch'] = None\n"
RUN = HIDDEN + "from aecodec.cli import app; app()"


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def picture(small: Plane, tmp_path: Path) -> Path:
    Image.fromarray(small).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_command_line(picture: Path, tmp_path: Path) -> None:
    file, again = tmp_path / "a.aec", tmp_path / "b.png"
    for command in (
        ("compress", picture, "--target-ssimulacra2", 60, "--thumbnail"),
        ("decompress", file, again),
        ("decompress", file, tmp_path / "c.png", "--scale", "1/8"),
        ("verify", file),
        ("info", file),
        ("doctor",),
    ):
        done = run(RUN, *command)
        assert (done.returncode, "torch" in done.stderr) == (0, False), done.stderr
    with Image.open(again) as image:
        assert image.size == (90, 70)


LIBRARY = """
import aecodec, numpy
from PIL import Image
aecodec.register_pillow()
picture = Image.effect_noise((70, 50), 60)
data = aecodec.compress(picture)
assert aecodec.decompress(data).size == (70, 50)
codec = aecodec.Codec("cpu")
codec.compress_to(picture, size=2000)
assert [len(d) for d in codec.compress_many([picture])] == [len(data)]
codec.preview(data[:300])
print("torch" in sys.modules and sys.modules["torch"] is not None)
"""


@pytest.mark.parametrize("start", [HIDDEN, "import sys\n"])
def test_library(start: str) -> None:
    """Nor is it imported where it is there."""
    done = run(start + LIBRARY)
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "purpose"),
    [
        (("--effort", "1"), 2, "an effort"),
        (("--device", "cuda"), 2, "device cuda"),
    ],
)
def test_what_needs_it(picture: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, purpose: str) -> None:
    done = run(RUN, "compress", picture, *arguments)
    assert done.returncode == code
    assert f"{purpose} needs torch: pip install 'aecodec[torch]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "a.aec").exists()


def test_a_tensor_and_training(tmp_path: Path) -> None:
    tensor = "import aecodec, numpy\ndata = aecodec.compress(numpy.zeros((9, 9), numpy.uint8))\n"
    done = run(HIDDEN + tensor + "aecodec.decompress(data, 'torch')")
    assert "TorchMissing: a tensor needs torch" in done.stderr
    done = run(RUN, "train", "--data", tmp_path, "--out", tmp_path / "run")
    assert (done.returncode, done.stderr) == (2, "aecodec: torch is missing: pip install 'aecodec[train]'\n")


def test_a_gpu_without_torch(tmp_path: Path) -> None:
    """It is said once, and the CPU computes."""
    (tmp_path / "driver").touch()
    program = f"from aecodec import Codec, devices\ndevices.DRIVERS = ({str(tmp_path / 'driver')!r},)\n"
    program += "import warnings; warnings.simplefilter('always')\nprint(Codec().device, Codec().device)"
    done = run(HIDDEN + program)
    assert done.stdout == "cpu cpu\n"
    assert done.stderr.count("a GPU needs torch") == 1
