"""As Pillow tests its own plugins: sanity, modes, metadata, drafts, invalid and truncated files."""

import io
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, ImageFile, UnidentifiedImageError

import aecodec
from aecodec import Codec, container
from aecodec.image import Plane

from .conftest import GOLDEN, psnr
from .make_corrupt import chunk

aecodec.register_pillow()
CORRUPT = Path(__file__).parent / "corrupt"


@pytest.fixture
def saved(small_image: Image.Image) -> bytes:
    return save(small_image, quality=60)


@pytest.fixture
def truncated_are_loaded() -> Iterator[None]:
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    yield
    ImageFile.LOAD_TRUNCATED_IMAGES = False


def save(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "AEC", **options)
    return file.getvalue()


def reopened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_sanity(tmp_path: Path, small_image: Image.Image, codec: Codec) -> None:
    path = tmp_path / "picture.aec"
    small_image.save(path, quality=60, effort=1)
    with Image.open(path) as image:
        assert (image.format, image.mode, image.size) == ("AEC", "RGB", small_image.size)
        assert image.get_format_mimetype() == "image/x-aec"
        assert image.tobytes() == codec.decompress(path.read_bytes()).tobytes()
        image.load()  # again
    assert path.read_bytes() == codec.compress(small_image, 60, effort=1)


def test_options_are_used(saved: bytes, small_image: Image.Image) -> None:
    assert saved == save(small_image, quality=60)
    assert len(save(small_image, quality=90)) > len(saved) > len(save(small_image))
    assert save(small_image, effort=2) != save(small_image)
    with pytest.raises(ValueError, match="quality 101"):
        save(small_image, quality=101)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_modes(small_image: Image.Image, mode: str) -> None:
    with reopened(save(small_image.convert(mode))) as image:
        assert image.mode == mode
        assert psnr(np.asarray(image.convert("RGB")), np.asarray(small_image.convert(mode).convert("RGB"))) > 25


@pytest.mark.parametrize(("mode", "becomes"), [("1", "L"), ("P", "RGB"), ("CMYK", "RGB"), ("I;16", "L")])
def test_other_modes_are_converted(small_image: Image.Image, mode: str, becomes: str) -> None:
    source = small_image.convert("L").convert(mode) if mode == "I;16" else small_image.convert(mode)
    noted = {"CMYK": "without a profile", "I;16": "16 bits"}
    with pytest.warns(aecodec.ConversionWarning, match=noted[mode]) if mode in noted else nullcontext():
        data = save(source)
    assert reopened(data).mode == becomes


def test_mode_that_cannot_be_written(tmp_path: Path, small_image: Image.Image) -> None:
    with pytest.raises(OSError, match="cannot write mode F as AEC"):
        small_image.convert("F").save(tmp_path / "f.aec")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_same_pixels_as_the_codec(codec: Codec, path: Path) -> None:
    with Image.open(path) as image:
        image.load()
        assert image.tobytes() == codec.decompress(path.read_bytes()).tobytes()


def test_metadata(small_image: Image.Image) -> None:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "maker"
    data = save(small_image, icc_profile=icc, exif=exif, xmp=b"<x/>", dpi=(300, 150))
    with reopened(data) as image:
        assert image.info["icc_profile"] == icc
        assert image.info["xmp"] == b"<x/>"
        assert image.info["dpi"] == (300, 150)
        assert image.getexif()[ExifTags.Base.Make] == "maker"
        again = save(image)
    with reopened(again) as image:  # as Pillow's formats do it: the profile alone goes on by itself
        assert image.info["icc_profile"] == icc
        assert not {"exif", "xmp", "dpi"} & set(image.info)


def test_broken_exif_does_not_matter(small_image: Image.Image) -> None:
    with reopened(save(small_image, exif=b"no exif at all")) as image:
        image.load()
        assert "dpi" not in image.info


