"""A cluster of two nodes: the files of one machine, whatever is killed; S3; stages; and clusters that are not there."""

import json
import os
import pickle
import shutil
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from aecodec import Codec
from aecodec.batch import Done
from aecodec.cli import app
from aecodec.files import UsageError, image_suffixes
from aecodec.image import Plane

pytest.importorskip("ray")

import ray

from aecodec import distributed, shards
from aecodec.distributed import Plan, Shards, engine, tasks
from aecodec.storage import Place
from aecodec.work import Compression, Decompression

from .conftest import SECRET

COUNT = 40  # pictures

pytestmark = pytest.mark.filterwarnings("default::DeprecationWarning")  # of what Ray itself does


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, photo: Plane) -> Path:
    """Small pictures in folders, two of which would have one name, and one that is none."""
    folder = tmp_path_factory.mktemp("many") / "photos"
    for i in range(COUNT - 1):
        path = folder / ("a" if i % 2 else "b/c") / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo[i * 10 : i * 10 + 24, : 20 + i % 3]).save(path)
    shutil.copy(folder / "a" / "01.png", folder / "a" / "01.PNG")
    (folder / "a" / "broken.jpg").write_bytes(b"no picture")
    (folder / "a" / "notes.txt").touch()
    return folder


@pytest.fixture(scope="module")
def expected(pictures: Path) -> dict[str, bytes]:
    """What threads make of them."""
    out = pictures.with_name("threads")
    result = run("compress", "-r", pictures, "-o", out, "--device", "cpu", "--quiet")
    assert result.exit_code == 1
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.aec")}


def plan(source: Path, target: Place, work: tasks.Work | None = None, to_shards: Shards | None = None) -> Plan:
    return Plan(work or Compression(Codec("cpu")), Place.at(str(source)), target, image_suffixes(), ".aec", to_shards)


# Without a cluster


def test_units_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "MOST_FILES", 3)
    monkeypatch.setattr(tasks, "MOST_BYTES", 10)
    sizes = [4, 4, 4, 1, 1, 1, 50, 10]
    assert list(tasks._grouped(zip(range(8), sizes, strict=True))) == [[0, 1], [2, 3, 4], [5], [6], [7]]


def test_what_is_listed(pictures: Path, tmp_path: Path) -> None:
    target = Place.at(str(tmp_path / "out"))
    units = [row for unit in tasks.listed(plan(pictures, target)) for row in unit.to_pylist()]
    named = dict(pair for unit in units for pair in zip(unit["names"], unit["targets"], strict=True))
    assert len(named) == COUNT + 1
    assert {named["a/01.png"], named["a/01.PNG"]} == {"a/01.png.aec", "a/01.PNG.aec"}
    assert named["b/c/02.png"] == "b/c/02.aec"


def test_what_an_actor_does(pictures: Path, tmp_path: Path, expected: dict[str, bytes]) -> None:
    todo = plan(pictures, Place.at(str(tmp_path)))
    actor = tasks.Actor(todo)
    for status in ("done", "skipped"):
        results = [result for unit in tasks.listed(todo) for result in tasks.results_of(actor(unit))]
        assert Counter(result.status for result in results) == {status: COUNT, "failed": 1}
    assert {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*.aec")} == expected


def test_a_source_that_disappears(pictures: Path, tmp_path: Path) -> None:
    gone = tmp_path / "photos"
    shutil.copytree(pictures / "b", gone)
    todo = plan(gone, Place.at(str(tmp_path / "out")))
    units = list(tasks.listed(todo))
    (gone / "c" / "04.png").unlink()
    results = [result for unit in units for result in tasks.results_of(tasks.Actor(todo)(unit))]
    (failed,) = (result for result in results if result.status == "failed")
    assert failed.line == f"{gone}/c/04.png: No such file or directory"


def test_a_target_that_is_full(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = Place.at(str(tmp_path / "packed"))
    todo = plan(pictures, target, to_shards=Shards(1))
    assert shards.begin(target) == 0
    units = [tasks.Actor(todo)(unit) for unit in tasks.listed(todo)]

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28), target.name)

    with monkeypatch.context() as patch:
        patch.setattr(shards, "write", full)
        results = pickle.loads(tasks.write_shard(target, "000000.tar", *units))
    assert {result.status for result in results} == {"failed"}
    assert sum("No space left on device" in result.line for result in results) == COUNT
    tasks.write_shard(target, "000000.tar", *units)
    assert len(shards.Finished(target)) == COUNT
    later = [result for unit in tasks.listed(todo) for result in tasks.results_of(tasks.Actor(todo)(unit))]
    assert Counter(result.status for result in later) == {"skipped": COUNT, "failed": 1}


