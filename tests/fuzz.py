"""Mutated files, of which none may raise anything but AecError: ``python -m tests.fuzz --count 1000000 --seed 0``.

Chunks are flipped, cut, spliced, repeated and shuffled, and their checksums made right again, so that the checks behind
these are reached; some files are then damaged as a disk would do it. Each is decoded and salvaged at some size, and
some are opened in Pillow, which may raise its own errors only. What fails is kept in tests/corrupt/.
"""

import io
import random
import time
import warnings
from collections import Counter
from contextlib import suppress
from unittest import mock
from zlib import crc32

import typer
from PIL import Image

from aecodec import AecError, Codec, container, register_pillow
from aecodec.container import Container, Header, Tile

from .conftest import GOLDEN
from .make_corrupt import FOLDER, chunk

MAX_PIXELS = 1 << 13  # of what is decoded: thousands of files a minute
NUMBERS = (0, 1, 15, 16, 17, 63, 64, 65, 100, 101, 127, 128, 255, 256, 512, 65535)

Chunks = list[tuple[bytes, bytearray]]


def mutant(source: random.Random, seeds: list[bytes]) -> bytes:
    """One of the seeds after a few changes."""
    chunks, others = _chunks(source.choice(seeds)), _chunks(source.choice(seeds))
    for _ in range(source.randint(1, 3)):
        if source.random() < 0.5:
            _change_payload(source, source.choice(chunks)[1])
        else:
            _change_order(source, chunks, others)
    body = b"".join(chunk(kind, bytes(payload)) for kind, payload in chunks)
    data = bytearray(container.SIGNATURE + bytes((container.VERSION,)) + body)
    if source.random() < 0.1:
        for _ in range(source.randint(1, 4)):
            data[source.randrange(len(data))] ^= 1 << source.randrange(8)
    if source.random() < 0.1:
        del data[source.randrange(len(data)) :]
    return bytes(data)


def _change_payload(source: random.Random, payload: bytearray) -> None:
    change = source.randrange(4)
    if change == 0:
        payload += source.randbytes(source.choice((1, 4, 8, 64)))
    elif change == 1:
        del payload[source.randrange(len(payload) + 1) :]
    elif payload and change == 2:
        payload[source.randrange(len(payload))] ^= 1 << source.randrange(8)
    elif payload:  # a whole word
        at = source.randrange(0, len(payload), 4)
        payload[at : at + 4] = source.choice((bytes(4), b"\xff" * 4, source.randbytes(4)))


def _change_order(source: random.Random, chunks: Chunks, others: Chunks) -> None:
    change, place = source.randrange(5), source.randrange(len(chunks))
    if change == 0:
        chunks.insert(place, source.choice(others))
    elif change == 1 and len(chunks) > 1:
        del chunks[place]
    elif change == 2:
        source.shuffle(chunks)
    elif change == 3:
        chunks[place] = source.choice((b"TILE", b"HEAD", b"aLPH", b"eXIf", b"tHMB", b"note", b"NEWS")), chunks[place][1]
    elif len(chunks[0][1]) == 20:  # a field of the header
        at, size = source.choice(((8, 2), (10, 2), (12, 2), (14, 1), (15, 1), (16, 4)))
        chunks[0][1][at : at + size] = (source.choice(NUMBERS) % 256**size).to_bytes(size, "little")


def _chunks(data: bytes) -> Chunks:
    found, position = [], len(container.SIGNATURE) + 1
    while position < len(data):
        kind, payload, position = container.next_chunk(memoryview(data), position)
        found.append((kind, bytearray(payload)))
    return found


def without_words(codec: Codec, width: int, height: int) -> bytes:
    """A file of one tile without any words, whose checksum of the symbols is right."""
    header = Header(codec.model.id, width, height, "RGB", 50, 512)
    sums: list[int] = []

    def spy(data: bytes, start: int = 0) -> int:
        sums.append(crc32(data, start))
        return sums[-1]

    with mock.patch("aecodec.decoder.crc32", spy):
        for _ in range(2):
            data = container.write(Container(header, [Tile(50, sums[-1] if sums else 0, b"")]))
            try:
                codec.verify(data)
            except AecError:
                continue
    return data


def run(count: int, seed: int) -> Counter[str]:
    """How often each error was raised, and how often none."""
    register_pillow()
    codec = Codec(device="cpu", max_pixels=MAX_PIXELS)
    source, found = random.Random(seed), Counter[str]()
    seeds = [path.read_bytes() for path in GOLDEN] + [without_words(codec, 60, 40)]
    for n in range(count):
        data = mutant(source, seeds)
        try:
            found[outcome(codec, data, source)] += 1
        except BaseException:
            (FOLDER / f"found-{seed}-{n}.aec").write_bytes(data)
            raise
    return found


def outcome(codec: Codec, data: bytes, source: random.Random) -> str:
    scale, region = source.choice((1, 1, 1 / 2, 1 / 4, 1 / 8)), None
    if source.random() < 0.5:
        with suppress(AecError):
            header = container.read_header(data, MAX_PIXELS)
            (x, width), (y, height) = (_part(source, side) for side in (header.width, header.height))
            region = (x, y, width, height)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if source.random() < 0.1:
            with suppress(OSError, Image.DecompressionBombError), Image.open(io.BytesIO(data)) as image:
                if image.width * image.height <= MAX_PIXELS:
                    image.draft(None, (10, 10))
                    image.load()
        for errors in ("conceal", "strict"):
            try:
                codec.decompress(data, errors=errors, region=region, scale=scale)
            except AecError as error:
                name = type(error).__name__
            except BaseException as error:
                error.add_note(f"errors={errors!r}, region={region}, scale={scale}")
                raise
            else:
                name = "decoded"
    return name


def _part(source: random.Random, side: int) -> tuple[int, int]:
    """Where a part of a side begins, and its length."""
    start = source.randrange(side)
    return start, source.randint(1, side - start)


def main(count: int = 100_000, seed: int = 0) -> None:
    start = time.perf_counter()
    found = run(count, seed)
    seconds = time.perf_counter() - start
    print(f"{count} files, seed {seed}, {seconds:.0f} s: {dict(found.most_common())}")


if __name__ == "__main__":
    typer.run(main)
