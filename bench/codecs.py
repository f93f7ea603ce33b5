"""The codecs that are compared: each a pair of functions between an image and the bytes of a file."""

import hashlib
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import AvifImagePlugin, Image, features

import aecodec
from aecodec import registry

from . import tools

OURS = "aecodec"
JPEG = "JPEG 4:2:0"  # what rates are compared with
WEBP = "WebP"
AVIF = "AVIF 4:4:4, speed 6"
AVIF_SLOW = "AVIF 4:4:4, speed 4"
JPEG_XL = "JPEG XL"
ALWAYS = {OURS, JPEG, WEBP, AVIF, AVIF_SLOW, JPEG_XL}  # the others only where they are asked for
EFFORTS = {level: f"{OURS}, effort {level}" for level in range(1, 10)}  # the same, up to minutes
EFFORT_QUALITIES = (10, 30, 50, 70, 90)


@dataclass(frozen=True)
class Peer:
    """A codec with its settings and the grid of qualities that it is measured at, worst first."""

    name: str
    version: str  # of all code that has a say in the file or the picture
    settings: str
    qualities: tuple[int, ...]
    encode: Callable[[Image.Image, int], bytes]
    decode: Callable[[bytes], Image.Image]
    saved: tuple[str, dict[str, Any]] | None = None  # format and options of Pillow's save, where that is what encodes


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
        except ModuleNotFoundError as error:
            absent[name] = f'{error.name} is not installed: pip install ".[bench]"'
        except ImportError as error:
            absent[name] = str(error)
        except Exception as error:  # libraries that are there but broken raise almost anything
            absent[name] = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return present, absent


def largest_within(peer: Peer, image: Image.Image, budget: int) -> tuple[int, bytes] | None:
    """The best quality of 1 to 100 whose file has at most ``budget`` bytes, and that file; None if none has."""
    low, high, best = 1, 100, None
    while low <= high:
        middle = (low + high) // 2
        data = peer.encode(image, middle)
        if len(data) <= budget:
            low, best = middle + 1, (middle, data)
        else:
            high = middle - 1
    return best


def _ours(effort: int) -> Callable[[str, int], Peer]:
    def make(name: str, threads: int) -> Peer:
        codec = _codec()
        qualities = tuple(range(0, 101, 10)) if effort == 0 else EFFORT_QUALITIES
        encode = partial(codec.compress, effort=effort)
        return Peer(name, _our_version(), f"effort {effort}" if effort else "", qualities, encode, codec.decompress)

    return make


@cache
def _codec() -> aecodec.Codec:
    return aecodec.Codec(device="cpu")  # as the peers


@cache
def _our_version() -> str:
    codec = _codec()
    # a change of the encoder alone, which leaves the model's id as it is, must not find old figures in the cache
    content = hashlib.sha256(registry.find(codec.model.id).read_bytes())
    package = Path(aecodec.__file__).parent
    for path in sorted(package.rglob("*.py")):
        if "training" not in path.relative_to(package).parts:
            content.update(path.read_bytes())
    numbers = f"{aecodec.__version__}, model {codec.model.id.hex()}, content {content.hexdigest()[:16]}"
    return f"{numbers}, torch {torch.__version__}"


def _jpeg(subsampling: str, progressive: bool) -> Callable[[str, int], Peer]:
    options = {"subsampling": subsampling, "optimize": True, "progressive": progressive}
    library = "libjpeg_turbo" if features.version("libjpeg_turbo") else "jpg"
    return _pillow("JPEG", library, _JPEG_QUALITIES, **options)


def _avif(speed: int, tune: str = "") -> Callable[[str, int], Peer]:
    """A maker of AVIF as Pillow writes it, tuned for what it is tuned for unless told; ``tune`` tells."""

    def make(name: str, threads: int) -> Peer:
        aom = AvifImagePlugin.get_codec_version("aom")
        if not aom:
            raise ImportError("this Pillow was built without aom")
        if tune and not _avif_trial(tune):
            raise ImportError(f"this Pillow's aom knows no tune {tune}")
        AvifImagePlugin.DEFAULT_MAX_THREADS = threads  # for decoding
        options = {"subsampling": "4:4:4", "speed": speed, "codec": "aom"}
        advanced = {"advanced": {"tune": tune}} if tune else {}
        peer = _pillow("AVIF", "avif", _AVIF_QUALITIES, **options, **advanced, max_threads=threads)(name, threads)
        told = f"tune {tune}" if tune else f"tune {_default_tune()} by default"
        return replace(peer, version=f"{peer.version}, aom {aom}", settings=f"{_text(options)}, {told}")

    return make


def _default_tune() -> str:
    """The one that gives the same file as none: it depends on the versions of libavif and aom, and no API tells."""
    return next((tune for tune in _AVIF_TUNES if _avif_trial(tune) == _avif_trial("")), "unknown")


@cache
def _avif_trial(tune: str) -> bytes | None:
    """A small file, None where there is no such tune."""
    try:
        return _save(_SAMPLE, "AVIF", codec="aom", quality=50, **({"advanced": {"tune": tune}} if tune else {}))
    except ValueError:
        return None


def _jpeg2000(name: str, threads: int) -> Peer:
    # without mct the planes are coded as R, G and B, which is Pillow's default
    options: dict[str, Any] = {"irreversible": True, "mct": 1, "quality_mode": "dB"}

    def encode(image: Image.Image, quality: int) -> bytes:
        return _save(image, "JPEG2000", quality_layers=[quality], **options)

    peer = _pillow("JPEG2000", "jpg_2000", tuple(range(24, 47, 2)), **options)(name, threads)
    return replace(peer, encode=encode, saved=None)


