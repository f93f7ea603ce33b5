"""aecodec: a learned image codec.

>>> import aecodec
>>> from PIL import Image
>>> data = aecodec.compress(Image.new("L", (100, 80)), quality=60)  # bytes of an .aec file
>>> aecodec.decompress(data).mode
'L'

Importing this package imports neither torch nor Pillow; the first use does. `register_pillow` makes .aec a format that
`PIL.Image.open` and `PIL.Image.Image.save` know.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .container import Header, read_header
from .errors import (
    AecError,
    BadChecksum,
    ConversionWarning,
    Corrupt,
    DamageWarning,
    LimitExceeded,
    NotAec,
    SymbolMismatch,
    TargetMissed,
    Truncated,
    UnknownModel,
    UnsupportedFeature,
    UnsupportedVersion,
)
from .loading import LOADING

if TYPE_CHECKING:
    from .codec import Codec
    from .default import compress, decompress
    from .pillow_plugin import register as register_pillow

__version__ = "0.1.0"
__all__ = [
    "AecError",
    "BadChecksum",
    "Codec",
    "ConversionWarning",
    "Corrupt",
    "DamageWarning",
    "Header",
    "LimitExceeded",
    "NotAec",
    "SymbolMismatch",
    "TargetMissed",
    "Truncated",
    "UnknownModel",
    "UnsupportedFeature",
    "UnsupportedVersion",
    "compress",
    "decompress",
    "read_header",
    "register_pillow",
]


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in ("Codec", "compress", "decompress", "register_pillow"):  # of modules here, while they are imported
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with LOADING:
        if name == "register_pillow":
            return import_module(".pillow_plugin", __name__).register
        return getattr(import_module(".codec" if name == "Codec" else ".default", __name__), name)
