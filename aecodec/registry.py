"""What weights and devices are called. Standard library only, so that `aecodec info` starts fast."""

import json
import re
import struct
from functools import cache
from pathlib import Path

from .errors import UnknownModel

_HEADER_LIMIT = 1 << 20


def folder() -> Path:
    """Where the weights are: inside the installed package, or beside it in a source tree."""
    inside = Path(__file__).parent / "weights"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "weights"


def named(name: str) -> Path | None:
    """The installed weights of a name, if there are any."""
    path = folder() / f"{name}.safetensors"
    return path if Path(name).name == name and path.is_file() else None


def device(asked: object) -> str:
    """The name of a device, which may be given as a `torch.device`. Raises ValueError for any other."""
    name = str(asked)
    if not re.fullmatch(r"auto|cpu(:0)?|cuda(:[0-9]{1,2})?|mps(:0)?", name):
        raise ValueError(f"device {name!r}: expected auto, cpu, cuda, mps or, of several GPUs, cuda:1")
    return name


@cache
def installed() -> dict[bytes, Path]:
    """The weights files by the model id that they state. Raises ValueError for a file that states none."""
    found = {}
    for path in sorted(folder().glob("*.safetensors")):
        try:
            found[bytes.fromhex(metadata(path)["model_id"])] = path
        except KeyError:
            raise ValueError(f"{path}: not a weights file") from None
    return found


def find(model: bytes) -> Path:
    """The weights with this id. Raises `UnknownModel`."""
    try:
        return installed()[model]
    except KeyError:
        raise UnknownModel(
            f"model {model.hex()} is not installed: a newer release may bring it (pip install -U aecodec), or name the "
            "weights that the file was made with; nothing is downloaded by itself"
        ) from None


def metadata(path: Path) -> dict[str, str]:
    """The free-form metadata of a safetensors file, read without the library. Raises ValueError."""
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        try:
            found: dict[str, str] = json.loads(file.read(min(length, _HEADER_LIMIT)))["__metadata__"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ValueError(f"{path}: not a weights file") from None
    return found
