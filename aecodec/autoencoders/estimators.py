"""The estimators, by scikit-learn's conventions: rows are samples, pictures are flattened ``[n, C·H·W]``."""

import json
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.mixture import GaussianMixture
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from .. import files
from . import losses, networks, training

Floats = npt.NDArray[np.float32]
VERSION = 1  # of saved models
PASS = 4096  # rows that go through a network at once


class Autoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A dense or convolutional autoencoder; `transform` gives its codes, `score_samples` minus its errors.

    Arguments:
    - `latent`: dimensions of the code.
    - `hidden`: widths of the dense encoder's hidden layers, which the decoder mirrors; none is PCA.
    - `network`: `"dense"` or `"convolutional"`, which needs `shape`.
    - `shape`: of the pictures, (channels, height, width).
    - `loss`: mse, bce, wavelet, ms_ssim, ssimulacra2, or a function of tensors (output, data), such as
      `losses.perceptual` gives.
    - `noise`, `masking`: on the input: standard deviation, in the data's units; share of the features.
    - `sparsity`: `"l1"`, `"kl"` (codes in 0..1, mean activation `sparsity_target`) or `"none"`.
    - `dropout`, `l1`, `l2`, `tied`: of hidden units; on the weights; the decoder's weights are the encoder's.
    - `validation`, `patience`: the share that is held out, whose error stops training after so many epochs without
      a better one, and whose best network is kept; 0 trains all epochs.
    - `augment`: (shift, rotation, scale, flip) as `training.augmentation` takes them.
    - `pretrain`: epochs for each hidden layer by itself before the whole (Bengio et al. 2007).
    - `frozen`: `"encoder"` or `"decoder"`, with `warm_start`, which goes on from what was fitted before.
    - `checkpoint`: a file to resume from, written every ten epochs.
    - `device`: of torch. `progress`: called with the epoch and the training and validation losses.
    """

    variational = False

    def __init__(
        self,
        latent: int = 8,
        hidden: Sequence[int] = (256, 128),
        *,
        network: str = "dense",
        shape: tuple[int, int, int] | None = None,
        loss: str | losses.Loss = "mse",
        noise: float = 0.0,
        masking: float = 0.0,
        sparsity: str = "none",
        sparsity_weight: float = 0.1,
        sparsity_target: float = 0.1,
        dropout: float = 0.0,
        l1: float = 0.0,
        l2: float = 1e-2,
        tied: bool = False,
        epochs: int = 200,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        validation: float = 0.0,
        patience: int = 20,
        augment: tuple[float, float, float, bool] | None = None,
        pretrain: int = 0,
        frozen: str = "none",
        warm_start: bool = False,
        checkpoint: str | Path | None = None,
        device: str = "cpu",
        random_state: Any = None,
        progress: Callable[[int, float, float], None] | None = None,
    ):
        self.latent, self.hidden, self.network, self.shape, self.loss = latent, hidden, network, shape, loss
        self.noise, self.masking, self.dropout, self.l1, self.l2, self.tied = noise, masking, dropout, l1, l2, tied
        self.sparsity, self.sparsity_weight, self.sparsity_target = sparsity, sparsity_weight, sparsity_target
        self.epochs, self.batch_size, self.learning_rate = epochs, batch_size, learning_rate
        self.validation, self.patience, self.augment, self.pretrain = validation, patience, augment, pretrain
        self.frozen, self.warm_start, self.checkpoint, self.device = frozen, warm_start, checkpoint, device
        self.random_state, self.progress = random_state, progress

    def fit(self, X: Any, y: object = None) -> Self:  # noqa: N803
        """Learn from ``[n, features]``. Raises ValueError for NaN, fewer than two samples and what does not fit."""
        data = validate_data(self, X, dtype=np.float32, ensure_min_samples=2)
        self._check(data)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        generator = torch.Generator().manual_seed(seed)
        x = torch.from_numpy(np.array(data)).to(self.device)
        count = math.ceil(self.validation * len(x))
        order = torch.randperm(len(x), generator=generator).to(x.device)
        x, held_out = x[order[count:]], x[order[:count]] if count else None
        if len(x) < 2:
            raise ValueError(f"validation={self.validation} leaves {len(x)} sample to train on")
        with torch.random.fork_rng(devices=[]):  # dropout and first weights draw from the global generator
            torch.manual_seed(seed)
            if not (self.warm_start and hasattr(self, "network_")):
                bounded = bool((data.min() >= 0) & (data.max() <= 1)) and not self._linear()
                self.network_ = self._build(data.shape[1], bounded).to(self.device)
                self.network_.set_statistics(x)
                if self.pretrain:
                    self._pretrain(x, generator)
            self.history_ = training.fit(self.network_, x, held_out, self._recipe(), generator)
        self.n_iter_ = len(self.history_)
        self._n_features_out = self.latent
        self._describe(data)
        return self

    def transform(self, X: Any) -> Floats:  # noqa: N803
        """The codes ``[n, latent]``, of variational ones their means."""
        return self._encode(self._checked(X))

    def inverse_transform(self, X: Any) -> Floats:  # noqa: N803
        """``[n, features]`` from codes."""
        check_is_fitted(self, "network_")
        codes = check_array(X, dtype=np.float32)
        if codes.shape[1] != self.latent:
            raise ValueError(f"codes have {self.latent} dimensions, not {codes.shape[1]}")
        return self._through(self.network_.decode, codes)

    def reconstruct(self, X: Any) -> Floats:  # noqa: N803
        """What is decoded from the codes; of models trained with noise, the data without it."""
        return self.inverse_transform(self.transform(X))

    def score_samples(self, X: Any) -> Floats:  # noqa: N803
        """Minus the mean squared error of each sample ``[n]``: the lower, the stranger."""
        data = self._checked(X)
        errors: Floats = -np.square(self._through(self.network_.decode, self._encode(data)) - data).mean(1)
        return errors

    def score(self, X: Any, y: object = None) -> float:  # noqa: N803
        """Minus the mean squared error: what a grid search maximises."""
        return float(self.score_samples(X).mean())

    def save(self, path: str | Path) -> None:
        """Write a safetensors file whose header holds the settings; functions, device and checkpoint are left out."""
        check_is_fitted(self, "network_")
        settings = {k: v for k, v in self.get_params().items() if not callable(v)}
        for name in ("device", "random_state", "checkpoint", "progress", "warm_start"):
            settings.pop(name, None)
        head = {"version": VERSION, "kind": type(self).__name__, "settings": settings, "bounded": self.network_.bounded}
        tensors = {name: value.cpu().contiguous() for name, value in self.network_.state_dict().items()}
        tensors |= {f"+{name}": torch.from_numpy(value) for name, value in self._extras().items()}
        files.write(Path(path), save_tensors(tensors, {"aecodec.autoencoder": json.dumps(head)}))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def _extras(self) -> dict[str, npt.NDArray[Any]]:
        return {}

    def _restore(self, extras: dict[str, npt.NDArray[Any]]) -> None:
        pass

    def _describe(self, data: Floats) -> None:
        pass

    def _linear(self) -> bool:
        return self.network == "dense" and not len(self.hidden)

    def _recipe(self) -> training.Recipe:
        shape = self.shape or (1, 1, self.n_features_in_)
        loss = losses.of_pictures(self.loss, shape) if isinstance(self.loss, str) else self.loss
        if self.loss == "mse" and not self.network_.bounded:
            variance = float(self.network_.scale) ** 2  # of data of any unit
            loss = lambda y, x: losses.mse(y, x) / variance  # noqa: E731
        return training.Recipe(
            loss=loss,
            augment=training.augmentation(shape, *self.augment) if self.augment else None,
            checkpoint=Path(self.checkpoint) if self.checkpoint else None,
            **{name: getattr(self, name) for name in
               ("epochs", "batch_size", "learning_rate", "patience", "noise", "masking", "sparsity", "sparsity_weight",
                "sparsity_target", "l1", "l2", "frozen", "progress")},
        )  # fmt: skip

    def _build(self, features: int, bounded: bool) -> networks.Network:
        codes = self.latent * (2 if self.variational else 1)
        if self.network == "convolutional":
            assert self.shape
            return networks.convolutional(self.shape, self.latent, codes=codes, dropout=self.dropout, bounded=bounded)
        return networks.dense(
            features, self.latent, self.hidden, codes=codes, dropout=self.dropout, tied=self.tied, bounded=bounded
        )

    def _check_values(self) -> None:
        for name, allowed in (
            ("network", ("dense", "convolutional")),
            ("sparsity", ("none", "l1", "kl")),
            ("frozen", ("none", "encoder", "decoder")),
        ):
            if (value := getattr(self, name)) not in allowed:
                raise ValueError(f"{name} has to be one of {', '.join(allowed)}, not {value!r}")
        for name in ("latent", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} has to be at least 1, not {getattr(self, name)}")
        for name in ("validation", "dropout", "masking"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} has to be from 0 to below 1, not {getattr(self, name)}")

    def _check(self, data: Floats) -> None:
        features = data.shape[1]
        self._check_values()
        pictures = self.network == "convolutional" or self.augment or self.loss in losses.NAMES[2:]
        if pictures and not self.shape:
            raise ValueError("pictures are needed: give shape=(channels, height, width)")
        if self.shape and math.prod(self.shape) != features:
            raise ValueError(f"shape {tuple(self.shape)} has {math.prod(self.shape)} values, the data have {features}")
        if self.tied and (self.variational or self.network != "dense"):
            raise ValueError("tied weights are for dense networks that are not variational")
        if self.pretrain and self.network != "dense":
            raise ValueError("pretrain is for dense networks")
        if self.loss == "bce" and (data.min() < 0 or data.max() > 1 or self._linear()):
            raise ValueError("loss='bce' needs data in 0..1 and a hidden layer")
        if not np.ptp(data, axis=0).any():
            warnings.warn("the data are constant: there is nothing to learn", UserWarning, stacklevel=3)
        constrained = self.variational or self.noise or self.masking or self.dropout or self.sparsity != "none"
        if self.latent >= features and not (constrained or self.l1):
            message = f"latent={self.latent} is not below the data's {features} dimensions, and nothing constrains it"
            warnings.warn(f"{message}: it can learn to copy", UserWarning, stacklevel=3)

    def _pretrain(self, x: torch.Tensor, generator: torch.Generator) -> None:
        """Each layer and its mirror as an autoencoder of what the layers before give."""
        encoder, decoder = self.network_.encoder, self.network_.decoder
        inner = (x - self.network_.mean) / self.network_.scale
        linears = [i for i, layer in enumerate(encoder) if isinstance(layer, torch.nn.Linear)][:-1]
        mirrors = [i for i, layer in enumerate(decoder) if isinstance(layer, torch.nn.Linear | networks.Transposed)]
        for i, j in zip(linears, reversed(mirrors), strict=False):
            up = torch.nn.Sequential(encoder[i], encoder[i + 1])
            pair = networks.Network(
                up, torch.nn.Sequential(decoder[j]), inner.shape[1], self.hidden[linears.index(i)], False
            )
            recipe = training.Recipe(losses.mse, self.pretrain, self.batch_size, self.learning_rate, self.patience)
            training.fit(pair.to(x.device), inner, None, recipe, generator)
            with torch.no_grad():
                inner = up(inner)

    def _checked(self, X: Any) -> Floats:  # noqa: N803
        check_is_fitted(self, "network_")
        data: Floats = validate_data(self, X, dtype=np.float32, reset=False)
        return data

    def _encode(self, data: Floats) -> Floats:
        codes = self._through(self.network_.encode, data)[:, : self.latent]
        return np.float32(1) / (1 + np.exp(-codes)) if self.sparsity == "kl" and not self.variational else codes  # type: ignore[return-value]

    def _through(self, function: Callable[[torch.Tensor], torch.Tensor], rows: Floats) -> Floats:
        self.network_.eval()
        with torch.no_grad():
            parts = torch.from_numpy(np.array(rows)).to(self.device).split(PASS)  # type: ignore[no-untyped-call]
            return torch.cat([function(part) for part in parts]).cpu().numpy()


class VariationalAutoencoder(Autoencoder):
    """A variational autoencoder (Kingma and Welling 2014), its KL term weighted by `beta` (Higgins et al. 2017).

    `adversarial` trains a discriminator beside it (VAE-GAN, Larsen et al. 2016). Samples come from a Gaussian mixture
    fitted to the codes of the training data (Ghosh et al. 2020), or from the prior N(0, 1). `mixture`: its components.
    """

    variational = True

    def __init__(
        self,
        latent: int = 8,
        hidden: Sequence[int] = (256, 128),
        *,
        beta: float = 1.0,
        adversarial: bool = False,
        mixture: int = 20,
        network: str = "dense",
        shape: tuple[int, int, int] | None = None,
        loss: str | losses.Loss = "bce",
        noise: float = 0.0,
        masking: float = 0.0,
        dropout: float = 0.0,
        l1: float = 0.0,
        l2: float = 1e-2,
        epochs: int = 200,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        validation: float = 0.0,
        patience: int = 20,
        augment: tuple[float, float, float, bool] | None = None,
        pretrain: int = 0,
        frozen: str = "none",
        warm_start: bool = False,
        checkpoint: str | Path | None = None,
        device: str = "cpu",
        random_state: Any = None,
        progress: Callable[[int, float, float], None] | None = None,
    ):
        super().__init__(
            latent, hidden, network=network, shape=shape, loss=loss, noise=noise, masking=masking, dropout=dropout,
            l1=l1, l2=l2, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, validation=validation,
            patience=patience, augment=augment, pretrain=pretrain, frozen=frozen, warm_start=warm_start,
            checkpoint=checkpoint, device=device, random_state=random_state, progress=progress,
        )  # fmt: skip
        self.beta, self.adversarial, self.mixture = beta, adversarial, mixture

    def sample(self, n: int = 1, *, prior: bool = False, random_state: Any = None) -> Floats:
        """``[n, features]`` drawn from the mixture, or with `prior` from N(0, 1)."""
        check_is_fitted(self, "network_")
        draws = check_random_state(random_state)
        if prior:
            return self.inverse_transform(draws.standard_normal((n, self.latent)))
        which = draws.choice(len(self.mixture_weights_), n, p=self.mixture_weights_)
        normal = draws.standard_normal((n, self.latent))
        turned = np.einsum("nij,nj->ni", self.mixture_roots_[which], normal)
        return self.inverse_transform(self.mixture_means_[which] + turned)

    def interpolate(self, a: Any, b: Any, steps: int = 8) -> Floats:
        """``[steps, features]``: decoded from the straight line between the codes of two samples ``[features]``."""
        codes = self.transform(np.stack([a, b]))
        t = np.linspace(0, 1, steps)[:, None]
        return self.inverse_transform((1 - t) * codes[0] + t * codes[1])

    def _recipe(self) -> training.Recipe:
        recipe = super()._recipe()
        recipe.beta, recipe.adversarial = self.beta, self.adversarial
        return recipe

    def _describe(self, data: Floats) -> None:
        codes = self._encode(data).astype(np.float64)
        parts = max(min(self.mixture, len(codes) // (2 * self.latent)), 1)
        found = GaussianMixture(parts, reg_covar=1e-3, random_state=0).fit(codes)
        self.mixture_weights_, self.mixture_means_ = found.weights_, found.means_
        self.mixture_roots_ = np.linalg.cholesky(found.covariances_)

    def _extras(self) -> dict[str, npt.NDArray[Any]]:
        return {name: getattr(self, f"mixture_{name}_") for name in ("weights", "means", "roots")}

    def _restore(self, extras: dict[str, npt.NDArray[Any]]) -> None:
        for name in ("weights", "means", "roots"):
            setattr(self, f"mixture_{name}_", extras[name])


def load(path: str | Path, device: str = "cpu") -> Autoencoder:
    """The model of a saved file. Raises ValueError for what is none, damaged, or of another version, and OSError."""
    data = files.read(Path(path))
    try:
        length = int.from_bytes(data[:8], "little")
        head = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["aecodec.autoencoder"])
        version = head["version"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is not a saved autoencoder") from None
    if version != VERSION:
        raise ValueError(f"{path} is a saved autoencoder of version {version}; this release reads {VERSION}")
    try:
        tensors = load_tensors(data)
        kind = {"Autoencoder": Autoencoder, "VariationalAutoencoder": VariationalAutoencoder}[head["kind"]]
        model: Autoencoder = kind(**head["settings"], device=device)
        features = len(tensors["mean"])
        model.network_ = model._build(features, head["bounded"])
        extras = {name[1:]: tensors.pop(name).numpy() for name in list(tensors) if name.startswith("+")}
        model._restore(extras)
        model.network_.load_state_dict(tensors)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, AssertionError):
        raise ValueError(f"{path} is a damaged autoencoder") from None
    model.network_.to(device).eval()
    model.n_features_in_, model._n_features_out = features, model.latent
    return model
