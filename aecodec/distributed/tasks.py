"""What the processes of a cluster do, each with a handful of files at a time: list, read, code, write.

Each gives the same again where it is done again, under the same names.
"""

import pickle
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Any, Protocol

import pyarrow as pa

from .. import shards
from ..batch import Done, Result, exit_code, explain, outcome, skipped
from ..errors import AecError, Corrupt
from ..planning import Remote
from ..shards import Entry
from ..storage import Place
from ..work import Compression

MOST_FILES, MOST_BYTES = 64, 4 << 20  # that an actor takes at once, which is what is done again where one is lost
READERS = 8  # files that an actor reads at once

# A handful of files: a row of a table, and a block of Ray's. ``data`` is what was read of them already, if that was.
UNIT = pa.schema(
    [
        ("names", pa.list_(pa.string())),  # relative to the source
        ("targets", pa.list_(pa.string())),  # relative to the target
        ("data", pa.list_(pa.binary())),
        ("shard", pa.string()),  # which holds the files; without names, it is still to be read
        ("results", pa.list_(pa.binary())),  # of files that were worked on, pickled
        ("entries", pa.list_(pa.struct(list(shards.SCHEMA)))),  # for shards that are to be written
    ]
)


class Work(Protocol):
    """What is done with a file; see `aecodec.work`."""

    def __call__(self, data: bytes, name: str) -> tuple[bytes, Done]: ...


@dataclass(frozen=True)
class Shards:
    """Shards to write: of how many bytes, and of which kind."""

    size: int
    kind: shards.Kind = "tar"


@dataclass(frozen=True)
class Plan:
    """What is to be done with which files.

    ``source`` is a folder, of which the files with ``suffixes`` count, or one of shards. Below ``target``, each file
    has the name that it has below the source, but for ``suffix``; or there are ``shards``. Without a target, nothing is
    written. What is there already is skipped, unless it is to be written over (``overwrite``). With ``debug``, results
    tell where each error came from.
    """

    work: Work
    source: Place
    target: Place | None
    suffixes: Set[str]
    suffix: str
    shards: Shards | None = None
    overwrite: bool = False
    debug: bool = False


def _unit(**columns: Any) -> Any:
    """A handful of files as a table of one row; results and entries are given as they are."""
    columns["results"] = [pickle.dumps(result) for result in columns.get("results", ())]
    columns["entries"] = [dict(zip(shards.SCHEMA.names, entry, strict=True)) for entry in columns.get("entries", ())]
    return pa.table({name: pa.array([columns.get(name)], UNIT.field(name).type) for name in UNIT.names}, schema=UNIT)


def results_of(unit: Any) -> Iterator[Result]:
    for row in unit["results"]:
        yield from (pickle.loads(result) for result in row.as_py())


def listed(plan: Plan) -> Iterator[Any]:
    """The files, and results of those that shards hold already; or the shards of a folder that has some."""
    source, target = plan.source, plan.target
    if shards.is_sharded(source):
        for shard in shards.find(source):
            yield _unit(shard=PurePosixPath(shard.path).name)
        return
    finished = shards.Finished(target) if target and plan.shards and not plan.overwrite else None
    for folder in source.walk(plan.suffixes):
        names = [name for name, _ in folder]
        targets = _targets(names, plan.suffix)
        there = {name for name, found in zip(names, finished.among(names), strict=True) if found} if finished else set()
        if target and there:
            yield _unit(results=[_in_a_shard(source / name, target) for name in names if name in there])
        for group in _grouped((name, size) for name, size in folder if name not in there):
            yield _unit(names=group, targets=[targets[name] for name in group])


def _in_a_shard(file: Place, target: Place) -> Result:
    line = f"{file.name}: skipped, in a shard of {target.name} already"
    return Result(Remote(file.name, target.name), "skipped", line)


def _targets(names: Sequence[str], suffix: str) -> dict[str, str]:
    """What the files of a folder become. Where two would be called the same, both keep their suffix."""
    wanted = {name: str(PurePosixPath(name).with_suffix(suffix)) if name else name for name in names}
    claims = Counter(target.casefold() for target in wanted.values())
    return {name: name + suffix if claims[target.casefold()] > 1 else target for name, target in wanted.items()}


def _is_below(name: str) -> bool:
    """Whether what a folder has under this name lies in it: others may have written the shard, or the store."""
    return ".." not in re.split(r"[/\\]", name)


