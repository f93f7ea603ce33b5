"""The trainer: it learns, resumes where it stopped, and exports what it learnt."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file
from torch import Tensor

from aecodec import Codec, registry
from aecodec.image import Plane
from aecodec.layers import shuffle, unshuffle
from aecodec.training import card, loop
from aecodec.training.data import Patches, drawing, find_images
from aecodec.training.export import freeze, gaussian, integer_frequencies, load_network, thaw
from aecodec.training.network import Network, gaussian_bits
from aecodec.training.soap import BASIS_STEPS, Soap
from aecodec.transforms import Analysis, Design, Synthesis, initialise_with_pca

from .conftest import psnr

SMALL = Design(features=32, latents=32, hyper=16, hyper_latents=8, context=16, analysis_blocks=1, synthesis_blocks=1)
RECIPE = loop.Recipe(hours=1.0, batch=4, patch=64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, photo: Plane) -> Path:
    path = tmp_path_factory.mktemp("photos")
    for i in range(4):
        Image.fromarray(photo[i * 60 : i * 60 + 256, i * 50 : i * 50 + 256]).save(path / f"crop_{i}.png")
    (path / "broken.png").write_bytes(b"not a picture")
    Image.fromarray(photo[:20, :20]).save(path / "tiny.png")
    return path


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory, photo: Plane) -> Path:
    path = tmp_path_factory.mktemp("others")
    Image.fromarray(photo[300:, 300:]).save(path / "other.png")
    return path


def start(folder: Path) -> tuple[loop.Run, Patches]:
    torch.manual_seed(0)
    patches = Patches(find_images([folder], 128)[0], RECIPE.batch, RECIPE.patch, 0)
    run = loop.Run(Network(SMALL), RECIPE)
    run.start(patches[0])
    return run, patches


def test_unusable_images_are_counted(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    files, skipped = find_images([folder], 128)
    (folder / "pipe.png").unlink()
    assert (len(files), skipped) == (4, 3)


def test_patches_depend_on_seed_and_step_alone(folder: Path) -> None:
    files = find_images([folder], 128)[0]
    a, b = Patches(files, 4, 64, 0), Patches(files, 4, 64, 0)
    b[0]
    assert torch.equal(a[5], b[5])
    assert not torch.equal(a[5], a[6])
    assert a[5].shape == (4, 64, 64, 3)


def test_drawings_are_drawn_from_the_seed() -> None:
    drawings = [drawing(64, np.random.default_rng(seed)) for seed in range(30)]
    assert {d.shape for d in drawings} == {(64, 64, 3)}
    assert {d.dtype for d in drawings} == {np.dtype(np.uint8)}
    assert np.array_equal(drawings[3], drawing(64, np.random.default_rng(3)))
    levels = [len(np.unique(d.reshape(-1, 3), axis=0)) for d in drawings]
    assert min(levels) <= 8, "none is flat"
    assert max(levels) > 200, "none is graded"


def test_loss_falls(folder: Path) -> None:
    run, patches = start(folder)

    def loss() -> float:
        torch.manual_seed(1)
        pixels, t = patches[1000].float() / 255, torch.linspace(0.1, 0.5, RECIPE.batch)
        with torch.no_grad():
            reconstruction, y_bits, z_bits = run.network(pixels, t)
            return float(loop.objective(pixels, reconstruction, y_bits + z_bits, t)[0])

    before = loss()
    for step in range(40):
        run.advance(patches[step])
    assert loss() < 0.9 * before


def test_resuming_goes_on_exactly(folder: Path, tmp_path: Path) -> None:
    run, patches = start(folder)
    for step in range(12):
        run.advance(patches[step])
    run.save(tmp_path / "checkpoint.pt")
    expected = [run.advance(patches[step]) for step in range(12, 15)]
    again = loop.Run(Network(SMALL), RECIPE)
    again.load(tmp_path / "checkpoint.pt")
    assert again.step == 12
    for step, values in zip(range(12, 15), expected, strict=True):
        torch.testing.assert_close(again.advance(patches[step]), values, rtol=1e-5, atol=1e-6)


def test_training_goes_on_from_weights(codec: Codec, photo: Plane) -> None:
    """The network of a weights file gives what the file's codec gives, up to rounding."""
    network = thaw(registry.find(codec.model.id)).eval()
    pixels = torch.from_numpy(photo)[None] / 255
    with torch.no_grad():
        reconstruction, y_bits, z_bits = network(pixels, torch.tensor([0.5]))
    data = codec.compress(photo, 50)
    assert float(y_bits + z_bits) == pytest.approx(8 * len(data), rel=0.02)
    plane = (reconstruction[0] * 255).round().clamp(0, 255).byte().numpy()
    assert psnr(plane, photo) == pytest.approx(psnr(codec.decompress(data, "numpy"), photo), abs=0.1)
    again = freeze(network)
    weights = load_file(registry.find(codec.model.id))
    for name in ("prior.context0_mix.weight", "synthesis.leave.weight"):
        assert np.array_equal(again[name], weights[name])


