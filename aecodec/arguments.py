"""The arguments of the library: their types, how they are read, and what is checked before any work is done."""

import io
import operator
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, Union

import numpy.typing as npt

from . import files, image
from .container import SIGNATURE, Header
from .geometry import Box, View
from .image import Picture, Plane

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

MOST_EFFORT = 9

Source = str | os.PathLike[str] | IO[bytes]  # a file: its path, or one that is open
ImageLike = Union["Image.Image", npt.NDArray[Any], "Tensor", Source, Picture]
Errors = Literal["strict", "conceal"]
Output = Literal["pil", "numpy", "torch"]
Decoded = Union["Image.Image", Plane, "Tensor"]
Rectangle = tuple[int, int, int, int]  # x, y, width, height in pixels
Progress = Callable[[float], object]  # called with a share from 0 to 1


def is_file(source: Any) -> bool:
    """Whether it is the path of a file, or a file that is open in binary mode."""
    return isinstance(source, str | os.PathLike) or hasattr(source, "readinto")  # no text has it


def read(source: Any) -> Any:
    """The bytes of an .aec file, which may be given as its path or open."""
    if isinstance(source, str | os.PathLike):
        return Path(source).read_bytes()
    data = source.read() if hasattr(source, "read") else source
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"expected bytes, a path or a file opened in binary mode, not {type(source).__name__}")
    return data


def picture(source: Any, max_pixels: int) -> Picture:
    """The picture of an `ImageLike`. Warns of what it loses; raises as `files.open_picture` and `image.from_any`."""
    if isinstance(source, Picture):
        return source
    found = files.open_picture(read(source), max_pixels) if is_file(source) else image.from_any(source, max_pixels)
    image.warn_of(found)
    return found


def read_if_aec(source: Any) -> Any:
    """The bytes of an .aec file, by its start or the name of its path; anything else comes back to be a `picture`."""
    if not is_file(source):
        return source
    data = read(source)
    named = isinstance(source, str | os.PathLike) and Path(source).suffix.lower() == ".aec"
    return data if named or bytes(data[: len(SIGNATURE)]) == SIGNATURE else io.BytesIO(data)


def quality(value: int) -> int:
    value = operator.index(value)
    if not 0 <= value <= 100:
        raise ValueError(f"quality {value}: expected 0 to 100")
    return value


def effort(value: int) -> int:
    value = operator.index(value)
    if not 0 <= value <= MOST_EFFORT:
        raise ValueError(f"effort {value}: expected 0 to {MOST_EFFORT}")
    return value


def conceals(errors: str) -> bool:
    if errors not in ("strict", "conceal"):
        raise ValueError(f"errors {errors!r}: expected strict or conceal")
    return errors == "conceal"


def output(value: str) -> Callable[[Picture], Any]:
    """What makes a decoded picture into that."""
    kinds = {"pil": image.to_pil, "numpy": image.to_array, "torch": image.to_tensor}
    if value not in kinds:
        raise ValueError(f"output {value!r}: expected pil, numpy or torch")
    return kinds[value]


def shrink(scale: float) -> int:
    """How many pixels a side become one."""
    for pixels in (1, 2, 4, 8):
        if scale * pixels == 1:
            return pixels
    raise ValueError(f"scale {scale}: expected 1, 1/2, 1/4 or 1/8")


def view(header: Header, region: Rectangle | None, shrink: int) -> View:
    """What is wanted of a picture: all of it, unless a region is given."""
    if region is None:
        return View.whole(header.height, header.width, shrink)
    if len(region) != 4:
        raise ValueError(f"region {region}: expected x, y, width and height")
    x, y, width, height = map(operator.index, region)
    if min(x, y) < 0 or min(width, height) < 1 or x + width > header.width or y + height > header.height:
        raise ValueError(f"region {x},{y},{width},{height}: not within the {header.width}x{header.height} pixels")
    return View(Box(y, x, height, width), shrink)
