"""Many jobs, one after the other or several at once: what came of each, for people and for programs, and of all."""

import json
import os
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from . import threads
from .errors import AecError, Corrupt, NotAec, TargetMissed, foreseen

if TYPE_CHECKING:
    from .arguments import Progress
    from .planning import Job, Remote

MISSED = 5  # exit code of a target that was missed
LISTEN = 0.2  # seconds after which a batch that waits looks whether it was interrupted


@dataclass(frozen=True)
class Done:
    """What a job says of itself: sizes in bytes of what it has read and written, and a text for people."""

    before: int
    after: int
    width: int
    height: int
    text: str
    notes: Sequence[str] = ()  # what was lost or changed on the way, and whether the file grew
    missed: str = ""  # why what was written is not what was asked for
    reached: Mapping[str, Any] = field(default_factory=dict)  # what a target led to or what was measured, by name
    lost: bool = False  # whether something of the source is in no file now


Work = Callable[["Job", "Progress"], Done]  # called with shares from 0 to 1, if the job takes long


@dataclass(frozen=True)
class Result:
    """What came of a job."""

    job: "Job | Remote"
    status: Literal["done", "skipped", "failed"]
    line: str  # for people
    code: int = 0  # exit code of a failure
    error: str = ""  # its class
    seconds: float = 0.0
    done: Done | None = None
    trace: str = ""  # where the failure came from, if that is to be shown
    differs: str = ""  # how what was skipped is not what was asked for

    def record(self) -> str:
        """A line of JSON."""
        found: dict[str, Any] = {"source": str(self.job.source), "target": str(self.job.target), "status": self.status}
        if self.done:
            found |= {"bytes_before": self.done.before, "bytes_after": self.done.after}
            found |= {"width": self.done.width, "height": self.done.height, "notes": list(self.done.notes)}
            rounded = {name: round(v, 4) if isinstance(v, float) else v for name, v in self.done.reached.items()}
            found |= rounded
        if self.error:
            found["error"] = self.error
        if self.error or self.differs:
            found["message"] = self.line
        return json.dumps({**found, "seconds": round(self.seconds, 3)})


def run(
    jobs: "Sequence[Job]",
    work: Work,
    tell: Callable[[Result], object],
    advance: "Progress",
    at_once: int = 1,
    overwrite: bool = False,
    skip: bool = False,
    debug: bool = False,
    differs: Callable[[Path], str] = lambda _: "",
) -> None:
    """Do every job, whatever becomes of the others.

    ``tell`` is called with each result as it comes; if the batch is interrupted, still with those of the jobs that had
    begun. ``advance`` is called with the share of a job that is done, where jobs run one at a time; ``at_once`` is how
    many run, in threads that share the cores. Targets that exist are failures, unless they are to be skipped or written
    over; ``differs`` says of one that is skipped how it is not what was asked for, or nothing. With ``debug``, results
    tell where every error came from, else where those did that nobody foresaw.
    """
    owners: dict[str, Path] = {}
    for job in jobs:
        owners.setdefault(os.path.realpath(job.target), job.source)  # one file may have several names

    def one(job: "Job", advance: "Progress") -> Result:
        def unless_there() -> Done | Result:
            if str(job.target) != "-":
                if (owner := owners[os.path.realpath(job.target)]) != job.source:
                    raise FileExistsError(f"{job.target} is what {owner} becomes")
                if not overwrite and job.target.is_file():
                    if skip:
                        return skipped(job, differs(job.target))
                    raise FileExistsError(f"{job.target} exists; add --overwrite or --skip-existing")
            return work(job, advance)

        return outcome(job, unless_there, debug)

    if at_once == 1:
        for job in jobs:
            tell(one(job, advance))
    else:
        _side_by_side(jobs, one, tell, at_once)