@pytest.mark.parametrize("kind", shards.KINDS)
def test_shards_are_opened(pictures: Path, tmp_path: Path, kind: shards.Kind) -> None:
    target = Place.at(str(tmp_path / "packed"))
    todo = plan(pictures, target, to_shards=Shards(1, kind))
    shards.begin(target)
    units = [tasks.Actor(todo)(unit) for unit in tasks.listed(todo)]
    for number, unit in enumerate(units):
        tasks.write_shard(target, shards.name(number, kind), unit)
    unpacking = Plan(Compression(Codec("cpu")), target, None, {".aec"}, ".png")
    opened = [
        row for unit in tasks.listed(unpacking) for part in tasks.opened(unpacking, unit) for row in part.to_pylist()
    ]
    assert len(opened) == len(units)
    assert sum(len(row["names"]) for row in opened) == sum(len(row["data"]) for row in opened) == COUNT
    broken = target / shards.name(0, kind)
    broken.write(broken.read()[:300])
    (unit,) = tasks.opened(unpacking, next(tasks.listed(unpacking)))
    (result,) = tasks.results_of(unit)
    assert (result.code, result.line[: len(broken.name) + 18]) == (3, f"{broken.name}: the shard is cut")


def test_hostile_keys(tmp_path: Path, photo: Plane) -> None:
    """Nothing is written but below the target."""
    source, target, codec = Place.at(str(tmp_path / "packed")), Place.at(str(tmp_path / "a" / "b")), Codec("cpu")
    shards.begin(source)
    out = ["../../up.jpg", "x/../../../up.jpg", "..\\up.jpg"]
    keys = [*out, "", "/", "nul\0", str(tmp_path / "absolute.jpg"), "a.jpg", "a.png"]
    data = codec.compress(photo[:8, :8])
    shards.write(source, "000000.tar", [shards.Entry(key, data) for key in keys])
    (tmp_path / "packed" / "000000.tar").chmod(0o600)
    todo = Plan(Decompression(codec), source, target, {".aec"}, ".png")
    units = [part for unit in tasks.listed(todo) for part in tasks.opened(todo, unit)]
    results = [result for unit in units for result in tasks.results_of(tasks.Actor(todo)(unit))]
    assert Counter(result.status for result in results) == {"failed": 6, "done": 3}
    assert sum("leads out of the folder" in result.line for result in results) == 3
    made = [path for path in tmp_path.rglob("*") if path.is_file() and "packed" not in path.parts]
    assert {path.name for path in made} == {"absolute.jpg.png", "a.jpg.png", "a.png"}
    assert all(path.is_relative_to(tmp_path / "a" / "b") for path in made)
    assert {path.stat().st_mode & 0o777 for path in made} == {0o600}, "no more than may read the shard"


