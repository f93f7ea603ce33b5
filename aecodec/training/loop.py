"""The training loop: SOAP on the matrices, AdamW on the rest, checkpoints that resume."""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import registry
from ..transforms import Design, initialise_with_pca
from .data import Patches, check_apart, find_images, loader
from .export import read_checkpoint, thaw
from .measure import measure_network
from .network import LAMBDA_MAX, LAMBDA_MIN, Network, fast_bfloat16, lagrangian
from .soap import Soap

WARM_UP_STEPS = 100
CONSTANT_UNTIL = 0.25  # share of the time after which the learning rate falls linearly to zero
LARGE_FROM = 0.7  # share of the time after which patches of twice the side are used, half as many
AVERAGING = 0.999
CHECKPOINT_SECONDS = 120.0
VALIDATION_SECONDS = 900.0
VALIDATION_IMAGES = 12
LOG_STEPS = 50
MOST_WASTED = 20
LONGEST_STEP = 5.0  # seconds that a step counts at most: a suspended machine does not train


@dataclass(frozen=True)
class Recipe:
    """What a run is asked for."""

    hours: float = 2.0
    batch: int = 8
    patch: int = 128
    rate: float = 3e-3
    seed: int = 0


def train(
    folders: list[Path], out: Path, recipe: Recipe, valid: Path | None, resume: bool, init: str | None = None
) -> None:
    """Train for ``recipe.hours`` hours in all and leave checkpoints and a log in the folder ``out``.

    It starts from the weights ``init``, the name of installed ones or a file, else from a transform fitted to the
    images. With ``valid``, rate and distortion of real files of the images in that folder are logged now and then.
    Raises ValueError where there is nothing to learn from, or no checkpoint that could be resumed.
    """
    torch.manual_seed(recipe.seed)
    torch.set_flush_denormal(True)  # denormals make CPU steps up to twice as slow as training goes on
    files, skipped = find_images(folders, 2 * recipe.patch)
    if not files:
        raise ValueError(f"no image of at least {2 * recipe.patch} pixels a side below {', '.join(map(str, folders))}")
    print(f"{len(files)} images, {skipped} files skipped (unreadable or too small)", file=sys.stderr)
    valid_files = find_images([valid], 1)[0] if valid else []
    check_apart(files, valid_files)

    start = _weights(init) if init else None
    run = Run(thaw(start) if start else Network(Design()), recipe)
    run.images = len(files)
    run.origin = registry.metadata(start).get("model_id", "") if start else ""
    checkpoint = out / "checkpoint.pt"
    if resume:
        run.load(checkpoint)
    elif checkpoint.exists():
        raise ValueError(f"{checkpoint} exists: resume it, or choose another folder")
    elif not start:
        run.start(Patches(files, 64, recipe.patch, recipe.seed + 1)[0])
    out.mkdir(parents=True, exist_ok=True)
    with (out / "log.jsonl").open("a") as log:

        def record(entry: dict[str, Any]) -> None:
            line = json.dumps({"step": run.step, "hours": round(run.seconds / 3600, 4), **entry})
            print(line, file=log, flush=True)
            if sys.stderr.isatty():
                print(f"\r{run.progress():6.1%}  {line}\x1b[K", end="", file=sys.stderr, flush=True)

        _steps(run, files, valid_files[:VALIDATION_IMAGES], checkpoint, record)
    run.save(checkpoint)
    print(f"\n{checkpoint}: {run.step} steps", file=sys.stderr)


def _weights(init: str) -> Path:
    installed = registry.folder() / f"{init}.safetensors"
    return installed if installed.is_file() else Path(init)


def _steps(
    run: "Run", files: list[Path], valid_files: list[Path], checkpoint: Path, record: Callable[[dict[str, Any]], None]
) -> None:
    """Train until the time is spent."""
    recipe = run.recipe
    batches: Iterator[Tensor] = iter(())
    batch_patch = 0
    saved = logged = validated = time.monotonic()
    logged_step, sums = run.step, torch.zeros(3)
    while run.progress() < 1:
        patch = recipe.patch * (2 if run.progress() >= LARGE_FROM else 1)
        if patch != batch_patch:
            batch = recipe.batch * recipe.patch // patch
            batches, batch_patch = iter(loader(Patches(files, batch, patch, recipe.seed), run.step)), patch
        began = time.monotonic()
        sums += run.advance(next(batches))
        now = time.monotonic()
        run.seconds += min(now - began, LONGEST_STEP)
        if run.step % LOG_STEPS == 0:
            loss, bpp, mse = (sums / (run.step - logged_step)).tolist()
            entry = {"loss": round(loss, 4), "bpp": round(bpp, 4), "psnr": round(-10 * math.log10(mse), 3)}
            speed = (run.step - logged_step) / (now - logged)
            record({**entry, "learning_rate": round(run.learning_rate(), 6), "steps_per_second": round(speed, 2)})
            logged, logged_step = now, run.step
            sums.zero_()
        if now - saved > CHECKPOINT_SECONDS:
            run.save(checkpoint)
            saved = time.monotonic()
        if valid_files and (now - validated > VALIDATION_SECONDS or run.progress() >= 1):
            run.save(checkpoint)
            with torch.random.fork_rng():
                record(measure_network(run.averaged(), valid_files))
            validated = time.monotonic()


