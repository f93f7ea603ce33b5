"""The codec of the default weights: its methods are `aecodec.compress` and `aecodec.decompress`."""

from typing import Any

from .codec import Codec
from .loading import LOADING


class _Shared(Codec):
    """The codec of the default weights, which is made when it is first used."""

    def __init__(self) -> None:
        self._arguments = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        with LOADING:  # threads that ask at the same time wait for one of them
            if "model" not in self.__dict__:
                Codec.__init__(self)
        return self.__dict__[name]


_shared = _Shared()
compress, decompress = _shared.compress, _shared.decompress
