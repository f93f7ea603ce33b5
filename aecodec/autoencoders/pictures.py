"""Pictures of what a model does: grids of samples, maps of codes and curves, as PNG."""

import io
import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from PIL import Image

from .. import files

CELL = 32  # pixels that a side of a small picture is enlarged to
GAP = 2  # white pixels between the cells


def grid(x: npt.NDArray[np.float32], shape: tuple[int, int, int] | None, columns: int) -> Image.Image:
    """Samples ``[n, features]`` row by row, enlarged; vectors as one line of greys from their least to their most."""
    if shape is None:
        low, span = x.min(), np.ptp(x) or 1
        x, shape = (x - low) / span, (1, 1, x.shape[1])
    channels, height, width = shape
    pixels = np.uint8(np.rint(np.clip(x, 0, 1) * 255)).reshape(-1, *shape)
    pixels = pixels if channels == 3 else pixels[:, :1].repeat(3, 1)
    times = max(CELL // max(height, width), 1)
    pixels = pixels.repeat(times, 2).repeat(times, 3).transpose(0, 2, 3, 1)
    tall, wide = height * times + GAP, width * times + GAP
    sheet = np.full((math.ceil(len(x) / columns) * tall, columns * wide, 3), 255, np.uint8)
    for i, cell in enumerate(pixels):
        top, left = i // columns * tall, i % columns * wide
        sheet[top : top + tall - GAP, left : left + wide - GAP] = cell
    return Image.fromarray(sheet)


def save(image: Image.Image, path: Path) -> None:
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    files.write(path, stream.getvalue())


def figure() -> tuple[Figure, Any]:
    found = Figure(figsize=(5, 4), layout="constrained", dpi=100)
    return found, found.subplots()


def save_figure(found: Figure, path: Path) -> None:
    stream = io.BytesIO()
    found.savefig(stream, format="png")
    with Image.open(stream) as image:
        save(image.convert("RGB").quantize(128), path)


def scatter(points: npt.NDArray[np.float32], labels: npt.NDArray[Any] | None, path: Path) -> None:
    """Codes ``[n, 2]``, coloured by label."""
    found, axes = figure()
    if labels is None:
        axes.scatter(*points.T, s=6)
    else:
        names = np.unique(labels)
        colours = mpl.colormaps["tab10" if len(names) <= 10 else "gist_rainbow"]
        for i, name in enumerate(names):
            colour = colours(i if len(names) <= 10 else i / len(names))
            axes.scatter(*points[labels == name].T, s=6, color=colour, label=str(name))
        if len(names) <= 20:
            axes.legend(markerscale=2, fontsize="small")
    save_figure(found, path)


def curves(series: dict[str, tuple[list[float], list[float]]], x_label: str, y_label: str, path: Path) -> None:
    """A line for each name: x and y values."""
    found, axes = figure()
    for name, (x, y) in series.items():
        axes.plot(x, y, marker="." if len(x) < 20 else "", label=name)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.legend(fontsize="small")
    save_figure(found, path)


def histogram(values: npt.NDArray[np.float64], threshold: float, path: Path) -> None:
    """Scores and the threshold above which a sample is called an anomaly."""
    found, axes = figure()
    axes.hist(values, bins=min(50, max(len(values) // 4, 5)))
    axes.axvline(threshold, color="black", linestyle="--", label="threshold")
    axes.set_xlabel("mean squared error")
    axes.legend(fontsize="small")
    save_figure(found, path)
