import os
import signal
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from aecodec import Codec
from aecodec.image import Plane
from aecodec.model import weights
from aecodec.model.structure import Design
from aecodec.training import export
from aecodec.training.network import Network
from aecodec.training.run import Recipe, Run

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
PERMISSIONS = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is closed to root, nor by such means on Windows"
)
PIPES = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
INTERRUPTS = pytest.mark.skipif(os.name == "nt", reason="no process asks another one to end by a signal here")
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.aec"))
SECRET = "a-secret"  # of the S3 server in this process
SMALL = Design(64, 32, 32, 16, 8, 16, 16, 16, 1, 2, 2, 1)  # as the design that is trained, but quick


@pytest.fixture(scope="session")
def codec() -> Codec:
    return Codec(device="cpu")


@pytest.fixture(scope="session")
def fine_weights(photo: Plane, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights with fine latents from quality 60 on: small networks after some steps on the photograph."""
    torch.manual_seed(0)
    run = Run(Network(SMALL), Recipe(objective="psnr"))
    pixels = torch.from_numpy(photo)
    run.start(pixels[None])
    for step in range(40):
        batch = torch.stack([pixels[64 * i :, 64 * step % 448 :][:64, :64] for i in range(8)])
        run.advance(batch, batch)
    path = tmp_path_factory.mktemp("weights") / "fine.safetensors"
    weights.write(path, export.freeze(run.network), asdict(SMALL), "psnr")
    return path


@pytest.fixture(scope="session")
def fine(fine_weights: Path) -> Codec:
    return Codec(device="cpu", weights=fine_weights)


@pytest.fixture(scope="session")
def photo() -> Plane:
    """A photograph, ``[512, 512, 3]``."""
    return np.asarray(data.astronaut())


@pytest.fixture(scope="session")
def small(photo: Plane) -> Plane:
    """A crop of it whose sides are no multiples of anything, ``[70, 90, 3]``."""
    return np.ascontiguousarray(photo[30:100, 180:270])


@pytest.fixture(scope="session")
def small_image(small: Plane) -> Image.Image:
    return Image.fromarray(small)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> int:
    """Runs a test with one and with two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    request.addfinalizer(lambda: torch.set_num_threads(before))
    return int(request.param)


@pytest.fixture
def heeded() -> Iterator[None]:
    """Signals that are ignored here, as under nohup, are not in what a test starts."""
    ignored = [number for number in SIGNALS if signal.getsignal(number) == signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


def needs(name: str) -> None:
    """Skip a test where Pillow cannot write a format: AVIF came with version 11.3, in builds that have its library."""
    Image.init()
    if name not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {name}")


def psnr(a: Plane, b: Plane) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, photo: Plane) -> Path:
    path = tmp_path_factory.mktemp("photos")
    for i in range(4):
        Image.fromarray(photo[i * 60 : i * 60 + 256, i * 50 : i * 50 + 256]).save(path / f"crop_{i}.png")
    (path / "broken.png").write_bytes(b"not a picture")
    Image.fromarray(photo[:20, :20]).save(path / "tiny.png")
    return path


@pytest.fixture(scope="session")
def others(tmp_path_factory: pytest.TempPathFactory, photo: Plane) -> Path:
    path = tmp_path_factory.mktemp("others")
    Image.fromarray(photo[300:, 300:]).save(path / "other.png")
    return path


@pytest.fixture
def one_photo(tmp_path: Path, photo: Plane) -> Path:
    path = tmp_path / "images"
    path.mkdir()
    Image.fromarray(photo[:200, :240]).save(path / "photo.png")
    return path


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """The URL of a place in the bucket of an S3 server in this process, with room for its name."""
    moto, boto3 = pytest.importorskip("moto.server"), pytest.importorskip("boto3")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {"aws_access_key_id": "a-key", "aws_secret_access_key": SECRET, "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=f"http://{host}:{port}", **options).create_bucket(Bucket="bucket")
    yield f"s3://a-key:{SECRET}@bucket/{{}}?endpoint_override={host}:{port}&scheme=http&region=us-east-1"
    server.stop()
