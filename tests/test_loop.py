"""The training loop: runs that start, go on, end, fail and share their work."""

import errno
import os
import socket
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import distributed
from torch.multiprocessing.spawn import spawn

from aecodec import Codec, files
from aecodec.training import loop
from aecodec.training.curve import draw, read_log
from aecodec.training.export import load_network, read_checkpoint, thaw
from aecodec.training.network import Network
from aecodec.training.run import MOST_WASTED, Recipe, Run
from aecodec.training.soap import BASIS_STEPS

from .conftest import SMALL
from .test_training import RECIPE, start


@pytest.mark.slow
@pytest.mark.parametrize("largest", [512, 60])
def test_resuming_goes_on_exactly(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, largest: int) -> None:
    """Also where matrices are too large for SOAP to turn, on one side or on both."""
    monkeypatch.setattr("aecodec.training.soap.LARGEST", largest)
    run, patches = start(folder)
    for step in range(12):
        run.advance(*patches[step])
    run.seconds, run.best = 7.5, -3.0
    run.save(tmp_path / "checkpoint.pt")
    steps = range(12, BASIS_STEPS + 3)  # past a turn of the bases
    expected = [run.advance(*patches[step])[0] for step in steps]
    again = Run(Network(SMALL), RECIPE)
    again.load(read_checkpoint(tmp_path / "checkpoint.pt"))
    assert (again.step, again.seconds, again.best) == (12, 7.5, -3.0)
    for step, figures in zip(steps, expected, strict=True):
        torch.testing.assert_close(again.advance(*patches[step])[0], figures, rtol=1e-5, atol=1e-6)
    for name, value in run.average.items():
        torch.testing.assert_close(again.average[name], value, rtol=1e-4, atol=1e-6)


def test_a_run_goes_on_from_weights(
    folder: Path, tmp_path: Path, fine_weights: Path, fine: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aecodec.registry.named", lambda name: fine_weights if name == "base" else Path(name))
    asked = {"hours": 0.5 / 3600, "batch": 2, "patch": 64, "objective": "psnr"}
    loop.train([folder], tmp_path / "run", asked, init="base")
    network, state = load_network(tmp_path / "run" / "checkpoint.pt")
    assert state["origin"] == fine.model.id.hex()
    assert state["recipe"]["rate"] == loop.INIT_RATE < Recipe().rate
    before = thaw(fine_weights).state_dict()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=0.05, rtol=0.05)
    with pytest.raises(OSError, match="missing"):
        loop.train([folder], tmp_path / "other", asked, init="missing")


def test_weights_of_the_former_design_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="another design"):
        loop.train([folder], tmp_path, {"patch": 64, "objective": "psnr"}, init="base")


