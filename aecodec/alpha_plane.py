"""The alpha plane in a file: packed without loss, unpacked whole or as far as it is there."""

import zlib

import numpy as np

from .errors import Corrupt
from .image import Plane


def encode(alpha: Plane) -> bytes:
    """A zlib stream of the plane's rows, each sample less its left neighbour, modulo 256."""
    return zlib.compress(np.diff(alpha, axis=1, prepend=np.uint8(0)).tobytes(), 9)


def decode(payload: bytes, height: int, width: int) -> Plane:
    """Raises `Corrupt` unless the stream holds just the plane; unpacks no more than that."""
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(payload, height * width + 1)
    except zlib.error as error:
        raise Corrupt(f"alpha plane: {error}") from None
    if len(data) != height * width or not unpacker.eof or unpacker.unused_data:
        raise Corrupt("the alpha plane is not of the picture's size")
    return np.cumsum(np.frombuffer(data, np.uint8).reshape(height, width), axis=1, dtype=np.uint8)


def salvage(payload: bytes, height: int, width: int) -> Plane:
    """The rows that are left of a stream that ends too early, opaque below; all opaque if its bytes were changed."""
    alpha = np.full((height, width), 255, np.uint8)
    try:
        data = zlib.decompressobj().decompress(payload, height * width)
    except zlib.error:
        return alpha
    rows = len(data) // width
    np.cumsum(np.frombuffer(data[: rows * width], np.uint8).reshape(rows, width), axis=1, out=alpha[:rows])
    return alpha
