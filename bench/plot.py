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

from aecodec.training.bd import Curve

from .codecs import AVIF, AVIF_SLOW, JPEG, JPEG_XL, OURS, WEBP
from .metrics import LABELS
from .rd import Results, mean_curve, whole_images

Limits = tuple[float, float]

PUBLISHED = Path(__file__).parent / "published.json"
TICKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 4)
MOST_BPP = 2.0  # beyond, the eye sees no difference
LEAST = {"ssimulacra2": 0.0}  # below, pictures are no use to anyone

# colours that the colour-blind can tell apart (Okabe and Ito), on white and on black, and marks for print
STYLES = {
    OURS: ("#d55e00", "o"),
    JPEG: ("#8c8c8c", "s"),
    WEBP: ("#009e73", "^"),
    AVIF: ("#56b4e9", "D"),
    AVIF_SLOW: ("#0079c2", "v"),
    JPEG_XL: ("#cc79a7", "P"),
}
OTHERS = (("#e69f00", "."), *((colour, ".") for colour, _ in list(STYLES.values())[1:]))  # dashed
INK = "#010203"  # stands for the colour of text while drawing, which depends on the scheme
_SCHEMES = """<style>
svg { color: #222; background: #fff }
@media (prefers-color-scheme: dark) { svg { color: #ddd; background: #181a1b } }
</style>"""


def rate_distortion(found: Results, metric: str) -> str:
    """An SVG of the mean curves of all codecs where ours has files; on Kodak with published codecs as thin lines.

    Empty if there is no image with a value at every point.
    """
    images = whole_images(found, metric)
    if not images:
        return ""
    paint: Any = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK)
    paint |= dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none")
    # the same figures give the same file, and text stays text
    with mpl.rc_context({"svg.hashsalt": "aecodec", "svg.fonttype": "none", "grid.color": INK, **paint}):
        figure = Figure(figsize=(5.6, 4.2 + 0.2 * -(-len(found["codecs"]) // 2)), layout="constrained")
        axes = figure.add_subplot(xscale="log")
        curves = {name: mean_curve(found, name, metric) for name in found["codecs"]}
        others = cycle(OTHERS)
        for name, curve in curves.items():
            colour, mark = STYLES.get(name) or next(others)
            axes.plot(
                *curve.T,
                "-" if name in STYLES else "--",
                marker=mark,
                ms=4,
                label=name,
                color=colour,
                lw=3 if name == OURS else 1.5,
                zorder=4 if name == OURS else 3,
            )
        rates, values = _useful(metric, curves)
        axes.set(xlim=rates, ylim=values, ylabel=LABELS[metric])
        if metric == "butteraugli":  # the better, the less
            axes.invert_yaxis()
        for place, (name, entry) in enumerate(published(found).items()):
            if metric in entry:
                axes.plot(entry["bpp"], entry[metric], color=INK, alpha=0.5, lw=0.7, zorder=1)
                x = 0.15 * 1.35**place  # where the labels do not meet
                y = np.interp(np.log(x), np.log(entry["bpp"]), entry[metric])
                end = (x * 0.72, y + 2.2)
                arrow = {"arrowstyle": "-", "lw": 0.4, "color": INK}
                axes.annotate(name, (x, y), end, fontsize=7, alpha=0.7, arrowprops=arrow, annotation_clip=True)
        axes.set_xlabel("bits per pixel of the whole file (logarithmic)")
        axes.set_title(f"Means over {len(images)} image{'s' if len(images) > 1 else ''}", fontsize=11)
        axes.xaxis.set_major_locator(FixedLocator(TICKS))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.25)
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue().replace(INK, "currentColor").replace("<defs>", f"{_SCHEMES}\n <defs>", 1)


def _useful(metric: str, curves: dict[str, Curve]) -> tuple[Limits, Limits]:
    """The limits of the axes: where ours has useful points, and values that are no worse than the worst of these.

    All rates and values where ours has less than two.
    """
    least = LEAST.get(metric, -np.inf)
    shown = np.concatenate(list(curves.values()))
    ours = curves.get(OURS, shown[:0])
    ours = ours[(ours[:, 0] <= MOST_BPP) & (ours[:, 1] >= least)]
    if len(ours) < 2:
        ours = shown
    left, right = ours[:, 0].min(), ours[:, 0].max()
    values = shown[(left <= shown[:, 0]) & (shown[:, 0] <= right), 1]
    low, high = values.min(), values.max()
    worst, best = ours[0, 1], ours[-1, 1]
    if worst < best:
        low = max(low, worst)
    else:
        high = min(high, worst)
    margin = 0.03 * (high - low) or 1
    return (left / 1.1, right * 1.1), (low - margin, high + margin)


def published(found: Results) -> dict[str, Any]:
    """What others state for the same images, with the sources, if these are Kodak's."""
    known = json.loads(PUBLISHED.read_text("utf-8"))
    same = sorted(entry["sha256"] for entry in found["images"].values()) == sorted(known["sha256"])
    codecs: dict[str, Any] = known["codecs"]
    return codecs if same else {}
