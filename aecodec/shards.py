"""Shards: many .aec files in one, as a tar of the WebDataset kind or as Parquet.

A folder of shards has a manifest, a Parquet file for each shard of the keys that it holds. It is written last: a shard
without one is what was left of a run that was stopped. A key is the name of the picture's file, relative to the folder
that it was found in.
"""

import io
import json
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import parquet

from .errors import Corrupt, Truncated
from .files import UsageError
from .storage import AHEAD, Place

Kind = Literal["tar", "parquet"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MANIFEST = "manifest"  # the folder's name
MARK = "about.json"  # what is in it from the beginning on
TOGETHER = 64  # pictures in a row group of Parquet, which is what is read at once
DIGITS = 6  # of a shard's number, and of a picture's in it
END = 1024  # zeros at the end of a tar
OURS = r"[0-9]{6,}\.(tar|parquet)|\.[0-9]{6,}\.(tar|parquet)\.[0-9a-f]+\.partial"  # what a run may leave half done
MOST = {"json": 1 << 20, "aec": 1 << 30}  # bytes of a file in a shard: what is read of a sample
RATIO = 1000  # how many times its own size a Parquet file may inflate to: .aec files do not compress

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("bytes", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("sha256", pa.string()),
    ]
)
MANIFEST_SCHEMA = pa.schema([("key", pa.string()), ("size", pa.int64()), *list(SCHEMA)[2:]])


class Entry(NamedTuple):
    """An .aec file in a shard. ``sha256``: of the image file that it was made from, in hexadecimal digits."""

    key: str
    data: bytes
    width: int = 0
    height: int = 0
    sha256: str = ""


def name(number: int, kind: Kind) -> str:
    """What a shard is called.

    >>> name(12, "tar")
    '000012.tar'
    """
    return f"{number:0{DIGITS}}.{kind}"


def write(folder: Place, name: str, entries: Iterable[Entry]) -> None:
    """Write a shard, and then the part of the manifest that makes it count; both take the place of what is there.

    The shard goes through a temporary file: memory holds no more of it than `TOGETHER` pictures. Raises OSError.
    """
    known: list[tuple[str, int, int, int, str]] = []

    def listed() -> Iterator[Entry]:
        for entry in entries:
            known.append((entry.key, len(entry.data), entry.width, entry.height, entry.sha256))
            yield entry

    with (folder / name).create() as file:
        if name.endswith(".tar"):
            _write_tar(file, PurePosixPath(name).stem, listed())
        else:
            with parquet.ParquetWriter(file, SCHEMA, compression="none") as writer:
                for group in _grouped(listed()):
                    writer.write_table(_table(group, SCHEMA))
    with (folder / MANIFEST / _part(name)).create() as file:
        parquet.write_table(_table(known, MANIFEST_SCHEMA), file)


def _table(rows: Sequence[tuple[Any, ...]], schema: Any) -> Any:
    return pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema)


def _write_tar(file: Any, stem: str, entries: Iterable[Entry]) -> None:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for number, entry in enumerate(entries):
            about = {"key": entry.key, "width": entry.width, "height": entry.height, "sha256": entry.sha256}
            for suffix, content in (("json", json.dumps(about).encode()), ("aec", entry.data)):
                member = tarfile.TarInfo(f"{stem}{number:0{DIGITS}}.{suffix}")  # keys may have dots, names may not
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def _grouped(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    for _, group in groupby(enumerate(entries), lambda numbered: numbered[0] // TOGETHER):
        yield [entry for _, entry in group]


def read(shard: Place) -> Iterator[Entry]:
    """The .aec files of a shard, one after the other, also of tars and Parquet files that others wrote.

    A tar's samples without a ``.json`` that says more have their name in the tar for a key; in Parquet, the columns
    ``key`` and ``bytes`` are needed. Raises OSError, `Truncated` for a shard that is cut, and `Corrupt` for what is
    none.
    """
    with shard.open() as file:
        yield from _read_tar(file) if shard.path.endswith(".tar") else _read_parquet(file)


def _read_tar(file: Any) -> Iterator[Entry]:
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - END))
    if file.read() != bytes(END):
        raise Truncated("the shard is cut: a tar ends in zeros")
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r|", bufsize=AHEAD) as tar:
            members = (member for member in tar if member.isfile())
            for sample, parts in groupby(members, lambda member: _sample(member.name)[0]):
                named = ((_sample(member.name)[1], member) for member in parts)
                found = {suffix: _content(tar, member, MOST[suffix]) for suffix, member in named if suffix in MOST}
                if "aec" in found:
                    about = json.loads(found.get("json", b"{}"))
                    known = {name: about[name] for name in ("width", "height", "sha256") if name in about}
                    yield _checked(Entry(about.get("key", sample), found["aec"], **known))
    except Corrupt:
        raise
    except (tarfile.TarError, EOFError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise Corrupt(f"no tar of the WebDataset kind: {error}") from None


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, most: int) -> bytes:
    if member.size > most:  # which a sparse file has in a few bytes
        raise Corrupt(f"more than {most} bytes in {member.name}")
    content: bytes = tar.extractfile(member).read()  # type: ignore[union-attr]
    return content


