"""`aecodec ae`: it parses, calls `uses` and prints. Each command writes a picture and its result, as JSON."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..errors import TorchMissing
from .running import or_exit

if TYPE_CHECKING:
    from ..autoencoders.estimators import Autoencoder

ae_app = typer.Typer(
    help="Autoencoders for small pictures and vectors (needs the extra [autoencoders]).",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Source = Annotated[str, typer.Argument(metavar="DATA", help="A folder, .npy, .npz, .csv or idx file, or digits.")]
Model = Annotated[Path, typer.Argument(help="A model of `aecodec ae train`.", exists=True, dir_okay=False)]
Out = Annotated[Path, typer.Option("-o", "--out", help="The PNG to write; the result lies beside it as .json.")]
Labels = Annotated[Path | None, typer.Option(help="Labels of the samples, .npy or .csv.", exists=True)]
Seed = Annotated[int, typer.Option(min=0, help="Of all random numbers.")]
Network = Annotated[Literal["dense", "convolutional"], typer.Option(help="Of which kind; the latter for pictures.")]
Hidden = Annotated[str, typer.Option(help="Widths of dense hidden layers; empty for a linear model.")]
Epochs = Annotated[int, typer.Option(min=1, help="Passes over the data.")]


def _run(work: Callable[[], Any]) -> Any:
    """Call; errors and warnings become lines, and what is not installed is named."""

    def call() -> Any:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            try:
                return work()
            except ModuleNotFoundError as error:
                if error.name not in {"torch", "sklearn", "matplotlib"}:
                    raise
                raise TorchMissing(f"aecodec ae needs {error.name}: pip install 'aecodec[autoencoders]'") from None
            finally:
                for warning in caught:
                    if issubclass(warning.category, UserWarning):
                        typer.echo(f"aecodec: {warning.message}", err=True)

    return or_exit(call)


def _write(result: dict[str, Any], out: Path) -> None:
    from .. import files

    files.write(out.with_suffix(".json"), (json.dumps(result, indent=1) + "\n").encode())
    shown = {k: v for k, v in result.items() if isinstance(v, int | float | str)}
    typer.echo(", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in shown.items()))


def _widths(hidden: str) -> list[int]:
    try:
        return [int(word) for word in hidden.split(",") if word.strip()]
    except ValueError:
        raise ValueError(f"hidden has to be widths such as 256,128, not {hidden!r}") from None


def _with_model(model: Path, use: "Callable[[Autoencoder], dict[str, Any]]", out: Path) -> None:
    def work() -> None:
        from ..autoencoders.estimators import load

        _write(use(load(model)), out)

    _run(work)


@ae_app.command()
def train(
    data: Source,
    out: Annotated[Path, typer.Option("-o", "--out", help="The .safetensors file; its losses lie beside it, .png.")],
    latent: Annotated[int, typer.Option(min=1, help="Dimensions of the code.")] = 8,
    hidden: Hidden = "256,128",
    network: Network = "dense",
    variational: Annotated[bool, typer.Option("--variational", help="A variational one, which makes samples.")] = False,
    adversarial: Annotated[
        bool, typer.Option("--adversarial", help="VAE-GAN: with a discriminator beside it.")
    ] = False,
    beta: Annotated[float, typer.Option(min=0, help="Weight of a variational one's KL term.")] = 1.0,
    loss: Annotated[
        Literal["mse", "bce", "wavelet", "ms_ssim", "ssimulacra2"] | None,
        typer.Option(help="mse unless told, bce for variational ones."),
    ] = None,
    noise: Annotated[float, typer.Option(min=0, help="Standard deviation of noise on the input.")] = 0.0,
    masking: Annotated[float, typer.Option(min=0, help="Share of the input's features that is masked.")] = 0.0,
    sparsity: Annotated[Literal["none", "l1", "kl"], typer.Option(help="Of the code.")] = "none",
    dropout: Annotated[float, typer.Option(min=0, help="Share of hidden units that is left out.")] = 0.0,
    tied: Annotated[bool, typer.Option("--tied", help="The decoder's weights are the encoder's.")] = False,
    epochs: Epochs = 200,
    validation: Annotated[float, typer.Option(min=0, help="Share of the data that is held out to stop early.")] = 0.0,
    patience: Annotated[int, typer.Option(min=1, help="Epochs without a gain before it stops.")] = 20,
    checkpoint: Annotated[Path | None, typer.Option(help="A file to resume from, written every ten epochs.")] = None,
    device: Annotated[str, typer.Option(help="Of torch: cpu, cuda.")] = "cpu",
    seed: Seed = 0,
) -> None:
    """Train a model."""

    def work() -> None:
        from rich.progress import Progress

        from ..autoencoders import data as data_module
        from ..autoencoders import uses
        from ..autoencoders.estimators import Autoencoder, VariationalAutoencoder

        if not variational and (adversarial or beta != 1.0):
            raise ValueError("adversarial and beta are for variational models: add --variational")
        if variational and (tied or sparsity != "none"):
            raise ValueError("tied and sparsity are for models that are not variational")
        samples = data_module.load(data)
        with Progress(transient=True) as bar:
            task = bar.add_task("training", total=epochs)
            settings: dict[str, Any] = {
                "network": network, "noise": noise, "masking": masking, "dropout": dropout, "epochs": epochs,
                "validation": validation, "patience": patience, "checkpoint": checkpoint, "device": device,
                "random_state": seed, "shape": samples.shape,
                "progress": lambda done, *_: bar.update(task, completed=done),
            }  # fmt: skip
            if loss:
                settings["loss"] = loss
            if variational:
                model: Autoencoder = VariationalAutoencoder(
                    latent, _widths(hidden), beta=beta, adversarial=adversarial, **settings
                )
            else:
                model = Autoencoder(latent, _widths(hidden), sparsity=sparsity, tied=tied, **settings)
            result = uses.train(model, samples, out.with_suffix(".png"))
        model.save(out)
        _write(result, out)

    _run(work)


@ae_app.command()
def reconstruct(model: Model, data: Source, out: Out) -> None:
    """Originals above their reconstructions."""
    from ..autoencoders.data import load

    _with_model(model, lambda m: _uses().reconstruct(m, load(data), out), out)


@ae_app.command()
def features(
    model: Model,
    data: Source,
    out: Annotated[Path, typer.Option("-o", "--out", help="The .npy file to write, [n, latent].")],
) -> None:
    """The codes, for classifiers."""

    def work() -> None:
        import io

        import numpy as np

        from .. import files
        from ..autoencoders.data import load
        from ..autoencoders.estimators import load as load_model

        codes = _uses().features(load_model(model), load(data))
        stream = io.BytesIO()
        np.save(stream, codes)
        files.write(out, stream.getvalue())
        _write({"samples": len(codes), "latent": codes.shape[1]}, out)

    _run(work)


@ae_app.command("map")
def map_command(model: Model, data: Source, out: Out, labels: Labels = None) -> None:
    """Codes in two dimensions, coloured by label."""
    from ..autoencoders.data import load

    _with_model(model, lambda m: _uses().map_codes(m, load(data, labels), out), out)


@ae_app.command()
def sample(
    model: Model,
    out: Out,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many.")] = 48,
    prior: Annotated[bool, typer.Option("--prior", help="From N(0, 1), not from where the training data lie.")] = False,
    seed: Seed = 0,
) -> None:
    """New samples of a variational model."""
    _with_model(model, lambda m: _uses().sample(m, count, prior, seed, out), out)


@ae_app.command()
def interpolate(
    model: Model,
    data: Source,
    out: Out,
    pair: Annotated[list[str] | None, typer.Option(help="Two samples' numbers, as 0,1; may be repeated.")] = None,
) -> None:
    """From one sample to another through the codes of a variational model."""

    def use(m: "Autoencoder") -> dict[str, Any]:
        from ..autoencoders.data import load

        pairs = [_widths(p) for p in pair or ["0,1", "2,3", "4,5", "6,7"]]
        if any(len(p) != 2 for p in pairs):
            raise ValueError("a pair has to be two numbers, such as 0,1")
        result: dict[str, Any] = _uses().interpolate(m, load(data), [(a, b) for a, b in pairs], out)
        return result

    _with_model(model, use, out)


@ae_app.command()
def denoise(
    model: Model,
    data: Source,
    out: Out,
    noise: Annotated[float, typer.Option(min=0, help="Add so much first, to measure; 0 for noisy data.")] = 0.0,
    seed: Seed = 0,
) -> None:
    """What a model trained with --noise makes of noisy data."""
    from ..autoencoders.data import load

    _with_model(model, lambda m: _uses().denoise(m, load(data), out, noise, seed), out)


@ae_app.command()
def anomalies(
    model: Model,
    data: Source,
    out: Out,
    normal: Annotated[str, typer.Option(help="Normal data, for the threshold, as DATA.")],
    quantile: Annotated[float, typer.Option(min=0, max=1, help="Of the normal data's errors.")] = 0.99,
    budget: Annotated[
        int | None, typer.Option(min=0, help="In place of it, false alarms among the normal data.")
    ] = None,
    labels: Labels = None,
) -> None:
    """Samples of an unusual reconstruction error; with labels (0 for normal), the ROC."""
    from ..autoencoders.data import load

    _with_model(model, lambda m: _uses().anomalies(m, load(normal), load(data, labels), quantile, budget, out), out)


@ae_app.command()
def compare(
    data: Source,
    out: Out,
    dimensions: Annotated[str, typer.Option(help="Of the latent codes.")] = "2,4,8,16",
    networks: Annotated[str, typer.Option(help="Of dense, convolutional, variational.")] = "dense",
    epochs: Epochs = 100,
    labels: Labels = None,
    seed: Seed = 0,
) -> None:
    """Models beside PCA: error, accuracy of a classifier on the features, time; how to choose the dimension."""

    def work() -> None:
        from ..autoencoders.data import load
        from ..autoencoders.estimators import Autoencoder, VariationalAutoencoder

        samples = load(data, labels)
        rest: dict[str, Any] = {"epochs": epochs, "random_state": seed, "shape": samples.shape}
        makers: dict[str, Callable[[], Autoencoder]] = {
            "dense": lambda: Autoencoder(**rest),
            "convolutional": lambda: Autoencoder(network="convolutional", **rest),
            "variational": lambda: VariationalAutoencoder(loss="mse", beta=0.1, **rest),
        }
        names = networks.split(",")
        if unknown := [name for name in names if name not in makers]:
            raise ValueError(f"networks has to be some of {', '.join(makers)}, not {unknown[0]!r}")
        sizes = _widths(dimensions)
        if not sizes or min(sizes) < 1:
            raise ValueError(f"dimensions has to be numbers from 1, such as 2,4,8, not {dimensions!r}")
        result = _uses().compare({name: makers[name]() for name in names}, samples, sizes, seed, out)
        for row in result["rows"]:
            typer.echo("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
        _write(result, out)

    _run(work)


def _uses() -> Any:
    from ..autoencoders import uses

    return uses
