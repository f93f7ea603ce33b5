"""Pictures of screens, drawn from a seed: rendered pages, charts and line art, which photographs lack.

Two sets, one to train with and one to measure, from sources that do not overlap: the documents and drawings are those
of other Debian packages, set in other fonts, with other style sheets and chart styles. Chromium draws pages and line
art, matplotlib the charts; the network is never used.
"""

import base64
import contextlib
import hashlib
import io
import json
import math
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from html import escape
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.style
import numpy as np
from matplotlib import font_manager
from matplotlib.figure import Figure
from PIL import Image

KINDS = ("page", "chart", "line")
SHARES = (2, 1, 1)  # of the kinds in a set
TRIES = 10  # at a picture, before it is thought that there is something wrong
MOST_BYTES = 400_000  # of a page; larger ones take Chromium long
LEAST_TEXT = 0.08  # of a page's area that its lines of text must cover
LEAST_INK = 0.01  # of a picture's pixels that must differ from its commonest colour
SECONDS = 20  # that Chromium may take over a command


class Theme(NamedTuple):
    """A style sheet of ours; colours of the ground, the text, links, boxes and headings."""

    name: str
    ground: str
    ink: str
    link: str
    box: str
    heading: str
    text: str  # fonts
    code: str
    extra: str  # more rules

    @property
    def dark(self) -> bool:
        return int(self.ground[1:3], 16) < 128


class Sources(NamedTuple):
    """Where the pictures of a set come from."""

    documents: tuple[str, ...]  # Debian packages with HTML
    drawings: tuple[str, ...]  # Debian packages with SVG
    fonts: tuple[str, ...]  # Debian packages
    generic: tuple[str, str, str]  # families for serif, sans-serif and monospace
    themes: tuple[Theme, ...]
    styles: tuple[str, ...]  # of matplotlib
    sketches: tuple[str, ...]  # what this script draws itself
    views: tuple[tuple[int, int, float], ...]  # width and height in CSS pixels, device pixels per CSS pixel