def _jpeg_xl(effort: int) -> Callable[[str, int], Peer]:
    def make(name: str, threads: int) -> Peer:
        from pillow_jxl import JpegXLImagePlugin

        JpegXLImagePlugin.DECODE_THREADS = threads

        options = {"effort": effort, "num_threads": threads}

        def encode(image: Image.Image, quality: int) -> bytes:
            return _save(image, "JXL", quality=quality, **options)

        qualities = (5, 15, 30, 45, 60, 70, 80, 90, 95)
        number = f"pillow-jxl-plugin {version('pillow-jxl-plugin')}"
        return Peer(name, number, f"effort {effort}", qualities, encode, _open, ("JXL", options))

    return make


def _mozjpeg(name: str, threads: int) -> Peer:
    plain = {"optimize_coding": True, "interlace": True, "subsample_mode": "on", "keep": "none"}
    # the options that libvips knows only when it was built with mozjpeg
    trellis = {"trellis_quant": True}
    more = {"overshoot_deringing": True, "optimize_scans": True, "quant_table": 3}
    peer = _vips("jpeg", _JPEG_QUALITIES, **plain, **trellis, **more)(name, threads)
    if _vips_save(_SAMPLE, "jpeg", 50, **plain, **trellis) == _vips_save(_SAMPLE, "jpeg", 50, **plain):
        raise ImportError("this libvips was built without mozjpeg")
    return peer


def _jpegli(name: str, threads: int) -> Peer:
    number = tools.version("cjpegli")
    if not number:
        raise ImportError("cjpegli is not installed: libjxl or jpegli brings it along")

    def encode(image: Image.Image, quality: int) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "image.ppm", Path(folder) / "image.jpg"
            image.save(source)
            tools.run("cjpegli", str(source), str(target), "-q", str(quality))
            return target.read_bytes()

    return Peer(name, f"{number}, Pillow {version('pillow')}", "its defaults", _JPEG_QUALITIES, encode, _open)


def _vips(kind: str, qualities: tuple[int, ...], **options: Any) -> Callable[[str, int], Peer]:
    """A maker of a codec as libvips writes it, for options that Pillow lacks."""

    def make(name: str, threads: int) -> Peer:
        import pyvips

        _vips_save(_SAMPLE, kind, 50, **options)  # raises where an option is unknown

        def encode(image: Image.Image, quality: int) -> bytes:
            return _vips_save(image, kind, quality, **options)

        libvips = ".".join(str(pyvips.version(part)) for part in range(3))
        numbers = f"pyvips-binary {version('pyvips-binary')}, libvips {libvips}, Pillow {version('pillow')}"
        return Peer(name, numbers, _text(options), qualities, encode, _open)

    return make


def _vips_save(image: Image.Image, kind: str, quality: int, **options: Any) -> bytes:
    import pyvips

    save = getattr(pyvips.Image.new_from_array(np.asarray(image)), f"{kind}save_buffer")
    data: bytes = save(Q=quality, **options)
    return data


def _pillow(kind: str, library: str, qualities: tuple[int, ...], **options: Any) -> Callable[[str, int], Peer]:
    """A maker of a codec that Pillow brings along."""

    def make(name: str, threads: int) -> Peer:
        number = features.version(library)
        if not number:
            raise ImportError(f"this Pillow was built without {library}")

        def encode(image: Image.Image, quality: int) -> bytes:
            return _save(image, kind, quality=quality, **options)

        numbers = f"Pillow {version('pillow')}, {library} {number}"
        return Peer(name, numbers, _text(options), qualities, encode, _open, (kind, options))

    return make


def _save(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _open(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB")


def _text(options: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in options.items())


_SAMPLE = Image.effect_mandelbrot((64, 64), (-3, -2.5, 2, 2.5), 100).convert("RGB")  # to try what encoders can
_AVIF_TUNES = ("iq", "ssimulacra2", "ssim", "psnr")
_JPEG_QUALITIES = (5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95)
_AVIF_QUALITIES = (1, 10, 20, 30, 40, 50, 60, 70, 80, 90)
_WEBP_QUALITIES = (1, 10, 25, 40, 55, 70, 80, 90, 95)
# libvips counts the other way round: this is speed 4
_AVIF_10 = {"compression": "av1", "encoder": "aom", "effort": 5, "subsample_mode": "off", "bitdepth": 10, "tune": "iq"}

_MAKERS: dict[str, Callable[[str, int], Peer]] = {
    OURS: _ours(0),
    JPEG: _jpeg("4:2:0", True),
    "JPEG 4:2:0, baseline": _jpeg("4:2:0", False),
    "JPEG 4:4:4": _jpeg("4:4:4", True),
    "mozjpeg 4:2:0": _mozjpeg,
    "jpegli": _jpegli,
    WEBP: _pillow("WEBP", "webp", _WEBP_QUALITIES, method=6),
    "WebP, sharp YUV": _vips("webp", _WEBP_QUALITIES, effort=6, smart_subsample=True, keep="none"),
    "JPEG 2000": _jpeg2000,
    AVIF: _avif(6),
    AVIF_SLOW: _avif(4),
    f"{AVIF_SLOW}, tuned for SSIMULACRA 2": _avif(4, "ssimulacra2"),
    f"{AVIF_SLOW}, tuned for PSNR": _avif(4, "psnr"),
    f"{AVIF_SLOW}, 10 bits": _vips("heif", _AVIF_QUALITIES, **_AVIF_10, keep="none"),
    JPEG_XL: _jpeg_xl(7),
    f"{JPEG_XL}, effort 9": _jpeg_xl(9),
    **{name: _ours(level) for level, name in EFFORTS.items()},
}
SLOW = _MAKERS.keys() - ALWAYS - set(EFFORTS.values())
