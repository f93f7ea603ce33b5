"""How commands run: arguments, jobs, progress and errors, to lines and exit codes."""

import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, TypeVar

import typer

from .. import errors

if TYPE_CHECKING:
    from ..arguments import Progress
    from ..batch import Result, Work
    from ..codec import Codec
    from ..planning import Job

T = TypeVar("T")

debugging = ContextVar("debugging", default=False)


def wrong_usage(message: str) -> NoReturn:
    from ..batch import printable

    print(printable(f"aecodec: {message}"), file=sys.stderr)
    raise typer.Exit(2)


def or_exit(call: Callable[..., T], *args: Any) -> T:
    """Call, and turn what goes wrong into a message and an exit code, 2 if it is due to the arguments."""
    try:
        return call(*args)
    except Exception as error:
        say_error(error, f"aecodec: {error}")
        due_to_arguments = isinstance(error, ValueError | FileNotFoundError | errors.TorchMissing)
        raise typer.Exit(2 if due_to_arguments else 1) from None


def say_error(error: Exception, message: str) -> None:
    """Print what went wrong. What nobody foresaw stays an exception, whose traceback the interpreter shows."""
    from ..batch import printable

    if not errors.foreseen(error):
        raise error
    if debugging.get():
        traceback.print_exception(error)
    print(printable(message), file=sys.stderr)


def check_existing(overwrite: bool, skip: bool) -> None:
    if overwrite and skip:
        wrong_usage("--overwrite and --skip-existing exclude each other")


def load_codec(device: str, weights: str | None, max_pixels: int, needs_torch: str = "") -> "Codec":
    """``needs_torch``: what for. The codec then computes with it, too."""
    from .. import devices
    from ..codec import Codec

    if needs_torch:
        or_exit(devices.torch_for, needs_torch)
    return or_exit(Codec, device, weights or "base", max_pixels)


def run(
    planned: "list[Job]",
    work: "Work",
    overwrite: bool = False,
    skip: bool = False,
    recursive: bool = False,
    at_once: int = 1,
    report: Path | None = None,
    differs: Callable[[Path], str] = lambda _: "",
    left: Sequence[str] = (),
    stream: TextIO | None = None,
    slow: bool = False,
    quiet: bool = False,
    as_json: bool = False,
) -> None:
    """Do every job, print a line for each, and exit with the code that sums them up.

    ``differs``: see `batch.run`; ``left``: what to say of files that are left out; ``slow``: a bar even for one;
    ``quiet``: a line for each failure alone; ``as_json``: the report's lines, of all.
    """
    from .. import batch

    check_existing(overwrite, skip)
    with reporting(planned, report, left, overwrite, stream, slow, quiet, as_json) as (tell, advance):
        batch.run(planned, work, tell, advance, at_once, overwrite, skip or recursive, debugging.get(), differs)


@contextmanager
def reporting(
    planned: "Sequence[Job]",
    report: Path | None = None,
    left: Sequence[str] = (),
    overwrite: bool = False,
    stream: TextIO | None = None,
    slow: bool = False,
    quiet: bool = False,
    as_json: bool = False,
) -> "Iterator[tuple[Callable[[Result], None], Progress]]":
    """What to call with each result, and with the share of a job; in the end, sum up and exit with that code."""
    from .. import batch
    from ..report import Report

    total = batch.Total()
    for line in () if quiet else left:
        print(batch.printable(line), file=sys.stderr)
    start = time.perf_counter()
    with (
        or_exit(Report, report, planned, overwrite) as log,
        progress_bar(len(planned), stream or sys.stderr, slow, quiet) as (show, advance),
    ):

        def tell(result: "Result") -> None:
            total.add(result)
            log.add(result.record())
            if as_json:
                print(result.trace, end="", file=sys.stderr)
                show(result.record())
            elif result.code or not quiet:
                show("\n".join(batch.printable(line) for line in [*result.trace.splitlines(), result.line]))

        yield tell, advance
    if total.counts.total() + len(left) > 1 and not quiet:
        print(total.line(len(left), time.perf_counter() - start), file=sys.stderr)
    if total.differing and not quiet:
        print(f"{total.differing} skipped, but not as asked for: --overwrite makes them anew", file=sys.stderr)
    if log.error:
        print(f"{report}: {log.error}", file=sys.stderr)
    raise typer.Exit(batch.common_code([*total.codes, int(bool(log.error))]))


def extra(module: str, name: str) -> Any:
    """A module of the package that an extra is needed for."""
    try:
        return import_module(f"aecodec.{module}")
    except ModuleNotFoundError as error:
        wrong_usage(f"{error.name} is missing: pip install 'aecodec[{name}]'")


@contextmanager
def progress_bar(
    count: int, stream: TextIO, slow: bool, quiet: bool = False
) -> "Iterator[tuple[Callable[[str], None], Progress]]":
    """How to print the line of a job that is done, above a bar if there is a terminal, and to move the bar before."""
    if quiet or not stream.isatty() or (count == 1 and not slow):
        yield lambda line: print(line, file=stream), lambda share: None
        return
    from rich import progress
    from rich.console import Console

    with progress.Progress(console=Console(file=stream), transient=True) as bar:
        task = bar.add_task("", total=count or None)
        done = 0

        def show(line: str) -> None:
            nonlocal done
            done += 1
            bar.console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)
            bar.update(task, completed=done)

        yield show, lambda share: bar.update(task, completed=done + share)
