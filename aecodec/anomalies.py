"""Where a picture is not like a series of normal ones, by blocks of 16x16 pixels.

Two Gaussians are fitted to all blocks of the normal pictures: one to what the analysis computes at 1/8 resolution, as
PaDiM (Defard et al. 2021) does with the features of a classifier, but with one Gaussian for all places, since
photographs are not aligned; and one to means and variances of the colours, whose few numbers drown among the features.
The score of a block is the geometric mean of its Mahalanobis distances from both.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
import numpy.typing as npt

from . import encoder, image
from .arguments import ImageLike
from .codec import Codec
from .features import Floats
from .geometry import LATENT, Tiling, windows
from .image import Plane

SHRINKAGE = 1e-3  # how far the correlations go towards none: there may be fewer blocks than features
SMALLEST_DEVIATION = 1e-3  # of a feature: in flat pictures it has none
FOLDS = 8  # parts of the normal pictures, each scored by the others to find the threshold
SAMPLES = 1024  # blocks of each normal picture that the threshold is found from
QUANTILE = 0.99  # the share of normal blocks below the threshold

Sums = npt.NDArray[np.float64]
Blocks = tuple[Floats, Floats]  # features [n, C] and statistics [n, 6] of blocks


@dataclass(frozen=True)
class Moments:
    """Number, sums ``[C]`` and sums of products ``[C, C]`` of vectors."""

    count: int
    sums: Sums
    products: Sums

    @classmethod
    def of(cls, x: Floats) -> "Moments":
        """Of the rows ``[n, C]``."""
        rows = x.astype(np.float64)
        return cls(len(rows), rows.sum(0), rows.T @ rows)

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.count + other.count, self.sums + other.sums, self.products + other.products)


@dataclass(frozen=True)
class Gaussian:
    """A normal distribution, as what takes its vectors to independent ones of variance 1."""

    mean: Sums  # [C]
    whitening: Sums  # [C, C]

    @classmethod
    def of(cls, moments: Moments) -> "Gaussian":
        mean = moments.sums / moments.count
        covariance = moments.products / moments.count - np.outer(mean, mean)
        deviation = np.sqrt(np.diag(covariance).clip(SMALLEST_DEVIATION**2))
        correlation = covariance / np.outer(deviation, deviation)
        values, vectors = np.linalg.eigh((1 - SHRINKAGE) * correlation + SHRINKAGE * np.eye(len(mean)))
        return cls(mean, vectors / np.sqrt(values.clip(SHRINKAGE)) / deviation[:, None])

    def distances(self, x: Floats) -> Floats:
        """Mahalanobis distances ``[n]`` of the rows ``[n, C]``, over the root of C: about 1 for their own."""
        whitened = (x - self.mean) @ self.whitening
        found: Floats = np.sqrt((whitened**2).mean(1)).astype(np.float32)
        return found


@dataclass(frozen=True)
class Detector:
    """What normal pictures look like to one codec, made by `fit`; scores above the threshold are anomalies."""

    codec: Codec
    normal: tuple[Gaussian, Gaussian]
    threshold: float

    def scores(self, picture: ImageLike) -> Floats:
        """How unusual each block is, ``[ceil(H/16), ceil(W/16)]``, about 1 where it is not.

        Pixels beyond the right and the bottom edge repeat those at the edge. Raises what `Codec.compress` raises.
        """
        pixels = self.codec._prepare(picture).pixels
        whole = Tiling.uniform(pixels.shape, 0).whole
        return _scores(self.normal, _blocks(self.codec, pixels)).reshape(whole.height, whole.width)


def fit(codec: Codec, pictures: Iterable[ImageLike], quantile: float = QUANTILE) -> Detector:
    """A detector of what differs from ``pictures``, normal ones, at least two and best some dozens.

    ``quantile``: the share of the blocks of normal pictures that lies below the threshold. It is found by
    cross-validation: the pictures fall into up to eight parts, and each is scored by the Gaussians of the others.
    Pictures are taken one after the other and not kept. Raises ValueError for fewer than two and for a quantile that is
    not between 0 and 1, and what `Codec.compress` raises.
    """
    if not 0 < quantile < 1:
        raise ValueError(f"quantile {quantile}: expected a number between 0 and 1")
    parts: list[list[list[Moments]]] = [[] for _ in range(FOLDS)]  # the sums so far, of features and of statistics
    samples: list[list[Blocks]] = [[] for _ in range(FOLDS)]
    for i, picture in enumerate(pictures):
        features, statistics = _blocks(codec, codec._prepare(picture).pixels)
        part, step = parts[i % FOLDS], -(-len(features) // SAMPLES)
        own = [Moments.of(features), Moments.of(statistics)]
        part[:] = [_total([*part, own])]
        samples[i % FOLDS].append((features[::step], statistics[::step]))
    present = [i for i in range(FOLDS) if parts[i]]
    if len(present) < 2:
        raise ValueError(f"{len(present)} normal pictures: at least two are needed, best some dozens")
    scores = []
    for held_out in present:
        others = _gaussians([parts[i][0] for i in present if i != held_out])
        scores += [_scores(others, blocks) for blocks in samples[held_out]]
    normal = _gaussians([parts[i][0] for i in present])
    return Detector(codec, normal, float(np.quantile(np.concatenate(scores), quantile)))


def _total(moments: Sequence[Sequence[Moments]]) -> list[Moments]:
    return [reduce(add, kind) for kind in zip(*moments, strict=True)]


def _gaussians(moments: Sequence[Sequence[Moments]]) -> tuple[Gaussian, Gaussian]:
    features, statistics = _total(moments)
    return Gaussian.of(features), Gaussian.of(statistics)


def _scores(normal: tuple[Gaussian, Gaussian], blocks: Blocks) -> Floats:
    found: Floats = np.sqrt(normal[0].distances(blocks[0]) * normal[1].distances(blocks[1]))
    return found


def _blocks(codec: Codec, pixels: image.Pixels) -> Blocks:
    """What there is to say of each block of a picture, row by row."""
    m, whole = codec.model, Tiling.uniform(pixels.shape, 0).whole
    found: Floats | None = None
    with m.ops.inference():
        for core, outer in windows(whole, m.design.analysis_halo, whole.height, whole.width):
            started = m.analysis_start(encoder.part_of(m, [pixels], outer.scaled(LATENT)))
            x = started[0] if isinstance(started, tuple) else started  # without the fine latents
            x = m.ops.numpy(x).reshape(outer.height, 2, outer.width, 2, -1).mean((1, 3))
            inner = core.within(outer)
            found = np.empty((whole.height, whole.width, x.shape[2]), np.float32) if found is None else found
            found[core.rows, core.columns] = x[inner.rows, inner.columns]
    assert found is not None
    return found.reshape(-1, found.shape[2]), colour_statistics(image.plane(pixels))


def colour_statistics(pixels: Plane) -> Floats:
    """Mean of each colour in each block of ``[H, W, 1 or 3]``, and the logarithm of its variance: ``[n, 6]``."""
    height, width, _ = pixels.shape
    x = np.pad(pixels, ((0, -height % LATENT), (0, -width % LATENT), (0, 0)), "edge").astype(np.float32)
    x = np.broadcast_to(x, (*x.shape[:2], 3)).reshape(len(x) // LATENT, LATENT, -1, LATENT, 3)
    found: Floats = np.concatenate([x.mean((1, 3)), np.log(x.var((1, 3)) + 1)], -1)
    return found.reshape(-1, 6)


def heat_map(pixels: Plane, scores: Floats, threshold: float) -> Plane:
    """A picture ``[H, W, 1 or 3]`` in gray, the redder the higher the score of a block is: ``[H, W, 3]``.

    There is some red from half the threshold on, and no more from twice the threshold on.
    """
    height, width, _ = pixels.shape
    smallest = float(np.finfo(np.float32).tiny)  # of a threshold: it is 0 where all normal blocks are the same
    heat = np.log2((scores / max(threshold, smallest)).clip(0.5, 2)) * 0.4 + 0.4
    heat = heat.repeat(LATENT, 0).repeat(LATENT, 1)[:height, :width, None]
    gray = pixels.mean(2, keepdims=True)
    shown: Plane = (gray * (1 - heat) + np.array([255.0, 0, 0]) * heat).round().astype(np.uint8)
    return shown
