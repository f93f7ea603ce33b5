"""The codecs that are compared: each a function from an image and a quality to the bytes of a file."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from aecodec import Codec


@dataclass(frozen=True)
class Peer:
    """A codec with the grid of qualities that it is measured at."""

    name: str
    encode: Callable[[Image.Image, int], bytes]
    decode: Callable[[bytes], Image.Image]
    qualities: tuple[int, ...]


def _pillow(name: str, label: str, qualities: tuple[int, ...], **options: Any) -> Peer:
    def encode(image: Image.Image, quality: int) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, name, quality=quality, **options)
        return buffer.getvalue()

    def decode(data: bytes) -> Image.Image:
        with Image.open(io.BytesIO(data)) as image:
            return image.convert("RGB")

    return Peer(label, encode, decode, qualities)


JPEG = _pillow("JPEG", "JPEG 4:2:0", (5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95), optimize=True)
WEBP = _pillow("WEBP", "WebP m6", (1, 10, 25, 40, 55, 70, 80, 90, 95), method=6)
AVIF = _pillow("AVIF", "AVIF 4:4:4 s6", (10, 20, 30, 40, 50, 60, 70, 80, 90), subsampling="4:4:4", speed=6)


def ours(codec: Codec) -> Peer:
    return Peer("aecodec", codec.compress, codec.decompress, (0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100))


def psnr(a: Image.Image, b: Image.Image) -> float:
    """Decibels between two 8-bit RGB images."""
    x: npt.NDArray[np.float64] = np.asarray(a, np.float64)
    return float(10 * np.log10(255**2 / np.mean((x - np.asarray(b, np.float64)) ** 2)))
