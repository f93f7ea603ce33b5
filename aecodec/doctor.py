"""What `aecodec doctor` tells: versions, devices, models, whether the prior is exact on this machine, and the speed."""

import os
import platform
import time
import traceback
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from . import __version__, devices, registry
from .codec import Codec
from .errors import TorchMissing
from .image import Plane
from .model import weights
from .model.entropy import EntropyModel

LIBRARIES = ("torch", "numpy", "pillow", "constriction", "safetensors", "typer")
SIDE = 1024  # pixels of the picture that speed is measured on
REPEATS = 3

Line = tuple[str, str, bool]  # what, how it is, whether that is well


def examine(debug: bool = False) -> Iterator[Line]:
    """With ``debug``, where errors came from goes to standard error."""
    yield "aecodec", __version__, True
    yield "python", f"{platform.python_version()}, {platform.platform()}", True
    for name in LIBRARIES:
        try:
            yield name, version(name), True
        except PackageNotFoundError:  # torch, which a CPU does not need
            yield name, "not installed", True
    yield "cpu", f"{os.cpu_count()} cores", True
    gpus = _gpus()
    yield "gpu", ", ".join(gpus) or "none", True
    try:
        for identity, path in registry.installed().items():
            yield "model", f"{identity.hex()} ({path.stem})", True
    except (OSError, ValueError) as error:
        if debug:
            traceback.print_exception(error)
        yield "model", str(error), False
    for device in ["cpu", "cuda"] if gpus else ["cpu"]:
        try:
            codec = Codec(device)
            yield from _exactness(codec)
            yield from _speed(codec)
        except Exception as error:  # whatever it is, it is what one wants to know
            if debug:
                traceback.print_exception(error)
            yield device, f"{type(error).__name__}: {error}", False


def _gpus() -> list[str]:
    """Their names, as torch has them."""
    try:
        torch = devices.torch_for("a GPU")
    except TorchMissing:
        return []
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def _exactness(codec: Codec) -> Iterator[Line]:
    """Whether fixed symbols give the integers that they gave where the weights were made."""
    path = registry.find(codec.model.id)
    expected = registry.metadata(path).get("prior_digest")
    if expected is None:
        yield "entropy model", "the weights do not say what it should give", True
        return
    ways = {"numpy": EntropyModel(weights.tensors(path))}
    if codec.model.torch:
        ways[f"torch on {codec.device}"] = codec.model.entropy
    for name, entropy in ways.items():
        same = entropy.digest() == expected
        told = f"{name}: {'exact' if same else 'NOT WHAT IT SHOULD BE: files would not decode here'}"
        yield "entropy model", told, same


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
        yield name, f"{SIDE * SIDE / 1e6 / min(seconds):.1f} megapixels/s on {codec.device}", True


def _picture() -> Plane:
    """Waves and noise, ``[SIDE, SIDE, 3]``: about as many bits as a photograph."""
    y, x, c = np.indices((SIDE, SIDE, 3))
    waves = 60 * np.sin(x / 37 + c) + 50 * np.cos(y / 23 + x / 91)
    noise = np.random.default_rng(0).normal(0, 6, (SIDE, SIDE, 3))
    picture: Plane = (128 + waves + noise).clip(0, 255).astype(np.uint8)
    return picture
