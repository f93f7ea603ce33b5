"""Rate-distortion: curves from measured points, Bjontegaard deltas, and what changed between two runs."""

import contextlib
import csv
import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from aecodec import Codec
from aecodec.training.bd import LEAST_OVERLAP, Curve, NoOverlap, bd_rate

from .codecs import JPEG, Peer
from .images import Sample
from .measure import Point
from .metrics import LABELS, METRICS, rising

Results = dict[str, Any]  # the content of rd.json
Rate = dict[str, Any]
Scores = tuple[float, float]

KIND = "rate-distortion"
# of scores of SSIMULACRA 2, since one number hides where a codec wins
RANGES: dict[str, Scores | None] = {"whole": None, "30-60": (30, 60), "60-80": (60, 80), "80-90": (80, 90)}


def bd_rates(
    found: Results,
    metric: str,
    against: str = JPEG,
    codecs: Sequence[str] | None = None,
    scores: Scores | None = None,
) -> tuple[dict[str, Rate | None], list[str]]:
    """The mean of the images' BD-rates against JPEG, by codec, and the images that are left out of it.

    ``scores`` bounds what is compared: the qualities at which the anchor has these scores of SSIMULACRA 2.

    Left out are those on which one of the codecs has no rate, so that all means are of the same images; a codec that
    has one on less than half of the images gets None, and leaves out none. With each mean goes its standard error, None
    for a single image.
    """
    rates: dict[str, dict[str, float]] = {}
    for codec in codecs or found["codecs"]:
        rates[codec] = {}
        for image in found["images"]:
            with contextlib.suppress(NoOverlap):
                rates[codec][image] = _bd_rate((found, against), (found, codec), image, metric, scores)
    some = {codec: r for codec, r in rates.items() if r and 2 * len(r) >= len(found["images"])}
    common = [image for image in found["images"] if some and all(image in r for r in some.values())]
    means = {c: _mean([r[image] for image in common]) if c in some and common else None for c, r in rates.items()}
    return means, [image for image in found["images"] if image not in common]


def _bd_rate(
    anchor: tuple[Results, str],
    test: tuple[Results, str],
    image: str,
    metric: str,
    scores: Scores | None,
) -> float:
    """Of two codecs, each of a run, on one image. Raises `NoOverlap`."""
    within = _within(*anchor, image, metric, scores) if scores else None
    return bd_rate(_rising(*anchor, image, metric), _rising(*test, image, metric), within)


def _within(found: Results, codec: str, image: str, metric: str, scores: Scores) -> tuple[float, float]:
    """The values of a metric, as `rising` has them, between which a codec's scores of SSIMULACRA 2 are these.

    Where it has not all of them, as far as it goes. Raises `NoOverlap` where it has less than half.
    """
    if metric == "ssimulacra2":
        return scores
    points = [p for p in found["codecs"][codec]["points"][image] if None not in (p.get("ssimulacra2"), p.get(metric))]
    known, values = np.array(sorted((p["ssimulacra2"], p[metric]) for p in points)).reshape(-1, 2).T
    low, high = scores
    if len(known) < 2 or min(high, known[-1]) - max(low, known[0]) < LEAST_OVERLAP * (high - low):
        raise NoOverlap("the anchor has too little of these scores")
    least, most = np.interp(scores, known, rising(metric, values))
    return float(least), float(most)


def by_range(found: Results, anchor: str) -> dict[str, Any]:
    """BD-rates against ``anchor`` over the whole and over ranges of scores, by metric, and the images left out."""
    tables: dict[str, Any] = {"anchor": anchor, "bd_rate": {}, "left_out": {}}
    for metric in found["bd_rate"]:
        tables["bd_rate"][metric], tables["left_out"][metric] = {}, {}
        for name, scores in RANGES.items():
            rates, left_out = bd_rates(found, metric, anchor, scores=scores)
            tables["bd_rate"][metric][name], tables["left_out"][metric][name] = rates, left_out
    return tables


def written(rate: Rate | None, digits: int = 1) -> str:
    """Mean and standard error as a table has them."""
    if rate is None:
        return "-"
    spread = "" if rate["standard_error"] is None else f" ± {rate['standard_error']:.{digits}f}"
    return f"{rate['mean']:+.{digits}f}{spread} %"


def _mean(rates: list[float]) -> Rate:
    spread = round(float(np.std(rates, ddof=1) / len(rates) ** 0.5), 2) if len(rates) > 1 else None
    return {"mean": round(float(np.mean(rates)), 2), "standard_error": spread}


def summarise(
    samples: Sequence[Sample],
    skipped: dict[str, str],
    codecs: Sequence[Peer],
    absent: dict[str, str],
    slow: dict[str, str],
    anchor: str,
    measured: dict[str, dict[str, list[Point]]],
) -> Results:
    """All that was found, as it goes into rd.json; ``slow`` are the slow metrics among it, with their versions.

    ``anchor`` is what the tables by range compare with; the others compare with JPEG.
    """
    found: Results = {
        "kind": KIND,
        "model": Codec(device="cpu").model.id.hex(),
        "images": {s.name: {"width": s.width, "height": s.height, "sha256": s.digest} for s in samples},
        "notes": {s.name: s.note for s in samples if s.note},
        "skipped": skipped,
        "absent": absent,
        "slow_metrics": slow,
        "codecs": {
            c.name: {"version": c.version, "settings": c.settings, "qualities": c.qualities, "points": measured[c.name]}
            for c in codecs
        },
    }
    found["bd_rate"], found["not_in_bd_rate"] = {}, {}
    for metric in (*METRICS, *slow):
        found["bd_rate"][metric], found["not_in_bd_rate"][metric] = bd_rates(found, metric)
    found["by_range"] = by_range(found, anchor)
    return found


