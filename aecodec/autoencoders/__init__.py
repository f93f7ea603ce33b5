"""Autoencoders for small pictures and vectors, as scikit-learn's estimators: `Autoencoder`, `VariationalAutoencoder`.

They need `pip install "aecodec[autoencoders]"`; the names are imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..errors import TorchMissing

if TYPE_CHECKING:
    from .estimators import Autoencoder as Autoencoder
    from .estimators import VariationalAutoencoder as VariationalAutoencoder
    from .estimators import load as load

__all__ = ["Autoencoder", "VariationalAutoencoder", "load"]
PACKAGES = {"torch", "sklearn", "matplotlib"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    try:
        return getattr(import_module(".estimators", __name__), name)
    except ModuleNotFoundError as error:
        if error.name not in PACKAGES:
            raise
        raise TorchMissing(f"autoencoders need {error.name}: pip install 'aecodec[autoencoders]'") from None
