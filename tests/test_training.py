"""The trainer: its data, objectives, optimiser and networks, and the way to weights."""

import os
import shutil
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
from aecodec.model import structure
from aecodec.model.numpy_ops import NumpyOperations
from aecodec.model.rate import gaussian_bits
from aecodec.model.structure import Design, shuffle, unshuffle
from aecodec.model.torch_ops import TorchOperations
from aecodec.objective import OBJECTIVES, distortion
from aecodec.training import card
from aecodec.training.data import Patches, drawing, find_images, recoloured
from aecodec.training.export import ENTRIES, freeze, gaussian, integer_frequencies, read_checkpoint, thaw
from aecodec.training.klt import initialise
from aecodec.training.loss import FLOOR, loss
from aecodec.training.measure import measure
from aecodec.training.network import Network
from aecodec.training.run import Recipe, Run
from aecodec.training.soap import BASIS_STEPS, Soap

from .conftest import PIPES, SMALL, psnr

RECIPE = Recipe(hours=1.0, batch=4, patch=64, objective="psnr")


def start(folder: Path) -> tuple[Run, Patches]:
    torch.manual_seed(0)
    patches = Patches(find_images([folder], 128)[0], RECIPE.batch, RECIPE.patch, 0)
    run = Run(Network(SMALL), RECIPE)
    run.start(patches[0][0])
    return run, patches


@PIPES
def test_unusable_images_are_counted(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    files, skipped = find_images([folder], 128)
    (folder / "pipe.png").unlink()
    assert (len(files), skipped) == (4, 3)


def test_patches_depend_on_seed_and_step_alone(folder: Path) -> None:
    files = find_images([folder], 128)[0]
    a, b = Patches(files, 4, 64, 0), Patches(files, 4, 64, 0)
    b[0]
    assert torch.equal(a[5][0], b[5][0])
    assert not torch.equal(a[5][0], a[6][0])
    assert a[5][0].shape == (4, 64, 64, 3)


def test_patches_with_noise_to_remove(folder: Path) -> None:
    files = find_images([folder], 128)[0]
    plain, patches = Patches(files, 8, 64, 0), Patches(files, 8, 64, 0, noise=40.0)
    noisy, clean = patches[3]
    assert torch.equal(clean, plain[3][1])
    assert torch.equal(*plain[3])
    deviations = (noisy.float() - clean.float()).std((1, 2, 3))
    assert 0 <= deviations.min() < deviations.max() <= 40.5
    assert deviations.max() > 15


def test_recoloured_patches_keep_their_gray_and_are_stronger() -> None:
    rng = np.random.default_rng(0)
    patch = rng.integers(100, 156, (16, 16, 3), np.uint8)
    found = recoloured(patch, rng)
    assert found.dtype == np.uint8
    assert np.abs(found.mean(2) - patch.mean(2)).max() < 1
    assert np.ptp(found, axis=2).mean() >= np.ptp(patch, axis=2).mean()
    assert not np.array_equal(found, recoloured(patch, rng))


def test_drawings_are_drawn_from_the_seed() -> None:
    drawings = [drawing(64, np.random.default_rng(seed)) for seed in range(30)]
    assert {d.shape for d in drawings} == {(64, 64, 3)}
    assert {d.dtype for d in drawings} == {np.dtype(np.uint8)}
    assert np.array_equal(drawings[3], drawing(64, np.random.default_rng(3)))
    levels = [len(np.unique(d.reshape(-1, 3), axis=0)) for d in drawings]
    assert min(levels) <= 8, "none is flat"
    assert max(levels) > 200, "none is graded"


@pytest.mark.slow
def test_loss_falls(folder: Path) -> None:
    run, patches = start(folder)

    def measured() -> float:
        torch.manual_seed(1)
        pixels, t = patches[1000][0].float() / 255, torch.linspace(0.1, 0.5, RECIPE.batch)
        with torch.no_grad():
            reconstruction, bits = run.network(pixels, t)
            return float(loss("psnr", pixels, reconstruction, bits, t)[0])

    before = measured()
    for step in range(40):
        run.advance(*patches[step])
    assert measured() < before - 0.1, "a tenth of the cost"


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives(name: str) -> None:
    """The loss of a perfect picture is its rate's logarithm; a worse one costs more, the more so at high quality."""
    torch.manual_seed(0)
    pixels = torch.rand(2, 128, 128, 3)
    worse = pixels + 0.05 * torch.randn_like(pixels)
    bits, t = torch.full((2,), 128.0 * 128), torch.tensor([0.5, 0.5])
    value, bpp = loss(name, pixels, pixels, bits, t)
    torch.testing.assert_close((value, bpp), (torch.tensor(1 + FLOOR).log(), torch.tensor(1.0)), rtol=0, atol=0.005)
    low, high = (float(loss(name, pixels, worse, bits, torch.full((2,), q))[0].exp()) - 1 - FLOOR for q in (0.2, 0.8))
    assert 0 < 3 * low < high
    gradient = torch.autograd.grad(loss(name, pixels, worse.requires_grad_(), bits, t)[0], worse)[0]
    assert gradient.isfinite().all()
    assert (gradient * (worse - pixels)).sum() > 0, "moving towards the original helps"


def test_all_distortions_are_in_units_of_the_squared_error() -> None:
    """Noise at which they weigh rate against distortion alike: the λ range serves all."""
    torch.manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(1, 3, 16, 16), 256, mode="bicubic").movedim(1, -1)
    noisy = smooth + 0.03 * torch.randn_like(smooth)
    for name in ("eye", "ms-ssim"):
        ratio = distortion(OBJECTIVES[name], smooth, noisy) / distortion(OBJECTIVES["psnr"], smooth, noisy)
        assert 0.1 < float(ratio) < 10


