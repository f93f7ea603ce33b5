"""Rate-distortion plots as SVG."""

import io
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter

from .codecs import JPEG, OURS
from .metrics import METRICS
from .rd import Results, mean_curve

PUBLISHED = Path(__file__).parent / "published.json"
COLOURS = ("#d62728", *(c for c in mpl.color_sequences["tab20"][::2] if c != mpl.colors.to_rgb("#d62728")), "black")
TICKS = (0.05, 0.1, 0.2, 0.5, 1, 2, 4)


def rate_distortion(found: Results, metric: str) -> str:
    """An SVG of the mean curves of all codecs; on Kodak with published codecs as thin lines for context."""
    mpl.rcParams["svg.hashsalt"] = "aecodec"  # the same figures give the same file
    mpl.rcParams["svg.fonttype"] = "none"
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for name, colour in zip(found["codecs"], COLOURS, strict=False):
        curve = mean_curve(found, name, metric)
        if len(curve):
            width, order = (3.0, 4) if name == OURS else (1.3, 3)
            line = "--" if name == JPEG else "-"
            axes.plot(*curve.T, line, marker=".", label=name, color=colour, linewidth=width, zorder=order)
    limits = axes.get_xlim(), axes.get_ylim()
    for name, entry in published(found).items():
        if metric in entry:
            axes.plot(entry["bpp"], entry[metric], color="#999999", linewidth=0.7, zorder=1)
            axes.annotate(name, (entry["bpp"][-1], entry[metric][-1]), fontsize=6, color="#777777", clip_on=True)
    axes.set_xscale("log")
    axes.set_xlim(max(0.04, limits[0][0]), limits[0][1])
    axes.set_ylim(*limits[1])
    axes.xaxis.set_major_locator(FixedLocator(TICKS))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("bits per pixel of the whole file (logarithmic)")
    axes.set_ylabel(METRICS[metric])
    axes.set_title(f"Means over {len(found['images'])} images")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def published(found: Results) -> dict[str, Any]:
    """What others state for the same images, with the sources, if these are Kodak's."""
    known = json.loads(PUBLISHED.read_text())
    same = sorted(entry["sha256"] for entry in found["images"].values()) == sorted(known["sha256"])
    codecs: dict[str, Any] = known["codecs"]
    return codecs if same else {}
