"""What `aecodec doctor` says, on a machine that is well and on one that is not."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from aecodec import Codec, doctor, registry
from aecodec.cli import app
from aecodec.model.entropy import EntropyModel


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SIDE", 64)


def test_what_it_says(codec: Codec) -> None:
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0, result.output
    for word in ("torch ", "numpy ", "constriction ", codec.model.id.hex(), "numpy: exact", "torch on cpu: exact"):
        assert word in result.output
    assert result.output.count("megapixels/s") >= 2


def test_a_machine_that_computes_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EntropyModel, "digest", lambda self: "0")
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "NOT WHAT IT SHOULD BE" in result.output


def test_weights_that_state_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "metadata", lambda path: {})
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0
    assert "do not say" in result.output


def test_a_device_that_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(device: str) -> Codec:
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(doctor, "Codec", broken)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "RuntimeError: no kernel image" in result.output
    assert "Traceback" not in result.output
    assert "in broken" in CliRunner().invoke(app, ["doctor", "--debug"]).stderr


def test_the_shipped_weights_say_what_to_expect(codec: Codec) -> None:
    assert registry.metadata(registry.find(codec.model.id))["prior_digest"] == codec.model.entropy.digest()


def test_a_broken_weights_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "base.safetensors").write_bytes(b"half")
    monkeypatch.setattr(registry, "folder", lambda: tmp_path)
    registry.installed.cache_clear()
    try:
        result = CliRunner().invoke(app, ["doctor"])
    finally:
        registry.installed.cache_clear()
    assert result.exit_code == 1
    assert "base.safetensors: not a weights file" in result.output
