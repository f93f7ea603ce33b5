"""Line art: drawings of Debian's packages in rows, and sketches that are drawn here, as HTML and SVG."""

import math
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from random import Random

from .sources import WORDS, Spec, Theme


def sheet(spec: Spec, files: Sequence[str], theme: Theme) -> str:
    """HTML of the drawing alone, or with its neighbours in rows, as a file manager shows them."""
    random = Random(spec.seed)
    others = [file for file in files if file != spec.file]
    sides = [s for s in (48, 72, 110, 150, 220) if spec.width // s * (spec.height // s) < 2 * len(others)]
    side = random.choice([*sides, min(spec.width, spec.height)])
    count = min(spec.width // side * (spec.height // side) - 1, len(others))
    room = side * 0.14 if side > 90 else 0  # for the name
    tint = "filter: invert(1) hue-rotate(180deg)" if theme.dark else ""  # most icons are made for white
    cells = []
    for file in (spec.file, *random.sample(others, count)):
        _, start, rest = Path(file).read_text("utf-8", "replace").partition("<svg")
        name = f'<figcaption style="font-size: 12px">{escape(Path(file).stem)}</figcaption>' if room else ""
        cells.append(
            f'<figure style="margin: 0; width: {side}px; height: {side}px; text-align: center; overflow: hidden">'
            f'<div class="drawing" style="width: {side * 0.8 - room:.0f}px; height: {side * 0.8 - room:.0f}px; '
            f'margin: {side * 0.08:.0f}px auto 0; color: #222 !important; {tint}">'
            f'<template shadowrootmode="open">{start}{rest}</template></div>{name}</figure>'
        )
    rows = (
        "display: flex; flex-wrap: wrap; justify-content: space-evenly; align-content: safe center; min-height: 100vh"
    )
    return f'<div style="{rows}">{"".join(cells)}</div>{FIT}'


# a drawing within its own shadow tree keeps its names and styles to itself, and takes far less time than as an image
FIT = """<script>
for (const drawing of document.querySelectorAll(".drawing")) {
  const svg = drawing.shadowRoot.querySelector("svg");
  if (!svg) continue;
  if (!svg.hasAttribute("viewBox"))
    svg.setAttribute("viewBox", `0 0 ${svg.width.baseVal.value} ${svg.height.baseVal.value}`);
  svg.setAttribute("width", "100%");
  svg.setAttribute("height", "100%");
}
</script>"""


def flow(random: Random, width: int, height: int, theme: Theme) -> str:
    """SVG of boxes in columns, joined by arrows with right angles."""
    columns, rows = max(2, width // 190), max(2, height // 110)
    across, down = width / columns, height / rows
    places = [(c, r) for c in range(columns) for r in range(rows) if random.random() < 0.75]
    parts = []
    for c, r in places:
        targets = [(d, s) for d, s in places if d == c + 1]
        for d, s in random.sample(targets, min(len(targets), random.choice((1, 1, 2)))):
            x0, y0, x1, y1 = (c + 0.86) * across, (r + 0.5) * down, (d + 0.13) * across, (s + 0.5) * down
            bend = (x0 + x1) / 2 + 3 * r
            parts.append(
                f'<path d="M{x0:.1f} {y0:.1f}H{bend:.1f}V{y1:.1f}H{x1:.1f}" fill="none" stroke="{theme.link}" '
                f'stroke-width="{random.choice((1, 1.5, 2))}" marker-end="url(#tip)"/>'
            )
    for c, r in places:
        x, y, w, h = (c + 0.14) * across, (r + 0.22) * down, 0.72 * across, 0.56 * down
        round_ = random.choice((0, 4, h / 2))
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" rx="{round_:.1f}" fill="{theme.box}" '
            f'stroke="{theme.ink}"/><text x="{x + w / 2:.1f}" y="{y + h / 2 + 5:.1f}" text-anchor="middle" '
            f'fill="{theme.ink}" font-size="{random.choice((12, 14, 16))}">{random.choice(WORDS)} '
            f"{random.randrange(100)}</text>"
        )
    tip = (
        '<marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="{theme.link}"/></marker>'
    )
    return _svg(width, height, f"<defs>{tip}</defs>" + "".join(parts))


def contours(random: Random, width: int, height: int, theme: Theme) -> str:
    """SVG of a map: closed lines of equal height around some summits, which are named."""
    parts = []
    for _ in range(random.randrange(4, 9)):
        x, y, size = random.random() * width, random.random() * height, random.uniform(0.2, 0.5) * min(width, height)
        waves = [(k, random.uniform(0, 0.24) / k, random.uniform(0, math.tau)) for k in range(1, 6)]
        levels = random.randrange(5, 14)
        for level in range(levels, 0, -1):
            angles = [math.tau * i / 90 for i in range(90)]
            radii = [size * level / levels * (1 + level / levels * sum(a * math.cos(k * t + p) for k, a, p in waves))
                     for t in angles]  # fmt: skip
            points = " ".join(
                f"{x + r * math.cos(t):.1f},{y + r * math.sin(t):.1f}" for t, r in zip(angles, radii, strict=True)
            )
            parts.append(
                f'<polygon points="{points}" fill="{theme.box}" fill-opacity="0.25" stroke="{theme.link}" '
                f'stroke-width="{1.8 if level % 5 == 0 else 0.8}"/>'
            )
        parts.append(
            f'<path d="M{x:.1f} {y - 5:.1f}l5 9h-10z" fill="{theme.heading}"/><text x="{x + 8:.1f}" y="{y + 4:.1f}" '
            f'font-size="13" fill="{theme.ink}">{random.choice(WORDS)} {random.randrange(200, 4000)}</text>'
        )
    return _svg(width, height, "".join(parts))


def network(random: Random, width: int, height: int, theme: Theme) -> str:
    """SVG of named circles, each joined to those nearest."""
    count = max(8, width * height // 16000)
    nodes = [(random.uniform(30, width - 30), random.uniform(30, height - 30)) for _ in range(count)]
    parts = []
    for x, y in nodes:
        for u, v in sorted(nodes, key=lambda n: math.dist(n, (x, y)))[1 : random.choice((2, 3, 4))]:
            dashes = random.choice(("", "", "5 3"))
            parts.append(
                f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{u:.1f}" y2="{v:.1f}" stroke="{theme.link}" '
                f'stroke-width="{random.choice((1, 1.5, 2.5))}" stroke-dasharray="{dashes}"/>'
            )
    for x, y in nodes:
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{random.uniform(5, 16):.1f}" fill="{theme.box}" '
            f'stroke="{theme.heading}" stroke-width="1.5"/><text x="{x:.1f}" y="{y + 28:.1f}" text-anchor="middle" '
            f'font-size="11" fill="{theme.ink}">{random.choice(WORDS).lower()}-{random.randrange(64)}</text>'
        )
    return _svg(width, height, "".join(parts))


def streets(random: Random, width: int, height: int, theme: Theme) -> str:
    """SVG of a town's map: blocks between crooked streets, some of them green, a river, and names."""
    step = random.choice((70, 90, 120))
    columns, rows = width // step + 3, height // step + 3
    grid = {
        (c, r): ((c - 1 + random.uniform(-0.3, 0.3)) * step, (r - 1 + random.uniform(-0.3, 0.3)) * step)
        for c in range(columns)
        for r in range(rows)
    }
    parts = []
    for c in range(columns - 1):
        for r in range(rows - 1):
            points = " ".join(
                f"{x:.1f},{y:.1f}" for x, y in (grid[c, r], grid[c + 1, r], grid[c + 1, r + 1], grid[c, r + 1])
            )
            fill = random.choice((theme.box, theme.box, theme.box, "#a8d08d", "#d9c8a9"))
            parts.append(f'<polygon points="{points}" fill="{fill}"/>')
    lines = [[grid[c, r] for r in range(rows)] for c in range(columns)]
    lines += [[grid[c, r] for c in range(columns)] for r in range(rows)]
    for line in lines:
        points, broad = " ".join(f"{x:.1f},{y:.1f}" for x, y in line), random.choice((4, 4, 6, 11))
        for colour, breadth in ((theme.ink, broad + 1.5), (theme.ground, broad)):
            parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{breadth}"/>')
    y = random.uniform(0.2, 0.8) * height
    bends = " ".join(f"T{x} {y + random.uniform(-90, 90):.1f}" for x in range(step, width + 2 * step, step))
    parts.append(
        f'<path d="M-9 {y:.1f}{bends}" fill="none" stroke="#7fb2d9" stroke-width="{random.randrange(12, 34)}"/>'
    )
    for x, y in random.sample(list(grid.values()), len(grid) // 3):
        parts.append(
            f'<text x="{x + 12:.1f}" y="{y + step / 2:.1f}" font-size="11" fill="{theme.ink}">'
            f"{random.choice(WORDS)} St</text>"
        )
    return _svg(width, height, "".join(parts))


def _svg(width: int, height: int, parts: str) -> str:
    size = f'width="{width}" height="{height}" style="display: block"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{parts}</svg>'


SKETCHES: dict[str, Callable[[Random, int, int, Theme], str]] = {
    "flow": flow,
    "contours": contours,
    "network": network,
    "streets": streets,
}
