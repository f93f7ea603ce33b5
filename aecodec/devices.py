"""Which device computes, and with which library: torch on GPUs and where a process has it, else NumPy."""

import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from . import registry
from .errors import TorchMissing
from .loading import LOADING

# what is there where a driver for GPUs is: NVIDIA's on Linux, in WSL and on Windows, and AMD's
DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "C:/Windows/System32/nvcuda.dll", "/dev/kfd")


def torch_for(purpose: str) -> Any:
    """The module torch. Raises `TorchMissing`, which says what for."""
    with LOADING:
        try:
            import torch
        except ImportError as error:
            if error.name != "torch":  # it is there, and broken
                raise
            raise TorchMissing(f"{purpose} needs torch: pip install 'aecodec[torch]'") from None
        return torch


def has_torch() -> bool:
    """Whether this process has imported torch."""
    return hasattr(sys.modules.get("torch"), "set_num_threads")  # not while it is half imported


def choose(asked: object) -> tuple[str, bool]:
    """The device of a name such as ``auto``, and whether it is torch that computes there.

    Raises ValueError for a device that is not there and `TorchMissing`.
    """
    name = registry.device(asked)
    if name.startswith("cpu"):  # without a look for GPUs, which some processes must not touch
        return "cpu", has_torch()
    if name == "auto":
        found = _gpu()
        return ("cuda", True) if found else ("cpu", has_torch())
    torch = torch_for(f"device {name}")
    if name == "mps":
        if not torch.backends.mps.is_available():
            raise ValueError("device 'mps': torch finds no such GPU")
        return name, True
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (torch.device(name).index or 0) >= gpus:
        raise ValueError(f"device {name!r}: torch finds {gpus or 'no'} GPU{'s' if gpus > 1 else ''}")
    return name, True


def _gpu() -> bool:
    """Whether there is a GPU to be used, found without importing torch where there is none."""
    if not has_torch() and not any(Path(driver).exists() for driver in DRIVERS):
        return False
    try:
        return bool(torch_for("a GPU").cuda.is_available())
    except TorchMissing as error:
        _say_once(f"{error}; the CPU computes in its place")
        return False


@cache
def _say_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=4)
