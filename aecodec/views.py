"""The one way from a file to a view of its picture: all of it, a region, a smaller version, or what can be salvaged.

Whole files and damaged ones differ in where latents and alpha plane come from; all else is the same for both.
"""

from collections.abc import Callable, Sequence

from . import alpha_plane, arguments, container, decoder, image, salvage
from .arguments import Rectangle
from .container import THUMBNAIL, Container, Data, Header
from .errors import Corrupt
from .geometry import LATENT, Box, View
from .image import Picture, Plane
from .model.structure import Array
from .model.weights import Model
from .salvage import Remains

ModelOf = Callable[[Header], Model]  # what decodes a file with this header


def show(
    model_of: ModelOf, data: Data, max_pixels: int, region: Rectangle | None, shrink: int, conceals: bool
) -> tuple[Picture, str]:
    """The picture of an .aec file, and in words what is damaged, which is concealed or else raises `Corrupt`."""
    file = salvage.parse(data, max_pixels) if conceals else container.read(data, max_pixels)
    view = arguments.view(file.header, region, shrink)
    plane, lost_alpha = alpha(file, view)  # first: it is cheap to refuse
    pixels, lost = decode(model_of(file.header), file if isinstance(file, Remains) else [file], view)
    picture = Picture(pixels[0], plane, file.metadata, equal_colours=file.header.equal_colours)
    return picture, "; ".join(filter(None, (lost, lost_alpha)))


def verify(model_of: ModelOf, data: Data, max_pixels: int) -> Header:
    """Decode everything of a file but the pixels, and return its header. Raises subclasses of `AecError`."""
    file = container.read(data, max_pixels)
    header, found = file.header, [file]
    alpha(file, View.whole(header.height, header.width))  # first: it is cheap to refuse
    if "thumbnail" in file.metadata:
        found.append(container.thumbnail(header, file.metadata["thumbnail"]))
    for file in found:
        tiling = decoder.tiling_of(file.header, file.tiles)
        decoder.decode_latents(model_of(file.header), [file.tiles], tiling)
    return header


def decode(m: Model, files: Sequence[Container] | Remains, view: View) -> tuple[Array, str]:
    """Bytes ``[B, H, W, 1 or 3]`` of a view, and in words what is damaged.

    ``files``: whole ones, which share header and qualities and whether they have thumbnails, and of which damage raises
    `Corrupt` (or its subclass `SymbolMismatch`); or what remains of one, in which it is concealed.
    """
    first = files if isinstance(files, Remains) else files[0]
    header, tiling = first.header, decoder.tiling_of(first.header, first.tiles)
    if view.shrink == THUMBNAIL and "thumbnail" in first.metadata:
        payloads = [file.metadata["thumbnail"] for file in ([files] if isinstance(files, Remains) else files)]
        try:
            return m.ops.xp.concatenate([thumbnail(m, header, payload, view.box) for payload in payloads]), ""
        except Corrupt:
            if not isinstance(files, Remains):
                raise  # of what remains, there is the estimate from the latents
    if isinstance(files, Remains):
        area = tiling.whole
        latents, damage = salvage.latents(m, files, tiling)
    else:
        area = view.box.covering(LATENT).grown(decoder.halo(m, view), tiling.whole.height, tiling.whole.width)
        latents, damage = decoder.decode_latents(m, [file.tiles for file in files], tiling, area), ""
    return decoder.synthesise(m, latents, area, tiling, view, header.is_gray), damage


def thumbnail(m: Model, header: Header, payload: bytes, box: Box) -> Array:
    """Bytes ``[1, H, W, 1 or 3]`` of what a box of the picture covers of its thumbnail. Raises `Corrupt`."""
    return decode(m, [container.thumbnail(header, payload)], View(box.covering(THUMBNAIL)))[0]


def alpha(file: Container | Remains, view: View) -> tuple[Plane | None, str]:
    """A view ``[H, W]`` of the alpha plane, if there is one, and in words what is damaged.

    Raises `Corrupt` for a whole file's.
    """
    header = file.header
    if not header.has_alpha:
        return None, ""
    payload, damage = file.alpha or b"", ""
    try:
        plane = alpha_plane.decode(payload, header.height, header.width)
    except Corrupt:
        if not isinstance(file, Remains):
            raise
        plane, damage = alpha_plane.salvage(payload, header.height, header.width), "the alpha plane is damaged"
    shown = view.result.scaled(view.shrink)  # up to pixels that are whole there, or to the picture's end
    return image.reduced(plane[shown.rows, shown.columns], view.shrink), damage