TRAINING = Sources(
    documents=("debian-handbook", "debian-reference-zh-cn", "aptitude-doc-ja", "aptitude-doc-ru", "python-django-doc",
               "sqlite3-doc", "git-doc", "nodejs-doc", "bind9-doc"),
    drawings=("openclipart-svg", "adwaita-icon-theme", "bootstrap-icons"),
    fonts=("fonts-dejavu-core", "fonts-liberation", "fonts-noto-cjk", "fonts-noto-core", "fonts-hosny-amiri"),
    generic=("Liberation Serif", "Liberation Sans", "Liberation Mono"),
    themes=(
        Theme("plain", "#ffffff", "#000000", "#0000ee", "#f2f2f2", "#000000", "Liberation Sans", "Liberation Mono", ""),
        Theme("book", "#fffff8", "#111111", "#6b1a1a", "#f4f0e4", "#333333", "Liberation Serif", "DejaVu Sans Mono",
              "p {text-align: justify} body {max-width: 42em !important; margin: 0 auto !important}"),
        Theme("night", "#1e1e1e", "#d4d4d4", "#569cd6", "#2d2d2d", "#dcdcaa", "DejaVu Sans", "DejaVu Sans Mono", ""),
        Theme("solar", "#fdf6e3", "#586e75", "#268bd2", "#eee8d5", "#cb4b16", "Noto Sans", "Liberation Mono",
              "body {font-size: 15px; line-height: 1.6}"),
        Theme("terminal", "#002b00", "#b0e0a0", "#ffff80", "#003c00", "#80ff80", "DejaVu Sans Mono", "DejaVu Sans Mono",
              "body {font-size: 13px}"),
        Theme("slate", "#22303c", "#e1e8ed", "#8ecdf8", "#192734", "#ffffff", "Noto Serif", "Liberation Mono",
              "body {line-height: 1.5; padding: 0 24px !important}"),
    ),
    styles=("default", "ggplot", "bmh", "dark_background", "seaborn-v0_8-whitegrid", "classic", "seaborn-v0_8-pastel"),
    sketches=("flow", "contours"),
    views=((1280, 800, 1), (1024, 768, 1), (1366, 700, 1), (560, 900, 1), (800, 600, 1.25), (700, 540, 1.5),
           (640, 480, 2), (900, 640, 2)),
)  # fmt: skip
TEST = Sources(
    documents=("installation-guide-amd64", "apache2-doc", "cmake-doc", "debian-policy", "cppreference-doc-en-html"),
    drawings=("breeze-icon-theme", "iso-flags-svg"),
    fonts=("fonts-open-sans", "fonts-roboto-unhinted", "fonts-roboto-slab", "fonts-lato", "fonts-firacode",
           "fonts-wqy-zenhei", "fonts-ipafont-gothic", "fonts-nanum"),
    generic=("Roboto Slab", "Open Sans", "Fira Code"),
    themes=(
        Theme("modern", "#fcfcfd", "#24292f", "#0969da", "#f6f8fa", "#1f2328", "Open Sans", "Fira Code",
              "body {font-size: 16px; line-height: 1.5} h1, h2 {border-bottom: 1px solid #d0d7de !important}"),
        Theme("sepia", "#f4ecd8", "#5b4636", "#a0522d", "#e8dcc0", "#3b2a1e", "Roboto Slab", "Fira Code",
              "body {font-size: 17px; line-height: 1.55}"),
        Theme("nord", "#2e3440", "#d8dee9", "#88c0d0", "#3b4252", "#ebcb8b", "Roboto", "Fira Code", ""),
        Theme("contrast", "#000000", "#ffffff", "#ffff00", "#1a1a1a", "#00ffff", "Lato", "Fira Code",
              "body {font-weight: 600}"),
        Theme("dense", "#e8eef4", "#1a2b3c", "#7b2cbf", "#d6e0ea", "#0b3d5c", "Roboto", "Fira Code",
              "body {font-size: 12px; line-height: 1.25}"),
    ),
    styles=("fivethirtyeight", "Solarize_Light2", "seaborn-v0_8-darkgrid", "grayscale", "tableau-colorblind10"),
    sketches=("network", "streets"),
    views=((800, 600, 1), (760, 580, 1), (640, 480, 1.25), (532, 400, 1.5), (400, 300, 2)),
)  # fmt: skip
ZOOMS = (0.8, 1, 1, 1.1, 1.25, 1.5)
OWN = "own"  # the style that a page brings along


@dataclass(frozen=True)
class Spec:
    """One picture that might be drawn."""

    kind: str
    package: str
    version: str
    file: str  # or what is drawn
    theme: str
    width: int  # in CSS pixels
    height: int
    scale: float
    zoom: float
    seed: int


class Package(NamedTuple):
    """What dpkg says of a package that is installed."""

    version: str
    files: tuple[str, ...]

    def ending(self, *suffixes: str) -> list[str]:
        """Its files with such names."""
        return [file for file in self.files if file.endswith(suffixes)]


class ScreensError(Exception):
    """Why nothing can be drawn, in a sentence, with the command that helps."""


def packages(names: Sequence[str]) -> dict[str, Package]:
    """Versions and files of these Debian packages. Raises ScreensError where one is missing, or dpkg."""
    if not shutil.which("dpkg-query"):
        raise ScreensError("screens are drawn from Debian packages, and there is no dpkg-query here")
    lines = [line.split("\t") for line in _dpkg("-W", "-f", "${Package}\t${Version}\t${db:Status-Status}\n", *names)]
    versions = {name: version for name, version, status in lines if status == "installed"}
    if missing := [name for name in names if name not in versions]:
        raise ScreensError(f"not installed; run: apt-get install --no-install-recommends {' '.join(missing)}")
    return {name: Package(versions[name], tuple(f for f in _dpkg("-L", name) if Path(f).is_file())) for name in names}


def _dpkg(*arguments: str) -> list[str]:
    """The lines that dpkg-query answers, in order."""
    done = subprocess.run(["dpkg-query", *arguments], capture_output=True, text=True, check=False)
    return sorted(done.stdout.splitlines())


