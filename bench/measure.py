"""Every codec at every quality on every image, spread over processes, with a cache that outlives interruptions."""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from . import metrics
from .codecs import Peer, roster
from .images import Sample, digest, read

MOST_WORKERS = 61  # more are an error on Windows
BYTES_PER_PIXEL = 250  # that a worker needs at most

Point = dict[str, Any]  # of one file: bytes and the metrics, or the error that there was


class Cache:
    """Points by what they depend on: codec, version, settings, quality and the image's pixels.

    A file of JSON lines to which the points of an image and codec are added when they are measured, so that a run that
    was stopped goes on from there; a last line cut short is left out. Where it cannot be written, the run goes on
    without, and says so once.
    """

    def __init__(self, path: Path):
        self.path = path
        self.points: dict[str, Point] = {}
        self.broken = False
        with contextlib.suppress(OSError):
            for line in path.read_text("utf-8", "replace").splitlines():
                try:
                    entry = json.loads(line)
                    self.points[entry["key"]] = entry["point"]
                except (ValueError, KeyError, TypeError):
                    continue

    def add(self, found: dict[str, Point]) -> None:
        """Keep these; errors not beyond this run, since their cause may be gone in the next."""
        whole = {key: point for key, point in found.items() if "error" not in point}
        lines = "".join("\n" + json.dumps({"key": key, "point": point}) for key, point in whole.items())
        self.points.update(found)
        if self.broken:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(lines)
        except OSError as error:
            self.broken = True
            print(f"no cache, since {self.path} cannot be written: {error.strerror}", file=sys.stderr)


def default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aecodec-bench" / "points.jsonl"


def key(codec: Peer, quality: int, sample: Sample) -> str:
    return "|".join((codec.name, codec.version, codec.settings, str(quality), sample.digest, str(metrics.VERSION)))


def measure(
    samples: Sequence[Sample], codecs: Sequence[Peer], cache: Cache, show: Callable[[int], None]
) -> dict[str, dict[str, list[Point]]]:
    """The points of each codec (by name) and image (by name), in the order of the codec's qualities.

    ``show`` is called with the number of points that have just become known. What fails for one image, because of a
    codec's limits for instance, becomes a point with an ``error``.
    """
    tasks = []
    for sample in samples:
        for codec in codecs:
            missing = [q for q in codec.qualities if key(codec, q, sample) not in cache.points]
            show(len(codec.qualities) - len(missing))
            if missing:
                tasks.append((sample, codec, missing))
    for found in _spread(tasks):
        cache.add(found)
        show(len(found))
    return {c.name: {s.name: [cache.points[key(c, q, s)] for q in c.qualities] for s in samples} for c in codecs}


def _spread(tasks: Sequence[tuple[Sample, Peer, list[int]]]) -> Iterator[dict[str, Point]]:
    if not tasks:
        return
    # new processes, not copies of this one, whose threads torch has already started
    largest = max(sample.width * sample.height for sample, _, _ in tasks)
    workers = max(1, min(cores(), len(tasks), MOST_WORKERS, memory() // 2 // (largest * BYTES_PER_PIXEL)))
    with ProcessPoolExecutor(workers, get_context("spawn"), _start_worker) as pool:
        try:
            futures = [pool.submit(_points, sample, codec.name, missing) for sample, codec, missing in tasks]
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            for worker in active_children():  # what they have begun would be lost anyway
                worker.terminate()
            raise


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to handle
    torch.set_num_threads(1)


def cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> int:
    """Bytes that this machine has, or a guess where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 8 << 30


def _points(sample: Sample, name: str, qualities: Sequence[int]) -> dict[str, Point]:
    """What a worker does: one image, one codec."""
    codec = roster()[0][name]
    try:
        image, _ = read(sample.path)
        if digest(image) != sample.digest:
            raise ValueError("the file has changed")
    except (OSError, ValueError) as error:
        return {key(codec, quality, sample): {"error": str(error)} for quality in qualities}
    return {key(codec, quality, sample): point(image, codec, quality) for quality in qualities}


def point(image: Image.Image, codec: Peer, quality: int) -> Point:
    """Encode to bytes, decode them, measure."""
    try:
        data = codec.encode(image, quality)
        return {"bytes": len(data), **metrics.measure(image, codec.decode(data))}
    except Exception as error:  # the peers' libraries raise almost anything
        return {"error": f"{type(error).__name__}: {error}"}
