"""The networks: what follows what, said once, over any arithmetic.

Every network is a function of operations and arrays. The operations come from NumPy (`numpy_ops`), from torch
(`torch_ops`: any device, with gradients for training and search) or from exact arithmetic (`fixed_point`). Layers are
found by name, the names of the weights files.

**Transforms.** Depthwise 3x3 and 1x1 convolutions only, between pixel-unshuffle and pixel-shuffle ends. *Main* latents
come of nearly all the work, which is done at 1/8 of the resolution; the hyperprior and the context model know them.
They have fewer dimensions than the 16x16x3 pixels under each, and the best qualities need more: *fine* latents, linear
in the pixels, are coded after them, and only where the quality is high enough. On both sides the two meet at 1/4 of the
resolution, where small blocks see to edges and thin lines. One vector per quality scales the features at 1/8, so that
one model serves every rate.

**Prior.** A mean-scale hyperprior (Minnen, Ballé, Toderici 2018) with a four-step parallel context over 2x2 cells and
channel groups (after He et al. 2021 and Li et al. 2023).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

Array = Any  # numpy.ndarray or torch.Tensor, [B, H, W, C]: the code below uses what they share

LEAK = 1 / 8  # slope of the leaky ReLU, exact in fixed point

STEPS = 4
# PATTERN[group][cell position]: the step that codes the channel group at the position of the 2x2 cell (row by row)
PATTERN = ((0, 3, 1, 2), (3, 0, 2, 1), (1, 2, 0, 3), (2, 1, 3, 0))
# GROUP[step][cell position]: the same, asked the other way round
GROUP = tuple(tuple(g for p in range(4) for g in range(4) if PATTERN[g][p] == s) for s in range(STEPS))
CELL = ((0, 0), (0, 1), (1, 0), (1, 1))


@dataclass(frozen=True)
class Design:
    """Widths and depths of the networks; they are stored with the weights."""

    features: int = 128  # C: channels at 1/8 resolution
    latents: int = 320  # N: main latents, at 1/16
    fine: int = 448  # M: fine latents, at 1/16
    hyper: int = 128  # P: channels of the hyper-synthesis
    hyper_latents: int = 64  # Nz: channels of z at 1/64
    context: int = 160  # W: width of a context step
    fine_context: int = 128  # width of the fine latents' prior
    quarter_hidden: int = 96  # width inside the blocks at 1/4, which have the 4x4x3 pixels as channels
    analysis_quarter_blocks: int = 3
    analysis_blocks: int = 10  # at 1/8
    synthesis_blocks: int = 5  # at 1/8
    synthesis_quarter_blocks: int = 1

    @property
    def analysis_halo(self) -> int:
        """Latents on each side of a window that what comes of its inside depends on."""
        return _halo(self.analysis_blocks, self.analysis_quarter_blocks)

    @property
    def synthesis_halo(self) -> int:
        """The same of the synthesis."""
        return _halo(self.synthesis_blocks, self.synthesis_quarter_blocks)


def _halo(eighth_blocks: int, quarter_blocks: int) -> int:
    """A block reaches one position of its own resolution: the one at 1/16 a whole latent."""
    return 1 + -(-(2 * eighth_blocks + quarter_blocks) // 4)


@dataclass(frozen=True)
class Layer:
    """A 1x1 convolution of ``columns`` channels to ``rows``, or a depthwise 3x3 one, which has no columns."""

    rows: int
    columns: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight. A bias is ``[rows]``."""
        return (self.rows, self.columns) if self.columns else (self.rows, 3, 3)


def layers(d: Design) -> dict[str, Layer]:
    """All layers by name, in the order that checkpoints keep."""
    return dict(_layers(d))


def block_layers(name: str, channels: int, hidden: int) -> Iterator[tuple[str, Layer]]:
    """Those of `block`."""
    yield f"{name}depthwise", Layer(channels)
    yield f"{name}expand", Layer(hidden, channels)
    yield f"{name}project", Layer(channels, hidden)