def plan(kind: str, sources: Sources, found: dict[str, Package], seed: int) -> Iterator[Spec]:
    """What to draw of a kind, without end, the same for the same seed and packages; some of it may be passed over."""
    random = Random(f"{kind} {seed}")
    while True:
        width, height, scale = random.choice(sources.views)
        zoom, theme = 1.0, random.choice(sources.themes).name
        if kind == "page":
            package = random.choice(sources.documents)
            file = _pick(random, package, found[package].ending(".html", ".htm"))
            zoom, theme = random.choice(ZOOMS), random.choice((OWN, theme, theme))
        elif kind == "chart":
            package, file, theme = "matplotlib", random.choice(tuple(CHARTS)), random.choice(sources.styles)
        elif random.random() < 0.3:
            package, file = "", random.choice(sources.sketches)
        else:
            package = random.choice(sources.drawings)
            file = _pick(random, package, [f for f in found[package].ending(".svg") if "-dark" not in f])
        version = found[package].version if package in found else mpl.__version__ if package else ""
        yield Spec(kind, package, version, file, theme, width, height, scale, zoom, random.randrange(2**32))


def _pick(random: Random, package: str, files: Sequence[str]) -> str:
    """A file of a folder, each folder as likely as the others: they are languages and kinds of icons."""
    if not files:  # images for containers leave out /usr/share/doc
        raise ScreensError(f"{package}: installed, but without its documents or drawings")
    folders = [str(Path(file).parent) for file in files]
    chosen = random.choice(sorted(set(folders)))
    return random.choice([file for file, folder in zip(files, folders, strict=True) if folder == chosen])


def draw(out: Path, sources: Sources, count: int, seed: int, show: Callable[[], None]) -> None:
    """Draw about so many pictures into a new folder, with manifest.json; ``show`` is called after each.

    The folder appears when all is drawn. Raises ScreensError where a package is missing, where the folder is not empty,
    or where Chromium fails, and OSError where it cannot be written.
    """
    if out.exists() and any(out.iterdir()):
        raise ScreensError(f"{out}: not empty")
    found = packages(["chromium", *sources.documents, *sources.drawings, *sources.fonts])
    fonts = [font for name in sources.fonts for font in found[name].ending(".ttf", ".otf", ".ttc")]
    families = {theme.text.replace(" ", "") for theme in sources.themes}
    for font in fonts:
        if Path(font).stem.split("-")[0] in families:
            font_manager.fontManager.addfont(font)
    pictures = []
    out.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=out.parent, ignore_cleanup_errors=True) as part,
        browse(fonts, sources.generic) as browser,
    ):
        folder = Path(part, out.name)
        folder.mkdir()
        for kind, share in zip(KINDS, SHARES, strict=True):
            wanted = round(count * share / sum(SHARES))
            specs = islice(plan(kind, sources, found, seed), TRIES * wanted)
            drawn = ((spec, picture(spec, sources, found, browser)) for spec in specs)
            shown = ((spec, image) for spec, image in drawn if image and _ink(image) > LEAST_INK)
            for number in range(wanted):
                try:
                    spec, image = next(shown)
                except StopIteration:
                    raise ScreensError(f"{kind}: only {number} of {wanted} pictures show enough") from None
                name = f"{kind}_{number:03}.png"
                image.save(folder / name)
                pictures.append({"name": name, "pixels": image.size, **asdict(spec)})
                show()
        versions = {name: package.version for name, package in found.items()} | {"matplotlib": mpl.__version__}
        manifest = {"seed": seed, "packages": versions, "pictures": pictures}
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
        folder.rename(out)


