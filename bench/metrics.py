"""How far a decoded picture is from the original: three metrics on 8-bit RGB."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from aecodec.metrics.ssimulacra2 import SMALLEST as SSIMULACRA2_SMALLEST
from aecodec.metrics.ssimulacra2 import ssimulacra2

VERSION = 1  # of everything here that has a say in a value: cached ones of another version are not used
FLOAT32_STEP = 2.0**-24  # the smallest distance from 1 that the library can tell
MS_SSIM_SMALLEST = 161  # pixels on a side: five scales of windows of 11

# what each metric is called, and what a plot of it shows
METRICS = {"psnr": "PSNR (dB)", "ms_ssim": "MS-SSIM (dB)", "ssimulacra2": "SSIMULACRA 2"}


def measure(original: Image.Image, decoded: Image.Image) -> dict[str, float | None]:
    """All metrics of two RGB images. None where an image is too small for one, or where there is no error."""
    if original.size != decoded.size:
        raise ValueError(f"decoded to {decoded.width}x{decoded.height} from {original.width}x{original.height}")
    side = min(original.size)
    return {
        "psnr": psnr(original, decoded),
        "ms_ssim": ms_ssim(original, decoded) if side >= MS_SSIM_SMALLEST else None,
        "ssimulacra2": ssimulacra2(np.asarray(original), np.asarray(decoded), as_reference=True)
        if side >= SSIMULACRA2_SMALLEST
        else None,
    }


def psnr(original: Image.Image, decoded: Image.Image) -> float | None:
    """Decibels over all samples of R, G and B together; None for the same picture."""
    from skimage.metrics import peak_signal_noise_ratio

    if _same(original, decoded):
        return None
    return float(peak_signal_noise_ratio(np.asarray(original), np.asarray(decoded), data_range=255))


def ms_ssim(original: Image.Image, decoded: Image.Image) -> float | None:
    """Multi-scale SSIM of R, G and B (Wang, Simoncelli and Bovik 2003) in decibels, -10·log10(1 - MS-SSIM).

    None for the same picture. Raises AssertionError below 161 pixels a side.
    """
    from pytorch_msssim import ms_ssim as similarity

    if _same(original, decoded):
        return None
    with torch.inference_mode():
        distance = 1 - float(similarity(_planes(original), _planes(decoded), data_range=255))
    return float(-10 * np.log10(max(distance, FLOAT32_STEP)))


def _same(a: Image.Image, b: Image.Image) -> bool:
    return np.array_equal(np.asarray(a), np.asarray(b))


def _planes(image: Image.Image) -> Tensor:
    """``[1, 3, H, W]`` in 0..255."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
