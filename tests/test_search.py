"""The encoder's search: smaller cost, the same format."""

import numpy as np
import pytest
import torch

from aecodec import Codec, container
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
    picture = photo[40:136, 180:292]
    costs = [cost(codec, codec.compress(picture, quality, effort=e), picture, quality) for e in (0, 3, 4)]
    assert costs[1] < 0.998 * costs[0]
    assert costs[2] <= costs[1] + 64, "no more, but for the whole words of the coder"


def test_the_search_is_reproducible(codec: Codec, small: Plane) -> None:
    assert codec.compress(small, 40, effort=2) == codec.compress(small, 40, effort=2)


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
    search.improve(20)
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
