"""What an image file holds besides what an .aec file keeps: it is named, in every format, and nothing else is."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from aecodec.image import from_any
from aecodec.inventory import look

from .conftest import needs

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
KEPT: dict[str, dict[str, Any]] = {
    "JPEG": {"icc_profile": SRGB, "xmp": XMP, "dpi": (300, 300)},
    "PNG": {"icc_profile": SRGB, "dpi": (300, 300)},
    "WEBP": {"icc_profile": SRGB, "xmp": XMP},
    "AVIF": {"icc_profile": SRGB, "xmp": XMP},
    "TIFF": {"icc_profile": SRGB, "dpi": (300, 300)},
    "BMP": {"dpi": (300, 300)},
    "GIF": {},
    "PPM": {},
    "JPEG2000": {},
}


def saved(image: Image.Image, name: str, **options: Any) -> bytes:
    needs(name)
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def notes(data: bytes) -> tuple[str, ...]:
    with Image.open(io.BytesIO(data)) as image:
        return from_any(image).notes


def segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def png_chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def box(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload) + 8) + kind + payload


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_nothing_is_said_of_what_is_kept(small_image: Image.Image, name: str, mode: str) -> None:
    exif = Image.Exif()
    exif[0x010F] = "camera"
    options = {**KEPT[name], **({"exif": exif} if name in ("JPEG", "PNG", "WEBP", "AVIF") else {})}
    if mode == "L":
        options.pop("icc_profile", None)
    assert notes(saved(small_image.convert(mode), name, **options)) == ()


IPTC = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", 4) + b"\x1c\x02\x78\0"
ADOBE_XMP = b"http://ns.adobe.com/xap/1.0/\0" + XMP


@pytest.mark.parametrize(
    ("more", "note"),
    [
        (segment(0xED, IPTC), "IPTC captions"),
        (segment(0xED, IPTC.replace(b"\x04\x04", b"\x04\x25")), "Photoshop resources"),
        (segment(0xFE, b"by hand"), "comment"),
        (segment(0xE1, ADOBE_XMP) * 2, "another XMP packet"),
        (segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0more"), "APP1 segment http://ns.adobe.com/xmp/extension/"),
        (segment(0xEB, b"JP\0\1"), "APP11 segment JP"),
        (segment(0xE1, b"Exif\0\xffMM"), "APP1 segment Exif"),
        (segment(0xE2, b"ICC_PROFILE\0\1\2one of two"), "unreadable profile"),
    ],
)
def test_segments_of_a_jpeg(small_image: Image.Image, more: bytes, note: str) -> None:
    data = saved(small_image, "JPEG", progressive=True)
    assert notes(data[:2] + more + data[2:]) == (f"{note} left out",)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "PPM"])
def test_what_lies_behind_the_end(small_image: Image.Image, name: str) -> None:
    """The video of a motion photo; zeros are nothing."""
    data = saved(small_image, name)
    assert notes(data + bytes(9)) == ()
    assert notes(data + b"ftypmp42") == ("8 bytes behind the picture's end left out",)


def test_texts_and_chunks_of_a_png(small_image: Image.Image) -> None:
    info = PngInfo()
    info.add_text("Title", "of it")
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    data = saved(small_image, "PNG", pnginfo=info)
    assert notes(data) == ("text Title left out",)
    profiled = saved(small_image, "PNG", icc_profile=SRGB)
    hdr = profiled[:33] + png_chunk(b"cICP", bytes((9, 16, 0, 1))) + profiled[33:]
    assert notes(hdr) == ("chunk cICP left out",)
    assert notes(data[:33] + png_chunk(b"tIME", bytes(7)) + data[33:]) == ("chunk tIME left out", "text Title left out")


def test_of_what_is_kept_a_second_one_is_not(small_image: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x010F] = "camera"
    png, webp = (saved(small_image, name, exif=exif) for name in ("PNG", "WEBP"))
    assert notes(png[:33] + png_chunk(b"eXIf", exif.tobytes()[6:]) + png[33:]) == ("another chunk eXIf left out",)
    webp += struct.pack("<4sI", b"EXIF", 4) + b"MM\0*"
    assert notes(webp[:4] + struct.pack("<I", len(webp) - 8) + webp[8:]) == ("another chunk EXIF left out",)


@pytest.mark.parametrize(
    ("kind", "payload", "note"),
    [
        (b"tEXt", b"XML:com.adobe.xmp\0" + XMP, "text XML:com.adobe.xmp"),
        (b"zTXt", b"XML:com.adobe.xmp\0\0" + zlib.compress(XMP), "text XML:com.adobe.xmp"),
        (b"iCCP", b"broken\0\0" + SRGB, "unreadable profile"),
    ],
)
def test_what_pillow_does_not_read_is_not_kept(
    small_image: Image.Image, kind: bytes, payload: bytes, note: str
) -> None:
    data = saved(small_image, "PNG")
    assert notes(data[:33] + png_chunk(kind, payload) + data[33:]) == (f"{note} left out",)


def test_other_formats(small_image: Image.Image) -> None:
    webp = saved(small_image, "WEBP", icc_profile=SRGB) + b"META\2\0\0\0ab"
    webp = webp[:4] + struct.pack("<I", len(webp) - 8) + webp[8:]
    avif, jp2, ppm = (saved(small_image, name) for name in ("AVIF", "JPEG2000", "PPM"))
    for data, note in (
        (webp, "chunk META"),
        (saved(small_image.quantize(8), "GIF", comment=b"by hand"), "comment"),
        (ppm.replace(b"P6\n", b"P6\n# by hand\n"), "comment"),
        (saved(small_image, "TIFF", tiffinfo={0x8649: b"8BIM"}), "Photoshop resources"),
        (avif + box(b"mpvd", b"a video"), "box mpvd"),
        (avif.replace(b"infe\x02\0\0\0\0\x01\0\0av01Color\0", b"infe\x02\0\0\0\0\x01\0\0tmapColor\0"), "gain map"),
        (jp2 + box(b"uuid", bytes(16)), "box uuid"),
        (saved(small_image, "JPEG2000", comment=b"by hand"), "comment"),
        (saved(small_image, "TGA"), "anything else of the TGA file"),
    ):
        if note == "gain map":  # which no decoder takes for the picture
            assert list(look(data, "AVIF").others) == [note]
        else:
            assert notes(data) == (f"{note} left out",)


@pytest.mark.parametrize("name", [*KEPT, "SGI"])
def test_no_bytes_upset_it(small_image: Image.Image, name: str) -> None:
    """It is Pillow that refuses files."""
    data, random = saved(small_image, name), np.random.default_rng(0)
    for kind in (name, "JPEG", "PPM"):
        for _ in range(200):
            changed = np.frombuffer(data, np.uint8).copy()
            changed[random.integers(0, min(300, len(data)), 3)] = random.integers(0, 256, 3)
            look(changed.tobytes()[: random.integers(0, len(data))], kind)


@pytest.mark.parametrize(("name", "kind"), [("PPM", "P6"), ("PPM", "P5"), ("JPEG2000", "")])
def test_more_than_8_bits(name: str, kind: str) -> None:
    values = np.full((4, 4), 200, ">u2")
    if kind:
        data = f"{kind} 4 4 65535\n".encode() + values.tobytes() * (3 if kind == "P6" else 1)
    else:
        data = saved(Image.fromarray(values.astype(np.uint16)), name)
    with Image.open(io.BytesIO(data)) as image:
        picture = from_any(image)
    assert np.asarray(picture.pixels).max() <= 1
    assert picture.notes == ("16 bits per sample reduced to 8",)


def test_ten_bits_of_an_avif(small_image: Image.Image) -> None:
    data = saved(small_image, "AVIF")
    assert look(data.replace(b"\x03\x08\x08\x08", b"\x03\x0a\x0a\x0a"), "AVIF").bits == 10
