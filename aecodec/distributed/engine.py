"""What the command line does on a cluster: files are listed, worked on where there is room, and reported one by one.

Ray Data runs the stages in `tasks` one after the other for each handful of files, and all at once for many. It does
again what was lost with an actor or a node. No process holds a list of all files.
"""

import errno
import logging
import os
import pickle
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
from ray.data import ActorPoolStrategy, DataContext, Datasource, ReadTask
from ray.data.block import BlockMetadata

from .. import shards
from ..batch import Result
from ..errors import foreseen
from ..files import UsageError
from ..storage import Place
from .tasks import Actor, Work, listed, opened, results_of, write_shard

PATIENCE = 10.0  # seconds within which a cluster has to answer


@dataclass(frozen=True)
class Shards:
    """Shards to write: of how many bytes, and of which kind."""

    size: int
    kind: shards.Kind = "tar"


@contextmanager
def cluster(address: str | None = None, cores: int = 1) -> Iterator[None]:
    """Ray, as long as it is needed: the cluster at an address, or one of this machine's ``cores`` alone.

    ``address``: ``auto`` for a cluster that runs on this machine, or ``host:port``. Raises `UsageError` for what is no
    address, and ConnectionError where no cluster answers.
    """
    if ray.is_initialized():  # by whoever calls
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        ray.init("local", num_cpus=cores, include_dashboard=False, **quiet)
    else:
        if address != "auto":
            _knock(address)
        try:
            ray.init(address, **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            raise ConnectionError(f"{address}: no Ray cluster: {_first_line(error)}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Whether anybody listens there, before Ray tries for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not host or not port.isdigit():
        raise UsageError(f"address {address}: expected auto or host:port")
    try:
        socket.create_connection((host, int(port)), PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(f"{address}: no Ray cluster answers: {_first_line(error)}") from None


def run(
    work: Work,
    source: Place,
    target: Place | None,
    suffixes: set[str],
    suffix: str,
    to_shards: Shards | None = None,
    overwrite: bool = False,
    on_gpus: bool = True,
    debug: bool = False,
) -> Iterator[Result]:
    """Work on every file below ``source``, whatever becomes of the others; a result for each, as they come.

    ``source`` is a folder, of which the files with ``suffixes`` count, or one of shards. Below ``target``, each file
    has the name that it has below the source, but for ``suffix``; without a target, nothing is written. What is there
    already is skipped, unless it is to be written over. With ``on_gpus``, each actor takes a GPU, if the cluster has
    any, else a core. Closing the iterator ends the work.

    Raises `UsageError`, OSError and `AecError` for what makes all of it impossible.
    """
    if not source.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), source.name)
    first = shards.begin(target) if to_shards and target else 0
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # bytes: each row is a block, which one call takes
    context.execution_options.preserve_order = bool(to_shards)  # for the same shards each time
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    with DataContext.current(context):
        listing = _Listing(partial(listed, source, target, suffixes, suffix, bool(to_shards), overwrite))
        units = ray.data.read_datasource(listing, num_cpus=0, override_num_blocks=1)
        stage = {"batch_size": None, "batch_format": "pyarrow"}
        if shards.is_sharded(source):
            units = units.map_batches(partial(opened, source, suffix), num_cpus=0, **stage)
        arguments = (work, source, target, bool(to_shards), overwrite, debug)
        made = units.map_batches(Actor, fn_constructor_args=arguments, **_share_of_a_machine(on_gpus), **stage)
        try:
            if to_shards and target:
                yield from _into_shards(made, target, to_shards, first)
            else:
                for unit in made.iter_batches(**stage):
                    yield from results_of(unit)
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            raise (cause if foreseen(cause) else error) from None
        except ray.exceptions.RayError as error:
            raise OSError(f"the cluster failed: {_first_line(error)}") from error


def _share_of_a_machine(on_gpus: bool) -> dict[str, Any]:
    """What an actor needs, and how many there may be."""
    there = ray.cluster_resources()
    kind = "GPU" if on_gpus and there.get("GPU") else "CPU"
    count = max(1, int(there.get(kind, 1)))
    pool = ActorPoolStrategy(min_size=1, max_size=count, initial_size=count)
    return {"compute": pool, f"num_{kind.lower()}s": 1}


class _Listing(Datasource):  # type: ignore[misc]
    """One task that lists."""

    def __init__(self, units: Callable[[], Iterator[Any]]):
        super().__init__()
        self._units = units

    def get_read_tasks(self, *_: Any, **__: Any) -> list[ReadTask]:
        return [ReadTask(self._units, BlockMetadata(None, None, None, None))]

    def estimate_inmemory_data_size(self) -> None:
        return None


def _into_shards(made: Any, target: Place, to_shards: Shards, number: int) -> Iterator[Result]:
    """Tasks that write shards, each of its share of the blocks, which this process does not look at."""
    write = ray.remote(write_shard).options(num_cpus=0, max_retries=-1)
    writing: deque[Any] = deque()
    at_once = 2 * len(ray.nodes())
    for blocks in _shares(made.iter_internal_ref_bundles(), to_shards.size):
        writing.append(write.remote(target, shards.name(number, to_shards.kind), *blocks))
        number += 1
        while len(writing) > at_once:
            yield from pickle.loads(ray.get(writing.popleft()))
    while writing:
        yield from pickle.loads(ray.get(writing.popleft()))


def _shares(bundles: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Blocks of at least so many bytes together, but for the last ones."""
    share: list[Any] = []
    total = 0
    for bundle in bundles:
        for block in bundle.blocks:
            share.append(block.ref)
            total += block.metadata.size_bytes or 0
        if total >= size:
            yield share
            share, total = [], 0
    if share:
        yield share


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