def test_the_command_goes_on_from_installed_weights(folder: Path, tmp_path: Path, codec: Codec) -> None:
    recipe = loop.Recipe(hours=0.5 / 3600, batch=1, patch=64)
    loop.train([folder], tmp_path / "run", recipe, None, resume=False, init="base")
    network, state = load_network(tmp_path / "run" / "checkpoint.pt")
    assert state["origin"] == codec.model.id.hex()
    before = thaw(registry.find(codec.model.id)).state_dict()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=0.05, rtol=0.05)
    with pytest.raises(OSError, match="missing"):
        loop.train([folder], tmp_path / "other", recipe, None, resume=False, init="missing")


def test_weights_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")
    with pytest.raises(ValueError, match="not a weights file"):
        thaw(tmp_path / "bad.safetensors")


def test_soap_solves_a_rotated_problem_that_adam_does_not() -> None:
    """Its basis finds the axes of an ill-conditioned quadratic, whatever their direction."""

    def loss_after(make: Callable[[list[Tensor]], torch.optim.Optimizer]) -> float:
        generator = torch.Generator().manual_seed(0)
        axes = [torch.linalg.qr(torch.randn(2, n, n, generator=generator))[0] for n in (12, 8)]
        scale = torch.logspace(0, -3, 12)[:, None] * torch.logspace(0, -3, 8)
        weights = [torch.zeros(12, 8, requires_grad=True) for _ in range(2)]
        targets = torch.randn(2, 12, 8, generator=generator)
        optimiser = make(weights)
        for step in range(400):
            optimiser.param_groups[0]["lr"] = 0.1 * (1 - step / 400)
            rotated = axes[0].mT @ (torch.stack(weights) - axes[0] @ targets @ axes[1].mT) @ axes[1]
            loss = (scale * rotated**2).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return float(loss.detach())

    soap = loss_after(lambda weights: Soap(weights, 0.1, (0.9, 0.9), reduced=False))
    adam = loss_after(lambda weights: torch.optim.Adam(weights, 0.1, (0.9, 0.9)))
    assert soap < 0.1 * adam


def test_the_bases_of_soap_stay_orthonormal(folder: Path) -> None:
    run, patches = start(folder)
    for step in range(BASIS_STEPS + 2):
        run.advance(patches[step])
    soap = run.optimisers[0]
    for state in soap.state.values():
        for name in ("rows", "columns"):
            basis = state[name]
            torch.testing.assert_close(basis.mT @ basis, torch.eye(basis.shape[-1]).expand_as(basis), atol=1e-4, rtol=0)


def test_a_checkpoint_of_another_design(folder: Path, tmp_path: Path) -> None:
    start(folder)[0].save(tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match="another design"):
        loop.Run(Network(Design()), RECIPE).load(tmp_path / "checkpoint.pt")


def test_the_whole_way_to_weights(folder: Path, others: Path, tmp_path: Path, photo: Plane) -> None:
    """Train for a moment, export, compress with the new weights."""
    run, patches = start(folder)
    for step in range(20):
        run.advance(patches[step])
    run.save(tmp_path / "checkpoint.pt")
    out = tmp_path / "mine.safetensors"
    card.export_with_card(tmp_path / "checkpoint.pt", out, [folder], others)
    codec = Codec(device="cpu", weights=out)
    assert psnr(codec.decompress(codec.compress(photo, 50), "numpy"), photo) > 20
    text = out.with_suffix(".md").read_text()
    assert codec.model.id.hex() in text
    assert "20 steps" in text
    assert codec.model.id != Codec(device="cpu").model.id
    assert codec.model.prior.bound() < 2**53


