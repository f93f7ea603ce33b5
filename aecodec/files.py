"""Files in, files out: which goes where, written whole or not at all."""

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from .errors import LimitExceeded
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


def plan(sources: Sequence[Path], out: Path | None, recursive: bool, inputs: set[str], suffix: str) -> list[Job]:
    """Which file becomes which.

    Without ``out`` each result lies beside its source, with another suffix. With several sources or a folder ``out``
    is a folder, in which folders keep their tree; else it is a folder if it is one already or ends in a slash.
    Raises `UsageError`.
    """
    if not sources:
        raise UsageError("no files given")
    for source in sources:
        if source.is_dir() and not recursive:
            raise UsageError(f"{source}: a folder; add --recursive to take the files in it")
    several = len(sources) > 1 or sources[0].is_dir()
    if several and (STANDARD in sources or out == STANDARD):
        raise UsageError("'-' goes with a single file")
    if several and out is not None and out.exists() and not out.is_dir():
        raise UsageError(f"{out}: not a folder, but several files are to be written")
    if not several:
        return [Job(sources[0], _single_target(sources[0], out, suffix))]
    jobs: dict[Path, Job] = {}
    for source in sources:
        for path in _walk(source, inputs) if source.is_dir() else [source]:
            place = path.parent if out is None else out / (path.relative_to(source).parent if source.is_dir() else "")
            target = place / (path.stem + suffix)
            if target in jobs:
                raise UsageError(f"{jobs[target].source} and {path} would both become {target}")
            jobs[target] = Job(path, target)
    return list(jobs.values())


def _single_target(source: Path, out: Path | None, suffix: str) -> Path:
    if out is None:
        return STANDARD if source == STANDARD else source.with_suffix(suffix)
    if out != STANDARD and out.is_dir():
        if source == STANDARD:
            raise UsageError(f"{out}: a folder; standard input has no name to use in it")
        return out / (source.stem + suffix)
    return out


def _walk(folder: Path, suffixes: set[str]) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in suffixes and path.is_file():
            yield path


def read(path: Path) -> bytes:
    """The bytes of a file or of standard input. Raises OSError."""
    return sys.stdin.buffer.read() if path == STANDARD else path.read_bytes()


def write(path: Path, data: bytes) -> None:
    """Write a file whole: to a temporary file beside it, synced, then renamed. Raises OSError, leaving nothing."""
    if path == STANDARD:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
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

    Raises `LimitExceeded` for too many pixels, and OSError or ValueError for what Pillow cannot read.
    """
    if not data:
        raise OSError("not an image: the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # we have a limit of our own
            with Image.open(io.BytesIO(data)) as opened:
                if opened.width * opened.height > max_pixels:
                    raise LimitExceeded(f"{opened.width}x{opened.height} pixels: more than the limit of {max_pixels}")
                return from_any(opened)
    except UnidentifiedImageError:
        raise OSError("not an image that Pillow can read") from None
    except Image.DecompressionBombError as error:
        raise LimitExceeded(str(error)) from None
    except (SyntaxError, EOFError) as error:  # how some of Pillow's readers say "broken"
        raise OSError(f"broken image: {error}") from None


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
