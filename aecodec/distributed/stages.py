"""Classes for `ray.data.Dataset.map_batches`: one codec in each actor, a column in, columns out.

Each batch is a dictionary of columns, as Ray gives them by default. The column that is worked on goes, the others stay.
"""

import io
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .. import container, errors
from ..codec import Codec
from ..features import pooled

Columns = dict[str, npt.NDArray[Any]]


class _Stage:
    """One codec for many batches; the arguments are those of `Codec`.

    A picture with which something is wrong has an ``error`` in place of a result, unless ``on_error`` is ``"raise"``.
    """

    def __init__(
        self,
        device: str = "auto",
        weights: str | Path = "base",
        max_pixels: int = container.MAX_PIXELS,
        on_error: Literal["keep", "raise"] = "keep",
    ):
        self.codec, self.on_error = Codec(device, weights, max_pixels), on_error

    def __call__(self, columns: Columns) -> Columns:
        made: list[dict[str, Any]] = []
        for value in columns["bytes" if "bytes" in columns else "image"]:
            try:
                made.append({**self.made(value), "error": ""})
            except Exception as error:
                if self.on_error == "raise" or not errors.foreseen(error):
                    raise
                made.append({**self.nothing(), "error": f"{type(error).__name__}: {error}"})
        kept = {name: column for name, column in columns.items() if name not in ("bytes", "image")}
        return kept | {name: _column([row[name] for row in made]) for name in (made[0] if made else ())}

    def made(self, value: Any) -> dict[str, Any]:
        """The columns that come of a picture."""
        raise NotImplementedError

    def nothing(self) -> dict[str, Any]:
        """The columns of a picture that failed."""
        raise NotImplementedError


class Compress(_Stage):
    """Image files in the column ``bytes``, or arrays in ``image``, become .aec files in ``bytes``.

    With ``width``, ``height``, and ``sha256`` of what the file was made from, in hexadecimal digits.
    """

    def __init__(self, quality: int = container.DEFAULT_QUALITY, **options: Any):
        super().__init__(**options)
        self.quality = quality

    def made(self, value: Any) -> dict[str, Any]:
        is_file = isinstance(value, bytes)
        data = self.codec.compress(io.BytesIO(value) if is_file else value, self.quality)
        header = container.read_header(data, self.codec.max_pixels)
        digest = sha256(value if is_file else np.ascontiguousarray(value).data).hexdigest()
        return {"bytes": data, "width": header.width, "height": header.height, "sha256": digest}

    def nothing(self) -> dict[str, Any]:
        return {"bytes": b"", "width": 0, "height": 0, "sha256": ""}


class Decompress(_Stage):
    """.aec files in ``bytes`` become arrays ``[H, W, C]`` uint8 in ``image``; ``scale`` as for `Codec.decompress`."""

    def __init__(self, scale: float = 1, **options: Any):
        super().__init__(**options)
        self.scale = scale

    def made(self, value: Any) -> dict[str, Any]:
        return {"image": self.codec.decompress(value, "numpy", scale=self.scale)}

    def nothing(self) -> dict[str, Any]:
        return {"image": np.zeros((0, 0, 3), np.uint8)}


class Verify(_Stage):
    """.aec files in ``bytes`` are checked as by `Codec.verify`: ``width`` and ``height`` come, or an ``error``."""

    def made(self, value: Any) -> dict[str, Any]:
        header = self.codec.verify(value)
        return {"width": header.width, "height": header.height}

    def nothing(self) -> dict[str, Any]:
        return {"width": 0, "height": 0}


class Latents(_Stage):
    """.aec files in ``bytes`` become `Codec.latents` in ``latents``, ``[ceil(H/16), ceil(W/16), N + M]`` float32."""

    def made(self, value: Any) -> dict[str, Any]:
        return {"latents": self.codec.latents(value)}

    def nothing(self) -> dict[str, Any]:
        return {"latents": np.zeros((0, 0, self._channels), np.float32)}

    @property
    def _channels(self) -> int:
        design = self.codec.model.design
        return design.latents + design.fine


class Features(Latents):
    """.aec files in ``bytes`` become ``features``, ``[2 (N + M)]`` float32: their latents, pooled by `features.pooled`.

    They differ from `features.features` of the pictures by what was rounded.
    """

    def made(self, value: Any) -> dict[str, Any]:
        return {"features": pooled(self.codec.latents(value))}

    def nothing(self) -> dict[str, Any]:
        return {"features": np.zeros(2 * self._channels, np.float32)}


def _column(values: list[Any]) -> npt.NDArray[Any]:
    """One value for each row; arrays among them may differ in shape."""
    column = np.empty(len(values), object)
    for row, value in enumerate(values):
        column[row] = value
    return column
