"""A model as it codes: weights from a safetensors file, joined into transforms, entropy model and coder."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from .. import devices, files, registry, threads
from ..loading import LOADING
from ..objective import OBJECTIVES
from . import former, structure
from .coder import Coder
from .entropy import SCALES, EntropyModel
from .numpy_ops import NumpyOperations
from .structure import Array, Design, FloatOperations

T = TypeVar("T")
Tensors = Mapping[str, npt.NDArray[Any]]

QUALITIES = 101
NORMATIVE = ("coder.", "prior.", "synthesis")  # tensors with these prefixes decide what a file decodes to
TRANSFORMS = ("analysis.", "hyper_analysis.", "synthesis.")
MOST = 4096  # channels or blocks that a design may have
TABLES = {  # over quality, and which width of the design they have
    "analysis_rate": "features",
    "synthesis_rate": "features",
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


def model_id(tensors: Tensors) -> bytes:
    """First 8 bytes of the SHA-256 over the normative tensors: name, type, shape and bytes, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(n for n in tensors if n.startswith(NORMATIVE)):
        value = np.ascontiguousarray(tensors[name])
        little = value.astype(value.dtype.newbyteorder("<"), copy=False)
        shape = "x".join(map(str, value.shape))
        digest.update(f"{name} {value.dtype.name} {shape}\n".encode() + little.tobytes())
    return digest.digest()[:8]


def _check(tensors: Tensors, design: Design | former.Design) -> None:
    """Raise ValueError for what a weights file cannot mean, before anything is made of it."""
    if not all(isinstance(n, int) and 1 <= n <= MOST for n in asdict(design).values()):
        raise ValueError("a design out of range")
    # whatever the design asks for, only what there are tensors for takes memory
    if isinstance(design, former.Design):
        layers = former.layers(design)
        tables = {n: w for n, w in TABLES.items() if w != "fine"}
    else:
        layers, tables = structure.layers(design), TABLES
        _check_fine(tensors)
    wanted: dict[str, tuple[int, ...]] = {f"{name}.weight": layer.shape for name, layer in layers.items()}
    wanted |= {f"{name}.bias": (layer.rows,) for name, layer in layers.items()}
    wanted |= {name: (QUALITIES, getattr(design, width)) for name, width in tables.items()}
    for name, shape in wanted.items():
        if tensors[name].shape != shape:
            raise ValueError(f"{name} is of the wrong shape")
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


def _check_fine(tensors: Tensors) -> None:
    coded, lagrangian = tensors["prior.fine_coded"], tensors["lagrangian"]
    if coded.shape != (QUALITIES,) or sorted(coded.tolist()) != coded.tolist() or not {0, 1} >= set(coded.tolist()):
        raise ValueError("prior.fine_coded does not say from which quality on there are fine latents")
    rises = lagrangian.shape == (QUALITIES,) and (np.diff(lagrangian) > 0).all()
    if not rises or lagrangian[0] <= 0 or not np.isfinite(lagrangian[-1]):
        raise ValueError("lagrangian does not rise with the quality")


