"""The model card: what was trained, on what, for how long, and what came out."""

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..codec import Codec
from ..files import write
from ..model.rate import LAMBDA_MAX, LAMBDA_MIN
from ..objective import MS_SSIM_SCALE, OBJECTIVES, SSIMULACRA2_SCALE
from .data import check_apart, check_readable, find_images
from .export import export, load_network
from .measure import LEAST_SIDE, fitted_tables_cost, fixed_point_cost, measure
from .network import Network

METRIC_NAMES = {"eye": "SSIMULACRA 2", "psnr": "PSNR", "ms-ssim": "MS-SSIM"}
FIT_IMAGES = 400  # of the training images: enough symbols for every table


def export_with_card(checkpoint: Path, out: Path, data: list[Path], valid: Path, force: bool = False) -> None:
    """Write the weights file ``out`` and, beside it, its card.

    Weights that are there already are replaced, unless ``force`` is given, only by ones that cost more at no quality.
    Raises ValueError where they are not, and for a folder without images.
    """
    if out.suffix != ".safetensors" or out.is_dir():
        raise ValueError(f"{out}: expected the name of a .safetensors file")
    files, valid_files = find_images(data, 64)[0], find_images([valid], LEAST_SIDE)[0]
    if not files or not valid_files:
        raise ValueError("no images to fit the tables on or to measure with")
    check_apart(files, valid_files)
    check_readable(valid_files)
    network, state = load_network(checkpoint)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".") as scratch:
        weights = Path(scratch) / out.name
        objective, noise = state["recipe"]["objective"], state["recipe"]["noise"]
        identity = export(network, weights, files[:: -(-len(files) // FIT_IMAGES)], objective, noise)
        codec = Codec(device="cpu", weights=weights)
        points = measure(codec, valid_files, objective)
        if out.exists() and not force:
            before = Codec(device="cpu", weights=out)
            if not np.array_equal(before.model.lagrangian, codec.model.lagrangian):
                raise ValueError(f"{out} stays, since its qualities stand for other λ; replace it with --force")
            _check_better(points, measure(before, valid_files, objective), out)
        card = _card(out.stem, identity, network, codec, state, points, valid_files)
        write(out.with_suffix(".md"), card.encode())  # first: weights without a card are of unknown origin
        weights.replace(out)
    print(f"{out}: model {identity}")


def _card(
    name: str,
    identity: str,
    network: Network,
    codec: Codec,
    state: dict[str, Any],
    points: dict[str, Any],
    valid_files: list[Path],
) -> str:
    objective = state["recipe"]["objective"]
    columns = (points[name] for name in ("quality", "bpp", "psnr", "ssimulacra2", "cost", "disk_over_estimate"))
    rows = [
        f"| {q} | {r:.3f} | {psnr:.2f} | {score:.2f} | {cost:.4f} | {ratio:.4f} |"
        for q, r, psnr, score, cost, ratio in zip(*columns, strict=True)
    ]
    table = "\n".join(rows)
    parts = ("analysis", "hyper_analysis", "prior", "synthesis")
    counts = {part: sum(p.numel() for p in network.get_submodule(part).parameters()) for part in parts}
    sizes = ", ".join(f"{part} {count:,}" for part, count in counts.items())
    return f"""# Model card: {name}

| | |
|---|---|
| model id | `{identity}` |
| design | {", ".join(f"{k} {v}" for k, v in asdict(network.design).items())} |
| parameters | {sizes} |
| objective | {objective}: bpp + λ·({_mix(objective)}) on RGB, λ from {LAMBDA_MIN} to {LAMBDA_MAX} |
| started from | {_origin(state["origin"])} |
| training | {state["step"]:,} steps in {state["seconds"] / 3600:.2f} hours; {_recipe(state["recipe"])} |
| training data | {state["images"]} images |
| fixed-point prior | {fixed_point_cost(network, codec, valid_files):.5f} times the rate of the float prior |
| fitted tables | {fitted_tables_cost(network, codec, valid_files):.4f} times the rate of Gaussian ones |
| BD-rate against JPEG (4:2:0, optimised) | {_percent(points["bd_rate"])}; {METRIC_NAMES[objective]}, same images |

Measured on the {len(valid_files)} validation images, none of them used for training; real files, decoded 8-bit RGB,
means over images:

| quality | bpp | PSNR (dB) | SSIMULACRA 2 | cost (bpp + λ·distortion) | bits on disk / bits estimated |
|---|---|---|---|---|---|
{table}
"""


def _mix(objective: str) -> str:
    names = ("255²·MSE", f"{MS_SSIM_SCALE:g}·(1 - MS-SSIM)", f"{SSIMULACRA2_SCALE:g}·SSIMULACRA 2's sum of errors")
    return " + ".join(f"{share:g}·{name}" for share, name in zip(OBJECTIVES[objective], names, strict=True) if share)


def _check_better(new: dict[str, Any], old: dict[str, Any], out: Path) -> None:
    costs = list(zip(new["quality"], new["cost"], old["cost"], strict=True))
    for quality, ours, theirs in costs:
        print(f"quality {quality}: {ours / theirs:.4f} times the cost of {out}")
    worse = [quality for quality, ours, theirs in costs if ours > theirs]
    if worse:
        raise ValueError(f"{out} stays, since it is better at quality {', '.join(map(str, worse))}; take another --out")


def _percent(bd_rate: float | None) -> str:
    return "none, since the curves hardly overlap" if bd_rate is None else f"{bd_rate} %"


def _origin(model: str) -> str:
    return f"model `{model}`" if model else "the Karhunen-Loeve transform of training patches"


def _recipe(recipe: dict[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in recipe.items())
