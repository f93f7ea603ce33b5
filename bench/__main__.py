"""What the README's figures come from."""

import contextlib
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Annotated

import torch
import typer
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from aecodec import Codec
from aecodec.cli.process import unwinding_on_signals

from . import anomalies as anomalies_module
from . import autoencoders as autoencoders_module
from . import cluster as cluster_module
from . import codecs, images, measure, metrics, pictures, plot, text
from . import effort as effort_module
from . import everyday as everyday_module
from . import exactness as exactness_module
from . import figures as figures_module
from . import gallery as gallery_module
from . import macs as macs_module
from . import qualities as qualities_module
from . import rd as rd_module
from . import report as report_module
from . import screens as screens_module
from . import speed as speed_module
from .metrics import LABELS

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help=__doc__)

Data = Annotated[Path | None, typer.Option(help="A folder of images; photographs of scikit-image if not given.")]
Out = Annotated[Path | None, typer.Option(help="A folder for the results.")]

PICTURE_QUALITY = 10  # of JPEG in the README's picture: low enough for the eye to tell the codecs apart


@app.callback()
def _stop_on_request(context: typer.Context) -> None:
    context.with_resource(unwinding_on_signals())  # so that the workers stop too


@app.command()
def rd(
    data: Data = None,
    screens: Annotated[
        bool, typer.Option("--screens", help="Pages, charts and line art, drawn at first use, in place of --data.")
    ] = False,
    out: Out = None,
    slow: Annotated[
        bool, typer.Option("--slow", help="All codecs, at their best, and all metrics; minutes an image.")
    ] = False,
    metric: Annotated[
        list[metrics.Slow] | None, typer.Option(help="One that takes seconds an image; may be repeated.")
    ] = None,
    effort: Annotated[
        list[int] | None, typer.Option(min=1, max=9, help="Ours with this --effort as well; may be repeated.")
    ] = None,
    anchor: Annotated[
        str | None,
        typer.Option(help=f"What the BD-rates by range compare with: {codecs.AVIF_SLOW}, if not told otherwise."),
    ] = None,
) -> None:
    """Rate-distortion on real files, ours and the peers', with BD-rates, also by range of SSIMULACRA 2's scores.

    With --out: rd.json, rd.csv, a plot of each metric as SVG, and report.html, which shows it all and needs no
    network. What was measured is kept in a cache: a second run, or one that was stopped, computes only what is missing.
    """
    if screens and data:
        raise typer.BadParameter("--screens draws its own images: leave out --data")
    chosen, absent = _peers(slow, effort or [])
    against = _anchor(anchor, [c.name for c in chosen], absent)
    slow_metrics, not_measured = _slow_metrics(slow, metric or [])
    absent |= not_measured
    with _progress() as bar:
        if screens:
            data = _test_screens(bar)
        samples, skipped = _survey(data, bar)
        _make(out)
        task = bar.add_task("files", total=len(samples) * sum(len(c.qualities) for c in chosen))
        cache = measure.Cache(measure.default_cache())
        with _stoppable(bar):
            measured = measure.measure(samples, chosen, list(slow_metrics), cache, partial(_advance, bar, task))
            compared = _compared(samples, chosen, bar) if out else []
    found = rd_module.summarise(samples, skipped, chosen, absent, slow_metrics, against, measured)
    if out:
        rd_module.write(found, out)
        plots = {name: plot.rate_distortion(found, name) for name in found["bd_rate"]}
        for name in LABELS:
            path = out / f"rd-{name}.svg"
            if svg := plots.get(name):
                path.write_text(svg, "utf-8")
            else:
                path.unlink(missing_ok=True)  # of an earlier run
        page = report_module.write(found, plots, compared, out)
    text.print_rd(found)
    if out:
        print(page)


@app.command("autoencoders")
def autoencoders(out: Out = None) -> None:
    """The targets of autoencoders on scikit-learn's digits; with --out: targets.json and the guide's pictures."""
    _make(out)
    autoencoders_module.run(out)


