"""Files in, files out: which goes where, written whole or not at all."""

import contextlib
import errno
import hashlib
import io
import os
import secrets
import stat
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from . import exif, profiles
from .errors import foreseen
from .image import Picture, check_format, from_any, without_pillows_limit

STANDARD = Path("-")  # standard input or output
BLOCK = 1 << 20  # bytes that are read at once
PLUGINS = ("pillow_heif.HeifImagePlugin", "pillow_jxl")  # which Pillow does not find by itself
# programs, wrappers, what is recognised but not decoded, and what is coded already
NO_PICTURES = {"EPS", "WMF", "IPTC", "BUFR", "GRIB", "HDF5", "MPEG", "AEC"}
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
    "PNG": {"compress_level": 4},  # faster than the usual 6, for little more bytes
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True, "exact": True},
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
}
LOSSY = ("JPEG", "WEBP", "AVIF")  # what can be written at a quality
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


@cache
def image_suffixes() -> set[str]:
    """Those of the formats that the installed Pillow reads, in lower case; plugins for more of them are loaded."""
    for plugin in PLUGINS:
        with contextlib.suppress(ImportError):
            import_module(plugin)
    suffixes = Image.registered_extensions()  # loads all of Pillow's own
    formats = {*Image.OPEN, "MPO"} - NO_PICTURES  # MPO is opened as JPEG
    return {suffix for suffix, name in suffixes.items() if name in formats}


def expand(sources: Sequence[Path], recursive: bool, suffixes: set[str]) -> tuple[list[tuple[Path, Path]], list[str]]:
    """The files that are meant, each with the folder that it was found in, relative to the one that was given.

    And a line for each file in a folder that is left out. Raises `UsageError`.
    """
    if not sources:
        raise UsageError("no files given")
    found, left = [], []
    for source in sources:
        if not _whether(source.is_dir):
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
    paths: list[Path] = []  # among them folders that cannot be read: jobs that fail, for the others to go on
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
            starts += [path for name in sorted(below) if _whether((path := Path(top, name)).is_symlink)]
            files += [Path(top, name) for name in names]
    for path in sorted(files):
        suffix = path.suffix.lower()
        if path.name.startswith("._"):
            left.append(f"{path}: left out, what macOS keeps beside a file")
        elif suffix not in suffixes:
            wanted = "no .aec file" if suffixes == {".aec"} else "no picture"
            left += [f"{path}: left out, {wanted} by its name"] if suffix != ".aec" else []
        elif _whether(path.exists) and not _whether(path.is_file):
            left.append(f"{path}: left out, neither a file nor a folder")
        else:  # also what cannot be looked at, a dead link for instance: a job that fails
            paths.append(path)
    return sorted(paths), left


def is_stream(path: Path) -> bool:
    """Whether it stands for standard input or output, a pipe or a device: what is read there is read once."""
    return path == STANDARD or _whether(lambda: path.exists() and not path.is_file() and not path.is_dir())


def _whether(test: Callable[[], bool]) -> bool:
    """Not, if it cannot be told."""
    try:
        return test()
    except OSError:
        return False


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
    two_files = len(sources) == 2 and not any(_whether(source.is_dir) for source in sources)
    if not out and two_files and sources[1].suffix.lower() in outputs:
        sources, out = sources[:1], str(sources[1])
    found, left = expand(sources, recursive, inputs)
    several = len(sources) > 1 or _whether(sources[0].is_dir)
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
    """The same for two names of a file, as for those that some file systems take for the same."""
    return os.path.realpath(path).casefold()


def _same_file(target: Path, path: Path) -> bool:
    """Whether two names, by links, stand for one file."""
    return _whether(lambda: target.samefile(path))


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

    A new file may be read and written by nobody who may not do that with the file that is its ``source``. Devices and
    pipes are written to as they are. Raises `UsageError` for a terminal.
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


def suffix_of(name: str) -> str:
    """The suffix of a format that is named as people name it. Raises `UsageError`.

    >>> suffix_of("WebP")
    '.webp'
    """
    suffix = f".{name.lower()}"
    if suffix not in FORMATS:
        raise UsageError(f"format {name}: expected one of {', '.join(known[1:] for known in FORMATS)}")
    return suffix


def image_format(path: Path, asked: str | None = None) -> str:
    """Pillow's name of the format to write under this name, whose suffix says it, or else ``asked``, another suffix.

    PNG for standard output, unless something else is asked for. Raises `UsageError`.
    """
    named = FORMATS.get(path.suffix.lower())
    wanted = FORMATS[asked or ".png"] if asked or path == STANDARD else named
    if wanted is None:
        raise UsageError(f"{path}: expected a suffix of {', '.join(FORMATS)}")
    if named not in (None, wanted):
        raise UsageError(f"{path}: a name for {named}, but {wanted} is asked for")
    return wanted


def check_writable(name: str, quality: int | None = None) -> None:
    """Raises `UsageError` for a format that this Pillow cannot write, or not at a quality."""
    if quality is not None and name not in LOSSY:
        raise UsageError(f"{name} has no quality: --output-quality goes with {', '.join(LOSSY)}")
    try:
        Image.new("L", (8, 8)).save(io.BytesIO(), name)  # some libraries are missed only now
    except (KeyError, OSError):
        raise UsageError(f"the Pillow that is installed here cannot write {name}") from None


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


def encode_picture(
    image: Image.Image, name: str, quality: int | None = None, small: bool = False
) -> tuple[bytes, list[str]]:
    """The bytes of an image file, and what it could not hold. Raises ValueError for transparency that it cannot hold.

    Without a quality, formats that can be lossless are; JPEG and AVIF are written at a high one. ``small``: take time
    for a PNG with fewer bytes.
    """
    if "A" in image.mode and name in ("JPEG", "PPM", "BMP"):
        raise ValueError(f"{name} cannot hold transparency: choose PNG, WebP or TIFF")
    options = dict(OPTIONS.get(name, {}))
    if quality is not None:
        options |= {"quality": quality, "lossless": False}  # the latter is WebP's alone
    if small and name == "PNG":
        options["compress_level"] = 9
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
