"""Speed and memory: interleaved timings in a warm process, start-up and peak memory in processes of their own."""

import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from .codecs import ALWAYS, largest_within, roster
from .images import read
from .measure import cores

Results = dict[str, Any]  # the content of speed.json

KIND = "speed"
ROUNDS = 15  # of encoding and decoding by every codec in turn
BPP = 0.8  # of the files that are timed: a good picture in all codecs
THREADS = (1, 2)
MEGAPIXELS = (1, 10, 100)
LEAST_SIDE = 128  # pixels, of an image that every codec can bring to that rate

# peak resident memory of a command, started from a process that is small itself: the system counts what the parent had
_PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stderr=subprocess.DEVNULL)
unit = 1 if sys.platform == "darwin" else 1024
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit)
"""


def load(path: Path) -> Results:
    """What `bench speed` has left. Raises OSError, or ValueError for any other file."""
    try:
        found: Results = json.loads(path.read_text("utf-8"))
        if found["kind"] == KIND:
            return found
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"{path}: not the result of a speed run")


def interleaved(tasks: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each task, all of them taking turns after a first unmeasured round."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(rounds + 1):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def codec_speed(path: Path, threads: int, rounds: int = ROUNDS) -> dict[str, dict[str, Any]]:
    """Median seconds per megapixel of encoding and of decoding one image, by codec, with so many threads.

    Where the system can confine a process to some of its processors, each codec's own threads stay on these as well.
    """
    with ProcessPoolExecutor(1, get_context("spawn"), _confine, (threads,)) as pool:
        return pool.submit(_codec_speed, path, threads, rounds).result()


def _confine(threads: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        for task in Path("/proc/self/task").iterdir():  # importing numpy has started threads already
            os.sched_setaffinity(int(task.name), sorted(os.sched_getaffinity(0))[:threads])
    torch.set_num_threads(threads)


def _codec_speed(path: Path, threads: int, rounds: int) -> dict[str, dict[str, Any]]:
    image, _ = read(path)
    pixels = image.width * image.height
    found: dict[str, dict[str, Any]] = {}
    tasks: dict[str, Callable[[], object]] = {}
    for codec in roster(threads)[0].values():
        if codec.name not in ALWAYS:
            continue
        try:
            best = largest_within(codec, image, int(BPP * pixels / 8))
        except Exception:  # an image beyond the codec's limits
            continue
        if best:
            quality, data = best
            found[codec.name] = {"quality": quality, "bpp": 8 * len(data) / pixels}
            tasks[f"{codec.name} encode"] = partial(codec.encode, image, quality)
            tasks[f"{codec.name} decode"] = partial(codec.decode, data)
    times = interleaved(tasks, rounds)
    for name, row in found.items():
        for way in ("encode", "decode"):
            row[way] = times[f"{name} {way}"] / (pixels / 1e6)
    return found


def start_up_tasks() -> dict[str, Callable[[], object]]:
    """The command line's start beside that of torch, each in a new process."""

    def run(*arguments: str) -> Callable[[], object]:
        return partial(subprocess.run, [sys.executable, *arguments], check=True, capture_output=True)

    golden = str(Path(__file__).parent.parent / "tests" / "golden" / "rgb.aec")
    program = ("-m", "aecodec")
    return {
        "import aecodec": run("-c", "import aecodec"),
        "aecodec --help": run(*program, "--help"),
        "aecodec info": run(*program, "info", golden),
        "aecodec decompress": run(*program, "decompress", golden, "-o", "-"),
        "import torch": run("-c", "import torch"),
    }


def peak_memory(megapixels: int, image: Image.Image) -> dict[str, dict[str, float]]:
    """Peak resident gibibytes and seconds of compressing and decompressing a file of so many megapixels.

    The picture is ``image``, enlarged, with its mirror images side by side. Nothing where the system does not count.
    """
    if sys.platform == "win32":
        return {}
    side = round((megapixels * 1e6) ** 0.5)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "large.ppm"
        enlarged = image.resize((side // 2, side // 2), Image.Resampling.BICUBIC)
        large = Image.new("RGB", (side, side))
        for left, top, turn in ((0, 0, None), (1, 0, 0), (0, 1, 1), (1, 1, 3)):
            part = enlarged if turn is None else enlarged.transpose(Image.Transpose(turn))
            large.paste(part, (left * (side // 2), top * (side // 2)))
        large.save(source)
        del large, enlarged
        for command, name in (("compress", "large.ppm"), ("decompress", "large.aec")):
            program = [sys.executable, "-m", "aecodec", command, str(Path(folder) / name)]
            start = time.perf_counter()
            peak = subprocess.run([sys.executable, "-c", _PEAK, *program], check=True, capture_output=True, text=True)
            seconds = time.perf_counter() - start
            found[command] = {"gibibytes": int(peak.stdout) / (1 << 30), "seconds": seconds}
    return found


def machine() -> str:
    """The processor's name where the system tells it, and how many of its threads this process may use."""
    name = platform.processor()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{platform.system()} {platform.machine()}, {name}, {cores()} threads"
