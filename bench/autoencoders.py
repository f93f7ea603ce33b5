"""Autoencoders on scikit-learn's digits, beside classical peers: 30 % held out, stratified, fixed seeds."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from aecodec.autoencoders import Autoencoder, VariationalAutoencoder, pictures, uses

Array = npt.NDArray[Any]
SHAPE = (1, 8, 8)
LATENT = 8
NOISE = 0.5
ACTIVATION = 0.1
SAMPLES = 2000


def run(out: Path | None) -> None:
    """Print each figure as soon as it is there; with ``out``, keep them and draw the pictures."""
    digits = load_digits()
    x, x_held, labels, labels_held = train_test_split(
        np.float32(digits.data / 16), digits.target, test_size=0.3, stratify=digits.target, random_state=0
    )
    rows: list[dict[str, Any]] = []
    seconds: list[float] = []

    def fit(model: Autoencoder, data: Array) -> Any:
        start = time.perf_counter()
        model.set_params(random_state=0, shape=SHAPE).fit(data)
        seconds.append(time.perf_counter() - start)
        return model

    def say(name: str, value: float, target: float, most: bool, peer: float | None = None) -> None:
        met = value <= target if most else value >= target
        rows.append({"name": name, "value": value, "target": target, "most": most, "met": met, "peer": peer})
        beside = "" if peer is None else f", peer {peer:.3f}"
        bound = "<=" if most else ">="
        print(f"{name}: {value:.3f} ({bound} {target:.3f}: {'met' if met else 'missed'}{beside})", flush=True)

    def save(name: str, made: Array, columns: int = 12) -> None:
        if out:
            pictures.save(pictures.grid(made, SHAPE, columns), out / f"{name}.png")

    pca = PCA(LATENT).fit(x)
    made = pca.inverse_transform(pca.transform(x_held))
    least = float(np.square(made - x_held).mean())
    say("linear, error over PCA's", -fit(linear(), x).score(x_held) / least, 1.02, True)
    model = fit(dense(), x)
    say("dense, error over PCA's", -model.score(x_held) / least, 0.48, True)
    save("reconstructions", np.concatenate([x_held[:12], made[:12], model.reconstruct(x_held[:12])]))
    peer = uses.accuracy(pca.transform(x), labels, pca.transform(x_held), labels_held)
    correct = uses.accuracy(model.transform(x), labels, model.transform(x_held), labels_held)
    say("accuracy on the features", correct, 0.94, False, peer)
    say("convolutional, error over PCA's", -fit(convolutional(), x).score(x_held) / least, 0.48, True)
    _denoising(fit(denoising(), x), x, x_held, say, save)
    activation = float(fit(sparse(), x).transform(x_held).mean())
    say("sparse, distance from the activation aimed at", abs(activation / ACTIVATION - 1), 0.2, True)
    _samples(fit, x, x_held, labels, say, save)
    areas, peers = [], []
    for digit in range(10):
        normal = x[labels != digit]
        scores = -fit(dense(epochs=40), normal).score_samples(x_held)
        areas.append(roc_auc_score(labels_held == digit, scores))
        plane = PCA(20).fit(normal)
        errors = np.square(plane.inverse_transform(plane.transform(x_held)) - x_held).mean(1)
        peers.append(roc_auc_score(labels_held == digit, errors))
    say("anomalies, mean area under the ROC", float(np.mean(areas)), 0.98, False, float(np.mean(peers)))
    say("seconds of the longest training", max(seconds), 60.0, True)
    if out:
        (out / "targets.json").write_text(json.dumps(rows, indent=1, default=float) + "\n", "utf-8")


def linear() -> Autoencoder:
    return Autoencoder(LATENT, (), epochs=150, learning_rate=1e-2, l2=0)


def dense(epochs: int = 100) -> Autoencoder:
    return Autoencoder(LATENT, epochs=epochs, noise=0.1)


def convolutional() -> Autoencoder:
    return Autoencoder(LATENT, network="convolutional", epochs=60, learning_rate=3e-3, noise=0.1)


def denoising() -> Autoencoder:
    return Autoencoder(32, (512, 256), noise=NOISE, dropout=0.1, epochs=120)


def sparse() -> Autoencoder:
    return Autoencoder(64, (128,), sparsity="kl", sparsity_target=ACTIVATION, sparsity_weight=1.0, epochs=40)


def variational(adversarial: bool) -> VariationalAutoencoder:
    return VariationalAutoencoder(LATENT, adversarial=adversarial, epochs=80)


def _denoising(model: Autoencoder, x: Array, held: Array, say: Callable[..., None], save: Callable[..., None]) -> None:
    draws = np.random.default_rng(0)
    noisy = held + np.float32(NOISE) * draws.standard_normal(held.shape, np.float32)
    copies = np.tile(x, (10, 1))
    ridge = Ridge(1.0).fit(copies + NOISE * draws.standard_normal(copies.shape), copies)
    before, by_model, by_ridge = (
        float(np.square(y - held).mean()) for y in (noisy, model.reconstruct(noisy), ridge.predict(noisy))
    )
    say("denoising, error over the noisy picture's", by_model / before, 0.11, True, by_ridge / before)
    save("denoising", np.concatenate([held[:12], noisy[:12], model.reconstruct(noisy[:12])]))


def _samples(
    fit: Callable[..., Any], x: Array, held: Array, labels: Array, say: Callable[..., None], save: Callable[..., None]
) -> None:
    classifier = LogisticRegression(max_iter=5000).fit(x, labels)
    real = classifier.predict_proba(held).max(1).mean()
    distances = []
    for name, adversarial in (("VAE", False), ("VAE-GAN", True)):
        model = fit(variational(adversarial), x)
        made = model.sample(SAMPLES, random_state=0)
        distances.append(frechet(classifier.decision_function(made), classifier.decision_function(held)))
        save(f"samples-{name.lower()}", made[:36])
        if not adversarial:
            sure = classifier.predict_proba(made)
            say("VAE, confidence in samples over that in digits", float(sure.max(1).mean() / real), 0.8, False)
            rarest = np.bincount(sure.argmax(1), minlength=10).min() / SAMPLES
            say("VAE, share of the rarest class", float(rarest), 0.05, False)
            save("interpolation", np.concatenate([model.interpolate(held[i], held[i + 1], 12) for i in range(3)]))
    say("VAE-GAN, Fréchet distance over the VAE's", distances[1] / distances[0], 1.0, True)


def frechet(a: Array, b: Array) -> float:
    """Between Gaussians of the moments of features ``[n, d]`` (Heusel et al. 2017)."""
    first, second = np.cov(a.T), np.cov(b.T)
    roots = np.sqrt(np.maximum(np.linalg.eigvals(first @ second).real, 0))
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(first) + np.trace(second) - 2 * roots.sum())
