"""How a training run went, from its log."""

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..files import write

SMOOTH = 20  # entries of the log whose mean is drawn


def read_log(path: Path) -> list[dict[str, Any]]:
    """The entries in order. Those of steps that were lost with a killed run, and done again, count once.

    Raises OSError, or ValueError for a log without entries.
    """
    entries: list[dict[str, Any]] = []
    for line in path.read_text("utf-8").splitlines():
        try:
            entry = json.loads(line)
            step = entry["step"]
            float(entry["hours"])
        except (ValueError, KeyError, TypeError):
            continue  # the line was being written when the run was killed
        if entries and ("loss" in entry or step < entries[-1]["step"]):  # a validation comes after its step's loss
            entries = [e for e in entries if e["step"] < step]
        entries.append(entry)
    if not entries:
        raise ValueError(f"{path}: no entries")
    return entries


def draw(run: Path, out: Path) -> None:
    """A PNG of the loss, its running mean, and the BD-rate of the validations, over hours. Raises as `read_log`."""
    entries = read_log(run / "log.jsonl")
    steps = np.array([(e["hours"], e["loss"]) for e in entries if math.isfinite(e.get("loss", math.nan))]).reshape(
        -1, 2
    )
    rates = np.array([(e["hours"], e["bd_rate"]) for e in entries if e.get("bd_rate") is not None]).reshape(-1, 2)
    figure = Figure(figsize=(10, 4), layout="constrained")
    loss, rate = figure.subplots(1, 2)
    loss.plot(*steps.T, color="lightgray", lw=0.8)
    if len(steps) >= SMOOTH:
        mean = np.convolve(steps[:, 1], np.ones(SMOOTH) / SMOOTH, "valid")
        loss.plot(steps[SMOOTH - 1 :, 0], mean, color="tab:blue")
        loss.set_ylim(0.97 * mean.min(), np.percentile(steps[:, 1], 98))
    loss.set(xlabel="hours", ylabel="training loss", yscale="log")
    loss.yaxis.set_major_formatter("{x:g}")
    loss.yaxis.set_minor_formatter("{x:g}")
    rate.plot(*rates.T, "o-", color="tab:red", ms=3)
    rate.set(xlabel="hours", ylabel="BD-rate against JPEG on validation, %")
    for axes in (loss, rate):
        axes.grid(alpha=0.3)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=120)
    write(out, drawn.getvalue())
