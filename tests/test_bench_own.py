"""What the bench measures of this codec alone: efforts, exactness, speed, networks."""

import re
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aecodec import Codec
from aecodec.image import Plane
from aecodec.model import former, weights
from aecodec.model.structure import Design
from aecodec.training.export import freeze
from aecodec.training.network import Network
from bench import codecs, everyday, exactness, speed
from bench.macs import count

from .test_bench import run


def test_what_efforts_gain(one_photo: Path) -> None:
    result = run("effort", "--data", one_photo, "--level", 2, "--level", 1, "--side", 96)
    assert result.exit_code == 0, result.output
    gains = re.findall(r"effort (.): BD-rate (\S+) %, .* dearer than effort (.): 0 of 5", result.output)
    assert [(level, before) for level, _, before in gains] == [("1", "0"), ("2", "1")]
    assert all(-4 < float(gain) < -0.3 for _, gain, _ in gains)


@pytest.mark.slow
def test_other_ways_of_decoding(one_photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = [way for way in exactness.WAYS if way.name in ("1 thread", "no vectors beyond SSE")]
    monkeypatch.setattr(exactness, "ways", lambda: few)
    kept = tmp_path / "kept.npz"
    result = run("exactness", "--data", one_photo, "--keep", kept)
    found = re.findall(r"^(.+?)  +latents differ in 0 files; pixels by at most [01] of 255", result.output, re.M)
    assert found == [way.name for way in exactness.ways()[1:]], result.output
    files, decoded = exactness.recall(kept)
    (_, first), *rest = decoded
    exactness.keep(kept, files, [("another", first + (first < 255)), *rest])
    result = run("exactness", "--against", kept)
    found = re.findall(r"latents differ in 1 files; pixels by at most [12] of 255, (\S+) samples", result.output)
    assert len(found) == len(exactness.ways())
    assert all(float(share) > 300_000 for share in found)


def test_tasks_take_turns() -> None:
    order: list[str] = []
    found = speed.interleaved({name: partial(order.append, name) for name in "ab"}, 2)
    assert order == list("ababab")
    assert found.keys() == {"a", "b"}


@pytest.mark.slow
def test_speed_of_every_codec_at_the_same_rate(one_photo: Path) -> None:
    found = speed._codec_speed(one_photo / "photo.png", 1, 1)
    assert found.keys() == codecs.ALWAYS & codecs.roster()[0].keys()
    for row in found.values():
        assert 0.6 < row["bpp"] <= speed.BPP
        assert row["encode"] > 0
        assert row["decode"] > 0


def test_new_processes(one_photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are made and decoded by our command line and by Pillow."""
    monkeypatch.setattr(speed, "_starts", dict)
    monkeypatch.setattr(speed, "COLD", (codecs.JPEG_XL,))
    monkeypatch.setattr(speed, "why_not_without_torch", lambda: "not possible")
    found = speed.start_up(one_photo / "photo.png", 1)
    names = [name for name in (codecs.OURS, *speed.COLD) if name in codecs.roster()[0]]
    assert list(found) == [f"{name}: {way}" for name in names for way in ("encode", "decode")]


def test_without_torch(one_photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends in an error there is named by it; what would be run is tried with torch."""
    monkeypatch.setattr(speed, "_PROGRAM", "import torch")
    assert "torch" in speed.why_not_without_torch.__wrapped__()
    assert speed.why_not_without_torch.__wrapped__().startswith("not possible: ModuleNotFoundError")
    row = speed._warm("", one_photo / "photo.png", 40, 1, 1)
    assert row["bpp"] == 8 * len(Codec().compress(Image.open(one_photo / "photo.png"), 40)) / (200 * 240)
    assert row["encode"] > 0 < row["decode"]


def test_busy_processes_end() -> None:
    with speed.busy(2) as processes:
        assert [process.poll() for process in processes] == [None, None]
    assert None not in [process.poll() for process in processes]


@pytest.mark.slow
def test_everyday_use(one_photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SMALL", 64), ("COLUMNS", 4), ("ROWS", 2), ("LARGE", (200, 120)), ("ROUNDS", 1)):
        monkeypatch.setattr(everyday, name, value)
    monkeypatch.setattr(everyday, "REGION", (60, 60, 64, 40))
    result = run("everyday", "--data", one_photo)
    assert result.exit_code == 0, result.output
    assert len(re.findall(r"^(\S.*\S) +\S+ ms  1/\S+ of the whole$", result.output, re.M)) == 7
    found = re.findall(r"^(\w+) --jobs 2: 8 files \S+ s, their pixels in 4 \S+ s", result.output, re.M)
    assert found == ["compress", "decompress"]


def test_what_the_coder_adds(one_photo: Path) -> None:
    result = run("overhead", "--data", one_photo)
    ratios = [float(ratio) for ratio in re.findall(r"bpp on disk, (\S+) times the estimate", result.output)]
    assert len(ratios) == 5
    assert ratios == sorted(ratios, reverse=True), "the header and the checksums have the same size in all files"
    assert 1 < ratios[-1] < 1.02


@pytest.mark.slow
def test_memory_is_that_of_the_command_alone(photo: Plane) -> None:
    ballast = np.ones(1 << 30, np.uint8)  # of which nothing may be counted
    found = speed.peak_memory(1, Image.fromarray(photo))
    assert found.keys() == {"compress", "decompress"}
    for row in found.values():
        assert 0.1 < row["gibibytes"] < 1
    assert ballast[-1] == 1


def test_the_decoder_keeps_its_budget(codec: Codec) -> None:
    parts = count(codec, 50)
    assert parts["synthesis"] + parts["prior"] <= 10
    d = codec.model.design
    assert isinstance(d, former.Design)
    n, c = d.latents, d.features
    # by hand: at 1/16 a block of width N and N -> 4C, at 1/8 the blocks and C -> 192
    synthesis = (9 * n + 2 * n * n + n * 4 * c) / 256 + (d.synthesis_blocks * (9 * c + 4 * c * c) + c * 192) / 64
    assert parts["synthesis"] == pytest.approx(synthesis / 1000)


def test_fine_latents_have_a_budget_of_their_own(tmp_path: Path) -> None:
    """The design that is trained: 10 kMAC per pixel without fine latents, 12 with them."""
    path = tmp_path / "untrained.safetensors"
    weights.write(path, freeze(Network(Design())), asdict(Design()), "eye")
    codec = Codec("cpu", path)
    without, with_fine = (count(codec, quality) for quality in (0, 100))
    assert without["synthesis"] + without["prior"] <= 10
    assert with_fine["synthesis"] + with_fine["prior"] <= 12
    assert with_fine["synthesis"] - without["synthesis"] == pytest.approx(448 * 768 / 256 / 1000)
    assert without["analysis"] == with_fine["analysis"]
