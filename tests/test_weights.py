"""Weights files that are none: each is refused when it is loaded, with its name, before it takes any memory."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from aecodec import Codec, registry
from aecodec.image import Plane
from aecodec.model import weights as model

Attack = Callable[[dict[str, Any], dict[str, Any]], Any]


@pytest.fixture(scope="module")
def whole(codec: Codec) -> tuple[dict[str, Any], Any]:
    return load_file(registry.find(codec.model.id)), codec.model.design


@pytest.fixture(scope="module")
def whole_fine(fine: Codec, fine_weights: Path) -> tuple[dict[str, Any], Any]:
    return load_file(fine_weights), fine.model.design


def test_a_written_file_is_the_same_model(whole: tuple[dict[str, Any], Any], codec: Codec, tmp_path: Path) -> None:
    tensors, design = whole
    identity = model.write(tmp_path / "a.safetensors", tensors, asdict(design), "psnr")
    assert identity == codec.model.id.hex()
    assert model.load(tmp_path / "a.safetensors", "cpu", torch=False).id == codec.model.id


def test_another_default_device_changes_nothing(codec: Codec, small: Plane) -> None:
    expected = codec.compress(small, 40, effort=1)
    with torch.device("meta"):
        other = Codec(device="cpu", weights=registry.find(codec.model.id))
        assert other.compress(small, 40, effort=1) == expected
        np.testing.assert_array_equal(other.decompress(expected, "numpy"), codec.decompress(expected, "numpy"))
        other.decompress(expected, scale=1 / 8)
        other.verify(expected)


def put(name: str, change: Callable[[Any], Any]) -> Attack:
    def attack(tensors: dict[str, Any], design: dict[str, Any]) -> None:
        tensors[name] = np.ascontiguousarray(change(tensors[name]))

    return attack


def ask(**fields: Any) -> Attack:
    return lambda tensors, design: design.update(fields)


ATTACKS: dict[str, Attack] = {
    "a tensor is missing": lambda tensors, design: tensors.pop("prior.context3_head2.bias"),
    "a table is missing": lambda tensors, design: tensors.pop("hyper_gain"),
    "a layer of another shape": put("prior.context2_mix.weight", lambda t: t[:-1]),
    "a transform of another shape": put("synthesis.leave.weight", lambda t: t[:, :-1]),
    "fewer qualities": put("prior.gain", lambda t: t[:50]),
    "rates of another width": put("synthesis_rate", lambda t: t[:, :1]),
    "a prior that is not exact": put("prior.hyper_enter.weight", lambda t: t / 3),
    "a prior without end": put("prior.hyper_enter.bias", lambda t: np.full(t.shape, np.inf, np.float32)),
    "sums that lose bits": put("prior.hyper_enter.weight", lambda t: np.full(t.shape, 2**31 - 1, np.int32)),
    "indices of no table": put("coder.hyper_index", lambda t: t + np.uint8(100)),
    "negative indices": put("coder.hyper_index", lambda t: -t.astype(np.int64)),
    "negative supports": put("coder.supports", lambda t: t - 5),
    "fewer tables": put("coder.supports", lambda t: t[:-1]),
    "frequencies of zero": put("coder.frequencies", lambda t: t * 0),
    "a width beyond memory": ask(features=10**6),
    "a width of 4096": ask(features=4096, context=4096),
    "no width": ask(latents=0),
    "a width that is no number": ask(latents="320"),
    "a width that is not whole": ask(latents=320.5),
    "blocks without end": ask(analysis_blocks=10**9),
    "an unknown field": ask(colour=1),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_what_is_no_model(whole: tuple[dict[str, Any], Any], attack: Attack, tmp_path: Path) -> None:
    tensors, design = dict(whole[0]), asdict(whole[1])
    attack(tensors, design)
    path = tmp_path / "bad.safetensors"
    save_file(tensors, path, {"design": json.dumps(design), "model_id": model.model_id(tensors).hex()})
    with pytest.raises(ValueError, match=r"bad\.safetensors: not a weights file"):
        Codec("cpu", path)


FINE_ATTACKS: dict[str, Attack] = {
    "no prior of the fine latents": lambda tensors, design: tensors.pop("prior.fine_head.weight"),
    "gains of another width": put("prior.fine_gain", lambda t: t[:, :-1]),
    "a choice that is none": put("prior.fine_coded", lambda t: t * 2),
    "a choice for half of the qualities": put("prior.fine_coded", lambda t: t[:50]),
    "fine latents at low qualities alone": put("prior.fine_coded", lambda t: t[::-1]),
    "a λ that falls": put("lagrangian", lambda t: t[::-1]),
    "a λ without end": put("lagrangian", lambda t: np.append(t[:-1], np.float32(np.inf))),
    "sums that lose bits": put("prior.fine_head.weight", lambda t: np.full(t.shape, 2**31 - 1, np.int32)),
    "a head of another shape": put("prior.fine_head.weight", lambda t: t[:-2]),
    "a synthesis of another shape": put("synthesis.from_latents.weight", lambda t: t[:, :-1]),
    "fewer fine latents than there are": ask(fine=31),
}


@pytest.mark.parametrize("attack", FINE_ATTACKS.values(), ids=FINE_ATTACKS)
def test_what_is_no_model_with_fine_latents(
    whole_fine: tuple[dict[str, Any], Any], attack: Attack, tmp_path: Path
) -> None:
    test_what_is_no_model(whole_fine, attack, tmp_path)


def test_an_objective_that_nobody_knows(whole_fine: tuple[dict[str, Any], Any], tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    model.write(path, whole_fine[0], asdict(whole_fine[1]), "beauty")
    with pytest.raises(ValueError, match="not a weights file"):
        Codec("cpu", path)


def test_another_id(whole: tuple[dict[str, Any], Any], tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    model.write(path, whole[0], asdict(whole[1]), "psnr")
    stated = registry.metadata(path)
    save_file(whole[0], path, {**stated, "model_id": "00" * 8})
    with pytest.raises(ValueError, match="the id that the file states"):
        Codec("cpu", path)


def test_another_design_is_a_model_too(whole: tuple[dict[str, Any], Any]) -> None:
    """Fewer analysis blocks: what decodes a file, and so the id, stays the same."""
    tensors = {name: t for name, t in whole[0].items() if not re.match(r"analysis\.blocks\.[1-9]", name)}
    design = replace(whole[1], analysis_blocks=1)
    assert model.Model(tensors, design, "cpu", torch=False).id == model.model_id(whole[0])


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_the_caller_s_default_type_and_modes_do_not_matter(codec: Codec, small: Plane, kind: torch.dtype) -> None:
    expected = codec.compress(small, 60, effort=4)
    torch.set_default_dtype(kind)
    try:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            other = Codec(device="cpu", weights=registry.find(codec.model.id))
            whole, eighth = (other.decompress(expected, "numpy", scale=scale) for scale in (1, 1 / 8))
        assert other.compress(small, 60, effort=4) == expected
        with torch.autocast("cpu", torch.bfloat16):
            assert other.compress(small, 60) == codec.compress(small, 60)
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_array_equal(whole, codec.decompress(expected, "numpy"))
    np.testing.assert_array_equal(eighth, codec.decompress(expected, "numpy", scale=1 / 8))
