"""Where training starts: the transforms as Karhunen-Loeve transforms of the pictures that they will see."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..model.structure import unshuffle
from .network import Network


@torch.no_grad()
def initialise(network: Network, patches: Tensor, scale: float) -> Tensor:
    """Start both transforms as three Karhunen-Loeve transforms in a row, one for each stage, and their inverses.

    The residual blocks start as the identity, so that the whole is an orthonormal 16x16 block transform before the
    first step and training spends no time on finding one. ``patches``: ``[n, 16, 16, 3]`` in 0..1; ``scale``
    multiplies the latents. Returns the standard deviation of each latent, ``[N + M]``.
    """

    def weights(*names: str) -> list[Tensor]:
        return [network.tensors[f"{name}.weight"] for name in names]

    def set_pair(forth: str, back: str, x: Tensor) -> Tensor:
        """Two layers as the transform of features ``[n, h, w, C]``, and its inverse. Returns its rows."""
        x = x.flatten(0, -2).double()
        vectors: Tensor = torch.linalg.eigh(x.T @ x / len(x))[1].flip(1)
        weight, inverse = weights(forth, back)
        rows = vectors[:, : len(weight)].T.float()  # [min(rows, features), features], orthonormal
        for target, value in ((weight, rows), (inverse, rows.T)):
            target.zero_()[: len(value), : len(value.T)].copy_(value)
        for name in (forth, back):
            network.tensors[f"{name}.bias"].zero_()
        return weight

    n, quarter = network.design.latents, network.design.quarter
    # channels at 1/4 that the transform does not need start with weights on their way in and none on their way out
    enter, to_quarter = weights("analysis.enter", "synthesis.to_quarter")
    spare_in, spare_out = enter[48:].clone(), to_quarter.view(4, quarter, -1)[:, 48:].clone()
    x = unshuffle((patches - 0.5) * 3, 4)  # [n, 4, 4, 48]
    x = unshuffle(F.linear(x, set_pair("analysis.enter", "synthesis.leave", x)), 2)  # [n, 2, 2, 4 * quarter]
    x = unshuffle(F.linear(x, set_pair("analysis.to_eighth", "synthesis.to_quarter", x)), 2)  # [n, 1, 1, 4 * eighth]
    rows = set_pair("analysis.to_latents", "synthesis.from_latents", x)
    # group g of the context model holds components g, g+4, g+8...: every group gets its share of strong ones
    rows[:n] = rows[:n].reshape(-1, 4, rows.shape[1]).transpose(0, 1).reshape(n, -1)
    (back,) = weights("synthesis.from_latents")
    back.copy_(rows.T / scale)
    rows.mul_(scale)
    enter[48:] = spare_in
    to_quarter.view(4, quarter, -1)[:, 48:] = spare_out
    deviations: Tensor = F.linear(x, rows).flatten(0, 2).std(0)
    return deviations
