"""Make the golden files anew: ``python -m tests.make_golden``. Needed whenever the weights change before version 1.0.

Beside each file lie the picture it decodes to and, in one JSON file, the SHA-256 of its symbols as the pure-Python
reference decoder reads them.
"""

import hashlib
import json
from pathlib import Path

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


def pictures() -> dict[str, tuple[Image.Image, int]]:
    """Small pictures of every kind with the quality to code them at."""
    photo: Plane = np.asarray(data.astronaut())
    rows, columns = np.mgrid[:40, :50]
    disc = ((rows - 20) ** 2 + (columns - 25) ** 2 < 300).astype(np.uint8) * 255
    with_metadata = Image.fromarray(photo[200:233, 100:120])
    exif = Image.Exif()
    exif[0x0112] = 6
    with_metadata.info["exif"] = exif.tobytes()
    with_metadata.info["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return {
        "rgb": (Image.fromarray(photo[0:60, 200:290]), 60),
        "gray": (Image.fromarray(photo[100:137, 180:240, 1]), 40),
        "alpha": (Image.fromarray(np.dstack((photo[100:140, 200:250], disc))), 50),
        "gray_alpha": (Image.fromarray(np.dstack((photo[100:140, 200:250, 0], disc)), "LA"), 30),
        "one_pixel": (Image.fromarray(photo[150:151, 200:201]), 100),
        "escapes": (Image.fromarray((np.indices((33, 35)).sum(0) % 2 * 255).astype(np.uint8)), 100),
        "two_tiles": (Image.fromarray(np.hstack((photo[90:100], photo[90:100, :40]))), 20),
        "metadata": (with_metadata, 0),
    }


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    codec = Codec(device="cpu")
    reference = Reference(registry.find(codec.model.id))
    digests = {}
    for name, (image, quality) in pictures().items():
        coded = codec.compress(image, quality)
        (FOLDER / f"{name}.aec").write_bytes(coded)
        codec.decompress(coded).save(FOLDER / f"{name}.png")
        digests[name] = digest(reference.decode(coded))
        print(f"{name}: {len(coded)} bytes")
    (FOLDER / "symbols.json").write_text(json.dumps(digests, indent=1) + "\n")


if __name__ == "__main__":
    main()
