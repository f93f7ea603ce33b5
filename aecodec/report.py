"""The report of a batch: a line of JSON for each job, in a file that later batches add to."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from .files import STANDARD, UsageError
from .planning import Job

START = b'{"source": '  # of each line


class Report:
    """A file that lines of JSON are added to while jobs are done; without a path, nothing is written.

    Lines are added to an earlier report, or take its place with ``overwrite``. Raises `UsageError` for a file that is
    something else, and for one of the jobs' own. What cannot be written later ends no job: ``error`` says why.
    """

    def __init__(self, path: Path | None, jobs: Sequence[Job], overwrite: bool):
        self.error, self._file = "", None
        if path is None:
            return
        own = {os.path.realpath(name) for job in jobs for name in (job.source, job.target) if name != STANDARD}
        if path == STANDARD or os.path.realpath(path) in own:
            raise UsageError(f"{path}: the report needs a file of its own")
        try:
            if path.is_file():
                with path.open("rb") as file:
                    if file.read(len(START)) not in (b"", START):
                        raise UsageError(f"{path}: exists, and is no report")
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w" if overwrite else "a", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}") from None

    def add(self, line: str) -> None:
        if self._file and not self.error:
            try:
                print(line, file=self._file, flush=True)
            except OSError as error:
                self.error = str(error.strerror)

    def __enter__(self) -> "Report":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            with contextlib.suppress(OSError):  # what could not be written is known
                self._file.close()
