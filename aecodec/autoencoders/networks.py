"""The networks: pictures or vectors ``[n, C·H·W]`` to codes ``[n, latent]`` and back."""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS = 32  # of the first convolution; each further one has twice as many
LEAST_SIDE = 4  # to which strided convolutions reduce a picture, at most


class Network(nn.Module):
    """An encoder and a decoder around buffers that bring the data to mean 0 and a common scale.

    `bounded` data lie in 0..1, where a sigmoid keeps the output.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, encoder: nn.Sequential, decoder: nn.Sequential, features: int, latent: int, bounded: bool):
        super().__init__()
        self.encoder, self.decoder, self.latent, self.bounded = encoder, decoder, latent, bounded
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(()))

    def set_statistics(self, x: Tensor) -> None:
        """Centre on the features' means; one scale for all, so that distances keep their proportions."""
        self.mean.copy_(x.mean(0))
        self.scale.copy_((x - self.mean).square().mean().sqrt().clamp(1e-6))

    def encode(self, x: Tensor) -> Tensor:
        """Codes ``[n, latent]``; of variational encoders means and log variances ``[n, 2·latent]``."""
        return cast(Tensor, self.encoder((x - self.mean) / self.scale))

    def decode(self, code: Tensor) -> Tensor:
        """``[n, features]`` in the data's own units."""
        y: Tensor = self.decoder(code)
        if self.bounded:  # training starts from the mean, too
            return (y + self.mean.clamp(0.01, 0.99).logit()).sigmoid()
        return y * self.scale + self.mean


class Transposed(nn.Module):
    """The mirror of a linear layer with the same weights, and a bias of its own (tied weights)."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self.layer = [layer]  # in a list, so that its weights are the encoder's alone
        self.bias = nn.Parameter(torch.zeros(layer.in_features))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.layer[0].weight.T, self.bias)


def dense(
    features: int, latent: int, hidden: Sequence[int], *, codes: int, dropout: float, tied: bool, bounded: bool
) -> Network:
    """Fully connected layers (Hinton and Salakhutdinov 2006); none hidden and no activation is PCA.

    `codes`: the encoder's outputs, twice `latent` for variational ones.
    """
    widths = [features, *hidden]
    linears = [nn.Linear(a, b) for a, b in zip(widths, [*hidden, codes], strict=True)]
    encoder, decoder = nn.Sequential(), nn.Sequential()
    for layer in linears[:-1]:
        encoder.extend([layer, nn.SiLU(), *([nn.Dropout(dropout)] if dropout else [])])
    encoder.append(linears[-1])
    backwards = [latent, *reversed(hidden), features]
    for i, layer in enumerate(reversed(linears)):
        decoder.append(Transposed(layer) if tied else nn.Linear(backwards[i], backwards[i + 1]))
        if i < len(hidden):
            decoder.append(nn.SiLU())
    return Network(encoder, decoder, features, latent, bounded)


class Crop(nn.Module):
    def __init__(self, height: int, width: int):
        super().__init__()
        self.height, self.width = height, width

    def forward(self, x: Tensor) -> Tensor:
        return x[..., : self.height, : self.width]


def convolutional(
    shape: tuple[int, int, int], latent: int, *, codes: int, dropout: float, bounded: bool, channels: int = CHANNELS
) -> Network:
    """Strided convolutions with batch normalisation and their mirror (Radford, Metz, Chintala 2016).

    `shape`: channels, height and width; any, since the mirror crops to the sides that the encoder had.
    """
    depth, height, width = shape
    down, up = nn.Sequential(nn.Unflatten(1, shape)), list[nn.Module]([nn.Flatten()])
    while (first := len(up) == 1) or min(height, width) > LEAST_SIDE:
        mirror: list[nn.Module] = [nn.ConvTranspose2d(channels, depth, 4, 2, 1), Crop(height, width)]
        up = [*mirror, *([] if first else [nn.BatchNorm2d(depth), nn.SiLU()]), *up]
        down.extend([nn.Conv2d(depth, channels, 3, 2, 1), nn.BatchNorm2d(channels), nn.SiLU()])
        depth, channels = channels, 2 * channels
        height, width = (height + 1) // 2, (width + 1) // 2
    size = depth * height * width
    down.extend([nn.Flatten(), *([nn.Dropout(dropout)] if dropout else []), nn.Linear(size, codes)])
    start = [nn.Linear(latent, size), nn.SiLU(), nn.Unflatten(1, (depth, height, width))]
    return Network(down, nn.Sequential(*start, *up), math.prod(shape), latent, bounded)


class Discriminator(nn.Module):
    """Tells data from what a decoder made of codes; its hidden layer measures similarity (Larsen et al. 2016)."""

    def __init__(self, features: int, width: int = 256):
        super().__init__()
        self.features = nn.Sequential(nn.Linear(features, width), nn.LeakyReLU(0.2))
        self.verdict = nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(0.2), nn.Linear(width, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden features ``[n, width]`` and logits ``[n]``, above 0 for data."""
        h = self.features(x)
        return h, self.verdict(h)[:, 0]
