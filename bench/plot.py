"""Rate-distortion plots as SVG."""

import io
import json
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter

from .codecs import JPEG, OURS
from .metrics import LABELS
from .rd import Results, mean_curve, whole_images

PUBLISHED = Path(__file__).parent / "published.json"
COLOURS = ("#d62728", *(c for c in mpl.color_sequences["tab20"][::2] if c != mpl.colors.to_rgb("#d62728")), "black")
TICKS = (0.05, 0.1, 0.2, 0.5, 1, 2, 4)


def rate_distortion(found: Results, metric: str) -> str:
    """An SVG of the mean curves of all codecs; on Kodak with published codecs as thin lines for context.

    Empty if there is no image with a value at every point.
    """
    images = whole_images(found, metric)
    if not images:
        return ""
    # the same figures give the same file, and text stays text
    with mpl.rc_context({"svg.hashsalt": "aecodec", "svg.fonttype": "none"}):
        figure = Figure(figsize=(8, 5), layout="constrained")
        axes = figure.add_subplot(xscale="log")
        for name, colour in zip(found["codecs"], cycle(COLOURS), strict=False):
            width, order = (3.0, 4) if name == OURS else (1.3, 3)
            curve = mean_curve(found, name, metric).T
            axes.plot(
                *curve, "--" if name == JPEG else "-", marker=".", label=name, color=colour, lw=width, zorder=order
            )
        if metric == "butteraugli":  # the better, the less
            axes.invert_yaxis()
        limits = axes.get_xlim(), axes.get_ylim()
        for place, (name, entry) in enumerate(published(found).items()):
            if metric in entry:
                axes.plot(entry["bpp"], entry[metric], color="#999999", lw=0.7, zorder=1)
                x = 0.15 * 1.35**place  # where the labels do not meet
                y = np.interp(np.log(x), np.log(entry["bpp"]), entry[metric])
                end = (x * 0.72, y + 2.2)
                axes.annotate(name, (x, y), end, fontsize=7, color="#777777", arrowprops={"arrowstyle": "-", "lw": 0.4})
        axes.set(xlim=limits[0], ylim=limits[1], ylabel=LABELS[metric])
        axes.set_xlabel("bits per pixel of the whole file (logarithmic)")
        axes.set_title(f"Means over {len(images)} image{'s' if len(images) > 1 else ''}")
        axes.xaxis.set_major_locator(FixedLocator(TICKS))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def published(found: Results) -> dict[str, Any]:
    """What others state for the same images, with the sources, if these are Kodak's."""
    known = json.loads(PUBLISHED.read_text("utf-8"))
    same = sorted(entry["sha256"] for entry in found["images"].values()) == sorted(known["sha256"])
    codecs: dict[str, Any] = known["codecs"]
    return codecs if same else {}
