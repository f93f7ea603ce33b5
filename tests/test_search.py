"""The encoder's search: smaller cost, the same format."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aecodec import Codec, TargetMissed, container
from aecodec.image import Plane
from aecodec.rate import LAMBDA_MAX, LAMBDA_MIN
from aecodec.search import Search

from .conftest import psnr


def cost(codec: Codec, data: bytes, picture: Plane, quality: int) -> float:
    """Bits of the whole file and λ times the squared error of its pixels."""
    error = codec.decompress(data, "numpy").astype(float) - picture
    weight = LAMBDA_MIN * (LAMBDA_MAX / LAMBDA_MIN) ** (quality / 100)
    return float(8 * len(data) + weight * (error**2).sum() / picture.shape[2])


@pytest.mark.parametrize("quality", [20, 70])
def test_more_effort_costs_less(codec: Codec, photo: Plane, quality: int) -> None:
    picture = photo[40:168, 180:308]
    costs = [cost(codec, codec.compress(picture, quality, effort=e), picture, quality) for e in (0, 1, 2, 3, 4, 5)]
    assert costs == sorted(costs, reverse=True)
    assert costs[2] < 0.99 * costs[0]
    assert costs[5] < 0.999 * costs[2]


def test_the_search_is_reproducible(codec: Codec, small: Plane) -> None:
    assert codec.compress(small, 40, effort=4) == codec.compress(small, 40, effort=4)


def test_progress(codec: Codec, photo: Plane) -> None:
    shares: list[float] = []
    codec.compress(photo[:40, :560], 40, np.zeros((40, 512), int), effort=2, progress=shares.append)
    np.testing.assert_allclose(shares, np.arange(1, 13) / 12, err_msg="three steps for each of four tiles")
    shares.clear()
    codec.compress(photo[:40, :40], 40, progress=shares.append)
    assert not shares, "nothing is searched for"


def test_targets_with_effort(codec: Codec, small: Plane) -> None:
    searches = 0

    def count(share: float) -> None:
        nonlocal searches
        searches += share == 1

    limit = len(codec.compress(small, 40)) + 8
    data = codec.compress_to(small, size=limit, effort=3, progress=count)
    assert len(data) <= limit
    assert container.read(data).header.quality >= 40
    assert searches <= 3
    data = codec.compress_to(small, psnr=33, effort=1)
    assert psnr(codec.decompress(data, "numpy"), small) >= 33
    with pytest.raises(TargetMissed) as missed:
        codec.compress_to(small, psnr=90, effort=1)
    assert container.read(missed.value.nearest).header.quality == 100


def test_an_interruption_leaves_no_file(small_image: Image.Image, tmp_path: Path) -> None:
    """A signal in the midst of a search that would take minutes."""
    small_image.save(tmp_path / "photo.png")
    program = (sys.executable, "-c", INTERRUPTED, str(tmp_path / "photo.png"))
    done = subprocess.run(program, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode not in (0, 1, 2), done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


INTERRUPTED = """
import os, signal, sys
from aecodec import search
from aecodec.cli import app
step = search._choose
search._choose = lambda *args, **kwargs: (os.kill(os.getpid(), signal.SIGINT), step(*args, **kwargs))[1]
app(["compress", sys.argv[1], "--effort", "9"])
"""


@pytest.mark.parametrize("shape", [(1, 1, 3), (17, 33, 1), (50, 70, 4)])
def test_sizes_and_modes(codec: Codec, photo: Plane, shape: tuple[int, int, int]) -> None:
    height, width, channels = shape
    picture = np.concatenate((photo, photo[..., :1]), 2)[:height, :width, :channels]
    data = codec.compress(picture, 60, effort=1)
    decoded = codec.decompress(data, "numpy")
    assert decoded.shape == shape
    if channels == 4:
        np.testing.assert_array_equal(decoded[..., 3], picture[..., 3])
    assert psnr(decoded, picture) > 25


def test_tiles_of_several_qualities(codec: Codec, photo: Plane) -> None:
    """Neighbours are part of what is searched for: no tile pays for what another one gains."""
    picture, roi = photo[:128, :240], np.zeros((128, 240), int)
    roi[:, 128:] = 30
    search = Search(codec.model, picture, [30, 60], 128)
    before = sum(search._cost(tile, tile.parts, tile.latents) for tile in search.tiles)
    for _ in search.improve(20):
        pass
    assert sum(search._cost(tile, tile.parts, tile.latents) for tile in search.tiles) < before
    data = codec.compress(picture, 30, roi, effort=1)
    assert [tile.quality for tile in container.read(data).tiles] == [30, 60]
    assert psnr(codec.decompress(data, "numpy"), picture) > 28


@pytest.mark.parametrize("effort", [-1, 10])
def test_effort_out_of_range(codec: Codec, small: Plane, effort: int) -> None:
    with pytest.raises(ValueError, match="effort"):
        codec.compress(small, effort=effort)


def test_the_search_within_a_mode_without_gradients(codec: Codec, small: Plane) -> None:
    expected = codec.compress(small, 40, effort=1)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert codec.compress(small, 40, effort=1) == expected
