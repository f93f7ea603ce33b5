"""From a checkpoint to a weights file: fixed-point prior, tables fitted to real symbols, frozen quality tables."""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from scipy.special import ndtr
from torch import Tensor

from .. import encoder
from ..codec import Codec
from ..geometry import Tiling
from ..model import weights
from ..model.coder import PRECISION
from ..model.entropy import SCALE_MIN_LOG2, SCALES
from ..model.fixed_point import ACTIVATION_BITS, TABLE_BITS, WEIGHT_BITS
from ..model.rate import FINE_FROM, LAMBDA_MAX, LAMBDA_MIN, lagrangian
from ..model.structure import Design
from .data import read_rgb
from .network import KNOTS, Knots, Network

Tensors = dict[str, npt.NDArray[Any]]
QUALITIES = torch.linspace(0, 1, weights.QUALITIES)  # t of each quality
READOUT_QUALITIES = range(0, 101, 10)
READOUT_IMAGES = 50  # each at every one of these
READOUT_SIDE = 512  # pixels that are looked at
PRIOR_COUNTS = 1000.0  # how many symbols the Gaussian shape is worth against the counted ones
ENTRIES = {"recipe", "design", "step", "seconds", "images", "origin", "best", "stalled"}  # of a checkpoint
ENTRIES |= {"network", "average", "optimisers"}


def load_network(checkpoint: Path) -> tuple[Network, dict[str, Any]]:
    """The averaged network of a checkpoint, and the checkpoint's other entries. Raises ValueError."""
    state = read_checkpoint(checkpoint)
    network = Network(Design(**state["design"]))
    network.load_state_dict(state["average"])
    return network.eval(), state


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What `Run.save` has written. Raises ValueError for anything else."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        design, weights = state["design"], (state["network"], state["average"])
        if missing := ENTRIES - state.keys():
            raise ValueError(missing)
    except OSError:
        raise
    except Exception:  # broken files make torch raise almost anything
        raise ValueError(f"{path}: not a checkpoint, or a damaged one") from None
    try:
        network = Network(Design(**design))
        for found in weights:
            network.load_state_dict(found)
    except (TypeError, RuntimeError, AttributeError):
        raise ValueError(f"{path}: a checkpoint of another design: {design}") from None
    return state


