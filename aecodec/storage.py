"""Files and folders by path or URL: on a disk, in S3, in Google's store, or wherever pyarrow's file systems reach."""

import contextlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import pyarrow as pa
from pyarrow import fs

from . import files
from .files import UsageError

AHEAD = 1 << 20  # bytes that are asked for at once, where a file is read from its beginning to its end


@dataclass(frozen=True)
class Place:
    """A file or a folder, whether it exists or not. It pickles, and other machines find it by the same name.

    ``path`` is what its file system calls it; ``name`` is for people, and tells no credentials. Whatever goes wrong
    with it raises OSError.
    """

    system: Any  # a pyarrow.fs.FileSystem
    path: str
    name: str

    @classmethod
    def at(cls, url: str) -> "Place":
        """Of a path, or a URL such as ``s3://bucket/folder``. Raises `UsageError` for a URL that is none.

        Credentials and regions come from where the store's own tools look for them, or from the URL's query:
        ``s3://bucket/folder?region=eu-west-1&endpoint_override=localhost:9000&scheme=http``.

        >>> Place.at("photos").name
        'photos'
        """
        if not re.match(r"[a-z][a-z0-9+.-]+://", url):
            return cls(fs.LocalFileSystem(), str(Path(url).absolute()), url.rstrip("/") or url)
        name = re.sub(r"//[^/@]*@", "//", url.partition("?")[0]).rstrip("/")
        try:
            system, path = fs.FileSystem.from_uri(url)
        except (pa.ArrowException, OSError) as error:
            reason = "with a character that has to be escaped" if " " in url else str(error).replace(url, name)
            raise UsageError(f"{name}: no URL that can be used: {reason}") from None
        return cls(system, path.rstrip("/"), name)

    def __truediv__(self, below: str) -> "Place":
        return Place(self.system, f"{self.path.rstrip('/')}/{below}", f"{self.name.rstrip('/')}/{below}")

    @property
    def local(self) -> Path | None:
        """Its path, if it lies on a disk of this machine."""
        return Path(self.path) if isinstance(self.system, fs.LocalFileSystem) else None

    def is_same(self, other: "Place") -> bool:
        """Whether both names, links followed, stand for one place."""
        if self.local and other.local:
            return os.path.realpath(self.local) == os.path.realpath(other.local)
        return bool(self.system == other.system) and self.path == other.path

    def is_file(self) -> bool:
        return bool(self._info().is_file)

    def exists(self) -> bool:
        return bool(self._info().type != fs.FileType.NotFound)

    def _info(self) -> Any:
        with self._named():
            return self.system.get_file_info(self.path)

    def open(self) -> BinaryIO:
        """To read anywhere in it."""
        with self._named():
            file: BinaryIO = self.system.open_input_file(self.path)
            return file

    def read(self) -> bytes:
        with self._named(), self.system.open_input_stream(self.path) as file:
            data: bytes = file.read()
            return data

    def write(self, data: bytes, source: "Place | None" = None) -> None:
        """A whole file or none; where both are on disks, nobody may read it who may not read its ``source``."""
        if self.local:
            files.write(self.local, data, (source and source.local) or files.STANDARD)
        else:
            with self._named(), self.system.open_output_stream(self.path) as stream:
                stream.write(data)

    @contextlib.contextmanager
    def create(self) -> Iterator[BinaryIO]:
        """A large file to be filled, which is there under its name when it is whole."""
        if not self.local:
            with tempfile.TemporaryFile() as file:
                yield file
                file.seek(0)
                with self._named(), self.system.open_output_stream(self.path) as stream:
                    shutil.copyfileobj(file, stream, AHEAD)
            return
        partial = self.local.with_name(f".{self.local.name}.{secrets.token_hex(8)}.partial")
        try:
            with self._named():
                self.local.parent.mkdir(parents=True, exist_ok=True)
                with partial.open("xb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                partial.replace(self.local)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise

    def remove(self) -> None:
        with self._named():
            self.system.delete_file(self.path)

    def children(self) -> list[tuple[str, bool, int]]:
        """Of a folder, in order: each name, whether it is a folder, and its size in bytes. None if it is not there."""
        with self._named():
            found = self.system.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        kinds = (fs.FileType.File, fs.FileType.Directory)
        return sorted((_name(f), f.type == fs.FileType.Directory, f.size or 0) for f in found if f.type in kinds)

    def walk(self, suffixes: Set[str]) -> Iterator[list[tuple[str, int]]]:
        """The files with these suffixes, folder by folder: each name, relative to this one, and its size in bytes.

        As on one machine, links are followed, no folder is searched twice, and a folder that cannot be read is among
        the files, for what reads it to fail. Nothing but one folder's names is held at a time.
        """
        searched, below = set[str](), [""]
        while below:
            folder = below.pop()
            place = self / folder if folder else self
            if place.local and (real := os.path.realpath(place.local)) in searched:
                continue
            if place.local:
                searched.add(real)
            try:
                children = place.children()
                lost = bool(folder) and not children and not place.exists()  # or its name is no UTF-8
            except OSError:
                lost = True
            if lost:
                yield [(folder, 0)]
                continue
            joined = [(f"{folder}/{name}" if folder else name, is_folder, size) for name, is_folder, size in children]
            below += [name for name, is_folder, _ in reversed(joined) if is_folder]
            found = [(name, size) for name, is_folder, size in joined if not is_folder and _wanted(name, suffixes)]
            if found:
                yield found

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """What goes wrong within is an OSError of one sentence."""
        try:
            yield
        except OSError as error:
            if error.errno:
                raise OSError(error.errno, os.strerror(error.errno), self.name) from None
            raise OSError(_sentence(error)) from None
        except pa.ArrowException as error:
            raise OSError(_sentence(error)) from None


def _name(info: Any) -> str:
    """Of a file; where it is no UTF-8, one that tells which, but opens nothing."""
    try:
        return str(info.base_name)
    except UnicodeDecodeError as error:
        return bytes(error.object).decode(errors="backslashreplace")


def _wanted(name: str, suffixes: Set[str]) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in suffixes and not path.name.startswith("._")  # what macOS keeps beside a file


def _sentence(error: Exception) -> str:
    """The first line of what a store says, without the number of the request."""
    return re.sub(r" \(Request ID: [^)]*\)", "", str(error)).partition("\n")[0] or type(error).__name__
