"""Pictures in and out: every mode of Pillow's, alpha, metadata."""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile
from PIL.PngImagePlugin import PngInfo

import aecodec
from aecodec import Codec, ConversionWarning, alpha_plane, profiles
from aecodec.errors import Corrupt
from aecodec.exif import bare, resolution, with_resolution
from aecodec.image import Picture, Plane, from_any, to_pil

from .conftest import needs, psnr
from .test_inventory import SRGB, png_chunk


def reopened(image: Image.Image, name: str, **options: Any) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return Image.open(buffer)


@pytest.mark.parametrize(
    ("mode", "coded", "noted"),
    [
        ("1", "L", False),
        ("L", "L", False),
        ("LA", "LA", False),
        ("P", "RGB", False),
        ("RGB", "RGB", False),
        ("RGBA", "RGBA", False),
        ("RGBX", "RGB", False),
        ("CMYK", "RGB", True),
        ("YCbCr", "RGB", True),
        ("HSV", "RGB", True),
        ("LAB", "RGB", True),
    ],
)
def test_modes(small_image: Image.Image, mode: str, coded: str, noted: bool) -> None:
    # Pillow converts to LAB by profiles only
    picture = from_any(Image.new("LAB", small_image.size) if mode == "LAB" else small_image.convert(mode))
    assert picture.mode == coded
    assert bool(picture.notes) == noted


def test_sixteen_bits_are_reduced() -> None:
    values = np.array([[0, 128, 65535], [257, 32896, 65407]], np.uint16)
    picture = from_any(Image.fromarray(values))
    assert picture.pixels[:, :, 0].tolist() == [[0, 0, 255], [1, 128, 255]]
    assert "16 bits" in picture.notes[0]


def test_dark_sixteen_bits_stay_dark() -> None:
    assert from_any(Image.fromarray(np.full((2, 2), 200, np.uint16))).pixels.max() == 1


def test_floats_are_refused() -> None:
    with pytest.raises(ValueError, match="floating"):
        from_any(Image.new("F", (3, 3)))


def test_palette_with_transparency(small_image: Image.Image) -> None:
    image = small_image.quantize(16)
    picture = from_any(reopened(image, "PNG", transparency=3))
    assert picture.mode == "RGBA"
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha == 0, np.asarray(image) == 3)


def test_cmyk_by_its_profile(small_image: Image.Image) -> None:
    """A profile that is not for CMYK cannot be used: plain conversion, and the profile is not kept."""
    image = small_image.convert("CMYK")
    image.info["icc_profile"] = SRGB
    picture = from_any(image)
    assert "without a profile" in picture.notes[0]
    assert "icc" not in picture.metadata


def test_first_frame_of_an_animation(small_image: Image.Image) -> None:
    image = reopened(small_image, "GIF", save_all=True, append_images=[small_image.rotate(90)])
    assert "first of 2 frames" in from_any(image).notes


