"""What the commands do with the bytes of one file, wherever these lie: bytes in, bytes out, and what is said of it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from . import container, files, formats, roi, targets
from .arguments import Progress, Rectangle
from .batch import Done, size
from .codec import Codec
from .container import DEFAULT_QUALITY
from .errors import AecError, TargetMissed
from .image import Picture, stripped


@dataclass(frozen=True)
class Compression:
    """An image file becomes an .aec file; the arguments are those of `Codec.compress` and `Codec.compress_to`.

    ``target`` is the name and the number of a target in place of the quality; with ``strict``, one that is missed
    raises `TargetMissed`. ``strip`` leaves out EXIF and XMP. Pickles as its arguments.
    """

    codec: Codec
    quality: int = DEFAULT_QUALITY
    target: tuple[str, float] | None = None
    regions: Sequence[roi.Region] = ()
    effort: int = 0
    thumbnail: bool = False
    strip: bool = False
    strict: bool = False

    def __call__(self, data: bytes, name: str) -> tuple[bytes, Done]:
        return self.encode(self.open(data), len(data))

    def open(self, data: bytes) -> Picture:
        """The picture of an image file, as it is to be coded."""
        opened = files.open_picture(data, self.codec.max_pixels)
        return opened.stripped() if self.strip else opened

    def encode(self, picture: Picture, before: int, advance: Progress | None = None) -> tuple[bytes, Done]:
        """The .aec file; ``before`` is how many bytes the image file has, which need not be kept for so long."""
        codec, reached, missed = self.codec, dict[str, float](), ""
        height, width, _ = picture.pixels.shape
        offsets = roi.offsets(self.regions, height, width) if self.regions else None
        if self.target:
            coded, scores, missed = codec._reach(picture, *self.target, offsets, self.effort, self.thumbnail, advance)
            if missed and self.strict:
                raise TargetMissed(missed, coded)
            quality = container.read_header(coded, codec.max_pixels).quality
            reached = {"quality": quality, "bpp": len(coded) * 8 / (width * height), **scores}
        else:
            coded = codec.compress(
                picture, self.quality, roi=offsets, effort=self.effort, thumbnail=self.thumbnail, progress=advance
            )
        bpp = len(coded) * 8 / (width * height)
        notes = [*picture.notes, *(["larger than its source"] if len(coded) > before else [])]
        text = f"{size(before)} -> {size(len(coded))}  {bpp:.3f} bpp{_in_words(reached)}{_in_brackets(notes)}"
        return coded, Done(before, len(coded), width, height, text, notes, missed, reached, bool(picture.notes))

    def differs(self, open_file: Callable[[], BinaryIO]) -> str:
        """How an .aec file that exists is not what was asked for, if its start tells; else nothing."""
        try:
            with open_file() as file:
                header, metadata = container.read_start(file)
        except (OSError, AecError) as error:
            return f"which cannot be read: {error}"
        if header.model != self.codec.model.id:
            return "made with other weights"
        if self.strip and metadata != stripped(metadata):
            return "made without --strip"
        if self.target or self.regions or header.quality == self.quality:  # the former no file tells
            return ""
        return f"made with quality {header.quality} in place of {self.quality}"


@dataclass(frozen=True)
class Decompression:
    """An .aec file becomes an image file of the format that the name says; see `Codec.decompress`.

    ``preview``: what comes is the beginning of a file; ``salvage``: decode what there is of a damaged one.
    """

    codec: Codec
    suffix: str | None = None  # of the format, where no name says it
    quality: int | None = None
    small: bool = False
    region: Rectangle | None = None
    scale: float = 1
    preview: bool = False
    salvage: bool = False

    def __call__(self, data: bytes, name: str) -> tuple[bytes, Done]:
        damage = ""
        if self.salvage:
            image, damage = self.codec.salvage(data, region=self.region, scale=self.scale)
        elif self.preview:
            image = self.codec.preview(data, region=self.region, scale=self.scale)
        else:
            image = self.codec.decompress(data, region=self.region, scale=self.scale)
        known = formats.image_format(Path(name), self.suffix)
        image, changed = formats.fit(image, known)
        encoded, left_out = formats.encode_picture(image, known, self.quality, self.small)
        notes = [*([damage] if damage else []), *changed, *left_out]
        text = f"{size(len(data))}  {image.width}x{image.height} {image.mode}{_in_brackets(notes)}"
        return encoded, Done(len(data), len(encoded), image.width, image.height, text, notes)


@dataclass(frozen=True)
class Verification:
    """Every checksum and every symbol of an .aec file is checked; nothing is written."""

    codec: Codec

    def __call__(self, data: bytes, name: str) -> tuple[bytes, Done]:
        h = self.codec.verify(data)
        return b"", Done(len(data), 0, h.width, h.height, f"ok  {h.width}x{h.height} {h.mode}")


def _in_words(reached: Mapping[str, float]) -> str:
    """The quality and the score that a target led to."""
    words = {"quality": "quality {}", **{name: scale.words for name, scale in targets.SCALES.items()}}
    said = [words[name].format(value) for name, value in reached.items() if name in words]
    return f"  {', '.join(said)}" if said else ""


def _in_brackets(notes: Iterable[str]) -> str:
    return "".join(f"  ({note})" for note in notes)
