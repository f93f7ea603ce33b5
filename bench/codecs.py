"""The codecs that are compared: each a pair of functions between an image and the bytes of a file."""

import hashlib
import importlib.metadata
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image, features

import aecodec

OURS = "aecodec"
JPEG = "JPEG 4:2:0"  # what rates are compared with first


@dataclass(frozen=True)
class Peer:
    """A codec with its settings and the grid of qualities that it is measured at, worst first."""

    name: str
    version: str
    settings: str
    qualities: tuple[int, ...]
    typical: int  # the quality of about 0.8 bits per pixel on photographs, where speed is measured
    encode: Callable[[Image.Image, int], bytes]
    decode: Callable[[bytes], Image.Image]


@cache
def roster(threads: int = 1) -> tuple[dict[str, Peer], dict[str, str]]:
    """The codecs that are installed, by name, and for the others why they are absent.

    ``threads`` is what those may use that ask for a number.
    """
    present: dict[str, Peer] = {}
    absent: dict[str, str] = {}
    for name, make in _MAKERS.items():
        try:
            present[name] = make(name, threads)
        except (ImportError, OSError, RuntimeError) as error:
            absent[name] = str(error)
    return present, absent


def _ours(name: str, threads: int) -> Peer:
    codec = aecodec.Codec()
    # the version is that of the code as well: a change of the encoder must not find old figures in the cache
    source = hashlib.sha256()
    for path in sorted(Path(aecodec.__file__).parent.glob("*.py")):
        source.update(path.read_bytes())
    return Peer(
        name,
        f"{aecodec.__version__}, model {codec.model.id.hex()}, code {source.hexdigest()[:8]}",
        "",
        tuple(range(0, 101, 10)),
        50,
        codec.compress,
        codec.decompress,
    )


def _pillow(kind: str, feature: str, qualities: tuple[int, ...], typical: int, **options: Any) -> Callable[..., Peer]:
    """A maker of a codec that Pillow brings along."""

    def make(name: str, threads: int) -> Peer:
        version = features.version(feature)
        if not version:
            raise ImportError(f"this Pillow was built without {feature}")
        extra = {"max_threads": threads} if kind == "AVIF" else {}

        def encode(image: Image.Image, quality: int) -> bytes:
            return _save(image, kind, quality=quality, **options, **extra)

        return Peer(
            name, f"Pillow {PIL.__version__}, {feature} {version}", _text(options), qualities, typical, encode, _open
        )

    return make


def _jpeg2000(name: str, threads: int) -> Peer:
    version = features.version("jpg_2000")
    if not version:
        raise ImportError("this Pillow was built without jpg_2000")
    options: dict[str, Any] = {"irreversible": True, "mct": 1, "quality_mode": "dB"}

    def encode(image: Image.Image, quality: int) -> bytes:
        return _save(image, "JPEG2000", quality_layers=[quality], **options)

    return Peer(
        name,
        f"Pillow {PIL.__version__}, OpenJPEG {version}",
        _text(options),
        tuple(range(24, 47, 2)),
        34,
        encode,
        _open,
    )


def _jpeg_xl(name: str, threads: int) -> Peer:
    import pillow_jxl

    version = importlib.metadata.version(pillow_jxl.__name__.replace("_", "-") + "-plugin")

    def encode(image: Image.Image, quality: int) -> bytes:
        return _save(image, "JXL", quality=quality, effort=7, num_threads=threads)

    qualities = (5, 15, 30, 45, 60, 70, 80, 90, 95)
    return Peer(name, f"pillow-jxl-plugin {version}", "effort 7", qualities, 70, encode, _open)


def _mozjpeg(name: str, threads: int) -> Peer:
    import pyvips

    # the options that libvips knows only when it was built with mozjpeg
    options = {"trellis_quant": True, "overshoot_deringing": True, "optimize_scans": True, "quant_table": 3}
    plain = {"optimize_coding": True, "interlace": True, "subsample_mode": "on", "keep": "none"}

    def save(image: Image.Image, quality: int, **chosen: Any) -> bytes:
        data: bytes = pyvips.Image.new_from_array(np.asarray(image)).jpegsave_buffer(Q=quality, **plain, **chosen)
        return data

    sample = Image.radial_gradient("L").convert("RGB")
    if save(sample, 50, trellis_quant=True) == save(sample, 50):
        raise ImportError("this libvips was built without mozjpeg")
    version = f"libvips {pyvips.version(0)}.{pyvips.version(1)}.{pyvips.version(2)}"

    def encode(image: Image.Image, quality: int) -> bytes:
        return save(image, quality, **options)

    return Peer(name, version, _text(plain | options), _JPEG_QUALITIES, 65, encode, _open)


def _save(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _open(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB")


def _text(options: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in options.items())


_JPEG_QUALITIES = (5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95)
_AVIF_QUALITIES = (10, 20, 30, 40, 50, 60, 70, 80, 90)

SLOW = "AVIF 4:4:4, speed 4"  # seconds an image: measured only where that is asked for

_MAKERS: dict[str, Callable[[str, int], Peer]] = {
    OURS: _ours,
    JPEG: _pillow("JPEG", "jpg", _JPEG_QUALITIES, 50, subsampling="4:2:0", optimize=True, progressive=True),
    "JPEG 4:2:0, baseline": _pillow("JPEG", "jpg", _JPEG_QUALITIES, 50, subsampling="4:2:0", optimize=True),
    "JPEG 4:4:4": _pillow("JPEG", "jpg", _JPEG_QUALITIES, 40, subsampling="4:4:4", optimize=True, progressive=True),
    "mozjpeg 4:2:0": _mozjpeg,
    "WebP": _pillow("WEBP", "webp", (1, 10, 25, 40, 55, 70, 80, 90, 95), 70, method=6),
    "JPEG 2000": _jpeg2000,
    "AVIF 4:4:4, speed 6": _pillow("AVIF", "avif", _AVIF_QUALITIES, 60, subsampling="4:4:4", speed=6),
    SLOW: _pillow("AVIF", "avif", _AVIF_QUALITIES, 60, subsampling="4:4:4", speed=4),
    "JPEG XL": _jpeg_xl,
}
