"""Exactness: one result, whatever computes it."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.numpy import load_file

from aecodec import Codec, registry
from aecodec.prior import (
    ACTIVATION_BITS,
    ACTIVATION_LIMIT,
    CELL,
    GROUP,
    SCALES,
    STEPS,
    SYMBOL_LIMIT,
    TABLE_BITS,
    ExactPrior,
)

HEIGHT, WIDTH, BATCH = 9, 6, 7
Record = list[npt.NDArray[np.int64]]


class Int64Prior(ExactPrior):
    """The same layers in 64-bit integers."""

    def number(self, x: Any) -> Any:
        return x.astype(np.int64)

    def _shift(self, x: Any, bits: int) -> Any:
        return (x + (1 << bits >> 1)) >> bits

    def pointwise(self, name: str, x: Any, columns: int | None = None) -> Any:
        weight = self.tensors[f"{name}.weight"][:, :columns]
        return self._clamp(self._shift(x @ weight.T + self.tensors[f"{name}.bias"], 12))

    def depthwise(self, name: str, x: Any) -> Any:
        weight, y = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        for i, j in np.ndindex(3, 3):
            y = y + padded[:, i : i + x.shape[1], j : j + x.shape[2]] * weight[:, i, j]
        return self._clamp(self._shift(y, 12))

    def activate(self, x: Any) -> Any:
        return np.maximum(x, x >> 3)


class PermutedPrior(ExactPrior):
    """The same sums in another order."""

    def pointwise(self, name: str, x: Any, columns: int | None = None) -> Any:
        weight = self.tensors[f"{name}.weight"]
        order = np.random.default_rng(len(name)).permutation(x.shape[-1])
        y = self.tensors[f"{name}.bias"]
        for half in np.array_split(order, 2):
            y = y + x[..., half] @ weight[:, half].T
        return self._clamp(self._shift(y, 12))


def tensors(codec: Codec) -> dict[str, Any]:
    everything = load_file(registry.find(codec.model.id))
    return {name.removeprefix("prior."): t for name, t in everything.items() if name.startswith("prior.")}


def integers(x: Any) -> npt.NDArray[np.int64]:
    return np.asarray(x.cpu() if isinstance(x, torch.Tensor) else x).astype(np.int64)


def run(prior: ExactPrior, rows: slice = slice(BATCH)) -> Record:
    """Means, indices and latents for symbols that depend on step and sample alone, some of them extreme."""
    rng = np.random.default_rng(0)
    z = rng.integers(-20, 21, (BATCH, -(-HEIGHT // 4), -(-WIDTH // 4), 64))
    z[0, 0, 0, :4] = (SYMBOL_LIMIT, -SYMBOL_LIMIT, SYMBOL_LIMIT, -SYMBOL_LIMIT)
    qualities = np.array([0, 17, 40, 50, 63, 99, 100])
    cells = sum(len(range(i, HEIGHT, 2)) * len(range(j, WIDTH, 2)) for i, j in CELL)
    symbols = np.round(rng.standard_t(2, (STEPS, BATCH, cells * prior.latents // 4)) * 3)
    symbols = symbols.clip(-SYMBOL_LIMIT, SYMBOL_LIMIT)
    record: Record = []

    def answer(step: int, mean: Any, index: Any) -> Any:
        record.extend((integers(mean), integers(index)))
        return prior.number(symbols[step, rows])

    latents = prior.decode(
        prior.number(z[rows]),
        torch.from_numpy(qualities[rows]) if prior.xp is torch else qualities[rows],
        HEIGHT,
        WIDTH,
        answer,
    )
    return [*record, integers(latents)]


@pytest.fixture(scope="module")
def expected(codec: Codec) -> Record:
    """By integers, which cannot be inexact."""
    return run(Int64Prior(tensors(codec), np))


def same(a: Record, b: Record) -> None:
    assert len(a) == len(b) == 2 * STEPS + 1
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def test_the_input_exercises_the_prior(expected: Record) -> None:
    means, indices, latents = expected[0:8:2], expected[1:8:2], expected[8]
    assert all(np.unique(i).size > 20 for i in indices)
    assert all(i.min() >= 0 and i.max() < SCALES for i in indices)
    assert all(np.unique(m).size > 1000 for m in means)
    assert np.abs(latents).max() <= ACTIVATION_LIMIT


def test_torch_on_any_number_of_threads(codec: Codec, expected: Record, threads: int) -> None:
    same(run(codec.model.prior), expected)


def test_numpy(codec: Codec, expected: Record) -> None:
    same(run(ExactPrior(tensors(codec), np)), expected)


def test_another_order_of_summation(codec: Codec, expected: Record) -> None:
    same(run(PermutedPrior(tensors(codec), np)), expected)


def test_one_at_a_time(codec: Codec, expected: Record) -> None:
    for i in range(BATCH):
        same(run(codec.model.prior, slice(i, i + 1)), [x[i : i + 1] for x in expected])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu(codec: Codec, expected: Record) -> None:
    same(run(Codec(device="cuda").model.prior), expected)


def test_no_sum_can_lose_a_bit(codec: Codec) -> None:
    """float64 holds every integer below 2^53; the bound holds for partial sums in any order."""
    bound = codec.model.prior.bound()
    assert bound < 2**53
    weights = tensors(codec)
    largest = max(
        int(np.abs(w.astype(object)).reshape(len(w), -1).sum(1).max()) for n, w in weights.items() if "weight" in n
    )
    assert bound > largest * ACTIVATION_LIMIT


def test_every_position_is_coded_once() -> None:
    for position in range(4):
        assert sorted(GROUP[step][position] for step in range(STEPS)) == [0, 1, 2, 3]
    for step in range(STEPS):
        assert sorted(GROUP[step]) == [0, 1, 2, 3]


def test_arrange_follows_the_order_of_the_steps(codec: Codec) -> None:
    """What `decode` asks for and what `arrange` collects are the same entries."""
    prior = codec.model.prior
    plane = torch.arange(5 * 3 * prior.latents, dtype=torch.float64).reshape(1, 5, 3, prior.latents)
    z = torch.zeros(1, 2, 1, prior.tensors["hyper_inverse_gain"].shape[1], dtype=torch.float64)

    def answer(step: int, mean: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        wanted: torch.Tensor = prior.arrange(step, plane)
        return (wanted - mean) / (1 << ACTIVATION_BITS)

    latents = prior.decode(z, torch.tensor([50]), 5, 3, answer)
    assert torch.equal(latents, torch.floor(plane * prior.tensors["inverse_gain"][50] / (1 << TABLE_BITS) + 0.5))


@pytest.mark.usefixtures("threads")
def test_digest(codec: Codec) -> None:
    """Of fixed symbols, by whatever computes it; the weights say what it is."""
    digests = {
        Int64Prior(tensors(codec), np).digest(),
        ExactPrior(tensors(codec), np).digest(),
        codec.model.prior.digest(),
    }
    assert len(digests) == 1
    changed = tensors(codec)
    changed["context3_mix.bias"] = changed["context3_mix.bias"] + 4096
    assert ExactPrior(changed, np).digest() not in digests
