"""What handing out work to processes costs, beside threads: pictures a second, and the memory of who hands out."""

import random
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

FOLDERS = 8
WARM = 0.2  # share of the pictures that are done before the clock starts: actors begin one after the other


@dataclass(frozen=True)
class Run:
    """One run of the command line: seconds until the first result, pictures a second from then on, peak of memory."""

    start: float
    rate: float
    peak: int | None  # bytes, of the process that was called; None where the system does not tell


def fill(folder: Path, image: Image.Image, count: int, side: int) -> None:
    """Squares from anywhere in an image, the same each time, in a few folders."""
    places = random.Random(0)
    for i in range(count):
        x, y = places.randrange(image.width - side + 1), places.randrange(image.height - side + 1)
        path = folder / str(i % FOLDERS) / f"{i:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.crop((x, y, x + side, y + side)).save(path, compress_level=1)


def compress(folder: Path, out: Path, count: int, *options: str) -> Run:
    """``aecodec compress -r`` with these options. Raises RuntimeError if not every picture was compressed."""
    command = [
        sys.executable,
        "-m",
        "aecodec",
        "compress",
        "-r",
        str(folder),
        "-o",
        str(out),
        "--device",
        "cpu",
        *options,
    ]
    begun, times, peak = time.perf_counter(), [], None
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        for line in process.stderr:
            if line.startswith(str(folder)):
                times.append(time.perf_counter() - begun)
                peak = _peak(process.pid) if len(times) == count else peak
    if process.returncode or len(times) != count:
        raise RuntimeError(f"{' '.join(command)}: {len(times)} of {count} pictures, exit code {process.returncode}")
    first = int(count * WARM)
    return Run(times[0], (count - first) / (times[-1] - times[first - 1]), peak)


def listing(folder: Path, count: int) -> float:
    """Files a second that one task lists."""
    from aecodec import Codec
    from aecodec.distributed.tasks import Plan, listed
    from aecodec.storage import Place
    from aecodec.work import Verification

    plan = Plan(Verification(Codec("cpu")), Place.at(str(folder)), None, {".png"}, ".aec")
    begun = time.perf_counter()
    found = sum(len(unit["names"][0]) for unit in listed(plan))
    assert found == count
    return count / (time.perf_counter() - begun)


def writing(folder: Path, count: int = 2000, size: int = 50_000) -> float:
    """Bytes a second that one task writes to a shard, a tar of random bytes."""
    from aecodec import shards
    from aecodec.storage import Place

    data = random.Random(0).randbytes(size)
    begun = time.perf_counter()
    shards.write(Place.at(str(folder)), "000000.tar", [shards.Entry(str(i), data) for i in range(count)])
    return count * size / (time.perf_counter() - begun)


def _peak(process: int) -> int | None:
    """Linux tells."""
    status = Path(f"/proc/{process}/status")
    if not status.exists():
        return None
    (kilobytes,) = (line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(kilobytes) * 1024
