"""A model as it codes: weights from a safetensors file, joined into transforms, exact prior and coder."""

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from torch import Tensor, nn

from . import files, registry
from .coder import Coder
from .prior import ExactPrior
from .transforms import Analysis, Design, HyperAnalysis, Synthesis

QUALITIES = 101
NORMATIVE = ("coder.", "prior.", "synthesis")  # tensors with these prefixes decide what a file decodes to


def model_id(tensors: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """First 8 bytes of the SHA-256 over the normative tensors: name, type, shape and bytes, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(n for n in tensors if n.startswith(NORMATIVE)):
        value = np.ascontiguousarray(tensors[name])
        little = value.astype(value.dtype.newbyteorder("<"), copy=False)
        shape = "x".join(map(str, value.shape))
        digest.update(f"{name} {value.dtype.name} {shape}\n".encode() + little.tobytes())
    return digest.digest()[:8]


class Model:
    """The networks and tables of one weights file on one device, for inference.

    Read-only once made, so that threads may share it.
    """

    def __init__(self, tensors: Mapping[str, npt.NDArray[Any]], design: Design, device: torch.device):
        def part(prefix: str) -> dict[str, npt.NDArray[Any]]:
            return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

        def floats(array: npt.NDArray[Any]) -> Tensor:
            return torch.from_numpy(array.astype(np.float32)).to(device)

        def network(module: nn.Module, prefix: str) -> Any:
            module.load_state_dict({name: torch.from_numpy(t) for name, t in part(prefix).items()})
            return module.to(device).eval().requires_grad_(False)

        self.device, self.design = device, design
        self.id = model_id(tensors)
        self.analysis: Analysis = network(Analysis(design), "analysis.")
        self.hyper_analysis: HyperAnalysis = network(HyperAnalysis(design), "hyper_analysis.")
        self.synthesis: Synthesis = network(Synthesis(design), "synthesis.")
        self.analysis_rate = floats(tensors["analysis_rate"])  # [101, C]
        self.synthesis_rate = floats(tensors["synthesis_rate"])  # [101, C]
        self.hyper_gain = floats(tensors["hyper_gain"])  # [101, Nz]
        self.hyper_index: npt.NDArray[np.uint8] = tensors["coder.hyper_index"]  # [101, Nz]
        self.coder = Coder(tensors["coder.supports"].tolist(), tensors["coder.frequencies"].tolist())
        if self.hyper_index.max() >= len(self.coder.supports):
            raise ValueError("hyper-latents of a table that is not there")
        self.prior = ExactPrior(part("prior."), torch, lambda x: torch.from_numpy(x).to(device))
        if self.prior.bound() >= 1 << 53:
            raise ValueError("the weights of the prior are too large for exact sums")


def load(path: Path, device: torch.device) -> Model:
    """The model of a weights file. Raises ValueError for what is none."""
    try:
        stated = registry.metadata(path)
        model = Model(load_file(path), Design(**json.loads(stated["design"])), device)
    except (SafetensorError, KeyError, RuntimeError, TypeError) as error:
        raise ValueError(f"{path}: not a weights file of this release ({error})") from None
    if model.id.hex() != stated.get("model_id"):
        raise ValueError(f"{path}: the tensors do not have the id that the file states")
    return model


@lru_cache(maxsize=4)
def load_installed(path: Path, device: torch.device) -> Model:
    """`load` for files that do not change: the same object for the same arguments."""
    return load(path, device)


def write(path: Path, tensors: dict[str, npt.NDArray[Any]], design: dict[str, int]) -> str:
    """Write a weights file and return its model id in hexadecimal."""
    identity = model_id(tensors).hex()
    files.write(path, save(tensors, {"design": json.dumps(design), "model_id": identity}))
    return identity
