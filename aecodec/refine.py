"""The encoder's search: better symbols of one picture, for the same decoder.

Method: the latents are refined by gradient descent on the picture's own rate + λ·distortion, through the synthesis and
the prior (Campos et al. 2019); the distortion is what the weights were trained for. The first few steps leave the
latents unrounded or round them softly, which gains most for the time; then rounding is relaxed to an annealed random
choice between the two nearest integers (SGA: Yang, Bamler, Mandt 2020). What a round of steps finds is kept if the real
symbols cost less.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain

import torch
from torch import Tensor
from torch.nn import functional as F

from . import encoder, objective
from .decoder import channels
from .encoder import Part, Quantised, factors_of
from .geometry import LATENT, Box, Tiling
from .image import Pixels
from .loading import LOADING
from .model import rate
from .model.entropy import SCALE_MIN_LOG2
from .model.fixed_point import ACTIVATION_BITS, TABLE_BITS
from .model.structure import hyper_synthesis
from .model.weights import Model

Steps = tuple[tuple[float, bool], ...]  # their sizes, and whether they are taken under soft rounding or without any

# the rounds, one more for each effort; each goes on from the best that those before it have found, so that no effort
# finds less than the one below. The size of a gradient step is its root mean square over a channel, in units of the
# symbols. No element moves by more than the limit: where a channel is nearly all zeros, a few have all of its gradient
DIRECT: tuple[Steps, ...] = (
    ((0.018, True),),
    ((0.03, False), (0.015, True), (0.0075, True)),
    ((0.03, False), (0.02, False), (0.015, True), (0.0075, True)),
)
STEP_LIMIT = 0.07
SOFT = 0.3  # temperature of the soft rounding
ANNEALED = (30, 50, 100, 200, 300, 2500)  # iterations
STEP, MOMENTA = 0.01, (0.5, 0.99)  # of their Adam, in the same units
HOTTEST, COLDEST = 0.3, 0.1  # temperature of the choice, from the first iteration to the last
SOFTNESS = 3.0  # the temperature of the choice's relaxation, over that of the choice
MOST = len(DIRECT) + len(ANNEALED)

Quantise = Callable[[Tensor], Tensor]
Loss = Callable[[Tensor, Tensor, Quantise], Tensor]  # of y and z, in units of the symbols


def symbols(
    m: Model,
    pixels: Pixels,
    tiling: Tiling,
    effort: int,
    progress: Callable[[float], object] | None = None,
) -> Iterator[Quantised]:
    """A picture's tiles after the rounds of an ``effort`` of 1 to `MOST`.

    The same each time on the same machine with as many threads. ``progress`` is called with the share that is done,
    after each step.
    """
    # whatever the caller's modes are
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(m.ops.device.type, enabled=False):
        search = Search(m, pixels, tiling)
        rounds: list[Steps | int] = [*DIRECT, *ANNEALED]
        del rounds[effort:]
        total = sum(r if isinstance(r, int) else len(r) for r in rounds) * len(search.tiles)
        for step, _ in enumerate(chain.from_iterable(map(search.improve, rounds)), 1):
            if progress:
                progress(step / total)
    for place, tile in enumerate(search.tiles):
        yield Quantised(0, place, tile.parts, tile.latents * 2**ACTIVATION_BITS)


@dataclass
class _Tile:
    """A tile and the best that is known for it."""

    box: Box
    quality: int
    y: Tensor  # [1, h, w, N + M], main and fine, not rounded
    z: Tensor  # [1, ceil(h/4), ceil(w/4), Nz], not rounded, in units of the symbols
    parts: list[Part]
    latents: Tensor  # ŷ [h, w, N or N + M]


class Search:
    """One picture: its pixels, its tiles, and the plane of ŷ that they make together."""

    def __init__(self, m: Model, pixels: Pixels, tiling: Tiling):
        self.m, self.tiling, self.pixels = m, tiling, m.ops.array(pixels)
        self.prior, self.tables = rate.float_prior(m.entropy, m.ops.device)
        self.lagrangian = m.ops.array(m.lagrangian)
        self.random = torch.Generator(m.ops.device).manual_seed(0)
        y = encoder.analyse(m, [pixels], tiling)[0].clone()
        self.plane = y.new_zeros(*y.shape[:2], channels(m, set(tiling.qualities)))
        self.tiles = []
        for box, quality in zip(tiling.boxes, tiling.qualities, strict=True):
            part = y[None, box.rows, box.columns]
            with torch.no_grad():
                z = encoder.hyper_latents(m, part, quality)
            parts, latents = self._quantise(part, z, quality)
            self.tiles.append(_Tile(box, quality, part, z, parts, latents))
            self._place(box, latents)

    def improve(self, steps: Steps | int) -> Iterator[None]:
        """One round over all tiles, step by step: `direct` steps as given, or so many `annealed` ones."""
        descend: Callable[[Loss, Tensor, Tensor], Iterator[None]]
        if isinstance(steps, int):
            descend = partial(annealed, iterations=steps, random=self.random)
        else:
            descend = partial(direct, steps=steps)
        for tile in self.tiles:
            gain, (height, width) = (
                self.m.ops.array(encoder.gain(self.m, tile.quality)) * 0.5**TABLE_BITS,
                tile.y.shape[1:3],
            )
            # the context wants whole cells: what is added at the border is dropped again
            y = (F.pad(tile.y, (0, 0, 0, width % 2, 0, height % 2)) * gain).requires_grad_()
            z = tile.z.clone().requires_grad_()
            yield from descend(partial(self._loss, tile), y, z)
            self._keep_if_better(tile, (y.detach() / gain)[:, :height, :width], z.detach())

    def _keep_if_better(self, tile: _Tile, y: Tensor, z: Tensor) -> None:
        parts, latents = self._quantise(y, z, tile.quality)
        before = self._cost(tile, tile.parts, tile.latents)
        if self._cost(tile, parts, latents) < before:
            tile.y, tile.z, tile.parts, tile.latents = y, z, parts, latents
        self._place(tile.box, tile.latents)

    def _place(self, box: Box, latents: Tensor) -> None:
        self.plane[box.rows, box.columns, : latents.shape[-1]] = latents

    def _quantise(self, y: Tensor, z: Tensor, quality: int) -> tuple[list[Part], Tensor]:
        with torch.no_grad():
            found, latents = encoder.quantise_batch(self.m, y, z, quality)
        parts: list[Part] = [(part[0], indices[0]) for part, indices in found]
        return parts, self.m.ops.array(latents[0]).clone() * 0.5**ACTIVATION_BITS

    def _cost(self, tile: _Tile, parts: list[Part], latents: Tensor) -> float:
        """Bits of the tile on disk and λ times the distortion of the 8-bit pixels that it reaches."""
        with torch.no_grad():
            error = self._error(tile, latents, as_bytes=True)
        return 8 * len(encoder.code(self.m, parts, tile.quality).words) + float(error)

    def _error(self, tile: _Tile, latents: Tensor, as_bytes: bool) -> Tensor:
        """λ times the distortion, times the pixels: those of the tile and those of its neighbours that it blends into.

        What pools over a picture, as MS-SSIM does, pools over these pixels.
        """
        outer = tile.box.grown(self.m.design.synthesis_halo, *self.plane.shape[:2])
        inner, place = tile.box.within(outer), outer.scaled(LATENT)
        around = self.plane[outer.rows, outer.columns].clone()
        around[inner.rows, inner.columns, : latents.shape[-1]] = latents
        quality = self.tiling.plane[outer.rows, outer.columns]
        factors = factors_of(self.m.synthesis_rate, quality)
        x = self.m.synthesis(around[None], factors)[0] * 255
        original = self.pixels[place.rows, place.columns]
        x = x[: original.shape[0], : original.shape[1]]
        if original.shape[2] == 1:
            x = x.mean(2, keepdim=True)
        if as_bytes:
            x = x.clamp(0, 255).round()
        mix = self.m.objective
        # the neighbours have their own λ
        weight = self.lagrangian[quality]
        weight = weight.repeat_interleave(LATENT, 0).repeat_interleave(LATENT, 1)
        weight = weight[: original.shape[0], : original.shape[1], None]
        error: Tensor = mix.mse * (weight * (x - original).square()).sum() / original.shape[2]
        if mix.ms_ssim or mix.ssimulacra2:
            colours = ((p / 255).expand(-1, -1, 3)[None] for p in (original, x))
            error = error + weight.sum() * objective.perceptual(mix, *colours)[0]
        return error

    def _loss(self, tile: _Tile, y: Tensor, z: Tensor, quantise: Quantise) -> Tensor:
        """Bits and λ times the distortion of ``y`` and ``z``, in units of the symbols, with a relaxed rounding."""
        tables, quality, (height, width) = self.tables, tile.quality, tile.y.shape[1:3]

        def table(name: str) -> Tensor:
            return tables[name][quality].expand(1, 1, 1, -1)

        n = self.m.design.latents
        gain = self.m.ops.array(encoder.gain(self.m, quality)) * 0.5**TABLE_BITS
        latents, fine = (y / gain)[..., :n], (y / gain)[..., n:]
        hyper_scale = self.m.ops.array(self.m.entropy.hyper_index[quality] / 8.0 + SCALE_MIN_LOG2)
        symbols = quantise(z)
        hyper = symbols * tables["hyper_inverse_gain"][quality]
        features = hyper_synthesis(self.prior, hyper, tables["hyper_rate"][quality], *y.shape[1:3])

        def twice(x: Tensor) -> tuple[Tensor, Tensor]:
            return (quantise(x),) * 2

        offset = table("scale_offset") + SCALE_MIN_LOG2
        inside = torch.zeros_like(latents)
        inside[:, :height, :width] = 1
        latents, bits = rate.code(self.prior, features, latents, table("gain"), offset, twice, inside)
        latents, features, fine = (x[:, :height, :width] for x in (latents, features, fine))
        total = rate.gaussian_bits(symbols, hyper_scale).sum() + bits.sum()
        if self.m.entropy.has_fine(quality):
            offset = table("fine_scale_offset") + SCALE_MIN_LOG2
            fine, bits = rate.code_fine(self.prior, features, latents, fine, table("fine_gain"), offset, twice)
            latents, total = torch.cat((latents, fine), -1), total + bits.sum()
        return total + self._error(tile, latents[0], as_bytes=False)


def direct(loss: Loss, y: Tensor, z: Tensor, steps: Steps) -> Iterator[None]:
    """Gradient steps in place, as if symbols need not be integers or under soft rounding."""
    for size, softly in steps:
        quantise: Quantise = partial(_soft_round, temperature=SOFT) if softly else lambda x: x
        gradients = torch.autograd.grad(loss(y, z, quantise), (y, z))
        with torch.no_grad():
            for x, gradient in zip((y, z), gradients, strict=True):
                scale = size / gradient.square().mean((0, 1, 2)).sqrt().clamp(min=1e-9)
                x.sub_((scale * gradient).clamp(-STEP_LIMIT, STEP_LIMIT))
        yield


def annealed(loss: Loss, y: Tensor, z: Tensor, iterations: int, random: torch.Generator) -> Iterator[None]:
    """Iterations in place under random rounding that becomes more and more what real rounding is."""
    with LOADING:  # the first one imports hundreds of modules
        adam = torch.optim.Adam((y, z), STEP, MOMENTA)
    for i in range(iterations):
        part = i / iterations
        adam.param_groups[0]["lr"] = STEP * (1 - part) ** 0.5
        adam.zero_grad()
        choose = partial(_choose, temperature=HOTTEST * (COLDEST / HOTTEST) ** part, random=random)
        loss(y, z, choose).backward()  # type: ignore[no-untyped-call]
        adam.step()
        yield


def _choose(x: Tensor, temperature: float, random: torch.Generator) -> Tensor:
    """One of the two nearest integers, softly, the nearer one with more probability: the Gumbel softmax of SGA."""
    uniform = torch.rand(x.shape, generator=random, dtype=x.dtype, device=x.device).clamp(1e-6, 1 - 1e-6)
    # the difference of two Gumbel variables
    return _soft_round(x, temperature, torch.log(uniform) - torch.log1p(-uniform))


def _soft_round(x: Tensor, temperature: float, noise: Tensor | float = 0.0) -> Tensor:
    """From the integer below x to the one above, steepest half-way; ``noise`` is added to the logits of the two.

    SGA has one temperature for the logits and for the softmax. A hotter softmax finds more.
    """
    low = x.detach().floor()
    part = (x - low).clamp(1e-4, 1 - 1e-4)
    logits = (torch.atanh(1 - part) - torch.atanh(part)) / temperature  # of the lower one over the upper one
    return low + torch.sigmoid(-(logits + noise) / (SOFTNESS * temperature))
