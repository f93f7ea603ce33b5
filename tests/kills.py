"""A process killed at random moments: ``python -m tests.kills --count 100 --seed 0``.

It compresses the images of a folder and deletes each that is done. Whenever it is killed, every file that it has
written is whole, and no image is lost.
"""

import multiprocessing
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import typer
from PIL import Image
from skimage import data

from aecodec import Codec
from aecodec.cli import app

IMAGES, SIDE = 6, 96
# processes that are forked once the libraries are loaded, so that kills hit the work and not the start
FORKS = "forkserver" in multiprocessing.get_all_start_methods()
CONTEXT: Any = multiprocessing.get_context("forkserver" if FORKS else "spawn")
if FORKS:
    CONTEXT.set_forkserver_preload([__name__])


def work(folder: Path) -> None:
    arguments = ("compress", "-r", folder / "in", "-o", folder / "out", "--delete-source", "--device", "cpu")
    app([str(argument) for argument in arguments])


def run(count: int, seed: int) -> Counter[int]:
    """How often the files were as many as the key says when the process was killed. Raises AssertionError."""
    photo = Image.fromarray(data.astronaut())
    pictures = {f"{i}.png": photo.crop((i * 40, i * 40, i * 40 + SIDE, i * 40 + SIDE)) for i in range(IMAGES)}
    codec, source, found = Codec(device="cpu"), random.Random(seed), Counter[int]()
    longest = max(_seconds(pictures) for _ in range(2))
    for _ in range(count):
        with tempfile.TemporaryDirectory() as name:
            folder = _prepare(Path(name), pictures)
            process = CONTEXT.Process(target=work, args=(folder,))
            process.start()
            time.sleep(source.uniform(0, longest))
            process.kill()
            process.join()
            found[_check(codec, folder, pictures)] += 1
    return found


def _prepare(folder: Path, pictures: dict[str, Image.Image]) -> Path:
    (folder / "in").mkdir()
    for name, picture in pictures.items():
        picture.save(folder / "in" / name)
    return folder


def _seconds(pictures: dict[str, Image.Image]) -> float:
    """How long all takes, undisturbed."""
    with tempfile.TemporaryDirectory() as name:
        process = CONTEXT.Process(target=work, args=(_prepare(Path(name), pictures),))
        start = time.perf_counter()
        process.start()
        process.join()
        assert process.exitcode == 0
        return time.perf_counter() - start


def _check(codec: Codec, folder: Path, pictures: dict[str, Image.Image]) -> int:
    """How many files there are, of which every one is whole."""
    written = 0
    for name, picture in pictures.items():
        target = (folder / "out" / name).with_suffix(".aec")
        if target.exists():
            codec.verify(target.read_bytes())
            written += 1
        if (folder / "in" / name).exists():
            with Image.open(folder / "in" / name) as image:
                assert image.tobytes() == picture.tobytes()
        else:
            assert target.exists(), f"{name} is lost"
    return written


def main(count: int = 100, seed: int = 0) -> None:
    start = time.perf_counter()
    found = run(count, seed)
    seconds = time.perf_counter() - start
    print(f"{count} kills, seed {seed}, {seconds:.0f} s; so often so many of {IMAGES} files were there, all whole:")
    print(", ".join(f"{written}: {times}" for written, times in sorted(found.items())))


if __name__ == "__main__":
    from tests.kills import main as imported  # the forked processes know this module by its name

    typer.run(imported)
