"""What a run has found, printed."""

from collections.abc import Mapping, Sequence
from typing import Any

from . import codecs, rd
from .metrics import LABELS
from .qualities import Fall, Row
from .speed import STATES, Results

WIDTH = 44  # of a codec's name in the tables


def print_rd(found: rd.Results) -> None:
    images_of = {metric: rd.whole_images(found, metric) for metric in found["bd_rate"]}
    shown = [m for m in found["bd_rate"] if images_of[m] == images_of["psnr"]]  # whose means are of the same files
    for name in found["codecs"]:
        print(f"{name:{WIDTH}} quality      bpp  {'  '.join(LABELS[m] for m in shown)}")
        table = [rd.mean_curve(found, name, metric) for metric in shown]
        for quality, *rows in zip(found["codecs"][name]["qualities"], *table, strict=False):
            values = "".join(f"{value:14.3f}" for _, value in rows)
            print(f"{'':{WIDTH}} {quality:7} {rows[0][0]:8.4f}{values}")
    print(f"\nBD-rate against {codecs.JPEG}, mean over {len(found['images'])} image(s):")
    for name in found["codecs"]:
        rates = [(metric, found["bd_rate"][metric][name]) for metric in found["bd_rate"]]
        print(f"{name:{WIDTH}} {'  '.join(f'{metric} {rd.written(rate):>13}' for metric, rate in rates)}")
    _print_by_range(found["by_range"])
    print(f"\nBD-rate of {codecs.OURS} against each of the others:")
    for name in [name for name in found["codecs"] if name not in (codecs.OURS, *codecs.EFFORTS.values())]:
        rates = [(m, rd.bd_rates(found, m, name, [codecs.OURS])[0][codecs.OURS]) for m in found["bd_rate"]]
        print(f"{name:{WIDTH}} {'  '.join(f'{metric} {rd.written(rate):>13}' for metric, rate in rates)}")
    for name in [name for name in codecs.EFFORTS.values() if name in found["codecs"]]:
        rates = [(m, rd.bd_rates(found, m, codecs.OURS, [name])[0][name]) for m in found["bd_rate"]]
        cells = [f"{metric} {rd.written(rate, 2)}" for metric, rate in rates]
        print(f"{name} against {codecs.OURS}: {'  '.join(cells)}")
    for metric in found["bd_rate"]:
        for what, names in (
            ("means", [image for image in found["images"] if image not in images_of[metric]]),
            ("BD-rates", found["not_in_bd_rate"][metric]),
        ):
            if names:
                print(f"not in the {what} of {metric}, for want of a value from every codec: {', '.join(names)}")
    _print_circumstances(found)


def _print_by_range(tables: dict[str, Any]) -> None:
    for metric, ranges in tables["bd_rate"].items():
        print(f"\n{LABELS[metric]}: BD-rate against {tables['anchor']}, by score of SSIMULACRA 2")
        print("(-: on less than half of the images)")
        print(f"{'':{WIDTH}}{''.join(f'{name:>15}' for name in ranges)}")
        for codec in ranges["whole"]:
            print(f"{codec:{WIDTH}}{''.join(f'{rd.written(rates[codec]):>15}' for rates in ranges.values())}")
        for name, images_left_out in tables["left_out"][metric].items():
            if images_left_out:
                print(f"left out of {name}, since curves share less than half of it: {', '.join(images_left_out)}")


def _print_circumstances(found: rd.Results) -> None:
    """By what it was measured, and what was not."""
    for name, codec in found["codecs"].items():
        print(f"{name}: {'; '.join(part for part in (codec['settings'], codec['version']) if part)}")
    for metric, version in found["slow_metrics"].items():
        print(f"{LABELS[metric]}: {version}")
    for title, entries in (
        ("absent", found["absent"]),
        ("left out", found["skipped"]),
        ("note", found["notes"]),
        ("failed", rd.failures(found)),
    ):
        for name, reason in entries.items():
            print(f"{title}: {name}: {reason}")
    if found["skipped"]:
        print(f"{len(found['skipped'])} of {len(found['skipped']) + len(found['images'])} files left out")


def print_qualities(table: Sequence[Row], falls: Sequence[Fall], skipped: Mapping[str, str]) -> None:
    names = list(table[0].same)
    print(f"quality     bpp   PSNR  SSIMULACRA 2  {'  '.join(f'as {name}' for name in names)}")
    for row in table:
        cells = (f"{'-' if (q := row.same[name]) is None else f'{q:.0f}':>{len(name) + 3}}" for name in names)
        print(f"{row.quality:7} {row.bpp:7.3f} {row.psnr:6.2f} {row.ssimulacra2:13.2f}  {'  '.join(cells)}")
    for fall in falls:
        where = f", {fall.image} at quality {fall.quality}" if fall.by else ""
        print(f"{LABELS[fall.metric]} falls by at most {fall.by:.3f} from one to the next{where}")
    for name, reason in skipped.items():
        print(f"left out: {name}: {reason}")


def print_speed(found: Results) -> None:
    """Times, and for each peer how many times as long ours takes."""
    print(f"{found['image']} on {found['machine']}")
    for name, reason in found["absent"].items():
        print(f"absent: {name}: {reason}")
    for state in [state for state in STATES if state in found]:
        for threads, rows in found[state]["codecs"].items():
            print(f"\n{state}, {threads} thread(s): milliseconds per megapixel, and how many times that ours takes")
            for name, row in rows.items():
                cells = [_beside(way, row[way], rows.get(codecs.OURS, {}).get(way)) for way in ("encode", "decode")]
                print(f"{name:24} {row['bpp']:.2f} bpp  {'  '.join(cells)}")
        times = found[state]["start_up"]
        print(f"\n{state}, new processes: milliseconds, and how many times that ours takes")
        for name, seconds in times.items():
            _, _, way = name.partition(": ")
            print(_beside(f"{name:30}", seconds, times.get(f"{codecs.OURS}: {way}")))
    print()
    for megapixels, both in found["memory"].items():
        for way, row in both.items():
            print(f"{megapixels:>4} MP {way:10} {row['gibibytes']:.2f} GiB {row['seconds']:6.1f} s")


def _beside(what: str, seconds: float, ours: float | None) -> str:
    return f"{what} {1000 * seconds:8.1f}" + (f" {ours / seconds:7.2f} x" if ours else "")
