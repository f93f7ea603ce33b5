"""The encoder's search: better symbols of one picture, for the same decoder.

Method: the latents are refined by gradient descent on the picture's own rate + λ·distortion, through the synthesis and
the prior (Campos et al. 2019), with rounding relaxed to an annealed random choice between the two nearest integers
(SGA: Yang, Bamler, Mandt 2020). What is found is kept if the real symbols cost less.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from . import coding, rate
from .coding import Part
from .image import Plane
from .model import Model
from .prior import ACTIVATION_BITS, SCALE_MIN_LOG2
from .tiles import LATENT, Box, grid

# of the rounds, one for each level of effort; each goes on from the best that those before it have found, so that more
# effort never costs more
ITERATIONS = (5, 10, 15, 20, 30, 40, 80, 160, 320)
STEP = 0.01  # of Adam, in units of the symbols
HOTTEST, COLDEST = 0.5, 0.15  # temperature of the choice, from the first iteration of a round to its last


def symbols(
    m: Model, pixels: Plane, qualities: Sequence[int], tile_size: int, effort: int
) -> Iterator[tuple[int, list[Part]]]:
    """`coding.symbols` after a search of ``effort`` rounds; the same each time."""
    with torch.inference_mode(False), torch.enable_grad():  # whatever the caller's mode is
        search = Search(m, pixels, qualities, tile_size)
        for iterations in ITERATIONS[:effort]:
            search.improve(iterations)
    for place, tile in enumerate(search.tiles):
        yield place, tile.parts


@dataclass
class _Tile:
    """A tile and the best that is known for it."""

    box: Box
    quality: int
    y: Tensor  # [1, h, w, N], not rounded
    z: Tensor  # [1, ceil(h/4), ceil(w/4), Nz], not rounded, in units of the symbols
    parts: list[Part]
    latents: Tensor  # ŷ [h, w, N]


class Search:
    """One picture: its pixels, its tiles, and the plane of ŷ that they make together."""

    def __init__(self, m: Model, pixels: Plane, qualities: Sequence[int], tile_size: int):
        self.m, self.pixels = m, torch.from_numpy(pixels.copy()).to(m.device)
        self.prior = rate.FloatPrior(m.prior.tensors)
        self.random = torch.Generator(m.device).manual_seed(0)
        y = coding.analyse(m, pixels, qualities, tile_size).clone()
        height, width, _ = y.shape
        self.qualities = coding.by_latent(m, height, width, tile_size, qualities)
        self.plane = torch.empty_like(y)
        self.tiles = []
        for box in grid(height, width, tile_size // LATENT):
            quality = int(self.qualities[box.top, box.left])
            part = y[None, box.rows, box.columns]
            with torch.no_grad():
                z = coding.hyper_latents(m, part, quality)
            parts, latents = self._quantise(part, z, quality)
            self.tiles.append(_Tile(box, quality, part, z, parts, latents))
            self.plane[box.rows, box.columns] = latents

    def improve(self, iterations: int) -> None:
        """One round over all tiles."""
        for tile in self.tiles:
            y, z = self._descend(tile, iterations)
            parts, latents = self._quantise(y, z, tile.quality)
            before = self._cost(tile, tile.parts, tile.latents)
            if self._cost(tile, parts, latents) < before:
                tile.y, tile.z, tile.parts, tile.latents = y, z, parts, latents
            self.plane[tile.box.rows, tile.box.columns] = tile.latents

    def _quantise(self, y: Tensor, z: Tensor, quality: int) -> tuple[list[Part], Tensor]:
        found, latents = coding.quantise_batch(self.m, y, z, quality)
        parts: list[Part] = [(part[0], indices[0]) for part, indices in found]
        return parts, latents[0].float().clone() * 0.5**ACTIVATION_BITS

    def _cost(self, tile: _Tile, parts: list[Part], latents: Tensor) -> float:
        """Bits of the tile and λ times the squared error of the 8-bit pixels that it reaches."""
        with torch.no_grad():
            error = self._error(tile, latents, as_bytes=True)
        return sum(self.m.coder.bits(*part) for part in parts) + float(error)

    def _error(self, tile: _Tile, latents: Tensor, as_bytes: bool) -> Tensor:
        """λ times the squared error, summed over the tile and what the synthesis blends of it into its neighbours."""
        outer = tile.box.grown(self.m.synthesis.halo, *self.plane.shape[:2])
        inner, place = tile.box.within(outer), outer.scaled(LATENT)
        around = self.plane[outer.rows, outer.columns].clone()
        around[inner.rows, inner.columns] = latents
        factors = coding.factors_of(self.m.synthesis_rate, self.qualities[outer.rows, outer.columns])
        x = self.m.synthesis(around[None], factors)[0] * 255
        original = self.pixels[place.rows, place.columns].float()
        x = x[: original.shape[0], : original.shape[1]]
        if original.shape[2] == 1:
            x = x.mean(2, keepdim=True)
        if as_bytes:
            x = x.clamp(0, 255).round()
        weight = rate.lagrangian(self.qualities[outer.rows, outer.columns] / 100)  # the neighbours have their own λ
        weight = weight.repeat_interleave(LATENT, 0).repeat_interleave(LATENT, 1)
        weight = weight[: original.shape[0], : original.shape[1], None]
        error: Tensor = (weight * (x - original).square()).sum() / original.shape[2]
        return error

    def _descend(self, tile: _Tile, iterations: int) -> tuple[Tensor, Tensor]:
        """Y and z after so many steps."""
        tables, quality, (height, width) = self.prior.tensors, tile.quality, tile.y.shape[1:3]
        gain, offset = (tables[name][quality].expand(1, 1, 1, -1) for name in ("gain", "scale_offset"))
        hyper_scale = torch.from_numpy(self.m.hyper_index[quality] / 8.0 + SCALE_MIN_LOG2).float().to(self.m.device)
        # the context wants whole cells: what is added at the border is dropped again
        target = (F.pad(tile.y, (0, 0, 0, width % 2, 0, height % 2)) * gain).requires_grad_()
        z = tile.z.clone().requires_grad_()
        adam = torch.optim.Adam([target, z], STEP)
        for i in range(iterations):
            part = i / iterations
            adam.param_groups[0]["lr"] = STEP * min(1.0, 2 * (1 - part))
            temperature = HOTTEST * (COLDEST / HOTTEST) ** part

            def choose(x: Tensor, temperature: float = temperature) -> Tensor:
                return self._choose(x, temperature)

            symbols = choose(z)
            bits = rate.gaussian_bits(symbols, hyper_scale).sum()
            features = self.prior.features(symbols * tables["hyper_inverse_gain"][quality], quality, *target.shape[1:3])
            latents, y_bits = rate.code(
                self.prior, features, target / gain, gain, offset + SCALE_MIN_LOG2, lambda r: (choose(r),) * 2
            )
            loss = bits + y_bits.sum() + self._error(tile, latents[0, :height, :width], as_bytes=False)
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
        y = target.detach() / gain
        return y[:, :height, :width], z.detach()

    def _choose(self, x: Tensor, temperature: float) -> Tensor:
        """One of the two nearest integers, softly, the nearer one with more probability: the Gumbel softmax of SGA."""
        low = x.detach().floor()
        part = (x - low).clamp(1e-4, 1 - 1e-4)
        logits = (torch.atanh(1 - part) - torch.atanh(part)) / temperature  # of the lower one over the upper one
        uniform = torch.rand(x.shape, generator=self.random, device=x.device).clamp(1e-6, 1 - 1e-6)
        noise = torch.log(uniform) - torch.log1p(-uniform)  # the difference of two Gumbel variables
        return low + torch.sigmoid(-(logits + noise) / temperature)
