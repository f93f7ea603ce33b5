"""What everyday use costs: opening in Pillow, parts and small versions of a large picture, folders of small ones."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from PIL import Image

import aecodec
from aecodec import Codec

from .images import centre
from .speed import interleaved

SMALL, COLUMNS, ROWS = 256, 32, 16  # side of the small pictures, and how many make the large one
LARGE = (6000, 4000)  # what parts are taken of
REGION = (2900, 1900, 256, 256)  # on the corner of four tiles, which is the worst case
JOBS = 2
ROUNDS = 3


def mosaic(pictures: Sequence[Image.Image]) -> Image.Image:
    """Squares of the pictures' centres, one after the other, as one large picture."""
    squares = []
    for picture in pictures:
        side = max(SMALL, min(picture.size) // SMALL * SMALL)
        whole = centre(picture, side, side).resize((side, side))  # which the smallest pictures need
        squares += [
            whole.crop((x, y, x + SMALL, y + SMALL)) for y in range(0, side, SMALL) for x in range(0, side, SMALL)
        ]
    large = Image.new("RGB", (COLUMNS * SMALL, ROWS * SMALL))
    for i in range(COLUMNS * ROWS):
        large.paste(squares[i % len(squares)], (i % COLUMNS * SMALL, i // COLUMNS * SMALL))
    return large


def access(picture: Image.Image) -> dict[str, float]:
    """Median seconds of decoding a large picture, parts of it and small versions, and of opening it in Pillow."""
    codec = Codec()
    data = codec.compress(picture.crop((0, 0, *LARGE)))
    tasks: dict[str, Callable[[], object]] = {"whole": partial(codec.decompress, data, "numpy")}
    tasks["region of 256x256"] = partial(codec.decompress, data, "numpy", region=REGION)
    tasks |= {f"scale 1/{n}": partial(codec.decompress, data, "numpy", scale=1 / n) for n in (2, 4, 8)}
    thumbnailed = codec.compress(picture.crop((0, 0, *LARGE)), thumbnail=True)
    tasks["scale 1/8, with a thumbnail"] = partial(codec.decompress, thumbnailed, "numpy", scale=1 / 8)
    aecodec.register_pillow()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.aec"
        path.write_bytes(data)
        tasks["Image.open"] = lambda: Image.open(path).close()
        return interleaved(tasks, ROUNDS)


def folders(picture: Image.Image) -> dict[str, float]:
    """Median seconds of the command line for the same pixels as small files and as four large ones."""
    width, height = picture.size
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, (w, h) in {"small": (SMALL, SMALL), "large": (width // 2, height // 2)}.items():
            (folder / kind).mkdir()
            boxes = [(x, y, x + w, y + h) for y in range(0, height, h) for x in range(0, width, w)]
            for i, box in enumerate(boxes):
                picture.crop(box).save(folder / kind / f"{i:03}.png", compress_level=1)

        def run(command: str, source: str, target: str) -> float:
            program = [sys.executable, "-m", "aecodec", command, "-r", folder / source, "-o", folder / target]
            start = time.perf_counter()
            subprocess.run([*map(str, program), "--overwrite", "--jobs", str(JOBS)], check=True, capture_output=True)
            return time.perf_counter() - start

        found: dict[str, list[float]] = {}
        for _ in range(ROUNDS):
            for kind in ("small", "large"):
                found.setdefault(f"compress {kind}", []).append(run("compress", kind, f"{kind}-aec"))
                found.setdefault(f"decompress {kind}", []).append(run("decompress", f"{kind}-aec", f"{kind}-png"))
        return {name: sorted(seconds)[ROUNDS // 2] for name, seconds in found.items()}