def test_training_command_leaves_checkpoint_and_log(
    folder: Path, others: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "Design", lambda: SMALL)
    monkeypatch.setattr(loop, "LOG_STEPS", 1)
    recipe = loop.Recipe(hours=1 / 3600, batch=4, patch=64)
    loop.train([folder], tmp_path / "run", recipe, others, resume=False)
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert any('"loss"' in line for line in lines)
    assert any('"disk_over_estimate"' in line for line in lines)
    longer = loop.Recipe(hours=2 / 3600, batch=4, patch=64)
    loop.train([folder], tmp_path / "run", longer, None, resume=True)
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) > len(lines)


def test_a_picture_that_breaks_off_is_passed_over(tmp_path: Path, photo: Plane) -> None:
    for i in range(3):
        Image.fromarray(photo[: 150 + i, :150]).save(tmp_path / f"a{i}.png")
    data = (tmp_path / "a0.png").read_bytes()
    (tmp_path / "a0.png").write_bytes(data[: len(data) // 2])
    files, skipped = find_images([tmp_path], 128)
    assert (len(files), skipped) == (3, 0)  # its header is whole
    assert Patches(files, 8, 64, 0)[0].shape == (8, 64, 64, 3)


def test_steps_without_a_finite_gradient_change_nothing(folder: Path) -> None:
    run, patches = start(folder)
    before = {k: v.clone() for k, v in run.network.state_dict().items() if "synthesis" in k}
    run.network.analysis.enter.bias.data[0] = torch.nan
    run.advance(patches[0])
    assert run.wasted == 1
    for name, value in before.items():
        assert torch.equal(run.network.state_dict()[name], value)
    with pytest.raises(ArithmeticError):
        for _ in range(loop.MOST_WASTED):
            run.advance(patches[0])


def test_validation_images_must_be_others(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="both"):
        loop.train([folder], tmp_path / "run", RECIPE, folder, resume=False)


def test_nothing_to_learn_from(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no image"):
        loop.train([tmp_path], tmp_path / "run", RECIPE, None, resume=False)


def test_nothing_to_resume(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no checkpoint"):
        loop.train([folder], tmp_path / "run", RECIPE, None, resume=True)


def test_model_card_belongs_to_the_weights(codec: Codec) -> None:
    text = (registry.find(codec.model.id).with_suffix(".md")).read_text()
    assert f"`{codec.model.id.hex()}`" in text


def test_shuffle_inverts_unshuffle() -> None:
    x = torch.rand(2, 8, 12, 3)
    assert torch.equal(shuffle(unshuffle(x, 4), 4), x)
    assert unshuffle(x, 2)[0, 0, 0].tolist() == torch.cat((x[0, 0, 0], x[0, 0, 1], x[0, 1, 0], x[0, 1, 1])).tolist()


def test_pca_initialises_an_inverse(photo: Plane) -> None:
    """With as many latents as pixels' samples, synthesis undoes analysis before any training."""
    d = Design(features=192, latents=768, analysis_blocks=1, synthesis_blocks=1)
    analysis, synthesis = Analysis(d), Synthesis(d)
    blocks = torch.from_numpy(photo.reshape(32, 16, 32, 16, 3).swapaxes(1, 2).reshape(-1, 16, 16, 3).copy()) / 255
    initialise_with_pca(analysis, synthesis, blocks, 2.0)
    with torch.no_grad():
        one = torch.ones(())
        torch.testing.assert_close(synthesis(analysis(blocks, one), one), blocks, atol=1e-3, rtol=0)


def test_gaussian_bits_sum_to_one() -> None:
    x = torch.arange(-60.0, 61.0)
    for log2_scale in (-3.0, 0.0, 3.0):
        assert float(torch.exp2(-gaussian_bits(x, torch.tensor(log2_scale))).sum()) == pytest.approx(1, abs=1e-3)


def test_frequencies_are_near_the_masses() -> None:
    masses = gaussian(3.0, 12)
    frequencies = integer_frequencies(masses)
    assert frequencies.sum() == 65536
    assert frequencies.min() >= 1
    np.testing.assert_allclose(frequencies / 65536, masses, atol=2e-4)
