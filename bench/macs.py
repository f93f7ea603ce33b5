"""Multiply-accumulates, counted while the networks run."""

from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from aecodec import Codec
from aecodec.model import Model
from aecodec.prior import ExactPrior

SIDE = 512


class _CountingPrior(ExactPrior):
    """The prior, keeping count."""

    count = 0

    def pointwise(self, name: str, x: Any, columns: int | None = None) -> Any:
        y = super().pointwise(name, x, columns)
        self.count += y.size * x.shape[-1]
        return y

    def depthwise(self, name: str, x: Any) -> Any:
        self.count += 9 * x.size
        return super().depthwise(name, x)


def count(codec: Codec, quality: int) -> dict[str, float]:
    """KMAC per pixel of each network, for a picture of 512x512 pixels at a quality."""
    m, pixels = codec.model, torch.zeros(1, SIDE, SIDE, 3, device=codec.device)
    n = m.design.latents
    macs = {"analysis": _floats(lambda: m.analysis(pixels, m.analysis_rate[quality]))}
    with torch.inference_mode():
        y = m.analysis(pixels, m.analysis_rate[quality])
        z = m.hyper_analysis(y[..., :n])
    macs["hyper_analysis"] = _floats(lambda: m.hyper_analysis(y[..., :n]))
    prior = _CountingPrior({name: value.cpu().numpy() for name, value in m.prior.tensors.items()}, np)
    latents = prior.decode(
        np.zeros(tuple(z.shape)), np.array([quality]), y.shape[1], y.shape[2], lambda part, mean, index: 0 * mean
    )
    macs["prior"] = prior.count
    seen = y[..., : latents.shape[-1]]  # without fine latents where the quality has none
    macs["synthesis"] = _floats(lambda: m.synthesis(seen, m.synthesis_rate[quality]))
    return {part: number / SIDE**2 / 1000 for part, number in macs.items()}


def _floats(network: Any) -> float:
    """Multiply-accumulates of one call."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network()
    total: int = counter.get_total_flops()
    return total / 2


def parameters(m: Model) -> dict[str, int]:
    """How many numbers each network has."""
    found = {part: sum(p.numel() for p in getattr(m, part).parameters()) for part in ("analysis", "hyper_analysis")}
    layers = (value for name, value in m.prior.tensors.items() if name.endswith((".weight", ".bias")))
    return found | {
        "prior": sum(value.numel() for value in layers),
        "synthesis": sum(p.numel() for p in m.synthesis.parameters()),
    }
