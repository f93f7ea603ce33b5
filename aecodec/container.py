"""The .aec container, version 1: bytes <-> header, metadata and tiles. docs/FORMAT.md is the normative text.

Nothing here knows what a tile's payload means, and nothing is allocated from a number that was not checked.
"""

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO
from zlib import crc32

from .errors import BadChecksum, Corrupt, LimitExceeded, NotAec, Truncated, UnsupportedFeature, UnsupportedVersion

SIGNATURE = b"\x89AEC\r\n\x1a"
VERSION = 1

FIRST_CHUNK = len(SIGNATURE) + 1 + 4 + 4 + 20 + 4  # where the one after HEAD begins

DEFAULT_QUALITY = 50  # of an encoder that is told none

MAX_SIDE = 65535
MAX_PIXELS = 1 << 28  # default of the reader's limit
MAX_METADATA = 1 << 24  # bytes of one ancillary chunk other than aLPH
MAX_ANCILLARY = 64  # chunks before the tiles
THUMBNAIL = 8  # a pixel of the thumbnail stands for so many of the picture on each side
TILE_SIZES = range(64, 512 + 1, 64)  # larger ones would let 57 bytes ask for a lot of memory

Data = bytes | bytearray | memoryview

MODES = ("L", "LA", "RGB", "RGBA")
METADATA = {"icc": b"iCCP", "exif": b"eXIf", "xmp": b"xMPx", "thumbnail": b"tHMB"}
_KNOWN = {*METADATA.values(), b"aLPH"}

EQUAL_COLOURS = 1  # the one flag that there is
_HEAD = struct.Struct("<8sHHHBBI")  # model, width, height, tile size, mode, quality, flags
_CHUNK = struct.Struct("<4sI")
_TILE = struct.Struct("<BI")  # quality, CRC-32 of the symbols
_U32 = struct.Struct("<I")