def curve(found: Results, codec: str, image: str, metric: str) -> Curve:
    """The points of a codec on one image that have a value of this metric."""
    size = found["images"][image]
    pixels = size["width"] * size["height"]
    points = found["codecs"][codec]["points"][image]
    rows = [(8 * p["bytes"] / pixels, p[metric]) for p in points if p.get(metric) is not None]
    return np.array(rows, np.float64).reshape(-1, 2)


def _rising(found: Results, codec: str, image: str, metric: str) -> Curve:
    """The same on the scale that BD-rates are computed on."""
    rates, values = curve(found, codec, image, metric).T
    return np.stack((rates, rising(metric, values)), 1)


def whole_images(found: Results, metric: str) -> list[str]:
    """The images that have a value of this metric at every quality of every codec, so that means can be compared."""

    def value(points: Sequence[Point]) -> list[bool]:
        return [p.get(metric) is not None for p in points]

    tables = [codec["points"] for codec in found["codecs"].values()]
    tables = [t for t in tables if any(any(value(points)) for points in t.values())]  # not one that always fails
    return [image for image in found["images"] if tables and all(all(value(t[image])) for t in tables)]


def mean_curve(found: Results, codec: str, metric: str) -> Curve:
    """Means over `whole_images`; no rows if there are none."""
    curves = [curve(found, codec, image, metric) for image in whole_images(found, metric)]
    return np.mean(curves, 0) if curves and len(curves[0]) else np.empty((0, 2))


def failures(found: Results) -> dict[str, str]:
    """What went wrong, by codec and image, each said once."""
    return {
        f"{codec}, {image}": next(p["error"] for p in points if "error" in p)
        for codec, entry in found["codecs"].items()
        for image, points in entry["points"].items()
        if any("error" in p for p in points)
    }


def write(found: Results, out: Path) -> None:
    """rd.json and rd.csv."""
    (out / "rd.json").write_text(json.dumps(found) + "\n", "utf-8")
    with (out / "rd.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("codec", "image", "quality", "bytes", "bpp", *(LABELS[m] for m in found["bd_rate"]), "error"))
        for codec, entry in found["codecs"].items():
            for image, points in entry["points"].items():
                pixels = found["images"][image]["width"] * found["images"][image]["height"]
                for quality, p in zip(entry["qualities"], points, strict=True):
                    bpp = f"{8 * p['bytes'] / pixels:.5f}" if "bytes" in p else ""
                    values = (p.get(metric) for metric in found["bd_rate"])
                    table.writerow((codec, image, quality, p.get("bytes"), bpp, *values, p.get("error")))


def load(path: Path) -> Results:
    """A run that `write` has left. Raises OSError, or ValueError for any other file."""
    try:
        found: Results = json.loads(path.read_text("utf-8"))
        if found["kind"] == KIND and found.keys() >= {"model", "images", "codecs", "bd_rate"}:
            return found
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"{path}: not the result of a rate-distortion run")


def compare(old: Results, new: Results) -> list[str]:
    """What the new run needs more (+) or less (-) rate for than the old one, codec by codec, on the images of both."""
    images = [name for name, size in new["images"].items() if old["images"].get(name) == size]
    if not images:
        raise ValueError("the two runs have no image in common")
    lines = [f"{len(images)} images in common; BD-rate of the new run against the old one"]
    for codec in new["codecs"]:
        if codec not in old["codecs"]:
            lines.append(f"{codec}: only in the new run")
            continue
        if old["codecs"][codec]["points"] == new["codecs"][codec]["points"]:
            lines.append(f"{codec}: the same")
            continue
        for metric, (name, scores) in product([m for m in new["bd_rate"] if m in old["bd_rate"]], RANGES.items()):
            changes = {}
            for image in images:
                with contextlib.suppress(NoOverlap):
                    changes[image] = _bd_rate((old, codec), (new, codec), image, metric, scores)
            what = f"{codec}, {metric}" + (f" at scores {name}" if scores else "")
            if not changes:
                lines.append(f"{what}: not comparable")
                continue
            best, worst = min(changes, key=changes.__getitem__), max(changes, key=changes.__getitem__)
            gone = [image for image in images if image not in changes]
            without = f"; without {', '.join(gone)}" if gone else ""
            lines.append(
                f"{what}: {written(_mean(list(changes.values())), 2)} "
                f"({changes[best]:+.2f} % {best} to {changes[worst]:+.2f} % {worst}{without})"
            )
    before, after = failures(old), failures(new)
    lines += [f"fails now: {name}: {reason}" for name, reason in after.items() if name not in before]
    lines += [f"fails no more: {name}" for name in before if name not in after]
    lines += [f"{codec}: only in the old run" for codec in old["codecs"] if codec not in new["codecs"]]
    return lines
