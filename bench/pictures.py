"""Pictures to look at: a few of the images, as each codec keeps them at the same rates."""

import base64
import contextlib
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from PIL import Image

from . import measure, metrics
from .codecs import AVIF, JPEG, JPEG_XL, OURS, WEBP, Peer, largest_within, roster
from .images import Sample, centre, read

RATES = (0.1, 0.2, 0.4, 0.8)  # bits per pixel
SHOWN = (OURS, AVIF, JPEG_XL, WEBP, JPEG)
NATIVE = {JPEG: "image/jpeg", WEBP: "image/webp", AVIF: "image/avif"}  # browsers show their files
COUNT = 3
LEAST_SIDE = 128  # of pictures worth looking at
CROP = (768, 768)  # pixels of a picture that are coded and shown, at its centre
_ORIGINAL = "original"  # in place of a codec's name


@dataclass(frozen=True)
class Version:
    """A file that a browser shows, and what is known of the codec's file that it shows."""

    media: str
    data: str  # base64
    quality: int = 0
    bytes: int = 0
    values: dict[str, float | None] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"data:{self.media};base64,{self.data}"

    def figures(self) -> list[str]:
        """Its metrics, each with its name and unit."""
        found = []
        for name, value in self.values.items():
            if value is not None:
                label, _, unit = metrics.METRICS[name].rstrip(")").partition(" (")
                found.append(f"{label} {value:.2f} {unit}".rstrip())
        return found

    def caption(self) -> str:
        return f"quality {self.quality}, {self.bytes} bytes, {', '.join(self.figures())}"

    def image(self) -> Image.Image:
        return Image.open(io.BytesIO(base64.b64decode(self.data))).convert("RGB")


@dataclass(frozen=True)
class Picture:
    """A picture and its versions: by rate, then by codec, None where a codec has no file so small."""

    name: str
    width: int
    height: int
    original: Version
    versions: dict[float, dict[str, Version | None]]


def compare(
    samples: Sequence[Sample], codecs: Iterable[Peer], cache: Path, show: Callable[[int, int], None]
) -> list[Picture]:
    """A few of the images, spread over the set, by each codec that is `SHOWN`, at its best in each of the `RATES`.

    What was found before is taken from the folder ``cache``. ``show`` is called with how many there are of all that is
    to be found.
    """
    known = {c.name: f"{c.version}, {c.settings}" for c in codecs if c.name in SHOWN} | {_ORIGINAL: ""}
    large = [s for s in samples if min(s.width, s.height) >= LEAST_SIDE]
    count = min(COUNT, len(large))
    chosen = [large[(2 * i + 1) * len(large) // (2 * count)] for i in range(count)]
    wanted = [(sample, name) for sample in chosen for name in (_ORIGINAL, *SHOWN) if name in known]
    found = {}
    for sample, name in wanted:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            found[sample.name, name] = _load(_place(cache, sample, name), _key(sample, known[name]))
    show(len(found), len(wanted))
    missing = [(sample, name) for sample, name in wanted if (sample.name, name) not in found]
    need = CROP[0] * CROP[1] * measure.BYTES_PER_PIXEL
    for place, versions in measure.spread(_versions, missing, need):
        sample, name = missing[place]
        if versions:
            found[sample.name, name] = versions
            with contextlib.suppress(OSError):  # as a run without a cache says already
                _keep(_place(cache, sample, name), _key(sample, known[name]), versions)
        show(1, len(wanted))
    return [
        Picture(
            sample.name,
            min(sample.width, CROP[0]),
            min(sample.height, CROP[1]),
            original[0],
            {
                rate: {name: found[sample.name, name][i] for name in SHOWN if (sample.name, name) in found}
                for i, rate in enumerate(RATES)
            },
        )
        for sample in chosen
        if (original := found.get((sample.name, _ORIGINAL))) and original[0]
    ]


def _versions(sample: Sample, name: str) -> list[Version | None]:
    """What a worker does: one picture, one codec, all rates. Nothing where one of them fails."""
    try:
        image = centre(read(sample.path)[0], *CROP)
        if name == _ORIGINAL:
            return [Version("image/webp", _webp(image))]
        codec = roster()[0][name]
        return [_version(image, codec, int(rate * image.width * image.height / 8)) for rate in RATES]
    except Exception:  # what fails is named among the measurements
        return []


def _version(image: Image.Image, codec: Peer, budget: int) -> Version | None:
    best = largest_within(codec, image, budget)
    if not best:
        return None
    quality, data = best
    decoded = codec.decode(data)
    media = NATIVE.get(codec.name)
    shown = base64.b64encode(data).decode() if media else _webp(decoded)
    return Version(media or "image/webp", shown, quality, len(data), metrics.measure(image, decoded))


def _webp(image: Image.Image) -> str:
    """Base64 of a lossless file that every browser shows."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True)
    return base64.b64encode(buffer.getvalue()).decode()


def _place(cache: Path, sample: Sample, name: str) -> Path:
    """One file for each picture and codec, so that what another version of it had left is replaced."""
    return cache / f"{hashlib.sha256(f'{sample.digest} {name}'.encode()).hexdigest()[:32]}.json"


def _key(sample: Sample, codec: str) -> list[str]:
    return [sample.digest, codec, str(RATES), str(CROP), str(metrics.VERSION)]


def _load(path: Path, key: list[str]) -> list[Version | None]:
    kept = json.loads(path.read_text("utf-8"))
    if kept["key"] != key:
        raise ValueError("of another version")
    return [entry and Version(**entry) for entry in kept["versions"]]


def _keep(path: Path, key: list[str], versions: list[Version | None]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = [version and asdict(version) for version in versions]
    path.write_text(json.dumps({"key": key, "versions": entries}), "utf-8")