@contextlib.contextmanager
def _stoppable(bar: Progress) -> Iterator[None]:
    """Around work in other processes: what is done is kept."""
    try:
        yield
    except BrokenProcessPool:
        bar.console.print("a worker was killed, most likely for want of memory; run again to go on", style="red")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        bar.console.print("stopped; run again to go on")
        raise typer.Exit(130) from None


def _compared(samples: Sequence[images.Sample], chosen: Sequence[codecs.Peer], bar: Progress) -> list[pictures.Picture]:
    """Pictures to look at, those that the cache has from there."""
    task = bar.add_task("pictures")

    def show(count: int, total: int) -> None:
        bar.update(task, total=total)
        _advance(bar, task, count)

    return pictures.compare(samples, chosen, measure.default_cache().with_name("pictures"), show)


def _peers(slow: bool, efforts: Sequence[int]) -> tuple[list[codecs.Peer], dict[str, str]]:
    """The codecs to measure, and why others are not."""
    present, absent = codecs.roster()
    asked = codecs.ALWAYS | (codecs.SLOW if slow else set()) | {codecs.EFFORTS[level] for level in efforts}
    if not slow:
        absent = dict.fromkeys(sorted(codecs.SLOW), "measured with --slow only") | absent
    return [c for c in present.values() if c.name in asked], absent


def _anchor(asked: str | None, names: Sequence[str], absent: Mapping[str, str]) -> str:
    """What BD-rates by range compare with."""
    if asked and asked not in names:
        why = absent.get(asked, f"not among what is measured: {'; '.join(names)}")
        raise typer.BadParameter(f"--anchor {asked}: {why}")
    return asked or (codecs.AVIF_SLOW if codecs.AVIF_SLOW in names else codecs.JPEG)


