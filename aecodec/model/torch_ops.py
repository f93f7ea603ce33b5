"""The layers in torch: float32 on any device, with gradients where torch records them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from ..threads import each
from .numpy_ops import PIECE, pieces
from .structure import LEAK, FloatOperations


class TorchOperations(FloatOperations):
    """``tensors``: weights and biases of all layers, by ``<layer>.weight`` and ``<layer>.bias``."""

    xp = torch

    def __init__(self, tensors: Mapping[str, Tensor], device: torch.device):
        self.tensors, self.device = tensors, device

    def array(self, x: Tensor | npt.NDArray[Any]) -> Tensor:
        if isinstance(x, np.ndarray):
            x = torch.from_numpy(x.astype(np.float32))
        return x.to(self.device, torch.float32)

    def to_bytes(self, x: Tensor) -> Tensor:
        return x.clamp(0, 1).mul_(255).round_().byte()

    def numpy(self, x: Tensor) -> npt.NDArray[Any]:
        found: npt.NDArray[Any] = x.cpu().numpy()
        return found

    @contextmanager
    def inference(self) -> Iterator[None]:
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
            yield

    def pointwise(self, layer: str, x: Tensor, columns: int | None = None) -> Tensor:
        weight, bias = self.tensors[f"{layer}.weight"][:, :columns], self.tensors[f"{layer}.bias"]
        count = x[..., 0].numel()
        if count <= PIECE or not self._by_pieces(x):
            return F.linear(x, weight, bias)
        flat, y = x.reshape(count, -1), x.new_empty(count, len(weight))

        def piece(part: slice) -> None:
            torch.addmm(bias, flat[part], weight.T, out=y[part])

        self._each(piece, count)
        return y.reshape(*x.shape[:-1], -1)

    def _by_pieces(self, x: Tensor) -> bool:
        """Whether threads share a layer: gradients, and GPUs, want it whole."""
        return x.device.type == "cpu" and not torch.is_grad_enabled()

    def _each(self, piece: Callable[[slice], None], count: int) -> None:
        inference = torch.is_inference_mode_enabled()  # a mode is a thread's own

        def in_mode(part: slice) -> None:
            with torch.inference_mode(inference), torch.no_grad():
                piece(part)

        each(in_mode, pieces(count), torch=True)

    def depthwise(self, layer: str, x: Tensor, edge: bool) -> Tensor:
        weight, bias = self.tensors[f"{layer}.weight"], self.tensors[f"{layer}.bias"]
        # [B, H, W, C] seen as [B, C, H, W] is torch's channels_last: no copy either way
        x = x.permute(0, 3, 1, 2)
        if edge:
            x = F.pad(x, (1, 1, 1, 1), mode="replicate")
        x = F.conv2d(x, weight[:, None], bias, padding=0 if edge else 1, groups=len(weight))
        return x.permute(0, 2, 3, 1)

    def activate(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, LEAK, inplace=not torch.is_grad_enabled())

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y

    def scale(self, x: Tensor, factors: Tensor) -> Tensor:
        return x * factors

    def concatenate(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.cat((x, y), -1)

    def residual(self, x: Tensor, mix: Callable[[Tensor], Tensor], pointwise: Callable[[Tensor], Tensor]) -> Tensor:
        if not self._by_pieces(x):
            return x + pointwise(mix(x))
        inner, before = (tensor.reshape(-1, x.shape[-1]) for tensor in (mix(x), x))
        result = torch.empty_like(before)

        def piece(part: slice) -> None:
            torch.add(before[part], pointwise(inner[part]), out=result[part])

        self._each(piece, len(result))
        return result.reshape(x.shape)
