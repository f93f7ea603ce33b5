"""Multiply-accumulates, counted while the networks run."""

from collections import Counter
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file
from torch import Tensor, nn

from aecodec import Codec, registry
from aecodec.layers import Depthwise
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


def count(codec: Codec) -> dict[str, tuple[float, int]]:
    """KMAC per pixel and number of parameters of each part, for a 512x512 picture."""
    m = codec.model
    macs: Counter[str] = Counter()

    def watch(part: str, module: nn.Module) -> None:
        def hook(layer: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
            macs[part] += output.numel() * (9 if isinstance(layer, Depthwise) else arguments[0].shape[-1])

        for layer in module.modules():
            if isinstance(layer, nn.Linear | Depthwise):
                handles.append(layer.register_forward_hook(hook))

    handles: list[Any] = []
    for part in ("analysis", "hyper_analysis", "synthesis"):
        watch(part, getattr(m, part))
    with torch.inference_mode():
        y = m.analysis(torch.zeros(1, SIDE, SIDE, 3, device=m.device), m.analysis_rate[50])
        z = m.hyper_analysis(y)
        m.synthesis(y, m.synthesis_rate[50])
    for handle in handles:
        handle.remove()

    everything = load_file(registry.find(m.id))
    tensors = {name.removeprefix("prior."): t for name, t in everything.items() if name.startswith("prior.")}
    prior = _CountingPrior(tensors, np)
    prior.decode(np.zeros(tuple(z.shape)), np.array([50]), y.shape[1], y.shape[2], lambda step, mean, index: 0 * mean)
    macs["prior"] = prior.count

    def parameters(part: str) -> int:
        return sum(t.size for name, t in everything.items() if name.startswith(f"{part}."))

    return {part: (macs[part] / SIDE**2 / 1000, parameters(part)) for part in macs}
