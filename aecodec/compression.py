"""The one way from a picture to its file: at a quality or for a target, with or without a search for better symbols."""

import math
from collections.abc import Callable, Iterable

from . import decoder, devices, encoder, image, roi, targets
from .arguments import Progress
from .encoder import Quantised
from .geometry import Box, Tiling, View
from .image import Picture
from .model.structure import Array
from .model.weights import Model
from .roi import Offsets
from .targets import Attempt, Reached

MOST_STARTED = 1 << 24  # pixels of a picture of which `reach` keeps what all qualities share, 15 bytes for each

Search = Callable[[], Model]  # gives the model over torch, which is loaded for an effort alone


def compress(
    m: Model,
    search: Search,
    picture: Picture,
    quality: int,
    offsets: Offsets | None,
    effort: int,
    progress: Progress | None,
) -> bytes:
    tiling = _tiling(picture, offsets, quality)
    tiles = _tiles(m, search, picture, tiling, effort, progress)
    return encoder.pack(m, picture, encoder.packed_alpha(picture), tiling, tiles)


def reach(
    m: Model,
    search: Search,
    picture: Picture,
    name: str,
    target: float,
    offsets: Offsets | None,
    effort: int,
    progress: Progress | None,
) -> Reached:
    """The file that is nearest to a target of `targets.one_target`, and what was reached."""
    height, width, channels = picture.pixels.shape
    alpha, started = encoder.packed_alpha(picture), dict[Box, Array]() if height * width <= MOST_STARTED else None
    scale = targets.SCALES.get(name)
    visible = None if picture.alpha is None else picture.alpha > 0

    def attempt(tiling: Tiling, effort: int) -> Attempt:
        tiles = _tiles(m, search, picture, tiling, effort, progress, started)
        if not scale:
            return Attempt(encoder.pack(m, picture, alpha, tiling, tiles), math.nan)
        latents, tiles = decoder.assemble(m, tiling, tiles)
        pixels = decoder.synthesise(m, latents, tiling.whole, tiling, View.whole(height, width), channels == 1)
        score = scale.score(image.plane(picture.pixels), m.ops.numpy(pixels[0]), visible)
        return Attempt(encoder.pack(m, picture, alpha, tiling, tiles), score)

    return targets.reach(attempt, lambda quality: _tiling(picture, offsets, quality), name, target, effort)


def _tiles(
    m: Model,
    search: Search,
    picture: Picture,
    tiling: Tiling,
    effort: int,
    progress: Progress | None,
    started: dict[Box, Array] | None = None,
) -> Iterable[Quantised]:
    if not effort:
        return encoder.quantise(m, encoder.analyse(m, [picture.pixels], tiling, started=started), tiling)
    devices.torch_for("an effort")
    from . import refine

    return refine.symbols(search(), picture.pixels, tiling, effort, progress)


def _tiling(picture: Picture, offsets: Offsets | None, quality: int) -> Tiling:
    height, width, _ = picture.pixels.shape
    if offsets is None:
        return Tiling.uniform((height, width), quality)
    return roi.tiling(offsets, height, width, quality)
