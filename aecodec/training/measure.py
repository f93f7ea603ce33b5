"""What a network is worth in real files."""

import contextlib
import io
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from .. import encoder
from ..codec import Codec
from ..geometry import TILE, Tiling
from ..image import Plane
from ..metrics import ms_ssim
from ..metrics.ssimulacra2 import ssimulacra2
from ..model.entropy import SCALE_MIN_LOG2
from ..model.rate import gaussian_bits
from ..objective import OBJECTIVES, distortion
from ..targets import psnr
from .bd import Curve, NoOverlap, bd_rate
from .data import read_rgb
from .export import draft
from .network import Network

POINTS = (0, 25, 50, 75, 100)
LEAST_SIDE = ms_ssim.smallest()  # of an image that MS-SSIM is defined for
JPEG_QUALITIES = (3, 6, 10, 16, 24, 34, 46, 58, 70, 80, 88, 93, 96)


# what each objective is judged by
METRICS: dict[str, Callable[[Plane, Plane], float]] = {"eye": ssimulacra2, "psnr": psnr, "ms-ssim": ms_ssim.decibels}


def measure(codec: Codec, images: Sequence[Path], objective: str) -> dict[str, Any]:
    """By quality: mean bits per pixel of files, PSNR and SSIMULACRA 2 of their pictures, cost, and bits on disk over
    bits estimated.

    The cost is bpp + λ·distortion, what the ``objective`` minimises. And the mean over the images of the BD-rate
    against JPEG, in what the objective is about; None unless the curves of every image overlap enough.
    """
    found: dict[str, Any] = {"quality": list(POINTS)}
    found |= {name: [] for name in ("bpp", "psnr", "ssimulacra2", "cost", "disk_over_estimate")}
    curves: list[list[tuple[float, float]]] = [[] for _ in images]
    for quality in POINTS:
        bpp, decibels, scores, costs, estimated = [], [], [], [], 0.0
        for path, curve in zip(images, curves, strict=True):
            pixels = read_rgb(path)
            data = codec.compress(pixels, quality)
            decoded = codec.decompress(data, "numpy")
            bpp.append(8 * len(data) / pixels[..., 0].size)
            decibels.append(psnr(pixels, decoded))
            scores.append(ssimulacra2(pixels, decoded))
            curve.append((bpp[-1], METRICS[objective](pixels, decoded)))
            error = distortion(
                OBJECTIVES[objective], *(torch.from_numpy(x.copy())[None] / 255 for x in (pixels, decoded))
            )
            costs.append(bpp[-1] + float(codec.model.lagrangian[quality] * error))
            parts = [
                part
                for tile in encoder.symbols(codec.model, [pixels], Tiling.uniform(pixels.shape, quality))
                for part in tile.parts
            ]
            estimated += sum(codec.model.coder.bits(*part) for part in parts) / pixels[..., 0].size
        found["bpp"].append(round(float(np.mean(bpp)), 4))
        found["psnr"].append(round(float(np.mean(decibels)), 3))
        found["ssimulacra2"].append(round(float(np.mean(scores)), 3))
        found["cost"].append(round(float(np.mean(costs)), 5))
        found["disk_over_estimate"].append(round(sum(bpp) / estimated, 5))
    found["bd_rate"] = None
    with contextlib.suppress(NoOverlap):
        rates = [bd_rate(jpeg_curve(path, objective), np.array(c)) for path, c in zip(images, curves, strict=True)]
        found["bd_rate"] = round(float(np.mean(rates)), 2)
    return found


@cache
def jpeg_curve(path: Path, objective: str) -> Curve:
    """Real files of Pillow's JPEG, 4:2:0 with optimised tables."""
    pixels, points = read_rgb(path), []
    for quality in JPEG_QUALITIES:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling="4:2:0", optimize=True)
        decoded = np.asarray(Image.open(file))
        points.append((8 * file.tell() / pixels[..., 0].size, METRICS[objective](pixels, decoded)))
    return np.array(points)


@torch.no_grad()
def fixed_point_cost(network: Network, codec: Codec, images: Sequence[Path]) -> float:
    """Rate under the fixed-point prior over the rate under the float one, for the same latents of one tile each.

    Both rates are those of ideal Gaussians, so that only means and scales differ: rounded weights and activations,
    and deviations in steps of 2^(1/8).
    """
    exact = float_ = 0.0
    for path in images:
        pixels = read_rgb(path)[:TILE, :TILE]
        height, width = (n // 64 * 64 for n in pixels.shape[:2])  # the float prior knows whole hyper-latents only
        pixels = pixels[:height, :width]
        for quality in POINTS:
            tiling = Tiling.uniform(pixels.shape, quality)
            y = codec.model.ops.numpy(encoder.analyse(codec.model, [pixels], tiling))
            float_ += float(network.code(torch.from_numpy(y), torch.tensor([quality / 100]))[1])
            (tile,) = encoder.quantise(codec.model, codec.model.ops.array(y), tiling)
            for symbols, indices in tile.parts:
                log_scale = torch.from_numpy(indices.astype(np.float32)) / 8 + SCALE_MIN_LOG2
                exact += float(gaussian_bits(torch.from_numpy(symbols), log_scale).sum())
    return exact / float_


def fitted_tables_cost(network: Network, codec: Codec, images: Sequence[Path]) -> float:
    """Rate under the tables of ``codec`` over the rate under Gaussian ones, for the same symbols."""
    plain, fitted, gaussian = draft(network), 0.0, 0.0
    for path in images:
        pixels = read_rgb(path)
        for quality in POINTS:
            for tile in encoder.symbols(codec.model, [pixels], Tiling.uniform(pixels.shape, quality)):
                fitted += sum(codec.model.coder.bits(*part) for part in tile.parts)
                gaussian += sum(plain.model.coder.bits(*part) for part in tile.parts)
    return fitted / gaussian
