"""The command line. It parses, calls and prints; what it calls is in `files`, `codec` and `training`."""

import io
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from fractions import Fraction
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TextIO, TypeVar

import typer

from . import container, errors

if TYPE_CHECKING:
    from .batch import Done, Progress, Work
    from .codec import Codec
    from .files import Job

T = TypeVar("T")

_debug = ContextVar("debug", default=False)

app = typer.Typer(
    name="aecodec",
    help="A learned image codec: pictures to .aec files and back.",
    epilog="Exit codes: 0 all well, 1 some files failed, 2 wrong usage, 3 corrupt, 4 unsupported or beyond a limit, "
    "5 a target missed; 3 to 5 when every failure is of that kind.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def as_out(text: str) -> str:
    """Only - itself stands for standard input and output: pathlib takes ./- for the same."""
    return f"{Path.cwd()}/{text}" if Path(text) == Path("-") and text != "-" else text


def as_path(text: str) -> Path:
    return Path(as_out(text))


Device = Annotated[
    str, typer.Option(help="auto, cpu, cuda, or cuda:1 for the second GPU. What files decode to does not depend on it.")
]
Out = Annotated[
    str | None,
    typer.Option(
        "-o", "--out", parser=as_out, metavar="PATH", help="File or folder to write, or - for standard output."
    ),
]
Weights = Annotated[
    str | None, typer.Option("--weights", help="Weights to use instead of base: installed ones by name, or a file.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]
Skip = Annotated[
    bool, typer.Option("--skip-existing", help="Leave files that exist, without an error; -r does so by itself.")
]
Jobs = Annotated[int, typer.Option("--jobs", min=1, max=256, help="How many files to work on at once.")]
Report = Annotated[
    Path | None,
    typer.Option(
        "--report",
        parser=as_path,
        metavar="PATH",
        help="A file to write a line of JSON to for each file that was worked on.",
    ),
]
MaxPixels = Annotated[
    int, typer.Option(min=1, max=container.MAX_SIDE**2, help="Refuse pictures with more pixels.", show_default="2^28")
]
Recursive = Annotated[
    bool, typer.Option("-r", "--recursive", help="Take the files in folders, links followed, and keep the tree.")
]
Quiet = Annotated[
    bool, typer.Option("--quiet", help="Show neither a progress bar nor a line for what went well: errors alone.")
]


def _show_tracebacks(context: typer.Context, asked: bool) -> None:
    if asked:
        context.call_on_close(partial(_debug.reset, _debug.set(True)))


Debug = Annotated[
    bool, typer.Option("--debug", callback=_show_tracebacks, help="Show where in the program each error came from.")
]


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Debug = False,
) -> None:
    context.with_resource(_streams())
    context.with_resource(_unwinding_on_signals())
    context.call_on_close(_flush)
    if version:
        import aecodec

        print(aecodec.__version__)
        raise typer.Exit


def _flush() -> None:
    """While typer still sees to it that a command whose output nobody reads on ends without a word."""
    try:
        sys.stdout.flush()
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise  # of others, Python tells in the end


@app.command()
def compress(
    images: Annotated[
        list[Path],
        typer.Argument(
            parser=as_path, help="Images or folders, or - for standard input; or an image and the .aec file to write."
        ),
    ],
    out: Out = None,
    quality: Annotated[
        int | None,
        typer.Option(
            "-q", "--quality", min=0, max=100, help=f"0 smallest, 100 best; {container.DEFAULT_QUALITY} unless told."
        ),
    ] = None,
    target_bytes: Annotated[
        int | None, typer.Option(min=1, max=10**11, help="The best file of at most so many bytes.")
    ] = None,
    target_bpp: Annotated[
        float | None, typer.Option(min=0, max=1e3, help="The best file of at most so many bits a pixel.")
    ] = None,
    target_psnr: Annotated[
        float | None, typer.Option(min=0, max=1e3, help="The smallest file of at least so many dB.")
    ] = None,
    target_ssimulacra2: Annotated[
        float | None,
        typer.Option(
            max=100, help="The smallest file of at least such a score of SSIMULACRA 2: 90 visually lossless, 70 high."
        ),
    ] = None,
    regions: Annotated[
        list[str] | None,
        typer.Option(
            "--roi",
            help="Region of interest, x,y,width,height:+20 or mask.png:+20: what to add to the quality there. Tiles of "
            "128 pixels take the largest number in them.",
        ),
    ] = None,
    effort: Annotated[
        int,
        typer.Option(min=0, max=9, help="Time to spend on a better file for its size: 0 none, 9 three thousand steps."),
    ] = 0,
    thumbnail: Annotated[
        bool,
        typer.Option("--thumbnail", help="Store a small copy too, for a fast --scale 1/8: about 5 kB a megapixel."),
    ] = False,
    strip: Annotated[
        bool, typer.Option("--strip", help="Leave out EXIF and XMP, where cameras and places are named.")
    ] = False,
    delete_source: Annotated[
        bool,
        typer.Option(
            "--delete-source",
            help="Remove each image of which nothing was left out once its file is on the disk and decodes.",
        ),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Write nothing where a target cannot be met, in place of the nearest file.")
    ] = False,
    device: Device = "auto",
    weights: Weights = None,
    max_pixels: MaxPixels = container.MAX_PIXELS,
    overwrite: Overwrite = False,
    skip_existing: Skip = False,
    recursive: Recursive = False,
    jobs: Jobs = 1,
    report: Report = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Compress images to .aec files."""
    from . import files, roi, targets
    from .batch import Done, printable, size

    goals: dict[str, float | None] = {
        "size": target_bytes,
        "bpp": target_bpp,
        "psnr": target_psnr,
        "ssimulacra2": target_ssimulacra2,
    }
    if sum(goal is not None for goal in (quality, *goals.values())) > 1:
        print("aecodec: give --quality or one of the options that begin with --target", file=sys.stderr)
        raise typer.Exit(2)
    target = _usage(targets.one_target, goals) if set(goals.values()) != {None} else None
    if strict and not target:
        print("aecodec: --strict goes with one of the options that begin with --target", file=sys.stderr)
        raise typer.Exit(2)
    planned, left = _usage(files.plan, images, out, recursive, files.image_suffixes(), ".aec")
    streams = [path for job in planned for path in (job.source, job.target) if files.is_stream(path)]
    if delete_source and streams:
        print(printable(f"aecodec: --delete-source goes with files, not with {streams[0]}"), file=sys.stderr)
        raise typer.Exit(2)
    codec = _codec(device, weights, max_pixels, needs_torch="an effort" if effort else "")
    chosen = container.DEFAULT_QUALITY if quality is None else quality
    places = [_usage(roi.Region.parse, text) for text in regions or []]
    masks = {os.path.realpath(region.place) for region in places if isinstance(region.place, Path)}
    if delete_source and any(os.path.realpath(job.source) in masks for job in planned):
        print("aecodec: --delete-source would remove a mask of --roi", file=sys.stderr)
        raise typer.Exit(2)

    def work(job: "Job", advance: "Progress") -> "Done":
        data = files.read(job.source)
        before, digest = len(data), files.digest(data) if delete_source else b""
        opened = files.open_picture(data, max_pixels)
        picture = opened.stripped() if strip else opened
        del data  # large pictures leave no room to spare
        height, width, _ = picture.pixels.shape
        offsets = roi.offsets(places, height, width) if places else None
        if target:
            coded, scores, missed = codec._reach(picture, *target, offsets, effort, thumbnail, advance)
            if missed and strict:
                raise errors.TargetMissed(missed, coded)
        else:
            coded, scores, missed = (
                codec.compress(picture, chosen, roi=offsets, effort=effort, thumbnail=thumbnail, progress=advance),
                {},
                "",
            )
        files.write(job.target, coded, job.source)
        bpp = len(coded) * 8 / (width * height)
        reached = {"quality": container.read_header(coded, max_pixels).quality, "bpp": bpp, **scores} if target else {}
        notes = [*picture.notes, *(["larger than its source"] if len(coded) > before else [])]
        told = f"{_in_words(reached)}{_in_brackets(notes)}"
        text = f"{size(before)} -> {size(len(coded))}  {bpp:.3f} bpp{told}"
        if delete_source and not missed:
            if not picture.notes:  # nothing goes that was not kept
                files.delete_source(job, digest, coded, codec.verify)
            text += "  source stays" if picture.notes else "  source deleted"
        return Done(before, len(coded), width, height, text, notes, missed, reached)

    # what a target or a region was, no file says
    differs = partial(_difference, codec.model.id, None if target or regions else chosen, strip)
    _run(planned, work, overwrite, skip_existing, recursive, jobs, report, differs, left, slow=effort > 0, quiet=quiet)


@app.command()
def decompress(
    paths: Annotated[
        list[Path],
        typer.Argument(
            parser=as_path, metavar="FILES", help=".aec files or folders, or -; or an .aec file and the image to write."
        ),
    ],
    out: Out = None,
    output_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="png, jpg, webp, avif, tif, jp2, bmp or ppm, where no name of a file says it; png unless told.",
        ),
    ] = None,
    output_quality: Annotated[
        int | None,
        typer.Option(
            min=1, max=100, help="Quality of jpg, webp and avif; 95 unless told, and for webp lossless in its place."
        ),
    ] = None,
    small: Annotated[bool, typer.Option("--small", help="Take time for PNGs of fewer bytes.")] = False,
    region: Annotated[
        str | None, typer.Option(metavar="X,Y,WIDTH,HEIGHT", help="Decode these pixels only, in less time.")
    ] = None,
    scale: Annotated[
        Literal["1", "1/2", "1/4", "1/8"], typer.Option(help="Decode a smaller picture, in less time.")
    ] = "1",
    preview: Annotated[
        int | None, typer.Option(min=1, metavar="BYTES", help="What the first so many bytes of a file show.")
    ] = None,
    salvage: Annotated[
        bool, typer.Option("--salvage", help="Decode what there is of a damaged file whose header is whole.")
    ] = False,
    device: Device = "auto",
    weights: Weights = None,
    max_pixels: MaxPixels = container.MAX_PIXELS,
    overwrite: Overwrite = False,
    skip_existing: Skip = False,
    recursive: Recursive = False,
    jobs: Jobs = 1,
    report: Report = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Decompress .aec files to PNG, or to what --format or the suffix of --out says."""
    from . import files
    from .batch import Done, size

    asked = _usage(files.suffix_of, output_format) if output_format is not None else None
    planned, _ = _usage(files.plan, paths, out, recursive, {".aec"}, asked or ".png")
    formats = {job: _usage(files.image_format, job.target, asked) for job in planned}
    for name in sorted({*formats.values()}):
        _usage(files.check_writable, name, output_quality)
    box = _usage(files.parse_region, region) if region is not None else None
    codec = _codec(device, weights, max_pixels)

    def work(job: "Job", _: "Progress") -> "Done":
        data, shrunk, damage = files.read(job.source, preview), float(Fraction(scale)), ""
        if salvage:
            image, damage = codec.salvage(data, region=box, scale=shrunk)
        elif preview is not None:
            image = codec.preview(data, region=box, scale=shrunk)
        else:
            image = codec.decompress(data, region=box, scale=shrunk)
        image, changed = files.fit(image, formats[job])
        encoded, left_out = files.encode_picture(image, formats[job], output_quality, small)
        files.write(job.target, encoded, job.source)
        notes = [*([damage] if damage else []), *changed, *left_out]
        text = f"{size(len(data))}  {image.width}x{image.height} {image.mode}{_in_brackets(notes)}"
        return Done(len(data), len(encoded), image.width, image.height, text, notes)

    _run(planned, work, overwrite, skip_existing, recursive, jobs, report, quiet=quiet)


@app.command()
def info(
    paths: Annotated[list[Path], typer.Argument(parser=as_path, metavar="FILES", help=".aec files or folders, or -.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object in a line for each file.")] = False,
    recursive: Recursive = False,
    debug: Debug = False,
) -> None:
    """Print what files hold, without decoding them."""
    from .batch import common_code, exit_code, explain, printable

    codes, between = [], ""
    for path in _expanded(paths, recursive):
        try:
            held = _held(path)
        except Exception as error:
            _say(error, explain(path, error))
            codes.append(exit_code(error))
            continue
        if as_json:
            print(json.dumps(held))
        else:
            print(between + "\n".join(f"{key:15} {printable(str(value))}" for key, value in held.items()))
            between = "\n"
    raise typer.Exit(common_code(codes))


def _expanded(paths: list[Path], recursive: bool) -> list[Path]:
    """The files that are meant. Pillow, which takes a while to import, is imported for folders alone."""

    def is_folder(path: Path) -> bool:
        with suppress(OSError):
            return path.is_dir()
        return False

    if not any(map(is_folder, paths)):
        return paths
    from . import files

    found, _ = _usage(files.expand, paths, recursive, {".aec"})
    return [path for path, _ in found]


def _held(path: Path) -> dict[str, Any]:
    """What an .aec file says of itself. Raises OSError and `errors.AecError`."""
    from . import registry

    data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    parsed = container.read(data, max_pixels=container.MAX_SIDE**2)
    h = parsed.header
    weights = registry.installed().get(h.model)
    return {
        "file": str(path),
        "bytes": len(data),
        "width": h.width,
        "height": h.height,
        "mode": h.mode,
        "quality": h.quality,
        "bpp": round(len(data) * 8 / (h.width * h.height), 4),
        "tiles": h.tile_count,
        "tile_size": h.tile_size,
        "model": h.model.hex(),
        "weights": weights.stem if weights else None,
        "alpha_bytes": len(parsed.alpha or b""),
        "metadata_bytes": {key: len(value) for key, value in parsed.metadata.items()},
    }


@app.command()
def verify(
    paths: Annotated[list[Path], typer.Argument(parser=as_path, metavar="FILES", help=".aec files or folders, or -.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the lines of --report in place of those for people.")
    ] = False,
    device: Device = "auto",
    weights: Weights = None,
    max_pixels: MaxPixels = container.MAX_PIXELS,
    recursive: Recursive = False,
    jobs: Jobs = 1,
    report: Report = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Check files: every checksum and every symbol."""
    from . import files
    from .batch import Done

    found, _ = _usage(files.expand, paths, recursive, {".aec"})
    codec = _codec(device, weights, max_pixels)

    def work(job: "Job", _: "Progress") -> "Done":
        data = files.read(job.source)
        h = codec.verify(data)
        return Done(len(data), 0, h.width, h.height, f"ok  {h.width}x{h.height} {h.mode}")

    checked = [files.Job(path, files.STANDARD) for path, _ in found]
    _run(checked, work, at_once=jobs, report=report, stream=sys.stdout, quiet=quiet, as_json=as_json)


@app.command()
def doctor(debug: Debug = False) -> None:
    """Print versions, devices and models, and try on this machine that the prior is exact and how fast it all is."""
    from . import doctor as module

    well = True
    for name, value, good in module.examine(_debug.get()):
        print(f"{name:18} {value}")
        well &= good
    raise typer.Exit(int(not well))


@app.command()
def train(
    data: Annotated[list[Path], typer.Option("--data", help="Folders of images to learn from.", exists=True)],
    out: Annotated[Path, typer.Option("--out", help="Folder for checkpoints and the log.")],
    hours: Annotated[float | None, typer.Option(min=1e-3, help="How long to train, in all; 2 unless told.")] = None,
    valid: Annotated[
        Path | None, typer.Option("--valid", help="Images to measure rate and distortion on.", exists=True)
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in --out, with more --hours if it had ended.")
    ] = False,
    init: Annotated[str | None, typer.Option("--init", help="Weights to start from: base, or a file.")] = None,
    objective: Annotated[
        Literal["eye", "psnr", "ms-ssim"] | None, typer.Option(help="The distortion to minimise; eye unless told.")
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(min=0, max=255, help="Learn to remove noise of a deviation of up to so many grey levels."),
    ] = None,
    patience: Annotated[
        int, typer.Option(min=0, help="Stop after so many validations without a gain; 0 for never.")
    ] = 0,
    debug: Debug = False,
) -> None:
    """Train a model (needs the extra [train]). Under torchrun, the processes share the work."""
    loop = _training("loop")
    asked = {"hours": hours, "objective": objective, "noise": noise}
    asked = {name: value for name, value in asked.items() if value is not None}
    _usage(loop.train, data, out, asked, valid, resume, init, patience)


@app.command()
def curve(
    run: Annotated[Path, typer.Argument(help="The --out folder of `train`.", exists=True)],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The PNG to write; curve.png in the folder.")] = None,
    debug: Debug = False,
) -> None:
    """Draw how a training run went: loss and BD-rate over time (needs the extra [train])."""
    target = out or run / "curve.png"
    _usage(_training("curve").draw, run, target)
    print(target, file=sys.stderr)


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint.pt of `train`.", exists=True)],
    out: Annotated[Path, typer.Option("--out", help="The .safetensors file to write; its card lies beside it.")],
    data: Annotated[list[Path], typer.Option("--data", help="Training images, to fit the tables on.", exists=True)],
    valid: Annotated[Path, typer.Option("--valid", help="Images to measure the model on.", exists=True)],
    force: Annotated[bool, typer.Option("--force", help="Replace weights that are there, better or not.")] = False,
    debug: Debug = False,
) -> None:
    """Turn a checkpoint into a weights file and its model card (needs the extra [train])."""
    card = _training("card")
    _usage(card.export_with_card, checkpoint, out, data, valid, force)


def _training(module: str) -> Any:
    try:
        return import_module(f".training.{module}", __package__)
    except ModuleNotFoundError as error:
        print(f"aecodec: {error.name} is missing: pip install 'aecodec[train]'", file=sys.stderr)
        raise typer.Exit(2) from None


def _codec(device: str, weights: str | None, max_pixels: int, needs_torch: str = "") -> "Codec":
    """``needs_torch``: what for. The codec then computes with it, too."""
    from . import devices
    from .codec import Codec

    if needs_torch:
        _usage(devices.torch_for, needs_torch)
    return _usage(Codec, device, weights or "base", max_pixels)


def _difference(model: bytes, quality: int | None, strip: bool, target: Path) -> str:
    """How an .aec file that exists is not what was asked for, if its start tells."""
    from .image import stripped

    try:
        with target.open("rb") as file:
            header, metadata = container.read_start(file)
    except (OSError, errors.AecError) as error:
        return f"which cannot be read: {error}"
    if header.model != model:
        return "made with other weights"
    if strip and metadata != stripped(metadata):
        return "made without --strip"
    return "" if quality in (None, header.quality) else f"made with quality {header.quality} in place of {quality}"


@contextmanager
def _streams() -> Iterator[None]:
    """Streams that take everything, for as long as a command runs."""
    with ExitStack() as before:
        # whoever closes a stream has nothing to say or does not want to hear
        for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
            if getattr(sys, name) is None:
                before.callback(setattr, sys, name, None)
                setattr(sys, name, before.enter_context(Path(os.devnull).open(mode)))
        for output in (sys.stdout, sys.stderr):
            if isinstance(output, io.TextIOWrapper):
                before.callback(_reconfigure, output, output.errors)
                _reconfigure(output, "backslashreplace")  # no name of a file ends a batch
        yield


def _reconfigure(output: io.TextIOWrapper, errors: str | None) -> None:
    with suppress(OSError, ValueError):  # what is left to be written may have no room, or the stream may be closed
        output.reconfigure(errors=errors)


@contextmanager
def _unwinding_on_signals() -> Iterator[None]:
    """What is half written goes when the process is asked to end. Signals are the main thread's alone."""
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    # those that are ignored stay so, and those that are no handlers of Python's
    before = {n: found for n in numbers if (found := signal.getsignal(n)) not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _usage(call: Callable[..., T], *args: Any) -> T:
    """Call, and turn what goes wrong into a message and an exit code, 2 if it is due to the arguments."""
    try:
        return call(*args)
    except Exception as error:
        _fail(
            error,
            f"aecodec: {error}",
            2 if isinstance(error, ValueError | FileNotFoundError | errors.TorchMissing) else 1,
        )


def _fail(error: Exception, message: str, code: int) -> NoReturn:
    """Say what went wrong and exit."""
    _say(error, message)
    raise typer.Exit(code) from None


def _say(error: Exception, message: str) -> None:
    """Say what went wrong. What nobody foresaw stays an exception, whose traceback the interpreter shows."""
    from .batch import printable

    if not errors.foreseen(error):
        raise error
    if _debug.get():
        traceback.print_exception(error)
    print(printable(message), file=sys.stderr)


def _run(
    planned: "list[Job]",
    work: "Work",
    overwrite: bool = False,
    skip: bool = False,
    recursive: bool = False,
    at_once: int = 1,
    report: Path | None = None,
    differs: Callable[[Path], str] = lambda _: "",
    left: Sequence[str] = (),
    stream: TextIO | None = None,
    slow: bool = False,
    quiet: bool = False,
    as_json: bool = False,
) -> None:
    """Do every job, print a line for each, and exit with the code that sums them up.

    ``differs``: see `batch.run`; ``left``: what to say of files that are left out; ``slow``: a bar even for one;
    ``quiet``: a line for each failure alone; ``as_json``: the report's lines, of all.
    """
    from . import batch, files

    if overwrite and skip:
        print("aecodec: --overwrite and --skip-existing exclude each other", file=sys.stderr)
        raise typer.Exit(2)
    results: list[batch.Result] = []
    for line in () if quiet else left:
        print(batch.printable(line), file=sys.stderr)
    start = time.perf_counter()
    with (
        _usage(files.Report, report, planned, overwrite) as log,
        _progress(len(planned), stream or sys.stderr, slow, quiet) as (show, advance),
    ):

        def tell(result: batch.Result) -> None:
            results.append(result)
            log.add(result.record())
            if as_json:
                print(result.trace, end="", file=sys.stderr)
                show(result.record())
            elif result.code or not quiet:
                show("\n".join(batch.printable(line) for line in [*result.trace.splitlines(), result.line]))

        batch.run(planned, work, tell, advance, at_once, overwrite, skip or recursive, _debug.get(), differs)
    if len(results) + len(left) > 1 and not quiet:
        print(batch.total(results, len(left), time.perf_counter() - start), file=sys.stderr)
    if not quiet and (differing := sum(bool(result.differs) for result in results)):
        print(f"{differing} skipped, but not as asked for: --overwrite makes them anew", file=sys.stderr)
    if log.error:
        print(f"{report}: {log.error}", file=sys.stderr)
    raise typer.Exit(batch.common_code([*(result.code for result in results), int(bool(log.error))]))


@contextmanager
def _progress(
    count: int, stream: TextIO, slow: bool, quiet: bool = False
) -> "Iterator[tuple[Callable[[str], None], Progress]]":
    """How to print the line of a job that is done, above a bar if there is a terminal, and to move the bar before."""
    if quiet or not stream.isatty() or (count == 1 and not slow):
        yield lambda line: print(line, file=stream), lambda share: None
        return
    from rich import progress
    from rich.console import Console

    with progress.Progress(console=Console(file=stream), transient=True) as bar:
        task = bar.add_task("", total=count)
        done = 0

        def show(line: str) -> None:
            nonlocal done
            done += 1
            bar.console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)
            bar.update(task, completed=done)

        yield show, lambda share: bar.update(task, completed=done + share)


def _in_words(reached: Mapping[str, float]) -> str:
    """The quality and the score that a target led to."""
    from . import targets

    words = {"quality": "quality {}", **{name: scale.words for name, scale in targets.SCALES.items()}}
    said = [words[name].format(value) for name, value in reached.items() if name in words]
    return f"  {', '.join(said)}" if said else ""


def _in_brackets(notes: Iterable[str]) -> str:
    return "".join(f"  ({note})" for note in notes)
