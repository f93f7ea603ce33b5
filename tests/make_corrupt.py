"""Make the corpus of attacks anew: ``python -m tests.make_corrupt``, whenever the golden files were made anew.

One file per attack, whose name begins with the error that it must raise.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from zlib import crc32

from aecodec import container
from aecodec.container import Tile

from .make_golden import FOLDER as GOLDEN

FOLDER = Path(__file__).parent / "corrupt"
FIELDS = {"width": 0, "height": 1, "tile_size": 2, "mode": 3, "quality": 4, "flags": 5}


def chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack("<4sI", kind, len(payload)) + payload + struct.pack("<I", crc32(kind + payload))


def with_header(data: bytes, **fields: int) -> bytes:
    """The file with fields of its header replaced, the checksum right."""
    payload = data[16:36]
    values = list(struct.unpack("<HHHBBI", payload[8:]))
    for name, value in fields.items():
        values[FIELDS[name]] = value
    return data[:8] + chunk(b"HEAD", payload[:8] + struct.pack("<HHHBBI", *values)) + data[40:]


def with_words(data: bytes, words: bytes, symbol_crc: int | None = None) -> bytes:
    """The file with the words of its first tile replaced, all checksums of chunks right."""
    parsed = container.read(data)
    tile = parsed.tiles[0]
    new = Tile(tile.quality, tile.symbol_crc if symbol_crc is None else symbol_crc, words)
    return container.write(replace(parsed, tiles=[new, *parsed.tiles[1:]]))


def with_alpha(data: bytes, alpha: bytes) -> bytes:
    return container.write(replace(container.read(data), alpha=alpha))


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.aec").read_bytes()


def attacks() -> dict[str, bytes]:
    """All of them by name."""
    return dict((*on_the_file(), *on_chunks(), *on_the_header(), *on_alpha(), *on_words()))


def on_the_file() -> Iterator[tuple[str, bytes]]:
    rgb, metadata = golden("rgb"), golden("metadata")
    yield "NotAec empty", b""
    yield "NotAec png", b"\x89PNG\r\n\x1a\n" + rgb[8:]
    yield "NotAec newlines converted", rgb.replace(b"\r\n", b"\n")
    yield "NotAec text", b"an image, I swear\n"
    yield "UnsupportedVersion 2", rgb[:7] + b"\x02" + rgb[8:]
    yield "UnsupportedVersion 0", rgb[:7] + b"\x00" + rgb[8:]

    yield "Truncated in the signature", rgb[:5]
    yield "Truncated before the version", rgb[:7]
    yield "Truncated in the header", rgb[:30]
    yield "Truncated after the header", rgb[:40]
    yield "Truncated in a tile", rgb[:-30]
    yield "Truncated in the last checksum", rgb[:-1]
    yield "Truncated length of 4 GiB", rgb[:40] + struct.pack("<4sI", b"TILE", 0xFFFFFFFF) + rgb[48:]

    yield "BadChecksum of the header", rgb[:20] + bytes((rgb[20] ^ 1,)) + rgb[21:]
    yield "BadChecksum of a tile", rgb[:200] + bytes((rgb[200] ^ 128,)) + rgb[201:]
    yield "BadChecksum of metadata", metadata[:60] + bytes((metadata[60] ^ 2,)) + metadata[61:]


def on_chunks() -> Iterator[tuple[str, bytes]]:
    rgb = golden("rgb")
    head, tiles = rgb[:40], rgb[40:]
    yield "Corrupt no header", rgb[:8] + tiles
    yield "Corrupt short header", rgb[:8] + chunk(b"HEAD", rgb[16:35]) + tiles
    yield "Corrupt long header", rgb[:8] + chunk(b"HEAD", rgb[16:37]) + tiles
    yield "Corrupt second header", head + rgb[8:40] + tiles
    yield "Corrupt name of a chunk", head + chunk(b"TI\0E", tiles[8:-4])
    yield "Corrupt zeros at the end", rgb + bytes(64)
    yield "Corrupt tile too many", rgb + tiles
    yield "Corrupt metadata after a tile", rgb + chunk(b"note", b"late")
    yield "Corrupt second profile", head + 2 * chunk(b"iCCP", b"x") + tiles
    yield "Corrupt tile of 3 bytes", head + chunk(b"TILE", b"\x32ab")
    yield "Corrupt tile of half a word", head + chunk(b"TILE", tiles[8:-6])
    yield "Corrupt tile of quality 101", head + chunk(b"TILE", b"\x65" + tiles[9:-4])
    yield "UnsupportedFeature critical chunk", head + chunk(b"NEWS", b"") + tiles
    yield "LimitExceeded 65 chunks", head + 65 * chunk(b"note", b"") + tiles


def on_the_header() -> Iterator[tuple[str, bytes]]:
    rgb = golden("rgb")
    yield "Corrupt width 0", with_header(rgb, width=0)
    yield "Corrupt height 0", with_header(rgb, height=0)
    yield "Corrupt quality 101", with_header(rgb, quality=101)
    yield "Corrupt alpha in a picture without", with_header(golden("alpha"), mode=2)
    yield "Corrupt no alpha in a picture with", with_header(rgb, mode=3)
    yield "Truncated 2^28 pixels in one tile", with_header(rgb, width=16384, height=16384)
    yield "UnsupportedFeature flags", with_header(rgb, flags=1 << 31)
    yield "UnsupportedFeature mode 4", with_header(rgb, mode=4)
    yield "UnsupportedFeature tiles of 0 pixels", with_header(rgb, tile_size=0)
    yield "UnsupportedFeature tiles of 100 pixels", with_header(rgb, tile_size=100)
    yield "UnsupportedFeature tiles of 1024 pixels", with_header(rgb, tile_size=1024)

    yield "LimitExceeded largest sides", with_header(rgb, width=65535, height=65535)
    yield "LimitExceeded pixels", with_header(rgb, width=65535, height=4097)

    yield "UnknownModel", rgb[:8] + chunk(b"HEAD", b"another." + rgb[24:36]) + rgb[40:]


def on_alpha() -> Iterator[tuple[str, bytes]]:
    alpha = golden("alpha")
    yield "Corrupt alpha bomb", with_alpha(alpha, zlib.compress(bytes(1 << 25), 9))
    yield "Corrupt alpha too short", with_alpha(alpha, zlib.compress(bytes(40 * 50 - 1)))
    yield "Corrupt alpha no zlib", with_alpha(alpha, b"\xff" * 20)
    yield "Corrupt alpha cut", with_alpha(alpha, zlib.compress(bytes(40 * 50))[:-3])
    yield "Corrupt alpha and more", with_alpha(alpha, zlib.compress(bytes(40 * 50)) + b"more")
    yield "Corrupt alpha empty", with_alpha(alpha, b"")


def on_words() -> Iterator[tuple[str, bytes]]:
    rgb = golden("rgb")
    parsed = container.read(rgb)
    words = parsed.tiles[0].words
    yield "Corrupt first word 0", with_words(rgb, bytes(4) + words)
    yield "Corrupt words too many", with_words(rgb, words + b"\1\0\0\0")
    yield "Corrupt words of ones", with_words(rgb, b"\xff" * len(words))
    yield "Corrupt words without end", with_words(rgb, words * 50)
    yield "SymbolMismatch no words", with_words(rgb, b"")
    yield "SymbolMismatch checksum of the symbols", with_words(rgb, words, parsed.tiles[0].symbol_crc ^ 1)
    yield "Corrupt picture one row of latents higher", with_header(rgb, height=parsed.header.height + 16)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.aec"):
        path.unlink()
    for name, data in attacks().items():
        (FOLDER / f"{name.replace(' ', '-')}.aec").write_bytes(data)


if __name__ == "__main__":
    main()
