"""Pictures drawn from the prior: what a model takes for likely.

Ancestral sampling: the hyper-latents are drawn from their tables, then each context step and the fine latents from the
tables that the prior chooses given what was drawn before. A decoder that is fed random bits does the same.
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from . import container, decoder, image
from .codec import Codec
from .container import DEFAULT_QUALITY
from .geometry import LATENT, Tiling, View
from .image import Picture

if TYPE_CHECKING:
    from PIL import Image


def sample(
    codec: Codec, width: int = 256, height: int = 256, *, quality: int = DEFAULT_QUALITY, seed: int = 0
) -> "Image.Image":
    """A random picture, of the distribution that the codec gives the shortest files.

    The same arguments give the same latents on every machine, and pixels to within one grey level.

    Args:
        codec: whose model it is.
        width: in pixels; memory grows with their number.
        height: in pixels.
        quality: 0 to 100; what is likely at a low one is coarser.
        seed: of the random numbers, not negative.

    Raises:
        LimitExceeded: for more pixels than the codec takes, or none.
        ValueError: for a quality or seed out of range.

    >>> sample(Codec(device="cpu"), 40, 24).size
    (40, 24)
    """
    if not 0 <= quality <= 100:
        raise ValueError(f"quality {quality}: expected 0 to 100")
    if seed < 0:
        raise ValueError(f"seed {seed}: expected 0 or more")
    if min(width, height) < 1:
        raise ValueError(f"{width}x{height} pixels: expected sides of at least 1")
    container.check_size(width, height, codec.max_pixels)
    m, rng = codec.model, np.random.default_rng(seed)
    side = -(-max(width, height) // LATENT) * LATENT  # one tile: borders between tiles drawn apart would show
    tiling = Tiling.uniform((height, width), quality, side)
    with m.ops.inference():
        tile = m.entropy.tiles(1, tiling.whole.height, tiling.whole.width, quality)
        for _ in range(tile.parts):
            _, index = tile.predict()
            symbols = _draw(codec, m.entropy.ops.integers(index, np.uint8)[0], rng)
            tile.update(m.entropy.ops.number(symbols[None]))
        latents = m.ops.array(tile.latents)
    pixels = decoder.synthesise(m, latents, tiling.whole, tiling, View.whole(height, width), gray=False)
    return image.to_pil(Picture(m.ops.numpy(pixels[0])))


def _draw(codec: Codec, indices: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """A symbol of the table that each index names; the rare ones beyond a table are left out. Index 0 codes zero."""
    coder, symbols = codec.model.coder, np.zeros(len(indices), np.int64)
    for i in np.unique(indices[indices > 0]):
        where, support = np.flatnonzero(indices == i), coder.supports[i]
        ends = np.cumsum(coder.frequencies[i][:-1])  # the last entry is the escape
        symbols[where] = np.searchsorted(ends, rng.integers(ends[-1], size=len(where)), "right") - support
    return symbols