def _grouped(sized: Iterable[tuple[Any, int]]) -> Iterator[list[Any]]:
    """As many as an actor takes at once."""
    group: list[Any] = []
    total = 0
    for item, size in sized:
        if group and (len(group) == MOST_FILES or total + size > MOST_BYTES):
            yield group
            group, total = [], 0
        group.append(item)
        total += size
    if group:
        yield group


def opened(plan: Plan, unit: Any) -> Iterator[Any]:
    """What is in a shard; what is wrong with it is one more result."""
    place = plan.source / unit["shard"][0].as_py()
    broken: list[Exception] = []

    def entries() -> Iterator[tuple[Entry, int]]:
        try:
            for entry in shards.read(place):
                yield entry, len(entry.data)
        except (OSError, AecError) as error:
            broken.append(error)

    for group in _grouped(entries()):
        names = [entry.key for entry in group]
        # a.jpg and a.png may lie in different shards
        targets = [name if name.endswith(plan.suffix) else name + plan.suffix for name in names]
        shard = PurePosixPath(place.path).name
        yield _unit(names=names, targets=targets, data=[entry.data for entry in group], shard=shard)
    if broken:
        (error,) = broken
        line, code = explain(place.name, error), exit_code(error)
        yield _unit(results=[Result(Remote(place.name, "-"), "failed", line, code, type(error).__name__)])


class Actor:
    """One codec, for as many units as come."""

    def __init__(self, plan: Plan):
        self._plan, self._readers = plan, ThreadPoolExecutor(READERS)

    def __call__(self, unit: Any) -> Any:
        (row,) = unit.to_pylist()
        if row["names"] is None:
            return unit
        entries: list[Entry] = []
        given = row["data"] or [None] * len(row["names"])
        read = [self._readers.submit(self._read, *job) for job in zip(row["names"], row["targets"], given, strict=True)]
        results = [
            self._one(name, target, row["shard"] or name, future.result, entries)
            for name, target, future in zip(row["names"], row["targets"], read, strict=True)
        ]
        return _unit(results=results, entries=entries)

    def _one(
        self, name: str, target: str, file: str, read: Callable[[], bytes | Result], entries: list[Entry]
    ) -> Result:
        """What comes of the picture ``name``, which lies in ``file``."""
        source, place = self._plan.source / name, self._place(target)

        def do() -> Done | Result:
            data = read()
            if isinstance(data, Result):
                return data
            coded, done = self._plan.work(data, target)
            if place:
                place.write(coded, self._plan.source / file)
            elif self._plan.shards:
                entries.append(Entry(name, coded, done.width, done.height, sha256(data).hexdigest()))
            return done

        return outcome(Remote(source.name, place.name if place else "-"), do, self._plan.debug)

    def _read(self, name: str, target: str, given: bytes | None) -> bytes | Result:
        """The bytes of a file, or what is to be said if it was worked on before."""
        source, place, work = self._plan.source / name, self._place(target), self._plan.work
        if place and not _is_below(target):
            raise Corrupt("a name that leads out of the folder that is written to")
        if place and not self._plan.overwrite and place.is_file():
            difference = work.differs(place.open) if isinstance(work, Compression) else ""
            return skipped(Remote(source.name, place.name), difference)
        return source.read() if given is None else given

    def _place(self, target: str) -> Place | None:
        """Where a file is to be written, if each becomes one of its own."""
        return self._plan.target / target if self._plan.target and not self._plan.shards else None


def write_shard(target: Place, name: str, *units: Any) -> bytes:
    """The results of the files in a shard, pickled: what could not be written has failed."""
    results = [result for unit in units for result in results_of(unit)]
    coded = {result.job.source for result in results if result.status == "done" or result.done}
    entries = (Entry(*row.values()) for unit in units for row in unit["entries"][0].as_py() or ())
    place = target / name

    def write() -> Done:
        if coded:
            shards.write(target, name, entries)
        return Done(0, 0, 0, 0, "")

    written = outcome(Remote(place.name, place.name), write)
    for i, result in enumerate(results):
        if result.done:
            job = Remote(str(result.job.source), place.name)
            results[i] = replace(result, job=job)
            if written.code:
                line = f"{job.source}: {written.line}"
                results[i] = Result(
                    job, "failed", line, written.code, written.error, result.seconds, trace=written.trace
                )
    return pickle.dumps(results)
