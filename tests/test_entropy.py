"""Exactness: one result, whatever computes it."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.numpy import load_file

from aecodec import Codec, registry
from aecodec.model.entropy import FINE, HYPER, SCALES, SYMBOL_LIMIT, EntropyModel
from aecodec.model.fixed_point import ACTIVATION_BITS, ACTIVATION_LIMIT, TABLE_BITS, FixedPoint
from aecodec.model.structure import GROUP, STEPS

HEIGHT, WIDTH, BATCH = 9, 6, 7
Record = list[npt.NDArray[np.int64]]


class Integers(FixedPoint):
    """The same layers in 64-bit integers."""

    def __init__(self, tensors: dict[str, Any]):
        super().__init__({})
        self.layers = {name: self.number(t) for name, t in tensors.items() if name.endswith((".weight", ".bias"))}

    def number(self, x: Any) -> Any:
        return x.astype(np.int64)

    def shift(self, x: Any, bits: int) -> Any:
        return (x + (1 << bits >> 1)) >> bits

    def pointwise(self, layer: str, x: Any, columns: int | None = None) -> Any:
        weight = self.layers[f"{layer}.weight"][:, :columns]
        return self.clamp(self.shift(x @ weight.T + self.layers[f"{layer}.bias"], 12))

    def depthwise(self, layer: str, x: Any, edge: bool) -> Any:
        weight, y = self.layers[f"{layer}.weight"], self.layers[f"{layer}.bias"]
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        for i, j in np.ndindex(3, 3):
            y = y + padded[:, i : i + x.shape[1], j : j + x.shape[2]] * weight[:, i, j]
        return self.clamp(self.shift(y, 12))

    def activate(self, x: Any) -> Any:
        return np.maximum(x, x >> 3)


class Permuted(FixedPoint):
    """The same sums in another order."""

    def __init__(self, tensors: dict[str, Any]):
        super().__init__(tensors)
        self.layers = tensors

    def pointwise(self, layer: str, x: Any, columns: int | None = None) -> Any:
        weight = self.layers[f"{layer}.weight"].astype(np.float64)
        order = np.random.default_rng(len(layer)).permutation(x.shape[-1])
        y = self.layers[f"{layer}.bias"].astype(np.float64)
        for half in np.array_split(order, 2):
            y = y + x[..., half] @ weight[:, half].T
        return self.clamp(self.shift(y, 12))


def over(kind: Any, weights: Path) -> EntropyModel:
    """The entropy model of weights over other operations."""
    tensors = load_file(weights)
    model = EntropyModel(tensors)
    model.ops = kind({name: t for name, t in tensors.items() if name.startswith("prior.")})
    model.tables = {name: model.ops.number(table) for name, table in model.tables.items()}
    return model


def integers(x: Any) -> npt.NDArray[np.int64]:
    return np.asarray(x.cpu() if isinstance(x, torch.Tensor) else x).astype(np.int64)


def run(model: EntropyModel, rows: slice = slice(BATCH)) -> Record:
    """Means, indices and latents for symbols that depend on part and sample alone, some of them extreme."""
    rng = np.random.default_rng(0)
    most = HEIGHT * WIDTH * max(model.latents // 4, model.fine_latents, len(model.hyper_index[0]))
    symbols = np.round(rng.standard_t(2, (FINE + 1, BATCH, most)) * 3).clip(-SYMBOL_LIMIT, SYMBOL_LIMIT)
    symbols[HYPER] = symbols[HYPER].clip(-20, 20)
    symbols[HYPER, 0, :4] = (SYMBOL_LIMIT, -SYMBOL_LIMIT, SYMBOL_LIMIT, -SYMBOL_LIMIT)
    record: Record = []
    for quality in (60, 63, 100) if model.fine_latents else (0, 50, 100):
        tiles = model.tiles(len(range(BATCH)[rows]), HEIGHT, WIDTH, quality)
        for part in range(tiles.parts):
            mean, index = tiles.predict()
            record += [integers(mean), integers(index)] if part != HYPER else []
            tiles.update(model.ops.number(symbols[part, rows, : index.shape[1]]))
        record.append(integers(tiles.latents))
    return record


@pytest.fixture(scope="module", params=["shipped", "fine"])
def weights(request: pytest.FixtureRequest, codec: Codec, fine_weights: Path) -> Path:
    """The weights that are shipped, and small ones with fine latents."""
    return registry.find(codec.model.id) if request.param == "shipped" else fine_weights


@pytest.fixture(scope="module")
def expected(weights: Path) -> Record:
    """By integers, which cannot be inexact."""
    return run(over(Integers, weights))


def same(a: Record, b: Record) -> None:
    assert len(a) == len(b)
    assert len(a) in (3 * (2 * STEPS + 1), 3 * (2 * STEPS + 3))
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def test_the_input_exercises_the_prior(expected: Record) -> None:
    for latents in (x for x in expected if x.ndim == 4):
        assert np.abs(latents).max() <= ACTIVATION_LIMIT
    parts = [x for x in expected if x.ndim == 2]
    means, indices = parts[::2], parts[1::2]
    assert all(i.min() >= 0 and i.max() < SCALES for i in indices)
    assert sum(np.unique(i).size > 15 for i in indices) > len(indices) / 2
    assert all(np.unique(m).size > 100 for m in means)


def test_torch_on_any_number_of_threads(weights: Path, expected: Record, threads: int) -> None:
    same(run(Codec("cpu", weights).model.entropy), expected)


def test_numpy(weights: Path, expected: Record) -> None:
    same(run(EntropyModel(load_file(weights))), expected)


def test_another_order_of_summation(weights: Path, expected: Record) -> None:
    same(run(over(Permuted, weights)), expected)


def test_one_at_a_time(weights: Path, expected: Record) -> None:
    model = Codec("cpu", weights).model.entropy
    for i in range(BATCH):
        same(run(model, slice(i, i + 1)), [x[i : i + 1] for x in expected])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu(weights: Path, expected: Record) -> None:
    same(run(Codec("cuda", weights).model.entropy), expected)


def test_no_sum_can_lose_a_bit(weights: Path) -> None:
    """float64 holds every integer below 2^53; the bound holds for partial sums in any order."""
    bound = Codec("cpu", weights).model.entropy.bound()
    assert bound < 2**53
    layers = {n: t for n, t in load_file(weights).items() if n.startswith("prior.") and n.endswith(".weight")}
    largest = max(int(np.abs(w.astype(object)).reshape(len(w), -1).sum(1).max()) for w in layers.values())
    assert bound > largest * ACTIVATION_LIMIT


def test_every_position_is_coded_once() -> None:
    for position in range(4):
        assert sorted(GROUP[step][position] for step in range(STEPS)) == [0, 1, 2, 3]
    for step in range(STEPS):
        assert sorted(GROUP[step]) == [0, 1, 2, 3]


def test_arrange_follows_the_order_of_the_parts(weights: Path) -> None:
    """What `update` takes and what `arrange` collects are the same entries."""
    model = EntropyModel(load_file(weights))
    channels = model.latents + model.fine_latents
    plane = np.arange(5.0 * 3 * channels).reshape(1, 5, 3, channels)
    tiles = model.tiles(1, 5, 3, 60)
    for part in range(tiles.parts):
        mean, index = tiles.predict()
        wanted = index * 0 if part == HYPER else tiles.arrange(plane)
        tiles.update((wanted - mean) / (1 << ACTIVATION_BITS))
    names = ("inverse_gain", "fine_inverse_gain") if model.fine_latents else ("inverse_gain",)
    inverse = np.concatenate([model.tables[name][60] for name in names])
    np.testing.assert_array_equal(tiles.latents, np.floor(plane * inverse / (1 << TABLE_BITS) + 0.5))


@pytest.mark.usefixtures("threads")
def test_digest(weights: Path) -> None:
    """Of fixed symbols, by whatever computes it; the weights say what it is."""
    digests = {
        over(Integers, weights).digest(),
        EntropyModel(load_file(weights)).digest(),
        Codec("cpu", weights).model.entropy.digest(),
        registry.metadata(weights)["prior_digest"],
    }
    assert len(digests) == 1
    changed = load_file(weights)
    last = "prior.fine_head.bias" if "prior.fine_head.bias" in changed else "prior.context3_mix.bias"
    changed[last] = changed[last] + 4096
    assert EntropyModel(changed).digest() not in digests
