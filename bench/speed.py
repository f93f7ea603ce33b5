"""Speed and memory: interleaved timings in a warm process, start-up and peak memory in processes of their own."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from .codecs import Peer


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


def codec_tasks(image: Image.Image, peers: Sequence[tuple[Peer, int]]) -> dict[str, Callable[[], object]]:
    """Encoding and decoding of one image by each codec at a quality of its own."""
    tasks: dict[str, Callable[[], object]] = {}
    for peer, quality in peers:
        data = peer.encode(image, quality)
        tasks[f"{peer.name} encode"] = lambda peer=peer, quality=quality: peer.encode(image, quality)  # type: ignore[misc]
        tasks[f"{peer.name} decode"] = lambda peer=peer, data=data: peer.decode(data)  # type: ignore[misc]
    return tasks


def start_up_tasks() -> dict[str, Callable[[], object]]:
    """The command line's start beside that of torch, each in a new process."""

    def run(*arguments: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    golden = str(Path(__file__).parent.parent / "tests" / "golden" / "rgb.aec")
    program = ("-m", "aecodec")
    return {
        "import aecodec": run("-c", "import aecodec"),
        "aecodec --help": run(*program, "--help"),
        "aecodec info": run(*program, "info", golden),
        "aecodec decompress": run(*program, "decompress", golden, "-o", "-"),
        "import torch": run("-c", "import torch"),
    }


def peak_memory(megapixels: int, image: Image.Image) -> dict[str, tuple[float, float]]:
    """Peak resident GiB and seconds of compressing and decompressing a file of so many megapixels.

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
            found[command] = (usage.ru_maxrss / (1 << 20), time.perf_counter() - start)
    return found
