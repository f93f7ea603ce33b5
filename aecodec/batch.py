"""Many jobs, one after the other or several at once: what came of each, for people and for programs, and of all."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import AecError, Corrupt, NotAec, TargetMissed

if TYPE_CHECKING:
    from .files import Job

Progress = Callable[[float], object]


@dataclass(frozen=True)
class Done:
    """What a job says of itself: sizes in bytes of what it has read and written, and a text for people."""

    before: int
    after: int
    width: int
    height: int
    text: str
    missed: TargetMissed | None = None  # where what was written is not what was asked for


Work = Callable[["Job", Progress], Done]  # called with shares from 0 to 1, if the job takes long


@dataclass(frozen=True)
class Result:
    """What came of a job."""

    job: "Job"
    status: Literal["done", "skipped", "failed"]
    line: str  # for people
    code: int = 0  # exit code of a failure
    seconds: float = 0.0
    done: Done | None = None
    error: Exception | None = None

    def record(self) -> str:
        """A line of JSON."""
        found: dict[str, Any] = {"source": str(self.job.source), "target": str(self.job.target), "status": self.status}
        if self.done:
            found |= {"bytes_before": self.done.before, "bytes_after": self.done.after}
            found |= {"width": self.done.width, "height": self.done.height}
        if self.error:
            found |= {"error": type(self.error).__name__, "message": explain(self.job.source, self.error)}
        return json.dumps({**found, "seconds": round(self.seconds, 3)})


def run(
    jobs: "Sequence[Job]", work: Work, advance: Progress, at_once: int = 1, overwrite: bool = False, skip: bool = False
) -> Iterator[Result]:
    """Do every job, whatever becomes of the others, and give the results as they come.

    ``at_once``: how many jobs have a thread each, which share the cores. ``advance`` is told of shares of a job if
    there is one at a time. Unless told to ``overwrite``, targets that exist are failures, or are skipped.
    """
    owners: dict[Path, Path] = {}
    for job in jobs:
        owners.setdefault(job.target, job.source)

    def one(job: "Job", advance: Progress) -> Result:
        start = time.perf_counter()
        try:
            if str(job.target) != "-":
                if owners[job.target] != job.source:
                    raise FileExistsError(f"{job.target} is what {owners[job.target]} becomes")
                if not overwrite and job.target.is_file():
                    if skip:
                        return Result(job, "skipped", f"{job.source}: skipped, {job.target} exists")
                    raise FileExistsError(f"{job.target} exists; add --overwrite or --skip-existing")
            done = work(job, advance)
        except (OSError, ValueError, RuntimeError, MemoryError) as error:  # RuntimeError: torch's word for GPU trouble
            seconds = time.perf_counter() - start
            line = explain(job.source, error)
            return Result(job, "failed", line, exit_code(error), seconds, error=error)
        seconds = time.perf_counter() - start
        target = "" if str(job.target) == "-" else f" -> {job.target}"
        line = f"{job.source}{target}  {done.text}  {seconds:.2f} s"
        if done.missed:
            line = f"{job.source}: {done.text}  target missed: {done.missed}"
            return Result(job, "failed", line, exit_code(done.missed), seconds, done, done.missed)
        return Result(job, "done", line, 0, seconds, done)

    if at_once == 1:
        for job in jobs:
            yield one(job, advance)
        return
    import torch

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // at_once))
    stopped = threading.Event()

    def unless_stopped(_: float) -> None:
        if stopped.is_set():
            raise InterruptedError("stopped")

    with ThreadPoolExecutor(at_once) as pool:
        try:
            for future in as_completed([pool.submit(one, job, unless_stopped) for job in jobs]):
                yield future.result()
        except BaseException:  # those that have begun end, the others do not begin
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def explain(source: Path, error: Exception) -> str:
    """What went wrong, with the name of the file."""
    name, reason = str(source), str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        name, reason = error.filename or name, error.strerror
    return f"{name}: {reason}"


def exit_code(error: Exception) -> int:
    if isinstance(error, TargetMissed):
        return 5
    if isinstance(error, Corrupt | NotAec):
        return 3
    return 4 if isinstance(error, AecError) else 1


def total(results: Sequence[Result], seconds: float) -> str:
    """A line that sums up."""
    counts = {status: sum(r.status == status for r in results) for status in ("done", "skipped", "failed")}
    said = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    before, after = (sum(getattr(r.done, name) for r in results if r.done) for name in ("before", "after"))
    line = f"{len(results)} files in {seconds:.1f} s: {said}"
    if after:
        line += f"; {size(before)} -> {size(after)}, {max(before, after) / 1e6 / seconds:.1f} MB/s"
    return line


def size(count: int) -> str:
    """Bytes as a person reads them."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if value >= 100 or unit == "B" else f"{value:.1f} {unit}"
