"""The commands that train models; what they call needs the extra [train]."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from .options import Debug
from .running import extra, or_exit


def train(
    data: Annotated[list[Path], typer.Option("--data", help="Folders of images to learn from.", exists=True)],
    out: Annotated[Path, typer.Option("--out", help="Folder for checkpoints and the log.")],
    hours: Annotated[float | None, typer.Option(min=1e-3, help="How long to train, in all; 2 unless told.")] = None,
    valid: Annotated[
        Path | None, typer.Option("--valid", help="Images to measure rate and distortion on.", exists=True)
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in --out, with more --hours if it had ended.")
    ] = False,
    init: Annotated[str | None, typer.Option("--init", help="Weights to start from: base, or a file.")] = None,
    objective: Annotated[
        Literal["eye", "psnr", "ms-ssim"] | None, typer.Option(help="The distortion to minimise; eye unless told.")
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(min=0, max=255, help="Learn to remove noise of a deviation of up to so many grey levels."),
    ] = None,
    patience: Annotated[
        int, typer.Option(min=0, help="Stop after so many validations without a gain; 0 for never.")
    ] = 0,
    debug: Debug = False,
) -> None:
    """Train a model (needs the extra [train]). Under torchrun, the processes share the work."""
    loop = extra("training.loop", "train")
    asked = {"hours": hours, "objective": objective, "noise": noise}
    asked = {name: value for name, value in asked.items() if value is not None}
    or_exit(loop.train, data, out, asked, valid, resume, init, patience)


def curve(
    run: Annotated[Path, typer.Argument(help="The --out folder of `train`.", exists=True)],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The PNG to write; curve.png in the folder.")] = None,
    debug: Debug = False,
) -> None:
    """Draw how a training run went: loss and BD-rate over time (needs the extra [train])."""
    target = out or run / "curve.png"
    or_exit(extra("training.curve", "train").draw, run, target)
    print(target, file=sys.stderr)


def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint.pt of `train`.", exists=True)],
    out: Annotated[Path, typer.Option("--out", help="The .safetensors file to write; its card lies beside it.")],
    data: Annotated[list[Path], typer.Option("--data", help="Training images, to fit the tables on.", exists=True)],
    valid: Annotated[Path, typer.Option("--valid", help="Images to measure the model on.", exists=True)],
    force: Annotated[bool, typer.Option("--force", help="Replace weights that are there, better or not.")] = False,
    debug: Debug = False,
) -> None:
    """Turn a checkpoint into a weights file and its model card (needs the extra [train])."""
    card = extra("training.card", "train")
    or_exit(card.export_with_card, checkpoint, out, data, valid, force)
