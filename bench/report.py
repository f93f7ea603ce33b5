"""One HTML file that shows a run: pictures laid over each other at the same number of bytes, tables and plots."""

import base64
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from . import plot, rd, speed
from .codecs import AVIF, JPEG, OURS
from .metrics import LABELS
from .pictures import CROP, LEAST_SIDE, NATIVE, SHOWN, Picture, Version
from .rd import Results

TEMPLATE = Path(__file__).parent / "report.html"


def write(found: Results, plots: dict[str, str], pictures: Sequence[Picture], out: Path) -> Path:
    """report.html, with the SVG of each metric and, where it is there, speed.json of the same folder."""
    page = Template(TEMPLATE.read_text("utf-8")).substitute(
        summary=_summary(found),
        pictures=_pictures(pictures),
        rates=_rates(found) + _plots(plots),
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


def _plots(plots: dict[str, str]) -> str:
    # as images, in which their identifiers cannot meet
    shown = "".join(
        f'<img alt="{escape(LABELS[metric])} over bits per pixel" '
        f'src="data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}">'
        for metric, svg in plots.items()
        if svg
    )
    gone = [LABELS[metric] for metric, svg in plots.items() if not svg]
    why = "no image has a value from every codec at every quality."
    return f'<div class="plots">{shown}</div>' + "".join(_paragraph(f"No plot of {label}: {why}") for label in gone)


def _pictures(pictures: Sequence[Picture]) -> str:
    if not pictures:
        return _paragraph(f"No picture has {LEAST_SIDE} pixels a side.")
    text = (
        "Each codec at the best quality whose file has no more than so many bits per pixel. Move the edge with the "
        "mouse or a finger. "
    )
    note = f'<p class="note">{escape(text)}<kbd>o</kbd>, held, shows the original.</p>'
    return note + "".join(_comparison(picture) for picture in pictures)


def _comparison(picture: Picture) -> str:
    names = [name for name in SHOWN if any(versions.get(name) for versions in picture.versions.values())]
    first, second = (name if name in names else "" for name in (OURS, AVIF))
    rates = list(picture.versions)

    def options(labels: dict[str, str], selected: str) -> str:
        return "".join(
            f'<option value="{escape(value)}"{" selected" if value == selected else ""}>{escape(label)}</option>'
            for value, label in labels.items()
        )

    codecs = {"": "original"} | {name: name for name in names}
    content = {
        "original": picture.original.address,
        "rates": [
            {name: version and _shown(name, version) for name, version in picture.versions[rate].items()}
            for rate in rates
        ],
    }
    places = {str(place): f"{rate} bpp" for place, rate in enumerate(rates)}
    zooms = {"fit": "fit", "1": "1:1", "2": "2x", "4": "4x"}
    size = f'width="{picture.width}" height="{picture.height}" draggable="false"'
    return f"""<section class="comparison">
<h3>{escape(picture.name)}</h3>
<div class="controls">
<label>rate <select>{options(places, "1")}</select></label>
<label>left <select>{options(codecs, first)}</select></label>
<label>right <select>{options(codecs, second)}</select></label>
<label>size <select>{options(zooms, "fit")}</select></label>
<button type="button">original</button>
</div>
<div class="slider"><div class="stage">
<img {size} alt="right"><img {size} class="left" alt="left"><img {size} class="original" alt="original">
<div class="bar"></div></div></div>
<input class="edge" type="range" min="0" max="100" step="0.1" value="50" aria-label="position of the edge">
<div class="captions"><p></p><p></p></div>
<script type="application/json">{json.dumps(content)}</script>
</section>"""


def _shown(name: str, version: Version) -> dict[str, str]:
    """What the page's script knows of a version."""
    return {"caption": f"{name}: {version.caption()}", "src": version.address}


def _speed(path: Path, model: str) -> str:
    try:
        found = speed.load(path)
    except OSError:
        return _paragraph("Not measured: python -m bench speed, with the same --out, does.")
    except ValueError as error:
        return _paragraph(str(error))
    other = "" if found["model"] == model else f" The model was another one, {found['model']}."
    text = _paragraph(f"{found['image']}; medians, all codecs in turns. {found['machine']}.{other}")
    for state in [state for state in speed.STATES if state in found]:
        threads = found[state]["codecs"]
        ways = [(way, count) for way in ("encode", "decode") for count in threads]
        header = [f"{state}, one warm process: ms per megapixel", "bpp"]
        header += [f"{way}, {count} thread{'s' if count != '1' else ''}" for way, count in ways]
        rows = [
            [name, f"{row['bpp']:.2f}", *(f"{1000 * threads[count][name][way]:.0f}" for way, count in ways)]
            for name, row in next(iter(threads.values())).items()
            if all(name in rows for rows in threads.values())
        ]
        start = [[name, f"{1000 * seconds:.0f} ms"] for name, seconds in found[state]["start_up"].items()]
        text += _table(header, rows) + _table([f"{state}, a new process", "time"], start)
    memory = [
        [f"{size} megapixels, {way}", f"{m['gibibytes']:.2f} GiB", f"{m['seconds']:.1f} s"]
        for size, both in found["memory"].items()
        for way, m in both.items()
    ]
    return text + _table(["the command line on a large file", "peak memory", "time"], memory)


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
        f"Pictures above are centres of at most {CROP[0]}x{CROP[1]} pixels, coded by themselves. "
        f"{', '.join(NATIVE)}: the files, decoded by this browser; the others: what they decode to, without loss."
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
