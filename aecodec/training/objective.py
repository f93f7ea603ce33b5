"""What training minimises: rate + λ·distortion, the distortion being a mix of three that share one scale of λ."""

from typing import NamedTuple

from pytorch_msssim import ms_ssim as similarity
from torch import Tensor

from ..metrics.ssimulacra2 import error_sum
from ..rate import lagrangian

# λ for 1 - MS-SSIM over λ for 255²·MSE at the same rate, as CompressAI's published models pair them
MS_SSIM_SCALE = 1280.0
MS_SSIM_WINDOW = 7  # pixels, not the usual 11: five scales of a patch of 128 pixels then hold one
MS_SSIM_SMALLEST = 97  # pixels on a side
SSIMULACRA2_SCALE = 5.0  # the same for SSIMULACRA 2's sum of errors
WEIGHT_EXPONENT = -0.35  # of λ: neither end of the range dominates


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


def mse(pixels: Tensor, reconstruction: Tensor) -> Tensor:
    """255²·MSE of ``[B, H, W, 3]`` in 0..1, ``[B]``."""
    return 255**2 * ((reconstruction - pixels) ** 2).mean((1, 2, 3))


def ms_ssim(pixels: Tensor, reconstruction: Tensor) -> Tensor:
    """1 - MS-SSIM (Wang, Simoncelli, Bovik 2003), times what makes λ fit, ``[B]``.

    H and W are at least `MS_SSIM_SMALLEST`.
    """
    x, y = (p.movedim(-1, 1) for p in (pixels, reconstruction))
    score: Tensor = similarity(x, y, data_range=1.0, size_average=False, win_size=MS_SSIM_WINDOW)
    return MS_SSIM_SCALE * (1 - score)


def ssimulacra2(pixels: Tensor, reconstruction: Tensor) -> Tensor:
    """SSIMULACRA 2's sum of errors, before it becomes a score, times what makes λ fit, ``[B]``. H and W at least 8."""
    x, y = (p.movedim(-1, 1) for p in (pixels, reconstruction))
    total: Tensor = error_sum(x, y, least=0.01, tiny=1e-18)
    return SSIMULACRA2_SCALE * total


def distortion(name: str, pixels: Tensor, reconstruction: Tensor) -> Tensor:
    """The mix of an objective, ``[B]``, for pixels ``[B, H, W, 3]`` in 0..1."""
    mix = OBJECTIVES[name]
    parts = ((mix.mse, mse), (mix.ms_ssim, ms_ssim), (mix.ssimulacra2, ssimulacra2))
    return sum(share * part(pixels, reconstruction) for share, part in parts if share)  # type: ignore[return-value]


def objective(name: str, pixels: Tensor, reconstruction: Tensor, bits: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """The loss, and the mean bits per pixel.

    The loss is bpp + λ·distortion of each sample, weighted by a power of λ. ``bits`` and ``t``: ``[B]``.
    """
    bpp = bits / (pixels.shape[1] * pixels.shape[2])
    weight = (lagrangian(t) / 0.5) ** WEIGHT_EXPONENT
    loss = weight * (bpp + lagrangian(t) * distortion(name, pixels, reconstruction))
    return loss.mean(), bpp.detach().mean()
