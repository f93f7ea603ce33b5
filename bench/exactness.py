"""The same files decoded in many ways: threads, instruction sets, windows, devices. What differs, and by how much.

What one machine, or one version of torch, has decoded can be kept for another one to compare with.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from unittest import mock

import numpy as np
import numpy.typing as npt
import torch

from aecodec import Codec, container, decoder
from aecodec.geometry import WINDOW, View
from aecodec.image import Plane


@dataclass(frozen=True)
class Way:
    """How files are decoded, in a process of its own."""

    name: str
    threads: int = 1
    instructions: str = ""  # the most that torch, oneDNN and MKL may use; all that there are if empty
    window: int = WINDOW
    device: str = "cpu"


WAYS = [
    Way("1 thread"),
    Way("2 threads", threads=2),
    Way("no vectors beyond SSE", instructions="sse"),
    Way("AVX2", instructions="avx2"),
    Way("windows of 9 latents", window=9),
    Way("GPU", device="cuda"),
]
_LIMITS = {
    "": {},
    "sse": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
}


@dataclass(frozen=True)
class Difference:
    """From the first way: in latents ŷ, which must not be any, and in 8-bit samples of the pictures."""

    latents: int  # files whose ŷ differ in any bit
    largest: int  # grey levels
    share: float  # of the samples that differ


Decoded = tuple[str, Plane]  # the hash of ŷ, and the pixels


def ways() -> list[Way]:
    """Those that this machine has."""
    return [way for way in WAYS if way.device == "cpu" or torch.cuda.is_available()]


def decode(files: Sequence[bytes], way: Way) -> list[Decoded]:
    """What each file decodes to, in a process of its own."""
    with (
        mock.patch.dict(os.environ, _LIMITS[way.instructions]),
        ProcessPoolExecutor(1, get_context("spawn")) as pool,
    ):
        return pool.submit(_decode, files, way).result()


def _decode(files: Sequence[bytes], way: Way) -> list[Decoded]:
    torch.set_num_threads(way.threads)
    m = Codec(device="cuda" if way.device == "cuda" else "cpu").model
    found = []
    for data in files:
        parsed = container.read(data)
        tiling = decoder.tiling_of(parsed.header, parsed.tiles)
        latents = decoder.decode_latents(m, [parsed.tiles], tiling)
        view = View.whole(tiling.height, tiling.width)
        pixels = decoder.synthesise(m, latents, tiling.whole, tiling, view, parsed.header.is_gray, window=way.window)
        found.append((sha256(m.ops.numpy(latents).tobytes()).hexdigest(), m.ops.numpy(pixels[0])))
    return found


def difference(first: Sequence[Decoded], other: Sequence[Decoded]) -> Difference:
    steps: list[npt.NDArray[np.int16]] = [
        np.abs(a.astype(np.int16) - b).ravel() for (_, a), (_, b) in zip(first, other, strict=True)
    ]
    each = np.concatenate(steps)
    changed = sum(a != b for (a, _), (b, _) in zip(first, other, strict=True))
    return Difference(changed, int(each.max()), float((each > 0).mean()))


def keep(path: Path, files: Sequence[bytes], decoded: Sequence[Decoded]) -> None:
    """Write files and what they decode to, for `recall`."""
    arrays = {f"file{i}": np.frombuffer(data, np.uint8) for i, data in enumerate(files)}
    arrays |= {f"pixels{i}": pixels for i, (_, pixels) in enumerate(decoded)}
    np.savez(path, latents=[latents for latents, _ in decoded], **arrays)  # type: ignore[arg-type]


def recall(path: Path) -> tuple[list[bytes], list[Decoded]]:
    with np.load(path) as kept:
        found = [(str(latents), kept[f"pixels{i}"]) for i, latents in enumerate(kept["latents"])]
        return [kept[f"file{i}"].tobytes() for i in range(len(found))], found
