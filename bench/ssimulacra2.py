"""SSIMULACRA 2.1, the perceptual metric of the JPEG XL project (Sneyers 2022), in double precision.

The packages that pip installs differ from the reference by up to three points (their blur and the edges of small
scales), so it is written out here. The reference, libjxl's tool ``ssimulacra2``, filters recursively in single
precision, and its scores carry that rounding: 0.01 at a score of 60, up to 0.11 at 85.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import correlate1d

Planes = npt.NDArray[np.float64]  # [3, H, W]

SCALES = 6
SMALLEST = 8  # pixels on a side, below which a scale has no next one
STABILITY = 0.0009  # C2 of SSIM
SIGMA = 1.5

OPSIN = np.array(
    [
        [0.3, 0.622, 0.078],
        [0.23, 0.692, 0.078],
        [0.24342268924547819, 0.20476744424496821, 0.5518098665095536],
    ]
)
BIAS = 0.0037930732552754493

# fmt: off
# rows: X, Y, B and within each the six scales; columns: mean of SSIM error, ringing, blur; 4-norm of the same
WEIGHTS = np.array(
    [
        (0, 0.0007376606707406586, 0, 0, 0.0007793481682867309, 0),
        (0, 0.0004371155730107379, 0, 1.1041726426657346, 0.00066284834129271, 0.00015231632783718752),
        (0, 0.0016406437456599754, 0, 1.8422455520539298, 11.441172603757666, 0),
        (0.0007989109436015163, 0.000176816438078653, 0, 1.8787594979546387, 10.94906990605142, 0),
        (0.0007289346991508072, 0.9677937080626833, 0,
         0.00014003424285435884, 0.9981766977854967, 0.00031949755934435053),
        (0.0004550992113792063, 0, 0, 0.0013648766163243398, 0, 0),
        (0, 0, 0, 7.466890328078848, 0, 17.445833984131262),
        (0.0006235601634041466, 0, 0, 6.683678146179332, 0.00037724407979611296, 1.027889937768264),
        (225.20515300849274, 0, 0, 19.213238186143016, 0.0011401524586618361, 0.001237755635509985),
        (176.39317598450694, 0, 0, 24.43300999870476, 0.28520802612117757, 0.0004485436923833408),
        (0, 0, 0, 34.77906344483772, 44.835625328877896, 0),
        (0, 0, 0, 0, 0, 0),
        (0, 0.0008680556573291698, 0, 0, 0, 0),
        (0, 0.0005313191874358747, 0, 0.00016533814161379112, 0, 0),
        (0, 0, 0, 0.0004179171803251336, 0.0017290828234722833, 0),
        (0.0020827005846636437, 0, 0, 8.826982764996862, 23.19243343998926, 0),
        (95.1080498811086, 0.9863978034400682, 0.9834382792465353,
         0.0012286405048278493, 171.2667255897307, 0.9807858872435379),
        (0, 0, 0, 0.0005130064588990679, 0, 0.00010854057858411537),
    ]
).ravel()
# fmt: on


def ssimulacra2(original: Image.Image, distorted: Image.Image) -> float:
    """The score of an 8-bit RGB image against its original: 100 for the same image, 90 visually lossless, 70 high,
    50 medium, 30 low quality, negative for very bad. Sides from 8 pixels.
    """
    a, b = _linear(original), _linear(distorted)
    norms = []  # of each scale: [3, 2, 3], channel by norm by map
    for scale in range(SCALES):
        if min(a.shape[1:]) < SMALLEST:
            break
        if scale:
            a, b = _half(a), _half(b)
        norms.append([_norms(_error_maps(x, y)) for x, y in zip(_positive_xyb(a), _positive_xyb(b), strict=True)])
    terms = np.swapaxes(norms, 0, 1).ravel()  # by channel, then scale
    # the reference takes the weights in their order, also for an image too small for all scales
    total = 0.9562382616834844 * float(WEIGHTS[: len(terms)] @ terms)
    total = 2.326765642916932 * total - 0.020884521182843837 * total**2 + 6.248496625763138e-05 * total**3
    return float(100 - 10 * max(total, 0.0) ** 0.6276336467831387)


def _norms(maps: Sequence[Planes]) -> list[list[float]]:
    """The mean and the 4-norm of each map."""
    return [[float(m.mean()) for m in maps], [float((m**4).mean() ** 0.25) for m in maps]]


def _linear(image: Image.Image) -> Planes:
    s = np.arange(256) / 255
    table = np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4)
    linear: Planes = table[np.asarray(image)].transpose(2, 0, 1)
    return linear


def _half(x: Planes) -> Planes:
    """Means over 2x2, the last row and column repeated where there is an odd number."""
    x = np.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2)), "edge")
    half: Planes = (x[:, ::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, ::2] + x[:, 1::2, 1::2]) / 4
    return half


def _positive_xyb(linear: Planes) -> Planes:
    """The XYB colour space of JPEG XL, shifted and stretched so that SSIM can be used on it."""
    mixed = np.cbrt(np.tensordot(OPSIN, linear, 1) + BIAS) - np.cbrt(BIAS)
    x, y, b = (mixed[0] - mixed[1]) / 2, (mixed[0] + mixed[1]) / 2, mixed[2]
    return np.stack((14 * x + 0.42, y + 0.01, b - y + 0.55))


def _error_maps(x: Planes, y: Planes) -> tuple[Planes, Planes, Planes]:
    """SSIM error, ringing and blur of each pixel of one channel."""
    mean_x, mean_y = _blur(x), _blur(y)
    covariance = _blur(x * y) - mean_x * mean_y
    variances = _blur(x * x) - mean_x**2 + _blur(y * y) - mean_y**2
    similarity = (1 - (mean_x - mean_y) ** 2) * (2 * covariance + STABILITY) / (variances + STABILITY)
    edges = (1 + np.abs(y - mean_y)) / (1 + np.abs(x - mean_x)) - 1
    return np.maximum(1 - similarity, 0), np.maximum(edges, 0), np.maximum(-edges, 0)


def _blur(x: Planes) -> Planes:
    for axis in (0, 1):
        x = correlate1d(x, _kernel(), axis, mode="constant")
    return x


@lru_cache
def _kernel() -> Planes:
    """A Gaussian as a sum of three truncated cosines (Charalampidis 2016), as the reference has it."""
    radius = round(3.2795 * SIGMA + 0.2546)
    omega = np.pi / (2 * radius) * np.array([1, 3, 5])
    p = np.array([1, -1, 1]) / np.tan(omega / 2)
    r = np.array([1, -1, 1]) * p**2 / np.sin(omega)
    rho = np.exp(-(SIGMA**2) / 2 * omega**2) / radius

    def determinant(i: int, j: int) -> float:
        return float(p[i] * r[j] - r[i] * p[j])

    zeta = np.array([determinant(1, 2), determinant(2, 0), determinant(0, 1)]) / determinant(0, 1)
    beta = np.linalg.solve(np.array([p, r, zeta]), np.array([1, radius**2 - SIGMA**2, zeta @ rho]))
    offsets = np.arange(1 - radius, radius)
    kernel: Planes = beta @ np.cos(omega[:, None] * offsets)
    return kernel
