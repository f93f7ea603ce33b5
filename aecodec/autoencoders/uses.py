"""What one does with a model: each function returns its result and draws a picture of it."""

import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.model_selection import train_test_split

from . import pictures
from .data import Samples
from .estimators import Autoencoder, VariationalAutoencoder

Result = dict[str, Any]
ROWS, COLUMNS = 4, 12  # of samples in pictures
HELD_OUT = 0.3  # of the data, in comparisons


def check(model: Autoencoder, samples: Samples) -> None:
    """Raise ValueError for data of another size than the model's."""
    if samples.x.shape[1] != model.n_features_in_:
        raise ValueError(f"the model takes {model.n_features_in_} features, the data have {samples.x.shape[1]}")


def train(model: Autoencoder, samples: Samples, picture: Path) -> Result:
    """Fit, and draw the loss of each epoch."""
    if len(samples.x) < 2:
        raise ValueError("one sample is not enough to train on")
    start = time.perf_counter()
    model.fit(samples.x)
    epochs = [float(i + 1) for i in range(model.n_iter_)]
    pictures.curves(
        {"validation" if model.validation else "training": (epochs, model.history_)}, "epoch", "loss", picture
    )
    error = -model.score(samples.x)
    return {"samples": len(samples.x), "epochs": model.n_iter_, "mse": error, "seconds": time.perf_counter() - start}


def reconstruct(model: Autoencoder, samples: Samples, picture: Path) -> Result:
    """Rows of originals, each above its reconstructions."""
    check(model, samples)
    made = model.reconstruct(samples.x)
    _in_turns([samples.x, made], model.shape or samples.shape, picture)
    return {"samples": len(made), "mse": float(np.square(made - samples.x).mean())}


def denoise(model: Autoencoder, samples: Samples, picture: Path, noise: float, seed: int) -> Result:
    """With ``noise``, add some and say how much of it the model takes away; else the data are the noisy ones."""
    check(model, samples)
    noisy = samples.x + np.float32(noise) * np.random.default_rng(seed).standard_normal(samples.x.shape, np.float32)
    made = model.reconstruct(noisy)
    _in_turns([*([samples.x] if noise else []), noisy, made], model.shape or samples.shape, picture)
    result: Result = {"samples": len(made), "noise": noise}
    if noise:
        before, after = (float(np.square(x - samples.x).mean()) for x in (noisy, made))
        result |= {"mse_noisy": before, "mse": after, "ratio": after / before}
    return result


