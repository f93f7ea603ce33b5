"""Files in, files out: which goes where, written whole or not at all."""

import contextlib
import errno
import hashlib
import io
import os
import stat
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from . import exif, profiles
from .errors import foreseen
from .image import Picture, check_format, from_any, without_pillows_limit

STANDARD = Path("-")  # standard input or output
BLOCK = 1 << 20  # bytes that are read at once
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm", ".jp2"}
REPORT_START = b'{"source": '  # of each line

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".avif": "AVIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".jp2": "JPEG2000",
    ".bmp": "BMP",
    ".ppm": "PPM",
}
OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True, "exact": True},
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
}
CARRIED = {
    "PNG": ("icc_profile", "exif", "xmp", "dpi"),
    "JPEG": ("icc_profile", "exif", "xmp", "dpi"),
    "WEBP": ("icc_profile", "exif", "xmp", "dpi"),  # as EXIF
    "AVIF": ("icc_profile", "exif", "xmp", "dpi"),  # as EXIF
    "TIFF": ("icc_profile", "exif", "dpi"),
    "BMP": ("dpi",),
}


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
        try:
            folder = source.is_dir()
        except OSError:  # told as a job, for the others to go on
            folder = False
        if not folder:
            found.append((source, Path()))
        elif recursive:
            paths = _walk(source, suffixes)
            found += [(path, Path() if path == source else path.parent.relative_to(source)) for path in paths]
        else:
            raise UsageError(f"{source}: a folder; add --recursive to take the files in it")
    if not found:
        raise UsageError("no files found")
    return found


def _walk(folder: Path, suffixes: set[str]) -> list[Path]:
    closed: list[Path] = []  # folders that cannot be read: jobs that fail, for the others to go on
    tree = os.walk(folder, onerror=lambda error: closed.append(Path(error.filename)))
    paths = [Path(top, name) for top, _, names in tree for name in names if Path(name).suffix.lower() in suffixes]
    return sorted([*closed, *(p for p in paths if not _is_special(p))])


def _is_special(path: Path) -> bool:
    """A pipe, which never ends, or the like. What cannot be looked at, a dead link for instance, is told as a job."""
    try:
        return not path.is_file() and path.exists()
    except OSError:
        return False


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
    if several and out and Path(out).exists() and not Path(out).is_dir():
        raise UsageError(f"{out}: not a folder, but several files are to be written")
    jobs = []
    for path, below in found:
        if not out:
            target = path if path == STANDARD else path.with_suffix(suffix)
        elif several or out.endswith("/") or Path(out).is_dir():
            if path == STANDARD:
                raise UsageError(f"{out}: a folder; standard input has no name to use in it")
            target = Path(out) / below / (path.stem + suffix)
        else:
            target = Path(out)
        if STANDARD not in (path, target) and (target == path or _same_file(target, path)):
            raise UsageError(f"{path}: would be written over itself")
        if suffix == ".aec" and target.suffix.lower() in IMAGE_SUFFIXES:
            raise UsageError(f"{target}: what is written is an .aec file, whatever the name says")
        jobs.append(Job(path, target))
    return jobs


def _same_file(target: Path, path: Path) -> bool:
    """Whether two names, by links, stand for one file."""
    try:
        return target.samefile(path)
    except OSError:
        return False


def parse_region(text: str) -> tuple[int, int, int, int]:
    """``x,y,width,height``. Raises `UsageError`.

    >>> parse_region("10,20,300,200")
    (10, 20, 300, 200)
    """
    numbers = text.split(",")
    if len(numbers) != 4 or not all(n.isascii() and n.isdigit() for n in numbers):
        raise UsageError(f"region {text}: expected x,y,width,height")
    x, y, width, height = map(int, numbers)
    return x, y, width, height


def read(path: Path, most: int | None = None) -> bytes:
    """The bytes of a file or of standard input, or the first ``most`` of them. Raises OSError."""
    with contextlib.nullcontext(sys.stdin.buffer) if path == STANDARD else path.open("rb") as file:
        if most is None:
            return file.read()
        blocks = []
        while most and (block := file.read(min(most, BLOCK))):  # as many bytes as are there, not as may be wanted
            blocks.append(block)
            most -= len(block)
        return b"".join(blocks)


