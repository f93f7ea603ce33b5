"""Files in, files out: which goes where, written whole or not at all."""

import contextlib
import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from .image import Picture, from_any

STANDARD = Path("-")  # standard input or output
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm", ".jp2"}


class UsageError(ValueError):
    """What was asked for makes no sense, whatever the files contain."""


@dataclass(frozen=True)
class Job:
    """One file to read and one to write."""

    source: Path
    target: Path


def expand(sources: Sequence[Path], recursive: bool, suffixes: set[str]) -> list[tuple[Path, Path]]:
    """The files that are meant, each with the folder that it was found in, relative to the one that was given.

    Raises `UsageError`.
    """
    if not sources:
        raise UsageError("no files given")
    found = []
    for source in sources:
        if not source.is_dir():
            found.append((source, Path()))
        elif recursive:
            paths = (p for p in sorted(source.rglob("*")) if p.suffix.lower() in suffixes and p.is_file())
            found += [(path, path.parent.relative_to(source)) for path in paths]
        else:
            raise UsageError(f"{source}: a folder; add --recursive to take the files in it")
    if not found:
        raise UsageError("no files found")
    return found


def plan(sources: Sequence[Path], out: str | None, recursive: bool, inputs: set[str], suffix: str) -> list[Job]:
    """Which file becomes which.

    Without ``out`` each result lies beside its source, with another suffix. With several sources or a folder ``out``
    is a folder, in which folders keep their tree; else it is a folder if it is one already or ends in a slash.
    Raises `UsageError`.
    """
    found = expand(sources, recursive, inputs)
    several = len(sources) > 1 or sources[0].is_dir()
    if several and (STANDARD in sources or out == "-"):
        raise UsageError("'-' goes with a single file")
    if several and out is not None and Path(out).exists() and not Path(out).is_dir():
        raise UsageError(f"{out}: not a folder, but several files are to be written")
    jobs: dict[Path, Job] = {}
    for path, below in found:
        if out is None:
            target = path if path == STANDARD else path.with_suffix(suffix)
        elif several or out.endswith("/") or Path(out).is_dir():
            if path == STANDARD:
                raise UsageError(f"{out}: a folder; standard input has no name to use in it")
            target = Path(out) / below / (path.stem + suffix)
        else:
            target = Path(out)
        if target in jobs:
            raise UsageError(f"{jobs[target].source} and {path} would both become {target}")
        jobs[target] = Job(path, target)
    return list(jobs.values())


def read(path: Path) -> bytes:
    """The bytes of a file or of standard input. Raises OSError."""
    return sys.stdin.buffer.read() if path == STANDARD else path.read_bytes()


def write(path: Path, data: bytes) -> None:
    """Write a file whole: to a temporary file beside it, synced, then renamed. Raises OSError, leaving nothing.

    Devices and pipes are written to as they are.
    """
    if path == STANDARD:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    path = path.resolve()  # a link stays a link
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def open_picture(data: bytes, max_pixels: int) -> Picture:
    """Decode the bytes of any image file that Pillow reads.

    Raises `LimitExceeded` for too many pixels, OSError for what Pillow cannot read, and ValueError for what it reads
    but `from_any` cannot code.
    """
    if not data:
        raise OSError("not an image: the file is empty")
    Image.MAX_IMAGE_PIXELS = None  # ours is the limit that holds
    try:
        with Image.open(io.BytesIO(data)) as opened:
            return from_any(opened, max_pixels)
    except UnidentifiedImageError:
        raise OSError("not an image that Pillow can read") from None
    except (OSError, ValueError):
        raise
    except Exception as error:  # broken files make Pillow's readers raise almost anything
        raise OSError(f"broken image: {type(error).__name__}: {error}") from None


def image_format(path: Path) -> str:
    """Pillow's name of the format that a suffix stands for; PNG for standard output. Raises `UsageError`."""
    if path == STANDARD:
        return "PNG"
    Image.init()
    try:
        name = Image.EXTENSION[path.suffix.lower()]
    except KeyError:
        raise UsageError(f"{path}: no image format has the suffix {path.suffix!r}") from None
    if name not in Image.SAVE:
        raise UsageError(f"{path}: Pillow cannot write {name}")
    return name


def encode_picture(image: Image.Image, name: str) -> bytes:
    """The bytes of an image file in a format of Pillow's, with the metadata that the format can hold."""
    if name == "JPEG" and "A" in image.mode:
        raise ValueError("JPEG cannot hold transparency: choose PNG or WebP")
    kept = {key: image.info[key] for key in ("icc_profile", "exif", "xmp") if key in image.info}
    buffer = io.BytesIO()
    image.save(buffer, name, **kept, **({"quality": 95, "subsampling": 0} if name == "JPEG" else {}))
    return buffer.getvalue()