def _in_turns(rows: list[npt.NDArray[np.float32]], shape: Any, picture: Path) -> None:
    count = min(len(rows[0]), COLUMNS * ROWS // len(rows))
    columns = min(count, COLUMNS)
    parts = [x[i : i + columns] for i in range(0, count - count % columns, columns) for x in rows]
    pictures.save(pictures.grid(np.concatenate(parts), shape, columns), picture)


def features(model: Autoencoder, samples: Samples) -> npt.NDArray[np.float32]:
    """The codes ``[n, latent]``."""
    check(model, samples)
    return model.transform(samples.x)


def map_codes(model: Autoencoder, samples: Samples, picture: Path) -> Result:
    """Codes of two dimensions; of more, their two principal components."""
    codes = features(model, samples)
    share = 1.0
    if codes.shape[1] > 2:
        plane = PCA(2).fit(codes)
        codes, share = plane.transform(codes), float(plane.explained_variance_ratio_.sum())
    elif codes.shape[1] < 2:
        raise ValueError("a map needs codes of at least two dimensions")
    pictures.scatter(codes, samples.labels, picture)
    return {"samples": len(codes), "latent": model.latent, "variance_shown": share}


def _variational(model: Autoencoder) -> VariationalAutoencoder:
    if not isinstance(model, VariationalAutoencoder):
        raise ValueError("only variational models make samples: train one with --variational")
    return model


def sample(model: Autoencoder, n: int, prior: bool, seed: int, picture: Path) -> Result:
    made = _variational(model).sample(n, prior=prior, random_state=seed)
    pictures.save(pictures.grid(made, model.shape, min(n, COLUMNS)), picture)
    return {"samples": n, "from": "prior" if prior else "mixture", "seed": seed}


def interpolate(model: Autoencoder, samples: Samples, pairs: list[tuple[int, int]], picture: Path) -> Result:
    """A row for each pair of samples, from the one's reconstruction to the other's."""
    check(model, samples)
    for i in {i for pair in pairs for i in pair}:
        if not 0 <= i < len(samples.x):
            raise ValueError(f"there is no sample {i}: the data have {len(samples.x)}")
    rows = [_variational(model).interpolate(samples.x[i], samples.x[j], COLUMNS) for i, j in pairs]
    pictures.save(pictures.grid(np.concatenate(rows), model.shape or samples.shape, COLUMNS), picture)
    return {"pairs": pairs}


def anomalies(
    model: Autoencoder, normal: Samples, samples: Samples, quantile: float, budget: int | None, picture: Path
) -> Result:
    """Samples whose error is above a quantile of normal ones, or above all but ``budget`` of these.

    Labels, where there are any, are 0 for normal samples and anything else for anomalies.
    """
    check(model, normal)
    check(model, samples)
    usual, scores = (-model.score_samples(s.x).astype(np.float64) for s in (normal, samples))
    if budget is not None and budget >= len(usual):
        raise ValueError(f"a budget of {budget} false alarms is not below the {len(usual)} normal samples")
    threshold = float(np.quantile(usual, quantile) if budget is None else np.sort(usual)[-1 - budget])
    found = np.flatnonzero(scores > threshold)
    result: Result = {"threshold": threshold, "anomalies": found.tolist(), "scores": scores.tolist()}
    if samples.labels is None:
        pictures.histogram(scores, threshold, picture)
        return result
    strange = np.array([str(label) not in {"0", "0.0"} for label in samples.labels])
    if strange.all() or not strange.any():
        raise ValueError("labels have to tell normal samples (0) from anomalies, and are all of one kind")
    false, true, _ = roc_curve(strange, scores)
    area = float(roc_auc_score(strange, scores))
    curve = (false.tolist(), true.tolist())
    pictures.curves({f"area {area:.3f}": curve}, "false alarms", "anomalies found", picture)
    return result | {"roc_auc": area, "roc": {"false": curve[0], "true": curve[1]}}


def compare(
    candidates: dict[str, Autoencoder], samples: Samples, dimensions: list[int], seed: int, picture: Path
) -> Result:
    """Models and PCA at several latent dimensions: error and accuracy on 30 % that are held out, and seconds.

    The dimension to take is where the error stops falling, or where the accuracy stops rising.
    """
    n = len(samples.x)
    most = min(int((1 - HELD_OUT) * n), samples.x.shape[1])
    if max(dimensions) > most:
        raise ValueError(f"PCA gives at most {most} dimensions of these data, not {max(dimensions)}")
    labels = samples.labels
    stratify = labels if labels is not None and np.unique(labels, return_counts=True)[1].min() > 1 else None
    fitted, tested = train_test_split(np.arange(n), test_size=HELD_OUT, random_state=seed, stratify=stratify)
    rows: list[Result] = []
    for name, model in {"PCA": None, **candidates}.items():
        for latent in dimensions:
            start = time.perf_counter()
            current: Any = PCA(latent) if model is None else model.set_params(latent=latent)
            codes = current.fit(samples.x[fitted]).transform(samples.x)
            seconds = time.perf_counter() - start
            error = float(np.square(current.inverse_transform(codes[tested]) - samples.x[tested]).mean())
            row = {"model": name, "latent": latent, "mse": error, "seconds": seconds}
            if labels is not None:
                row["accuracy"] = accuracy(codes[fitted], labels[fitted], codes[tested], labels[tested])
            rows.append(row)
    names = ["PCA", *candidates]
    series = {m: (dimensions, [r["mse"] for r in rows if r["model"] == m]) for m in names}
    pictures.curves(series, "latent dimensions", "mean squared error", picture)  # type: ignore[arg-type]
    return {"held_out": len(tested), "rows": rows}


def accuracy(codes: Any, labels: Any, held_out: Any, held_out_labels: Any) -> float:
    """Of a logistic regression on codes scaled to a standard deviation of 1."""
    scale = codes.std(0) + 1e-9
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier = LogisticRegression(max_iter=2000).fit(codes / scale, labels)
    return float(classifier.score(held_out / scale, held_out_labels))
