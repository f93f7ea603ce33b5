"""A model as it codes: weights from a safetensors file, joined into transforms, exact prior and coder."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from torch import Tensor, nn

from . import files, former, registry, transforms
from .coder import Coder
from .objective import OBJECTIVES
from .prior import SCALES, ExactPrior
from .transforms import Design

QUALITIES = 101
NORMATIVE = ("coder.", "prior.", "synthesis")  # tensors with these prefixes decide what a file decodes to
MOST = 4096  # channels or blocks that a design may have
TABLES = {  # over quality, and what part of the design their width is
    "analysis_rate": "eighth",
    "synthesis_rate": "eighth",
    "hyper_gain": "hyper_latents",
    "coder.hyper_index": "hyper_latents",
    "prior.hyper_inverse_gain": "hyper_latents",
    "prior.hyper_rate": "hyper",
    "prior.gain": "latents",
    "prior.inverse_gain": "latents",
    "prior.scale_offset": "latents",
    "prior.fine_gain": "fine",
    "prior.fine_inverse_gain": "fine",
    "prior.fine_scale_offset": "fine",
}


def model_id(tensors: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """First 8 bytes of the SHA-256 over the normative tensors: name, type, shape and bytes, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(n for n in tensors if n.startswith(NORMATIVE)):
        value = np.ascontiguousarray(tensors[name])
        little = value.astype(value.dtype.newbyteorder("<"), copy=False)
        shape = "x".join(map(str, value.shape))
        digest.update(f"{name} {value.dtype.name} {shape}\n".encode() + little.tobytes())
    return digest.digest()[:8]


def _check(tensors: Mapping[str, npt.NDArray[Any]], design: Design | former.Design) -> None:
    """Raise ValueError for what a weights file cannot mean, before anything is made of it."""
    if not all(isinstance(n, int) and 1 <= n <= MOST for n in asdict(design).values()):
        raise ValueError("a design out of range")
    # whatever the design asks for, only what there are tensors for takes memory
    widths = {
        "hyper_analysis.enter": (design.hyper, design.latents),
        "hyper_analysis.to_hyper_latents": (design.hyper_latents, 4 * design.hyper),
    }
    tables = TABLES
    if isinstance(design, former.Design):
        tables = {n: "features" if w == "eighth" else w for n, w in TABLES.items() if w != "fine"}
        widths |= former.widths(design)
    else:
        widths |= transforms.widths(design)
        _check_fine(tensors)
    wanted = {f"{name}.weight": shape for name, shape in widths.items()}
    wanted |= {name: (QUALITIES, getattr(design, width)) for name, width in tables.items()}
    for name, shape in wanted.items():
        if tensors[name].shape != shape:
            raise ValueError(f"{name} is of the wrong shape")
    if tensors["prior.context0_enter.weight"].shape[1] != design.hyper + design.latents:  # not all of it is used
        raise ValueError("prior.context0_enter.weight is of the wrong shape")
    if design.latents % 4:
        raise ValueError("the latents do not fall into four groups")
    for name, value in tensors.items():
        if name.startswith(("coder.", "prior.")) and value.dtype.kind not in "iu":
            raise ValueError(f"{name} is not of integers")
    if "readout" in tensors and (
        tensors["readout"].shape[1:] != (design.latents + 1, 12) or not 2 <= len(tensors["readout"]) <= QUALITIES
    ):
        raise ValueError("readout is of the wrong shape")
    index = tensors["coder.hyper_index"]
    if index.min() < 0 or index.max() >= SCALES or tensors["coder.supports"].shape != (SCALES,):
        raise ValueError("tables that are not there")


