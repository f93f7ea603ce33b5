"""Autoencoders: estimators, losses, data and commands, by small trainings on scikit-learn's digits."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.linalg import subspace_angles
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator
from typer.testing import CliRunner

from aecodec.autoencoders import Autoencoder, VariationalAutoencoder, data, load, losses, networks, training
from aecodec.cli import app

DIGITS = load_digits()
X: NDArray[np.float32] = (DIGITS.data[:300] / 16).astype(np.float32)
SHAPE = (1, 8, 8)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def variational() -> VariationalAutoencoder:
    return VariationalAutoencoder(4, (32,), epochs=3, random_state=0, shape=SHAPE).fit(X)


def test_a_linear_model_spans_the_space_of_pca() -> None:
    model = Autoencoder(3, (), epochs=200, learning_rate=1e-2, l2=0, random_state=0).fit(X)
    pca = PCA(3).fit(X)
    weight = model.network_.state_dict()["decoder.0.weight"].numpy()
    assert np.degrees(subspace_angles(weight, pca.components_.T)).max() < 2


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 7, 13), (2, 1, 5), (1, 1, 1), (3, 33, 16)])
def test_convolutions_take_pictures_of_any_size(shape: tuple[int, int, int]) -> None:
    network = networks.convolutional(shape, 16, codes=16, dropout=0.0, bounded=True)
    x = torch.rand(2, int(np.prod(shape)))
    assert network.encode(x).shape == (2, 16)
    assert network.decode(network.encode(x)).shape == x.shape


@pytest.mark.parametrize(
    "options",
    [
        {"noise": 0.3, "masking": 0.2, "dropout": 0.1},
        {"sparsity": "l1", "sparsity_weight": 0.01, "latent": 80, "l1": 1e-6},
        {"tied": True, "pretrain": 2},
        {"network": "convolutional", "shape": SHAPE, "augment": (0.1, 10, 0.1, True)},
        {"loss": "wavelet", "shape": SHAPE, "validation": 0.2, "patience": 1},
        {"loss": "bce"},
    ],
    ids="-".join,
)
def test_options_combine_and_learn(options: dict[str, Any]) -> None:
    model = Autoencoder(**dict[str, Any]({"hidden": (64,), "epochs": 15, "random_state": 0}, **options)).fit(X)
    assert -model.score(X) < 0.9 * X.var(0).mean()
    assert model.n_iter_ <= 15


def test_tied_weights_are_one() -> None:
    model = Autoencoder(4, (16,), tied=True, epochs=1, random_state=0).fit(X)
    assert sum(p.dim() == 2 for p in model.network_.parameters()) == 2


def test_sparsity_reaches_its_target() -> None:
    model = Autoencoder(
        32, (64,), sparsity="kl", sparsity_target=0.1, sparsity_weight=1.0, epochs=60, random_state=0
    ).fit(X)
    assert abs(model.transform(X).mean() / 0.1 - 1) < 0.2


def test_the_same_seed_gives_the_same_model() -> None:
    first, second = (Autoencoder(2, (8,), dropout=0.2, epochs=2, random_state=5).fit(X) for _ in range(2))
    assert np.array_equal(first.transform(X), second.transform(X))


def test_frozen_decoders_stay() -> None:
    model = Autoencoder(2, (8,), epochs=1, random_state=0).fit(X)
    before = [p.clone() for p in model.network_.decoder.parameters()]
    encoder = model.network_.state_dict()["encoder.0.weight"].clone()
    model.set_params(frozen="decoder", warm_start=True).fit(X)
    assert all(torch.equal(a, b) for a, b in zip(before, model.network_.decoder.parameters(), strict=True))
    assert not torch.equal(encoder, model.network_.state_dict()["encoder.0.weight"])


def test_checkpoints_resume_to_the_same_model(tmp_path: Path) -> None:
    options: dict[str, Any] = {"hidden": (8,), "epochs": 20, "dropout": 0.1, "random_state": 0}
    whole = Autoencoder(2, **options).fit(X)

    def stop(done: int, *_: float) -> None:
        if done == 12:
            raise KeyboardInterrupt

    model = Autoencoder(2, checkpoint=tmp_path / "c.pt", progress=stop, **options)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X)
    model = Autoencoder(2, checkpoint=tmp_path / "c.pt", **options).fit(X)
    assert np.array_equal(model.transform(X), whole.transform(X))
    (tmp_path / "c.pt").write_bytes(b"no")
    with pytest.raises(ValueError, match="no checkpoint"):
        model.fit(X)


def test_estimators_follow_scikit_learn() -> None:
    found = check_estimator(Autoencoder(1, (4,), epochs=2), on_fail=None, on_skip=None)
    failed = {check["check_name"]: check["exception"] for check in found if check["status"] == "failed"}
    assert not failed


def test_pipelines_and_grid_searches() -> None:
    pipeline = make_pipeline(Autoencoder(hidden=(16,), epochs=2, random_state=0), LogisticRegression(max_iter=1000))
    search = GridSearchCV(pipeline, {"autoencoder__latent": [1, 8]}, cv=2).fit(X, DIGITS.target[:300])
    assert search.best_params_ == {"autoencoder__latent": 8}
    assert clone(Autoencoder(3)).latent == 3


def test_variational_models_sample_and_interpolate(variational: VariationalAutoencoder) -> None:
    made = variational.sample(5, random_state=0)
    assert made.shape == (5, 64)
    assert 0 <= made.min() <= made.max() <= 1
    assert not np.array_equal(made, variational.sample(5, prior=True, random_state=0))
    line = variational.interpolate(X[0], X[1], 4)
    assert np.allclose(line[[0, 3]], variational.reconstruct(X[:2]), atol=1e-5)


def test_adversarial_training_runs() -> None:
    model = VariationalAutoencoder(4, (32,), adversarial=True, epochs=30, random_state=0).fit(X)
    assert -model.score(X) < X.var(0).mean()


def test_saved_models_come_back(tmp_path: Path, variational: VariationalAutoencoder) -> None:
    path = tmp_path / "m.safetensors"
    for model in (variational, Autoencoder(5, network="convolutional", shape=SHAPE, epochs=1).fit(X)):
        model.save(path)
        assert np.array_equal(load(path).transform(X), model.transform(X))
    variational.save(path)
    again = load(path)
    assert isinstance(again, VariationalAutoencoder)
    assert np.array_equal(again.sample(3, random_state=1), variational.sample(3, random_state=1))
    whole = path.read_bytes()
    for damaged, message in (
        (whole[:-9], "damaged"),
        (whole[:20], "not a saved"),
        (b"", "not a saved"),
        (whole.replace(b'version\\": 1', b'version\\": 9'), "version 9"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=message):
            load(path)


def test_haar_is_orthonormal() -> None:
    x = torch.rand(2, 3, 8, 8)
    assert torch.isclose(sum(b.square().sum() for b in losses.haar(x)), x.square().sum())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "shape"), [("ms_ssim", (1, 40, 40)), ("ssimulacra2", (3, 64, 64)), ("wavelet", SHAPE)]
)
def test_losses_are_least_for_the_same(name: str, shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    x = torch.rand(2, int(np.prod(shape)))
    y = (x + 0.1 * torch.rand_like(x)).clamp(0, 1).requires_grad_()
    loss = losses.of_pictures(name, shape)
    loss(y, x).backward()  # type: ignore[no-untyped-call]
    assert y.grad is not None
    assert y.grad.isfinite().all()
    assert loss(x, x) < 1e-3 < loss(y, x)


def test_a_perceptual_loss_uses_the_network_that_is_given() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU())
    model = Autoencoder(2, (8,), loss=losses.perceptual(network, SHAPE), epochs=2, random_state=0).fit(X)
    assert model.history_[1] < model.history_[0]


@pytest.mark.parametrize(
    ("options", "rows", "message"),
    [
        ({"latent": 0}, X, "latent has to be"),
        ({"network": "other"}, X, "network has to be"),
        ({"network": "convolutional"}, X, "give shape"),
        ({"shape": (1, 9, 9)}, X, "81 values"),
        ({"loss": "ms_ssim", "shape": SHAPE}, X, "ms_ssim needs"),
        ({"loss": "ssimulacra2", "shape": SHAPE}, X, "64x64"),
        ({"loss": "bce"}, X - 1, "in 0..1"),
        ({"loss": "other"}, X, "loss has to be"),
        ({"validation": 0.9}, X[:3], "leaves"),
        ({"tied": True, "network": "convolutional", "shape": SHAPE}, X, "tied"),
        ({}, X[:1], "1 sample"),
        ({}, X + np.nan, "NaN"),
    ],
)
def test_what_makes_no_sense_is_named(options: dict[str, Any], rows: NDArray[np.float32], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Autoencoder(**{"epochs": 1} | options).fit(rows)


def test_constant_data_and_wide_codes_are_told_of() -> None:
    with pytest.warns(UserWarning, match="constant"):
        model = Autoencoder(2, (4,), epochs=1).fit(np.ones((8, 5), np.float32))
    assert np.isfinite(model.transform(np.ones((2, 5), np.float32))).all()
    with pytest.warns(UserWarning, match="can learn to copy"):
        Autoencoder(64, (4,), epochs=1).fit(X)


def test_augmentation_of_nothing_changes_nothing() -> None:
    x = torch.from_numpy(X[:4])
    same = training.augmentation(SHAPE, 0, 0, 0, False)(x, torch.Generator())
    assert torch.allclose(same, x, atol=1e-5)


def test_data_of_every_kind(tmp_path: Path) -> None:
    pixels = (X[:6].reshape(6, 8, 8) * 255).astype(np.uint8)
    np.save(tmp_path / "a.npy", pixels)
    np.savez(tmp_path / "a.npz", pixels)
    header = bytes([0, 0, 8, 3]) + np.array([6, 8, 8], ">u4").tobytes()
    (tmp_path / "t-idx3-ubyte").write_bytes(header + pixels.tobytes())
    for i, picture in enumerate(pixels):
        (tmp_path / f"f/{i % 2}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(tmp_path / f"f/{i % 2}/{i}.png")
    for name in ("a.npy", "a.npz", "t-idx3-ubyte"):
        found = data.load(str(tmp_path / name))
        assert found.shape == SHAPE
        assert np.array_equal(found.x, np.float32(pixels.reshape(6, 64) / 255))
    found = data.load(str(tmp_path / "f"))
    assert found.labels is not None
    assert found.labels.tolist() == ["0"] * 3 + ["1"] * 3
    (tmp_path / "a.csv").write_text("u,v\n1,2\n3,4\n")
    assert data.load(str(tmp_path / "a.csv")).x.tolist() == [[1, 2], [3, 4]]


def test_bad_data_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "mixed").mkdir()
    for side in (8, 9):
        Image.new("L", (side, side)).save(tmp_path / f"mixed/{side}.png")
    np.save(tmp_path / "nan.npy", X[:3] * np.nan)
    np.save(tmp_path / "few.npy", np.zeros(2))
    (tmp_path / "text.csv").write_text("a,b\nc,d\n")
    (tmp_path / "short-idx3-ubyte").write_bytes(b"\0\0\x08\x03\0")
    for name, message in (
        ("empty", "no pictures"), ("mixed", "mixed sizes"), ("nan.npy", "NaN"), ("text.csv", "cannot be read"),
        ("short-idx3-ubyte", "cannot be read"), ("few.npy", "dimensions"), ("empty/x.txt", "No such file"),
    ):  # fmt: skip
        with pytest.raises((ValueError, OSError), match=message):
            data.load(str(tmp_path / name))
    with pytest.raises(ValueError, match="2 labels for the 1797 samples"):
        data.load("digits", tmp_path / "few.npy")


def ae(*words: object) -> Any:
    return CliRunner().invoke(app, ["ae", *map(str, words)])


def test_commands_write_pictures_and_results(tmp_path: Path, variational: VariationalAutoencoder) -> None:
    model, labels, out = tmp_path / "m.safetensors", tmp_path / "l.npy", tmp_path / "o.png"
    variational.save(model)
    np.save(labels, DIGITS.target)
    np.save(tmp_path / "odd.npy", DIGITS.target % 2)
    for words, key in (
        (("reconstruct", model, "digits"), "mse"),
        (("map", model, "digits", "--labels", labels), "variance_shown"),
        (("sample", model), "seed"),
        (("interpolate", model, "digits", "--pair", "0,5"), "pairs"),
        (("denoise", model, "digits", "--noise", 0.5), "ratio"),
        (("anomalies", model, "digits", "--normal", "digits", "--budget", 18), "threshold"),
        (("anomalies", model, "digits", "--normal", "digits", "--labels", tmp_path / "odd.npy"), "roc_auc"),
        (("compare", "digits", "--epochs", 1, "--dimensions", "2,3"), "rows"),
        (("train", "digits", "--epochs", 1, "--latent", 2, "-o", tmp_path / "o.safetensors"), "mse"),
    ):
        out.unlink(missing_ok=True)
        found = ae(*words, *(() if words[0] == "train" else ("-o", out)))
        assert found.exit_code == 0, found.output
        assert key in json.loads(out.with_suffix(".json").read_text())
        with Image.open(out) as image:
            assert image.width > 100
    assert ae("features", model, "digits", "-o", tmp_path / "f.npy").exit_code == 0
    assert np.load(tmp_path / "f.npy").shape == (1797, 4)
    np.save(tmp_path / "other.npy", X[:, :9])
    wrong: list[tuple[tuple[object, ...], str]] = [
        (("reconstruct", model, tmp_path / "other.npy", "-o", out), "64 features"),
        (("sample", tmp_path / "o.safetensors", "-o", out), "only variational"),
        (("sample", labels, "-o", out), "not a saved autoencoder"),
        (("interpolate", model, "digits", "--pair", "0,9999", "-o", out), "no sample 9999"),
        (("train", "digits", "--adversarial", "-o", tmp_path / "x"), "--variational"),
        (("train", "digits", "--hidden", "a", "-o", tmp_path / "x"), "widths"),
    ]
    for arguments, message in wrong:
        found = ae(*arguments)
        assert found.exit_code == 2, found.output
        assert message in found.stderr
        assert len(found.stderr.splitlines()) == 1
