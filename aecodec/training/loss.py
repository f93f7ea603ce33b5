"""The loss: rate + λ·distortion, over all qualities at once."""

from torch import Tensor

from ..objective import OBJECTIVES, distortion
from ..rate import lagrangian

WEIGHT_EXPONENT = -0.35  # of λ: neither end of the range dominates


def loss(objective: str, pixels: Tensor, reconstruction: Tensor, bits: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """The mean loss, and the mean bits per pixel.

    The loss is bpp + λ·distortion of each sample, weighted by a power of λ. ``bits`` and ``t``: ``[B]``.
    """
    bpp = bits / (pixels.shape[1] * pixels.shape[2])
    weight = (lagrangian(t) / 0.5) ** WEIGHT_EXPONENT
    each = weight * (bpp + lagrangian(t) * distortion(OBJECTIVES[objective], pixels, reconstruction))
    return each.mean(), bpp.detach().mean()
