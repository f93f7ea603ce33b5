"""Options that several commands have."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from .. import container
from .running import debugging


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
        context.call_on_close(partial(debugging.reset, debugging.set(True)))


Debug = Annotated[
    bool, typer.Option("--debug", callback=_show_tracebacks, help="Show where in the program each error came from.")
]
