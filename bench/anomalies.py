"""How well `aecodec.anomalies` finds defects that are drawn into photographs of one series."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import skimage.data
from PIL import Image, ImageDraw, ImageFilter
from scipy.stats import rankdata

from aecodec import Codec, anomalies
from aecodec.anomalies import Gaussian, Moments, colour_statistics

Plane = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]

OURS, PEER = "aecodec", "mean and variance"
KINDS = ("scratch", "blot", "texture")
BLOCK = 16
TOUCHED = 0.05  # the share of a block's pixels that a defect covers before the block counts as defective
TEXTURES = ("brick", "grass", "gravel")


def with_defects(pixels: Plane, seed: int) -> tuple[Plane, dict[str, Flags]]:
    """A picture ``[H, W, 3]`` with a scratch, a blot and a foreign texture, and the blocks ``[h, w]`` of each."""
    rng, found = np.random.default_rng(seed), dict[str, Flags]()
    height, width, _ = pixels.shape
    x = pixels.astype(np.float64)
    for kind in KINDS:
        mask = Image.new("L", (width, height))
        draw = ImageDraw.Draw(mask)
        centre = rng.uniform(0.15, 0.85, 2) * (width, height)
        if kind == "scratch":
            length, angle = rng.uniform(0.15, 0.4) * min(height, width), rng.uniform(0, 2 * np.pi)
            step, bend = length / 8 * np.array([np.cos(angle), np.sin(angle)]), rng.normal(0, 2, (9, 2))
            points = centre + np.arange(-4, 5)[:, None] * step + bend
            draw.line([tuple(p) for p in points.tolist()], fill=255, width=int(rng.integers(2, 4)))
            colour = np.full(3, rng.choice([20.0, 235.0]))
            drawn, opacity = np.broadcast_to(colour, x.shape), 0.7
        elif kind == "blot":
            angles = np.arange(12) * np.pi / 6
            radius = rng.uniform(16, 40) * rng.uniform(0.6, 1.2, 12)
            points = centre + radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
            draw.polygon([tuple(p) for p in points.tolist()], fill=255)
            drawn, opacity = np.broadcast_to(rng.uniform(0, 120, 3), x.shape), 0.8
        else:
            side = int(rng.integers(48, 97))
            left, top = (centre - side / 2).astype(int).tolist()
            draw.rectangle((left, top, left + side - 1, top + side - 1), fill=255)
            source = getattr(skimage.data, str(rng.choice(TEXTURES)))().astype(np.float64)
            source = np.tile(source, (-(-height // 512), -(-width // 512)))[:height, :width]
            drawn, opacity = source[:, :, None] * rng.uniform(0.7, 1.0, 3), 1.0
        soft = mask.filter(ImageFilter.GaussianBlur(0.7))
        alpha = np.asarray(soft)[:, :, None] * (opacity / 255)
        x = x * (1 - alpha) + drawn * alpha
        found[kind] = _share(np.asarray(mask) > 0) >= TOUCHED
    return x.round().astype(np.uint8), found


def _share(mask: Flags) -> npt.NDArray[np.float64]:
    height, width = (-(-side // BLOCK) * BLOCK for side in mask.shape)
    padded = np.zeros((height, width))
    padded[: mask.shape[0], : mask.shape[1]] = mask
    shares: npt.NDArray[np.float64] = padded.reshape(height // BLOCK, BLOCK, -1, BLOCK).mean((1, 3))
    return shares


def measure(
    pictures: Sequence[Image.Image], codec: Codec, seed: int, show: Callable[[], object]
) -> dict[str, dict[str, float]]:
    """ROC AUC of blocks, by score and kind of defect, and of all kinds together.

    Half the pictures, drawn by the seed, are normal; defects are drawn into the others. ``show`` is called after each.
    """
    order = np.random.default_rng(seed).permutation(len(pictures)).tolist()
    planes = [np.asarray(pictures[i]) for i in order]
    normal, held_out = planes[: len(planes) // 2], planes[len(planes) // 2 :]
    detector = anomalies.fit(codec, normal)
    peer = Gaussian.of(Moments.of(np.concatenate([colour_statistics(plane) for plane in normal])))
    scores: dict[str, list[npt.NDArray[np.floating]]] = {OURS: [], PEER: []}
    flags: dict[str, list[Flags]] = {kind: [] for kind in KINDS}
    for i, plane in enumerate(held_out):
        changed, where = with_defects(plane, 1000 * seed + i)
        scores[OURS].append(detector.scores(changed).ravel())
        scores[PEER].append(peer.distances(colour_statistics(changed)))
        for kind in KINDS:
            flags[kind].append(where[kind].ravel())
        show()
    joined = {kind: np.concatenate(found) for kind, found in flags.items()}
    clean = ~np.logical_or.reduce([*joined.values()])
    found = {}
    for name, parts in scores.items():
        score = np.concatenate(parts)
        found[name] = {kind: auc(score[where], score[clean]) for kind, where in joined.items()}
        found[name]["all"] = auc(score[~clean], score[clean])
    return found


def auc(positive: npt.NDArray[np.floating], negative: npt.NDArray[np.floating]) -> float:
    """The share of pairs in which the positive has the larger score."""
    ranks = rankdata(np.concatenate([positive, negative]))[: len(positive)]
    return float((ranks.mean() - (len(positive) + 1) / 2) / len(negative))
