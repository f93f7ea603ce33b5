"""Where training starts: the transforms as Karhunen-Loeve transforms of the pictures that they will see."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..model.structure import shuffle, unshuffle
from .network import Network


@torch.no_grad()
def initialise(network: Network, patches: Tensor, scale: float) -> Tensor:
    """Start the main transforms as two Karhunen-Loeve transforms in a row, the fine ones as what these leave over.

    The residual blocks start as the identity, so that the whole is an orthonormal 16x16 block transform before the
    first step and training spends no time on finding one. ``patches``: ``[n, 16, 16, 3]`` in 0..1; ``scale``
    multiplies the latents. Returns the standard deviation of each latent, ``[N + M]``.
    """

    def set_pair(forth: str, back: str, rows: Tensor, scale: float = 1.0) -> None:
        """Two layers as a transform with orthonormal ``rows``, and its inverse."""
        for name, value in ((forth, scale * rows), (back, rows.T / scale)):
            network.tensors[f"{name}.weight"].copy_(value)
            network.tensors[f"{name}.bias"].zero_()

    d = network.design
    pixels = unshuffle((patches - 0.5) * 3, 4)  # [n, 4, 4, 48]
    x = unshuffle(pixels, 2)
    first = _components(x, d.features)
    x = unshuffle(F.linear(x, first), 2)  # [n, 1, 1, 4C]
    second = _components(x, d.latents)
    # group g of the context model holds components g, g+4, g+8...: every group gets its share of strong ones
    second = second.reshape(-1, 4, second.shape[1]).transpose(0, 1).flatten(0, 1)
    set_pair("analysis.enter", "synthesis.leave", first)
    set_pair("analysis.to_latents", "synthesis.from_latents", second, scale)
    main = F.linear(x, second)

    seen = shuffle(F.linear(shuffle(F.linear(main, second.T), 2), first.T), 2)  # what the main latents hold of pixels
    rest = unshuffle(pixels - seen, 4)  # [n, 1, 1, 768]
    third = _components(rest, d.fine)
    set_pair("analysis.to_fine", "synthesis.from_fine", third, scale)
    deviations: Tensor = scale * torch.cat((main, F.linear(rest, third)), -1).flatten(0, 2).std(0)
    return deviations


def _components(x: Tensor, count: int) -> Tensor:
    """The strongest principal components of features ``[n, h, w, C]``, not centred: ``[count, C]``, orthonormal."""
    x = x.flatten(0, -2).double()
    vectors: Tensor = torch.linalg.eigh(x.T @ x / len(x))[1].flip(1)
    return vectors[:, :count].T.float()
