"""What the bench computes, where the right answer is known."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aecodec import Codec
from bench.codecs import JPEG, ours, psnr
from bench.macs import count
from bench.rd import bd_rate, measure

CURVE = np.array([[0.2, 28.0], [0.4, 31.0], [0.8, 34.0], [1.6, 37.0]])


def test_bd_rate_of_a_shifted_curve() -> None:
    """A codec that needs 30 % less everywhere has a BD-rate of -30 %."""
    assert bd_rate(CURVE, CURVE * (0.7, 1)) == pytest.approx(-30)
    assert bd_rate(CURVE, CURVE) == pytest.approx(0)
    assert bd_rate(CURVE * (0.7, 1), CURVE) == pytest.approx(100 * (1 / 0.7 - 1))


def test_bd_rate_needs_an_overlap() -> None:
    with pytest.raises(ValueError, match="overlap"):
        bd_rate(CURVE, CURVE + np.array([0, 6]))


def test_psnr_of_a_known_error() -> None:
    a, b = Image.new("RGB", (8, 8), (10, 20, 30)), Image.new("RGB", (8, 8), (11, 21, 31))
    assert psnr(a, b) == pytest.approx(48.1308, abs=1e-4)


def test_better_than_jpeg(codec: Codec, small_image: Image.Image) -> None:
    curves = measure([small_image.resize((180, 140))], [JPEG, ours(codec)])
    assert bd_rate(curves[JPEG.name][0], curves["aecodec"][0]) < -10


def test_committed_figures_are_those_of_the_committed_weights(codec: Codec) -> None:
    results = json.loads((Path(__file__).parent.parent / "docs" / "kodak" / "rd.json").read_text())
    assert results["model"] == codec.model.id.hex()


def test_the_decoder_keeps_its_budget(codec: Codec) -> None:
    parts = count(codec)
    assert parts["synthesis"][0] + parts["prior"][0] <= 10
    # by hand, of the synthesis: N -> 4C at 1/16 and C -> 192 at 1/8 are two of its layers
    d = codec.model.design
    least = (d.latents * 4 * d.features / 256 + d.features * 192 / 64) / 1000
    assert parts["synthesis"][0] > least
