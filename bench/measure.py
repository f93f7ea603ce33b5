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
from typing import Any, TypeVar

import torch
from PIL import Image

from . import metrics
from .codecs import Peer, roster
from .images import Sample, digest, read

MOST_WORKERS = 61  # more are an error on Windows
BYTES_PER_PIXEL = 250  # that a worker needs at most

SLOW_BYTES_PER_PIXEL = 500  # with ColorVideoVDP

Point = dict[str, Any]  # of one file: bytes and the metrics, or the error that there was
T = TypeVar("T")
Missing = dict[int, list[str]]  # by quality: "" for bytes and the quick metrics, and the names of slow ones


class Cache:
    """Points by what they depend on: codec, version, settings, quality and the image's pixels.

    Each slow metric has points of its own, which depend on its version too.

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


def key(codec: Peer, quality: int, sample: Sample, slow: str = "") -> str:
    parts = (codec.name, codec.version, codec.settings, str(quality), sample.digest, str(metrics.VERSION))
    return "|".join((*parts, slow, metrics.slow()[0][slow]) if slow else parts)


def measure(
    samples: Sequence[Sample],
    codecs: Sequence[Peer],
    slow: Sequence[str],
    cache: Cache,
    show: Callable[[int], None],
) -> dict[str, dict[str, list[Point]]]:
    """The points of each codec (by name) and image (by name), in the order of the codec's qualities.

    ``slow`` are the slow metrics to measure beside the others. ``show`` is called with the number of files of which all
    has just become known. What fails for one image, because of a codec's limits for instance, becomes a point with an
    ``error``, beside the values that there are.
    """
    parts = ("", *slow)
    tasks = []
    for sample in samples:
        for codec in codecs:
            missing: Missing = {}
            for q in codec.qualities:
                if gone := [part for part in parts if key(codec, q, sample, part) not in cache.points]:
                    missing[q] = gone
            show(len(codec.qualities) - len(missing))
            if missing:
                tasks.append((sample, codec.name, missing))
    largest = max((sample.width * sample.height for sample, _, _ in tasks), default=0)
    heavy = any("cvvdp" in parts for _, _, missing in tasks for parts in missing.values())
    need = largest * (SLOW_BYTES_PER_PIXEL if heavy else BYTES_PER_PIXEL)
    for place, found in spread(_points, tasks, need):
        cache.add(found)
        show(len(tasks[place][2]))

    def joined(codec: Peer, quality: int, sample: Sample) -> Point:
        return {k: v for part in parts for k, v in cache.points[key(codec, quality, sample, part)].items()}

    return {c.name: {s.name: [joined(c, q, s) for q in c.qualities] for s in samples} for c in codecs}


def spread(work: Callable[..., T], tasks: Sequence[tuple[Any, ...]], need: int) -> Iterator[tuple[int, T]]:
    """What ``work`` returns for each task, in any order, with the task's place; a process needs ``need`` bytes."""
    if not tasks:
        return
    workers = max(1, min(cores(), len(tasks), MOST_WORKERS, memory() // 2 // need))
    # new processes, not copies of this one, whose threads torch has already started
    with ProcessPoolExecutor(workers, get_context("spawn"), _start_worker) as pool:
        try:
            futures = {pool.submit(work, *task): place for place, task in enumerate(tasks)}
            for future in as_completed(futures):
                yield futures[future], future.result()
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


def _points(sample: Sample, name: str, missing: Missing) -> dict[str, Point]:
    """What a worker does: one image, one codec."""
    codec = roster()[0][name]
    try:
        image, _ = read(sample.path)
        if digest(image) != sample.digest:
            raise ValueError("the file has changed")
    except (OSError, ValueError) as error:
        return {key(codec, q, sample, part): {"error": str(error)} for q, parts in missing.items() for part in parts}
    return {
        key(codec, q, sample, part): found
        for q, parts in missing.items()
        for part, found in points(image, codec, q, parts).items()
    }


def points(image: Image.Image, codec: Peer, quality: int, parts: Sequence[str]) -> dict[str, Point]:
    """Encode to bytes, decode them, measure: a point for each of ``parts``, as in `Missing`."""
    try:
        data = codec.encode(image, quality)
        decoded = codec.decode(data)
    except Exception as error:  # the peers' libraries raise almost anything
        return dict.fromkeys(parts, _failure(error))
    found: dict[str, Point] = {}
    for part in parts:
        try:
            found[part] = {"bytes": len(data), **metrics.measure(image, decoded, part)}
        except Exception as error:  # as does what measures
            found[part] = _failure(error)
    return found


def _failure(error: Exception) -> Point:
    return {"error": f"{type(error).__name__}: {error}"}