def export(network: Network, out: Path, images: Sequence[Path], objective: str, noise: float = 0.0) -> str:
    """Write the weights file ``out``, its tables and readout fitted on ``images``; returns the model id."""
    tensors, codec = freeze(network), draft(network)
    fit_tables(tensors, codec, images)
    tensors["readout"] = fit_readout(codec, images[:: -(-len(images) // READOUT_IMAGES)])
    return weights.write(out, tensors, asdict(network.design), objective, noise)


def draft(network: Network) -> Codec:
    """A codec of the network as it is, with Gaussian tables."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "draft.safetensors"
        weights.write(path, freeze(network), asdict(network.design), "psnr")
        return Codec(device="cpu", weights=path)


@torch.no_grad()
def freeze(network: Network) -> Tensors:
    """The tensors of a weights file, with Gaussian tables. Raises ValueError where fixed point cannot hold a weight."""
    tensors: Tensors = {}
    for name, value in network.tensors.items():
        if not name.startswith("prior."):
            tensors[name] = value.to(torch.float16).numpy()
        elif name.endswith(".weight"):
            tensors[name] = _fixed(value, WEIGHT_BITS, np.int16)
        else:
            tensors[name] = _fixed(value, WEIGHT_BITS + ACTIVATION_BITS, np.int32)

    def table(name: str) -> Tensor:
        return network.get_submodule(name)(QUALITIES)[:, 0, 0]  # type: ignore[no-any-return]  # [101, channels]

    for kind in ("", "fine_"):
        gain = torch.exp(table(f"{kind}gain"))
        tensors[f"prior.{kind}gain"] = _fixed(gain, TABLE_BITS, np.int32)
        tensors[f"prior.{kind}inverse_gain"] = _fixed(1 / gain, TABLE_BITS, np.int32)
        offset = table(f"{kind}scale_offset") - SCALE_MIN_LOG2
        tensors[f"prior.{kind}scale_offset"] = _fixed(offset, ACTIVATION_BITS, np.int32)
    tensors["prior.fine_coded"] = (QUALITIES >= FINE_FROM).to(torch.uint8).numpy()
    tensors["lagrangian"] = lagrangian(QUALITIES).numpy()
    hyper_gain = torch.exp(table("hyper_gain"))
    tensors["prior.hyper_inverse_gain"] = _fixed(1 / hyper_gain, TABLE_BITS, np.int32)
    tensors["prior.hyper_rate"] = _fixed(torch.exp(table("prior.hyper_rate")), TABLE_BITS, np.int32)
    index = ((table("hyper_scale") - SCALE_MIN_LOG2) * 8).round().clamp(0, SCALES - 1)
    tensors["coder.hyper_index"] = index.to(torch.uint8).numpy()
    tensors["hyper_gain"] = hyper_gain.numpy()
    tensors["analysis_rate"] = torch.exp(table("analysis_rate")).numpy()
    tensors["synthesis_rate"] = torch.exp(table("synthesis_rate")).numpy()
    supports = [math.ceil(4 * deviation(i)) for i in range(SCALES)]
    set_tables(tensors, [gaussian(deviation(i), k) for i, k in enumerate(supports)])
    return tensors


@torch.no_grad()
def thaw(path: Path) -> Network:
    """The network of a weights file, to go on training from: the inverse of `freeze`, up to rounding.

    Raises ValueError for a file that is not one of weights.
    """
    design = weights.load(path, "cpu", torch=False).design  # which also checks the file
    if not isinstance(design, Design):
        raise ValueError(f"{path}: weights of another design than those that are trained now")
    network = Network(design)
    tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
    for name, value in network.tensors.items():
        bits = WEIGHT_BITS + ACTIVATION_BITS * name.endswith(".bias") if name.startswith("prior.") else 0
        value.copy_(tensors[name] / 2**bits)

    shape = Knots(KNOTS)
    shape.values.copy_(torch.eye(KNOTS))
    t = torch.log(tensors["lagrangian"] / LAMBDA_MIN) / math.log(LAMBDA_MAX / LAMBDA_MIN)
    basis = shape(t)[:, 0, 0]  # [101, KNOTS]: what each knot adds to each quality

    def set_knots(name: str, table: Tensor) -> None:
        network.get_submodule(name).get_parameter("values").copy_(torch.linalg.lstsq(basis, table).solution)

    for kind in ("", "fine_"):
        set_knots(f"{kind}gain", torch.log(tensors[f"prior.{kind}gain"] / 2**TABLE_BITS))
        offset = tensors[f"prior.{kind}scale_offset"] / 2**ACTIVATION_BITS + SCALE_MIN_LOG2
        set_knots(f"{kind}scale_offset", offset)
    set_knots("hyper_gain", torch.log(tensors["hyper_gain"]))
    set_knots("prior.hyper_rate", torch.log(tensors["prior.hyper_rate"] / 2**TABLE_BITS))
    set_knots("hyper_scale", tensors["coder.hyper_index"] / 8 + SCALE_MIN_LOG2)
    set_knots("analysis_rate", torch.log(tensors["analysis_rate"]))
    set_knots("synthesis_rate", torch.log(tensors["synthesis_rate"]))
    return network


def _fixed(value: Tensor, bits: int, kind: type[np.signedinteger[Any]]) -> npt.NDArray[Any]:
    integers: npt.NDArray[np.float64] = (value.double() * 2**bits).round().numpy()
    largest = np.abs(integers).max()
    if not largest <= np.iinfo(kind).max:
        raise ValueError(f"a weight of {largest / 2**bits:.2f} does not fit into fixed point")
    return integers.astype(kind)


def deviation(index: int) -> float:
    """Standard deviation of table ``index``."""
    return float(2 ** (SCALE_MIN_LOG2 + index / 8))


def gaussian(scale: float, support: int) -> npt.NDArray[np.float64]:
    """Masses of -support..support and of all else, for a zero-mean Gaussian."""
    edges = (np.arange(-support, support + 2) - 0.5) / scale
    masses: npt.NDArray[np.float64] = np.diff(ndtr(edges))
    return np.append(masses, 2 * ndtr(edges[0]))


def set_tables(tensors: Tensors, masses: Sequence[npt.NDArray[np.float64]]) -> None:
    tensors["coder.supports"] = np.array([len(m) // 2 - 1 for m in masses], np.int32)
    tensors["coder.frequencies"] = np.concatenate([integer_frequencies(m) for m in masses])


def integer_frequencies(masses: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    """Positive integers that sum to 2^16, in proportion to the masses: one each, the rest by largest remainders."""
    shares = masses / masses.sum() * ((1 << PRECISION) - len(masses))
    counts: npt.NDArray[np.int32] = np.floor(shares).astype(np.int32) + 1
    missing = (1 << PRECISION) - int(counts.sum())
    counts[np.argsort(np.floor(shares) - shares, kind="stable")[:missing]] += 1
    return counts


def fit_tables(tensors: Tensors, codec: Codec, images: Sequence[Path]) -> None:
    """Replace the tables by the (symmetric) histograms of the symbols that ``codec`` makes of the images.

    Every image is taken at one quality, and every quality has its turn; where few symbols were seen the Gaussian
    decides. Raises ValueError where none of them can be read.
    """
    supports = tensors["coder.supports"].tolist()
    counts, seen = [np.zeros(2 * k + 2) for k in supports], 0
    for n, path in enumerate(images):
        try:
            pixels = read_rgb(path)
        except (OSError, ValueError):  # its header alone is whole
            continue
        seen += 1
        tiling = Tiling.uniform(pixels.shape, n * 37 % weights.QUALITIES)
        for tile in encoder.symbols(codec.model, [pixels], tiling):
            for symbols, indices in tile.parts:
                for i in np.unique(indices):
                    k, s = supports[i], symbols[indices == i]
                    slots = np.where(np.abs(s) <= k, s + k, 2 * k + 1)
                    counts[i] += np.bincount(slots, minlength=2 * k + 2)
    if not seen:
        raise ValueError("none of the images can be read")
    fitted = []
    for i, k in enumerate(supports):
        both = counts[i] + np.append(counts[i][2 * k :: -1], counts[i][-1])
        fitted.append(both / 2 + PRIOR_COUNTS * gaussian(deviation(i), k))
    set_tables(tensors, fitted)


def fit_readout(codec: Codec, images: Sequence[Path]) -> npt.NDArray[np.float16]:
    """``[11, N + 1, 12]``: what turns the main latents and a 1 into the 2x2 pixels that it becomes at 1/8 of the size.

    By least squares against the means of the original pixels, for every tenth quality.
    """
    n = codec.model.design.latents + 1
    squares, products = np.zeros((len(READOUT_QUALITIES), n, n)), np.zeros((len(READOUT_QUALITIES), n, 12))
    for path in images:
        try:
            pixels = read_rgb(path)[:READOUT_SIDE, :READOUT_SIDE]
        except (OSError, ValueError):  # its header alone is whole
            continue
        h, w = (side // 16 for side in pixels.shape[:2])
        pixels = pixels[: 16 * h, : 16 * w]
        means = pixels.reshape(h, 2, 8, w, 2, 8, 3).mean((2, 5)) / 255  # [h, 2, w, 2, 3]
        target = means.transpose(0, 2, 1, 3, 4).reshape(h * w, 12)
        for place, quality in enumerate(READOUT_QUALITIES):
            main = codec.latents(pixels, quality)[..., : n - 1].reshape(h * w, n - 1)
            x = np.pad(main, ((0, 0), (0, 1)), constant_values=1.0)
            squares[place] += x.T @ x
            products[place] += x.T @ target
    squares += 1e-3 * np.eye(n)  # of channels that are never used
    return np.linalg.solve(squares, products).astype(np.float16)
