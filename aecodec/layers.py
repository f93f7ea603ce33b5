"""The few layers that every network here is made of, on float tensors.

Activations are ``[B, H, W, C]`` throughout: a 1x1 convolution is then one matrix product.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PIECE = 2048  # positions that a block transforms at once on a CPU
LEAK = 1 / 8  # exact in fixed point, which the prior needs


def activate(x: Tensor) -> Tensor:
    """Leaky ReLU with slope 1/8."""
    return F.leaky_relu(x, LEAK)


def unshuffle(x: Tensor, r: int) -> Tensor:
    """Space to depth: ``[B, H, W, C]`` -> ``[B, H/r, W/r, r*r*C]``, channels in (row, column, channel) order."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // r, r, w // r, r, c).permute(0, 1, 3, 2, 4, 5)  # [B, H/r, W/r, r, r, C]
    return x.reshape(b, h // r, w // r, r * r * c)


def shuffle(x: Tensor, r: int) -> Tensor:
    """Depth to space, the inverse of `unshuffle`: ``[B, H, W, r*r*C]`` -> ``[B, H*r, W*r, C]``."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, r, r, c // (r * r)).permute(0, 1, 3, 2, 4, 5)  # [B, H, r, W, r, C]
    return x.reshape(b, h * r, w * r, c // (r * r))


def depthwise(x: Tensor, weight: Tensor, bias: Tensor, edge: bool = False) -> Tensor:
    """Depthwise 3x3 convolution. ``weight``: ``[C, 3, 3]``. Around x there are zeros or, with ``edge``, its edge again:
    zeros would make a flat picture look as if it ended at every border.
    """
    # [B, H, W, C] seen as [B, C, H, W] is torch's channels_last: no copy either way
    x = x.permute(0, 3, 1, 2)
    if edge:
        x = F.pad(x, (1, 1, 1, 1), mode="replicate")
    x = F.conv2d(x, weight[:, None], bias, padding=0 if edge else 1, groups=len(weight))
    return x.permute(0, 2, 3, 1)


class Depthwise(nn.Module):
    """`depthwise` with weights to learn; starts near the identity."""

    def __init__(self, channels: int, edge: bool):
        super().__init__()
        weight = 0.3 * (2 * torch.rand(channels, 3, 3) - 1) / 3
        weight[:, 1, 1] += 1
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(channels))
        self.edge = edge

    def forward(self, x: Tensor) -> Tensor:
        return depthwise(x, self.weight, self.bias, self.edge)


class Block(nn.Module):
    """``x + project(activate(expand(depthwise(x))))``; starts as the identity.

    ``reduced``: a trainer may have the branch, not the sum, computed in bfloat16.
    """

    def __init__(self, channels: int, hidden: int, edge: bool = False):
        super().__init__()
        self.depthwise = Depthwise(channels, edge)
        self.expand = nn.Linear(channels, hidden)
        self.project = nn.Linear(hidden, channels)
        self.reduced = False
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() or x.device.type != "cpu":
            with torch.autocast(x.device.type, torch.bfloat16, enabled=self.reduced):
                branch: Tensor = self.project(activate(self.expand(self.depthwise(x))))
            return x + branch
        # piece by piece, so that what is hidden stays in the cache: it is the largest thing here
        y = self.depthwise(x)
        result = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        pieces = (torch.split(t.flatten(0, 2), PIECE) for t in (x, y, result))
        for before, mixed, after in zip(*pieces, strict=True):
            hidden = F.leaky_relu(self.expand(mixed), LEAK, inplace=True)
            torch.add(before, self.project(hidden), out=after)
        return result