def test_metadata_survives(codec: Codec, small_image: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = reopened(small_image, "JPEG", exif=exif, icc_profile=SRGB, xmp=b"<x:xmpmeta/>")
    decoded = codec.decompress(codec.compress(image))
    assert decoded.size == image.size  # the orientation is kept, not applied
    assert decoded.getexif()[0x0112] == 6
    assert decoded.info["icc_profile"] == SRGB
    assert decoded.info["xmp"] == b"<x:xmpmeta/>"


def test_tiff_is_turned_once(small_image: Image.Image) -> None:
    """Pillow turns TIFFs when it loads them; the orientation must not be kept as well."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "camera"
    decoded = to_pil(from_any(reopened(small_image, "TIFF", exif=exif)))
    assert decoded.size == (70, 90)
    assert 0x0112 not in decoded.getexif()
    assert 0x0100 not in decoded.getexif()
    assert decoded.getexif()[0x010F] == "camera"


def test_names_in_a_tiff_are_kept(small_image: Image.Image) -> None:
    """Of the document, of the page: they lie among the tags that say how pixels are stored."""
    exif = from_any(reopened(small_image, "TIFF", tiffinfo={269: "document", 285: "page"})).metadata["exif"]
    assert b"document" in exif
    assert b"page" in exif


def test_unreadable_exif_is_noted(small_image: Image.Image) -> None:
    info = PngInfo()
    info.add_text("Raw profile type exif", "\nexif\n 6\nno hexadecimal digits")
    assert "unreadable EXIF left out" in from_any(reopened(small_image, "PNG", pnginfo=info)).notes


def test_sixteen_bit_colour_is_noted(small: Plane) -> None:
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in small.astype(np.uint16) * 257)
    picture = from_any(Image.open(io.BytesIO(raw_png(small.shape[1], small.shape[0], 2, rows))))
    assert "16 bits" in picture.notes[0]
    np.testing.assert_array_equal(picture.pixels, small)


def test_sixteen_bit_gray_with_alpha_stays_gray() -> None:
    rows = b"".join(b"\0" + np.array([[1000, 65535], [40000, 0]], ">u2").tobytes() for _ in range(2))
    picture = from_any(Image.open(io.BytesIO(raw_png(2, 2, 4, rows))))
    assert picture.mode == "LA"
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[255, 0], [255, 0]]


def test_sixteen_bit_gray_with_a_clear_level() -> None:
    image = Image.fromarray(np.array([[1000, 50000]], np.uint16))
    image.info["transparency"] = 1000
    picture = from_any(image)
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[0, 255]]


def test_sixteen_bit_colour_with_a_clear_one() -> None:
    levels = np.array([[0x1234, 0x3456, 0x5678], [0, 0, 0], [0x3400, 0x5600, 0x7800]], np.uint16)
    data = raw_png(3, 1, 2, b"\0" + levels.astype(">u2").tobytes(), clear=levels[0].astype(">u2").tobytes())
    picture = from_any(Image.open(io.BytesIO(data)))
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[0, 255, 255]]
    assert picture.pixels[0, 1:].tolist() == [[0, 0, 0], [0x34, 0x56, 0x78]]


@pytest.mark.parametrize(("bits", "row", "level"), [(2, 0b00011011, 1), (4, 0x1F, 1)])
def test_gray_of_few_bits_with_a_clear_level(bits: int, row: int, level: int) -> None:
    data = raw_png(8 // bits, 1, 0, bytes((0, row)), clear=struct.pack(">H", level), bits=bits)
    picture = from_any(Image.open(io.BytesIO(data)))
    assert picture.alpha is not None
    samples = [row >> (8 - bits * (n + 1)) & (1 << bits) - 1 for n in range(8 // bits)]
    assert picture.alpha[0].tolist() == [0 if sample == level else 255 for sample in samples]
    assert picture.pixels[0, -1, 0] == 255


def tiff(width: int, rows: list[bytes], **tags: tuple[int, ...]) -> Image.Image:
    """Uncompressed and little-endian, a strip for each of the ``rows``; kinds of it that Pillow does not write."""
    numbers = {"bits": 258, "photometric": 262, "samples": 277, "planar": 284}
    entries = {256: (width,), 257: (1,), 259: (1,), 278: (1,), 279: tuple(map(len, rows)), 273: ()}
    entries |= {numbers[name]: values for name, values in tags.items()}
    data = b"".join(rows)
    starts = [8 + sum(map(len, rows[:n])) for n in range(len(rows))]
    entries[273] = tuple(starts)
    end = 8 + len(data) + 2 + 12 * len(entries) + 4
    head, tail = struct.pack("<H", len(entries)), b""
    for tag, values in sorted(entries.items()):
        packed = struct.pack(f"<{len(values)}I", *values)
        if len(values) > 1:
            packed, tail = struct.pack("<I", end + len(tail)), tail + packed
        head += struct.pack("<HHI", tag, 4, len(values)) + packed
    file = struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + head + bytes(4) + tail
    return Image.open(io.BytesIO(file))


def test_tiffs_that_pillow_takes_for_others() -> None:
    """Twelve bits, white as zero, and planes of sixteen bits."""
    twelve = from_any(tiff(2, [bytes((0x80, 0x0F, 0xFF))], bits=(12,), photometric=(1,), samples=(1,)))
    assert twelve.pixels[0, :, 0].tolist() == [128, 255]
    assert "12 bits" in twelve.notes[0]
    negative = from_any(tiff(2, [struct.pack("<2H", 60000, 0)], bits=(16,), photometric=(0,), samples=(1,)))
    assert negative.pixels[0, :, 0].tolist() == [22, 255]
    planes = [struct.pack("<2H", level, level) for level in (60000, 30000, 1000)]
    with pytest.raises(ValueError, match="separate planes"):
        from_any(tiff(2, planes, bits=(16, 16, 16), photometric=(2,), samples=(3,), planar=(2,)))


def test_an_icon_has_several_pictures(small_image: Image.Image) -> None:
    icon = reopened(small_image.resize((48, 48)), "ICO", sizes=[(16, 16), (48, 48)])
    picture = from_any(icon)
    assert picture.pixels.shape[:2] == (48, 48)
    assert "largest of 2 sizes" in picture.notes


def test_a_page_that_is_whole_before_a_broken_one(small_image: Image.Image) -> None:
    buffer = io.BytesIO()
    small_image.save(buffer, "TIFF", save_all=True, append_images=[small_image])
    data = bytearray(buffer.getvalue())
    second = struct.unpack_from("<I", data, 8 + 2 + 12 * struct.unpack_from("<H", data, 8)[0])[0]
    data[second : second + 40] = bytes(40)
    picture = from_any(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(picture.pixels, np.asarray(small_image))
    assert "some are broken" in picture.notes[0]


def test_sixteen_bits_are_rounded_to_the_nearest() -> None:
    values = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)
    expected = np.round(values / 257).astype(np.uint8)
    np.testing.assert_array_equal(from_any(Image.fromarray(values)).pixels[..., 0], expected)


def test_integers_of_eight_bits_stay_bright() -> None:
    assert from_any(Image.new("L", (3, 3), 250).convert("I")).pixels.min() == 250


def raw_png(width: int, height: int, colour_type: int, rows: bytes, clear: bytes = b"", bits: int = 16) -> bytes:
    """A PNG of as many bits per sample, which Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    chunks = [png_chunk(b"IHDR", header), png_chunk(b"IDAT", zlib.compress(rows)), png_chunk(b"IEND", b"")]
    if clear:
        chunks.insert(1, png_chunk(b"tRNS", clear))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_lossless(codec: Codec, small_image: Image.Image, mode: str) -> None:
    image = small_image.convert(mode)
    alpha = Image.radial_gradient("L").resize(image.size)
    image.putalpha(alpha)
    decoded = codec.decompress(codec.compress(image, 10))
    assert decoded.mode == mode
    np.testing.assert_array_equal(np.asarray(decoded.getchannel("A")), np.asarray(alpha))


def test_hidden_colour_costs_nothing(codec: Codec, photo: Plane) -> None:
    """Noise under alpha 0 is not coded, and what is seen is no worse for it."""
    rows, columns = np.mgrid[:256, :256]
    alpha = (((rows - 128) ** 2 + (columns - 128) ** 2 < 3000) * 255).astype(np.uint8)
    seen = photo[50:306, 100:356]
    noise = np.random.default_rng(0).integers(0, 256, seen.shape).astype(np.uint8)
    noisy = np.where(alpha[:, :, None] > 0, seen, noise)
    noisy_file = codec.compress(np.dstack((noisy, alpha)), 60)
    plain_file = codec.compress(np.dstack((seen, alpha)), 60)
    assert len(noisy_file) == len(plain_file)
    assert len(noisy_file) < 0.5 * len(codec.compress(seen, 60))
    decoded = codec.decompress(noisy_file, "numpy")
    assert psnr(decoded[alpha > 0][:, :3], seen[alpha > 0]) > 30


@pytest.mark.parametrize("alpha", [0, 255])
def test_uniform_alpha(codec: Codec, small: Plane, alpha: int) -> None:
    picture = np.dstack((small, np.full(small.shape[:2], alpha, np.uint8)))
    decoded = codec.decompress(codec.compress(picture), "numpy")
    assert (decoded[:, :, 3] == alpha).all()


def test_alpha_plane_round_trip() -> None:
    plane = np.random.default_rng(1).integers(0, 256, (13, 29)).astype(np.uint8)
    np.testing.assert_array_equal(alpha_plane.decode(alpha_plane.encode(plane), 13, 29), plane)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"junk",
        zlib.compress(bytes(11)),
        zlib.compress(bytes(13)),
        zlib.compress(bytes(10**7)),
        zlib.compress(bytes(12))[:-1],
        zlib.compress(bytes(12)) + b"x",
    ],
)
def test_wrong_alpha_planes_are_refused(payload: bytes) -> None:
    with pytest.raises(Corrupt):
        alpha_plane.decode(payload, 3, 4)


