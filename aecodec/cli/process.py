"""What the command line changes of its process while a command runs: streams and signals."""

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path


def flush() -> None:
    """While typer still sees to it that a command whose output nobody reads on ends without a word."""
    try:
        sys.stdout.flush()
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise  # of others, Python tells in the end


@contextmanager
def open_streams() -> Iterator[None]:
    """Streams that take everything, for as long as a command runs."""
    with ExitStack() as before:
        # whoever closes a stream has nothing to say or does not want to hear
        for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
            if getattr(sys, name) is None:
                before.callback(setattr, sys, name, None)
                setattr(sys, name, before.enter_context(Path(os.devnull).open(mode)))
        for output in (sys.stdout, sys.stderr):
            if isinstance(output, io.TextIOWrapper):
                before.callback(_reconfigure, output, output.errors)
                _reconfigure(output, "backslashreplace")  # no name of a file ends a batch
        yield


def _reconfigure(output: io.TextIOWrapper, errors: str | None) -> None:
    with suppress(OSError, ValueError):  # what is left to be written may have no room, or the stream may be closed
        output.reconfigure(errors=errors)


@contextmanager
def unwinding_on_signals() -> Iterator[None]:
    """What is half written goes when the process is asked to end. Signals are the main thread's alone."""
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    # those that are ignored stay so, and those that are no handlers of Python's
    before = {n: found for n in numbers if (found := signal.getsignal(n)) not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
