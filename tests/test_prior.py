"""Exactness: one result, whatever computes it."""

from pathlib import Path
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
    FINE,
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


def tensors(weights: Path) -> dict[str, Any]:
    everything = load_file(weights)
    return {name.removeprefix("prior."): t for name, t in everything.items() if name.startswith("prior.")}


def integers(x: Any) -> npt.NDArray[np.int64]:
    return np.asarray(x.cpu() if isinstance(x, torch.Tensor) else x).astype(np.int64)


def run(prior: ExactPrior, rows: slice = slice(BATCH)) -> Record:
    """Means, indices and latents for symbols that depend on part and sample alone, some of them extreme."""
    rng = np.random.default_rng(0)
    z = rng.integers(-20, 21, (BATCH, -(-HEIGHT // 4), -(-WIDTH // 4), prior.tensors["hyper_inverse_gain"].shape[1]))
    z[0, 0, 0, :4] = (SYMBOL_LIMIT, -SYMBOL_LIMIT, SYMBOL_LIMIT, -SYMBOL_LIMIT)
    qualities = np.array([50, 55, 60, 63, 80, 99, 100] if prior.fine_latents else [0, 17, 40, 50, 63, 99, 100])
    symbols = np.round(
        rng.standard_t(2, (FINE + 1, BATCH, HEIGHT * WIDTH * max(prior.latents // 4, prior.fine_latents))) * 3
    )
    symbols = symbols.clip(-SYMBOL_LIMIT, SYMBOL_LIMIT)
    record: Record = []

    def answer(part: int, mean: Any, index: Any) -> Any:
        record.extend((integers(mean), integers(index)))
        return prior.number(symbols[part, rows, : mean.shape[1]])

    latents = prior.decode(
        prior.number(z[rows]),
        torch.from_numpy(qualities[rows]) if prior.xp is torch else qualities[rows],
        HEIGHT,
        WIDTH,
        answer,
    )
    return [*record, integers(latents)]


@pytest.fixture(scope="module", params=["shipped", "fine"])
def weights(request: pytest.FixtureRequest, codec: Codec, fine_weights: Path) -> Path:
    """The weights that are shipped, and small ones with fine latents."""
    return registry.find(codec.model.id) if request.param == "shipped" else fine_weights


@pytest.fixture(scope="module")
def expected(weights: Path) -> Record:
    """By integers, which cannot be inexact."""
    return run(Int64Prior(tensors(weights), np))


def same(a: Record, b: Record) -> None:
    assert len(a) == len(b)
    assert len(a) in (2 * STEPS + 1, 2 * STEPS + 3)
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def test_the_input_exercises_the_prior(expected: Record) -> None:
    *parts, latents = expected
    means, indices = parts[::2], parts[1::2]
    assert all(np.unique(i).size > 15 for i in indices)
    assert all(i.min() >= 0 and i.max() < SCALES for i in indices)
    assert all(np.unique(m).size > 100 for m in means)
    assert np.abs(latents).max() <= ACTIVATION_LIMIT


def test_torch_on_any_number_of_threads(weights: Path, expected: Record, threads: int) -> None:
    same(run(Codec("cpu", weights).model.prior), expected)


def test_numpy(weights: Path, expected: Record) -> None:
    same(run(ExactPrior(tensors(weights), np)), expected)


def test_another_order_of_summation(weights: Path, expected: Record) -> None:
    same(run(PermutedPrior(tensors(weights), np)), expected)


def test_one_at_a_time(weights: Path, expected: Record) -> None:
    prior = Codec("cpu", weights).model.prior
    for i in range(BATCH):
        same(run(prior, slice(i, i + 1)), [x[i : i + 1] for x in expected])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu(weights: Path, expected: Record) -> None:
    same(run(Codec("cuda", weights).model.prior), expected)


def test_no_sum_can_lose_a_bit(weights: Path) -> None:
    """float64 holds every integer below 2^53; the bound holds for partial sums in any order."""
    bound = Codec("cpu", weights).model.prior.bound()
    assert bound < 2**53
    layers = tensors(weights)
    largest = max(
        int(np.abs(w.astype(object)).reshape(len(w), -1).sum(1).max()) for n, w in layers.items() if "weight" in n
    )
    assert bound > largest * ACTIVATION_LIMIT


def test_every_position_is_coded_once() -> None:
    for position in range(4):
        assert sorted(GROUP[step][position] for step in range(STEPS)) == [0, 1, 2, 3]
    for step in range(STEPS):
        assert sorted(GROUP[step]) == [0, 1, 2, 3]


def test_arrange_follows_the_order_of_the_parts(weights: Path) -> None:
    """What `decode` asks for and what `arrange` collects are the same entries."""
    prior = Codec("cpu", weights).model.prior
    channels = prior.latents + prior.fine_latents
    plane = torch.arange(5 * 3 * channels, dtype=torch.float64).reshape(1, 5, 3, channels)
    z = torch.zeros(1, 2, 1, prior.tensors["hyper_inverse_gain"].shape[1], dtype=torch.float64)

    def answer(part: int, mean: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        wanted: torch.Tensor = prior.arrange(part, plane)
        return (wanted - mean) / (1 << ACTIVATION_BITS)

    latents = prior.decode(z, torch.tensor([50]), 5, 3, answer)
    names = ("inverse_gain", "fine_inverse_gain") if prior.fine_latents else ("inverse_gain",)
    inverse = torch.cat([prior.tensors[name][50] for name in names])
    assert torch.equal(latents, torch.floor(plane * inverse / (1 << TABLE_BITS) + 0.5))


@pytest.mark.usefixtures("threads")
def test_digest(weights: Path) -> None:
    """Of fixed symbols, by whatever computes it; the weights say what it is."""
    digests = {
        Int64Prior(tensors(weights), np).digest(),
        ExactPrior(tensors(weights), np).digest(),
        Codec("cpu", weights).model.prior.digest(),
        registry.metadata(weights)["prior_digest"],
    }
    assert len(digests) == 1
    changed = tensors(weights)
    last = "fine_head.bias" if "fine_head.bias" in changed else "context3_mix.bias"
    changed[last] = changed[last] + 4096
    assert ExactPrior(changed, np).digest() not in digests
