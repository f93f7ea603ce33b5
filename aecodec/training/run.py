"""A training run: its recipe and its state, a step, and the checkpoint. SOAP on the matrices, AdamW on the rest."""

import io
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from ..files import write
from ..model.rate import LAMBDA_MAX, LAMBDA_MIN
from .klt import initialise
from .loss import loss
from .network import Network, fast_bfloat16
from .soap import Soap

WARM_UP_STEPS = 100
DECAY = 0.75  # last share of the time, in which the learning rate falls linearly to zero
FINE_LAYERS = ("analysis.to_fine", "synthesis.from_fine")  # linear from end to end, near their optimum from the start
FINE_SHARE = 0.1  # of the learning rate, for these: at the full one their noise hides what the rest learns
AVERAGING, AVERAGING_STEPS = 0.999, 4  # how much of the averaged weights a step keeps; steps between two looks
MOST_WASTED = 20  # steps in a row without a finite gradient, which end a run


@dataclass(frozen=True)
class Recipe:
    """What a run is asked for."""

    hours: float = 2.0
    batch: int = 8
    patch: int = 128
    rate: float = 3e-3
    seed: int = 0
    objective: str = "eye"
    noise: float = 0.0  # largest deviation, in grey levels, of the noise to be removed


class Run:
    """The state of a run: network, averaged network, optimisers, step and time."""

    def __init__(self, network: Network, recipe: Recipe):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        together = distributed.is_initialized()
        self.rank, self.processes = (distributed.get_rank(), distributed.get_world_size()) if together else (0, 1)
        self.network, self.recipe = network.to(self.device), recipe
        self.network.reduce(fast_bfloat16(self.device))
        self.average = {k: v.detach().clone() for k, v in network.state_dict().items()}
        fine = [network.tensors[f"{name}.weight"] for name in FINE_LAYERS]
        matrices = [w for w in network.matrices() if all(w is not f for f in fine)]
        chosen = {id(p) for p in (*matrices, *fine)}
        rest = [p for p in network.parameters() if id(p) not in chosen]
        groups: list[dict[str, Any]] = [{"params": rest}, {"params": fine, "share": FINE_SHARE}]
        self.optimisers: list[torch.optim.Optimizer] = [
            Soap(matrices, recipe.rate, (0.95, 0.95), fast_bfloat16(self.device)),
            torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True),
        ]
        self.step, self.seconds, self.images = 0, 0.0, 0
        self.origin = ""  # id of the model that the run has started from
        self.best, self.stalled = math.inf, 0  # BD-rate, and validations since
        self.wasted = 0  # steps in a row whose gradient was not finite
        self._parallel: nn.Module | None = None

    def start(self, patches: Tensor) -> None:
        """Initialise from ``patches``: ``[B, H, W, 3]`` bytes, H and W multiples of 16."""
        b, h, w, c = patches.shape
        blocks = patches.to(self.device).reshape(b, h // 16, 16, w // 16, 16, c).transpose(2, 3).reshape(-1, 16, 16, c)
        # at λ the best step of an orthonormal transform is about sqrt(26/λ) grey levels: the latents' scale is such
        # that the step is 1 where the gains are 1, in the middle of the range
        middle = math.sqrt(LAMBDA_MIN * LAMBDA_MAX)
        scale = (255 / 3) / math.sqrt(26 / middle)
        network = self.network
        deviations = initialise(network, blocks.float() / 255, scale)
        with torch.no_grad():
            m = network.design.fine
            network.tensors["prior.fine_head.bias"][m:] = deviations[-m:].clamp(min=1e-3).log2()
        self.average = {k: v.detach().clone() for k, v in network.state_dict().items()}

    def averaged(self) -> Network:
        network = Network(self.network.design)
        network.load_state_dict(self.average)
        return network.eval()

    def progress(self) -> float:
        """Share of the run's time that is spent."""
        return self.seconds / (self.recipe.hours * 3600)

    def learning_rate(self) -> float:
        """Warm-up, constant, decay. When the run gets more hours, the rate rises again (WSD-S, Wen et al. 2024)."""
        decay = min(1.0, max(0.0, 1 - self.progress()) / DECAY)
        return self.recipe.rate * decay * min(1.0, (self.step + 1) / WARM_UP_STEPS)

    def agree(self, value: float) -> float:
        """The first process' value, in every process."""
        if self.processes == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64, device=self.device)
        distributed.broadcast(shared, 0)
        return shared.item()

    def advance(self, noisy: Tensor, clean: Tensor) -> tuple[Tensor, float, float]:
        """One step on two batches ``[B, H, W, 3]`` of bytes, what is coded and what should come out of it.

        Returns loss, bits per pixel and PSNR, on the CPU, and the seconds that network and optimiser took.
        """
        began = time.monotonic()
        # what is random depends on the step, so that a run that goes on needs no state of generators
        seeds = np.random.SeedSequence((self.recipe.seed, self.step, self.rank))
        torch.manual_seed(int(seeds.generate_state(1)[0]))
        if self._parallel is None:
            self._parallel = DistributedDataParallel(self.network) if self.processes > 1 else self.network
        b = len(clean)
        seen, target = noisy.to(self.device).float() / 255, clean.to(self.device).float() / 255
        # one quality per sample, stratified over the batch
        t = (torch.randperm(b, device=self.device) + torch.rand(b, device=self.device)) / b
        reconstruction, bits = self._parallel(seen, t)
        value, bpp = loss(self.recipe.objective, target, reconstruction, bits, t)
        for optimiser in self.optimisers:
            optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.wasted = 0 if torch.isfinite(norm) else self.wasted + 1
        if self.wasted >= MOST_WASTED:
            raise ArithmeticError(f"no finite gradient in {self.wasted} steps: start again with a lower rate")
        half_way = time.monotonic()
        if not self.wasted:
            for optimiser in self.optimisers:
                for group in optimiser.param_groups:
                    group["lr"] = self.learning_rate() * group.get("share", 1.0)
                optimiser.step()
            self.network.clamp_()
        self.step += 1
        if self.step % AVERAGING_STEPS == 0:
            keep = min(AVERAGING, self.step / (self.step + 10)) ** AVERAGING_STEPS
            torch._foreach_lerp_(list(self.average.values()), list(self.network.state_dict().values()), 1 - keep)
        psnr = -10 * (reconstruction.detach() - target).square().mean((1, 2, 3)).clamp(min=1e-9).log10().mean()
        figures = torch.stack((value.detach(), bpp, psnr)).cpu()
        return figures, half_way - began, time.monotonic() - half_way

    def save(self, path: Path) -> None:
        """Write the whole state; the old file stays until the new one is complete. Raises OSError."""
        state = {
            "recipe": asdict(self.recipe),
            "design": asdict(self.network.design),
            "step": self.step,
            "seconds": self.seconds,
            "images": self.images,
            "origin": self.origin,
            "best": self.best,
            "stalled": self.stalled,
            "network": self.network.state_dict(),
            "average": self.average,
            "optimisers": [o.state_dict() for o in self.optimisers],
        }
        file = io.BytesIO()
        torch.save(state, file)
        write(path, file.getvalue())

    def load(self, state: dict[str, Any]) -> None:
        """Take over what `save` has written, for a network of the same design."""
        for name in ("step", "seconds", "origin", "best", "stalled"):
            setattr(self, name, state[name])
        self.network.load_state_dict(state["network"])
        for name, value in state["average"].items():
            self.average[name].copy_(value)
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
