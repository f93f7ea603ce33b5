"""Analysis, synthesis and hyper-analysis: the float networks between pixels, latents and hyper-latents.

A hierarchy of three stages, at 1/4, 1/8 and 1/16 of the resolution, between pixel-unshuffle and pixel-shuffle ends,
with depthwise 3x3 and 1x1 convolutions only. No stage has fewer dimensions than the pixels under it, so that what high
rates need is not lost on the way. The latents are *main* ones, which the hyperprior and the context model know, and
*fine* ones, which are coded after them and only where the quality is high enough. One vector per quality scales the
features at 1/8, so that one model serves every rate.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import Block, activate, shuffle, unshuffle


@dataclass(frozen=True)
class Design:
    """Widths and depths of the networks; they are stored with the weights."""

    quarter: int = 64  # channels at 1/4 resolution
    eighth: int = 192  # at 1/8
    latents: int = 320  # N: main latents, at 1/16
    fine: int = 448  # M: fine latents, at 1/16
    hyper: int = 128  # P: channels of the hyper-decoder
    hyper_latents: int = 64  # Nz: channels of z at 1/64
    context: int = 160  # W: width of a context step
    fine_context: int = 128  # width of the fine latents' prior
    analysis_quarter_blocks: int = 3
    analysis_eighth_blocks: int = 4
    synthesis_eighth_blocks: int = 2
    synthesis_quarter_blocks: int = 2


def widths(d: Design) -> dict[str, tuple[int, int]]:
    """The shapes of layers that show whether weights are of a design."""
    found = {
        "analysis.to_eighth": (d.eighth, 4 * d.quarter),
        "analysis.to_latents": (d.latents + d.fine, 4 * d.eighth),
        "synthesis.from_latents": (4 * d.eighth, d.latents + d.fine),
        "prior.fine_enter": (d.fine_context, d.hyper + d.latents),
    }
    for part, eighth, quarter in (
        ("analysis", d.analysis_eighth_blocks, d.analysis_quarter_blocks),
        ("synthesis", d.synthesis_eighth_blocks, d.synthesis_quarter_blocks),
    ):
        found[f"{part}.eighth_blocks.{eighth - 1}.project"] = (d.eighth, d.eighth)
        found[f"{part}.quarter_blocks.{quarter - 1}.project"] = (d.quarter, 2 * d.quarter)
    return found


def _halo(eighth_blocks: int, quarter_blocks: int) -> int:
    """Latents on each side that a window needs: a block reaches one position of its own resolution."""
    return 1 + -(-(2 * eighth_blocks + quarter_blocks) // 4)


def _quarter_blocks(d: Design, n: int) -> nn.ModuleList:
    return nn.ModuleList(Block(d.quarter, 2 * d.quarter, edge=True) for _ in range(n))


def _eighth_blocks(d: Design, n: int) -> nn.ModuleList:
    return nn.ModuleList(Block(d.eighth, d.eighth, edge=True) for _ in range(n))


class Analysis(nn.Module):
    """g_a: pixels ``[B, H, W, 3]`` in 0..1 -> main and fine latents ``[B, H/16, W/16, N + M]``.

    H and W are multiples of 16.
    """

    def __init__(self, d: Design):
        super().__init__()
        self.latents = d.latents
        self.enter = nn.Linear(48, d.quarter)
        self.quarter_blocks = _quarter_blocks(d, d.analysis_quarter_blocks)
        self.to_eighth = nn.Linear(4 * d.quarter, d.eighth)
        self.eighth_blocks = _eighth_blocks(d, d.analysis_eighth_blocks)
        self.to_latents = nn.Linear(4 * d.eighth, d.latents + d.fine)
        self.last = Block(d.latents, d.latents, edge=True)
        self.halo = _halo(d.analysis_eighth_blocks, d.analysis_quarter_blocks)

    def forward(self, pixels: Tensor, rate: Tensor) -> Tensor:
        """``rate``: the vector of the quality, broadcastable to ``[B, H/8, W/8, eighth]``."""
        x = self.enter(unshuffle((pixels - 0.5) * 3, 4))  # [B, H/4, W/4, quarter]
        for block in self.quarter_blocks:
            x = block(x)
        x = self.to_eighth(unshuffle(x, 2)) * rate  # [B, H/8, W/8, eighth]
        for block in self.eighth_blocks:
            x = block(x)
        y = self.to_latents(unshuffle(x, 2))
        return torch.cat((self.last(y[..., : self.latents]), y[..., self.latents :]), -1)


class HyperAnalysis(nn.Module):
    """h_a: main latents ``[B, h, w, N]`` -> hyper-latents z ``[B, ceil(h/4), ceil(w/4), Nz]``."""

    def __init__(self, d: Design):
        super().__init__()
        self.enter = nn.Linear(d.latents, d.hyper)
        self.down = nn.Linear(4 * d.hyper, d.hyper)
        self.block = Block(d.hyper, 2 * d.hyper, edge=True)
        self.to_hyper_latents = nn.Linear(4 * d.hyper, d.hyper_latents)

    def forward(self, y: Tensor) -> Tensor:
        # the last row and column are repeated up to a whole number of hyper-latents
        for dim in (1, 2):
            y = y.index_select(
                dim, torch.arange(-(-y.shape[dim] // 4) * 4, device=y.device).clamp(max=y.shape[dim] - 1)
            )
        x = activate(self.enter(y))  # [B, h, w, P]
        x = self.block(self.down(unshuffle(x, 2)))  # [B, h/2, w/2, P]
        z: Tensor = self.to_hyper_latents(unshuffle(x, 2))
        return z


class Synthesis(nn.Module):
    """g_s: latents ``[B, h, w, N + M]`` -> pixels ``[B, 16h, 16w, 3]``, nominally in 0..1, not clamped.

    The main latents alone, ``[B, h, w, N]``, give the pixels that fine ones of zero give, in less time. With ``shrink``
    2, 4 or 8 the pixels are averages of so many squared: the last layer is linear, so that its weights can be averaged
    in place of its results.
    """

    def __init__(self, d: Design):
        super().__init__()
        self.latents = d.latents
        self.first = Block(d.latents, d.latents, edge=True)
        self.from_latents = nn.Linear(d.latents + d.fine, 4 * d.eighth)
        self.eighth_blocks = _eighth_blocks(d, d.synthesis_eighth_blocks)
        self.to_quarter = nn.Linear(d.eighth, 4 * d.quarter)
        self.quarter_blocks = _quarter_blocks(d, d.synthesis_quarter_blocks)
        self.leave = nn.Linear(d.quarter, 48)
        self.halo = _halo(d.synthesis_eighth_blocks, d.synthesis_quarter_blocks)

    def forward(self, y: Tensor, rate: Tensor, shrink: int = 1) -> Tensor:
        """``rate``: the vector of the quality, broadcastable to ``[B, 2h, 2w, eighth]``."""
        n = self.latents
        x = F.linear(self.first(y[..., :n]), self.from_latents.weight[:, :n], self.from_latents.bias)
        if y.shape[-1] > n:
            x = x + y[..., n:] @ self.from_latents.weight[:, n:].T
        x = shuffle(x, 2) * rate  # [B, 2h, 2w, eighth]
        for block in self.eighth_blocks:
            x = block(x)
        x = shuffle(self.to_quarter(x), 2)  # [B, 4h, 4w, quarter]
        for block in self.quarter_blocks:
            x = block(x)
        if shrink == 1:
            return shuffle(self.leave(x), 4) / 3 + 0.5
        # halved by its weights, the rest by averages: a product of fewer columns would take longer
        weight, bias = (_halved(t) for t in (self.leave.weight, self.leave.bias))
        pixels = shuffle(F.linear(x, weight, bias), 2) / 3 + 0.5
        while shrink > 2:
            pixels = (pixels[:, ::2, ::2] + pixels[:, ::2, 1::2] + pixels[:, 1::2, ::2] + pixels[:, 1::2, 1::2]) / 4
            shrink //= 2
        return pixels


def _halved(x: Tensor) -> Tensor:
    """``[4 * 4 * 3, ...]``, a row for each sample of 4x4 pixels -> ``[2 * 2 * 3, ...]``."""
    return x.reshape(2, 2, 2, 2, 3, *x.shape[1:]).mean((1, 3)).flatten(0, 2)


@torch.no_grad()
def initialise_with_klt(analysis: Analysis, synthesis: Synthesis, patches: Tensor, scale: float) -> Tensor:
    """Start both transforms as three Karhunen-Loeve transforms in a row, one for each stage, and their inverses.

    The residual blocks start as the identity, so that the whole is an orthonormal 16x16 block transform before the
    first step and training spends no time on finding one. ``patches``: ``[n, 16, 16, 3]`` in 0..1; ``scale``
    multiplies the latents. Returns the standard deviation of each latent, ``[N + M]``.
    """

    def principal(x: Tensor, n: int) -> Tensor:
        x = x.flatten(0, -2).double()
        vectors: Tensor = torch.linalg.eigh(x.T @ x / len(x))[1].flip(1)
        return vectors[:, :n].T.float()  # [min(n, features), features], orthonormal rows

    def set_pair(forth: nn.Linear, back: nn.Linear, rows: Tensor) -> None:
        for layer, weight in ((forth, rows), (back, rows.T)):
            layer.weight.zero_()[: len(weight), : len(weight.T)].copy_(weight)
            layer.bias.zero_()

    first = (analysis.enter, synthesis.leave)
    second = (analysis.to_eighth, synthesis.to_quarter)
    third = (analysis.to_latents, synthesis.from_latents)
    # channels at 1/4 that the transform does not need start with weights on their way in and none on their way out
    quarter = len(first[0].weight)
    spare_in, spare_out = first[0].weight[48:].clone(), second[1].weight.clone().reshape(4, quarter, -1)[:, 48:]
    x = unshuffle((patches - 0.5) * 3, 4)  # [n, 4, 4, 48]
    set_pair(*first, principal(x, quarter))
    x = unshuffle(first[0](x), 2)  # [n, 2, 2, 4 * quarter]
    set_pair(*second, principal(x, len(second[0].weight)))
    x = unshuffle(second[0](x), 2)  # [n, 1, 1, 4 * eighth]
    rows = principal(x, len(third[0].weight))
    n = analysis.latents
    # group g of the context model holds components g, g+4, g+8...: every group gets its share of strong ones
    rows[:n] = rows[:n].reshape(-1, 4, rows.shape[1]).transpose(0, 1).reshape(n, -1)
    set_pair(*third, rows)
    first[0].weight[48:] = spare_in
    second[1].weight.view(4, quarter, -1)[:, 48:] = spare_out
    third[0].weight.mul_(scale)
    third[1].weight.div_(scale)
    deviations: Tensor = third[0](x).flatten(0, 2).std(0)
    return deviations
