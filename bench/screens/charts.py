"""Charts of random numbers, by matplotlib."""

import io
from collections.abc import Callable
from random import Random
from typing import Any

import matplotlib as mpl
import matplotlib.style
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from .sources import WORDS, Spec


def chart(spec: Spec, family: str) -> Image.Image:
    """One or several panels of a chart in a style of matplotlib's."""
    random, numbers = Random(spec.seed), np.random.default_rng(spec.seed)
    width, height = spec.width * spec.scale, spec.height * spec.scale
    dpi = random.choice((72, 100, 120)) * spec.scale
    with mpl.style.context(["default", spec.theme]):
        mpl.rcParams.update({"font.family": family, "axes.unicode_minus": False})  # which some fonts lack
        figure = Figure((width / dpi, height / dpi), dpi, layout="constrained")
        columns, rows = random.choice(((1, 1), (1, 1), (2, 1), (1, 2), (2, 2)))
        for axes in figure.subplots(rows, columns, squeeze=False).flat:
            CHARTS[spec.file](axes, numbers, random)
            title = f"{random.choice(WORDS)}, {random.randrange(1990, 2030)}"
            axes.set_title(title if columns > 1 else f"{random.choice(WORDS)} by {title}")
        png = io.BytesIO()
        figure.savefig(png, dpi="figure", facecolor=figure.get_facecolor())
    return Image.open(png).convert("RGB")


def _lines(axes: Any, numbers: np.random.Generator, random: Random) -> None:
    for name in random.sample(WORDS, random.randrange(1, 6)):
        values = numbers.normal(size=random.choice((12, 40, 300))).cumsum()
        axes.plot(np.linspace(0, 10, values.size), values, random.choice(("-", "-", "--", ".-", "o-")), label=name)
    axes.legend()
    axes.grid(random.random() < 0.5)
    axes.set_xlabel("time (s)")


def _areas(axes: Any, numbers: np.random.Generator, random: Random) -> None:
    names = random.sample(WORDS, random.randrange(2, 6))
    values = np.abs(numbers.normal(size=(len(names), 60)).cumsum(1)) + 2
    axes.stackplot(range(60), values, labels=names, alpha=random.choice((1, 0.7)))
    axes.legend(loc="upper left")
    axes.set_ylabel("million")


def _bars(axes: Any, numbers: np.random.Generator, random: Random) -> None:
    names, groups = random.sample(WORDS, random.randrange(3, 7)), random.randrange(1, 4)
    for group in range(groups):
        places = np.arange(len(names)) + 0.8 * group / groups
        drawn = axes.bar(places, numbers.gamma(3, 10, len(names)), 0.8 / groups, label=str(2020 + group))
        axes.bar_label(drawn, fmt="%.0f")
    axes.set_xticks(np.arange(len(names)), names, rotation=random.choice((30, 45, 90)))
    axes.legend()


def _ranking(axes: Any, numbers: np.random.Generator, random: Random) -> None:
    names = random.sample(WORDS, random.randrange(4, 9))
    axes.barh(names, np.sort(numbers.gamma(2, 20, len(names))), color=random.choice(("C0", "C1", "C2", "C3")))
    axes.set_xlabel("share (%)")


def _points(axes: Any, numbers: np.random.Generator, random: Random) -> None:
    for name in random.sample(WORDS, random.randrange(1, 5)):
        x, y = numbers.normal(numbers.normal(0, 3, (2, 1)), 1, (2, random.choice((20, 80, 300))))
        axes.scatter(x, y + 0.5 * x, random.choice((8, 20, 40)), marker=random.choice("o^sx"), alpha=0.7, label=name)
    axes.legend()
    axes.set(xlabel="first component", ylabel="second component")


def _heat(axes: Any, numbers: np.random.Generator, random: Random) -> None:
    count = random.choice((5, 8, 30))
    values = numbers.normal(size=(count, count)).cumsum(0).cumsum(1)
    shown = axes.imshow(values, cmap=random.choice(("viridis", "magma", "coolwarm", "Blues")), aspect="auto")
    axes.grid(False)
    axes.figure.colorbar(shown, ax=axes)
    if count < 9:
        for (row, column), value in np.ndenumerate(values):
            ink = "white" if sum(shown.to_rgba(value)[:3]) < 1.5 else "black"
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", color=ink, fontsize="small")


def _pie(axes: Any, numbers: np.random.Generator, random: Random) -> None:
    names = random.sample(WORDS, random.randrange(3, 8))
    axes.pie(numbers.gamma(2, 1, len(names)) + 0.3, labels=names, autopct="%.0f %%", startangle=random.randrange(360))


def _counts(axes: Any, numbers: np.random.Generator, random: Random) -> None:
    for name in random.sample(WORDS, random.randrange(1, 4)):
        axes.hist(numbers.normal(numbers.normal(0, 2), 1, 800), random.choice((15, 30, 60)), alpha=0.6, label=name)
    axes.legend()
    axes.set_ylabel("count")


def _boxes(axes: Any, numbers: np.random.Generator, random: Random) -> None:
    count = random.randrange(3, 9)
    axes.boxplot(list(numbers.normal(numbers.normal(0, 1, (count, 1)), 1, (count, 60))))
    axes.set_ylabel("milliseconds")


CHARTS: dict[str, Callable[[Any, np.random.Generator, Random], None]] = {
    "lines": _lines,
    "areas": _areas,
    "bars": _bars,
    "ranking": _ranking,
    "scatter": _points,
    "heat map": _heat,
    "pie": _pie,
    "histogram": _counts,
    "box plot": _boxes,
}