def _check_fine(tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    coded, lagrangian = tensors["prior.fine_coded"], tensors["lagrangian"]
    if coded.shape != (QUALITIES,) or sorted(coded.tolist()) != coded.tolist() or not {0, 1} >= set(coded.tolist()):
        raise ValueError("prior.fine_coded does not say from which quality on there are fine latents")
    rises = lagrangian.shape == (QUALITIES,) and (np.diff(lagrangian) > 0).all()
    if not rises or lagrangian[0] <= 0 or not np.isfinite(lagrangian[-1]):
        raise ValueError("lagrangian does not rise with the quality")


def _between(knots: Tensor) -> Tensor:
    """``[n, ...]``, for qualities from 0 to 100 at equal distances, interpolated to ``[101, ...]``."""
    x = torch.arange(QUALITIES, dtype=torch.float32, device=knots.device) * ((len(knots) - 1) / (QUALITIES - 1))
    low = x.floor().clamp(max=len(knots) - 2).long()
    return torch.lerp(knots[low], knots[low + 1], (x - low)[:, None, None])


class Model:
    """The networks and tables of one weights file on one device, for inference.

    Read-only once made, so that threads may share it.
    """

    @torch.inference_mode(False)  # whatever the caller's mode is: models are shared, and a search needs gradients
    def __init__(
        self,
        tensors: Mapping[str, npt.NDArray[Any]],
        design: Design | former.Design,
        device: torch.device,
        objective: str = "psnr",
    ):
        def part(prefix: str) -> dict[str, npt.NDArray[Any]]:
            return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

        def floats(array: npt.NDArray[Any]) -> Tensor:
            return torch.from_numpy(array.astype(np.float32)).to(device)

        def network(kind: Callable[[Any], nn.Module], prefix: str) -> Any:
            # not on torch's meta device, whose first use takes 0.7 s, nor on the caller's default one; the caller's
            # random numbers stay what they were
            with torch.device("cpu"), torch.random.fork_rng(devices=[]):
                module = kind(design)
            module.load_state_dict({name: torch.from_numpy(t) for name, t in part(prefix).items()}, assign=True)
            return module.to(device, torch.float32).eval().requires_grad_(False)

        _check(tensors, design)
        self.device, self.design = device, design
        self.objective = OBJECTIVES[objective]
        self.id = model_id(tensors)
        networks: Any = former if isinstance(design, former.Design) else transforms
        self.analysis = network(networks.Analysis, "analysis.")
        self.hyper_analysis = network(networks.HyperAnalysis, "hyper_analysis.")
        self.synthesis = network(networks.Synthesis, "synthesis.")
        if isinstance(design, former.Design):
            between = np.geomspace(former.LAMBDA_MIN, former.LAMBDA_MAX, QUALITIES)
        else:
            between = tensors["lagrangian"]
        self.lagrangian = floats(between)  # [101], λ of each quality
        self.analysis_rate = floats(tensors["analysis_rate"])  # [101, C]
        self.synthesis_rate = floats(tensors["synthesis_rate"])  # [101, C]
        self.hyper_gain = floats(tensors["hyper_gain"])  # [101, Nz]
        # what shows a picture at 1/8 of its size: 2x2x3 pixels as a linear function of a latent and 1
        self.readout = _between(floats(tensors["readout"])) if "readout" in tensors else None  # [101, N + 1, 12]
        self.hyper_index: npt.NDArray[np.uint8] = tensors["coder.hyper_index"]  # [101, Nz]
        self.coder = Coder(tensors["coder.supports"].tolist(), tensors["coder.frequencies"].tolist())
        self.prior = ExactPrior(part("prior."), torch, lambda x: torch.from_numpy(x).to(device))
        if self.prior.bound() >= 1 << 53:
            raise ValueError("the weights of the prior are too large for exact sums")
        # one cell of latents, so that tensors of the prior that are missing or do not fit are found now
        z = self.prior.number(np.zeros((1, 1, 1, design.hyper_latents), np.int32))
        for quality in (0, QUALITIES - 1):
            qualities = torch.tensor([quality], device=device)
            self.prior.decode(z, qualities, 2, 2, lambda part, mean, index: mean * 0)

    def in_float32(self) -> torch.autocast:
        """A context that a caller's autocast does not reach into."""
        return torch.autocast(self.device.type, enabled=False)


def load(path: Path, device: torch.device) -> Model:
    """The model of a weights file. Raises ValueError for what is none."""
    stated = registry.metadata(path)
    try:
        design = json.loads(stated["design"])
        kind = Design if "fine" in design else former.Design
        model = Model(load_file(path), kind(**design), device, stated.get("objective", "psnr"))
    except (SafetensorError, KeyError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a weights file of this release ({error})") from None
    if model.id.hex() != stated.get("model_id"):
        raise ValueError(f"{path}: the tensors do not have the id that the file states")
    return model


@lru_cache(maxsize=4)
def load_installed(path: Path, device: torch.device) -> Model:
    """`load` for files that do not change: the same object for the same arguments."""
    return load(path, device)


def write(path: Path, tensors: dict[str, npt.NDArray[Any]], design: dict[str, int], objective: str) -> str:
    """Write a weights file and return its model id in hexadecimal. ``objective``: what they were trained for."""
    identity = model_id(tensors).hex()
    prior = {name.removeprefix("prior."): t for name, t in tensors.items() if name.startswith("prior.")}
    stated = {
        "design": json.dumps(design),
        "model_id": identity,
        "objective": objective,
        "prior_digest": ExactPrior(prior, np).digest(),
    }
    files.write(path, save(tensors, stated))
    return identity
