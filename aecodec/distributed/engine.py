"""What the command line does on a cluster: files are listed, worked on where there is room, and reported one by one.

Ray Data runs the stages in `tasks` one after the other for each handful of files, and all at once for many. It does
again what was lost with an actor or a node. No process holds a list of all files.
"""

import logging
import os
import pickle
import signal
import socket
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
from .tasks import Actor, Plan, Shards, listed, opened, results_of, write_shard

PATIENCE = 10.0  # seconds within which a cluster has to answer
SETTINGS = b"\4"  # the type of HTTP/2's first frame, from either side
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + SETTINGS + bytes(5)


@contextmanager
def cluster(address: str | None = None, cores: int = 1) -> Iterator[None]:
    """Ray, as long as it is needed: the cluster at an address, or one of this machine's ``cores`` alone.

    ``address``: ``auto`` for a cluster that runs on this machine, or ``host:port``. Raises `UsageError` for what is no
    address, and ConnectionError where no cluster answers.
    """
    if ray.is_initialized():  # by whoever calls
        yield
        return
    if address not in (None, "auto"):
        _knock(str(address))
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what goes wrong comes as an exception, too
    here: dict[str, Any] = {} if address else {"num_cpus": cores, "include_dashboard": False}
    stop = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **here)
    except (OSError, RuntimeError, ValueError) as error:
        raise ConnectionError(f"{address or 'this machine'}: no Ray cluster: {_sentence(error)}") from None
    if threading.current_thread() is threading.main_thread() and stop:
        signal.signal(signal.SIGTERM, stop)  # which Ray takes over
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Whether anybody answers there as Ray does, by HTTP/2, before Ray itself tries for minutes."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit():
        raise UsageError(f"address {address}: expected auto or host:port")
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return
    try:
        with socket.create_connection((host, int(port)), PATIENCE) as connection:
            connection.sendall(HELLO)
            answer = connection.recv(9)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConnectionError(f"{address}: no Ray cluster answers: {reason}") from None
    if answer[3:4] != SETTINGS:
        raise ConnectionError(f"{address}: no Ray cluster: something else listens there")


def run(plan: Plan, on_gpus: bool = True) -> Iterator[Result]:
    """Work on every file, whatever becomes of the others; a result for each, as they come, within `cluster`.

    With ``on_gpus``, each actor takes a GPU, if the cluster has any, else a core. Closing the iterator ends the work.

    Raises `UsageError`, OSError and `AecError` for what makes all of it impossible: what the places tell, at once,
    before there is a cluster.
    """
    if not plan.source.exists():
        raise FileNotFoundError(f"{plan.source.name}: no such file or folder")
    if plan.source.is_file():
        raise UsageError(f"{plan.source.name}: a file, where a folder is expected")
    if plan.shards and plan.target and plan.target.is_same(plan.source):
        raise UsageError(f"{plan.target.name}: holds the pictures; shards go to another folder")
    first = shards.begin(plan.target) if plan.shards and plan.target else 0
    if plan.overwrite and first and plan.target:
        raise UsageError(f"{plan.target.name}: holds shards, which are not written over: remove the folder")
    return _some(_results(plan, on_gpus, first), plan.source)


def _some(results: Iterator[Result], source: Place) -> Iterator[Result]:
    """That nothing was found is told: nobody should take it for a folder in which all is well."""
    first = next(results, None)
    if first is None:
        raise UsageError(f"{source.name}: no files found, nor shards with a manifest")
    yield first
    yield from results


def _results(plan: Plan, on_gpus: bool, first: int) -> Iterator[Result]:
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # bytes: each row is a block, which one call takes
    context.execution_options.preserve_order = bool(plan.shards)  # for the same shards each time
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    with DataContext.current(context):
        stage = {"batch_size": None, "batch_format": "pyarrow"}
        units = ray.data.read_datasource(_Listing(plan), num_cpus=0, override_num_blocks=1)
        if shards.is_sharded(plan.source):
            units = units.map_batches(partial(opened, plan), num_cpus=0, **stage)
        made = units.map_batches(Actor, fn_constructor_args=(plan,), **_share_of_a_machine(on_gpus), **stage)
        try:
            if plan.shards and plan.target:
                yield from _into_shards(made, plan.target, plan.shards, first)
            else:
                for unit in made.iter_batches(**stage):
                    yield from results_of(unit)
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            raise (cause if foreseen(cause) else error) from None
        except ray.exceptions.RayError as error:
            raise OSError(f"the cluster failed: {_sentence(error)}") from error


def _share_of_a_machine(on_gpus: bool) -> dict[str, Any]:
    """What an actor needs, and how many there may be."""
    there = ray.cluster_resources()
    kind = "GPU" if on_gpus and there.get("GPU") else "CPU"
    count = max(1, int(there.get(kind, 1)))
    pool = ActorPoolStrategy(min_size=1, max_size=count, initial_size=count)
    return {"compute": pool, f"num_{kind.lower()}s": 1}


class _Listing(Datasource):  # type: ignore[misc]
    """One task that lists."""

    def __init__(self, plan: Plan):
        super().__init__()
        self._plan = plan

    def get_read_tasks(self, *_: Any, **__: Any) -> list[ReadTask]:
        return [ReadTask(partial(listed, self._plan), BlockMetadata(None, None, None, None))]

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


def _sentence(error: BaseException) -> str:
    """What Ray says in many lines: the first, or where a traceback follows, what that ends with."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1] if any(line.startswith("  File ") for line in lines) else lines[0]