def digest() -> str:
    """What names this version of the script."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]


def picture(spec: Spec, sources: Sources, found: dict[str, Package], browser: "Browser") -> Image.Image | None:
    """It, drawn; None where a page is mostly empty."""
    theme = next((theme for theme in sources.themes if theme.name == spec.theme), None)
    if spec.kind == "page":
        if Path(spec.file).stat().st_size > MOST_BYTES:
            return None
        return browser.open(Path(spec.file).as_uri(), spec, theme, LEAST_TEXT)
    random = Random(spec.seed)
    if spec.kind == "chart":
        return chart(spec, random.choice(sources.themes).text)
    assert theme
    if spec.package:
        neighbours = [f for f in found[spec.package].ending(".svg") if Path(f).parent == Path(spec.file).parent]
        body = sheet(spec, neighbours, theme)
    else:
        body = SKETCHES[spec.file](random, spec.width, spec.height, theme)
    page = browser.folder / "page.html"
    bare = "margin: 0 !important; padding: 0 !important; max-width: none !important"
    page.write_text(f'<!DOCTYPE html><meta charset="utf-8"><body style="{bare}">{body}', "utf-8")
    return browser.open(page.as_uri(), spec, theme, 0)


def _ink(image: Image.Image) -> float:
    """The share of pixels that differ from the commonest."""
    few = np.asarray(image)[::3, ::3].reshape(-1, 3).astype(np.uint32) @ np.array([1, 256, 65536], np.uint32)
    return 1 - float(np.unique(few, return_counts=True)[1].max() / few.size)


# pages


class Browser:
    """Chromium without a window or a network, commanded through a pipe."""

    def __init__(self, process: "subprocess.Popen[bytes]", folder: Path):
        assert process.stdin
        assert process.stdout
        self._commands, self._answers = process.stdin, process.stdout
        self._read = b""
        self._number = 0
        self.folder = folder  # for files that it is to show

    def open(self, address: str, spec: Spec, theme: Theme | None, least_text: float) -> Image.Image | None:
        """A page as a screen shows it, somewhere along its length.

        None where it takes too long, or where lines of text cover less than that share of what is seen.
        """
        target = self._call("Target.createTarget", url="about:blank")
        try:
            tab = self._call("Target.attachToTarget", flatten=True, **target)["sessionId"]
            return self._look(tab, address, spec, theme, least_text)
        except TimeoutError:
            return None
        finally:
            self._call("Target.closeTarget", **target)

    def _look(self, tab: str, address: str, spec: Spec, theme: Theme | None, least_text: float) -> Image.Image | None:
        view = {"width": spec.width, "height": spec.height, "deviceScaleFactor": spec.scale, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", tab, **view)
        if "errorText" in self._call("Page.navigate", tab, url=address):
            return None
        deadline = time.monotonic() + SECONDS
        while self._evaluate(tab, "document.readyState") != "complete":
            if time.monotonic() > deadline:
                return None
            time.sleep(0.02)
        random = Random(spec.seed)
        place = random.choice((0, random.random()))
        covered = self._evaluate(tab, f"({LOOK})({json.dumps(css(theme) if theme else '')}, {spec.zoom}, {place})")
        if covered < least_text:
            return None
        data = base64.b64decode(self._call("Page.captureScreenshot", tab, format="png")["data"])
        return Image.open(io.BytesIO(data)).convert("RGB")

    def _evaluate(self, tab: str, expression: str) -> Any:
        answer = self._call("Runtime.evaluate", tab, expression=expression, awaitPromise=True, returnByValue=True)
        return answer["result"].get("value")

    def _call(self, method: str, tab: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Chromium's answer to a command. Raises ScreensError or TimeoutError where there is none."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters} | ({"sessionId": tab} if tab else {})
        try:
            self._commands.write(json.dumps(command).encode() + b"\0")
        except OSError:
            raise ScreensError("Chromium has ended") from None
        while (answer := json.loads(self._message())).get("id") != self._number:
            pass  # news, and answers that came too late
        if "error" in answer:
            raise ScreensError(f"Chromium: {method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _message(self) -> bytes:
        while b"\0" not in self._read:
            if not select.select([self._answers], [], [], SECONDS)[0]:
                raise TimeoutError
            more = self._answers.read(1 << 20)
            if not more:
                raise ScreensError("Chromium has ended")
            self._read += more
        message, _, self._read = self._read.partition(b"\0")
        return message


@contextlib.contextmanager
def browse(fonts: Sequence[str], generic: tuple[str, str, str]) -> Iterator[Browser]:
    """A Browser that sees these font files alone, of which families are serif, sans-serif and monospace."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as kept:
        folders = "".join(f"<dir>{folder}</dir>" for folder in sorted({Path(font).parent for font in fonts}))
        names = (("serif", "Times New Roman"), ("sans-serif", "Arial"), ("monospace", "Courier New"))
        aliases = "".join(
            f'<alias binding="same"><family>{name}</family><prefer><family>{family}</family></prefer></alias>'
            for family, both in zip(generic, names, strict=True)
            for name in both
        )
        configuration = Path(kept, "fonts.conf")
        configuration.write_text(
            f"<fontconfig>{folders}<cachedir>{kept}/fonts</cachedir>{aliases}</fontconfig>", "utf-8"
        )
        flags = (
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
            *("--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={kept}/profile", "--remote-debugging-pipe"),
        )
        # Chromium reads commands from file 3 and answers on file 4
        start = ["sh", "-c", 'exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1', "chromium", *flags]
        environment = os.environ | {"FONTCONFIG_FILE": str(configuration)}
        with subprocess.Popen(
            start, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        ) as process:
            try:
                yield Browser(process, Path(kept))
            except TimeoutError:
                raise ScreensError("Chromium does not answer") from None
            finally:
                process.terminate()


