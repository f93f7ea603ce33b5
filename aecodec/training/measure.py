"""What a network is worth in real files."""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from .. import coding, model
from ..codec import Codec
from ..prior import SCALE_MIN_LOG2
from .data import read_rgb
from .export import freeze
from .network import Network, gaussian_bits

POINTS = (0, 25, 50, 75, 100)


def measure(codec: Codec, images: Sequence[Path]) -> dict[str, list[float]]:
    """Mean bits per pixel of files, mean PSNR of their pictures, and bits on disk over bits estimated, by quality."""
    found: dict[str, list[float]] = {"quality": list(POINTS), "bpp": [], "psnr": [], "disk_over_estimate": []}
    for quality in POINTS:
        bpp, psnr, estimated = [], [], 0.0
        for path in images:
            pixels = read_rgb(path)
            data = codec.compress(pixels, quality)
            error = codec.decompress(data, "numpy").astype(np.float64) - pixels
            bpp.append(8 * len(data) / error[..., 0].size)
            psnr.append(float(10 * np.log10(255**2 / np.mean(error**2))))
            tiles = coding.symbols(codec.model, pixels, quality)
            estimated += sum(codec.model.coder.bits(*part) for _, parts in tiles for part in parts) / error[..., 0].size
        found["bpp"].append(round(float(np.mean(bpp)), 4))
        found["psnr"].append(round(float(np.mean(psnr)), 3))
        found["disk_over_estimate"].append(round(sum(bpp) / estimated, 5))
    return found


def measure_network(network: Network, images: Sequence[Path]) -> dict[str, list[float]]:
    """`measure` for a network in training, with Gaussian tables."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "draft.safetensors"
        model.save(path, freeze(network), asdict(network.design))
        return measure(Codec(device="cpu", weights=path), images)


@torch.no_grad()
def fixed_point_cost(network: Network, codec: Codec, images: Sequence[Path]) -> float:
    """Rate under the fixed-point prior over the rate under the float one, for the same latents of one tile each.

    Both rates are those of ideal Gaussians, so that only means and scales differ: rounded weights and activations,
    and deviations in steps of 2^(1/8).
    """
    exact = float_ = 0.0
    for path in images:
        pixels = read_rgb(path)[: coding.TILE, : coding.TILE]
        height, width = (n // 64 * 64 for n in pixels.shape[:2])  # the float prior knows whole hyper-latents only
        pixels = pixels[:height, :width]
        for quality in POINTS:
            y = coding.analyse(codec.model, pixels, quality)
            _, y_bits, z_bits = network.code(y[None], torch.tensor([quality / 100]))
            float_ += float(y_bits + z_bits)
            ((_, parts),) = coding.quantise(codec.model, y, quality)
            for symbols, indices in parts:
                log_scale = torch.from_numpy(indices.astype(np.float32)) / 8 + SCALE_MIN_LOG2
                exact += float(gaussian_bits(torch.from_numpy(symbols), log_scale).sum())
    return exact / float_
