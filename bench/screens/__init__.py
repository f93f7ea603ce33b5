"""Pictures of screens, drawn from a seed: rendered pages, charts and line art, which photographs lack.

Two sets, one to train with and one to measure, from sources that do not overlap: the documents and drawings are those
of other Debian packages, set in other fonts, with other style sheets and chart styles. Chromium draws pages and line
art, matplotlib the charts; the network is never used.
"""

import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from random import Random
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from PIL import Image

from .browser import Browser, ScreensError, browse
from .charts import CHARTS, chart
from .lineart import SKETCHES, sheet
from .sources import TEST, TRAINING, Sources, Spec

__all__ = ["TEST", "TRAINING", "ScreensError", "Sources", "digest", "draw"]

KINDS = ("page", "chart", "line")
SHARES = (2, 1, 1)  # of the kinds in a set
TRIES = 10  # at a picture, before it is thought that there is something wrong
MOST_BYTES = 400_000  # of a page; larger ones take Chromium long
LEAST_TEXT = 0.08  # of a page's area that its lines of text must cover
LEAST_INK = 0.01  # of a picture's pixels that must differ from its commonest colour
ZOOMS = (0.8, 1, 1, 1.1, 1.25, 1.5)
OWN = "own"  # the style that a page brings along


class Package(NamedTuple):
    """What dpkg says of a package that is installed."""

    version: str
    files: tuple[str, ...]

    def ending(self, *suffixes: str) -> list[str]:
        """Its files with such names."""
        return [file for file in self.files if file.endswith(suffixes)]


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
    """What names this version of the scripts."""
    parts = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in parts)).hexdigest()[:12]


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
