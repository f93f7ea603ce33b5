"""Several cores: pieces of a layer, or tiles, on threads that compute with one core each and never wait actively.

The pieces do not depend on how many threads there are, and so neither does any bit of the result. The threads that
torch and BLAS bring along share each product, and wait actively for each other: on a machine with other work they take
ten times as long as one.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

from .devices import has_torch, torch_for

T = TypeVar("T")

NAME = "aecodec-piece"  # what the threads' names begin with

_lock = threading.RLock()
_pools: dict[tuple[bool, int], ThreadPoolExecutor] = {}
_jobs = 1  # that share the cores


def each(function: Callable[[T], object], items: Iterable[T], torch: bool) -> None:
    """Call ``function`` with every item, on several threads if there are cores for them. Raises what it raises.

    ``torch``: whether it computes with torch, or else with NumPy.
    """
    wanted, count = list(items), _cores(torch)
    inside = threading.current_thread().name.startswith(NAME)  # of one of these threads already
    if count == 1 or inside or (len(wanted) == 1 and not torch):
        for item in wanted:
            function(item)
        return

    def work(share: list[T]) -> None:
        for item in share:
            function(item)

    pool, begun = _pool(torch, count), list[Future[None]]()
    shares = [wanted[i::count] for i in range(count)]
    try:
        for share in shares:
            begun.append(pool.submit(work, share))
    except RuntimeError:  # the interpreter ends, and no thread takes more: this one does
        for share in shares[len(begun) :]:
            work(share)
    for future in begun:
        future.result()


@contextmanager
def sharing(jobs: int) -> Iterator[None]:
    """Divide the cores among so many jobs that run at once, each in a thread that begins within."""
    global _jobs  # noqa: PLW0603 - the cores are the process's
    before, _jobs = _jobs, jobs
    torch = torch_for("this") if has_torch() else None
    cores = torch.get_num_threads() if torch else 1
    if torch:
        torch.set_num_threads(max(1, cores // jobs))
    try:
        yield
    finally:
        _jobs = before
        if torch:
            torch.set_num_threads(cores)


def _cores(torch: bool) -> int:
    """As many as the process may use, or as torch was told to."""
    if torch:
        return int(sys.modules["torch"].get_num_threads())  # once a layer: without a look for it
    most = _blas()[1]
    return max(1, min(most, _allowed or most) // _jobs)


@cache
def _blas() -> tuple[Any, int]:
    """What controls NumPy's BLAS, and with how many threads it would compute."""
    controller = ThreadpoolController().select(user_api="blas")
    found = [library.num_threads for library in controller.lib_controllers]
    return controller, max(found, default=os.cpu_count() or 1)


_users = 0  # of the limit of one thread for BLAS
_allowed = 0  # threads that BLAS had before, by a limit of the caller's too; 0 while there is no user
_limits: list[Any] = []  # the one that is in force, if BLAS had more than one thread


@contextmanager
def one_for_blas() -> Iterator[None]:
    """While NumPy's BLAS computes with one thread and `each` has as many as BLAS had.

    The limit is the process's: it comes with the first who needs it and goes with the last.
    """
    global _users, _allowed  # noqa: PLW0603
    with _lock:
        if not _users:
            _allowed = max((library.num_threads for library in _blas()[0].lib_controllers), default=0)
            if _allowed > 1:
                _take_control()
                _limits.append(_blas()[0].limit(limits=1))
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                _allowed = 0
                if _limits:
                    _take_control()
                    _limits.pop().restore_original_limits()
                    _take_control()


def _take_control() -> None:
    """Threadpoolctl from 3.8 on lets one thread alone set OpenBLAS's limit, and ignores the others without a word."""
    for library in _blas()[0].lib_controllers:
        if clear := getattr(library, "clear_controlling_thread", None):
            clear(force=True)


def _pool(torch: bool, count: int) -> ThreadPoolExecutor:
    with _lock:
        pool = _pools.get((torch, count))
        if pool is None:
            pool = _pools[torch, count] = ThreadPoolExecutor(count, NAME)
            if torch:
                _begin(pool, count)
    return pool


def _begin(pool: ThreadPoolExecutor, count: int) -> None:
    """Have each thread compute with one core. Torch takes that for the default of later threads, which is undone."""
    torch, together = torch_for("this"), threading.Barrier(count)
    before = torch.get_num_threads()

    def begin(_: int) -> None:
        together.wait()  # each of them
        torch.set_num_threads(1)

    list(pool.map(begin, range(count)))
    torch.set_num_threads(before)


def _forget() -> None:
    """Of a forked child: threads do not come along."""
    global _users, _allowed, _lock
    _pools.clear()
    _limits.clear()
    _users, _allowed, _lock = 0, 0, threading.RLock()


if hasattr(os, "register_at_fork"):  # no process forks on Windows
    os.register_at_fork(after_in_child=_forget)
