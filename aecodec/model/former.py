"""The networks of model 1, which is what is shipped until model 2 has been trained: then this goes.

Nearly all work is done at 1/8 resolution; there are no fine latents, and zeros are around every picture.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from .structure import (
    Array,
    Layer,
    Operations,
    averaged,
    block,
    block_layers,
    prior_layers,
    repeat_edge,
    shuffle,
    unshuffle,
)

LAMBDA_MIN, LAMBDA_MAX = 0.0005, 0.7  # at quality 0 and 100


@dataclass(frozen=True)
class Design:
    """Widths and depths of the networks; they are stored with the weights."""

    features: int = 128  # C: channels at 1/8 resolution
    latents: int = 320  # N: channels of y at 1/16
    fine: ClassVar[int] = 0
    hyper: int = 128  # P: channels of the hyper-synthesis
    hyper_latents: int = 64  # Nz: channels of z at 1/64
    context: int = 160  # W: width of a context step
    analysis_blocks: int = 10
    synthesis_blocks: int = 5

    @property
    def analysis_halo(self) -> int:
        return _halo(self.analysis_blocks)

    @property
    def synthesis_halo(self) -> int:
        return _halo(self.synthesis_blocks)


def _halo(blocks: int) -> int:
    """Latents on each side that a window needs: each block at 1/8 reaches half a latent, the one at 1/16 a whole."""
    return 1 + -(-blocks // 2)


def layers(d: Design) -> dict[str, Layer]:
    """All layers by name."""
    return dict(_layers(d))


def _layers(d: Design) -> Iterator[tuple[str, Layer]]:
    yield "analysis.enter", Layer(d.features, 192)
    for i in range(d.analysis_blocks):
        yield from block_layers(f"analysis.blocks.{i}.", d.features, 2 * d.features)
    yield "analysis.to_latents", Layer(d.latents, 4 * d.features)
    yield from block_layers("analysis.last.", d.latents, d.latents)
    yield from prior_layers(d.latents, d.hyper, d.hyper_latents, d.context)
    yield from block_layers("synthesis.first.", d.latents, d.latents)
    yield "synthesis.from_latents", Layer(4 * d.features, d.latents)
    for i in range(d.synthesis_blocks):
        yield from block_layers(f"synthesis.blocks.{i}.", d.features, 2 * d.features)
    yield "synthesis.leave", Layer(192, d.features)


def analysis_start(ops: Operations, d: Design, pixels: Array) -> Array:
    """Of g_a, what all qualities share: pixels ``[B, H, W, 3]`` in 0..1 -> features ``[B, H/8, W/8, C]``."""
    x = ops.pointwise("analysis.enter", unshuffle((pixels - 0.5) * 3, 8))
    for i in range(d.analysis_blocks // 2):
        x = block(ops, f"analysis.blocks.{i}.", x, edge=False)
    return x


def analysis_end(ops: Operations, d: Design, x: Array, rate: Array) -> Array:
    """The rest of g_a: latents y ``[B, H/16, W/16, N]``."""
    x = ops.scale(x, rate)
    for i in range(d.analysis_blocks // 2, d.analysis_blocks):
        x = block(ops, f"analysis.blocks.{i}.", x, edge=False)
    return block(ops, "analysis.last.", ops.pointwise("analysis.to_latents", unshuffle(x, 2)), edge=False)


def hyper_analysis(ops: Operations, y: Array) -> Array:
    """h_a: latents ``[B, h, w, N]`` -> hyper-latents z ``[B, ceil(h/4), ceil(w/4), Nz]``."""
    _, height, width, _ = y.shape
    y = repeat_edge(y, -(-height // 4) * 4, -(-width // 4) * 4)
    if y.shape[1:3] != (height, width):  # it is a copy
        y[:, height:] = 0
        y[:, :, width:] = 0
    x = ops.activate(ops.pointwise("hyper_analysis.enter", y))  # [B, h, w, P]
    x = block(ops, "hyper_analysis.block.", ops.pointwise("hyper_analysis.down", unshuffle(x, 2)), edge=False)
    return ops.pointwise("hyper_analysis.to_hyper_latents", unshuffle(x, 2))


def synthesis(ops: Operations, d: Design, y: Array, rate: Array, shrink: int = 1) -> Array:
    """g_s: latents ``[B, h, w, N]`` -> pixels ``[B, 16h, 16w, 3]``, or averages of ``shrink`` squared of them."""
    x = ops.pointwise("synthesis.from_latents", block(ops, "synthesis.first.", y, edge=False))
    x = shuffle(x, 2)  # [B, 2h, 2w, C]
    for i in range(d.synthesis_blocks):
        if i == d.synthesis_blocks // 2:
            x = ops.scale(x, rate)
        x = block(ops, f"synthesis.blocks.{i}.", x, edge=False)
    return _leave(ops, x, shrink)


def _leave(ops: Operations, x: Array, shrink: int) -> Array:
    """The last layer, 8x8 pixels a position, or their averages over ``shrink`` squared."""
    pixels = shuffle(ops.pointwise("synthesis.leave", x), 8) / 3 + 0.5
    return averaged(pixels, shrink)
