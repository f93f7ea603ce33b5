"""What training minimises: rate + λ·distortion."""

from collections.abc import Callable

from pytorch_msssim import ms_ssim as similarity
from torch import Tensor

from ..rate import lagrangian

# λ for 1 - MS-SSIM over λ for 255²·MSE at the same rate, as CompressAI's published models pair them
MS_SSIM_SCALE = 1280.0
WEIGHT_EXPONENT = -0.5  # of λ: neither end of the range dominates
MS_SSIM_WINDOW = 7  # pixels, not the usual 11: five scales of a patch of 128 pixels then hold one


def mse(pixels: Tensor, reconstruction: Tensor) -> Tensor:
    """255²·MSE of ``[B, H, W, 3]`` in 0..1, ``[B]``."""
    return 255**2 * ((reconstruction - pixels) ** 2).mean((1, 2, 3))


def ms_ssim(pixels: Tensor, reconstruction: Tensor) -> Tensor:
    """1 - MS-SSIM (Wang, Simoncelli, Bovik 2003), times what makes λ fit, ``[B]``. H and W at least 97."""
    x, y = (p.movedim(-1, 1) for p in (pixels, reconstruction))
    score: Tensor = similarity(x, y, data_range=1.0, size_average=False, win_size=MS_SSIM_WINDOW)
    return MS_SSIM_SCALE * (1 - score)


OBJECTIVES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mse": mse, "ms-ssim": ms_ssim}


def objective(name: str, pixels: Tensor, reconstruction: Tensor, bits: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """The loss, and the mean bits per pixel.

    The loss is bpp + λ·distortion of each sample, weighted by a power of λ.
    ``bits`` and ``t`` (quality / 100): ``[B]``.
    """
    bpp = bits / (pixels.shape[1] * pixels.shape[2])
    weight = (lagrangian(t) / 0.01) ** WEIGHT_EXPONENT
    loss = weight * (bpp + lagrangian(t) * OBJECTIVES[name](pixels, reconstruction))
    return loss.mean(), bpp.detach().mean()
