"""The commands that turn pictures into files and back."""

import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .. import container
from .cluster import Address, Engine, ShardSize, on_ray, plan, run_on_ray
from .options import Debug, Device, Jobs, MaxPixels, Out, Overwrite, Quiet, Recursive, Report, Skip, Weights, as_out
from .running import check_existing, load_codec, or_exit, run, wrong_usage

if TYPE_CHECKING:
    from ..arguments import Progress
    from ..batch import Done
    from ..planning import Job


def compress(
    images: Annotated[
        list[str],
        typer.Argument(
            parser=as_out, help="Images or folders, or - for standard input; or an image and the .aec file to write."
        ),
    ],
    out: Out = None,
    quality: Annotated[
        int | None,
        typer.Option(
            "-q", "--quality", min=0, max=100, help=f"0 smallest, 100 best; {container.DEFAULT_QUALITY} unless told."
        ),
    ] = None,
    target_bytes: Annotated[
        int | None, typer.Option(min=1, max=10**11, help="The best file of at most so many bytes.")
    ] = None,
    target_bpp: Annotated[
        float | None, typer.Option(min=0, max=1e3, help="The best file of at most so many bits a pixel.")
    ] = None,
    target_psnr: Annotated[
        float | None, typer.Option(min=0, max=1e3, help="The smallest file of at least so many dB.")
    ] = None,
    target_ssimulacra2: Annotated[
        float | None,
        typer.Option(
            max=100, help="The smallest file of at least such a score of SSIMULACRA 2: 90 visually lossless, 70 high."
        ),
    ] = None,
    regions: Annotated[
        list[str] | None,
        typer.Option(
            "--roi",
            help="Region of interest, x,y,width,height:+20 or mask.png:+20: what to add to the quality there. Tiles of "
            "128 pixels take the largest number in them.",
        ),
    ] = None,
    effort: Annotated[
        int,
        typer.Option(min=0, max=9, help="Time to spend on a better file for its size: 0 none, 9 three thousand steps."),
    ] = 0,
    thumbnail: Annotated[
        bool,
        typer.Option("--thumbnail", help="Store a small copy too, for a fast --scale 1/8: about 5 kB a megapixel."),
    ] = False,
    strip: Annotated[
        bool, typer.Option("--strip", help="Leave out EXIF and XMP, where cameras and places are named.")
    ] = False,
    delete_source: Annotated[
        bool,
        typer.Option(
            "--delete-source",
            help="Remove each image once its file is on the disk and decodes, unless something was left out of it.",
        ),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Write nothing where a target cannot be met, in place of the nearest file.")
    ] = False,
    device: Device = "auto",
    weights: Weights = None,
    max_pixels: MaxPixels = container.MAX_PIXELS,
    overwrite: Overwrite = False,
    skip_existing: Skip = False,
    recursive: Recursive = False,
    jobs: Jobs = 1,
    engine: Engine = "threads",
    address: Address = None,
    shards: ShardSize = None,
    shard_format: Annotated[
        Literal["tar", "parquet"], typer.Option(help="Of --shards: tars as WebDataset has them, or Parquet.")
    ] = "tar",
    report: Report = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Compress images to .aec files."""
    from .. import files, planning, roi, targets
    from ..work import Compression

    goals: dict[str, float | None] = {
        "size": target_bytes,
        "bpp": target_bpp,
        "psnr": target_psnr,
        "ssimulacra2": target_ssimulacra2,
    }
    if sum(goal is not None for goal in (quality, *goals.values())) > 1:
        wrong_usage("give --quality or one of the options that begin with --target")
    target = or_exit(targets.one_target, goals) if set(goals.values()) != {None} else None
    if strict and not target:
        wrong_usage("--strict goes with one of the options that begin with --target")
    check_existing(overwrite, skip_existing)
    distributed = on_ray(engine, address, jobs, recursive, bool(out), delete_source=delete_source)
    if shards and not distributed:
        wrong_usage("--shards goes with --engine ray")
    suffixes, sources = files.image_suffixes(), [] if distributed else [Path(text) for text in images]
    planned, left = or_exit(planning.plan, sources, out, recursive, suffixes, ".aec") if sources else ([], [])
    streams = [path for job in planned for path in (job.source, job.target) if files.is_stream(path)]
    if delete_source and streams:
        wrong_usage(f"--delete-source goes with files, not with {streams[0]}")
    codec = load_codec(device, weights, max_pixels, needs_torch="an effort" if effort else "")
    chosen = container.DEFAULT_QUALITY if quality is None else quality
    places = [or_exit(roi.Region.parse, text) for text in regions or []]
    masks = {os.path.realpath(region.place) for region in places if isinstance(region.place, Path)}
    if delete_source and any(os.path.realpath(job.source) in masks for job in planned):
        wrong_usage("--delete-source would remove a mask of --roi")

    compression = Compression(codec, chosen, target, places, effort, thumbnail, strip, strict)
    if distributed:
        to_shards = (shards, shard_format) if shards else None
        to_do = plan(compression, images, out, suffixes, ".aec", to_shards, overwrite)
        run_on_ray(to_do, address, jobs, device, report, quiet)

    def work(job: "Job", advance: "Progress") -> "Done":
        data = files.read(job.source)
        before, digest = len(data), files.digest(data) if delete_source else b""
        picture = compression.open(data)
        del data  # large pictures leave no room to spare
        coded, done = compression.encode(picture, before, advance)
        files.write(job.target, coded, job.source)
        if delete_source and not done.missed:
            if not done.lost:  # nothing goes that was not kept
                files.delete_source(job.source, job.target, digest, coded, codec.verify)
            done = replace(done, text=f"{done.text}  source {'stays' if done.lost else 'deleted'}")
        return done

    def differs(target: Path) -> str:
        return compression.differs(lambda: target.open("rb"))

    run(planned, work, overwrite, skip_existing, recursive, jobs, report, differs, left, slow=effort > 0, quiet=quiet)


def decompress(
    paths: Annotated[
        list[str],
        typer.Argument(
            parser=as_out, metavar="FILES", help=".aec files or folders, or -; or an .aec file and the image to write."
        ),
    ],
    out: Out = None,
    output_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="png, jpg, webp, avif, tif, jp2, bmp or ppm, where no file name tells; png unless told.",
        ),
    ] = None,
    output_quality: Annotated[
        int | None,
        typer.Option(min=1, max=100, help="Quality of jpg, webp and avif; unless told 95, and for webp lossless."),
    ] = None,
    small: Annotated[bool, typer.Option("--small", help="Smaller PNG files, which take longer to write.")] = False,
    region: Annotated[
        str | None, typer.Option(metavar="X,Y,WIDTH,HEIGHT", help="Decode these pixels only, in less time.")
    ] = None,
    scale: Annotated[
        Literal["1", "1/2", "1/4", "1/8"], typer.Option(help="Decode a smaller picture, in less time.")
    ] = "1",
    preview: Annotated[
        int | None, typer.Option(min=1, metavar="BYTES", help="Decode what the first so many bytes of a file hold.")
    ] = None,
    salvage: Annotated[
        bool,
        typer.Option(
            "--salvage",
            help="Decode what there is of a damaged file whose header is whole, and fill the rest from around it.",
        ),
    ] = False,
    device: Device = "auto",
    weights: Weights = None,
    max_pixels: MaxPixels = container.MAX_PIXELS,
    overwrite: Overwrite = False,
    skip_existing: Skip = False,
    recursive: Recursive = False,
    jobs: Jobs = 1,
    engine: Engine = "threads",
    address: Address = None,
    report: Report = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Decompress .aec files to PNG, or to what --format or the suffix of --out says."""
    from .. import files, formats, planning
    from ..work import Decompression

    asked = or_exit(formats.suffix_of, output_format) if output_format is not None else None
    suffix = asked or ".png"
    check_existing(overwrite, skip_existing)
    distributed = on_ray(engine, address, jobs, recursive, bool(out), preview=preview)
    sources = [] if distributed else [Path(text) for text in paths]
    planned, _ = or_exit(planning.plan, sources, out, recursive, {".aec"}, suffix) if sources else ([], [])
    names = {job: or_exit(formats.image_format, job.target, asked) for job in planned}
    for name in sorted({*names.values()} or {formats.FORMATS[suffix]}):
        or_exit(formats.check_writable, name, output_quality)
    box = or_exit(_rectangle, region) if region is not None else None
    codec = load_codec(device, weights, max_pixels)

    decompression = Decompression(
        codec, asked, output_quality, small, box, float(Fraction(scale)), preview is not None, salvage
    )
    if distributed:
        run_on_ray(
            plan(decompression, paths, out, {".aec"}, suffix, None, overwrite), address, jobs, device, report, quiet
        )

    def work(job: "Job", _: "Progress") -> "Done":
        encoded, done = decompression(files.read(job.source, preview), str(job.target))
        files.write(job.target, encoded, job.source)
        return done

    run(planned, work, overwrite, skip_existing, recursive, jobs, report, quiet=quiet)


def _rectangle(text: str) -> tuple[int, int, int, int]:
    """``x,y,width,height``. Raises ValueError.

    >>> _rectangle("10,20,300,200")
    (10, 20, 300, 200)
    """
    numbers = text.split(",")
    if len(numbers) != 4 or not all(n.isascii() and n.isdigit() for n in numbers):
        raise ValueError(f"region {text}: expected x,y,width,height")
    x, y, width, height = map(int, numbers)
    return x, y, width, height
