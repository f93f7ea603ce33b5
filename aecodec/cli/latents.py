"""The commands that use the codec's model as an autoencoder: its latents, its prior, and what it keeps."""

import io
import json
import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import container
from .options import Debug, Device, Jobs, MaxPixels, Out, Overwrite, Quiet, Recursive, Report, Skip, Weights, as_path
from .running import load_codec, or_exit, run, say_error, wrong_usage

if TYPE_CHECKING:
    from ..arguments import Progress
    from ..batch import Done
    from ..image import Picture
    from ..planning import Job

Images = Annotated[list[Path], typer.Argument(parser=as_path, help="Images or folders, or - for standard input.")]
Quality = Annotated[int, typer.Option("-q", "--quality", min=0, max=100, help="0 smallest, 100 best.")]


def features(
    images: Images,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", parser=as_path, metavar="PATH", help="The .npz file for names and features."),
    ] = None,
    nearest: Annotated[
        Path | None,
        typer.Option(
            "--nearest", parser=as_path, metavar="FOLDER", help="Print the most similar pictures in a folder, as JSON."
        ),
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=10**6, help="How many of them.")] = 5,
    device: Device = "auto",
    weights: Weights = None,
    max_pixels: MaxPixels = container.MAX_PIXELS,
    overwrite: Overwrite = False,
    recursive: Recursive = False,
    debug: Debug = False,
) -> None:
    """Pooled latents of pictures: an array for classifiers, or the nearest pictures of a folder."""
    import numpy as np

    from .. import features as module
    from .. import files
    from ..batch import common_code

    if not out and not nearest:
        wrong_usage("give --out for the features, or --nearest for similar pictures, or both")
    if out and out.suffix != ".npz":
        wrong_usage(f"{out}: expected the name of an .npz file")
    if out and out.exists() and not overwrite:
        wrong_usage(f"{out} exists; add --overwrite")
    codes: list[int] = []
    sources = _pictures(images, recursive, max_pixels, codes)
    candidates = _pictures([nearest], True, max_pixels, codes) if nearest else iter(())
    codec = load_codec(device, weights, max_pixels)
    own = {str(path): module.features(codec, picture) for path, picture in sources}
    if own and out:
        buffer = io.BytesIO()
        np.savez(buffer, names=np.array([*own]), features=np.stack([*own.values()]))
        or_exit(files.write, out, buffer.getvalue())
    if own and nearest:
        others = {str(path): module.features(codec, picture) for path, picture in candidates}
        names = [*others]
        if not others:
            wrong_usage(f"{nearest}: none of the pictures can be read")
        for name, row in own.items():
            found = module.nearest(row, np.stack([*others.values()]), count)
            similar = [{"file": names[i], "distance": round(distance, 4)} for i, distance in found]
            print(json.dumps({"file": name, "nearest": similar}))
    raise typer.Exit(common_code([*codes, *[0] * len(own)]))


