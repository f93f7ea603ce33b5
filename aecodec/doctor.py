"""What `aecodec doctor` tells: versions, devices, models, whether the prior is exact on this machine, and the speed."""

import os
import platform
import time
import traceback
from collections.abc import Callable, Iterator
from importlib.metadata import version

import numpy as np
import torch
from safetensors.numpy import load_file

from . import __version__, registry
from .codec import Codec
from .image import Plane
from .prior import ExactPrior

LIBRARIES = ("torch", "numpy", "pillow", "constriction", "safetensors", "typer")
SIDE = 1024  # pixels of the picture that speed is measured on
REPEATS = 3

Line = tuple[str, str, bool]  # what, how it is, whether that is well


def examine(debug: bool = False) -> Iterator[Line]:
    """With ``debug``, where errors came from goes to standard error."""
    yield "aecodec", __version__, True
    yield "python", f"{platform.python_version()}, {platform.platform()}", True
    for name in LIBRARIES:
        yield name, version(name), True
    capability = torch.backends.cpu.get_cpu_capability()
    yield "cpu", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, {capability}", True
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    yield "gpu", ", ".join(gpus) or "none", True
    try:
        for identity, path in registry.installed().items():
            yield "model", f"{identity.hex()} ({path.stem})", True
    except (OSError, ValueError) as error:
        if debug:
            traceback.print_exception(error)
        yield "model", str(error), False
    devices = ["cpu", "cuda"] if gpus else ["cpu"]
    for device in devices:
        try:
            codec = Codec(device)
            yield from _exactness(codec)
            yield from _speed(codec)
        except Exception as error:  # whatever it is, it is what one wants to know
            if debug:
                traceback.print_exception(error)
            yield device, f"{type(error).__name__}: {error}", False


def _exactness(codec: Codec) -> Iterator[Line]:
    """Whether fixed symbols give the integers that they gave where the weights were made."""
    path = registry.find(codec.model.id)
    expected, threads = registry.metadata(path).get("prior_digest"), torch.get_num_threads()
    ways: dict[str, Callable[[], str]] = {f"torch on {codec.device.type}": codec.model.prior.digest}
    if codec.device.type == "cpu":
        tensors = {n.removeprefix("prior."): t for n, t in load_file(path).items() if n.startswith("prior.")}
        ways |= {"torch, 1 thread": codec.model.prior.digest, "numpy": ExactPrior(tensors, np).digest}
    if expected is None:
        yield "prior", "the weights do not say what it should give", True
        return
    for name, digest in ways.items():
        torch.set_num_threads(1 if "1 thread" in name else threads)
        try:
            same = digest() == expected
        finally:
            torch.set_num_threads(threads)
        yield "prior", f"{name}: {'exact' if same else 'NOT WHAT IT SHOULD BE: files would not decode here'}", same


def _speed(codec: Codec) -> Iterator[Line]:
    picture, files = _picture(), list[bytes]()
    tasks: dict[str, Callable[[], object]] = {
        "compress": lambda: files.append(codec.compress(picture)),
        "decompress": lambda: codec.decompress(files[0], "numpy"),
    }
    for name, task in tasks.items():
        seconds = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            task()
            seconds.append(time.perf_counter() - start)
        yield name, f"{SIDE * SIDE / 1e6 / min(seconds):.1f} megapixels/s on {codec.device.type}", True


def _picture() -> Plane:
    """Waves and noise, ``[SIDE, SIDE, 3]``: about as many bits as a photograph."""
    y, x, c = np.indices((SIDE, SIDE, 3))
    waves = 60 * np.sin(x / 37 + c) + 50 * np.cos(y / 23 + x / 91)
    noise = np.random.default_rng(0).normal(0, 6, (SIDE, SIDE, 3))
    picture: Plane = (128 + waves + noise).clip(0, 255).astype(np.uint8)
    return picture
