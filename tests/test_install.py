"""What is built installs and works, away from the source tree."""

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from aecodec import registry

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source distribution, which has to have everything that this needs."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--outdir", str(folder), "--no-isolation", str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (found,) = folder.glob("*.whl")
    return found


def test_what_the_distributions_hold(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        assert file.read("aecodec/weights/base.safetensors") == (registry.folder() / "base.safetensors").read_bytes()
    assert {"aecodec/codec.py", "aecodec/py.typed", "aecodec/weights/base.md"} <= names
    assert not {name for name in names if not name.startswith(("aecodec/", "aecodec-"))}
    (source,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        inside = {name.split("/", 1)[1] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "docs/FORMAT.md", "tests/golden/rgb.aec", "weights/base.safetensors"} <= inside


@pytest.mark.slow
def test_the_wheel_in_an_environment_of_its_own(wheel: Path, tmp_path: Path) -> None:
    """Its dependencies are taken from this environment, to install none of them again."""
    venv.create(tmp_path / "venv", with_pip=True)
    programs = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    python = str(programs / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)], check=True)
    purelib = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], check=True, capture_output=True
    )
    here = Path(Image.__file__).parent.parent
    (Path(purelib.stdout.decode().strip()) / "dependencies.pth").write_text(f"{here}\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    Image.new("RGB", (70, 50), "teal").save(elsewhere / "x.png")
    environment = {**os.environ, "PYTHONPATH": ""}

    def run(*arguments: str) -> str:
        done = subprocess.run(arguments, cwd=elsewhere, env=environment, check=True, capture_output=True, text=True)
        return done.stdout

    place = run(python, "-c", "import aecodec; print(aecodec.__file__)")
    assert place.startswith(str(tmp_path))
    aecodec = str(programs / "aecodec")
    run(aecodec, "compress", "x.png")
    assert '"weights": "base"' in run(aecodec, "info", "x.aec", "--json")
    run(aecodec, "decompress", "x.aec", "-o", "y.png")
    with Image.open(elsewhere / "y.png") as image:
        assert image.size == (70, 50)
    assert "exact" in run(aecodec, "doctor")
    environment["_AECODEC_COMPLETE"] = "source_bash"
    assert "complete " in run(aecodec)