def anomalies(
    images: Images,
    normal: Annotated[
        Path, typer.Option(parser=as_path, metavar="FOLDER", help="A folder of normal pictures, of the same kind.")
    ],
    out: Annotated[
        str | None,
        typer.Option("-o", "--out", metavar="PATH", help="PNG or folder for the heat maps; none unless told."),
    ] = None,
    quantile: Annotated[
        float, typer.Option(min=0, max=1, help="The share of the blocks of normal pictures below the threshold.")
    ] = 0.99,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the lines of --report, with every block's score, to standard output.")
    ] = False,
    device: Device = "auto",
    weights: Weights = None,
    max_pixels: MaxPixels = container.MAX_PIXELS,
    overwrite: Overwrite = False,
    skip_existing: Skip = False,
    recursive: Recursive = False,
    jobs: Jobs = 1,
    report: Report = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Find what is not as in normal pictures, by blocks of 16x16 pixels: scores, and heat maps with --out."""
    from .. import anomalies as module
    from .. import files, formats, image, planning
    from ..batch import Done

    if out:
        planned, left = or_exit(planning.plan, images, out, recursive, files.image_suffixes(), ".png")
        for job in planned:
            or_exit(formats.image_format, job.target, ".png")
    else:
        found, left = or_exit(planning.expand, images, recursive, files.image_suffixes())
        planned = [planning.Job(path, files.STANDARD) for path, _ in found]
    if as_json and out == "-":
        wrong_usage("--json and a heat map on standard output exclude each other")
    pictures = _pictures([normal], True, max_pixels, [])
    codec = load_codec(device, weights, max_pixels)
    detector = or_exit(module.fit, codec, (picture for _, picture in pictures), quantile)

    def work(job: "Job", _: "Progress") -> "Done":
        data = files.read(job.source)
        picture = files.open_picture(data, max_pixels)
        scores, written = detector.scores(picture), b""
        if out:
            shown = module.heat_map(image.plane(picture.pixels), scores, detector.threshold)
            turned = {key: value for key, value in picture.metadata.items() if key == "exif"}
            written, _notes = formats.encode_picture(image.to_pil(image.Picture(shown, metadata=turned)), "PNG")
            files.write(job.target, written, job.source)
        above = int((scores > detector.threshold).sum())
        text = f"score {scores.max():.2f}, threshold {detector.threshold:.2f}, {above} of {scores.size} blocks above"
        told = {"score": float(scores.max()), "threshold": detector.threshold, "blocks_above": above}
        height, width, _channels = picture.pixels.shape
        rows = [[round(score, 3) for score in row] for row in scores.tolist()]
        return Done(len(data), len(written), width, height, text, reached={**told, "scores": rows})

    stream = sys.stdout if out != "-" else None
    run(
        planned,
        work,
        overwrite,
        skip_existing,
        recursive,
        jobs,
        report,
        left=left,
        stream=stream,
        quiet=quiet,
        as_json=as_json,
    )


def sample(
    out: Annotated[str, typer.Option("-o", "--out", metavar="PATH", help="The image to write, or - for a PNG.")],
    size: Annotated[str, typer.Option(metavar="WIDTHxHEIGHT", help="In pixels.")] = "256x256",
    quality: Quality = container.DEFAULT_QUALITY,
    seed: Annotated[int, typer.Option(min=0, help="Of the random numbers: another one, another picture.")] = 0,
    device: Device = "auto",
    weights: Weights = None,
    max_pixels: MaxPixels = container.MAX_PIXELS,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Draw a picture from the prior: what the model takes for likely."""
    from .. import files, formats, sampling

    sides = re.fullmatch(r"(\d{1,6})x(\d{1,6})", size, re.ASCII)
    if not sides:
        wrong_usage(f"--size {size}: expected WIDTHxHEIGHT, 256x256 for instance")
    target = Path(out)
    name = or_exit(formats.image_format, target)
    or_exit(formats.check_writable, name)
    if target != files.STANDARD and target.exists() and not overwrite:
        wrong_usage(f"{target} exists; add --overwrite")
    codec = load_codec(device, weights, max_pixels)
    width, height = map(int, sides.groups())
    picture = or_exit(partial(sampling.sample, codec, width, height, quality=quality, seed=seed))
    encoded, _ = or_exit(formats.encode_picture, picture, name)
    or_exit(files.write, target, encoded)


def denoise(
    images: Annotated[
        list[Path], typer.Argument(parser=as_path, help="Images or folders, or -; or an image and the one to write.")
    ],
    weights: Annotated[
        str, typer.Option("--weights", help="Weights of `train --noise`: installed ones by name, or a file.")
    ],
    out: Out = None,
    quality: Quality = 100,
    device: Device = "auto",
    max_pixels: MaxPixels = container.MAX_PIXELS,
    overwrite: Overwrite = False,
    skip_existing: Skip = False,
    recursive: Recursive = False,
    jobs: Jobs = 1,
    report: Report = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Remove noise from pictures, by weights that were trained with noise."""
    from .. import denoising, files, formats, planning
    from ..batch import Done

    planned, left = or_exit(planning.plan, images, out, recursive, files.image_suffixes(), ".denoised.png")
    names = {job: or_exit(formats.image_format, job.target) for job in planned}
    for name in sorted({*names.values()}):
        or_exit(formats.check_writable, name)
    codec = load_codec(device, weights, max_pixels)
    if said := denoising.caveat(codec):
        print(f"{weights}: {said}", file=sys.stderr)

    def work(job: "Job", _: "Progress") -> "Done":
        data = files.read(job.source)
        picture = files.open_picture(data, max_pixels)
        image, changed = formats.fit(denoising.reconstruct(codec, picture, quality), names[job])
        encoded, left_out = formats.encode_picture(image, names[job])
        files.write(job.target, encoded, job.source)
        notes = [*picture.notes, *changed, *left_out]
        text = "".join([f"{image.width}x{image.height} {image.mode}", *(f"  ({note})" for note in notes)])
        return Done(len(data), len(encoded), image.width, image.height, text, notes)

    run(planned, work, overwrite, skip_existing, recursive, jobs, report, left=left, quiet=quiet)


def _pictures(
    sources: list[Path], recursive: bool, max_pixels: int, codes: list[int]
) -> "Iterator[tuple[Path, Picture]]":
    """The pictures that are meant; of those that cannot be read, an error is printed and its code added."""
    from .. import files, planning
    from ..batch import exit_code, explain

    found, left = or_exit(planning.expand, sources, recursive, files.image_suffixes())

    def opened() -> "Iterator[tuple[Path, Picture]]":
        for line in left:
            print(line, file=sys.stderr)
        for path, _ in found:
            try:
                picture = files.open_picture(files.read(path), max_pixels)
            except Exception as error:
                say_error(error, explain(path, error))
                codes.append(exit_code(error))
            else:
                yield path, picture

    return opened()
