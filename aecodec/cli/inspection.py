"""The commands that look at files and at the installation, and write no pictures."""

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import container
from .cluster import Address, Engine, on_ray, plan, run_on_ray
from .options import Debug, Device, Jobs, MaxPixels, Quiet, Recursive, Report, Weights, as_out, as_path
from .running import debugging, load_codec, or_exit, run, say_error

if TYPE_CHECKING:
    from ..arguments import Progress
    from ..batch import Done
    from ..planning import Job


def info(
    paths: Annotated[list[Path], typer.Argument(parser=as_path, metavar="FILES", help=".aec files or folders, or -.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object in a line for each file.")] = False,
    recursive: Recursive = False,
    debug: Debug = False,
) -> None:
    """Print what files hold, without decoding them."""
    from ..batch import common_code, exit_code, explain, printable

    codes, between = [], ""
    for path in _expanded(paths, recursive):
        try:
            held = _held(path)
        except Exception as error:
            say_error(error, explain(path, error))
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
    from ..planning import expand

    found, _ = or_exit(expand, paths, recursive, {".aec"})
    return [path for path, _ in found]


def _held(path: Path) -> dict[str, Any]:
    """What an .aec file says of itself. Raises OSError and `errors.AecError`."""
    from .. import registry

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


def verify(
    paths: Annotated[list[str], typer.Argument(parser=as_out, metavar="FILES", help=".aec files or folders, or -.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the lines of --report in place of those for people.")
    ] = False,
    device: Device = "auto",
    weights: Weights = None,
    max_pixels: MaxPixels = container.MAX_PIXELS,
    recursive: Recursive = False,
    jobs: Jobs = 1,
    engine: Engine = "threads",
    address: Address = None,
    report: Report = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Check files: every checksum and every symbol."""
    from .. import files, planning
    from ..work import Verification

    distributed = on_ray(engine, address, jobs, recursive, True)
    found, _ = ([], []) if distributed else or_exit(planning.expand, [*map(Path, paths)], recursive, {".aec"})
    verification = Verification(load_codec(device, weights, max_pixels))
    if distributed:
        to_do = plan(verification, paths, None, {".aec"}, ".aec")
        run_on_ray(to_do, address, jobs, device, report, quiet, sys.stdout, as_json)

    def work(job: "Job", _: "Progress") -> "Done":
        return verification(files.read(job.source), "-")[1]

    checked = [planning.Job(path, files.STANDARD) for path, _ in found]
    run(checked, work, at_once=jobs, report=report, stream=sys.stdout, quiet=quiet, as_json=as_json)


def doctor(debug: Debug = False) -> None:
    """Print versions, devices and models, and try on this machine that the prior is exact and how fast it all is."""
    from .. import doctor as module

    well = True
    for name, value, good in module.examine(debugging.get()):
        print(f"{name:18} {value}")
        well &= good
    raise typer.Exit(int(not well))