def test_a_checkpoint_of_another_design(folder: Path, tmp_path: Path) -> None:
    run, _ = start(folder)
    run.average["synthesis.leave.bias"] = torch.zeros(3)
    run.save(tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match="another design"):
        loop.train([folder], tmp_path, {}, resume=True)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of a small network that log every step, at least 20 a second however slow the machine is."""
    monkeypatch.setattr(loop, "LONGEST_STEP", 0.05)
    monkeypatch.setattr(loop, "Design", lambda **_: SMALL)
    monkeypatch.setattr(loop, "LOG_STEPS", 1)


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_a_run_and_its_extension(folder: Path, others: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    loop.train([folder], run, {"hours": 1 / 3600, "batch": 4, "patch": 64, "objective": "psnr"}, others)
    first = read_log(run / "log.jsonl")
    assert first[-1]["bd_rate"] is None, "too small a network to reach half of JPEG's range"
    assert len(first[-1]["psnr"]) == 5
    assert first[0]["learning_rate"] < first[len(first) // 3]["learning_rate"]
    assert first[-2]["learning_rate"] == 0
    assert sum(first[0]["share_of_time"].values()) == pytest.approx(1, abs=0.01)
    loop.train([folder], run, {"hours": 2 / 3600}, resume=True)
    entries = read_log(run / "log.jsonl")
    assert entries[: len(first)] == first
    assert entries[len(first)]["learning_rate"] > 0, "more hours, so the rate rises again"
    assert entries[-1]["learning_rate"] == 0
    assert {e["patch"] for e in first if "patch" in e} == {64, 128}
    with pytest.raises(ValueError, match="ask for more"):
        loop.train([folder], run, {"hours": 1 / 3600}, resume=True)
    state = read_checkpoint(run / "checkpoint.pt")
    assert (state["recipe"]["batch"], state["recipe"]["patch"]) == (4, 64), "what was not asked for stays"
    draw(run, tmp_path / "curve.png")
    with Image.open(tmp_path / "curve.png") as picture:
        assert picture.size == (1200, 480)


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_a_run_that_gains_no_more_ends(
    folder: Path, others: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = iter([-5.0, None, -7.0, -6.0, -6.5, -6.0])
    monkeypatch.setattr(loop, "VALIDATION_SECONDS", 0.0)
    monkeypatch.setattr(loop, "measure", lambda *_: {"bd_rate": next(rates)})
    loop.train([folder], tmp_path, {"batch": 4, "patch": 64, "objective": "psnr"}, others, patience=2)
    assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] == 5
    best = read_checkpoint(tmp_path / "best.pt")
    assert (best["step"], best["best"]) == (3, -7.0)
    loop.train([folder], tmp_path, {"hours": 3.0}, others, resume=True, patience=1)
    assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] == 6
    assert read_checkpoint(tmp_path / "best.pt")["step"] == 3, "more hours do not make the best worth less"


@pytest.mark.usefixtures("small")
def test_the_best_that_could_not_be_kept_is_none(
    folder: Path, others: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates, failures = iter([-5.0, -7.0, -6.0, -5.5]), iter([False, True, False])

    def sometimes(path: Path, data: bytes) -> None:
        if path.name == "best.pt" and next(failures):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        files.write(path, data)

    monkeypatch.setattr("aecodec.training.run.write", sometimes)
    monkeypatch.setattr(loop, "VALIDATION_SECONDS", 0.0)
    monkeypatch.setattr(loop, "measure", lambda *_: {"bd_rate": next(rates)})
    loop.train([folder], tmp_path, {"batch": 4, "patch": 64, "objective": "psnr"}, others, patience=1)
    assert read_checkpoint(tmp_path / "best.pt")["best"] == -6


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_a_full_disk_does_not_end_a_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failures = 3

    def sometimes(path: Path, data: bytes) -> None:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        files.write(path, data)

    monkeypatch.setattr("aecodec.training.run.write", sometimes)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.1)
    loop.train([folder], tmp_path, {"hours": 1 / 3600, "batch": 4, "patch": 64, "objective": "psnr"})
    assert capsys.readouterr().err.count("No space left on device; training goes on") == 3
    assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] > 0


def test_a_log_with_lost_and_broken_lines(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    lines = [f'{{"step": {step}, "hours": 0.{n}, "loss": 1}}' for n, step in enumerate((50, 100, 150, 100, 150, 150))]
    lines.append('{"step": 150, "hours": 0.6, "bd_rate": -3.5}')
    log.write_text("\n".join([*lines[:3], '{"step": 1', *lines[3:]]))
    assert [(e["step"], e["hours"]) for e in read_log(log)] == [(50, 0.0), (100, 0.3), (150, 0.5), (150, 0.6)]
    lines[1] = lines[1].replace("1}", "NaN}")
    log.write_text("\n".join(lines))
    draw(tmp_path, tmp_path / "curve.png")
    log.write_text("")
    with pytest.raises(ValueError, match="no entries"):
        draw(tmp_path, tmp_path / "curve.png")


def _run_together(rank: int, port: int, folder: Path, others: Path, out: Path) -> None:
    """One of two processes of `train`."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "Design", lambda **_: SMALL)
        patch.setattr(loop, "VALIDATION_SECONDS", 0.0)
        patch.setattr(loop, "LOG_STEPS", 1)
        patch.setattr(loop, "measure", lambda *_: {"bd_rate": -1.0})
        loop.train([folder], out, {"batch": 4, "patch": 64, "objective": "psnr"}, others, patience=2)


