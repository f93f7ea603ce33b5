"""Multiply-accumulates, counted while the networks run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any
from unittest import mock

import numpy as np

from aecodec import Codec
from aecodec.model.fixed_point import FixedPoint
from aecodec.model.structure import Operations
from aecodec.model.weights import Model

SIDE = 512


def count(codec: Codec, quality: int) -> dict[str, float]:
    """KMAC per pixel of each network, for a picture of 512x512 pixels at a quality."""
    m, macs = codec.model, dict[str, int]()

    def counted(part: str, kind: type[Operations], network: Callable[[], Any]) -> Any:
        with m.ops.inference(), _counting(kind) as counts:
            result = network()
        macs[part] = sum(counts)
        return result

    pixels = m.ops.array(np.zeros((1, SIDE, SIDE, 3)))
    y = counted("analysis", type(m.ops), lambda: m.analysis_end(m.analysis_start(pixels), m.analysis_rate[quality]))
    counted("hyper_analysis", type(m.ops), lambda: m.hyper_analysis(y[..., : m.design.latents]))
    latents = counted("prior", FixedPoint, lambda: _latents(m, SIDE // 16, quality))
    seen = y[..., : latents.shape[-1]]  # without fine latents where the quality has none
    counted("synthesis", type(m.ops), lambda: m.synthesis(seen, m.synthesis_rate[quality]))
    return {part: number / SIDE**2 / 1000 for part, number in macs.items()}


@contextmanager
def _counting(kind: type[Operations]) -> Iterator[list[int]]:
    """The multiply-accumulates of each layer that operations of a kind compute."""
    counts: list[int] = []
    pointwise: Any = kind.pointwise
    depthwise: Any = kind.depthwise

    def counted(ops: Operations, layer: str, x: Any, columns: int | None = None) -> Any:
        y = pointwise(ops, layer, x, columns)
        counts.append(prod(y.shape) * x.shape[-1])
        return y

    def counted_depthwise(ops: Operations, layer: str, x: Any, edge: bool) -> Any:
        counts.append(9 * prod(x.shape))
        return depthwise(ops, layer, x, edge)

    with mock.patch.object(kind, "pointwise", counted), mock.patch.object(kind, "depthwise", counted_depthwise):
        yield counts


def _latents(m: Model, side: int, quality: int) -> Any:
    """Those of a tile whose symbols are all zero."""
    tiles = m.entropy.tiles(1, side, side, quality)
    for _ in range(tiles.parts):
        tiles.update(tiles.predict()[1] * 0)
    return tiles.latents


def parameters(m: Model) -> dict[str, int]:
    """How many numbers each network has."""
    found = dict.fromkeys(("analysis", "hyper_analysis", "prior", "synthesis"), 0)
    for name, layer in m.layers.items():
        found[name.partition(".")[0]] += prod(layer.shape) + layer.rows
    return found
