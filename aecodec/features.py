"""What the analysis says of a picture, as vectors for classifiers, for search and for `anomalies`."""

import numpy as np
import numpy.typing as npt

from . import encoder
from .arguments import ImageLike
from .codec import Codec
from .container import DEFAULT_QUALITY
from .geometry import Tiling

Floats = npt.NDArray[np.float32]


def latents(codec: Codec, picture: ImageLike) -> Floats:
    """Latents y ``[ceil(H/16), ceil(W/16), N + M]``, main and fine ones, before they are rounded.

    They are those of the default quality. Raises what `Codec.compress` raises.
    """
    pixels = codec._prepare(picture).pixels
    y = encoder.analyse(codec.model, [pixels], Tiling.uniform(pixels.shape, DEFAULT_QUALITY))
    found: Floats = codec.model.ops.numpy(y[0])
    return found


def features(codec: Codec, picture: ImageLike) -> Floats:
    """Pooled latents ``[2 (N + M)]``: the mean of each channel over the picture, then its standard deviation.

    Pictures of any size have features of the same length. They are not normalised: scale them before a classifier sees
    them. Raises what `Codec.compress` raises.

    >>> import numpy as np
    >>> codec = Codec(device="cpu")
    >>> features(codec, np.zeros((40, 60), np.uint8)).shape == features(codec, np.zeros((9, 9), np.uint8)).shape
    True
    """
    return pooled(latents(codec, picture))


def pooled(latents: Floats) -> Floats:
    """Of latents ``[H, W, C]``, the mean of each channel over the picture, then its standard deviation: ``[2 C]``."""
    return np.concatenate([latents.mean((0, 1)), latents.std((0, 1))])


def nearest(query: Floats, candidates: Floats, count: int = 5) -> list[tuple[int, float]]:
    """The ``count`` rows of ``candidates`` ``[n, d]`` that are nearest to ``query`` ``[d]``, the nearest first.

    Each is a pair of its number and its distance: Euclidean, each feature divided by its standard deviation over the
    candidates. Raises ValueError for arrays of other shapes.
    """
    if candidates.ndim != 2 or not len(candidates) or query.shape != candidates.shape[1:]:
        raise ValueError(f"shapes {list(query.shape)} and {list(candidates.shape)}: expected [d] and [n, d]")
    deviation = candidates.std(0)
    difference = (candidates - query) / np.where(deviation > 0, deviation, 1)
    distances = np.sqrt((difference**2).mean(1))
    return [(int(i), float(distances[i])) for i in np.argsort(distances, kind="stable")[:count]]
