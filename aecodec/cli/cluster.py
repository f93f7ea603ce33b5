"""Commands on a cluster: their options, and how they run there."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn, TextIO

import typer

from .running import debugging, extra, or_exit, reporting, wrong_usage

if TYPE_CHECKING:
    from ..distributed import Plan
    from ..distributed.tasks import Work

Engine = Annotated[
    Literal["threads", "ray"],
    typer.Option(help="ray: in processes, here or on a cluster, for a folder or URL of any size (extra [ray])."),
]


def as_size(text: str) -> int:
    """Bytes.

    >>> as_size("1.5GB")
    1500000000
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([kMGT]?)B?", text)
    if not found or not (size := int(float(found[1]) * 1000 ** " kMGT".index(found[2] or " "))):
        raise typer.BadParameter(f"{text}: expected a number of bytes such as 500MB or 1GB")
    return size


ShardSize = Annotated[
    int | None,
    typer.Option(
        "--shards",
        parser=as_size,
        metavar="SIZE",
        help="With --engine ray: write shards of about so many bytes, such as 1GB, in place of a tree of files.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT", help="The Ray cluster to use, auto for this machine's, in place of --jobs processes here."
    ),
]


def on_ray(engine: str, address: str | None, jobs: int, recursive: bool, has_out: bool, **others: object) -> bool:
    """Whether a command is to run on a cluster, where ``others`` cannot be had. Exits where options do not fit."""
    if engine != "ray":
        if address is not None:
            wrong_usage("--address goes with --engine ray")
        return False
    if not recursive:
        wrong_usage("--engine ray takes a folder: add --recursive")
    if not has_out:
        wrong_usage("--engine ray writes to another folder: add --out")
    if address is not None and jobs > 1:
        wrong_usage("--jobs goes without --address: a cluster says itself how many")
    for name, value in others.items():
        if value:
            wrong_usage(f"--{name.replace('_', '-')} goes without --engine ray")
    return True


def plan(
    work: "Work",
    sources: Sequence[str],
    out: str | None,
    suffixes: set[str],
    suffix: str,
    shards: tuple[int, str] | None = None,
    overwrite: bool = False,
) -> "Plan":
    """What is to be done with the files below the only source; see `distributed.Plan`."""
    distributed, storage = extra("distributed", "ray"), extra("storage", "ray")
    if len(sources) > 1 or "-" in (sources[0], out):
        wrong_usage("--engine ray takes one folder or URL, and writes to another")
    source, target = (or_exit(storage.Place.at, url) if url else None for url in (sources[0], out))
    to_shards = distributed.Shards(*shards) if shards else None
    planned: Plan = distributed.Plan(work, source, target, suffixes, suffix, to_shards, overwrite, debugging.get())
    return planned


def run_on_ray(
    planned: "Plan",
    address: str | None,
    jobs: int,
    device: str,
    report: Path | None,
    quiet: bool,
    stream: TextIO | None = None,
    as_json: bool = False,
) -> NoReturn:
    """As `running.run`, on the cluster at an address or in as many processes on this machine."""
    distributed = extra("distributed", "ray")
    results = or_exit(distributed.run, planned, not device.startswith("cpu"))
    with reporting([], report, (), planned.overwrite, stream or sys.stderr, quiet=quiet, as_json=as_json) as (tell, _):

        def work_off() -> None:
            with distributed.cluster(address, jobs):
                for result in results:
                    tell(result)

        or_exit(work_off)
    raise AssertionError  # reporting has exited
