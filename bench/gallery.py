"""A small page of details: the original, ours, AVIF and JPEG at the same rates, as Markdown with pictures."""

from collections.abc import Sequence
from pathlib import Path

from .codecs import AVIF, JPEG, OURS
from .images import centre
from .pictures import Picture, Version

SHOWN = (OURS, AVIF, JPEG)
DETAIL = 192  # pixels a side: four of them beside each other fit a page, and all of them into 2 MB
RATES = (0.2, 0.4, 0.8)  # of those that pictures come in: less is no use to anyone


def write(pictures: Sequence[Picture], model: str, command: str, out: Path) -> Path:
    """README.md and the details beside it, in place of those of an earlier run."""
    for old in out.glob("*.webp"):
        old.unlink()
    lines = [
        "# Gallery",
        "",
        "Each row shows the same detail of one picture: as it was, and as each codec keeps it in files of at most so",
        "many bits per pixel, at the best quality that fits. Bytes and metrics are those of the whole picture; the",
        f"details are stored without loss. Made by `{command}`, with model {model}.",
    ]
    for number, picture in enumerate(pictures, 1):
        lines += ["", f"## {_plain(picture.name)}, {picture.width}x{picture.height}", ""]
        lines += [f"| bits per pixel | original | {' | '.join(SHOWN)} |", f"|---{'|---' * (1 + len(SHOWN))}|"]
        original = _detail(picture.original, out / f"{number}-original.webp")
        for rate in RATES:
            cells = [
                _cell(picture.versions[rate].get(name), out / f"{number}-{rate}-{name.split()[0].lower()}.webp")
                for name in SHOWN
            ]
            lines.append(f"| {rate} | {original} | {' | '.join(cells)} |")
    path = out / "README.md"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def _cell(version: Version | None, path: Path) -> str:
    if not version:
        return "no file so small"
    return "<br>".join((_detail(version, path), f"{version.bytes} bytes", *version.figures()))


def _detail(version: Version, path: Path) -> str:
    """Write it, and how the page shows it."""
    centre(version.image(), DETAIL, DETAIL).save(path, lossless=True)
    return f"![]({path.name})"


def _plain(name: str) -> str:
    """A name of a file, which Markdown is not to read as anything else."""
    return "".join(c if c.isalnum() or c in "./ -" else f"&#{ord(c)};" for c in name)