class Run:
    """The state of a run: network, averaged network, optimisers, step and time."""

    def __init__(self, network: Network, recipe: Recipe):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network, self.recipe = network.to(self.device), recipe
        self.average = {k: v.detach().clone() for k, v in network.state_dict().items()}
        matrices = [m.weight for m in network.modules() if isinstance(m, nn.Linear)]
        chosen = {id(p) for p in matrices}
        rest = [p for p in network.parameters() if id(p) not in chosen]
        self.optimisers: list[torch.optim.Optimizer] = [
            Soap(matrices, recipe.rate, (0.95, 0.95), fast_bfloat16(self.device)),
            torch.optim.AdamW(rest, lr=recipe.rate, betas=(0.9, 0.99), weight_decay=0.0),
        ]
        self.step, self.seconds, self.images = 0, 0.0, 0
        self.origin = ""  # id of the model that the run has started from
        self.wasted = 0  # steps in a row whose gradient was not finite

    def start(self, patches: Tensor) -> None:
        """Initialise from ``patches``: ``[B, H, W, 3]`` bytes, H and W multiples of 16."""
        b, h, w, c = patches.shape
        blocks = patches.to(self.device).reshape(b, h // 16, 16, w // 16, 16, c).transpose(2, 3).reshape(-1, 16, 16, c)
        # at λ the best step of an orthonormal transform is about sqrt(26/λ) grey levels: the latents' scale is such
        # that the step is 1 where the gains are 1, in the middle of the range
        middle = math.sqrt(LAMBDA_MIN * LAMBDA_MAX)
        scale = (255 / 3) / math.sqrt(26 / middle)
        initialise_with_pca(self.network.analysis, self.network.synthesis, blocks.float() / 255, scale)
        self.average = {k: v.detach().clone() for k, v in self.network.state_dict().items()}

    def averaged(self) -> Network:
        network = Network(self.network.design)
        network.load_state_dict(self.average)
        return network.eval()

    def progress(self) -> float:
        """Share of the run's time that is spent."""
        return self.seconds / (self.recipe.hours * 3600)

    def learning_rate(self) -> float:
        decay = min(1.0, (1 - self.progress()) / (1 - CONSTANT_UNTIL))
        return self.recipe.rate * max(0.0, decay) * min(1.0, (self.step + 1) / WARM_UP_STEPS)

    def advance(self, patches: Tensor) -> Tensor:
        """One step on ``[B, H, W, 3]`` bytes; returns ``[loss, bpp, mse]`` on the CPU."""
        b = len(patches)
        pixels = patches.to(self.device).float() / 255
        # one quality per sample, stratified over the batch
        t = (torch.randperm(b, device=pixels.device) + torch.rand(b, device=pixels.device)) / b
        reconstruction, y_bits, z_bits = self.network(pixels, t)
        loss, bpp, mse = objective(pixels, reconstruction, y_bits + z_bits, t)
        for optimiser in self.optimisers:
            optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.wasted = 0 if torch.isfinite(norm) else self.wasted + 1
        if self.wasted > MOST_WASTED:
            raise ArithmeticError(f"no finite gradient in {self.wasted} steps: start again with a lower rate")
        if not self.wasted:
            for optimiser in self.optimisers:
                for group in optimiser.param_groups:
                    group["lr"] = self.learning_rate()
                optimiser.step()
            self.network.prior.clamp_()
        self.step += 1
        keep = min(AVERAGING, self.step / (self.step + 10))
        torch._foreach_lerp_(list(self.average.values()), list(self.network.state_dict().values()), 1 - keep)
        return torch.stack((loss, bpp, mse)).detach().cpu()

    def save(self, path: Path) -> None:
        """Write the whole state; the old file stays until the new one is complete."""
        state = {
            "recipe": asdict(self.recipe),
            "design": asdict(self.network.design),
            "step": self.step,
            "seconds": self.seconds,
            "images": self.images,
            "origin": self.origin,
            "network": self.network.state_dict(),
            "average": self.average,
            "optimisers": [o.state_dict() for o in self.optimisers],
            "random": torch.get_rng_state(),
            "random_gpu": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)

    def load(self, path: Path) -> None:
        if not path.is_file():
            raise ValueError(f"{path}: no checkpoint to resume")
        state = read_checkpoint(path)
        if state["design"] != asdict(self.network.design):
            raise ValueError(f"{path}: a checkpoint of another design: {state['design']}")
        self.step, self.seconds, self.origin = state["step"], state["seconds"], state.get("origin", "")
        self.network.load_state_dict(state["network"])
        for name, value in state["average"].items():
            self.average[name].copy_(value)
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        torch.set_rng_state(state["random"])
        if torch.cuda.is_available() and len(state["random_gpu"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["random_gpu"])


def objective(pixels: Tensor, reconstruction: Tensor, bits: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The loss bpp + λ·255²·MSE of each sample, weighted so that neither end of the range dominates."""
    mse = ((reconstruction - pixels) ** 2).mean((1, 2, 3))
    bpp = bits / (pixels.shape[1] * pixels.shape[2])
    weight = (lagrangian(t) / 0.01) ** -0.4
    loss = (weight * (bpp + lagrangian(t) * 255**2 * mse)).mean()
    return loss, bpp.mean(), mse.mean()