def _checked(entry: Entry) -> Entry:
    """An entry that somebody else may have written. Raises `Corrupt`."""
    if not isinstance(entry.key, str) or not isinstance(entry.data, bytes):
        raise Corrupt("a key that is no text, or a picture that is no bytes")
    try:
        entry.key.encode()
    except UnicodeEncodeError:
        raise Corrupt(f"a key that is no UTF-8: {entry.key!a}") from None
    return entry


def _sample(name: str) -> tuple[str, str]:
    """What WebDataset takes for the key and the suffix of a file in a tar.

    >>> _sample("a.b/c.seg.png")
    ('a.b/c', 'seg.png')
    """
    folder, slash, last = name.rpartition("/")
    stem, _, suffix = last.partition(".")
    return folder + slash + stem, suffix.lower()


def _read_parquet(file: Any) -> Iterator[Entry]:
    try:
        opened = parquet.ParquetFile(file)
        there = [name for name in SCHEMA.names if name in opened.schema_arrow.names]
        if there[:2] != ["key", "bytes"]:
            raise Corrupt("no shard: a Parquet file without the columns key and bytes")
        names = ["data" if name == "bytes" else name for name in there]
        left = RATIO * file.seek(0, io.SEEK_END)
        for batch in opened.iter_batches(1, columns=there):  # one: a dictionary may hold a large value once for many
            (row,) = batch.to_pylist()
            entry = _checked(Entry(**dict(zip(names, (row[name] for name in there), strict=True))))
            left -= len(entry.data) + 1
            if left < 0 or len(entry.data) > MOST["aec"]:
                raise Corrupt(f"more bytes than pictures have: {len(entry.data)} in {entry.key}")
            yield entry
    except UnicodeDecodeError as error:
        raise Corrupt(f"a key that is no UTF-8: {error}") from None
    except (pa.ArrowException, OSError) as error:
        raise Truncated(f"the shard is cut, or no Parquet: {str(error).partition(chr(10))[0]}") from None


def find(place: Place) -> list[Place]:
    """The shards of a folder, in order: those of its manifest, or else every .tar and .parquet; or the shard itself.

    Raises FileNotFoundError where there are none.
    """
    if place.is_file():
        return [place]
    if is_sharded(place):  # also those that are lost: what reads them fails
        children = sorted(part.removesuffix(".parquet") for part in _manifest(place))
    else:
        children = [name for name, is_folder, _ in place.children() if not is_folder and _is_shard(name)]
    if not children:
        raise FileNotFoundError(f"{place.name}: no shards are there")
    return [place / name for name in children]


def is_sharded(folder: Place) -> bool:
    """Whether a folder has a manifest."""
    return (folder / MANIFEST / MARK).exists()


def begin(folder: Place) -> int:
    """Make a folder ready for shards; the number of the next one.

    What a run that was stopped left there without its part of the manifest is removed, and the part of a shard that is
    lost, so that its pictures are made again. Raises `UsageError` for a folder with shards of something else, and
    OSError.
    """
    parts = _manifest(folder)
    there = {name for name, is_folder, _ in folder.children() if not is_folder}
    stray = sorted(name for name in there if _is_shard(name) and _part(name) not in parts)
    if is_sharded(folder):
        for name in there:
            if re.fullmatch(OURS, name) and _part(name) not in parts:
                (folder / name).remove()
        for part in parts:
            if part.removesuffix(".parquet") not in there:
                (folder / MANIFEST / part).remove()
    elif stray:
        raise UsageError(f"{folder.name}: holds shards of something else, such as {stray[0]}")
    else:
        (folder / MANIFEST / MARK).write(json.dumps({"shards": "aecodec", "version": 1}).encode())
    return max((int(part.partition(".")[0]) for part in parts), default=-1) + 1


class Finished:
    """The keys of all shards of a folder. Each takes 16 bytes of memory, however long it is."""

    def __init__(self, folder: Place):
        found = [np.empty(0, "S16")]
        for part in _manifest(folder):
            place = folder / MANIFEST / part
            with place.open() as file:
                try:
                    keys = parquet.ParquetFile(file).read(["key"]).column("key").to_pylist()
                except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError):
                    keys = [None]
                if not all(isinstance(key, str) for key in keys):
                    raise Corrupt(f"{place.name}: no part of a manifest; without it, its shard is made anew")
            found.append(_digests(keys))
        self._sorted = np.sort(np.concatenate(found))

    def __len__(self) -> int:
        return len(self._sorted)

    def among(self, keys: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Of each key, whether it is there."""
        digests = _digests(keys)
        if not len(self):
            return np.zeros(len(digests), bool)
        places = np.searchsorted(self._sorted, digests).clip(max=len(self) - 1)
        return np.asarray(self._sorted[places] == digests)


def _digests(keys: Sequence[str]) -> npt.NDArray[np.bytes_]:
    return np.array([blake2b(key.encode("utf-8", "surrogateescape"), digest_size=16).digest() for key in keys], "S16")


def _manifest(folder: Place) -> set[str]:
    names = (name for name, is_folder, _ in (folder / MANIFEST).children() if not is_folder)
    return {name for name in names if re.fullmatch(r"[0-9]+\.(tar|parquet)\.parquet", name)}


def _part(name: str) -> str:
    """What the part of the manifest is called that a shard has."""
    return f"{name}.parquet"


def _is_shard(name: str) -> bool:
    return PurePosixPath(name).suffix[1:] in KINDS
