"""SSIMULACRA 2.1, the perceptual metric of the JPEG XL project (Sneyers 2022), over numpy arrays or torch tensors.

One description for all uses: numpy and float64 for scores, torch and float32, with gradients, for training and the
encoder's search. The packages that pip installs differ from the reference by up to three points (their blur and the
edges of small scales), so it is written out here. The reference, libjxl's tool ``ssimulacra2``, filters recursively in
single precision, and its scores carry that rounding: 0.01 at a score of 60, up to 0.11 at 85.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from .filters import Array, Kernel, constant, namespace, smooth

SCALES = 6
SMALLEST = 8  # pixels on a side, below which a scale has no next one
STABILITY = 0.0009  # C2 of SSIM
SIGMA = 1.5
RADIUS = round(3.2795 * SIGMA + 0.2546) - 1
BAND = 2**18  # pixels of a scale that are compared at once: a large picture leaves no room for all its planes

OPSIN = np.array(
    [
        [0.3, 0.622, 0.078],
        [0.23, 0.692, 0.078],
        [0.24342268924547819, 0.20476744424496821, 0.5518098665095536],
    ]
)
BIAS = 0.0037930732552754493
DARKEST = 0.001  # less than any colour within 0..1 has

# fmt: off
# [channel X, Y, B; scale; mean, 4-norm; SSIM error, ringing, blur]
WEIGHTS: npt.NDArray[np.float64] = np.array(
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
).reshape(3, 6, 2, 3)
# fmt: on


def ssimulacra2(original: npt.NDArray[np.uint8], distorted: npt.NDArray[np.uint8], as_reference: bool = False) -> float:
    """The score of 8-bit pixels ``[H, W, 3]``, or gray ones ``[H, W, 1]``, against their original: 100 for the same
    picture, 90 visually lossless, 70 high, 50 medium, 30 low quality, negative for very bad.

    Gray counts as three equal channels. A side below 8 pixels is made as long by repeating the last row or column. It
    takes some 15 bytes of memory per pixel and 70 MB.

    A picture below 256 pixels a side has fewer than six scales. With ``as_reference`` the weights are then taken as
    libjxl's tool takes them, in their order whatever they belong to; else each scale has its own.
    """
    height, width, _ = original.shape
    edges = (0, max(SMALLEST - height, 0)), (0, max(SMALLEST - width, 0)), (0, 0)
    pair = (np.pad(p, edges, "edge") if np.any(edges) else p for p in (original, distorted))
    x, y = (np.broadcast_to(p, (*p.shape[:2], 3)).transpose(2, 0, 1) for p in pair)
    return score(float(error_sum(x, y, as_reference=as_reference)))


def score(total: float) -> float:
    """The score that an `error_sum` stands for."""
    total = 2.326765642916932 * total - 0.020884521182843837 * total**2 + 6.248496625763138e-05 * total**3
    return float(100 - 10 * max(total, 0.0) ** 0.6276336467831387)


def error_sum(
    original: Array, distorted: Array, least: float = 0.0, tiny: float = 0.0, as_reference: bool = False
) -> Array:
    """The weighted sum of error norms that the score is a function of, ``[...]``: 0 for the same picture.

    ``original``, ``distorted``: sRGB ``[..., 3, H, W]`` in 0..1, or an array of bytes. Norms of a weight up to
    ``least`` are left out. ``tiny`` is added within the fourth roots, whose gradients are infinite at 0; 1e-18 does not
    show in a score, but 1e-12 costs good pictures 1.5.
    """
    pair = [original, distorted]
    scales, side = 1, min(original.shape[-2:])
    while scales < SCALES and side >= SMALLEST:
        scales, side = scales + 1, -(-side // 2)
    weights = WEIGHTS[:, :scales]
    if as_reference:
        weights = WEIGHTS.ravel()[: weights.size].reshape(weights.shape)
    weights = np.where(weights > least, weights, 0)
    total: Array = 0.0
    for scale in range(scales):
        height, width = pair[0].shape[-2:]
        rows = 2 * max(BAND // (2 * width), RADIUS)  # an even number, for the halves
        sums: list[list[Array]] = [[0.0] * 6] * 3
        halves = [_empty_half(p) for p in pair]
        for top in range(0, height, rows):
            start = max(top - RADIUS, 0)  # what the blur reaches beyond the band
            own = slice(top - start, top - start + rows)
            lights = [p[..., start : top + rows + RADIUS, :] for p in pair]
            if scale == 0:
                lights = [_linear(p) for p in lights]
            for half, light in zip(halves, lights, strict=True):
                half[..., top // 2 : (top + rows) // 2, :] = _half(light[..., own, :])
            x, y = map(_positive_xyb, lights)
            for channel in range(3):
                wanted = weights[channel, scale]
                if wanted.any():
                    found = _errors(x[..., channel, :, :], y[..., channel, :, :], own, wanted)
                    sums[channel] = [before + more for before, more in zip(sums[channel], found, strict=True)]
        for channel in range(3):
            means = [of_all / (height * width) for of_all in sums[channel]]
            norms = means[:3] + [(mean + tiny) ** 0.25 for mean in means[3:]]
            for weight, norm in zip(weights[channel, scale].ravel().tolist(), norms, strict=True):
                total = total + weight * norm
        pair = halves
    return 0.9562382616834844 * total


def _errors(x: Array, y: Array, own: slice, weights: npt.NDArray[np.float64]) -> list[Array]:
    """Sums over the rows ``own`` of one channel's three error maps, then of their fourth powers; 0 where the weight is.

    ``weights``: ``[mean, 4-norm; SSIM error, ringing, blur]``.
    """
    blurred = smooth(namespace(x).stack((x, y, x * x + y * y, x * y)), _kernel(), pad=True)
    x, y, (mean_x, mean_y, squares, products) = x[..., own, :], y[..., own, :], blurred[..., own, :]
    covariance, variances = products - mean_x * mean_y, squares - (mean_x**2 + mean_y**2)
    similarity = (1 - (mean_x - mean_y) ** 2) * (2 * covariance + STABILITY) / (variances + STABILITY)
    edges = (1 + abs(y - mean_y)) / (1 + abs(x - mean_x)) - 1
    errors = [signed.clip(0) for signed in (1 - similarity, edges, -edges)]
    by_mean, by_norm = (list(zip(errors, row, strict=True)) for row in weights.tolist())
    sums = [error.sum((-2, -1)) if weight else 0.0 for error, weight in by_mean]
    return sums + [((error * error) ** 2).sum((-2, -1)) if weight else 0.0 for error, weight in by_norm]


def _linear(s: Array) -> Array:
    """Light of sRGB in 0..1 or of bytes."""
    if s.dtype == np.uint8:
        return np.take(_linear(np.arange(256) / 255), s)
    return namespace(s).where(s <= 0.04045, s / 12.92, ((s.clip(0.04045) + 0.055) / 1.055) ** 2.4)


def _empty_half(x: Array) -> Array:
    """Room for the next scale of an array in light or of one of bytes."""
    shape = (*x.shape[:-2], *(-(-side // 2) for side in x.shape[-2:]))
    dtype = np.float64 if x.dtype == np.uint8 else x.dtype
    return namespace(x).empty(shape, dtype=dtype, device=x.device)


def _half(x: Array) -> Array:
    """Means over 2x2, the last row and column repeated where there is an odd number."""
    if x.shape[-2] % 2:
        x = namespace(x).concatenate((x, x[..., -1:, :]), -2)
    if x.shape[-1] % 2:
        x = namespace(x).concatenate((x, x[..., -1:]), -1)
    x = x[..., ::2, :] + x[..., 1::2, :]
    return (x[..., ::2] + x[..., 1::2]) / 4


def _positive_xyb(linear: Array) -> Array:
    """The XYB colour space of JPEG XL, shifted and stretched so that SSIM can be used on it: ``[..., 3, H, W]``."""
    flat = linear.reshape(*linear.shape[:-2], -1)
    # what is darker than black counts as very dark: the slope of the root has no bound towards 0
    cones = (constant(OPSIN, linear) @ flat + BIAS).clip(DARKEST)
    mixed = (cones ** (1 / 3) - BIAS ** (1 / 3)).reshape(linear.shape)
    l, m, s = (mixed[..., i, :, :] for i in range(3))  # noqa: E741  # cones of long, middle and short waves
    return namespace(linear).stack((7 * (l - m) + 0.42, (l + m) / 2 + 0.01, s - (l + m) / 2 + 0.55), -3)


@lru_cache
def _kernel() -> Kernel:
    """A Gaussian as a sum of three truncated cosines (Charalampidis 2016), as the reference has it."""
    radius = RADIUS + 1
    omega = np.pi / (2 * radius) * np.array([1, 3, 5])
    p = np.array([1, -1, 1]) / np.tan(omega / 2)
    r = np.array([1, -1, 1]) * p**2 / np.sin(omega)
    rho = np.exp(-(SIGMA**2) / 2 * omega**2) / radius

    def determinant(i: int, j: int) -> float:
        return float(p[i] * r[j] - r[i] * p[j])

    zeta = np.array([determinant(1, 2), determinant(2, 0), determinant(0, 1)]) / determinant(0, 1)
    beta = np.linalg.solve(np.array([p, r, zeta]), np.array([1, radius**2 - SIGMA**2, zeta @ rho]))
    offsets = np.arange(1 - radius, radius)
    kernel: Kernel = beta @ np.cos(omega[:, None] * offsets)
    return kernel