@pytest.mark.parametrize(("size", "shrink"), [((20, 20), 2), ((9, 9), 4), ((5, 5), 8), ((90, 70), 1), ((200, 200), 1)])
def test_draft(saved: bytes, codec: Codec, size: tuple[int, int], shrink: int) -> None:
    with reopened(saved) as image:
        assert image.size == (90, 70)
        image.draft(None, size)
        assert image.size == (-(-90 // shrink), -(-70 // shrink))
        assert image.tobytes() == codec.decompress(saved, scale=1 / shrink).tobytes()


def test_thumbnail(photo: Plane) -> None:
    with reopened(save(Image.fromarray(photo))) as image:
        image.thumbnail((40, 40))
        assert image.size == (40, 40)
        expected = Image.fromarray(photo).resize((40, 40), Image.Resampling.BICUBIC)
        assert psnr(np.asarray(image), np.asarray(expected)) > 28


def test_verify(saved: bytes) -> None:
    reopened(saved).verify()
    with pytest.raises(OSError, match="CRC-32"):
        reopened(saved[:-30] + bytes(4) + saved[-26:]).verify()
    with pytest.raises(OSError, match="truncated"):
        reopened(saved[:-1]).verify()
    image = reopened(saved)
    image.verify()
    with pytest.raises(RuntimeError, match="directly after open"):  # as of PNG
        image.verify()


@pytest.mark.parametrize("end", [0, 5, 20, 39])
def test_without_a_header_it_is_not_identified(saved: bytes, end: int) -> None:
    with pytest.raises(UnidentifiedImageError):
        reopened(saved[:end])


def test_truncated(saved: bytes) -> None:
    with reopened(saved[:-20]) as image:
        assert image.size == (90, 70)
        with pytest.raises(OSError, match="truncated"):
            image.load()


@pytest.mark.usefixtures("truncated_are_loaded")
def test_truncated_as_far_as_it_goes(saved: bytes, small: Plane) -> None:
    with reopened(saved[: len(saved) * 2 // 3]) as image:
        assert psnr(np.asarray(image), small) > 15


def test_odd_chunks_do_not_matter_to_open(saved: bytes) -> None:
    """They do to load."""
    for kind in (b"A\xff\xff\xff", b"1234", b"a\xff\xff\xff", b"NEWS"):
        data = saved[: container.FIRST_CHUNK] + chunk(kind, b"what?") + saved[container.FIRST_CHUNK :]
        with reopened(data) as image:
            assert image.size == (90, 70)
            with pytest.raises(OSError, match="chunk"):
                image.load()


@pytest.mark.usefixtures("truncated_are_loaded")
def test_damaged_metadata_hides_no_picture(small_image: Image.Image, codec: Codec) -> None:
    data = bytearray(save(small_image, icc_profile=bytes(200)))
    data[container.FIRST_CHUNK + 50] ^= 1
    with reopened(bytes(data)) as image:
        assert image.tobytes() == codec.preview(bytes(data)).tobytes()


def test_exif_that_dpi_cannot_be_added_to(small_image: Image.Image) -> None:
    with pytest.raises(OSError, match="exif"):
        save(small_image, exif=b"no exif at all", dpi=(72, 72))


@pytest.mark.parametrize("path", sorted(CORRUPT.glob("*.aec")), ids=lambda path: path.stem)
def test_corrupt(path: Path) -> None:
    # UnidentifiedImageError is an OSError
    with pytest.raises((OSError, Image.DecompressionBombError)), Image.open(path) as image:
        image.load()


def test_file_object_stays_open(saved: bytes) -> None:
    file = io.BytesIO(saved)
    with Image.open(file) as image:
        image.load()
    assert not file.closed


def test_opening_imports_no_torch(tmp_path: Path, saved: bytes) -> None:
    (tmp_path / "picture.aec").write_bytes(saved)
    program = (
        "import sys, aecodec; assert 'PIL' not in sys.modules; aecodec.register_pillow(); from PIL import Image;"
        "image = Image.open('picture.aec'); assert image.size == (90, 70); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)


def test_thumbnail_of_the_file(photo: Plane, codec: Codec) -> None:
    """Loading small reads it; opening shows nothing of it."""
    data = save(Image.fromarray(photo), thumbnail=True)
    with reopened(data) as image:
        assert not image.info
        image.draft(None, (64, 64))
        assert image.tobytes() == codec.decompress(data, scale=1 / 8).tobytes()
    parsed = container.read(data)
    assert len(container.thumbnail(parsed.header, parsed.metadata["thumbnail"]).tiles) == 1


def test_other_libraries_read_through_pillow(tmp_path: Path, saved: bytes, codec: Codec) -> None:
    imageio = pytest.importorskip("imageio.v3")
    skimage = pytest.importorskip("skimage.io")
    path = tmp_path / "picture.aec"
    path.write_bytes(saved)
    expected = codec.decompress(saved, "numpy")
    np.testing.assert_array_equal(imageio.imread(path, plugin="pillow"), expected)
    np.testing.assert_array_equal(skimage.imread(path), expected)
