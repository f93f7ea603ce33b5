"""How far a decoded picture is from the original: metrics on 8-bit RGB, three quick ones and two slow ones."""

import tempfile
from enum import StrEnum
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from aecodec.metrics.ms_ssim import decibels, smallest
from aecodec.metrics.ssimulacra2 import SMALLEST as SSIMULACRA2_SMALLEST
from aecodec.metrics.ssimulacra2 import ssimulacra2

from . import tools

VERSION = 2  # of everything here that has a say in a value: cached ones of another version are not used
MS_SSIM_SMALLEST = smallest()
SLOW_SMALLEST = 8  # below, Butteraugli finds no error in anything, and ColorVideoVDP none that means something
BUTTERAUGLI = "butteraugli_main"

# what each metric is called, and what a plot of it shows
METRICS = {"psnr": "PSNR (dB)", "ms_ssim": "MS-SSIM (dB)", "ssimulacra2": "SSIMULACRA 2"}
# a second an image and more, measured only where that is asked for; no training has seen them
SLOW: dict[str, str] = {"butteraugli": "Butteraugli 3-norm", "cvvdp": "ColorVideoVDP (JOD)"}
LABELS = METRICS | SLOW


class Slow(StrEnum):
    """Their names, as a command takes them."""

    BUTTERAUGLI = "butteraugli"
    CVVDP = "cvvdp"


@cache
def slow() -> tuple[dict[str, str], dict[str, str]]:
    """The slow metrics that are installed, with the versions of what computes them; for the others, why not."""
    present: dict[str, str] = {}
    absent: dict[str, str] = {}
    if tool := tools.version(BUTTERAUGLI):
        present["butteraugli"] = tool
    else:
        absent["butteraugli"] = f"{BUTTERAUGLI} is not installed: Debian has it in libjxl-devtools"
    try:
        present["cvvdp"] = f"cvvdp {version('cvvdp')}, torch {torch.__version__}, standard_fhd"
    except PackageNotFoundError:
        absent["cvvdp"] = "cvvdp is not installed: pip install cvvdp"
    return present, absent


def measure(original: Image.Image, decoded: Image.Image, slow: str = "") -> dict[str, float | None]:
    """The quick metrics of two RGB images, or the slow one that is named.

    None where an image is too small for one, or where there is no error. Raises ValueError for two sizes.
    """
    if original.size != decoded.size:
        raise ValueError(f"decoded to {decoded.width}x{decoded.height} from {original.width}x{original.height}")
    if slow:
        return {slow: {"butteraugli": butteraugli, "cvvdp": cvvdp}[slow](original, decoded)}
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

    None for the same picture. Both sides at least `MS_SSIM_SMALLEST`.
    """
    if _same(original, decoded):
        return None
    return decibels(np.asarray(original), np.asarray(decoded))


def butteraugli(original: Image.Image, decoded: Image.Image) -> float | None:
    """The 3-norm of Butteraugli's map of differences, by libjxl's own tool; less is better.

    None for the same picture, and below 8 pixels a side. Raises OSError where the tool fails.
    """
    if min(original.size) < SLOW_SMALLEST or _same(original, decoded):
        return None
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / name) for name in ("original.png", "decoded.png")]
        for image, path in zip((original, decoded), paths, strict=True):
            image.save(path, compress_level=1)
        return float(tools.run(BUTTERAUGLI, *paths, "--pnorm", "3").split()[-1])


def cvvdp(original: Image.Image, decoded: Image.Image) -> float | None:
    """ColorVideoVDP's just-objectionable differences on an office screen (``standard_fhd``), 10 for the same picture.

    None below 8 pixels a side.
    """
    if min(original.size) < SLOW_SMALLEST:
        return None
    with torch.inference_mode():
        return float(_cvvdp().predict(np.array(decoded), np.array(original), dim_order="HWC")[0])


@cache
def _cvvdp() -> Any:
    import pycvvdp

    return pycvvdp.cvvdp(display_name="standard_fhd", device=torch.device("cpu"))


def rising(metric: str, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Values of a metric on a scale that grows with quality and is not squeezed at its end, as BD-rates need it."""
    if metric == "butteraugli":
        return -np.log(values)
    return -np.log(10.0001 - values) if metric == "cvvdp" else values


def _same(a: Image.Image, b: Image.Image) -> bool:
    return np.array_equal(np.asarray(a), np.asarray(b))
