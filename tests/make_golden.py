"""Make the golden files anew: ``python -m tests.make_golden``. Needed whenever the weights change before version 1.0.

Beside each file lie the picture it decodes to and, in one JSON file, the SHA-256 of its symbols as the pure-Python
reference decoder reads them.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms
from skimage import data

from aecodec import Codec, registry
from aecodec.image import Plane

from .reference import Reference, TileSymbols

FOLDER = Path(__file__).parent / "golden"


def digest(tiles: list[TileSymbols]) -> str:
    flat = [symbol for tile in tiles for part in tile.parts for symbol in part]
    return hashlib.sha256(",".join(map(str, flat)).encode()).hexdigest()


def pictures() -> dict[str, tuple[Image.Image, dict[str, Any]]]:
    """Small pictures of every kind, and what to code them with."""
    photo: Plane = np.asarray(data.astronaut())
    rows, columns = np.mgrid[:40, :50]
    disc = ((rows - 20) ** 2 + (columns - 25) ** 2 < 300).astype(np.uint8) * 255
    with_metadata = Image.fromarray(photo[200:233, 100:120])
    exif = Image.Exif()
    exif[0x0112] = 6
    with_metadata.info["exif"] = exif.tobytes()
    with_metadata.info["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    with_metadata.info["xmp"] = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
    region = np.zeros((20, 140), int)
    region[:, 130:] = 60
    images: dict[str, tuple[Plane, dict[str, Any]]] = {
        "rgb": (photo[0:60, 200:290], {"quality": 60}),
        "gray": (photo[100:137, 180:240, 1], {"quality": 40}),
        "alpha": (np.dstack((photo[100:140, 200:250], disc)), {"quality": 50}),
        "gray_alpha": (np.dstack((photo[100:140, 200:250, 0], disc)), {"quality": 30}),
        "one_pixel": (photo[150:151, 200:201], {"quality": 100}),
        "escapes": ((np.indices((33, 35)).sum(0) % 2 * 255).astype(np.uint8), {"quality": 100}),
        "two_tiles": (np.hstack((photo[90:100], photo[90:100, :40])), {"quality": 20}),
        "two_qualities": (photo[100:120, 150:290], {"quality": 10, "roi": region}),
        "unrounded_search": (photo[100:148, 200:248], {"quality": 70, "effort": 2}),
        "annealed_search": (photo[100:148, 200:248], {"quality": 20, "effort": 4}),
        "thumbnail": (photo[20:100, 180:280], {"quality": 30, "thumbnail": True}),
    }
    found = {name: (Image.fromarray(pixels), options) for name, (pixels, options) in images.items()}
    return found | {"metadata": (with_metadata, {"quality": 0})}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    codec = Codec(device="cpu")
    reference = Reference(registry.find(codec.model.id))
    digests = {}
    for name, (image, options) in pictures().items():
        coded = codec.compress(image, **options)
        (FOLDER / f"{name}.aec").write_bytes(coded)
        codec.decompress(coded).save(FOLDER / f"{name}.png")
        digests[name] = digest(reference.decode(coded))
        print(f"{name}: {len(coded)} bytes")
    (FOLDER / "symbols.json").write_text(json.dumps(digests, indent=1) + "\n")


if __name__ == "__main__":
    main()