@pytest.mark.slow
def test_two_processes_end_together(folder: Path, others: Path, tmp_path: Path) -> None:
    """The first one alone writes, and when it sees no more gains, both stop."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    spawn(_run_together, (port, folder, others, tmp_path / "run"), nprocs=2)  # type: ignore[no-untyped-call]
    assert [e["step"] for e in read_log(tmp_path / "run" / "log.jsonl")] == [1, 1, 2, 2, 3, 3]
    assert read_checkpoint(tmp_path / "run" / "checkpoint.pt")["step"] == 3


def _take_part(rank: int, folder: Path, out: Path) -> None:
    """One of two processes: a few steps, then its weights on disk."""
    distributed.init_process_group("gloo", f"file://{out}/meeting", world_size=2, rank=rank)
    torch.set_num_threads(1)
    run, patches = start(folder)
    for step in range(6):
        run.advance(*patches[2 * step + rank])
    torch.save(
        {"rank": rank, "weights": run.network.state_dict(), "agreed": run.agree(float(rank + 7))}, out / f"{rank}"
    )
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_learn_the_same(folder: Path, tmp_path: Path) -> None:
    spawn(_take_part, (folder, tmp_path), nprocs=2)  # type: ignore[no-untyped-call]
    first, second = (torch.load(tmp_path / str(rank), weights_only=True) for rank in range(2))
    assert (first["agreed"], second["agreed"]) == (7, 7)
    alone, patches = start(folder)
    for step in range(6):
        alone.advance(*patches[2 * step])
    for name, value in first["weights"].items():
        assert torch.equal(value, second["weights"][name])
    leave = "synthesis.leave.weight"
    assert not torch.equal(first["weights"][leave], alone.network.state_dict()[leave])


def test_steps_without_a_finite_gradient_change_nothing(folder: Path) -> None:
    run, patches = start(folder)
    before = {k: v.clone() for k, v in run.network.state_dict().items() if "synthesis" in k}
    run.network.tensors["analysis.enter.bias"].data[0] = torch.nan
    run.advance(*patches[0])
    assert run.wasted == 1
    for name, value in before.items():
        assert torch.equal(run.network.state_dict()[name], value)
    with pytest.raises(ArithmeticError):
        for _ in range(MOST_WASTED):
            run.advance(*patches[0])


def test_what_cannot_be_trained(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="both"):
        loop.train([folder], run, {"patch": 64, "objective": "psnr"}, folder)
    with pytest.raises(ValueError, match="no image of at least 256 pixels"):
        loop.train([tmp_path / "empty"], run, {})
    with pytest.raises(ValueError, match="no checkpoint"):
        loop.train([folder], run, {}, resume=True)
    with pytest.raises(ValueError, match="patience"):
        loop.train([folder], run, {"patch": 64, "objective": "psnr"}, patience=1)
    with pytest.raises(ValueError, match="lpips"):
        loop.train([folder], run, {"objective": "lpips"})
    with pytest.raises(ValueError, match="no image of at least 161 pixels"):
        loop.train([folder], run, {"patch": 64, "objective": "psnr"}, tmp_path / "empty")
    with pytest.raises(ValueError, match="other weights"):
        loop.train([folder], run, {}, resume=True, init="base")
    assert not run.exists()
    (tmp_path / "cut").mkdir()
    Image.new("RGB", (200, 200)).save(tmp_path / "cut" / "cut.png")
    (tmp_path / "cut" / "cut.png").write_bytes((tmp_path / "cut" / "cut.png").read_bytes()[:100])
    with pytest.raises(ValueError, match=r"cut\.png"):
        loop.train([folder], run, {"patch": 64, "objective": "psnr"}, tmp_path / "cut")
    run.write_bytes(b"")
    with pytest.raises(FileExistsError):
        loop.train([folder], run, {"patch": 64, "objective": "psnr"})
    run.unlink()
    run.mkdir()
    (run / "checkpoint.pt").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="exists"):
        loop.train([folder], run, {})
    with pytest.raises(ValueError, match="damaged"):
        loop.train([folder], run, {}, resume=True)
    weights = Network(SMALL).state_dict()
    torch.save({"design": asdict(SMALL), "network": weights, "average": weights}, run / "checkpoint.pt")
    with pytest.raises(ValueError, match="not a checkpoint"):
        loop.train([folder], run, {}, resume=True)
