"""Shards as a data set for torch: split by rank and worker, shuffled by a seed, and resumed where it stopped."""

import os
from collections.abc import Callable, Iterator
from itertools import islice
from random import Random
from typing import Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

from . import shards
from .codec import Codec
from .errors import AecError
from .storage import Place


class ShardDataset(IterableDataset[tuple[str, Any]]):
    """The pictures of shards, each with its key: ``(key, what decode made of the bytes)``.

    Ranks and the workers of a `DataLoader` take disjoint shares, which together are everything: whole shards where
    there are at least as many as takers, else the pictures of all shards in turn. Shares may differ in length.

    The order is that of the seed, of the epoch, which `set_epoch` tells before each as with `DistributedSampler`, and
    of the number of takers: the shards shuffled, and their pictures drawn from a buffer of ``shuffle`` files.

    `state_dict` and `load_state_dict` are what torchdata's `StatefulDataLoader` calls in each worker; without workers,
    call them yourself. To go on, the files that were given already are read again, but not decoded.

    Args:
        source: the path or URL of a folder of shards, or of one shard.
        decode: from the bytes of an .aec file; a picture as a tensor ``[C, H, W]`` uint8 unless told. It has to pickle
            for workers that are started by "spawn".
        shuffle: how many files to choose the next one from; 0 for the order in which they lie in their shards.
        seed: of the order.
        rank, ranks: whose share this is, and of how many; torchrun's or `torch.distributed`'s unless told.

    Iterating raises OSError, and `AecError` with the name of the shard or of the picture.
    """

    def __init__(
        self,
        source: str,
        decode: Callable[[bytes], Any] | None = None,
        *,
        shuffle: int = 1000,
        seed: int = 0,
        rank: int | None = None,
        ranks: int | None = None,
    ):
        self.shards = shards.find(Place.at(source))
        self.decode = decode or _Pixels()
        self.shuffle, self.seed = shuffle, seed
        self.rank, self.ranks = _rank() if rank is None or ranks is None else (rank, ranks)
        if not 0 <= self.rank < self.ranks:
            raise ValueError(f"rank {self.rank} of {self.ranks}: expected 0 to {self.ranks - 1}")
        if self.shuffle < 0:
            raise ValueError(f"shuffle {self.shuffle}: expected 0 or more")
        self._epoch = self._taken = 0

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        taker, takers = self.rank * workers + number, self.ranks * workers
        for entry in islice(self._files(taker, takers), self._taken, None):
            self._taken += 1
            try:
                decoded = self.decode(entry.data)
            except AecError as error:
                raise type(error)(f"{entry.key}: {error}") from error
            yield entry.key, decoded
        self._taken = 0

    def _files(self, taker: int, takers: int) -> Iterator[shards.Entry]:
        """A taker's share, in the order of the epoch."""
        chosen = self.shards.copy()
        if self.shuffle:
            Random(f"{self.seed} {self._epoch}").shuffle(chosen)
        if len(chosen) >= takers:
            return self._shuffled(_entries(chosen[taker::takers]), taker)
        return self._shuffled(islice(_entries(chosen), taker, None, takers), taker)

    def _shuffled(self, entries: Iterator[shards.Entry], taker: int) -> Iterator[shards.Entry]:
        random, buffer = Random(f"{self.seed} {self._epoch} {taker}"), list(islice(entries, self.shuffle))
        for entry in entries:
            if not buffer:
                yield entry
                continue
            place = random.randrange(len(buffer))
            yield buffer[place]
            buffer[place] = entry
        random.shuffle(buffer)
        yield from buffer

    def set_epoch(self, epoch: int) -> None:
        """Of the next pass. Workers have to begin after it: it does not reach those that are persistent."""
        self._epoch, self._taken = epoch, 0

    def state_dict(self) -> dict[str, int]:
        """Where it stands: the epoch, how many pictures of it were given, and what their order depends on."""
        return {"epoch": self._epoch, "taken": self._taken, **self._order()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there. Raises ValueError where the order is another one, so that pictures would be left out."""
        for name, value in self._order().items():
            if state[name] != value:
                raise ValueError(f"the state of a data set with {name} {state[name]}, this one has {value}")
        self._epoch, self._taken = state["epoch"], state["taken"]

    def _order(self) -> dict[str, int]:
        return {"seed": self.seed, "shuffle": self.shuffle, "ranks": self.ranks, "shards": len(self.shards)}


class _Pixels:
    """Decodes to tensors. A codec pickles as its arguments: each worker has one of its own."""

    def __init__(self) -> None:
        self._codec = Codec(device="cpu")  # a GPU is the trainer's

    def __call__(self, data: bytes) -> Any:
        return self._codec.decompress(data, "torch")


def _entries(chosen: list[Place]) -> Iterator[shards.Entry]:
    for shard in chosen:
        try:
            yield from shards.read(shard)
        except AecError as error:
            raise type(error)(f"{shard.name}: {error}") from error


def _rank() -> tuple[int, int]:
    """That of the process, and how many there are."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