def test_colours_of_five_or_six_bits_are_not_sixteen() -> None:
    """A BMP of one pixel in RGB565, which Pillow calls BGR;16."""
    masks = struct.pack("<3I", 0xF800, 0x07E0, 0x001F)
    header = struct.pack("<IiiHHIIiiII", 40, 1, 1, 1, 16, 3, 4, 0, 0, 0, 0)
    bmp = b"BM" + struct.pack("<IHHI", 70, 0, 0, 66) + header + masks + struct.pack("<HH", 0xF800, 0)
    with Image.open(io.BytesIO(bmp)) as image:
        picture = from_any(image)
    assert picture.notes == ()
    assert np.asarray(picture.pixels).tolist() == [[[255, 0, 0]]]


def test_deep_cmyk_is_converted_as_other_cmyk_is(small_image: Image.Image) -> None:
    cmyk = small_image.convert("CMYK")
    expected = from_any(cmyk)
    row = (np.asarray(cmyk)[0].astype("<u2") * 257).tobytes()
    picture = from_any(tiff(90, [row], bits=(16, 16, 16, 16), photometric=(5,), samples=(4,)))
    np.testing.assert_array_equal(picture.pixels, expected.pixels[:1])
    assert picture.notes == ("16 bits per sample reduced to 8", *expected.notes)


