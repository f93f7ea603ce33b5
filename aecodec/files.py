"""Files: read, the pictures in them too, and written whole or not at all."""

import contextlib
import errno
import hashlib
import io
import os
import secrets
import stat
import sys
import warnings
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from PIL import Image, UnidentifiedImageError

from .errors import foreseen
from .image import Picture, check_format, from_any, without_pillows_limit

STANDARD = Path("-")  # standard input or output
BLOCK = 1 << 20  # bytes that are read at once
PLUGINS = ("pillow_heif.HeifImagePlugin", "pillow_jxl")  # which Pillow does not find by itself
# programs, wrappers, what is recognised but not decoded, and what is coded already
NO_PICTURES = {"EPS", "WMF", "IPTC", "BUFR", "GRIB", "HDF5", "MPEG", "AEC"}


class UsageError(ValueError):
    """What was asked for makes no sense, whatever the files contain."""


@cache
def image_suffixes() -> set[str]:
    """Suffixes of the formats that Pillow and its plugins that are installed can read, in lower case."""
    for plugin in PLUGINS:
        with contextlib.suppress(ImportError):
            import_module(plugin)
    suffixes = Image.registered_extensions()  # loads all of Pillow's own
    formats = {*Image.OPEN, "MPO"} - NO_PICTURES  # MPO is opened as JPEG
    return {suffix for suffix, name in suffixes.items() if name in formats}


def is_stream(path: Path) -> bool:
    """Whether it stands for standard input or output, a pipe or a device: what is read there is read once."""
    return path == STANDARD or whether(lambda: path.exists() and not path.is_file() and not path.is_dir())


def whether(test: Callable[[], bool]) -> bool:
    """The test's answer; False where the file system gives none."""
    try:
        return test()
    except OSError:
        return False


def read(path: Path, most: int | None = None) -> bytes:
    """The bytes of a file or of standard input, or the first ``most`` of them. Raises OSError."""
    with contextlib.nullcontext(sys.stdin.buffer) if path == STANDARD else path.open("rb") as file:
        if most is None:
            return file.read()
        blocks = []
        while most and (block := file.read(min(most, BLOCK))):  # memory for what is there, not for what is asked
            blocks.append(block)
            most -= len(block)
        return b"".join(blocks)


def write(path: Path, data: bytes, source: Path = STANDARD) -> None:
    """Write a file whole: to a temporary file beside it, synced, then renamed. Raises OSError, leaving nothing.

    A new file grants nobody more than the file that is its ``source`` does. Devices and pipes are written to as they
    are. Raises `UsageError` for a terminal.
    """
    if path == STANDARD:
        if sys.__stdout__ is None:
            raise OSError(errno.EBADF, "standard output is closed")
        check_no_terminal(sys.stdout)
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    path = path.resolve()  # a link stays a link
    if is_stream(path):
        with path.open("wb") as file:
            check_no_terminal(file)
            file.write(data)
        return
    name = os.fsdecode(os.fsencode(path.name)[:100])  # names are limited in bytes
    # several may write the same file: the last one wins
    partial = path.with_name(f".{name}.{secrets.token_hex(8)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("xb") as file:  # never one that is there, nor where a link leads
            if hasattr(os, "fchmod"):  # what was private stays private
                if path.exists():
                    os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
                elif not is_stream(source):
                    os.fchmod(file.fileno(), stat.S_IMODE(os.fstat(file.fileno()).st_mode & source.stat().st_mode))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        if not isinstance(error, FileExistsError):  # then it is another's
            with contextlib.suppress(OSError):
                partial.unlink()
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def check_no_terminal(file: IO[Any]) -> None:
    """Raises `UsageError` for a terminal, to which files mean anything."""
    if file.isatty():
        raise UsageError("no file is written to a terminal: name one with --out, or send standard output elsewhere")


def digest(data: bytes) -> bytes:
    """The SHA-256 of what a file holds."""
    return hashlib.sha256(data).digest()


def delete_source(
    source: Path, target: Path, read_digest: bytes, written: bytes, verify: Callable[[bytes], object]
) -> None:
    """Remove a file once the one that was made of it lies on the disk, as ``written``, and ``verify`` accepts it.

    The target takes over the date. ``read_digest``: the `digest` of what was read; a source that has changed since then
    stays. Raises what ``verify`` raises, and OSError.
    """
    if target.read_bytes() != written:
        raise OSError(f"{target} has changed since it was written; the source stays")
    verify(written)
    if hasattr(os, "O_DIRECTORY"):  # the new name has to survive a loss of power before the old file goes
        folder = os.open(target.resolve().parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    if digest(source.read_bytes()) != read_digest:
        raise OSError(f"{source} has changed since it was read; it stays")
    times = source.stat()
    os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))
    source.unlink()


@without_pillows_limit()
def open_picture(data: bytes, max_pixels: int) -> Picture:
    """Decode the bytes of any image file that Pillow reads.

    Raises `LimitExceeded` for too many pixels, OSError for what Pillow cannot read, and ValueError for what it reads
    but `from_any` cannot code.
    """
    if not data:
        raise OSError("not an image: the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is lost is said in the picture's notes
            with Image.open(io.BytesIO(data)) as opened:
                check_format(opened)
                return from_any(opened, max_pixels)
    except UnidentifiedImageError:
        raise OSError("not an image that Pillow can read") from None
    except Exception as error:  # broken files make Pillow's readers raise almost anything
        if foreseen(error):
            raise
        raise OSError(f"broken image: {type(error).__name__}: {error}") from error
