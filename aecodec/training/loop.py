"""The training loop: batches, log, validations, and checkpoints that resume."""

import json
import math
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed

from .. import registry
from ..errors import foreseen
from ..model.structure import Design
from ..objective import OBJECTIVES
from .data import Patches, check_apart, check_readable, find_images, loader
from .export import draft, read_checkpoint, thaw
from .measure import LEAST_SIDE, measure
from .network import Network
from .run import Recipe, Run

START_PATCHES = 512  # that the transforms are fitted to before the first step
LARGE = 0.3  # last share of the time, in which patches of twice the side are used, half as many
INIT_RATE = 1e-3  # that trained weights go on at: the full one loses more than a short run wins back
CHECKPOINT_SECONDS = 100.0
VALIDATION_SECONDS = 900.0
VALIDATION_IMAGES = 12
LOG_STEPS = 50
LONGEST_STEP = 5.0  # seconds that a step counts at most: a suspended machine does not train


def train(
    folders: list[Path],
    out: Path,
    asked: Mapping[str, Any],
    valid: Path | None = None,
    resume: bool = False,
    init: str | None = None,
    patience: int = 0,
) -> None:
    """Train for a number of hours in all and leave checkpoints and a log in the folder ``out``.

    ``asked``: fields of the `Recipe` that differ from the default or, with ``resume``, from the run that goes on. A run
    that has ended goes on when it is asked for more hours. It starts from the weights ``init``, the name of installed
    ones or a file, else from a transform fitted to the images. With ``valid``, rate and distortion of real files of the
    images in that folder are logged now and then; after ``patience`` such validations without a better BD-rate than
    the best, which is kept as ``best.pt``, the run ends. Under torchrun, every process takes a share of the batches.

    Raises ValueError where there is nothing to learn from, or no checkpoint that could be resumed, and OSError where
    the last checkpoint cannot be written.
    """
    torch.set_flush_denormal(True)  # denormals make CPU steps up to twice as slow as training goes on
    checkpoint = out / "checkpoint.pt"
    state = _state(checkpoint, init) if resume else None
    if not resume and checkpoint.exists():
        raise ValueError(f"{checkpoint} exists: resume it, or choose another folder")
    before = Recipe(**state["recipe"]) if state else Recipe(rate=INIT_RATE) if init else Recipe()
    recipe = replace(before, **asked)
    if recipe.objective not in OBJECTIVES:
        raise ValueError(f"objective {recipe.objective}: there are {', '.join(OBJECTIVES)}")
    if state and state["seconds"] >= recipe.hours * 3600:
        raise ValueError(f"{checkpoint} has {state['seconds'] / 3600:.2f} hours behind it: ask for more to go on")
    if state and recipe != before:
        state["stalled"] = 0  # the rate rises again, and with it the BD-rate for a while
    if state and (recipe.objective, recipe.noise) != (before.objective, before.noise):
        state["best"] = math.inf  # none to compare with
    files, skipped = find_images(folders, 2 * recipe.patch)
    if not files:
        raise ValueError(f"no image of at least {2 * recipe.patch} pixels a side below {', '.join(map(str, folders))}")
    valid_files = _validation_images(valid, files) if valid else []
    if patience and not valid_files:
        raise ValueError("patience needs images to validate on")
    start = (registry.named(init) or Path(init)) if init else None
    out.mkdir(parents=True, exist_ok=True)

    with _processes():
        torch.manual_seed(recipe.seed)
        design = Design(**state["design"]) if state else Design()
        run = Run(thaw(start) if start else Network(design), recipe)
        run.images = len(files)
        if state:
            run.load(state)
        elif start:
            run.origin = registry.metadata(start).get("model_id", "")
        else:
            run.start(Patches(files, START_PATCHES, recipe.patch, recipe.seed + 1)[0][0])
        if run.rank == 0:
            print(f"{len(files)} images, {skipped} files skipped (unreadable or too small)", file=sys.stderr)
        _steps(run, files, valid_files, out, patience)
        if run.rank == 0:
            run.save(checkpoint)
            print(f"\n{checkpoint}: {run.step} steps", file=sys.stderr)


def _state(checkpoint: Path, init: str | None) -> dict[str, Any]:
    if init:
        raise ValueError("a run that goes on starts from its checkpoint, not from other weights")
    if not checkpoint.is_file():
        raise ValueError(f"{checkpoint}: no checkpoint to resume")
    return read_checkpoint(checkpoint)


def _validation_images(valid: Path, training: list[Path]) -> list[Path]:
    files = find_images([valid], LEAST_SIDE)[0]
    if not files:
        raise ValueError(f"no image of at least {LEAST_SIDE} pixels a side below {valid}")
    check_apart(training, files)
    files = files[:VALIDATION_IMAGES]
    check_readable(files)
    return files


