"""Which weights are installed. Standard library only, so that `aecodec info` starts fast."""

import json
import struct
from functools import cache
from pathlib import Path

from .errors import UnknownModel

_HEADER_LIMIT = 1 << 20


def folder() -> Path:
    """Where the weights are: inside the installed package, or beside it in a source tree."""
    inside = Path(__file__).parent / "weights"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "weights"


def named(name: str) -> Path:
    """Where the weights of a name are, if there are any."""
    return folder() / f"{name}.safetensors"


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
        raise UnknownModel(f"model {model.hex()} is not installed") from None


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
