"""Speed and memory: timings in a warm process and in new ones, on an idle machine and on a busy one; peak memory."""

import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from .codecs import ALWAYS, AVIF, JPEG, JPEG_XL, OURS, WEBP, Peer, largest_within, roster
from .images import read
from .measure import cores

Results = dict[str, Any]  # the content of speed.json

KIND = "speed"
ROUNDS = 7  # of encoding and decoding by every codec in turn
NEW_PROCESSES = 3  # of each kind
BPP = 0.8  # of the files that are timed: a good picture in all codecs
THREADS = (1, 2)
STATES = ("idle", "busy")  # of the machine: alone, or beside as many busy processes as there are processors
COLD = (JPEG, WEBP, AVIF, JPEG_XL)  # the peers that are run in new processes
WITHOUT_TORCH = f"{OURS}, without torch"
MEGAPIXELS = (1, 10, 100)
LEAST_SIDE = 128  # pixels, of an image that every codec can bring to that rate

_BLOCK_TORCH = "import sys; sys.modules['torch'] = None; "
_PROGRAM = "import runpy; runpy.run_module('aecodec', run_name='__main__')"
_BUSY = "import os; parent = os.getppid()\nwhile os.getppid() == parent: sum(range(10**6))"  # ends with its parent

# a picture from file to file by Pillow: source, target, format, options as JSON
_CONVERT = """
import json, sys
from PIL import Image
source, target, kind, options = sys.argv[1:]
Image.open(source).convert("RGB").save(target, kind, **json.loads(options))
"""

# our codec in a warm process of its own, since torch cannot be taken out of this one: picture, quality, threads, rounds
_WARM = """
import json, os, statistics, sys, time
path, (quality, threads, rounds) = sys.argv[1], map(int, sys.argv[2:])
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
import aecodec
from PIL import Image
def seconds(task):
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        task()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])
codec = aecodec.Codec(device="cpu")
image = Image.open(path).convert("RGB")
data = codec.compress(image, quality)
encode, decode = seconds(lambda: codec.compress(image, quality)), seconds(lambda: codec.decompress(data))
print(json.dumps({"bytes": len(data), "encode": encode, "decode": decode}))
"""

_GOLDEN = Path(__file__).parent.parent / "tests" / "golden" / "rgb.aec"

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
        found = pool.submit(_codec_speed, path, threads, rounds).result()
    if OURS in found and not why_not_without_torch():
        found[WITHOUT_TORCH] = _warm(_BLOCK_TORCH, path, found[OURS]["quality"], threads, rounds)
    return found


def _warm(before: str, path: Path, quality: int, threads: int, rounds: int) -> dict[str, Any]:
    """A row of `codec_speed`, of our codec in a process of its own that runs ``before`` first."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "image.ppm"
        image, _ = read(path)
        image.save(source)
        environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
        program = [sys.executable, "-c", before + _WARM, str(source), *map(str, (quality, threads, rounds))]
        done = subprocess.run(program, check=True, capture_output=True, text=True, env=environment)
    row, pixels = json.loads(done.stdout), image.width * image.height
    seconds = {way: row[way] / (pixels / 1e6) for way in ("encode", "decode")}
    return {"quality": quality, "bpp": 8 * row["bytes"] / pixels, **seconds}


@cache
def why_not_without_torch() -> str:
    """The error with which decompressing ends where torch cannot be imported; empty if it works."""
    program = [sys.executable, "-c", _BLOCK_TORCH + _PROGRAM, "decompress", str(_GOLDEN), "-o", "-"]
    done = subprocess.run(program, check=False, capture_output=True)
    if not done.returncode:
        return ""
    lines = done.stderr.decode("utf-8", "replace").split("\n")
    return f"not possible: {next((line.strip() for line in reversed(lines) if line.strip()), 'no word of why')}"


@contextlib.contextmanager
def busy(count: int) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """So many processes that do nothing but take a processor's time."""
    processes = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(count)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


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


def start_up(path: Path, rounds: int = NEW_PROCESSES) -> dict[str, float]:
    """Median seconds of new processes: starts of ours and of torch, and one image from file to file by every codec."""
    image, _ = read(path)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image.save(folder / "image.ppm")
        tasks = _starts()
        for codec in [roster()[0][name] for name in (OURS, *COLD) if name in roster()[0]]:
            with contextlib.suppress(Exception):  # an image beyond the codec's limits
                if best := largest_within(codec, image, int(BPP * image.width * image.height / 8)):
                    tasks |= _conversions(codec, best[0], folder)
        return interleaved(tasks, rounds)


def _run(*arguments: object) -> Callable[[], object]:
    """A task: Python with these arguments."""
    return partial(subprocess.run, [sys.executable, *map(str, arguments)], check=True, capture_output=True)


def _starts() -> dict[str, Callable[[], object]]:
    program = ("-m", "aecodec")
    return {
        "import torch": _run("-c", "import torch"),
        "import aecodec": _run("-c", "import aecodec"),
        "aecodec --help": _run(*program, "--help"),
        "aecodec info": _run(*program, "info", _GOLDEN),
        "aecodec decompress": _run(*program, "decompress", _GOLDEN, "-o", "-"),
    }


def _conversions(codec: Peer, quality: int, folder: Path) -> dict[str, Callable[[], object]]:
    """Encoding image.ppm of the folder, and decoding that file to PPM again: by our command line, or by Pillow."""
    source, target = folder / "image.ppm", folder / "decoded.ppm"
    if codec.saved:
        kind, options = codec.saved
        coded = folder / f"image.{kind.lower()}"
        convert = ("-c", ("import pillow_jxl\n" if kind == "JXL" else "") + _CONVERT)
        return {
            f"{codec.name}: encode": _run(*convert, source, coded, kind, json.dumps(options | {"quality": quality})),
            f"{codec.name}: decode": _run(*convert, coded, target, "PPM", "{}"),
        }
    ways = {OURS: ""} if why_not_without_torch() else {OURS: "", WITHOUT_TORCH: _BLOCK_TORCH}
    tasks = {}
    for name, before in ways.items():
        program, coded = ("-c", before + _PROGRAM), folder / "image.aec"
        tasks[f"{name}: encode"] = _run(*program, "compress", source, coded, "-q", quality, "--overwrite")
        tasks[f"{name}: decode"] = _run(*program, "decompress", coded, target, "--overwrite")
    return tasks


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
