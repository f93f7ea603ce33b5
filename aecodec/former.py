"""The networks of model 1, which is what is shipped until model 2 has been trained: then this goes.

Nearly all work is done at 1/8 resolution; there are no fine latents, and zeros are around every picture.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from .layers import Block, activate, shuffle, unshuffle


@dataclass(frozen=True)
class Design:
    """Widths and depths of the networks; they are stored with the weights."""

    features: int = 128  # C: channels at 1/8 resolution
    latents: int = 320  # N: channels of y at 1/16
    fine: ClassVar[int] = 0
    hyper: int = 128  # P: channels of the hyper-decoder
    hyper_latents: int = 64  # Nz: channels of z at 1/64
    context: int = 160  # W: width of a context step
    analysis_blocks: int = 10
    synthesis_blocks: int = 5


LAMBDA_MIN, LAMBDA_MAX = 0.0005, 0.7  # at quality 0 and 100


def widths(d: Design) -> dict[str, tuple[int, int]]:
    """The shapes of layers that show whether weights are of a design."""
    found = {"analysis.enter": (d.features, 192)}
    for part, blocks in (("analysis", d.analysis_blocks), ("synthesis", d.synthesis_blocks)):
        found[f"{part}.blocks.{blocks - 1}.project"] = (d.features, 2 * d.features)
    return found


def _halo(blocks: int) -> int:
    """Latents on each side that a window needs: each block at 1/8 reaches half a latent, the one at 1/16 a whole."""
    return 1 + -(-blocks // 2)


class Analysis(nn.Module):
    """g_a: pixels ``[B, H, W, 3]`` in 0..1, H and W multiples of 16 -> latents y ``[B, H/16, W/16, N]``."""

    def __init__(self, d: Design):
        super().__init__()
        self.enter = nn.Linear(192, d.features)
        self.blocks = nn.ModuleList(Block(d.features, 2 * d.features) for _ in range(d.analysis_blocks))
        self.to_latents = nn.Linear(4 * d.features, d.latents)
        self.last = Block(d.latents, d.latents)
        self.halo = _halo(d.analysis_blocks)

    def forward(self, pixels: Tensor, rate: Tensor) -> Tensor:
        """``rate``: the vector of the quality, broadcastable to ``[B, H/8, W/8, C]``."""
        x = self.enter(unshuffle((pixels - 0.5) * 3, 8))  # [B, H/8, W/8, C]
        for i, block in enumerate(self.blocks):
            if i == len(self.blocks) // 2:
                x = x * rate
            x = block(x)
        y: Tensor = self.last(self.to_latents(unshuffle(x, 2)))
        return y


class HyperAnalysis(nn.Module):
    """h_a: latents ``[B, h, w, N]`` -> hyper-latents z ``[B, ceil(h/4), ceil(w/4), Nz]``."""

    def __init__(self, d: Design):
        super().__init__()
        self.enter = nn.Linear(d.latents, d.hyper)
        self.down = nn.Linear(4 * d.hyper, d.hyper)
        self.block = Block(d.hyper, 2 * d.hyper)
        self.to_hyper_latents = nn.Linear(4 * d.hyper, d.hyper_latents)

    def forward(self, y: Tensor) -> Tensor:
        y = F.pad(y, (0, 0, 0, -y.shape[2] % 4, 0, -y.shape[1] % 4))
        x = activate(self.enter(y))  # [B, h, w, P]
        x = self.block(self.down(unshuffle(x, 2)))  # [B, h/2, w/2, P]
        z: Tensor = self.to_hyper_latents(unshuffle(x, 2))
        return z


class Synthesis(nn.Module):
    """g_s: latents ``[B, h, w, N]`` -> pixels ``[B, 16h, 16w, 3]``, nominally in 0..1, not clamped.

    With ``shrink`` 2, 4 or 8 the pixels are averages of so many squared: the last layer is linear, so that its weights
    can be averaged in place of its results.
    """

    def __init__(self, d: Design):
        super().__init__()
        self.first = Block(d.latents, d.latents)
        self.from_latents = nn.Linear(d.latents, 4 * d.features)
        self.blocks = nn.ModuleList(Block(d.features, 2 * d.features) for _ in range(d.synthesis_blocks))
        self.leave = nn.Linear(d.features, 192)
        self.halo = _halo(d.synthesis_blocks)

    def forward(self, y: Tensor, rate: Tensor, shrink: int = 1) -> Tensor:
        """``rate``: the vector of the quality, broadcastable to ``[B, 2h, 2w, C]``."""
        x = shuffle(self.from_latents(self.first(y)), 2)  # [B, 2h, 2w, C]
        for i, block in enumerate(self.blocks):
            if i == len(self.blocks) // 2:
                x = x * rate
            x = block(x)
        if shrink == 1:
            return shuffle(self.leave(x), 8).div_(3).add_(0.5)
        # halved by its weights, the rest by averages: a product of fewer columns would take longer
        weight, bias = (_halved(t) for t in (self.leave.weight, self.leave.bias))
        pixels = shuffle(F.linear(x, weight, bias), 4) / 3 + 0.5
        while shrink > 2:
            pixels = (pixels[:, ::2, ::2] + pixels[:, ::2, 1::2] + pixels[:, 1::2, ::2] + pixels[:, 1::2, 1::2]) / 4
            shrink //= 2
        return pixels


def _halved(x: Tensor) -> Tensor:
    """``[8 * 8 * 3, ...]``, a row for each sample of 8x8 pixels -> ``[4 * 4 * 3, ...]``."""
    return x.reshape(4, 2, 4, 2, 3, *x.shape[1:]).mean((1, 3)).flatten(0, 2)
