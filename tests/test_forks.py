"""Real forks: a child of a process that has used, uses or loads the codec works, with however many threads."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import torch

from aecodec import Codec, decompress
from aecodec.image import Plane
from aecodec.model import weights

from .conftest import GOLDEN

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no process forks here"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning"),  # from Python 3.12 on
]
PATIENCE = 60  # seconds after which a child that waits for something is killed


@pytest.fixture(autouse=True)
def used(codec: Codec, photo: Plane) -> Iterator[None]:
    """By two threads, which the child does not have."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    codec.decompress(codec.compress(photo, effort=1))
    yield
    torch.set_num_threads(before)


def in_child(work: Callable[[], object]) -> int:
    """The exit code of a forked child: 0 if the work ended, -14 if it did not."""
    child = os.fork()
    if not child:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(PATIENCE)
        try:
            work()
        except BaseException as error:
            print(f"in the child: {error!r}", file=sys.__stderr__)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def there_and_back(codec: Codec, photo: Plane) -> None:
    found = codec.decompress(codec.compress(photo, effort=1), "numpy")
    assert np.abs(found.astype(int) - photo).mean() < 10


def test_a_child_of_one_that_used_the_codec(codec: Codec, photo: Plane) -> None:
    assert in_child(lambda: there_and_back(codec, photo)) == 0
    assert torch.get_num_threads() == 2


def test_a_thread_of_a_child(codec: Codec, photo: Plane) -> None:
    def work() -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda _: there_and_back(codec, photo), range(2)))

    assert in_child(work) == 0


def test_a_child_of_a_thread(codec: Codec, photo: Plane) -> None:
    def work() -> int:
        there_and_back(codec, photo)
        return in_child(lambda: there_and_back(codec, photo))

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result() == 0


@pytest.mark.slow
def test_children_of_one_whose_threads_work(codec: Codec, photo: Plane) -> None:
    stopped = threading.Event()

    def work() -> None:
        while not stopped.is_set():
            there_and_back(codec, photo[:130, :100])

    with ThreadPoolExecutor(2) as pool:
        tasks = [pool.submit(work) for _ in range(2)]
        codes = [in_child(lambda: there_and_back(codec, photo[:130, :100])) for _ in range(8)]
        stopped.set()
        for task in tasks:
            task.result()
    assert codes == [0] * 8


def test_a_pool_of_processes(photo: Plane) -> None:
    with get_context("fork").Pool(2) as pool:
        found = pool.map_async(decompress, [path.read_bytes() for path in GOLDEN]).get(PATIENCE)
    assert len(found) == len(GOLDEN)


def test_pictures_that_were_on_their_way(codec: Codec, small: Plane) -> None:
    """A child does not have the thread that codes them."""
    results = codec.compress_many([small] * 8 + [small[1:]] * 8)
    next(results)

    def work() -> None:
        with pytest.raises(RuntimeError, match="forked child"):
            list(results)
        assert len(list(codec.compress_many([small] * 3))) == 3

    assert in_child(work) == 0
    assert len(list(results)) == 15


def test_a_fork_waits_for_what_is_being_loaded(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that need the same weights, too: these are loaded once."""
    loads, begun = [], threading.Event()

    def slow(path: object, device: object, torch: object) -> object:
        loads.append(path)
        begun.set()
        time.sleep(0.3)
        return codec.model

    weights.load_installed.cache_clear()
    monkeypatch.setattr(weights, "load", slow)
    with ThreadPoolExecutor(4) as pool:
        tasks = [pool.submit(Codec, "cpu") for _ in range(4)]
        assert begun.wait(PATIENCE)
        assert in_child(lambda: Codec("cpu")) == 0
        assert {task.result().model for task in tasks} == {codec.model}
    assert len(loads) == 1


THREADS = """
import sys, threading, time
import aecodec

def imports():
    import aecodec.codec

thread = threading.Thread(target=imports, daemon=True)
thread.start()
while "aecodec.codec" not in sys.modules:
    time.sleep(0.001)
aecodec.decompress
"""


def test_threads_that_import_it_by_different_names() -> None:
    """None waits for the other's lock with one that the other needs."""
    subprocess.run([sys.executable, "-c", THREADS], check=True, timeout=PATIENCE)


FIRST_USE = """
import os, signal, sys, threading, time
import aecodec

data = open(sys.argv[1], "rb").read()
thread = threading.Thread(target=lambda: aecodec.decompress(data))
thread.start()
while "aecodec.codec" not in sys.modules:
    time.sleep(0.001)
child = os.fork()
if not child:
    signal.alarm(60)
    aecodec.decompress(data)
    os._exit(0)
thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_fork_waits_for_what_is_being_imported() -> None:
    command = [sys.executable, "-W", "ignore", "-c", FIRST_USE, str(GOLDEN[0])]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "0\n"


OTHER_USE = """
import os, signal, sys
import aecodec
import torch

torch.set_num_threads(2)
torch.nn.functional.conv2d(torch.zeros(4, 64, 128, 128), torch.zeros(64, 64, 3, 3))
child = os.fork()
if not child:
    signal.alarm(60)
    aecodec.decompress(open(sys.argv[1], "rb").read())
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_child_of_one_that_used_torch_for_something_else() -> None:
    command = [sys.executable, "-W", "ignore", "-c", OTHER_USE, str(GOLDEN[0])]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "0\n"
