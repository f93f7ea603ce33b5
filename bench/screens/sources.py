"""What screens are drawn from, for each of the two sets, and what is known of one picture."""

from dataclasses import dataclass
from typing import NamedTuple


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


WORDS = (
    *("Alpha", "Budget", "Cache", "Delta", "Energy", "Filter", "Growth", "Harbour", "Index", "Journal", "Kernel"),
    *("Ledger", "Market", "Network", "Orders", "Parser", "Queue", "Region", "Server", "Traffic", "Users", "Volume"),
    *("Weather", "Yield"),
)
