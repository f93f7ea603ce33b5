"""Speed and memory: interleaved timings in a warm process, start-up and peak memory in processes of their own."""

import contextlib
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

from .codecs import SLOW, roster
from .images import read
from .measure import cores

Results = dict[str, Any]  # the content of speed.json

ROUNDS = 15  # of encoding and decoding by every codec in turn
THREADS = (1, 2)
MEGAPIXELS = (1, 10, 100)


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


def codec_seconds(path: Path, threads: int, rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """Median seconds per megapixel of encoding and of decoding one image, by codec, on so many processor cores."""
    # a process of its own, so that all of its threads stay on the cores that it is given
    with ProcessPoolExecutor(1, get_context("spawn"), _confine, (threads,)) as pool:
        return pool.submit(_codec_seconds, path, threads, rounds).result()


def _confine(threads: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    torch.set_num_threads(threads)


def _codec_seconds(path: Path, threads: int, rounds: int) -> dict[str, dict[str, float]]:
    image, _ = read(path)
    codecs = [c for c in roster(threads)[0].values() if c.name != SLOW]
    tasks: dict[str, Callable[[], object]] = {}
    for codec in codecs:
        data = codec.encode(image, codec.typical)
        tasks[f"{codec.name} encode"] = partial(codec.encode, image, codec.typical)
        tasks[f"{codec.name} decode"] = partial(codec.decode, data)
    times = interleaved(tasks, rounds)
    megapixels = image.width * image.height / 1e6
    return {c.name: {way: times[f"{c.name} {way}"] / megapixels for way in ("encode", "decode")} for c in codecs}


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

    The picture is ``image``, enlarged, with its mirror images side by side.
    """
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
            start = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, "-m", "aecodec", command, str(Path(folder) / name)], stderr=subprocess.DEVNULL
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                raise RuntimeError(f"aecodec {command} failed with {process.returncode}")
            seconds = time.perf_counter() - start
            found[command] = {"gibibytes": usage.ru_maxrss / (1 << 20), "seconds": seconds}
    return found


def processor() -> str:
    """The processor's name where the system tells it, and how many of its threads this process may use."""
    name = platform.processor()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{name}, {cores()} threads"
