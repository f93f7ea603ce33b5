"""Thousands of pictures through one codec and back: ``python -m tests.soak --count 10000 --threads 8``.

Neither may a picture come back as another one, nor memory grow; and the digest that is printed is that of every
number of threads.
"""

import hashlib
import mmap
import random
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import typer
from skimage import data

from aecodec import Codec
from aecodec.image import Plane

from .conftest import psnr

CHUNK = 50  # pictures that share a call and a quality
LARGEST = 200  # pixels a side
GROWTH = 32  # MiB that the second half may add


def pictures(source: random.Random, photo: Plane) -> Iterator[Plane]:
    """Crops, flat ones and noise, of every mode, ``[H, W, 1..4]``."""
    for _ in range(CHUNK):
        height, width = (int(LARGEST ** source.random()) for _ in range(2))
        channels, kind = source.randint(1, 4), source.randrange(4)
        if kind == 0:
            yield np.full((height, width, channels), source.randrange(256), np.uint8)
        elif kind == 1:
            yield np.frombuffer(source.randbytes(height * width * channels), np.uint8).reshape(height, width, channels)
        else:
            top, left = (source.randrange(512 - side + 1) for side in (height, width))
            yield photo[top : top + height, left : left + width, :channels]


def check(codec: Codec, seed: int, photo: Plane) -> bytes:
    """The digest of a chunk's files and decoded pictures. Raises AssertionError."""
    source = random.Random(seed)
    quality, originals = source.randint(0, 100), list(pictures(source, photo))
    digest = hashlib.sha256()
    for original, file in zip(originals, codec.compress_many(originals, quality), strict=True):
        decoded = codec.decompress(file, "numpy")
        assert decoded.shape == original.shape
        colours = 3 if decoded.shape[2] > 2 else 1
        np.testing.assert_array_equal(decoded[..., colours:], original[..., colours:])
        if (decoded[..., colours:] == 255).all():  # where nothing is transparent
            assert psnr(decoded[..., :colours], original[..., :colours]) > 8
        digest.update(file)
        digest.update(decoded.tobytes())
    return digest.digest()


def megabytes() -> float:
    """Memory that is in use now, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * mmap.PAGESIZE / 2**20


def main(count: int = 10_000, seed: int = 0, threads: int = 1) -> None:
    torch.set_num_threads(1)
    codec, start, total = Codec(device="cpu"), time.perf_counter(), hashlib.sha256()
    photo = np.concatenate((data.astronaut(), data.astronaut()[::-1, :, :1]), 2)
    memory = []
    with ThreadPoolExecutor(threads) as pool:
        # as many at once as there are threads: what is waiting would be memory too
        seeds = range(seed, seed + -(-count // CHUNK))
        for first in range(0, len(seeds), threads):
            for digest in pool.map(lambda s: check(codec, s, photo), seeds[first : first + threads]):
                total.update(digest)
            memory.append(megabytes())
    # the largest of a few looks on either side: pictures of random sizes come and go
    few, half = max(1, len(memory) // 10), len(memory) // 2
    growth = max(memory[-few:]) - max(memory[half : half + few])
    seconds = time.perf_counter() - start
    print(f"{len(seeds) * CHUNK} pictures, seed {seed}, {threads} threads, {seconds:.0f} s: no mismatch, digest")
    print(f"{total.hexdigest()}; memory {memory[-1]:.0f} MiB, {growth:+.1f} MiB over the second half")
    sys.exit(growth > GROWTH)


if __name__ == "__main__":
    typer.run(main)