def prior_layers(latents: int, hyper: int, hyper_latents: int, width: int) -> Iterator[tuple[str, Layer]]:
    """Those of hyper-analysis, hyper-synthesis and context steps."""
    yield "hyper_analysis.enter", Layer(hyper, latents)
    yield "hyper_analysis.down", Layer(hyper, 4 * hyper)
    yield from block_layers("hyper_analysis.block.", hyper, 2 * hyper)
    yield "hyper_analysis.to_hyper_latents", Layer(hyper_latents, 4 * hyper)
    yield "prior.hyper_enter", Layer(4 * hyper, hyper_latents)
    yield "prior.hyper_up", Layer(4 * hyper, hyper)
    yield from block_layers("prior.hyper_block0_", hyper, 2 * hyper)
    yield from block_layers("prior.hyper_block1_", hyper, 2 * hyper)
    for step in range(STEPS):
        name = f"prior.context{step}"
        yield f"{name}_enter", Layer(width, hyper + latents)
        yield f"{name}_depthwise", Layer(width)
        yield f"{name}_mix", Layer(width, width)
        for group in range(4):
            yield f"{name}_head{group}", Layer(2 * (latents // 4), width)


def _layers(d: Design) -> Iterator[tuple[str, Layer]]:
    def blocks(name: str, count: int, channels: int, hidden: int) -> Iterator[tuple[str, Layer]]:
        for i in range(count):
            yield from block_layers(f"{name}.{i}.", channels, hidden)

    yield from blocks("analysis.quarter_blocks", d.analysis_quarter_blocks, 48, d.quarter_hidden)
    yield "analysis.to_fine", Layer(d.fine, 768)
    yield "analysis.enter", Layer(d.features, 192)
    yield from blocks("analysis.blocks", d.analysis_blocks, d.features, 2 * d.features)
    yield "analysis.to_latents", Layer(d.latents, 4 * d.features)
    yield from block_layers("analysis.last.", d.latents, d.latents)
    yield from prior_layers(d.latents, d.hyper, d.hyper_latents, d.context)
    yield "prior.fine_enter", Layer(d.fine_context, d.hyper + d.latents)
    yield from block_layers("prior.fine_block_", d.fine_context, d.fine_context)
    yield "prior.fine_head", Layer(2 * d.fine, d.fine_context)
    yield from block_layers("synthesis.first.", d.latents, d.latents)
    yield "synthesis.from_latents", Layer(4 * d.features, d.latents)
    yield from blocks("synthesis.blocks", d.synthesis_blocks, d.features, 2 * d.features)
    yield "synthesis.leave", Layer(192, d.features)
    yield "synthesis.from_fine", Layer(768, d.fine)
    yield from blocks("synthesis.quarter_blocks", d.synthesis_quarter_blocks, 48, d.quarter_hidden)


class Operations(ABC):
    """What layers compute, over arrays ``[B, H, W, C]`` of one library.

    Besides these, networks slice, ``reshape`` and ``swapaxes``, and the transforms add and multiply numbers.
    """

    @abstractmethod
    def pointwise(self, layer: str, x: Array, columns: int | None = None) -> Array:
        """1x1 convolution, or its first ``columns`` alone, where the other channels would be zero."""

    @abstractmethod
    def depthwise(self, layer: str, x: Array, edge: bool) -> Array:
        """3x3 convolution of each channel by itself. Around x there are zeros or, with ``edge``, its edge again: zeros
        would make a flat picture look as if it ended at every border.
        """

    @abstractmethod
    def activate(self, x: Array) -> Array:
        """Leaky ReLU with slope `LEAK`. May overwrite x."""

    @abstractmethod
    def add(self, x: Array, y: Array) -> Array: ...

    @abstractmethod
    def scale(self, x: Array, factors: Array) -> Array:
        """Multiply by ``factors``, broadcastable to x."""

    @abstractmethod
    def concatenate(self, x: Array, y: Array) -> Array:
        """Join the channels."""

    def residual(self, x: Array, mix: Callable[[Array], Array], pointwise: Callable[[Array], Array]) -> Array:
        """``x + pointwise(mix(x))``. ``mix`` looks at neighbours, ``pointwise`` at each position by itself."""
        return self.add(x, pointwise(mix(x)))


class FloatOperations(Operations):
    """Operations in float32, and the way of arrays into their library and out of it."""

    xp: Any  # the library
    device: Any = "cpu"

    def empty(self, *shape: int, kind: str = "float32") -> Array:
        """Room for numbers of a type."""
        return self.xp.empty(shape, dtype=getattr(self.xp, kind), device=self.device)

    @abstractmethod
    def array(self, x: Array) -> Array:
        """Numbers of any library and type as floats of this one."""

    @abstractmethod
    def to_bytes(self, x: Array) -> Array:
        """Floats, nominally in 0..1, as bytes. May overwrite x."""

    @abstractmethod
    def numpy(self, x: Array) -> npt.NDArray[Any]:
        """An array of this library as one of NumPy."""

    @abstractmethod
    def inference(self) -> AbstractContextManager[Any]:
        """A context without gradients, which a caller's reduced precision does not reach into."""


def block(ops: Operations, name: str, x: Array, edge: bool) -> Array:
    """A residual block: a depthwise convolution, a hidden layer, and what was there before.

    ``name``: what the names of its layers begin with.
    """

    def pointwise(mixed: Array) -> Array:
        return ops.pointwise(f"{name}project", ops.activate(ops.pointwise(f"{name}expand", mixed)))

    return ops.residual(x, lambda x: ops.depthwise(f"{name}depthwise", x, edge), pointwise)


def unshuffle(x: Array, r: int) -> Array:
    """Space to depth: ``[B, H, W, C]`` -> ``[B, H/r, W/r, r*r*C]``, channels in (row, column, channel) order."""
    b, h, w, c = x.shape
    return x.reshape(b, h // r, r, w // r, r, c).swapaxes(2, 3).reshape(b, h // r, w // r, r * r * c)


def shuffle(x: Array, r: int) -> Array:
    """Depth to space, the inverse of `unshuffle`: ``[B, H, W, r*r*C]`` -> ``[B, H*r, W*r, C]``."""
    b, h, w, c = x.shape
    return x.reshape(b, h, w, r, r, c // (r * r)).swapaxes(2, 3).reshape(b, h * r, w * r, c // (r * r))


def repeat_edge(x: Array, height: int, width: int) -> Array:
    """``[B, H, W, C]`` made ``height`` x ``width`` by repeating its last row and column."""
    for axis, size in ((1, height), (2, width)):
        if (there := x.shape[axis]) < size:
            places = [min(i, there - 1) for i in range(size)]
            x = x[:, places] if axis == 1 else x[:, :, places]
    return x


def analysis(ops: Operations, d: Design, pixels: Array, rate: Array) -> Array:
    """g_a: pixels ``[B, H, W, 3]`` in 0..1 -> main and fine latents ``[B, H/16, W/16, N + M]``.

    H and W are multiples of 16. ``rate``: the vector of the quality, broadcastable to ``[B, H/8, W/8, C]``.
    """
    return analysis_end(ops, d, analysis_start(ops, d, pixels), rate)


def analysis_start(ops: Operations, d: Design, pixels: Array) -> tuple[Array, Array]:
    """What all qualities share of the analysis: features ``[B, H/8, W/8, C]`` and the fine latents."""
    x = unshuffle((pixels - 0.5) * 3, 4)  # [B, H/4, W/4, 48]
    for i in range(d.analysis_quarter_blocks):
        x = block(ops, f"analysis.quarter_blocks.{i}.", x, edge=True)
    fine = ops.pointwise("analysis.to_fine", unshuffle(x, 4))
    x = ops.pointwise("analysis.enter", unshuffle(x, 2))
    for i in range(d.analysis_blocks // 2):
        x = block(ops, f"analysis.blocks.{i}.", x, edge=True)
    return x, fine


def analysis_end(ops: Operations, d: Design, started: tuple[Array, Array], rate: Array) -> Array:
    """The rest of the analysis."""
    x, fine = started
    x = ops.scale(x, rate)
    for i in range(d.analysis_blocks // 2, d.analysis_blocks):
        x = block(ops, f"analysis.blocks.{i}.", x, edge=True)
    x = ops.pointwise("analysis.to_latents", unshuffle(x, 2))
    return ops.concatenate(block(ops, "analysis.last.", x, edge=True), fine)


def hyper_analysis(ops: Operations, y: Array) -> Array:
    """h_a: main latents ``[B, h, w, N]`` -> hyper-latents z ``[B, ceil(h/4), ceil(w/4), Nz]``."""
    y = repeat_edge(y, *(-(-side // 4) * 4 for side in y.shape[1:3]))
    x = ops.activate(ops.pointwise("hyper_analysis.enter", y))  # [B, h, w, P]
    x = block(ops, "hyper_analysis.block.", ops.pointwise("hyper_analysis.down", unshuffle(x, 2)), edge=True)
    return ops.pointwise("hyper_analysis.to_hyper_latents", unshuffle(x, 2))


def hyper_synthesis(ops: Operations, z: Array, rate: Array, height: int, width: int) -> Array:
    """h_s: hyper-latents ``[B, h, w, Nz]`` -> features ``[B, height, width, P]``, cropped from 4h x 4w.

    ``rate``: the vector of the quality, broadcastable to ``[B, 2h, 2w, P]``.
    """
    x = shuffle(ops.pointwise("prior.hyper_enter", z), 2)  # [B, 2h, 2w, P]
    x = ops.scale(block(ops, "prior.hyper_block0_", x, edge=False), rate)
    x = shuffle(ops.pointwise("prior.hyper_up", x), 2)  # [B, 4h, 4w, P]
    return block(ops, "prior.hyper_block1_", x, edge=False)[:, :height, :width]


def context(ops: Operations, step: int, features: Array, latents: Array) -> list[Array]:
    """One context step: for each cell position, means and log-scales of the group that it codes there.

    ``latents``: ``[B, h, w, N]``, zero where not yet known. Returns four arrays ``[B, h_p, w_p, 2 * N/4]``, raw, in the
    latents' own scale.
    """
    name = f"prior.context{step}"
    if step:
        x = ops.pointwise(f"{name}_enter", ops.concatenate(features, latents))
    else:  # zeros need no multiplications
        x = ops.pointwise(f"{name}_enter", features, features.shape[-1])
    x = ops.activate(x)  # [B, h, w, W]
    x = ops.add(x, ops.activate(ops.pointwise(f"{name}_mix", ops.depthwise(f"{name}_depthwise", x, edge=False))))
    return [ops.pointwise(f"{name}_head{GROUP[step][p]}", x[:, i::2, j::2]) for p, (i, j) in enumerate(CELL)]


def fine_context(ops: Operations, features: Array, latents: Array) -> Array:
    """Means and log-scales of the fine latents ``[B, h, w, 2M]``, raw, from features and all main latents."""
    x = ops.activate(ops.pointwise("prior.fine_enter", ops.concatenate(features, latents)))
    return ops.pointwise("prior.fine_head", block(ops, "prior.fine_block_", x, edge=False))


def synthesis(ops: Operations, d: Design, y: Array, rate: Array, shrink: int = 1) -> Array:
    """g_s: latents ``[B, h, w, N + M]`` -> pixels ``[B, 16h, 16w, 3]``, nominally in 0..1, not clamped.

    The main latents alone, ``[B, h, w, N]``, give the pixels that fine ones of zero give, in less time. ``rate``: the
    vector of the quality, broadcastable to ``[B, 2h, 2w, C]``. With ``shrink`` 2, 4 or 8 the pixels are averages of so
    many squared.
    """
    main, fine = y[..., : d.latents], y[..., d.latents :]
    x = shuffle(ops.pointwise("synthesis.from_latents", block(ops, "synthesis.first.", main, edge=True)), 2)
    for i in range(d.synthesis_blocks):  # [B, 2h, 2w, C]
        if i == d.synthesis_blocks // 2:
            x = ops.scale(x, rate)
        x = block(ops, f"synthesis.blocks.{i}.", x, edge=True)
    x = shuffle(ops.pointwise("synthesis.leave", x), 2)  # [B, 4h, 4w, 48]
    if fine.shape[-1]:
        x = ops.add(x, shuffle(ops.pointwise("synthesis.from_fine", fine), 4))
    for i in range(d.synthesis_quarter_blocks):
        x = block(ops, f"synthesis.quarter_blocks.{i}.", x, edge=True)
    return averaged(shuffle(x, 4) / 3 + 0.5, shrink)


def averaged(pixels: Array, shrink: int) -> Array:
    """Means over 1, 2, 4 or 8 pixels squared."""
    while shrink > 1:
        pixels = (pixels[:, ::2, ::2] + pixels[:, ::2, 1::2] + pixels[:, 1::2, ::2] + pixels[:, 1::2, 1::2]) / 4
        shrink //= 2
    return pixels
