"""Which file becomes which: the jobs of a command, from the sources and the place that are named."""

import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .files import STANDARD, UsageError, check_no_terminal, image_suffixes, whether


@dataclass(frozen=True)
class Job:
    """One file to read and one to write."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Remote:
    """One file to read and one to write, by what they are called; they may lie on no disk of this machine."""

    source: str
    target: str


def expand(sources: Sequence[Path], recursive: bool, suffixes: set[str]) -> tuple[list[tuple[Path, Path]], list[str]]:
    """The files that are meant, each with the folder that it was found in, relative to the one that was given.

    And a line for each file in a folder that is left out. Raises `UsageError`.
    """
    if not sources:
        raise UsageError("no files given")
    found, left = [], []
    for source in sources:
        if not whether(source.is_dir):
            found.append((source, Path()))
        elif recursive:
            paths, others = _walk(source, suffixes)
            found += [(path, Path() if path == source else path.parent.relative_to(source)) for path in paths]
            left += others
        else:
            raise UsageError(f"{source}: a folder; add --recursive to take the files in it")
    if not found:
        raise UsageError("; ".join(["no files found", *left]))
    return found, left


def _walk(folder: Path, suffixes: set[str]) -> tuple[list[Path], list[str]]:
    """The files with these suffixes, and a line for each other one but what is coded already.

    Links are followed. No place is searched twice, as they may run in circles.
    """
    paths: list[Path] = []  # also folders that cannot be read, as jobs that fail while the others go on
    files: list[Path] = []
    left: list[str] = []
    searched: set[str] = set()
    starts = [folder]
    for start in starts:  # to which links to folders are added
        for top, below, names in os.walk(start, onerror=lambda error: paths.append(Path(error.filename))):
            place = os.path.realpath(top)
            if place in searched:
                left.append(f"{top}: left out, leads to {place}, which is searched anyway")
                below.clear()
                continue
            searched.add(place)
            starts += [path for name in sorted(below) if whether((path := Path(top, name)).is_symlink)]
            files += [Path(top, name) for name in names]
    for path in sorted(files):
        suffix = path.suffix.lower()
        if path.name.startswith("._"):
            left.append(f"{path}: left out, what macOS keeps beside a file")
        elif suffix not in suffixes:
            wanted = "no .aec file" if suffixes == {".aec"} else "no picture"
            left += [f"{path}: left out, {wanted} by its name"] if suffix != ".aec" else []
        elif whether(path.exists) and not whether(path.is_file):
            left.append(f"{path}: left out, neither a file nor a folder")
        else:  # also what cannot be looked at, a dead link for instance: a job that fails
            paths.append(path)
    return sorted(paths), left


def plan(
    sources: Sequence[Path], out: str | None, recursive: bool, inputs: set[str], suffix: str
) -> tuple[list[Job], list[str]]:
    """Which file becomes which, and a line for each file in a folder that is left out.

    Without ``out`` each result lies beside its source, with another suffix. With several sources or a folder ``out``
    is a folder, in which folders keep their tree; else it is a folder if it is one already or ends in a slash. Where
    two would have the same name but for their suffix, both keep it: a.jpg.aec and a.png.aec. Of two files without
    ``out``, the second is what is to be written if its name says so. Raises `UsageError`.
    """
    outputs = {".aec"} if suffix == ".aec" else image_suffixes()
    two_files = len(sources) == 2 and not any(whether(source.is_dir) for source in sources)
    if not out and two_files and sources[1].suffix.lower() in outputs:
        sources, out = sources[:1], str(sources[1])
    found, left = expand(sources, recursive, inputs)
    several = len(sources) > 1 or whether(sources[0].is_dir)
    if several and (STANDARD in sources or out == "-"):
        raise UsageError("'-' goes with a single file")
    if several and out and Path(out).exists() and not Path(out).is_dir():
        raise UsageError(f"{out}: not a folder, but several files are to be written")
    wanted = []
    for path, below in found:
        if not out:
            target = path if path == STANDARD else path.with_suffix(suffix)
        elif several or out.endswith("/") or Path(out).is_dir():
            if path == STANDARD:
                raise UsageError(f"{out}: a folder; standard input has no name to use in it")
            target = Path(out) / below / (path.stem + suffix)
        else:
            target = Path(out)
        wanted.append((path, target))
    claims = Counter(_place(target) for _, target in set(wanted))
    jobs = []
    for path, target in wanted:
        name = target.with_name(path.name + suffix) if claims[_place(target)] > 1 else target
        if STANDARD not in (path, name) and (name == path or _same_file(name, path)):
            raise UsageError(f"{path}: would be written over itself")
        if suffix == ".aec" and name.suffix.lower() in image_suffixes():
            raise UsageError(f"{name}: what is written is an .aec file, whatever the name says")
        jobs.append(Job(path, name))
    if any(job.target == STANDARD for job in jobs):
        check_no_terminal(sys.stdout)  # before any work is done
    return jobs, left


def _place(path: Path) -> str:
    """The same for two names of one file, and for names that differ in case, which are one file on some systems."""
    return os.path.realpath(path).casefold()


def _same_file(target: Path, path: Path) -> bool:
    """Whether two names, by links, stand for one file."""
    return whether(lambda: target.samefile(path))