def outcome(job: "Job | Remote", work: Callable[[], Done | Result], debug: bool = False) -> Result:
    """What comes of a job that ``work`` does. Whatever goes wrong is a result, too; see `run` for ``debug``."""
    start, to_file = time.perf_counter(), str(job.target) != "-"
    try:
        done = work()
    except Exception as error:
        if isinstance(error, BrokenPipeError) and not to_file:  # nobody reads on
            raise
        seconds, name = time.perf_counter() - start, type(error).__name__
        trace = "".join(traceback.format_exception(error)) if debug or not foreseen(error) else ""
        return Result(job, "failed", explain(job.source, error), exit_code(error), name, seconds, trace=trace)
    if isinstance(done, Result):
        return done
    seconds = time.perf_counter() - start
    if done.missed:
        line = f"{job.source}: {done.text}  target missed: {done.missed}"
        return Result(job, "failed", line, MISSED, TargetMissed.__name__, seconds, done)
    target = f" -> {job.target}" if to_file else ""
    return Result(job, "done", f"{job.source}{target}  {done.text}  {seconds:.2f} s", 0, "", seconds, done)


def skipped(job: "Job | Remote", difference: str = "") -> Result:
    """Of a job whose target exists; ``difference``: how that is not what was asked for."""
    line = ", ".join([f"{job.source}: skipped", f"{job.target} exists", *filter(None, [difference])])
    return Result(job, "skipped", line, differs=difference)


def _side_by_side(
    jobs: "Sequence[Job]", one: Callable[["Job", "Progress"], Result], tell: Callable[[Result], object], at_once: int
) -> None:
    stopped, telling = threading.Event(), threading.Lock()

    def unless_stopped(_: float) -> None:
        if stopped.is_set():
            raise InterruptedError("stopped")

    def do(job: "Job") -> None:
        result = one(job, unless_stopped)
        with telling:
            tell(result)

    # what jobs do to the filters of warnings, each by itself, is undone here
    with threads.sharing(at_once), warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(at_once) as pool:
        try:
            pending = {pool.submit(do, job) for job in jobs}
            while pending:
                finished, pending = wait(pending, LISTEN, FIRST_COMPLETED)
                for future in finished:
                    future.result()
        except BaseException:  # those that have begun end, the others do not begin
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def explain(source: object, error: Exception) -> str:
    """What went wrong, with the name of the file."""
    name, reason = str(source), str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        name, reason = error.filename or name, error.strerror
    elif not foreseen(error):
        reason = f"{type(error).__name__}: {reason}"
    return f"{name}: {reason}"


def exit_code(error: Exception) -> int:
    if isinstance(error, TargetMissed):
        return MISSED
    if isinstance(error, Corrupt | NotAec):
        return 3
    return 4 if isinstance(error, AecError) else 1


def common_code(codes: Iterable[int]) -> int:
    """The exit code of several files: that of every failure, or 1 where they differ."""
    failures = {*codes} - {0}
    return failures.pop() if len(failures) == 1 else int(bool(failures))


class Total:
    """What came of all jobs, of which no result is kept."""

    def __init__(self) -> None:
        self.counts = Counter[str]()
        self.codes = set[int]()
        self.differing = self._before = self._after = 0

    def add(self, result: Result) -> None:
        self.counts[result.status] += 1
        self.codes.add(result.code)
        self.differing += bool(result.differs)
        if result.done:
            self._before += result.done.before
            self._after += result.done.after

    def line(self, left: int, seconds: float) -> str:
        """A line that sums up; ``left``: how many files were left out."""
        counts = {status: self.counts[status] for status in ("done", "skipped", "failed")}
        said = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        line = f"{self.counts.total()} files in {seconds:.1f} s: {said}" + (f", {left} left out" if left else "")
        if self._after:
            rate = max(self._before, self._after) / 1e6 / seconds
            line += f"; {size(self._before)} -> {size(self._after)}, {rate:.1f} MB/s"
        return line


def printable(text: str) -> str:
    """In one line, with what a terminal would obey or could not show as escapes: names may hold anything."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def size(count: int) -> str:
    """Bytes as a person reads them."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if value >= 100 or unit == "B" else f"{value:.1f} {unit}"