def test_comments_with_the_names_of_metadata(small_image: Image.Image) -> None:
    info, file = PngInfo(), io.BytesIO()
    info.add_text("icc_profile", "sRGB")
    info.add_itxt("exif", "none")
    small_image.save(file, "PNG", pnginfo=info)
    with Image.open(file) as image:
        picture = from_any(image)
    assert "icc" not in picture.metadata
    assert "exif" not in picture.metadata


def twelve_bits() -> Image.Image:
    return tiff(2, [bytes((0x80, 0x0F, 0xFF))], bits=(12,), photometric=(1,), samples=(1,))


def few_bits(bits: int, row: int, level: int) -> Image.Image:
    data = raw_png(8 // bits, 1, 0, bytes((0, row)), clear=struct.pack(">H", level), bits=bits)
    return Image.open(io.BytesIO(data))


def sixteen_bits(colour_type: int, levels: list[int], clear: bytes = b"") -> Image.Image:
    data = raw_png(1, 1, colour_type, struct.pack(f">B{len(levels)}H", 0, *levels), clear=clear)
    return Image.open(io.BytesIO(data))


KINDS = [
    (twelve_bits, "L"),
    (lambda: few_bits(2, 0b00011011, 2), "LA"),
    (lambda: few_bits(4, 0x17, 7), "LA"),
    (lambda: sixteen_bits(2, [0x1234, 0x3456, 0x5678], struct.pack(">3H", 0x1234, 0x3456, 0x5678)), "RGBA"),
    (lambda: sixteen_bits(4, [1000, 40000]), "LA"),
    (lambda: Image.open(io.BytesIO(b"P5 2 1 65535\n\0\xc8\0\xc8")), "L"),
]


@pytest.mark.parametrize(("make", "mode"), KINDS)
@pytest.mark.parametrize("path", [False, True])
def test_a_loaded_picture_is_the_same(make: Callable[[], Image.Image], mode: str, path: bool, tmp_path: Path) -> None:
    """As one that was just opened, from memory or from a file."""

    def opened() -> Image.Image:
        image = make()
        if path:
            assert isinstance(image, ImageFile.ImageFile)
            assert image.fp
            image.fp.seek(0)
            (tmp_path / "x").write_bytes(image.fp.read())
            image = Image.open(tmp_path / "x")
        return image

    with opened() as lazy, opened() as loaded:
        loaded.load()
        expected, found = from_any(lazy), from_any(loaded)
    assert expected.mode == found.mode == mode
    np.testing.assert_array_equal(expected.pixels, found.pixels)
    np.testing.assert_array_equal(expected.alpha, found.alpha)


@pytest.mark.parametrize(("make", "mode"), KINDS[1:4])
def test_a_copy_has_the_same_clear_level(make: Callable[[], Image.Image], mode: str) -> None:
    expected, found = from_any(make()), from_any(make().copy())
    assert found.mode == mode
    np.testing.assert_array_equal(expected.alpha, found.alpha)


def test_what_was_painted_on_a_loaded_picture_stays() -> None:
    image = sixteen_bits(4, [1000, 40000])
    image.load()
    image.putpixel((0, 0), (255, 0, 0, 255))
    assert from_any(image).pixels.tolist() == [[[255, 0, 0]]]


def test_a_clear_level_of_eight_bits_stays() -> None:
    data = raw_png(2, 1, 0, bytes((0, 3, 255)), clear=b"\0\3", bits=8)
    for image in (Image.open(io.BytesIO(data)), Image.open(io.BytesIO(data)).copy()):
        alpha = from_any(image).alpha
        assert alpha is not None
        assert alpha.tolist() == [[0, 255]]


def test_a_palette_with_alpha(small_image: Image.Image) -> None:
    image = small_image.convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    palette = image.quantize(16)
    picture = from_any(palette)
    assert picture.mode == "RGBA"
    np.testing.assert_array_equal(picture.alpha, np.asarray(palette.convert("RGBA"))[:, :, 3])


def photograph(small_image: Image.Image) -> Image.Image:
    """A JPEG whose EXIF names a camera and a place, with a block that Pillow does not write by itself."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "camera", 6
    exif[0x8825] = {1: "N"}
    return reopened(small_image, "JPEG", exif=exif.tobytes() + b"thumbnail")


def kept_exif(image: Image.Image) -> Image.Exif:
    found = Image.Exif()
    found.load(b"Exif\0\0" + from_any(image).metadata.get("exif", b"MM\0*\0\0\0\x08\0\0\0\0\0\0"))
    return found


def test_exif_that_was_not_edited_is_kept_to_the_byte(small_image: Image.Image) -> None:
    image = photograph(small_image)
    image.getexif().get_ifd(0x8825)  # to look is not to edit
    assert from_any(image).metadata["exif"] == image.info["exif"][6:]
    assert from_any(image).metadata["exif"].endswith(b"thumbnail")


@pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("looked", [False, True])
def test_exif_that_was_removed_does_not_come_back(small_image: Image.Image, name: str, looked: bool) -> None:
    image = reopened(small_image, name, exif=photograph(small_image).getexif())
    exif = image.getexif()
    if looked:
        exif.get_ifd(0x8825)
    del exif[0x8825]
    exif[0x010F] = "another"
    found = kept_exif(image)
    assert found[0x010F] == "another"
    assert not found.get_ifd(0x8825)


def test_values_that_were_removed_below_a_tag(small_image: Image.Image) -> None:
    image = photograph(small_image)
    image.getexif().get_ifd(0x8825).clear()
    assert b"N\0" not in from_any(image).metadata["exif"]
    assert kept_exif(image)[0x010F] == "camera"


def test_a_block_that_was_taken_out_or_replaced(small_image: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x010F] = "another"
    for block, kept in ((None, {}), (exif.tobytes(), {0x010F: "another"})):
        image = photograph(small_image)
        image.getexif()
        del image.info["exif"]
        if block:
            image.info["exif"] = block
        assert dict(kept_exif(image)) == kept


@pytest.mark.parametrize(
    ("pixels", "profile", "kept"),
    [("RGB", "RGB ", True), ("RGB", "CMYK", False), ("RGB", "GRAY", False), ("L", "RGB ", False), ("L", "GRAY", True)],
)
def test_a_profile_of_another_space_is_left_out(
    small_image: Image.Image, pixels: str, profile: str, kept: bool
) -> None:
    icc = SRGB[:16] + profile.encode() + SRGB[20:]
    picture = from_any(reopened(small_image.convert(pixels), "JPEG", icc_profile=icc))
    assert ("icc" in picture.metadata) is kept
    assert bool(picture.notes) is not kept
    converted = small_image.convert("CMYK")
    converted.info["icc_profile"] = SRGB[:16] + b"CMYK" + SRGB[20:]
    assert "icc" not in from_any(converted.convert(pixels)).metadata


def in_srgb(picture: Picture) -> Plane:
    """What a program shows that knows profiles."""
    return np.asarray(profiles.to_srgb(to_pil(picture), picture.metadata["icc"]))


def chunks(*added: tuple[bytes, bytes], colour_type: int = 2, level: int = 128) -> Picture:
    """A PNG of one gray pixel with these chunks."""
    samples = 3 if colour_type == 2 else 1
    data = raw_png(1, 1, colour_type, bytes([0, *[level] * samples]), bits=8)
    return from_any(Image.open(io.BytesIO(data[:33] + b"".join(png_chunk(*each) for each in added) + data[33:])))


BT709 = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
BT2020 = struct.pack(">8I", 31270, 32900, 70800, 29200, 17000, 79700, 13100, 4600)


@pytest.mark.parametrize("colour_type", [0, 2])
def test_a_gamma_becomes_a_profile(colour_type: int) -> None:
    linear = in_srgb(chunks((b"gAMA", struct.pack(">I", 100000)), colour_type=colour_type))
    np.testing.assert_allclose(linear.ravel(), round(255 * (1.055 * (128 / 255) ** (1 / 2.4) - 0.055)), atol=1)


def test_primaries_become_a_profile() -> None:
    """Gray is gray whatever they are; red of a wide space is beyond sRGB's, so that a mild one gets stronger."""
    for added in ((b"cHRM", BT2020), (b"cICP", bytes((9, 13, 0, 1)))):
        picture = chunks(added)
        np.testing.assert_allclose(in_srgb(picture).ravel(), 128, atol=1)
        mild = replace(picture, pixels=np.array([[[150, 100, 100]]], np.uint8), equal_colours=False)
        assert in_srgb(mild).ravel()[0] > 155
        assert in_srgb(mild).ravel()[1] < 97


def test_what_stands_for_srgb_needs_no_profile() -> None:
    near = struct.pack(">I", 45455)
    for added in (
        [(b"gAMA", near)],
        [(b"gAMA", near), (b"cHRM", BT709)],
        [(b"cHRM", BT709)],
        [(b"sRGB", b"\0"), (b"gAMA", near), (b"cHRM", BT2020)],
        [(b"cICP", bytes((1, 13, 0, 1)))],
    ):
        picture = chunks(*added)
        assert (picture.metadata, picture.notes) == ({}, ())


@pytest.mark.parametrize(
    ("added", "note"),
    [
        ((b"cICP", bytes((9, 16, 0, 1))), "colours left out: primaries 9, transfer 16 of H.273"),
        ((b"gAMA", bytes(4)), "colours left out: a gamma of 0.0"),
        ((b"cHRM", bytes(32)), "colours left out: primaries that make no space of colours"),
    ],
)
def test_colours_that_no_profile_describes_are_noted(added: tuple[bytes, bytes], note: str) -> None:
    picture = chunks(added)
    assert "icc" not in picture.metadata
    assert picture.notes == (note,)


def test_colours_of_an_avif(small_image: Image.Image) -> None:
    needs("AVIF")
    buffer = io.BytesIO()
    small_image.save(buffer, "AVIF")
    data = buffer.getvalue()
    assert "icc" not in from_any(Image.open(io.BytesIO(data))).metadata
    wide = data.replace(b"nclx\0\x01\0\x0d", b"nclx\0\x0c\0\x0d")
    assert profiles.space(from_any(Image.open(io.BytesIO(wide))).metadata["icc"]) == "RGB"


@pytest.mark.parametrize("name", ["JPEG", "PNG", "BMP", "TIFF"])
def test_resolution_becomes_exif(codec: Codec, small_image: Image.Image, name: str) -> None:
    decoded = codec.decompress(codec.compress(reopened(small_image, name, dpi=(300, 150))))
    assert decoded.info["dpi"] == pytest.approx((300, 150), abs=0.1)
    assert "dpi" not in codec.decompress(codec.compress(small_image)).info


@pytest.mark.parametrize("order", ["<", ">"])
def test_resolution_is_added_to_exif_without_moving_it(order: str) -> None:
    exif = Image.Exif()
    exif.endian = order
    exif[0x010F] = "camera of a long name"
    exif[0x8825] = {1: "N"}
    block = bare(exif)
    more = with_resolution(block, (300, 72.5))
    assert more[8 : len(block)] == block[8:]
    found = Image.Exif()
    found.load(b"Exif\0\0" + more)
    assert (found[0x010F], found.get_ifd(0x8825)[1], resolution(more)) == ("camera of a long name", "N", (300, 72.5))


def test_what_pillow_makes_up_is_no_resolution(small_image: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x010F] = "camera"
    image = reopened(small_image, "JPEG", exif=exif)
    assert image.info["dpi"] == (72, 72)
    assert from_any(image).metadata["exif"] == bare(exif)
    assert "exif" not in from_any(twelve_bits()).metadata


def test_pixels_that_are_not_square_are_noted(small_image: Image.Image) -> None:
    assert "shape" in chunks((b"pHYs", struct.pack(">IIB", 2, 1, 0))).notes[0]
    assert chunks((b"pHYs", struct.pack(">IIB", 1, 1, 0))).notes == ()
    data = io.BytesIO()
    small_image.save(data, "JPEG")
    wide = data.getvalue().replace(b"JFIF\0\1\1\0\0\1\0\1", b"JFIF\0\1\1\0\0\2\0\1")
    assert "shape" in from_any(Image.open(io.BytesIO(wide))).notes[0]


def test_profiles_that_pillow_does_not_read(small_image: Image.Image) -> None:
    data = io.BytesIO()
    small_image.save(data, "JPEG2000")
    jp2 = data.getvalue()
    colours = struct.pack(">I", 11 + len(SRGB)) + b"colr\2\0\0" + SRGB
    at = jp2.index(b"\0\0\0\x0fcolr")
    start = jp2.index(b"jp2h") - 4
    jp2 = jp2[:start] + struct.pack(">I", at - start + len(colours)) + jp2[start + 4 : at] + colours + jp2[at + 15 :]
    rows = np.asarray(small_image)[::-1, :88, ::-1].tobytes()
    sizes = struct.pack("<IiiHHII4I", 124, 88, 70, 1, 24, 0, len(rows), 0, 0, 0, 0)
    header = (sizes.ljust(56, b"\0") + b"DEBM").ljust(112, b"\0") + struct.pack("<III", 124 + len(rows), len(SRGB), 0)
    bmp = b"BM" + struct.pack("<III", 138 + len(rows + SRGB), 0, 138) + header + rows + SRGB
    for file in (jp2, bmp):
        picture = from_any(Image.open(io.BytesIO(file)))
        assert picture.metadata["icc"] == SRGB
        assert picture.notes == ()
    np.testing.assert_array_equal(picture.pixels, np.asarray(small_image)[:, :88])


def test_the_library_warns_where_something_is_lost(codec: Codec, small_image: Image.Image) -> None:
    for compress in (codec.compress, aecodec.compress):
        with pytest.warns(ConversionWarning, match="16 bits per sample reduced to 8") as found:
            compress(Image.fromarray(np.zeros((4, 4), np.uint16)))
        assert found[0].filename == __file__
