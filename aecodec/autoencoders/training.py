"""The training loop: batches, corruption, constraints, early stopping, checkpoints that resume."""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import files
from .losses import Loss, kl_activation, kl_normal
from .networks import Discriminator, Network

Progress = Callable[[int, float, float], None]  # epochs done, training loss, validation loss (NaN without)
CHECKPOINT_EVERY = 10  # epochs
ADVERSARY_RATE = 0.5  # of the learning rate, for discriminators
ADVERSARY_WEIGHT = 0.02  # of the decoder's adversarial loss beside the reconstruction


@dataclass
class Recipe:
    """What one training does; `Autoencoder` explains the fields that it shares."""

    loss: Loss
    epochs: int
    batch_size: int
    learning_rate: float
    patience: int
    noise: float = 0.0
    masking: float = 0.0
    sparsity: str = "none"
    sparsity_weight: float = 0.0
    sparsity_target: float = 0.1
    l1: float = 0.0
    l2: float = 0.0
    beta: float | None = None  # of variational ones
    adversarial: bool = False
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None
    frozen: str = "none"
    checkpoint: Path | None = None
    progress: Progress | None = None


def split_code(network: Network, code: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log variance of what a variational encoder gives, the latter kept where its exponential is finite."""
    mean, log_variance = code.split(network.latent, 1)  # type: ignore[no-untyped-call]
    return mean, log_variance.clamp(-12, 8)


def fit(
    network: Network, x: Tensor, held_out: Tensor | None, recipe: Recipe, generator: torch.Generator
) -> list[float]:
    """Train in place on ``x [n, features]``; the losses after each epoch, on ``held_out`` where it is given.

    Adam with decoupled weight decay (Loshchilov and Hutter 2019) and a cosine schedule. With ``held_out``, the network
    of the best epoch is restored, and training ends `patience` epochs after it.
    """
    parameters = [*trained(network, recipe.frozen).parameters()]
    optimiser = torch.optim.AdamW(parameters, recipe.learning_rate, weight_decay=recipe.l2, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, recipe.epochs, recipe.learning_rate / 100)
    adversary = Adversary(x.shape[1], recipe, x.device) if recipe.adversarial else None
    parts: dict[str, Any] = {"network": network, "optimiser": optimiser, "schedule": schedule}
    if adversary:
        parts |= {"judge": adversary.judge, "judge_optimiser": adversary.optimiser}
    history: list[float] = []
    best, best_state = math.inf, clone(network)
    if recipe.checkpoint and recipe.checkpoint.exists():
        history, best, best_state = resume(recipe.checkpoint, parts, generator)
    while len(history) < recipe.epochs:
        if held_out is not None and len(history) - (history.index(min(history)) if history else 0) > recipe.patience:
            break
        network.train()
        total = 0.0
        for rows in torch.randperm(len(x), generator=generator).split(recipe.batch_size):  # type: ignore[no-untyped-call]
            if len(rows) == 1 and len(x) > 1:
                continue  # of which batch normalisation has no variance
            loss = step_loss(network, x[rows.to(x.device)], recipe, generator, adversary)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, 5.0)
            optimiser.step()
            total += loss.item() * len(rows)
        schedule.step()
        network.eval()
        error = evaluate(network, held_out, recipe) if held_out is not None else math.nan
        if not math.isfinite(total):
            raise ValueError(f"training diverged in epoch {len(history) + 1}: try a smaller learning_rate")
        history.append(total / len(x) if held_out is None else error)
        if held_out is None or error < best:
            best, best_state = history[-1], clone(network)
        if recipe.progress:
            recipe.progress(len(history), total / len(x), error)
        if recipe.checkpoint and (len(history) % CHECKPOINT_EVERY == 0 or len(history) == recipe.epochs):
            states = {name: part.state_dict() for name, part in parts.items()}
            save(recipe.checkpoint, states, history, best, best_state, generator)
    network.load_state_dict(best_state)
    network.eval()
    return history


def trained(network: Network, frozen: str) -> nn.Module:
    """What of a network learns, where its `frozen` part (encoder, decoder, none) does not."""
    network.requires_grad_(True)
    if frozen == "none":
        return network
    kept, learns = (network.encoder, network.decoder) if frozen == "encoder" else (network.decoder, network.encoder)
    kept.requires_grad_(False)
    return learns


def step_loss(
    network: Network, x: Tensor, recipe: Recipe, generator: torch.Generator, adversary: "Adversary | None"
) -> Tensor:
    """The loss of one batch: reconstruction of the clean data from the corrupted, and what constrains the network."""
    x = recipe.augment(x, generator) if recipe.augment else x
    code = network.encode(corrupt(network, x, recipe, generator))
    loss = x.new_zeros(())
    if recipe.beta is not None:
        mean, log_variance = split_code(network, code)
        normal = torch.randn(mean.shape, generator=generator).to(x.device)
        code = mean + normal * (log_variance / 2).exp()  # the reparametrisation of Kingma and Welling 2014
        loss = loss + recipe.beta * kl_normal(mean, log_variance) / x.shape[1]
    elif recipe.sparsity == "kl":
        code = code.sigmoid()
        loss = loss + recipe.sparsity_weight * kl_activation(code, recipe.sparsity_target)
    elif recipe.sparsity == "l1":
        loss = loss + recipe.sparsity_weight * code.abs().mean()
    y = network.decode(code)
    loss = loss + recipe.loss(y, x)
    if recipe.l1:
        loss = loss + recipe.l1 * torch.stack([p.abs().sum() for p in network.parameters() if p.dim() > 1]).sum()
    if adversary:
        prior = network.decode(torch.randn(mean.shape, generator=generator).to(x.device))
        loss = loss + adversary.loss(x, y, prior)
    return loss


def corrupt(network: Network, x: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Noise on the input (Vincent et al. 2010): Gaussian in the data's units, features masked by their means."""
    if recipe.noise:
        x = x + recipe.noise * torch.randn(x.shape, generator=generator).to(x.device)
    if recipe.masking:
        x = torch.where((torch.rand(x.shape, generator=generator) < recipe.masking).to(x.device), network.mean, x)
    return x


class Adversary:
    """A discriminator beside a VAE's decoder (VAE-GAN, Larsen et al. 2016)."""

    def __init__(self, features: int, recipe: Recipe, device: torch.device):
        self.judge = Discriminator(features).to(device)
        self.optimiser = torch.optim.Adam(
            self.judge.parameters(), ADVERSARY_RATE * recipe.learning_rate, betas=(0.5, 0.999)
        )

    def loss(self, x: Tensor, y: Tensor, prior: Tensor) -> Tensor:
        """One step of the discriminator, then its loss for encoder and decoder.

        That is the error in its hidden features, and how well samples of the prior and reconstructions pass for data.
        """
        self.judge.requires_grad_(True)
        real, made = self.judge(x)[1], self.judge(torch.cat([y, prior]).detach())[1]
        own = F.softplus(-real).mean() + F.softplus(made).mean()
        self.optimiser.zero_grad()
        own.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.judge.requires_grad_(False)
        with torch.no_grad():
            wanted = self.judge(x)[0]
        similar, passes = self.judge(y)
        likeness: Tensor = F.mse_loss(similar, wanted) / wanted.var().clamp(1e-3)
        fooled: Tensor = F.softplus(-self.judge(prior)[1]).mean() + F.softplus(-passes).mean()
        total: Tensor = ADVERSARY_WEIGHT * (likeness + fooled)
        return total


def evaluate(network: Network, x: Tensor, recipe: Recipe) -> float:
    """The loss without augmentation and weights' penalties; noise on the input is the same each time."""
    with torch.no_grad():
        return float(step_loss(network, x, clean_of(recipe), torch.Generator().manual_seed(0), None))


def clean_of(recipe: Recipe) -> Recipe:
    return Recipe(**{**vars(recipe), "augment": None, "l1": 0.0, "adversarial": False})


def clone(network: Network) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def save(
    path: Path, states: object, history: object, best: float, best_state: object, generator: torch.Generator
) -> None:
    stream = io.BytesIO()
    everything = {"states": states, "history": history, "best": best, "best_state": best_state}
    torch.save(everything | {"generator": generator.get_state(), "global": torch.get_rng_state()}, stream)
    files.write(path, stream.getvalue())


def resume(
    path: Path, parts: dict[str, Any], generator: torch.Generator
) -> tuple[list[float], float, dict[str, Tensor]]:
    """Put the parts where a checkpoint left them. Raises ValueError for a file that is none of this training."""
    try:
        found = torch.load(path, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(found["states"][name])
        generator.set_state(found["generator"])
        torch.set_rng_state(found["global"])
        return found["history"], found["best"], found["best_state"]
    except OSError:
        raise
    except Exception as error:  # of whatever kind unpickling raises
        raise ValueError(f"{path} is no checkpoint of this training") from error


def augmentation(
    shape: tuple[int, int, int], shift: float, rotation: float, scale: float, flip: bool
) -> Callable[[Tensor, torch.Generator], Tensor]:
    """Random affine transforms of pictures: shifts and crops up to ``shift`` of a side, ``rotation`` in degrees, sizes.

    Sizes lie between 1 - ``scale`` and 1 + ``scale``; ``flip`` mirrors left and right.
    """

    def apply(x: Tensor, generator: torch.Generator) -> Tensor:
        def uniform(most: float) -> Tensor:
            return (2 * torch.rand(len(x), generator=generator) - 1) * most

        angle, size = torch.deg2rad(uniform(rotation)), 1 + uniform(scale)
        mirrored = torch.where(torch.rand(len(x), generator=generator) < 0.5 * flip, -1.0, 1.0)
        cos, sin = angle.cos() / size, angle.sin() / size
        rows = [torch.stack([cos * mirrored, -sin, uniform(2 * shift)], 1)]
        rows += [torch.stack([sin * mirrored, cos, uniform(2 * shift)], 1)]
        pictures = x.reshape(-1, *shape)
        grid = F.affine_grid(torch.stack(rows, 1).to(x), list(pictures.shape), align_corners=False)
        return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False).flatten(1)

    return apply