@dataclass(frozen=True)
class Header:
    """What is known of a picture without decoding it.

    ``model`` is the id of the weights, 8 bytes; ``mode`` L, LA, RGB or RGBA; ``quality`` the lowest of the tiles, 0 to
    100; ``tile_size`` their side in pixels. ``equal_colours``: an RGB picture is gray, and coded as if it were L.
    """

    model: bytes
    width: int
    height: int
    mode: str
    quality: int
    tile_size: int
    equal_colours: bool = False

    @property
    def is_gray(self) -> bool:
        """Whether one sample is coded for each pixel, alpha apart."""
        return self.equal_colours or self.mode.startswith("L")

    @property
    def tile_count(self) -> int:
        return -(-self.width // self.tile_size) * -(-self.height // self.tile_size)

    @property
    def has_alpha(self) -> bool:
        return self.mode.endswith("A")


@dataclass(frozen=True)
class Tile:
    """One TILE chunk: its quality, the CRC-32 of its symbols and its ANS words, most significant first to decode."""

    quality: int
    symbol_crc: int
    words: bytes


@dataclass(frozen=True)
class Container:
    """A whole file. ``metadata`` has the keys of `METADATA`; ``alpha`` is the payload of aLPH."""

    header: Header
    tiles: list[Tile]
    metadata: dict[str, bytes] = field(default_factory=dict)
    alpha: bytes | None = None


def write(container: Container) -> bytes:
    """Serialise. Raises `LimitExceeded` for sides or metadata that the format cannot hold."""
    h = container.header
    check_size(h.width, h.height, MAX_SIDE**2)
    check_metadata(container.metadata)
    head = _HEAD.pack(
        h.model, h.width, h.height, h.tile_size, MODES.index(h.mode), h.quality, EQUAL_COLOURS * h.equal_colours
    )
    chunks = [_chunk(b"HEAD", head)]
    for key, kind in METADATA.items():
        payload = container.metadata.get(key, b"")
        if payload:
            chunks.append(_chunk(kind, payload))
    if container.alpha is not None:
        chunks.append(_chunk(b"aLPH", container.alpha))
    chunks += [_chunk(b"TILE", _payload(tile)) for tile in container.tiles]
    return SIGNATURE + bytes((VERSION,)) + b"".join(chunks)


def _payload(tile: Tile) -> bytes:
    return _TILE.pack(tile.quality, tile.symbol_crc) + tile.words


def pack_thumbnail(tiles: Sequence[Tile]) -> bytes:
    """The payload of tHMB: the tiles of a picture that `thumbnail` describes, in raster order."""
    return b"".join(_U32.pack(len(payload)) + payload for payload in map(_payload, tiles))


def thumbnail(header: Header, payload: bytes) -> Container:
    """What a thumbnail would be as a file of its own. Raises `Corrupt` unless the payload holds just its tiles."""
    width, height = (-(-side // THUMBNAIL) for side in (header.width, header.height))
    mode = header.mode.removesuffix("A")
    small = replace(header, width=width, height=height, mode=mode, tile_size=TILE_SIZES[-1])
    tiles, view = [], memoryview(payload)
    for _ in range(small.tile_count):
        end = _U32.size + int.from_bytes(view[: _U32.size], "little")
        if end > len(view):
            raise Corrupt("the thumbnail ends within a tile")
        tiles.append(parse_tile(view[_U32.size : end]))
        view = view[end:]
    if view:
        raise Corrupt(f"{len(view)} bytes behind the thumbnail")
    return Container(small, tiles)


def _chunk(kind: bytes, payload: bytes) -> bytes:
    return _CHUNK.pack(kind, len(payload)) + payload + _U32.pack(crc32(payload, crc32(kind)))


def check_metadata(metadata: Mapping[str, bytes]) -> None:
    """Raise `LimitExceeded` for what the format cannot hold."""
    for key, payload in metadata.items():
        if len(payload) > MAX_METADATA:
            raise LimitExceeded(f"{key} metadata of {len(payload)} bytes: at most {MAX_METADATA}")


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raise `LimitExceeded` for a picture that the format cannot hold, or of more than ``max_pixels``."""
    if not width or not height:
        raise LimitExceeded(f"an image of {width}x{height} pixels: there is nothing to code")
    if max(width, height) > MAX_SIDE:
        raise LimitExceeded(f"an image of {width}x{height} pixels: sides may have at most {MAX_SIDE}")
    if width * height > max_pixels:
        raise LimitExceeded(f"an image of {width}x{height} pixels: more than the limit of {max_pixels}")


def read_header(data: Data, max_pixels: int = MAX_PIXELS) -> Header:
    """The header of an .aec file; ``data`` may stop anywhere after it. Raises subclasses of `AecError`.

    >>> import aecodec, numpy as np
    >>> header = aecodec.read_header(aecodec.compress(np.zeros((40, 60, 3), np.uint8)))
    >>> header.width, header.height, header.mode, header.quality
    (60, 40, 'RGB', 50)
    """
    view = memoryview(data).cast("B")
    _check_signature(view)
    kind, payload, _ = next_chunk(view, len(SIGNATURE) + 1)
    return _parse_header(kind, payload, max_pixels)


def read(data: Data, max_pixels: int = MAX_PIXELS) -> Container:
    """Parse and check a whole file: signature, version, header, limits, order, lengths and every CRC-32.

    Raises subclasses of `AecError` whatever the bytes are; see `aecodec.errors`.
    """
    header = read_header(data, max_pixels)
    found: dict[bytes, bytes] = {}
    tiles: list[Tile] = []
    others = 0
    view, position = memoryview(data).cast("B"), FIRST_CHUNK
    while position < len(view):
        if len(tiles) == header.tile_count:
            raise Corrupt(f"{len(view) - position} bytes after the last tile")
        kind, payload, position = next_chunk(view, position)
        if kind == b"TILE":
            tiles.append(parse_tile(payload))
            continue
        others += 1
        _check_ancillary(kind, len(payload), others, bool(tiles))
        if kind in _KNOWN:
            if kind in found:
                raise Corrupt(f"a second chunk {kind.decode()!r}")
            found[kind] = bytes(payload)
    if len(tiles) < header.tile_count:
        raise Truncated(f"{len(tiles)} of {header.tile_count} tiles")
    alpha = found.pop(b"aLPH", None)
    if header.has_alpha != (alpha is not None):
        raise Corrupt(f"mode {header.mode} {'without' if alpha is None else 'with'} an alpha plane")
    return Container(header, tiles, {key: found[kind] for key, kind in METADATA.items() if kind in found}, alpha)


def read_start(file: BinaryIO) -> tuple[Header, dict[str, bytes]]:
    """Header and metadata, except for a thumbnail, of a file that is read no further than to its first tile.

    Raises as `read_header`. Damage behind the header is for `read` to report: here, the metadata before it comes out.
    """
    header = read_header(file.read(FIRST_CHUNK), MAX_SIDE**2)
    found: dict[str, bytes] = {}
    keys = {kind: key for key, kind in METADATA.items() if key != "thumbnail"}
    for _ in range(MAX_ANCILLARY):
        head = file.read(_CHUNK.size)
        kind, length = _CHUNK.unpack(head) if len(head) == _CHUNK.size else (b"TILE", 0)
        if kind in keys and length <= MAX_METADATA:
            try:
                _, payload, _ = next_chunk(memoryview(head + file.read(length + _U32.size)), 0)
            except Corrupt:
                break
            found.setdefault(keys[kind], bytes(payload))
        elif kind[:1].islower():
            file.seek(length + _U32.size, os.SEEK_CUR)
        else:
            break
    return header, found


def _check_ancillary(kind: bytes, length: int, count: int, tiles_began: bool) -> None:
    if kind == b"HEAD":
        raise Corrupt("a second header")
    check_critical(kind)
    if tiles_began:
        raise Corrupt(f"chunk {kind.decode()!r} after the first tile")
    if count > MAX_ANCILLARY:
        raise LimitExceeded(f"more than {MAX_ANCILLARY} ancillary chunks")
    if kind != b"aLPH" and length > MAX_METADATA:
        raise LimitExceeded(f"metadata of {length} bytes: at most {MAX_METADATA}")


def check_critical(kind: bytes) -> None:
    """Raise `UnsupportedFeature` for a chunk that a decoder must know, and does not."""
    if kind[:1].isupper():
        raise UnsupportedFeature(f"critical chunk {kind.decode()!r}")


def _check_signature(data: memoryview) -> None:
    start = bytes(data[: len(SIGNATURE)])
    if start != SIGNATURE:
        if start and SIGNATURE.startswith(start):
            raise Truncated("the file ends within its signature")
        raise NotAec("not an .aec file" if data else "not an .aec file: it is empty")
    if len(data) == len(SIGNATURE):
        raise Truncated("the file ends before its version")
    if data[len(SIGNATURE)] != VERSION:
        raise UnsupportedVersion(f"container version {data[len(SIGNATURE)]}; this release reads version {VERSION}")


def next_chunk(view: memoryview, position: int) -> tuple[bytes, memoryview, int]:
    """Type, payload and the position of what follows, the CRC checked."""
    start = position + _CHUNK.size
    if start > len(view):
        raise Truncated(f"the file ends within a chunk's head at byte {position}")
    kind, length = _CHUNK.unpack_from(view, position)
    if not kind.isalpha():
        raise Corrupt(f"no chunk at byte {position}")
    end = start + length + _U32.size
    if end > len(view):
        raise Truncated(f"chunk {kind.decode()!r} at byte {position} needs {end - len(view)} bytes more")
    payload = view[start : start + length]
    if crc32(payload, crc32(kind)) != _U32.unpack_from(view, start + length)[0]:
        raise BadChecksum(f"chunk {kind.decode()!r} at byte {position}: its CRC-32 does not match")
    return kind, payload, end


def _parse_header(kind: bytes, payload: memoryview, max_pixels: int) -> Header:
    if kind != b"HEAD":
        raise Corrupt("the first chunk is not HEAD")
    if len(payload) != _HEAD.size:
        raise Corrupt(f"a header of {len(payload)} bytes instead of {_HEAD.size}")
    model, width, height, tile_size, mode, quality, flags = _HEAD.unpack(payload)
    if flags & ~EQUAL_COLOURS:
        raise UnsupportedFeature(f"flags {flags:#x}")
    if mode >= len(MODES):
        raise UnsupportedFeature(f"mode {mode}")
    if tile_size not in TILE_SIZES:
        raise UnsupportedFeature(f"tiles of {tile_size} pixels")
    equal_colours = bool(flags & EQUAL_COLOURS)
    if equal_colours and not MODES[mode].startswith("RGB"):
        raise Corrupt(f"equal colours in mode {MODES[mode]}")
    if quality > 100:
        raise Corrupt(f"quality {quality}")
    if not width or not height:
        raise Corrupt(f"an image of {width}x{height} pixels")
    check_size(width, height, max_pixels)
    return Header(model, width, height, MODES[mode], quality, tile_size, equal_colours)


def parse_tile(payload: memoryview) -> Tile:
    if len(payload) < _TILE.size or (len(payload) - _TILE.size) % 4:
        raise Corrupt(f"a tile of {len(payload)} bytes")
    quality, symbol_crc = _TILE.unpack_from(payload)
    if quality > 100:
        raise Corrupt(f"a tile of quality {quality}")
    return Tile(quality, symbol_crc, bytes(payload[_TILE.size :]))