@pytest.mark.parametrize("quality", [50, 90])
def test_the_network_of_weights_is_what_the_codec_computes(
    fine: Codec, fine_weights: Path, photo: Plane, quality: int
) -> None:
    network = thaw(fine_weights).eval()
    pixels = torch.from_numpy(photo)[None] / 255
    with torch.no_grad():
        reconstruction, _ = network(pixels, torch.tensor([quality / 100]))
    decoded = fine.decompress(fine.compress(photo, quality), "numpy")
    plane = (reconstruction[0] * 255).round().clamp(0, 255).byte().numpy()
    assert psnr(plane, photo) == pytest.approx(psnr(decoded, photo), abs=0.1)


def test_weights_are_frozen_again_as_they_were(fine_weights: Path) -> None:
    """All tensors but the tables over symbols: to a unit in fixed point, and to what half precision holds."""
    again, weights = freeze(thaw(fine_weights)), load_file(fine_weights)
    assert again.keys() == weights.keys()
    for name, tensor in again.items():
        unit = 1 if tensor.dtype.kind in "iu" else 1e-3
        np.testing.assert_allclose(tensor.astype(float), weights[name].astype(float), rtol=1e-3, atol=unit)


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
        run.advance(*patches[step])
    soap = run.optimisers[0]
    for state in soap.state.values():
        for basis in (state[name] for name in ("rows", "columns") if name in state):
            torch.testing.assert_close(basis.mT @ basis, torch.eye(basis.shape[-1]).expand_as(basis), atol=1e-4, rtol=0)


