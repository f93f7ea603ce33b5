"""What a model is trained for and the encoder's search minimises: rate + λ·distortion, the distortion being a mix of
three that share one scale of λ.
"""

from typing import TYPE_CHECKING, NamedTuple

from .metrics.ms_ssim import ms_ssim, smallest
from .metrics.ssimulacra2 import error_sum

if TYPE_CHECKING:
    from torch import Tensor

# λ for 1 - MS-SSIM over λ for 255²·MSE at the same rate, as CompressAI's published models pair them
MS_SSIM_SCALE = 1280.0
MS_SSIM_WINDOW = 7  # pixels, not the usual 11: five scales of a patch of 128 pixels then hold one
SMALLEST = smallest(MS_SSIM_WINDOW)  # pixels on a side, below which pictures are continued by their edge
SSIMULACRA2_SCALE = 5.0  # the same for SSIMULACRA 2's sum of errors


class Mix(NamedTuple):
    """Shares of the distortions."""

    mse: float
    ms_ssim: float
    ssimulacra2: float


OBJECTIVES = {
    "eye": Mix(0.15, 0.25, 0.6),
    "psnr": Mix(1, 0, 0),
    "ms-ssim": Mix(0, 1, 0),
}


def distortion(mix: Mix, pixels: "Tensor", reconstruction: "Tensor") -> "Tensor":
    """The distortion of ``[B, H, W, 3]`` in 0..1, ``[B]``: 255²·MSE, or what is worth as much."""
    total = mix.mse * 255**2 * ((reconstruction - pixels) ** 2).mean((1, 2, 3))
    if mix.ms_ssim or mix.ssimulacra2:
        total = total + perceptual(mix, pixels, reconstruction)
    return total


def perceptual(mix: Mix, pixels: "Tensor", reconstruction: "Tensor") -> "Tensor":
    """The part of `distortion` that is not the mean of something over the pixels."""
    x, y = (_continued(p.movedim(-1, 1)) for p in (pixels, reconstruction))
    total = x.new_zeros(len(x))
    if mix.ms_ssim:
        total = total + mix.ms_ssim * MS_SSIM_SCALE * (1 - ms_ssim(x, y, MS_SSIM_WINDOW))
    if mix.ssimulacra2:
        total = total + mix.ssimulacra2 * SSIMULACRA2_SCALE * error_sum(x, y, least=0.01, tiny=1e-18)
    return total


def _continued(x: "Tensor") -> "Tensor":
    from torch.nn import functional as F  # a model names its objective without torch

    down, right = (max(0, SMALLEST - side) for side in x.shape[-2:])
    return F.pad(x, (0, right, 0, down), mode="replicate") if down or right else x
