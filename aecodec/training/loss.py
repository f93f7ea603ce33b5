"""The loss: the logarithm of rate + λ·distortion, over all qualities at once."""

import torch
from torch import Tensor

from ..model.rate import lagrangian
from ..objective import OBJECTIVES, distortion

# bits per pixel that are added to every sample's cost: flat patches cost next to nothing, and would decide everything
FLOOR = 0.05


def loss(objective: str, pixels: Tensor, reconstruction: Tensor, bits: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """The mean loss, and the mean bits per pixel.

    A sample counts by what its cost bpp + λ·distortion changes in percent, as it does in a mean of BD-rates: neither
    high qualities nor rich pictures outweigh the others. ``bits`` and ``t``: ``[B]``.
    """
    bpp = bits / (pixels.shape[1] * pixels.shape[2])
    cost = bpp + lagrangian(t) * distortion(OBJECTIVES[objective], pixels, reconstruction)
    return torch.log(cost + FLOOR).mean(), bpp.detach().mean()