def _slow_metrics(slow: bool, asked: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The slow metrics to measure, with their versions, and why others are not."""
    there, gone = metrics.slow()
    if missing := [gone[name] for name in asked if name in gone]:
        raise typer.BadParameter("; ".join(missing))
    chosen = {name: number for name, number in there.items() if slow or name in asked}
    reasons = dict.fromkeys(there, "measured with --slow or --metric only") | gone
    return chosen, {metrics.SLOW[name]: why for name, why in reasons.items() if name not in chosen}


def _test_screens(bar: Progress) -> Path:
    """The folder of the test set, drawn now unless it was before."""
    folder = measure.default_cache().with_name(f"screens-{screens_module.digest()}")
    if not folder.exists():
        _draw(bar, folder, screens_module.TEST, 24, 1)
    return folder


@app.command()
def gallery(
    data: Data = None, out: Annotated[Path, typer.Option(help="The folder to fill.")] = Path("docs/gallery")
) -> None:
    """A small page of details of a few pictures: ours, AVIF and JPEG at the same rates, with their figures."""
    with _progress() as bar:
        samples, _ = _survey(data, bar)
        _make(out)
        present, absent = codecs.roster()
        with _stoppable(bar):
            compared = _compared(samples, [c for c in present.values() if c.name in gallery_module.SHOWN], bar)
    for picture, rate, name in product(compared, gallery_module.RATES, gallery_module.SHOWN):
        version = picture.versions[rate].get(name)
        print(f"{picture.name}, {rate} bpp, {name}: {version.caption() if version else 'no file so small'}")
    for name in gallery_module.SHOWN:
        if name in absent:
            print(f"absent: {name}: {absent[name]}")
    command = f"python -m bench gallery{' --data KODAK' if data else ''}"
    print(gallery_module.write(compared, Codec(device="cpu").model.id.hex(), command, out))


@app.command()
def qualities(
    data: Data = None,
    every: Annotated[int, typer.Option(min=1, max=50, help="How far apart our qualities are; 1 for all 101.")] = 10,
) -> None:
    """What each quality gives, which qualities of AVIF and JPEG XL look as good, and where a picture gets worse."""
    peers = qualities_module.measured(every)
    with _progress() as bar:
        samples, skipped = _survey(data, bar)
        task = bar.add_task("files", total=len(samples) * sum(len(c.qualities) for c in peers))
        cache = measure.Cache(measure.default_cache())
        with _stoppable(bar):
            found = measure.measure(samples, peers, [], cache, partial(_advance, bar, task))
    pixels = {s.name: s.width * s.height for s in samples}
    text.print_qualities(qualities_module.rows(found, peers, pixels), qualities_module.falls(found, peers[0]), skipped)


@app.command()
def compare(old: Path, new: Path) -> None:
    """What got better or worse between two rd.json files, and by how much."""
    try:
        runs = [rd_module.load(path) for path in (old, new)]
        print("\n".join(rd_module.compare(*runs)))
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None


@app.command()
def speed(data: Data = None, out: Out = None) -> None:
    """Encoding and decoding, ours and the peers' in turns: warm with 1 and 2 threads, and in new processes; memory.

    On the machine as it is, which should be idle, and again beside as many busy processes as there are processors. The
    image is the first one of the folder; it all takes some ten minutes. With --out: speed.json, which the next `rd`
    with the same folder puts into its report.
    """
    with _progress() as bar:
        large = [s for s in _survey(data, bar)[0] if min(s.width, s.height) >= speed_module.LEAST_SIDE]
        if not large:
            raise typer.BadParameter(f"no image has {speed_module.LEAST_SIDE} pixels a side")
        _make(out)
        sample = large[0]
        image, _ = images.read(sample.path)
        present, absent = codecs.roster()
        if why := speed_module.why_not_without_torch():
            absent = absent | {speed_module.WITHOUT_TORCH: why}
        found: speed_module.Results = {
            "kind": speed_module.KIND,
            "model": Codec(device="cpu").model.id.hex(),
            "machine": speed_module.machine(),
            "image": f"{sample.name}, {image.width}x{image.height}",
            "versions": {name: peer.version for name, peer in present.items()},
            "absent": absent,
            "memory": {},
        }
        counts = [n for n in speed_module.THREADS if n <= measure.cores()]
        task = bar.add_task("", total=len(speed_module.STATES) * (len(counts) + 1) + len(speed_module.MEGAPIXELS))

        def begin(what: str) -> None:
            bar.update(task, description=what)
            if bar.disable:
                print(what, file=sys.stderr)

        for state in speed_module.STATES:
            found[state] = {"codecs": {}}
            with speed_module.busy(measure.cores() if state == "busy" else 0):
                for threads in counts:
                    begin(f"{state}: codecs, {threads} thread(s)")
                    found[state]["codecs"][str(threads)] = speed_module.codec_speed(sample.path, threads)
                    bar.advance(task)
                begin(f"{state}: new processes")
                found[state]["start_up"] = speed_module.start_up(sample.path)
                bar.advance(task)
        for megapixels in speed_module.MEGAPIXELS:
            begin(f"memory, {megapixels} MP")
            found["memory"][str(megapixels)] = speed_module.peak_memory(megapixels, image)
            bar.advance(task)
    if out:
        (out / "speed.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    text.print_speed(found)


@app.command()
def effort(
    data: Data = None,
    level: Annotated[list[int] | None, typer.Option(min=1, max=9, help="May be repeated; 1 to 5 unless told.")] = None,
    side: Annotated[int | None, typer.Option(min=64, help="The centre of each image alone, so many pixels.")] = None,
) -> None:
    """What the levels of --effort gain over plain rounding, and their time: five qualities of each image."""
    levels = sorted(set(level or range(1, 6)))
    with _progress() as bar:
        samples, _ = _survey(data, bar)
        pictures = [images.read(s.path)[0] for s in samples]
        if side:
            pictures = [images.centre(picture, side, side) for picture in pictures]
        task = bar.add_task("files", total=len(pictures) * len(codecs.EFFORT_QUALITIES) * (1 + len(levels)))
        rows = effort_module.measure(pictures, levels, lambda: bar.advance(task))
    print(f"{len(pictures)} image(s) on {speed_module.machine()}; a file of effort 0 takes {rows[0].seconds:.3f} s")
    for before, row in pairwise(rows):
        mean = statistics.fmean(row.bd_rates) if row.bd_rates else math.nan
        cost = f"dearer than effort {before.level}: {len(row.worse)} of {row.files}"
        worst = f", at most {100 * (max(row.worse) - 1):.2f} %" if row.worse else ""
        print(f"effort {row.level}: BD-rate {mean:+.2f} %, {row.times:.1f} times as long, {cost}{worst}")


@app.command()
def everyday(data: Data = None) -> None:
    """Opening in Pillow, regions and small versions of 24 megapixels, and folders of small files."""
    with _progress() as bar:
        samples, _ = _survey(data, bar)
        large = everyday_module.mosaic([images.read(s.path)[0] for s in samples])
        task = bar.add_task("", total=2)
        seconds = everyday_module.access(large)
        bar.advance(task)
        both = everyday_module.folders(large)
        bar.advance(task)
    print(f"{everyday_module.LARGE[0]}x{everyday_module.LARGE[1]} pixels on {speed_module.machine()}")
    for name, value in seconds.items():
        print(f"{name:27} {1000 * value:9.2f} ms  1/{seconds['whole'] / value:.1f} of the whole")
    count, jobs = everyday_module.COLUMNS * everyday_module.ROWS, everyday_module.JOBS
    for command in ("compress", "decompress"):
        small, few = both[f"{command} small"], both[f"{command} large"]
        print(
            f"{command} --jobs {jobs}: {count} files {small:.1f} s, their pixels in 4 {few:.1f} s, {small / few:.2f} x"
        )


@app.command()
def cluster(
    data: Data = None,
    count: Annotated[int, typer.Option(min=10, help="How many pictures to compress.")] = 2000,
    side: Annotated[int, typer.Option(min=1, max=256, help="Their sides in pixels.")] = 64,
    jobs: Annotated[int, typer.Option(min=1, help="How many at once.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="How often to compress them, in turns.")] = 3,
    engine: Annotated[list[str] | None, typer.Option(help="threads or ray, or both unless told.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="What else to tell Ray's runs, such as --option=--shards=10MB.")
    ] = None,
) -> None:
    """Small pictures by threads and by Ray (extra [ray]): start-up, pictures a second, memory of the first process."""
    runs: dict[str, list[cluster_module.Run]] = {name: [] for name in engine or ["threads", "ray"]}  # ray is the last
    with _progress() as bar, tempfile.TemporaryDirectory() as folder:
        samples, _ = _survey(data, bar)
        task = bar.add_task("", total=rounds * len(runs))
        cluster_module.fill(Path(folder, "in"), images.read(samples[0].path)[0], count, side)
        for turn, name in product(range(rounds), runs):
            told = ["--engine", name, "--jobs", str(jobs), *((option or []) if name == "ray" else [])]
            runs[name].append(cluster_module.compress(Path(folder, "in"), Path(folder, f"{name}{turn}"), count, *told))
            bar.advance(task)
        if "ray" in runs:
            again = cluster_module.compress(Path(folder, "in"), Path(folder, "ray0"), count, *told).rate
            listed = cluster_module.listing(Path(folder, "in"), count)
            written = cluster_module.writing(Path(folder, "shards"))
    print(f"{count} pictures of {side}x{side}, --jobs {jobs}, medians of {rounds} runs, on {speed_module.machine()}")
    for name, found in runs.items():
        start, rate = (statistics.median(getattr(run, part) for run in found) for part in ("start", "rate"))
        peaks = [run.peak / 1e6 for run in found if run.peak]
        memory = f"{statistics.median(peaks):.0f} MB" if peaks else "unknown"
        print(f"{name:8} {start:6.1f} s until the first, then {rate:6.1f} pictures a second; peak of memory {memory}")
    if len(runs) == 2:
        ratios = [ray.rate / threads.rate for threads, ray in zip(runs["threads"], runs["ray"], strict=True)]
        print(f"ray / threads, by turn: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
    if "ray" in runs:
        print(f"ray      skips {again:.0f} pictures a second that are done, lists {listed:.0f} and writes", end=" ")
        print(f"{written / 1e6:.0f} MB a second to a shard, each with one process")


@app.command()
def exactness(
    data: Data = None,
    keep: Annotated[Path | None, typer.Option(help="Write files and pictures here, an .npz.")] = None,
    against: Annotated[Path | None, typer.Option(help="Take files and pictures from here, kept elsewhere.")] = None,
) -> None:
    """Files of every image, decoded with other threads, instructions, windows and devices: what differs."""
    ways = exactness_module.ways()
    with _progress() as bar:
        if against:
            name, others = str(against), ways
            files, first = exactness_module.recall(against)
        else:
            name, others = ways[0].name, ways[1:]
            files = _files(data, bar)
            first = exactness_module.decode(files, ways[0])
        task, differences = bar.add_task("", total=len(others)), []
        for way in others:
            differences.append(exactness_module.difference(first, exactness_module.decode(files, way)))
            bar.advance(task)
    print(f"{len(files)} files on {speed_module.machine()}, torch {torch.__version__}; against {name}")
    for way, d in zip(others, differences, strict=True):
        print(
            f"{way.name:22} latents differ in {d.latents} files; pixels by at most {d.largest} of 255, "
            f"{1e6 * d.share:.2f} samples in a million"
        )
    if keep:
        exactness_module.keep(keep, files, first)


def _files(data: Path | None, bar: Progress) -> list[bytes]:
    """Every image in three qualities."""
    samples, _ = _survey(data, bar)
    codec, task, files = Codec(device="cpu"), bar.add_task("", total=len(samples)), []
    for sample in samples:
        picture, _ = images.read(sample.path)
        files += [codec.compress(picture, quality) for quality in (10, 60, 95)]
        bar.advance(task)
    return files


@app.command()
def screens(
    out: Annotated[Path, typer.Argument(help="The folder to draw into, a new one.")],
    test: Annotated[bool, typer.Option("--test", help="The set to measure, not the one to train with.")] = False,
    count: Annotated[int, typer.Option(min=4, help="Half of them pages, a quarter each charts and line art.")] = 160,
    seed: Annotated[int, typer.Option(help="Another seed gives other pictures.")] = 1,
) -> None:
    """Draw rendered pages, charts and line art as PNG, from Debian's packages and without the network.

    manifest.json beside them says what each was drawn from. Where a package is missing, the command that installs it is
    printed.
    """
    with _progress() as bar:
        _draw(bar, out, screens_module.TEST if test else screens_module.TRAINING, count, seed)


def _draw(bar: Progress, out: Path, sources: screens_module.Sources, count: int, seed: int) -> None:
    task = bar.add_task("drawing", total=count)
    try:
        screens_module.draw(out, sources, count, seed, lambda: bar.advance(task))
    except screens_module.ScreensError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    except OSError as error:
        raise typer.BadParameter(f"{out}: {error.strerror or error}") from None


@app.command()
def figures() -> None:
    """Write the tables of README and docs anew, from the results in docs/kodak."""
    try:
        changed = figures_module.write()
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None
    print("\n".join(str(page) for page in changed) or "nothing has changed")


@app.command()
def macs() -> None:
    """Multiply-accumulates per pixel and parameters of every part."""
    codec = Codec(device="cpu")
    sizes = macs_module.parameters(codec.model)
    for quality in (0, 100) if codec.model.entropy.has_fine(100) else (100,):
        parts = macs_module.count(codec, quality)
        fine = codec.model.entropy.has_fine(quality)
        if codec.model.design.fine:
            print(f"{'with' if fine else 'without'} fine latents, as at quality {quality}:")
        for part, kilo in parts.items():
            print(f"{part:16} {kilo:6.2f} kMAC/px {sizes[part]:10,} parameters")
        print(f"{'decoder':16} {parts['prior'] + parts['synthesis']:6.2f} kMAC/px")
        print(f"{'encoder':16} {sum(parts.values()) - parts['synthesis']:6.2f} kMAC/px")


@app.command()
def overhead(data: Data = None) -> None:
    """Bits on disk over the bits that the model's tables estimate."""
    from aecodec.training.measure import measure as measure_files

    with _progress() as bar:
        samples, _ = _survey(data, bar)
    found = measure_files(Codec(device="cpu"), [s.path for s in samples], "psnr")
    for quality, bpp, ratio in zip(found["quality"], found["bpp"], found["disk_over_estimate"], strict=True):
        print(f"quality {quality:3}: {bpp:.3f} bpp on disk, {ratio:.4f} times the estimate")


@app.command()
def anomalies(
    data: Annotated[Path, typer.Option(help="A folder of photographs of one series.")],
    weights: Annotated[str, typer.Option(help="Installed ones by name, or a file.")] = "base",
    seeds: Annotated[int, typer.Option(min=1, help="How many times to draw halves and defects.")] = 3,
) -> None:
    """ROC AUC of `aecodec anomalies` on blocks with defects that are drawn into half the pictures, and of a peer."""
    try:
        codec = Codec(device="cpu", weights=weights)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    with _progress() as bar:
        samples, _ = _survey(data, bar)
        if len(samples) < 4:
            raise typer.BadParameter(f"{len(samples)} pictures in {data}: at least four are needed")
        originals = [images.read(sample.path)[0].convert("RGB") for sample in samples]
        task = bar.add_task("pictures", total=seeds * (len(originals) - len(originals) // 2))
        show = partial(_advance, bar, task, 1)
        found = [anomalies_module.measure(originals, codec, seed, show) for seed in range(seeds)]
    kinds = (*anomalies_module.KINDS, "all")
    print(f"{'ROC AUC':20}" + "".join(f"{kind:>10}" for kind in kinds))
    for name in found[0]:
        means = (statistics.mean(run[name][kind] for run in found) for kind in kinds)
        print(f"{name:20}" + "".join(f"{mean:10.3f}" for mean in means))
    lowest = min(run[anomalies_module.OURS]["all"] for run in found)
    print(f"{len(originals)} pictures, means of {seeds} seeds; the lowest of aecodec's over all kinds: {lowest:.3f}")


@app.command()
def picture(out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("docs/picture.png")) -> None:
    """The README's picture: a detail as it was, and as JPEG and aecodec keep it in the same number of bytes."""
    image, _ = images.read(images.find(None)[0])
    present, _ = codecs.roster()
    budget = len(present[codecs.JPEG].encode(image, PICTURE_QUALITY))
    versions = [image]
    for name in (codecs.JPEG, codecs.OURS):
        best = codecs.largest_within(present[name], image, budget)
        assert best
        versions.append(present[name].decode(best[1]))
        print(f"{name}, quality {best[0]}: {len(best[1])} bytes, {metrics.psnr(image, versions[-1]):.2f} dB")
    detail = (120, 0, 376, 256)
    row = Image.new("RGB", (3 * 320 + 20, 320), "white")
    for place, version in enumerate(versions):
        row.paste(version.crop(detail).resize((320, 320), Image.Resampling.BICUBIC), (place * 330, 0))
    row.save(out, optimize=True)


def _survey(data: Path | None, bar: Progress) -> tuple[list[images.Sample], dict[str, str]]:
    """The readable images, at least one, and why the others are not."""
    try:
        paths = images.find(data)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    task = bar.add_task("reading", total=len(paths))
    samples, skipped = images.survey(paths, data, lambda: bar.advance(task))
    if not samples:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(skipped.items())[:3])
        raise typer.BadParameter(f"none of {len(skipped)} images can be used: {reasons}")
    return samples, skipped


def _make(out: Path | None) -> None:
    """The folder for the results, before time is spent on them."""
    if out:
        try:
            out.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=out).close()
        except OSError as error:
            raise typer.BadParameter(f"{out}: {error.strerror}") from None


def _advance(bar: Progress, task: TaskID, count: int) -> None:
    """Move the bar on; where there is none, say each tenth."""
    bar.advance(task, count)
    shown = bar.tasks[task]
    done, total = shown.completed, shown.total or 1
    if bar.disable and done * 10 // total > (done - count) * 10 // total:
        print(f"{done:.0f} of {total:.0f} {shown.description}", file=sys.stderr)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())


if __name__ == "__main__":
    app()
