"""One HTML file that shows a run: tables, plots, and pictures laid over each other at the same number of bytes."""

import base64
import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template

from PIL import Image

from . import metrics, plot, rd, speed
from .codecs import AVIF, JPEG, OURS, WEBP, Peer, largest_within
from .images import Sample, centre, read
from .metrics import LABELS, METRICS
from .rd import Results

TEMPLATE = Path(__file__).parent / "report.html"
NATIVE = {JPEG: "image/jpeg", WEBP: "image/webp", AVIF: "image/avif"}  # browsers show their files
PICTURES = 3
LEAST_SIDE = 128  # of pictures worth looking at
CROP = (768, 576)  # shown at 1:1
JPEG_QUALITY = 10  # sets the number of bytes: low enough for the eye to tell the codecs apart


@dataclass(frozen=True)
class Version:
    """One codec's rendering of a picture: a file that a browser shows, and its figures."""

    label: str
    media: str
    data: bytes


def compare_pictures(samples: Sequence[Sample], codecs: Sequence[Peer]) -> dict[str, list[Version]]:
    """For a few images, spread over the set: the original and each codec's best in no more bytes than JPEG's."""
    chosen = [c for name in (OURS, *NATIVE) for c in codecs if c.name == name]
    large = [s for s in samples if min(s.width, s.height) >= LEAST_SIDE]
    count = min(PICTURES, len(large))
    found = {}
    for sample in (large[(2 * i + 1) * len(large) // (2 * count)] for i in range(count)):
        with contextlib.suppress(OSError, ValueError):  # the file may have gone since it was measured
            found[sample.name] = _versions(centre(read(sample.path)[0], *CROP), chosen)
    return found


def _versions(image: Image.Image, codecs: Sequence[Peer]) -> list[Version]:
    jpeg = next(c for c in codecs if c.name == JPEG)
    budget = len(jpeg.encode(image, JPEG_QUALITY))
    versions = [Version("original", "image/png", _png(image))]
    for codec in codecs:
        try:
            best = largest_within(codec, image, budget)
            decoded = codec.decode(best[1]) if best else None
        except Exception:  # what fails is named among the measurements
            continue
        if not best or not decoded:
            continue
        quality, data = best
        found = ", ".join(
            f"{METRICS[name]} {value:.2f}"
            for name, value in metrics.measure(image, decoded).items()
            if value is not None
        )
        label = f"{codec.name}, quality {quality}: {len(data)} bytes; {found}"
        native = NATIVE.get(codec.name)
        versions.append(Version(label, native or "image/png", data if native else _png(decoded)))
    return versions


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def write(found: Results, plots: dict[str, str], pictures: dict[str, list[Version]], out: Path) -> Path:
    """report.html, with the SVG of each metric and, where it is there, speed.json of the same folder."""
    page = Template(TEMPLATE.read_text("utf-8")).substitute(
        summary=_summary(found),
        rates=_rates(found),
        plots="".join(_plot(metric, svg) for metric, svg in plots.items()),
        comparisons="".join(_comparison(name, versions) for name, versions in pictures.items())
        or _paragraph(f"No picture has {LEAST_SIDE} pixels a side."),
        speed=_speed(out / "speed.json", found["model"]),
        provenance=_provenance(found),
    )
    path = out / "report.html"
    path.write_text(page, "utf-8")
    return path


def _summary(found: Results) -> str:
    count = len(found["images"])
    rate = found["bd_rate"]["psnr"].get(OURS)
    text = f"{count} image{'s' if count > 1 else ''}, real files, model {found['model']}."
    if rate:
        word = "fewer" if rate["mean"] < 0 else "more"
        text += f" For the same PSNR aecodec needs {abs(rate['mean']):.1f} % {word} bits than {JPEG}."
    return _paragraph(text)


def _rates(found: Results) -> str:
    rows = [[name, *(rd.written(rates[name]) for rates in found["bd_rate"].values())] for name in found["codecs"]]
    header = [f"BD-rate against {JPEG}", *(LABELS[metric].split(" (")[0] for metric in found["bd_rate"])]
    note = (
        "How many percent more (+) or fewer (-) bits than the anchor a codec needs for the same quality: mean of the "
        "images' BD-rates, with its standard error. An image has none where two curves share less than half of the "
        "anchor's range, where it is too small for the metric, or where a codec fails or is lossless; then it is left "
        "out for all codecs, unless a codec has none on more than half of the images, which has no mean then. "
    )
    gone = [f"{metric}: {', '.join(names)}" for metric, names in found["not_in_bd_rate"].items() if names]
    return _table(header, rows) + _paragraph(note + ("Left out of " + "; of ".join(gone) + "." if gone else ""))


def _plot(metric: str, svg: str) -> str:
    if not svg:
        return _paragraph(f"No plot of {LABELS[metric]}: no image has a value from every codec at every quality.")
    return f'<div class="plot">{svg[svg.index("<svg") :]}</div>'  # without the XML declaration


def _comparison(name: str, versions: list[Version]) -> str:
    def options(selected: int) -> str:
        return "".join(
            f'<option value="{i}"{" selected" if i == selected else ""}>{escape(v.label)}</option>'
            for i, v in enumerate(versions)
        )

    files = "".join(
        f'<template><img src="data:{v.media};base64,{base64.b64encode(v.data).decode()}"></template>' for v in versions
    )
    return f"""<section class="comparison">
<h3>{escape(name)}</h3>
<div class="controls">
<label>left <select>{options(1)}</select></label>
<label>right <select>{options(min(2, len(versions) - 1))}</select></label>
<input type="range" min="0" max="100" step="0.1" value="50" aria-label="position of the edge">
</div>
<div class="slider"><img alt="right" draggable="false"><img class="over" alt="left" draggable="false">
<div class="bar"></div></div>
{files}
</section>"""


def _speed(path: Path, model: str) -> str:
    try:
        found = speed.load(path)
    except OSError:
        return _paragraph("Not measured: python -m bench speed, with the same --out, does.")
    except ValueError as error:
        return _paragraph(str(error))
    threads = found["codecs"]
    ways = [(way, count) for way in ("encode", "decode") for count in threads]
    names = list(next(iter(threads.values())))
    header = ["milliseconds per megapixel", "bpp"]
    header += [f"{way}, {count} thread{'s' if count != '1' else ''}" for way, count in ways]
    rows = [
        [name, f"{threads['1'][name]['bpp']:.2f}", *(f"{1000 * threads[count][name][way]:.0f}" for way, count in ways)]
        for name in names
        if all(name in rows for rows in threads.values())
    ]
    start = [[name, f"{1000 * seconds:.0f} ms"] for name, seconds in found["start_up"].items()]
    memory = [
        [f"{size} megapixels, {way}", f"{m['gibibytes']:.2f} GiB", f"{m['seconds']:.1f} s"]
        for size, both in found["memory"].items()
        for way, m in both.items()
    ]
    other = "" if found["model"] == model else f" The model was another one, {found['model']}."
    note = f"{found['image']}, all codecs in turns in one warm process; medians. {found['machine']}.{other}"
    return (
        _table(header, rows)
        + _paragraph(note)
        + _table(["start of a new process", "median"], start)
        + _table(["the command line on a large file", "peak memory", "time"], memory)
    )


def _provenance(found: Results) -> str:
    codecs = [[name, c["version"], c["settings"] or "-"] for name, c in found["codecs"].items()]
    codecs += [[LABELS[name], version, "-"] for name, version in found["slow_metrics"].items()]
    codecs += [[name, "absent", reason] for name, reason in found["absent"].items()]
    text = _table(["codec or metric", "version", "settings"], codecs, "text")
    for title, entries in (
        ("images left out", found["skipped"]),
        ("particular images", found["notes"]),
        ("failures", rd.failures(found)),
    ):
        if entries:
            text += _table([f"{len(entries)} {title}", "why"], [[k, v] for k, v in entries.items()], "text")
    sources = plot.published(found)
    if sources:
        text += _paragraph(
            "Thin lines in the plot are what was published: "
            + "; ".join(f"{name} ({entry['source']})" for name, entry in sources.items())
            + "."
        )
    return text + _paragraph(
        f"Pictures above are centres of at most {CROP[0]}x{CROP[1]} pixels, shown at 1:1. Each codec has the best "
        f"quality whose file is no larger than that of {JPEG} at quality {JPEG_QUALITY}. JPEG, WebP and AVIF are the "
        "files themselves, decoded by this browser."
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "numbers") -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        ('<tr class="ours">' if row[0] == OURS else "<tr>")
        + "".join(f"<td>{escape(cell)}</td>" for cell in row)
        + "</tr>"
        for row in rows
    )
    return f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _paragraph(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'