@contextmanager
def _processes() -> Iterator[None]:
    """Join the other processes if torchrun has started this one."""
    if "LOCAL_RANK" not in os.environ:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # the others wait for the first one's validations
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=timedelta(hours=6))
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _steps(run: Run, files: list[Path], valid_files: list[Path], out: Path, patience: int) -> None:
    """Train until the time is spent or validation has shown no gain for too long."""
    checkpoint, batches = out / "checkpoint.pt", _batches(run, files)
    saved = validated = time.monotonic()
    counted, images, sums, spent = 0, 0, torch.zeros(3), np.zeros(3)  # since the last entry of the log
    ended = False
    while run.progress() < 1 and not ended:
        began = time.monotonic()
        pixels = next(batches)
        waited = time.monotonic() - began
        figures, *durations = run.advance(*pixels)
        now = time.monotonic()
        run.seconds = run.agree(run.seconds + min(now - began, LONGEST_STEP))
        images, spent = images + run.processes * len(pixels[0]), spent + np.array((waited, *durations))
        if not run.wasted:
            counted, sums = counted + 1, sums + figures
        if run.step % LOG_STEPS == 0 and counted:
            loss, bpp, psnr = (sums / counted).tolist()
            entry = {"loss": round(loss, 4), "bpp": round(bpp, 4), "psnr": round(psnr, 3)}
            entry["learning_rate"] = round(run.learning_rate(), 6)
            entry["images_per_second"] = round(images / spent.sum(), 2)
            shares = zip(("data", "network", "optimiser"), (spent / spent.sum()).round(3).tolist(), strict=True)
            _record(run, out, {**entry, "patch": pixels[0].shape[1], "share_of_time": dict(shares)})
            counted, images, sums, spent = 0, 0, torch.zeros(3), np.zeros(3)
        if now - saved > CHECKPOINT_SECONDS:
            _save(run, checkpoint)
            saved = time.monotonic()
        if valid_files and run.agree(now - validated > VALIDATION_SECONDS or run.progress() >= 1):
            _save(run, checkpoint)
            ended = bool(run.agree(_validate(run, valid_files, out, patience)))
            _save(run, checkpoint)  # with what the validation found
            validated = time.monotonic()


def _batches(run: Run, files: list[Path]) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of this process, from the run's step on."""
    recipe, patch = run.recipe, 0
    while True:
        wanted = recipe.patch * (2 if 1 - run.progress() <= LARGE else 1)
        if patch != wanted:
            patch = wanted
            patches = Patches(files, max(1, recipe.batch * recipe.patch // patch), patch, recipe.seed, recipe.noise)
            batches = iter(loader(patches, run.step * run.processes + run.rank, run.processes))
        yield next(batches)


def _record(run: Run, out: Path, entry: dict[str, Any]) -> None:
    if run.rank:
        return
    line = json.dumps({"step": run.step, "hours": round(run.seconds / 3600, 4), **entry})
    with _tolerant(out / "log.jsonl"), (out / "log.jsonl").open("a") as log:
        print(line, file=log)
    if sys.stderr.isatty():
        print(f"\r{run.progress():6.1%}  {line}\x1b[K", end="", file=sys.stderr, flush=True)


def _save(run: Run, path: Path) -> bool:
    """Write the state in the first process; whether that went well."""
    if run.rank == 0:
        with _tolerant(path):
            run.save(path)
            return True
    return False


def _validate(run: Run, files: list[Path], out: Path, patience: int) -> bool:
    """Measure the averaged network in the first process; whether the run should end for want of gains."""
    found: dict[str, Any] = {"bd_rate": None}
    with _tolerant(out):
        if run.rank == 0:
            found = measure(draft(run.averaged()), files, run.recipe.objective)
            _record(run, out, found)
    if not patience or found["bd_rate"] is None:
        return False
    best, run.best = run.best, min(run.best, found["bd_rate"])
    run.stalled = 0 if run.best < best else run.stalled + 1
    if run.stalled == 0 and not _save(run, out / "best.pt"):
        run.best = best  # for the next one to be kept, if it is better than what is on the disk
    return run.stalled >= patience


@contextmanager
def _tolerant(path: Path) -> Iterator[None]:
    """A file that cannot be written now, on a full disk for instance, does not end hours of training."""
    try:
        yield
    except (OSError, ValueError) as error:
        if not foreseen(error):
            traceback.print_exception(error)
        reason = error.strerror if isinstance(error, OSError) else None
        print(f"\n{path}: {reason or error}; training goes on", file=sys.stderr)