def test_nothing_found(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no files found"):
        next(engine._some(iter(()), Place.at(str(tmp_path))))
    results = [tasks._in_a_shard(Place.at(name), Place.at(str(tmp_path))) for name in ("a", "b")]
    assert list(engine._some(iter(results), Place.at(str(tmp_path)))) == results


def test_a_target_that_is_the_source(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(pictures)
    with pytest.raises(UsageError, match="shards go to another folder"):
        distributed.run(plan(pictures, Place.at(str(tmp_path / "link")), to_shards=Shards(1)))
    assert not (pictures / "manifest").exists()
    with pytest.raises(UsageError, match="a file, where a folder is expected"):
        distributed.run(plan(pictures / "a" / "01.png", Place.at(str(tmp_path / "out"))))


@pytest.mark.parametrize(
    ("address", "error", "said"),
    [
        ("somewhere", UsageError, "address somewhere: expected auto or host:port"),
        ("127.0.0.1:1", ConnectionError, "no Ray cluster answers: Connection refused"),
        ("127.0.0.1:99999", ConnectionError, "no Ray cluster answers"),
    ],
)
def test_a_cluster_that_is_not_there(address: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said), distributed.cluster(address):
        pass


def test_something_else_that_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "PATIENCE", 0.5)
    for answer, said in ((b"HTTP/1.1 400 Bad Request\r\n\r\n", "something else listens there"), (b"", "timed out")):
        with socket.create_server(("127.0.0.1", 0)) as server:

            def serve(server: socket.socket = server, answer: bytes = answer) -> None:
                connection, _ = server.accept()
                with connection:
                    connection.sendall(answer)
                    if not answer:
                        time.sleep(1)

            thread = threading.Thread(target=serve)
            thread.start()
            with (
                pytest.raises(ConnectionError, match=said),
                distributed.cluster(f"127.0.0.1:{server.getsockname()[1]}"),
            ):
                pass
            thread.join()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["p", "-o", "out", "--engine", "ray"], "add --recursive"),
        (["-r", "p", "--engine", "ray"], "add --out"),
        (["-r", "p", "q", "-o", "out", "--engine", "ray"], "one folder or URL"),
        (["-r", "p", "-o", "out", "--engine", "ray", "--address", "auto", "--jobs", "2"], "--jobs goes without"),
        (["-r", "p", "-o", "out", "--engine", "ray", "--delete-source"], "--delete-source goes without"),
        (["-r", "p", "-o", "out", "--address", "auto"], "--address goes with --engine ray"),
        (["-r", "p", "-o", "out", "--shards", "1GB"], "--shards goes with --engine ray"),
        (["-r", "p", "-o", "out", "--engine", "ray", "--shards", "1XB"], "expected a number of bytes"),
        (["-r", "nowhere", "-o", "out", "--engine", "ray"], "nowhere: no such file or folder"),
        (["-r", "s3x://a/b", "-o", "out", "--engine", "ray"], "s3x://a/b: no URL that can be used"),
    ],
)
def test_wrong_usage(options: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("compress", *options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1 or "Usage" in result.stderr


# On one


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster of two nodes on this machine, with a core each."""
    from ray.cluster_utils import Cluster

    store = {"object_store_memory": 100_000_000}
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **store})
    found.second = found.add_node(num_cpus=1, **store)  # that a test may kill
    ray.init(found.address, log_to_driver=False, logging_level="ERROR")
    yield found
    ray.shutdown()
    found.shutdown()


@dataclass(frozen=True)
class Deadly(Compression):
    """Kills its actor at some pictures, once each."""

    marks: Path = Path()

    def __call__(self, data: bytes, name: str) -> tuple[bytes, Done]:
        mark = self.marks / Path(name).name
        if Path(name).stem in ("03", "10", "30") and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(data, name)


@pytest.mark.slow
@pytest.mark.usefixtures("nodes")
def test_a_tree_is_that_of_one_machine(pictures: Path, tmp_path: Path, expected: dict[str, bytes]) -> None:
    out, report = tmp_path / "out", tmp_path / "report.jsonl"
    result = run("compress", "-r", pictures, "-o", out, "--engine", "ray", "--device", "cpu", "--report", report)
    assert result.exit_code == 1
    assert f"{COUNT + 1} files in " in result.stderr
    assert f"{COUNT} done, 1 failed" in result.stderr
    assert f"{pictures}/a/broken.jpg: not an image that Pillow can read" in result.stderr
    assert {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.aec")} == expected
    records = {record["source"]: record for record in map(json.loads, report.read_text().splitlines())}
    assert len(records) == COUNT + 1
    done = records[f"{pictures}/b/c/02.png"]
    assert (done["target"], done["width"], done["height"]) == (f"{out}/b/c/02.aec", 22, 24)


@pytest.mark.slow
def test_shards_in_s3_while_actors_and_a_node_are_killed(
    pictures: Path, tmp_path: Path, expected: dict[str, bytes], nodes: Any, bucket: str
) -> None:
    target, to_shards = Place.at(bucket.format("packed")), Shards(1000)
    found = Counter[str]()
    for result in distributed.run(plan(pictures, target, Deadly(Codec("cpu"), marks=tmp_path), to_shards)):
        assert SECRET not in result.record()
        found[result.status] += 1
        if found.total() == 1:
            nodes.remove_node(nodes.second, allow_graceful=False)
    assert len(list(tmp_path.iterdir())) == 3
    assert found == {"done": COUNT, "failed": 1}
    assert len(shards.find(target)) > 1
    entries = [entry for shard in shards.find(target) for entry in shards.read(shard)]
    assert sorted(entry.data for entry in entries) == sorted(expected.values())
    units = list(tasks.listed(plan(pictures, target, to_shards=to_shards)))
    assert sum(result.status == "skipped" for unit in units for result in tasks.results_of(unit)) == COUNT
    (left,) = (row["names"] for unit in units for row in unit.to_pylist() if row["names"])
    assert left == ["a/broken.jpg"]


@pytest.mark.slow
@pytest.mark.usefixtures("nodes")
def test_stages_in_a_pipeline(photo: Plane) -> None:
    rows = ray.data.from_items([{"key": str(i), "image": photo[:32, : 32 + i]} for i in range(4)])
    some: Any = {"batch_size": 2, "num_cpus": 0.2, "concurrency": 1, "fn_constructor_kwargs": {"device": "cpu"}}
    found = rows.map_batches(distributed.Compress, **some).map_batches(distributed.Features, **some).take_all()
    assert {row["key"] for row in found} == set("0123")
    assert all(row["features"].shape == (640,) for row in found)


# The stages, without a cluster


def column(*values: object) -> Any:
    made = np.empty(len(values), object)
    made[:] = values
    return made


def test_stages(codec: Codec, photo: Plane, pictures: Path) -> None:
    source = (pictures / "a" / "01.png").read_bytes()
    packed = distributed.Compress(quality=70, device="cpu")({"key": column("a", "b"), "bytes": column(source, b"none")})
    assert packed["key"].tolist() == ["a", "b"]
    assert packed["bytes"].tolist() == [codec.compress(pictures / "a" / "01.png", 70), b""]
    assert packed["error"].tolist() == ["", "OSError: not an image that Pillow can read"]
    assert packed["width"].tolist() == [21, 0]
    assert len(packed["sha256"][0]) == 64
    broken = {"bytes": column(packed["bytes"][0], packed["bytes"][0][:-5])}
    for stage, name, shape in (
        (distributed.Decompress, "image", (24, 21, 3)),
        (distributed.Latents, "latents", (2, 2, 320)),
        (distributed.Features, "features", (640,)),
    ):
        made = stage(device="cpu")(broken)
        assert made[name][0].shape == shape
        assert "bytes" not in made
        assert made["error"].tolist()[0] == ""
        assert made["error"].tolist()[1].startswith("Truncated: ")
        assert made[name][1].ndim == len(shape)
    assert distributed.Verify(device="cpu")(broken)["height"].tolist() == [24, 0]
    with pytest.raises(ValueError, match="5 bytes more"):
        distributed.Verify(device="cpu", on_error="raise")(broken)


def test_an_empty_batch() -> None:
    assert list(distributed.Verify(device="cpu")({"key": column(), "bytes": column()})) == ["key"]