def write(path: Path, data: bytes, source: Path = STANDARD) -> None:
    """Write a file whole: to a temporary file beside it, synced, then renamed. Raises OSError, leaving nothing.

    A new file may be read and written by nobody who may not do that with its ``source``. Devices and pipes are written
    to as they are.
    """
    if path == STANDARD:
        if sys.__stdout__ is None:
            raise OSError(errno.EBADF, "standard output is closed")
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    path = path.resolve()  # a link stays a link
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    writer = f"{os.getpid()}-{threading.get_native_id()}"  # several may write the same file: the last one wins
    name = os.fsdecode(os.fsencode(path.name)[:100])  # names are limited in bytes
    partial = path.with_name(f".{name}.{writer}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            if hasattr(os, "fchmod"):  # what was private stays private
                if path.exists():
                    os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
                elif source != STANDARD:
                    os.fchmod(file.fileno(), stat.S_IMODE(os.fstat(file.fileno()).st_mode & source.stat().st_mode))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


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
                    if file.read(len(REPORT_START)) not in (b"", REPORT_START):
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


def digest(data: bytes) -> bytes:
    """The SHA-256 of what a file holds."""
    return hashlib.sha256(data).digest()


def delete_source(job: Job, read_digest: bytes, written: bytes, verify: Callable[[bytes], object]) -> None:
    """Remove what a job was made from, once the disk holds what was ``written`` and ``verify`` accepts it, which takes
    over its date.

    ``read_digest``: the `digest` of what was read. A source that has changed since then stays.

    Raises what ``verify`` raises, and OSError.
    """
    if job.target.read_bytes() != written:
        raise OSError(f"{job.target} has changed since it was written; the source stays")
    verify(written)
    if hasattr(os, "O_DIRECTORY"):  # the new name has to survive a loss of power before the old file goes
        folder = os.open(job.target.resolve().parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    if digest(job.source.read_bytes()) != read_digest:
        raise OSError(f"{job.source} has changed since it was read; it stays")
    times = job.source.stat()
    os.utime(job.target, ns=(times.st_atime_ns, times.st_mtime_ns))
    job.source.unlink()


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


def image_format(path: Path) -> str:
    """Pillow's name of the format to write under this name; PNG for standard output. Raises `UsageError`."""
    if path == STANDARD:
        return "PNG"
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise UsageError(f"{path}: expected a suffix of {', '.join(FORMATS)}") from None


def fit(image: Image.Image, name: str) -> tuple[Image.Image, list[str]]:
    """The image as a format holds it, and what was changed for that.

    What cannot hold a profile or an orientation gets the pixels in sRGB and turned. A profile for other pixels than
    these goes.
    """
    notes, carried = [], CARRIED.get(name, ())
    icc = image.info.get("icc_profile")
    if icc and not profiles.fits(icc, image.mode in ("L", "LA")):
        notes.append(f"profile left out: it is for {profiles.space(icc)}, not for {image.mode}")
        del image.info["icc_profile"]
    elif icc and "icc_profile" not in carried:
        image = _in_srgb(image, notes)
    if "exif" not in carried and (number := exif.orientation(image.info.get("exif", b""))) > 1:
        image.info["exif"] = exif.PREFIX + exif.of_orientation(number)  # whatever is broken in the other tags
        image = ImageOps.exif_transpose(image)
        notes.append("turned as its orientation says")
    return image, notes


def _in_srgb(image: Image.Image, notes: list[str]) -> Image.Image:
    """The same colours, without the profile that says which they are."""
    info, alpha = dict(image.info), image.getchannel("A") if "A" in image.mode else None
    icc = info.pop("icc_profile")
    try:
        image = profiles.to_srgb(image.convert(image.mode.removesuffix("A")), icc)
        notes.append("converted to sRGB by its profile")
    except ImageCms.PyCMSError as error:
        notes.append(f"icc_profile left out: {error}")
    else:
        if alpha:
            image.putalpha(alpha)
    image.info = info
    return image


def encode_picture(image: Image.Image, name: str) -> tuple[bytes, list[str]]:
    """The bytes of an image file, and what it could not hold. Raises ValueError for transparency that it cannot hold.

    Formats that can be lossless are; JPEG and AVIF are written at high quality.
    """
    if "A" in image.mode and name in ("JPEG", "PPM", "BMP"):
        raise ValueError(f"{name} cannot hold transparency: choose PNG, WebP or TIFF")
    options = dict(OPTIONS.get(name, {}))
    metadata = {key: image.info[key] for key in CARRIED.get(name, ()) if key in image.info}
    notes = [f"{name} holds no {key}" for key in image.info if key not in metadata]
    if name == "PNG" and "xmp" in metadata:
        options["pnginfo"] = info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", metadata.pop("xmp").decode("utf-8", "replace"))
    image.info = {}  # Pillow would take metadata from there too
    reason: Exception | None = None
    for missing in dict.fromkeys([(), *((key,) for key in metadata), tuple(metadata)]):
        kept = {key: value for key, value in metadata.items() if key not in missing}
        buffer = io.BytesIO()
        try:
            if name == "TIFF" and "exif" in kept:
                kept["exif"] = exif.without_storage(kept["exif"])
            image.save(buffer, name, **options, **kept)
            return buffer.getvalue(), notes + [f"{key} left out: {reason}" for key in missing]
        except Exception as error:  # broken or overlong metadata make Pillow raise almost anything
            reason = reason or error
    raise OSError(f"{name} cannot be written: {reason}") from reason
