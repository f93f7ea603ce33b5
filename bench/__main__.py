"""``python -m bench``: what the README's figures come from."""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image

from aecodec import Codec, registry

from . import macs as macs_module
from . import rd as rd_module
from . import speed as speed_module
from .codecs import AVIF, JPEG, WEBP, ours, psnr

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

Data = Annotated[Path | None, typer.Option(help="A folder of images; photographs of scikit-image if not given.")]


def load_images(folder: Path | None) -> list[Image.Image]:
    """The images of a folder as RGB, or those that come with scikit-image."""
    if folder is None:
        from skimage import data

        photographs = (data.astronaut(), data.chelsea(), data.coffee(), data.rocket())
        return [Image.fromarray(np.asarray(p)) for p in photographs]
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in {".png", ".jpg", ".jpeg", ".webp", ".ppm"})
    if not paths:
        raise typer.BadParameter(f"no images in {folder}")
    images = []
    for path in paths:
        with Image.open(path) as image:
            images.append(image.convert("RGB"))
    return images


@app.command()
def rd(
    data: Data = None,
    out: Annotated[Path | None, typer.Option(help="Folder for rd.json and rd.png.")] = None,
) -> None:
    """Rate-distortion on real files, and BD-rates against JPEG."""
    codec = Codec()
    peers = [ours(codec), JPEG, WEBP, AVIF]
    curves = rd_module.measure(load_images(data), peers)
    print("codec            quality      bpp   PSNR   (means over images)")
    for peer in peers:
        for quality, (bpp, decibels) in zip(peer.qualities, np.mean(curves[peer.name], 0), strict=True):
            print(f"{peer.name:16} {quality:7} {bpp:8.3f} {decibels:6.2f}")
    rates = {name: rd_module.mean_bd_rate(curves[JPEG.name], found) for name, found in curves.items()}
    for name, rate in rates.items():
        print(f"BD-rate against {JPEG.name}: {name:16} {rate:+6.1f} %")
    if out:
        out.mkdir(parents=True, exist_ok=True)
        means = {name: np.mean(found, 0).round(4).tolist() for name, found in curves.items()}
        rounded = {name: round(rate, 2) for name, rate in rates.items()}
        result = {"model": codec.model.id.hex(), "images": len(curves[JPEG.name]), "bd_rate": rounded, "curves": means}
        (out / "rd.json").write_text(json.dumps(result, indent=1) + "\n")
        plot(means, out / "rd.png")


def plot(curves: dict[str, list[list[float]]], path: Path) -> None:
    """PSNR over bits per pixel, on a logarithmic axis."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter

    figure, axes = pyplot.subplots(figsize=(7, 4.2), dpi=110)
    for name, curve in curves.items():
        bpp, decibels = np.transpose(curve)
        own = name == "aecodec"
        axes.plot(bpp, decibels, marker=".", linewidth=2.4 if own else 1.2, label=name, zorder=3 if own else 2)
    axes.set_xscale("log")
    axes.set_xlim(0.08, 4)
    ticks = [0.1, 0.2, 0.5, 1, 2, 4]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, place: ""))
    axes.set_xlabel("bits per pixel (of the file)")
    axes.set_ylabel("PSNR in dB (RGB)")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)


@app.command()
def macs() -> None:
    """Multiply-accumulates per pixel and parameters of every part."""
    parts = macs_module.count(Codec(device="cpu"))
    for part, (kilo, parameters) in parts.items():
        print(f"{part:16} {kilo:6.2f} kMAC/px {parameters:10,} parameters")
    decoder = parts["prior"][0] + parts["synthesis"][0]
    print(f"{'decoder':16} {decoder:6.2f} kMAC/px")
    print(f"{'encoder':16} {sum(kilo for kilo, _ in parts.values()) - parts['synthesis'][0]:6.2f} kMAC/px")


@app.command()
def overhead(data: Annotated[Path, typer.Option(help="A folder of images.")]) -> None:
    """Bits on disk over the bits that the model's tables estimate."""
    from aecodec.training.measure import measure

    found = measure(Codec(), sorted(data.glob("*.png")))
    for quality, bpp, ratio in zip(found["quality"], found["bpp"], found["disk_over_estimate"], strict=True):
        print(f"quality {quality:3}: {bpp:.3f} bpp on disk, {ratio:.4f} times the estimate")


@app.command()
def speed(data: Data = None, rounds: int = 15, threads: int = 2) -> None:
    """Time for a 768x512 image in a warm process, ours and the peers' in turns, and the start of the command line."""
    torch.set_num_threads(threads)
    if data is None:
        photo = np.asarray(load_images(None)[0])
        image = Image.fromarray(np.hstack((photo, photo[:, :256])))
    else:
        image = load_images(data)[0]
    tasks = speed_module.codec_tasks(image, [(ours(Codec()), 50), (JPEG, 75), (WEBP, 75), (AVIF, 60)])
    found = speed_module.interleaved(tasks, rounds)
    for name, seconds in found.items():
        ratio = seconds / found[f"{AVIF.name} {name.split()[-1]}"]
        print(f"{name:24} {1000 * seconds:8.1f} ms  {ratio:6.1f} x AVIF")
    for name, seconds in speed_module.interleaved(speed_module.start_up_tasks(), 5).items():
        print(f"{name:24} {1000 * seconds:8.1f} ms")


@app.command()
def memory(megapixels: int = 100) -> None:
    """Peak resident memory of the command line on a large file."""
    for command, (gigabytes, seconds) in speed_module.peak_memory(megapixels, load_images(None)[0]).items():
        print(f"{command:11} {megapixels} MP: {gigabytes:.2f} GiB, {seconds:.1f} s")


@app.command()
def picture(out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("docs/picture.png")) -> None:
    """The README's picture: a detail as it was, and as JPEG and aecodec keep it in the same number of bytes."""
    image = load_images(None)[0]
    codec = Codec()
    ours_data = codec.compress(image, 18)
    jpeg_data = min((JPEG.encode(image, q) for q in range(1, 60)), key=lambda data: abs(len(data) - len(ours_data)))
    versions = [image, JPEG.decode(jpeg_data), codec.decompress(ours_data)]
    detail = (120, 0, 376, 256)
    row = Image.new("RGB", (3 * 320 + 20, 320), "white")
    for place, version in enumerate(versions):
        row.paste(version.crop(detail).resize((320, 320), Image.Resampling.BICUBIC), (place * 330, 0))
    row.save(out, optimize=True)
    print(f"model {registry.metadata(registry.find(codec.model.id))['model_id']}")
    print(f"JPEG {len(jpeg_data)} bytes {psnr(image, versions[1]):.2f} dB")
    print(f"aecodec {len(ours_data)} bytes {psnr(image, versions[2]):.2f} dB")


if __name__ == "__main__":
    app()
