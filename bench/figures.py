"""The tables of README and docs, written from the results that are committed: none of their figures is typed.

A table stands between ``<!-- figures: NAME -->`` and ``<!-- end -->``.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from . import codecs, rd, speed
from .metrics import LABELS, METRICS

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "docs/COMPARISON.md")
RESULTS = "docs/kodak"
_PLACE = re.compile(r"(<!-- figures: ([a-z-]+) -->\n).*?(<!-- end -->)", re.S)

Tables = Mapping[str, Callable[[], str]]


def write(root: Path = ROOT) -> list[Path]:
    """Bring the tables of all pages up to date; returns the pages that changed. Raises OSError or ValueError."""
    changed, made = [], tables(root / RESULTS)
    for name in PAGES:
        page = root / name
        before = page.read_text("utf-8")
        after = filled(before, made)
        if after != before:
            page.write_text(after, "utf-8")
            changed.append(page)
    return changed


def filled(text: str, made: Tables) -> str:
    """The text of a page with its tables made anew. Raises ValueError for a table that there is not."""

    def table(place: re.Match[str]) -> str:
        if place[2] not in made:
            raise ValueError(f"no table {place[2]}: there are {', '.join(made)}")
        return f"{place[1]}{made[place[2]]()}\n{place[3]}"

    return _PLACE.sub(table, text)


def tables(folder: Path) -> Tables:
    """By name, from the results in a folder."""
    found, times = rd.load(folder / "rd.json"), speed.load(folder / "speed.json")
    shown = [name for name in found["codecs"] if name not in codecs.EFFORTS.values()]
    scores = found["bd_rate"]["ssimulacra2"]
    order = sorted(shown, key=lambda name: -scores[name]["mean"] if scores[name] else -math.inf)

    def against_jpeg() -> str:
        """BD-rates over the whole, the worst codec first."""
        rows = ((name, [_percent(found["bd_rate"][m][name]) for m in METRICS]) for name in order if name != codecs.JPEG)
        return _table(["BD-rate", *(LABELS[m].removesuffix(" (dB)") for m in METRICS)], rows)

    def by_score() -> str:
        """The same against AVIF, by range of scores, with standard errors."""
        means = [rd.bd_rates(found, "ssimulacra2", codecs.AVIF_SLOW, shown, part)[0] for part in rd.RANGES.values()]
        rows = ((name, [rd.written(m[name]) for m in means]) for name in order if name != codecs.AVIF_SLOW)
        title = f"BD-rate against {codecs.AVIF_SLOW}, by SSIMULACRA 2"
        return _table([title, *("all scores" if name == "whole" else name for name in rd.RANGES)], rows)

    def milliseconds() -> str:
        """Of encoding and decoding a megapixel, warm."""
        idle = times["idle"]["codecs"]
        rows = (
            (name, [f"{1000 * idle[threads][name][way]:.0f}" for way in ("encode", "decode") for threads in idle])
            for name in idle["1"]
        )
        ways = [f"{way}, {threads} thread{'s' * (threads != '1')}" for way in ("encode", "decode") for threads in idle]
        return _table(["ms per megapixel", *ways], rows)

    return {"against-jpeg": against_jpeg, "by-score": by_score, "milliseconds": milliseconds}


def _percent(rate: rd.Rate | None) -> str:
    return "-" if rate is None else f"{rate['mean']:+.1f} %"


def _table(head: list[str], rows: Iterable[tuple[str, list[str]]]) -> str:
    """In Markdown, our own row in bold."""
    lines = [head, ["---"] * len(head)]
    for name, cells in rows:
        lines.append([f"**{cell}**" for cell in (name, *cells)] if name == codecs.OURS else [name, *cells])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
