"""ICC profiles: which pixels one is for, made of colours that a file describes otherwise, and applied to give sRGB."""

import io
import struct

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

Curve = tuple[float, ...]  # of ICC's parametric curves: an exponent, or that and a, b, c, d
Point = tuple[float, float]  # x and y of CIE 1931

SRGB_CURVE: Curve = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
VIDEO_CURVE: Curve = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
D65 = (0.3127, 0.329)
SRGB_POINTS: tuple[Point, ...] = (D65, (0.64, 0.33), (0.3, 0.6), (0.15, 0.06))  # white, red, green, blue

# The numbers of ITU-T H.273
_POINTS: dict[int, tuple[Point, ...]] = {
    1: SRGB_POINTS,
    4: ((0.31, 0.316), (0.67, 0.33), (0.21, 0.71), (0.14, 0.08)),
    5: (D65, (0.64, 0.33), (0.29, 0.6), (0.15, 0.06)),
    6: (D65, (0.63, 0.34), (0.31, 0.595), (0.155, 0.07)),
    7: (D65, (0.63, 0.34), (0.31, 0.595), (0.155, 0.07)),
    9: (D65, (0.708, 0.292), (0.17, 0.797), (0.131, 0.046)),
    11: ((0.314, 0.351), (0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
    12: (D65, (0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
}
_CURVES: dict[int, Curve] = {
    1: VIDEO_CURVE,
    4: (2.2,),
    5: (2.8,),
    6: VIDEO_CURVE,
    8: (1.0,),
    13: SRGB_CURVE,
    14: VIDEO_CURVE,
    15: VIDEO_CURVE,
}
_UNSPECIFIED = 2

_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def space(profile: bytes) -> str:
    """The colour space of the pixels that a profile is for, as ICC calls it: ``RGB``, ``GRAY``, ``CMYK``..."""
    return profile[16:20].decode("latin-1").strip()


def fits(profile: bytes, gray: bool) -> bool:
    """Whether a profile is for gray or RGB pixels. Bytes that are no profile do not tell, and are kept as they are."""
    return profile[36:40] != b"acsp" or space(profile) == ("GRAY" if gray else "RGB")


def of_h273(primaries: int, transfer: int, gray: bool) -> bytes:
    """A profile for colours as ITU-T H.273 numbers them; empty for sRGB, and where the numbers leave them open.

    Raises KeyError for colours that a display profile cannot describe, such as PQ and HLG.
    """
    points = SRGB_POINTS if primaries == _UNSPECIFIED else _POINTS[primaries]
    curve = SRGB_CURVE if transfer == _UNSPECIFIED else _CURVES[transfer]
    return b"" if curve == SRGB_CURVE and (gray or points == SRGB_POINTS) else make(points, curve, gray)


def of_png(gamma: float, points: tuple[Point, ...], gray: bool) -> bytes:
    """A profile for a PNG's gAMA and cHRM; empty where they are those of sRGB, whose curve a gamma only comes near.

    Raises ValueError for numbers that describe no colours.
    """
    near = abs(gamma - 1 / 2.2) < 0.002
    if near and (gray or np.allclose(points, SRGB_POINTS, atol=0.002)):
        return b""
    if not 0.1 <= gamma <= 10:
        raise ValueError(f"a gamma of {gamma}")
    return make(points, SRGB_CURVE if near else (1 / gamma,), gray)


def make(points: tuple[Point, ...], curve: Curve, gray: bool) -> bytes:
    """An ICC profile of version 4.3. ``points``: white, red, green, blue. Raises ValueError if they span no space."""
    kind = struct.pack(">4s4xHxx", b"para", 3 if len(curve) > 1 else 0) + _fixed(curve)
    parts = {b"desc": _text("RGB"), b"cprt": _text("CC0"), b"wtpt": b"XYZ \0\0\0\0" + _fixed(_D50)}
    if gray:
        parts[b"kTRC"] = kind
    else:
        matrix, adaptation = _to_d50(points)
        parts[b"chad"] = b"sf32\0\0\0\0" + _fixed(adaptation.ravel())
        for letter, column in zip("rgb", matrix.T, strict=True):
            parts[f"{letter}XYZ".encode()] = b"XYZ \0\0\0\0" + _fixed(column)
            parts[f"{letter}TRC".encode()] = kind
    table, body = struct.pack(">I", len(parts)), b""
    start = 128 + 4 + 12 * len(parts)
    for name, part in parts.items():
        table += struct.pack(">4sII", name, start + len(body), len(part))
        body += part + bytes(-len(part) % 4)
    head = struct.pack(">I4xI4s4s4s", start + len(body), 0x04300000, b"mntr", b"GRAY" if gray else b"RGB ", b"XYZ ")
    head += struct.pack(">6H4s28x", 2000, 1, 1, 0, 0, 0, b"acsp") + _fixed(_D50)
    return head.ljust(128, b"\0") + table + body


def _to_d50(points: tuple[Point, ...]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Matrices from RGB to XYZ under D50, and from the white to D50."""
    white, *colours = (np.array([x / y, 1, (1 - x - y) / y]) if y > 0 else np.full(3, np.nan) for x, y in points)
    try:
        primaries = np.stack(colours, 1)
        primaries = primaries * np.linalg.solve(primaries, white)
        cones = (_BRADFORD @ _D50) / (_BRADFORD @ white)
        adaptation = np.linalg.inv(_BRADFORD) @ (cones[:, None] * _BRADFORD)
        matrix = adaptation @ primaries
    except np.linalg.LinAlgError:
        matrix = np.full((3, 3), np.nan)
    if not (np.abs(matrix) < 100).all():
        raise ValueError("primaries that make no space of colours")
    return matrix, adaptation


def _fixed(numbers: "npt.ArrayLike") -> bytes:
    return np.round(np.asarray(numbers, np.float64) * 65536).astype(">i4").tobytes()


def _text(text: str) -> bytes:
    encoded = text.encode("utf-16-be")
    return struct.pack(">4s4xII2s2sII", b"mluc", 1, 12, b"en", b"US", len(encoded), 28) + encoded


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """An image of mode L, RGB or CMYK as sRGB; gray stays gray. Raises `ImageCms.PyCMSError` for an unfit profile."""
    gray = image.mode == "L"
    target = ImageCms.ImageCmsProfile(io.BytesIO(make(SRGB_POINTS, SRGB_CURVE, gray)))
    converted = ImageCms.profileToProfile(image, io.BytesIO(profile), target, outputMode="L" if gray else "RGB")
    assert converted is not None  # as it is not done in place
    return converted
