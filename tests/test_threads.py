"""Threads share the work, and nothing that comes of it shows how many there were."""

import subprocess
import sys
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from aecodec import Codec, devices, threads
from aecodec.image import Plane


@pytest.fixture(scope="module")
def with_numpy() -> Codec:
    """As in a process that has not imported torch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "has_torch", lambda: False)
        return Codec("cpu")


def blas() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_files_and_pictures_are_the_same(
    codec: Codec, with_numpy: Codec, photo: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = np.tile(photo, (2, 1, 1))[:600, :300]
    for own in (codec, with_numpy):
        found = []
        for count in (1, 2, 3):
            monkeypatch.setattr(threads, "_cores", lambda torch, count=count: count)
            data = own.compress(picture, 70)
            found.append((data, own.decompress(data, "numpy").tobytes()))
        assert found[0] == found[1] == found[2]
    assert not with_numpy.model.torch


def test_both_libraries_agree(codec: Codec, with_numpy: Codec, photo: Plane) -> None:
    data = codec.compress(photo, 50)
    first, second = (own.decompress(data, "numpy").astype(int) for own in (codec, with_numpy))
    assert np.abs(first - second).max() <= 1
    assert abs(len(with_numpy.compress(photo, 50)) - len(data)) <= 8
    np.testing.assert_array_equal(codec.latents(data), with_numpy.latents(data))


@pytest.mark.parametrize("with_torch", [False, True])
def test_every_item_once(with_torch: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within another call, too, and by more than one thread."""
    monkeypatch.setattr(threads, "_cores", lambda torch: 2)
    seen, names, together = list[tuple[int, int]](), set[str](), threading.Barrier(2)

    def outer(i: int) -> None:
        names.add(threading.current_thread().name)
        together.wait(10)
        threads.each(lambda j: seen.append((i, j)), range(3), with_torch)

    threads.each(outer, range(2), with_torch)
    assert sorted(seen) == [(i, j) for i in range(2) for j in range(3)]
    assert len(names) == 2


def test_jobs_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_blas", lambda: (None, 2))
    names, before = set[str](), torch.get_num_threads()
    note: Callable[[int], None] = lambda _: names.add(threading.current_thread().name)  # noqa: E731
    with threads.sharing(2):
        threads.each(note, range(4), torch=False)
        assert torch.get_num_threads() == max(1, before // 2)
    assert names == {threading.current_thread().name}
    assert torch.get_num_threads() == before


def test_errors_come_through_and_blas_gets_its_threads_back(with_numpy: Codec, small: Plane) -> None:
    before, seen = blas(), list[list[int]]()
    with threads.one_for_blas(), threads.one_for_blas():
        seen.append(blas())
    assert seen == [[1] * len(before)]
    assert blas() == before

    def fail(_: int) -> None:
        raise KeyError("of an item")

    with pytest.raises(KeyError, match="of an item"), threads.one_for_blas():
        threads.each(fail, range(4), torch=False)
    with_numpy.decompress(with_numpy.compress(small))
    assert blas() == before


def test_blas_gets_its_threads_back_whichever_thread_leaves_last(with_numpy: Codec) -> None:
    before, steps = blas(), [threading.Event() for _ in range(3)]

    def other() -> None:
        with threads.one_for_blas():
            steps[0].set()
            steps[1].wait(10)
        steps[2].set()

    thread = threading.Thread(target=other)
    with threads.one_for_blas():
        thread.start()
        steps[0].wait(10)
    steps[1].set()
    steps[2].wait(10)
    thread.join()
    assert blas() == before


@pytest.mark.parametrize("limit", [1, 2])
def test_a_smaller_limit_of_the_callers_counts(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    before, controller = blas(), threads._blas()[0]
    monkeypatch.setattr(threads, "_blas", lambda: (controller, 8))
    with threadpool_limits(limit, "blas"):
        with threads.one_for_blas():
            assert threads._cores(torch=False) == limit
            assert set(blas()) == {1}
        assert set(blas()) == {limit}
    assert blas() == before


def test_the_calling_thread_does_not_show(with_numpy: Codec, photo: Plane) -> None:
    data, found = with_numpy.compress(photo, 50), list[Plane]()
    thread = threading.Thread(target=lambda: found.append(with_numpy.decompress(data, "numpy")))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(found[0], with_numpy.decompress(data, "numpy"))


LATE = """
import threading, time
import numpy
from aecodec import Codec, threads
threads._cores = lambda torch: 2
codec = Codec("cpu")

def work():
    threading.main_thread().join()
    time.sleep(0.3)
    print(len(codec.compress(numpy.zeros((600, 600), numpy.uint8))) > 0)

threading.Thread(target=work).start()
"""


def test_a_thread_that_outlives_the_main_one() -> None:
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("True\n", "")