def _between(knots: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """``[n, ...]``, for qualities from 0 to 100 at equal distances, interpolated to ``[101, ...]``."""
    x = np.arange(QUALITIES, dtype=np.float32) * ((len(knots) - 1) / (QUALITIES - 1))
    low = np.minimum(x.astype(np.int64), len(knots) - 2)
    found: npt.NDArray[np.float32] = knots[low] + (x - low)[:, None, None] * (knots[low + 1] - knots[low])
    return found.astype(np.float32)


class Model:
    """The networks and tables of one weights file on one device, for inference.

    Read-only once made, so that threads may share it. Its networks are those of `structure`, over the operations
    ``ops``.
    """

    def __init__(
        self,
        tensors: Tensors,
        design: Design | former.Design,
        device: str,
        torch: bool,
        objective: str = "psnr",
        noise: float = 0.0,
    ):
        """``torch``: whether to compute with torch, which any device but a CPU needs, or else with NumPy."""
        _check(tensors, design)
        self.device, self.design, self.torch = device, design, torch
        self.objective = OBJECTIVES[objective]
        self.noise = noise  # largest deviation, in grey levels, of the noise that it was trained to remove
        self.id = model_id(tensors)
        networks: Any = former if isinstance(design, former.Design) else structure
        layers = {n: t.astype(np.float32) for n, t in tensors.items() if n.startswith(TRANSFORMS)}
        self.ops = _on_torch(layers, device) if torch else NumpyOperations(layers)
        self.layers = networks.layers(design)
        self.analysis_start = partial(networks.analysis_start, self.ops, design)
        self.analysis_end = partial(networks.analysis_end, self.ops, design)
        self.hyper_analysis = partial(networks.hyper_analysis, self.ops)
        self.synthesis = partial(networks.synthesis, self.ops, design)
        if isinstance(design, former.Design):
            self.lagrangian = np.geomspace(former.LAMBDA_MIN, former.LAMBDA_MAX, QUALITIES)
        else:
            self.lagrangian = tensors["lagrangian"].astype(np.float64)  # [101], λ of each quality
        self.analysis_rate = self.ops.array(tensors["analysis_rate"])  # [101, C]
        self.synthesis_rate = self.ops.array(tensors["synthesis_rate"])  # [101, C]
        self.hyper_gain = self.ops.array(tensors["hyper_gain"])  # [101, Nz]
        # what shows a picture at 1/8 of its size: 2x2x3 pixels as a linear function of a latent and 1, [101, N + 1, 12]
        self.readout: Array | None = None
        if "readout" in tensors:
            self.readout = self.ops.array(_between(tensors["readout"].astype(np.float32)))
        self.coder = Coder(tensors["coder.supports"].tolist(), tensors["coder.frequencies"].tolist())
        # Apple's GPUs have no float64: there the CPU sees to what is exact
        exact = torch and not device.startswith("mps")
        self.entropy = EntropyModel(tensors, self.ops.xp if exact else np, device)
        if self.entropy.bound() >= 1 << 53:
            raise ValueError("the weights of the prior are too large for exact sums")

    def each(self, function: Callable[[T], object], items: Iterable[T]) -> None:
        """Call ``function`` with every item, on several threads of a CPU."""
        if self.device == "cpu":
            threads.each(function, items, self.torch)
        else:
            for item in items:
                function(item)


def _on_torch(layers: dict[str, npt.NDArray[Any]], device: str) -> FloatOperations:
    import torch

    from .torch_ops import TorchOperations

    tensors = {name: torch.from_numpy(value).to(device) for name, value in layers.items()}
    return TorchOperations(tensors, torch.device(device))


def tensors(path: Path) -> Tensors:
    """Those of a weights file, as they are."""
    return load_file(path)


def load(path: Path, device: str, torch: bool) -> Model:
    """The model of a weights file. Raises ValueError for what is none."""
    stated = registry.metadata(path)
    try:
        design = json.loads(stated["design"])
        kind = Design if "fine" in design else former.Design
        with _lasting(torch):
            objective, noise = stated.get("objective", "psnr"), float(stated.get("noise", 0))
            model = Model(load_file(path), kind(**design), device, torch, objective, noise)
    except (SafetensorError, KeyError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a weights file of this release ({error})") from None
    if model.id.hex() != stated.get("model_id"):
        raise ValueError(f"{path}: the tensors do not have the id that the file states")
    return model


def _lasting(torch: bool) -> AbstractContextManager[Any]:
    """A context whose tensors do not depend on the caller's mode: models are shared, and a search needs gradients."""
    return devices.torch_for("a device").inference_mode(False) if torch else nullcontext()


@lru_cache(maxsize=4)
def load_installed(path: Path, device: str, torch: bool) -> Model:
    """`load` for files that do not change: the same object for the same arguments."""
    return load(path, device, torch)


def shared(path: Path, device: str, torch: bool) -> Model:
    """`load_installed` for threads: those that ask at the same time wait for one of them."""
    with LOADING:
        return load_installed(path, device, torch)


def write(
    path: Path, tensors: dict[str, npt.NDArray[Any]], design: dict[str, int], objective: str, noise: float = 0.0
) -> str:
    """Write a weights file and return its model id in hexadecimal.

    ``objective``, ``noise``: what they were trained for, and to remove. The id depends on neither.
    """
    identity = model_id(tensors).hex()
    stated = {
        "design": json.dumps(design),
        "model_id": identity,
        "objective": objective,
        "prior_digest": EntropyModel(tensors).digest(),
    }
    if noise:
        stated["noise"] = str(noise)
    files.write(path, save(tensors, stated))
    return identity
