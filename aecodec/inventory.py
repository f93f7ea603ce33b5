"""What an image file holds that Pillow does not tell: bits per sample, colours, and what no .aec file carries.

The structure of a file is walked and every part of it is either known to be kept, or only says how pixels are stored,
or is named. So what nobody has thought of is named too.
"""

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd8]")  # those with a length, and the end
_JPEG_KEPT = ((0xE1, b"Exif\0\0"), (0xE2, b"ICC_PROFILE\0"), (0xE2, b"MPF\0"), (0xEE, b"Adobe"))
_PNG_STORAGE = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"sBIT", b"iDOT", b"acTL", b"fcTL", b"fdAT"}
_PNG_KEPT = {b"iCCP", b"eXIf", b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"cICP"}
_WEBP_STORAGE = {b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF"}
_WEBP_KEPT = {b"ICCP", b"EXIF", b"XMP "}
_HEIF_BOXES = {b"ftyp", b"meta", b"mdat", b"moov", b"free", b"skip"}
_HEIF_ITEMS = {b"av01", b"hvc1", b"grid", b"iden"}
_JP2_BOXES = {b"jP  ", b"ftyp", b"jp2h", b"jp2c"}

Data = memoryview


@dataclass
class Inventory:
    """``colours``: primaries and transfer characteristics as ITU-T H.273 numbers them, None if they are not told."""

    bits: int = 0  # of each sample, 0 if that is not known
    gray: bool = False  # a PNG that has no colours
    colours: tuple[int, int] | None = None
    profile: bytes = b""  # ICC
    others: dict[str, None] = field(default_factory=dict)  # in words, in order; what is kept nowhere
    kept: set[str] = field(default_factory=set)

    def name(self, other: str) -> None:
        self.others[other] = None

    def keep(self, part: str) -> None:
        """Note a part that is kept. Of several of a kind that is one; the others are named."""
        if part in self.kept:
            self.name(f"another {part}")
        self.kept.add(part)


def look(data: bytes, kind: str | None) -> Inventory:
    """Walk the bytes of a file of Pillow's format ``kind``. Whatever they are, nothing is raised."""
    found = Inventory()
    if data and kind not in ("AEC", "TIFF"):  # of which Pillow tells everything
        try:
            end = _WALKERS[kind or ""](memoryview(data), found)
        except KeyError:
            found.name(f"anything else of the {kind} file")
        except (IndexError, ValueError, struct.error):
            found.name("parts that are not understood")
        else:
            behind = len(data[end:].rstrip(b"\0"))
            if behind:
                found.name(f"{behind} bytes behind the picture's end")
    return found


def _jpeg(data: Data, found: Inventory) -> int:
    position = 2
    while match := _JPEG_MARKER.search(data, position):
        marker, position = data[match.end() - 1], match.end()
        if marker == 0xD9:
            return position
        length = int.from_bytes(data[position : position + 2])
        body = bytes(data[position + 2 : position + length])
        position += length
        label = body.split(b"\0")[0].decode("latin-1")
        if marker == 0xFE:
            found.name("comment")
        elif marker == 0xED and label == "Photoshop 3.0":
            found.name("IPTC captions" if b"8BIM\x04\x04" in body else "Photoshop resources")
        elif marker == 0xE1 and label == "http://ns.adobe.com/xap/1.0/":
            found.keep("XMP packet")
        elif marker == 0xE0 and label == "JFIF":
            if any(body[12:14]):
                found.name("JFIF thumbnail")
        elif 0xE0 <= marker <= 0xEF and not any(marker == m and body.startswith(start) for m, start in _JPEG_KEPT):
            found.name(f"APP{marker - 0xE0} segment {label[:40]}".rstrip())
    return len(data)


def _png(data: Data, found: Inventory) -> int:
    found.bits, found.gray = data[24], data[25] in (0, 4)
    position = 8
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        body = data[position + 8 : position + 8 + length]
        position += 12 + length
        if kind in (b"tEXt", b"zTXt", b"iTXt"):
            keyword = bytes(body[:80]).split(b"\0")[0].decode("latin-1")
            if (kind, keyword) == (b"iTXt", "XML:com.adobe.xmp"):  # as Pillow reads it from no other kind
                found.keep("XMP packet")
            elif keyword != "Raw profile type exif":
                found.name(f"text {keyword}")
        elif kind in _PNG_KEPT:
            found.keep(f"chunk {kind.decode()}")
        elif kind not in _PNG_STORAGE:
            found.name(f"chunk {kind.decode('latin-1')}")
        if kind == b"cICP":
            found.colours = body[0], body[1]
        if kind == b"IEND":
            break
    if {"chunk iCCP", "chunk cICP"} <= found.kept:  # of two descriptions, the profile is kept
        found.name("chunk cICP")
    return position


def _webp(data: Data, found: Inventory) -> int:
    found.bits = 8
    end = 8 + int.from_bytes(data[4:8], "little")
    position = 12
    while position < end:
        kind, length = struct.unpack_from("<4sI", data, position)
        if kind in _WEBP_KEPT:
            found.keep(f"chunk {kind.decode().strip()}")
        elif kind not in _WEBP_STORAGE:
            found.name(f"chunk {kind.decode('latin-1')}")
        position += 8 + length + length % 2
    return position


def _gif(data: Data, found: Inventory) -> int:
    found.bits = 8
    position = 13 + _palette(data[10])
    while (kind := data[position]) != 0x3B:
        position += 1
        if kind == 0x2C:
            position += 9 + _palette(data[position + 8]) + 1
        else:
            label, position = data[position], position + 1
            application = bytes(data[position + 1 : position + 9]).decode("latin-1")
            if label == 0xFF and application not in ("NETSCAPE", "ANIMEXTS"):
                found.name(f"application extension {application}")
            elif label in (0x01, 0xFE):
                found.name("comment" if label == 0xFE else "plain text")
        while data[position]:  # blocks up to an empty one
            position += 1 + data[position]
        position += 1
    return position + 1


def _palette(flags: int) -> int:
    """Bytes of a GIF's palette."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _bmp(data: Data, found: Inventory) -> int:
    found.bits = 8
    start, size = struct.unpack_from("<II", data, 10)
    if size < 40:  # of OS/2
        return len(data)
    width, height, _, bits, compression, stored = struct.unpack_from("<iiHHII", data, 18)
    rows: int = stored if compression in (1, 2) else (width * bits + 31) // 32 * 4 * abs(height)
    if size >= 108:
        space, profile = bytes(data[73:69:-1]), struct.unpack_from("<II", data, 126) if size >= 124 else (0, 0)
        if space == b"MBED":
            found.profile = bytes(data[14 + profile[0] : 14 + sum(profile)])
            return len(data)
        if space not in (b"sRGB", b"Win ") and any(data[74:122]):
            found.name("colour space")
    return int(start) + rows


def _ppm(data: Data, found: Inventory) -> int:
    tokens: list[bytes] = []
    position, wanted = 0, 3 if data[1] in b"14" else 4
    pattern = re.compile(rb"\s*(?:#[^\r\n]*[\r\n]|(\S+))")
    while len(tokens) < wanted and (match := pattern.match(data, position)):
        position = match.end()
        if match[1]:
            tokens.append(match[1])
        else:
            found.name("comment")
    width, height = int(tokens[1]), int(tokens[2])
    most = int(tokens[3]) if wanted > 3 and tokens[0] != b"Pf" else 1
    found.bits = most.bit_length()
    if tokens[0] == b"P4":
        return position + 1 + -(-width // 8) * height
    if tokens[0] in (b"P5", b"P6"):
        return position + 1 + width * height * (1 if tokens[0] == b"P5" else 3) * (1 if most < 256 else 2)
    return len(data)


def _boxes(data: Data) -> Iterator[tuple[bytes, Data]]:
    """Types and contents of the boxes of an ISO base media file or JPEG 2000. Raises ValueError where there is none."""
    position = 0
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        head = 8
        if length == 1:
            head, length = 16, struct.unpack_from(">Q", data, position + 8)[0]
        length = length or len(data) - position
        if length < head:
            raise ValueError("no box")
        yield kind, data[position + head : position + length]
        position += length


def _heif(data: Data, found: Inventory) -> int:
    for kind, box in _boxes(data):
        if kind not in _HEIF_BOXES:
            found.name(f"box {kind.decode('latin-1')}")
        parts = dict(_boxes(box[4:])) if kind == b"meta" else {}
        if b"iinf" in parts:
            _heif_items(parts[b"iinf"], found)
        properties = dict(_boxes(parts[b"iprp"])) if b"iprp" in parts else {}
        for form, value in _boxes(properties.get(b"ipco", Data(b""))):
            if form == b"pixi":
                found.bits = max(found.bits, *value[5:])
            elif form == b"colr" and bytes(value[:4]) == b"nclx" and found.colours is None:
                found.colours = struct.unpack_from(">HH", value, 4)
            elif form == b"auxC" and b":alpha" not in bytes(value) and b"auxid:1\0" not in bytes(value):
                found.name("auxiliary picture, of depth or gain or the like")
    return len(data)


def _heif_items(data: Data, found: Inventory) -> None:
    for _, item in _boxes(data[6 if data[0] == 0 else 8 :]):
        start = 8 if item[0] == 2 else 10  # of the item's type, which an id of 2 or 4 bytes precedes
        form, label = bytes(item[start : start + 4]), bytes(item[start + 4 :])
        if form == b"mime" and b"rdf+xml" in label:
            found.keep("XMP packet")
        elif form == b"mime":
            found.name("metadata of another kind")
        elif form == b"Exif":
            found.keep("EXIF block")
        elif form == b"tmap":
            found.name("gain map")
        elif form not in _HEIF_ITEMS:
            found.name(f"item {form.decode('latin-1')}")


def _jpeg2000(data: Data, found: Inventory) -> int:
    if bytes(data[:4]) == b"\xff\x4f\xff\x51":
        _codestream(data, found)
        return len(data)
    for kind, box in _boxes(data):
        if kind not in _JP2_BOXES:
            found.name(f"box {kind.decode('latin-1').strip()}")
        if kind == b"jp2c":
            _codestream(box, found)
        for form, value in _boxes(box) if kind == b"jp2h" else ():
            if form == b"colr" and value[0] in (2, 3):
                found.profile = bytes(value[3:])
    return len(data)


def _codestream(data: Data, found: Inventory) -> None:
    """Walk the segments of a JPEG 2000 codestream up to the first tile."""
    position = 2
    while data[position + 1] != 0x90:
        length = int.from_bytes(data[position + 2 : position + 4])
        body = bytes(data[position + 4 : position + 2 + length])
        if data[position + 1] == 0x51:
            found.bits = max((bits & 0x7F) + 1 for bits in body[36::3])
        elif data[position + 1] == 0x64 and not body[2:].startswith(b"Created by OpenJPEG"):
            found.name("comment")
        position += 2 + length


def _sgi(data: Data, found: Inventory) -> int:
    found.bits = 8 * data[3]
    found.name("anything else of the SGI file")
    return len(data)


_WALKERS: dict[str, Callable[[Data, Inventory], int]] = {
    "JPEG": _jpeg,
    "MPO": _jpeg,
    "PNG": _png,
    "WEBP": _webp,
    "GIF": _gif,
    "BMP": _bmp,
    "PPM": _ppm,
    "AVIF": _heif,
    "HEIF": _heif,
    "JPEG2000": _jpeg2000,
    "SGI": _sgi,
}
