"""The encoder's search: smaller cost, the same format."""

import math
import subprocess
import sys
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from aecodec import Codec, TargetMissed, compression, container, refine
from aecodec.arguments import MOST_EFFORT
from aecodec.geometry import Box, Tiling
from aecodec.image import Plane
from aecodec.model import weights
from aecodec.objective import OBJECTIVES, distortion
from aecodec.refine import Search, _choose, _soft_round

from .conftest import INTERRUPTS, SMALL, psnr

SAME = 1.001  # times a cost: no more than how processors differ


def cost(codec: Codec, data: bytes, picture: Plane, quality: int) -> float:
    """Bits of the whole file and λ times the squared error of its pixels."""
    error = codec.decompress(data, "numpy").astype(float) - picture
    weight = float(codec.model.lagrangian[quality])
    return float(8 * len(data) + weight * (error**2).sum() / picture.shape[2])


@pytest.mark.slow
def test_more_effort_costs_less(codec: Codec, photo: Plane) -> None:
    """Of one picture, what an effort gains over the one below may be nothing: it depends on how a processor rounds."""
    picture = photo[40:168, 180:308]
    costs = np.array(
        [
            [cost(codec, codec.compress(picture, quality, effort=e), picture, quality) for e in range(6)]
            for quality in (20, 70)
        ]
    )
    assert (costs[:, 1:] < SAME * costs[:, :-1]).all()
    assert (costs[:, 1] < 0.995 * costs[:, 0]).all()
    assert (costs[:, 3] < 0.99 * costs[:, 0]).all()
    assert (costs[:, 5] / costs[:, 3]).mean() < 0.999


def test_the_search_is_reproducible(codec: Codec, small: Plane) -> None:
    assert codec.compress(small, 40, effort=4) == codec.compress(small, 40, effort=4)


def test_progress(codec: Codec, photo: Plane) -> None:
    shares: list[float] = []
    codec.compress(photo[:40, :560], 40, roi=np.zeros((40, 512), int), effort=2, progress=shares.append)
    np.testing.assert_allclose(shares, np.arange(1, 17) / 16, err_msg="four steps for each of four tiles")
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


@pytest.mark.slow
@INTERRUPTS
@pytest.mark.usefixtures("heeded")
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
from aecodec import refine
from aecodec.cli import app
step = refine._choose
refine._choose = lambda *args, **kwargs: (os.kill(os.getpid(), signal.SIGINT), step(*args, **kwargs))[1]
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


@pytest.mark.slow
def test_tiles_of_several_qualities(codec: Codec, photo: Plane) -> None:
    """Neighbours are part of what is searched for: no tile pays for what another one gains."""
    picture, roi = photo[:128, :370], np.zeros((128, 370), int)
    roi[:, 128:256] = 40
    weight = codec.model.lagrangian[20 + roi[..., None]]
    costs = []
    for effort in range(5):
        data = codec.compress(picture, 20, roi=roi, effort=effort)
        assert [tile.quality for tile in container.read(data).tiles] == [20, 60, 20]
        error = codec.decompress(data, "numpy").astype(float) - picture
        costs.append(8 * len(data) + (weight * error**2).sum() / 3)
    assert all(after < SAME * before for before, after in pairwise(costs))
    assert costs[2] < 0.99 * costs[0]
    assert costs[4] < 0.999 * costs[2]


def test_the_error_of_a_tile_counts_what_it_changes_around_it(codec: Codec, photo: Plane) -> None:
    search = Search(codec.model, photo[:384, :384], Tiling(384, 384, 128, (20, 30, 40, 50, 60, 70, 80, 90, 100)))
    tile, plane = search.tiles[4], search.plane
    whole = replace(tile, box=Box(0, 0, *plane.shape[:2]))
    changed = tile.latents + 0.5
    other = plane.clone()
    other[tile.box.rows, tile.box.columns] = changed
    with torch.no_grad():
        alone = [float(search._error(tile, latents, as_bytes=True)) for latents in (tile.latents, changed)]
        together = [float(search._error(whole, latents, as_bytes=True)) for latents in (plane, other)]
    assert alone[1] - alone[0] == pytest.approx(together[1] - together[0], rel=1e-4)


@pytest.mark.parametrize("temperature", [0.1, 0.3])
def test_relaxed_rounding(temperature: float) -> None:
    x = torch.linspace(-2, 2, 401)
    soft = _soft_round(x, temperature)
    assert (soft.diff() >= 0).all()
    torch.testing.assert_close(soft[50::100], x[50::100], msg="half-way")
    torch.testing.assert_close(soft[::100], x[::100], atol=1e-2, rtol=0, msg="at integers")
    # how soft the relaxation is says nothing of which integer is chosen
    chosen = _choose(torch.full((100_000,), -0.6), temperature, torch.Generator().manual_seed(1))
    assert ((chosen >= -1) & (chosen <= 0)).all()
    odds = (math.atanh(0.6) - math.atanh(0.4)) / temperature
    assert (chosen > -0.5).float().mean() == pytest.approx(1 / (1 + math.exp(odds)), abs=0.01)


@pytest.mark.parametrize("effort", [-1, 10])
def test_effort_out_of_range(codec: Codec, small: Plane, effort: int) -> None:
    assert refine.MOST == MOST_EFFORT, "which is known without torch, too"
    with pytest.raises(ValueError, match="effort"):
        codec.compress(small, effort=effort)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ValueError, match="effort"):
        patch.delattr(compression, "_tiles")  # before any work is done
        codec.compress_to(small, bpp=1, effort=effort)


FIRST = """
import torch
with torch.inference_mode():
    import aecodec, numpy
    data = aecodec.compress(numpy.full((20, 30, 3), 90, numpy.uint8), effort=1)
    print(len(data) == len(aecodec.compress(numpy.full((20, 30, 3), 90, numpy.uint8), effort=1)))
"""


def test_a_first_use_within_a_mode_without_gradients() -> None:
    """What is made on import may not bear the mode's mark."""
    assert subprocess.run([sys.executable, "-c", FIRST], capture_output=True, check=True).stdout.split() == [b"True"]


def test_the_search_within_a_mode_without_gradients(codec: Codec, small: Plane) -> None:
    expected = codec.compress(small, 40, effort=1)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert codec.compress(small, 40, effort=1) == expected


@pytest.fixture(scope="module")
def eye(fine_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Codec:
    """The same networks as `fine`, as if they were trained for the eye."""
    path = tmp_path_factory.mktemp("eye") / "eye.safetensors"
    weights.write(path, load_file(fine_weights), asdict(SMALL), "eye")
    return Codec(device="cpu", weights=path)


@pytest.mark.parametrize("side", [60, 150])
def test_effort_minimises_what_the_weights_were_trained_for(eye: Codec, photo: Plane, side: int) -> None:
    picture, worth = photo[60 : 60 + side, 180 : 180 + side], OBJECTIVES["eye"]

    def cost(data: bytes, quality: int) -> float:
        planes = (torch.from_numpy(p.copy())[None] / 255 for p in (picture, eye.decompress(data, "numpy")))
        error = float(distortion(worth, *planes)) * picture[..., 0].size
        return 8 * len(data) + float(eye.model.lagrangian[quality]) * error

    gained = []
    for quality in (20, 60, 90):
        costs = [cost(eye.compress(picture, quality, effort=effort), quality) for effort in (0, 1, 3)]
        assert costs == sorted(costs, reverse=True)
        gained.append(costs[2] < costs[0])
    assert sum(gained) >= 2, "at the best quality of networks that have learnt little there may be nothing to find"
