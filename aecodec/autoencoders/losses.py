"""Losses between a reconstruction and the data, both ``[n, features]``: one number, smaller is better."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..metrics import ms_ssim as ms_ssim_module
from ..metrics import ssimulacra2

Loss = Callable[[Tensor, Tensor], Tensor]
NAMES = ("mse", "bce", "wavelet", "ms_ssim", "ssimulacra2")
SMALLEST_SSIMULACRA2 = 64  # pixels on a side
LEAST = 1e-6  # from 0 and 1, where the logarithm ends


def mse(y: Tensor, x: Tensor) -> Tensor:
    """The mean squared error."""
    return F.mse_loss(y, x)


def bce(y: Tensor, x: Tensor) -> Tensor:
    """The mean binary cross-entropy in nats, of data in 0..1."""
    return F.binary_cross_entropy(y.clamp(LEAST, 1 - LEAST), x)


def kl_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) ‖ N(0, 1)) in nats, the mean over the samples (Kingma and Welling 2014)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()


def kl_activation(code: Tensor, target: float) -> Tensor:
    """KL(target ‖ mean activation) of units in 0..1, their mean (Ng 2011, sparse autoencoder)."""
    mean = code.mean(0).clamp(LEAST, 1 - LEAST)
    return (target * (target / mean).log() + (1 - target) * ((1 - target) / (1 - mean)).log()).mean()


def haar(x: Tensor) -> list[Tensor]:
    """Orthonormal Haar wavelets (Haar 1910) of pictures ``[n, C, H, W]``: details from fine to coarse, then the rest.

    An odd last row or column is repeated.
    """
    lows = x.new_tensor([[1, 1], [1, -1]]) / math.sqrt(2)
    kernels = torch.einsum("ai,bj->abij", lows, lows).reshape(4, 1, 2, 2)
    bands = []
    while min(x.shape[-2:]) > 1:
        x = F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2), mode="replicate")
        n, channels, height, width = x.shape
        y = F.conv2d(x.reshape(n * channels, 1, height, width), kernels, stride=2)
        y = y.reshape(n, channels, 4, height // 2, width // 2)
        bands.append(y[:, :, 1:])
        x = y[:, :, 0]
    return [*bands, x]


def of_pictures(name: str, shape: tuple[int, int, int]) -> Loss:
    """The loss of a name, for pictures of this shape (channels, height, width). Raises ValueError where none fits."""
    channels, height, width = shape
    least = min(height, width)
    if name == "mse":
        return mse
    if name == "bce":
        return bce
    if name == "wavelet":  # the mean absolute coefficient, which edges dominate less than under squares
        return lambda y, x: torch.cat([b.flatten() for b in haar((y - x).reshape(-1, *shape))]).abs().mean()
    if name == "ms_ssim":
        window = next((w for w in (11, 9, 7, 5, 3) if least >= ms_ssim_module.smallest(w)), 0)
        if not window:
            raise ValueError(f"ms_ssim needs sides of {ms_ssim_module.smallest(3)} pixels, not {height}x{width}")

        def loss(y: Tensor, x: Tensor) -> Tensor:
            similarity: Tensor = ms_ssim_module.ms_ssim(y.reshape(-1, *shape), x.reshape(-1, *shape), window)
            return 1 - similarity.mean()

        return loss
    if name == "ssimulacra2":
        if channels != 3 or least < SMALLEST_SSIMULACRA2:
            raise ValueError(f"ssimulacra2 needs colour pictures from 64x64 pixels, not {height}x{width}x{channels}")
        return lambda y, x: _error_sum(x.reshape(-1, *shape), y.reshape(-1, *shape))
    raise ValueError(f"loss has to be a function or one of {', '.join(NAMES)}, not {name!r}")


def _error_sum(x: Tensor, y: Tensor) -> Tensor:
    total: Tensor = ssimulacra2.error_sum(x, y)
    return total.mean()


def perceptual(network: nn.Module, shape: tuple[int, int, int]) -> Loss:
    """The squared error of features that a network of yours, kept as it is, sees in pictures ``[n, C, H, W]``.

    Source: Johnson, Alahi, Fei-Fei 2016.
    """
    network.requires_grad_(False).eval()
    return lambda y, x: F.mse_loss(network(y.reshape(-1, *shape)), network(x.reshape(-1, *shape)))