@pytest.mark.slow
def test_the_whole_way_to_weights(folder: Path, others: Path, tmp_path: Path, photo: Plane) -> None:
    """Train for a moment, export, compress with the new weights."""
    run, patches = start(folder)
    for step in range(20):
        run.advance(*patches[step])
    run.save(tmp_path / "checkpoint.pt")
    assert read_checkpoint(tmp_path / "checkpoint.pt").keys() == ENTRIES
    out = tmp_path / "mine.safetensors"
    card.export_with_card(tmp_path / "checkpoint.pt", out, [folder], others)
    codec = Codec(device="cpu", weights=out)
    assert psnr(codec.decompress(codec.compress(photo, 50), "numpy"), photo) > 20
    broken = tmp_path / "broken"
    broken.mkdir()
    whole = (others / "other.png").read_bytes()
    (broken / "half.png").write_bytes(whole[: len(whole) // 2])
    for images, valid, match in ((folder, broken, r"half\.png"), (broken, others, "none of the images")):
        with pytest.raises(ValueError, match=match):
            card.export_with_card(tmp_path / "checkpoint.pt", tmp_path / "none.safetensors", [images], valid)
    assert not (tmp_path / "none.safetensors").exists()
    text = out.with_suffix(".md").read_text()
    assert codec.model.id.hex() in text
    assert "20 steps" in text
    assert codec.model.id != Codec(device="cpu").model.id
    assert codec.model.entropy.bound() < 2**53
    with pytest.raises(ValueError, match="other λ"):
        shipped = tmp_path / "base.safetensors"
        shutil.copy(registry.find(Codec(device="cpu").model.id), shipped)
        card.export_with_card(tmp_path / "checkpoint.pt", shipped, [folder], others)
    assert Codec(device="cpu", weights=shipped).model.id == Codec(device="cpu").model.id
    for value in run.average.values():
        value.mul_(0.7)
    run.save(tmp_path / "worse.pt")
    with pytest.raises(ValueError, match="better at quality"):
        card.export_with_card(tmp_path / "worse.pt", out, [folder], others)
    assert Codec(device="cpu", weights=out).model.id == codec.model.id
    card.export_with_card(tmp_path / "worse.pt", out, [folder], others, force=True)
    assert Codec(device="cpu", weights=out).model.id != codec.model.id


@pytest.mark.parametrize(("objective", "least", "most"), [("psnr", -70, -40), ("ms-ssim", -60, -30), ("eye", -60, -20)])
def test_validation_against_jpeg(codec: Codec, others: Path, objective: str, least: float, most: float) -> None:
    found = measure(codec, [others / "other.png"], objective)
    assert least < found["bd_rate"] < most
    assert found["bpp"] == sorted(found["bpp"])


def test_a_picture_that_breaks_off_is_passed_over(tmp_path: Path, photo: Plane) -> None:
    for i in range(3):
        Image.fromarray(photo[: 150 + i, :150]).save(tmp_path / f"a{i}.png")
    data = (tmp_path / "a0.png").read_bytes()
    (tmp_path / "a0.png").write_bytes(data[: len(data) // 2])
    files, skipped = find_images([tmp_path], 128)
    assert (len(files), skipped) == (3, 0)  # its header is whole
    assert Patches(files, 8, 64, 0)[0][0].shape == (8, 64, 64, 3)


def test_model_card_belongs_to_the_weights(codec: Codec) -> None:
    text = (registry.find(codec.model.id).with_suffix(".md")).read_text()
    assert f"`{codec.model.id.hex()}`" in text


def test_shuffle_inverts_unshuffle() -> None:
    x = torch.rand(2, 8, 12, 3)
    assert torch.equal(shuffle(unshuffle(x, 4), 4), x)
    assert unshuffle(x, 2)[0, 0, 0].tolist() == torch.cat((x[0, 0, 0], x[0, 0, 1], x[0, 1, 0], x[0, 1, 1])).tolist()


def test_the_start_is_an_inverse(photo: Plane) -> None:
    """Main and fine latents together have as many dimensions as the pixels: synthesis undoes analysis."""
    network = Network(Design())
    blocks = torch.from_numpy(photo.reshape(32, 16, 32, 16, 3).swapaxes(1, 2).reshape(-1, 16, 16, 3).copy()) / 255
    deviations = initialise(network, blocks, 2.0)
    assert deviations[:320].min() > 0.8 * deviations[320:].max(), "the main latents are the strong ones"
    ops, one = TorchOperations(network.tensors, torch.device("cpu")), torch.ones(())
    with torch.no_grad():
        latents = structure.analysis(ops, network.design, blocks, one)
        again = structure.synthesis(ops, network.design, latents, one)
    torch.testing.assert_close(again, blocks, atol=1e-3, rtol=0)


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


@pytest.mark.parametrize("side", [16, 48, 80, 112])
def test_transforms_do_not_know_where_a_flat_picture_ends(fine: Codec, side: int) -> None:
    """Its latents and hyper-latents are the same everywhere: the edge is repeated, not zeros."""
    m = fine.model
    pixels = m.ops.array(np.broadcast_to([0.2, 0.9, 0.4], (1, side, 96, 3)))
    with m.ops.inference():
        y = m.analysis_end(m.analysis_start(pixels), m.analysis_rate[60])
        z = m.hyper_analysis(y[..., : m.design.latents])
    for plane in map(m.ops.numpy, (y, z)):
        np.testing.assert_allclose(plane, np.broadcast_to(plane[:, :1, :1], plane.shape), rtol=0, atol=2e-3)


def test_the_edge_is_repeated() -> None:
    """By each library alike."""
    torch.manual_seed(0)
    weights = {"d.weight": torch.rand(5, 3, 3), "d.bias": torch.rand(5)}
    with_torch = TorchOperations(weights, torch.device("cpu"))
    with_numpy = NumpyOperations({name: value.numpy() for name, value in weights.items()})
    x = torch.rand(1, 1, 1, 5).expand(1, 4, 6, 5)
    edge, zeros = (with_torch.depthwise("d", x, edge=edge) for edge in (True, False))
    torch.testing.assert_close(edge, edge[:, :1, :1].expand(1, 4, 6, 5))
    torch.testing.assert_close(zeros[:, 1:-1, 1:-1], edge[:, 1:-1, 1:-1])
    assert (zeros - edge).abs().max() > 0.01
    for result, repeated in ((edge, True), (zeros, False)):
        np.testing.assert_allclose(with_numpy.depthwise("d", x.numpy(), edge=repeated), result.numpy(), atol=1e-6)