# sets style, zoom and place, lets nothing move, waits for fonts, and says what share of the view lines of text cover
LOOK = """async (css, zoom, place) => {
  const style = document.createElement("style");
  style.textContent = css + "* {transition: none !important; animation: none !important}";
  document.documentElement.append(style);
  document.documentElement.style.zoom = zoom;
  await document.fonts.ready;
  for (const part of document.querySelectorAll(css ? "body *" : "none"))
    if (["fixed", "sticky"].includes(getComputedStyle(part).position))
      part.style.setProperty("background-color", getComputedStyle(document.body).backgroundColor, "important");
  window.scrollTo({top: place * (document.documentElement.scrollHeight - innerHeight), behavior: "instant"});
  await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
  const range = document.createRange(), texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let area = 0;
  while (texts.nextNode()) {
    if (!texts.currentNode.data.trim()) continue;
    range.selectNodeContents(texts.currentNode);
    for (const box of range.getClientRects()) {
      const width = Math.min(box.right, innerWidth) - Math.max(box.left, 0);
      const height = Math.min(box.bottom, innerHeight) - Math.max(box.top, 0);
      area += Math.max(width, 0) * Math.max(height, 0);
    }
  }
  return area / (innerWidth * innerHeight);
}"""


def css(theme: Theme) -> str:
    """The theme's rules, which come before a page's own."""
    return (
        f"html, body {{background: {theme.ground} !important}}"
        f"* {{color: inherit !important; background-color: transparent !important; text-shadow: none !important;"
        f" border-color: {theme.box} !important; font-family: '{theme.text}', sans-serif !important}}"
        f"html {{color: {theme.ink} !important}} body {{padding: 8px}}"
        f"a, a * {{color: {theme.link} !important}}"
        f"h1, h1 *, h2, h2 *, h3, h3 * {{color: {theme.heading} !important}}"
        f"pre, code, th, .note, .admonition {{background-color: {theme.box} !important}}"
        f"pre, pre *, code, code *, tt, kbd {{font-family: '{theme.code}', monospace !important}} {theme.extra}"
    )


# line art


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

WORDS = (
    *("Alpha", "Budget", "Cache", "Delta", "Energy", "Filter", "Growth", "Harbour", "Index", "Journal", "Kernel"),
    *("Ledger", "Market", "Network", "Orders", "Parser", "Queue", "Region", "Server", "Traffic", "Users", "Volume"),
    *("Weather", "Yield"),
)


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


# charts


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
