"""Shards of .aec files: written and read back, what a cut one says, and the manifest; and as a data set for torch."""

import io
import json
import pickle
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from aecodec import Codec, Corrupt, Truncated
from aecodec.files import UsageError
from aecodec.image import Plane

pytest.importorskip("pyarrow")

import pyarrow as pa
from pyarrow import parquet

from aecodec import shards
from aecodec.dataset import ShardDataset
from aecodec.shards import Entry
from aecodec.storage import Place


def entries(first: int, count: int) -> list[Entry]:
    return [Entry(f"a.b/{i}.x.png", bytes([i]) * (i + 1), i, i + 1, f"{i:064x}") for i in range(first, first + count)]


@pytest.fixture
def folder(tmp_path: Path) -> Place:
    return Place.at(str(tmp_path / "packed"))


def filled(folder: Place, kind: shards.Kind = "tar", count: int = 5, each: int = 4) -> Place:
    for number in range(shards.begin(folder), count):
        shards.write(folder, shards.name(number, kind), entries(number * each, each))
    return folder


@pytest.mark.parametrize("kind", shards.KINDS)
def test_there_and_back(folder: Place, kind: shards.Kind) -> None:
    number = shards.begin(folder)
    written = entries(0, shards.TOGETHER + 3)
    shards.write(folder, shards.name(number, kind), iter(written))
    (shard,) = shards.find(folder)
    assert list(shards.read(shard)) == written
    assert list(shards.read(shards.find(shard)[0])) == written
    assert shards.begin(folder) == number + 1
    known = parquet.read_table(f"{folder.path}/manifest/000000.{kind}.parquet").to_pylist()
    first = {"key": "a.b/0.x.png", "size": 1, "width": 0, "height": 1, "sha256": "0" * 64}
    assert (len(known), known[0]) == (len(written), first)


def test_tars_are_the_same_whenever_they_are_written(folder: Place) -> None:
    found = []
    for _ in range(2):
        filled(folder, count=1)
        shards.write(folder, "000000.tar", entries(0, 3))
        found.append((folder / "000000.tar").read())
    assert found[0] == found[1]


def test_an_empty_shard(folder: Place) -> None:
    for kind in shards.KINDS:
        shards.write(folder, shards.name(0, kind), [])
        assert list(shards.read(folder / shards.name(0, kind))) == []


def test_tars_that_others_wrote(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, content in (("x/1.cls", b"3"), ("x/1.AEC", b"data"), ("x/2.txt", b"no picture"), ("3.aec", b"more")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    (shard,) = shards.find(Place.at(str(tmp_path)))
    assert list(shards.read(shard)) == [Entry("x/1", b"data"), Entry("3", b"more")]


@pytest.mark.parametrize("kind", shards.KINDS)
def test_a_shard_that_is_cut(folder: Place, kind: shards.Kind) -> None:
    filled(folder, kind, count=1)
    (shard,) = shards.find(folder)
    data = shard.read()
    whole_pictures = 4 * 512  # of a tar
    for length in (0, 1, 1000, whole_pictures if kind == "tar" else len(data) - 1):
        shard.write(data[:length])
        with pytest.raises(Truncated, match="cut"):
            list(shards.read(shard))


@pytest.mark.parametrize("content", [b"\1" * 2048 + bytes(1024), b"x" * 512 + bytes(2048)])
def test_what_is_no_tar(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(Corrupt, match="no tar"):
        list(shards.read(Place.at(str(tmp_path / "a.tar"))))


def test_parquet_of_something_else(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"key": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(Corrupt, match="without the columns"):
        list(shards.read(Place.at(str(tmp_path / "a.parquet"))))


def sparse(size: int) -> bytes:
    """A tar of 2048 bytes with a picture that has as many as one likes."""
    member = tarfile.TarInfo("1.aec")
    member.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(size), "GNU.sparse.name": "1.aec"}
    member.size = 1
    return member.tobuf(tarfile.PAX_FORMAT) + bytes(512 + shards.END)


def tar_of(**members: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for suffix, content in members.items():
            member = tarfile.TarInfo(f"1.{suffix}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (sparse(100 << 30), "more than 1073741824 bytes in 1.aec"),
        (tar_of(json=bytes((1 << 20) + 1), aec=b""), "more than 1048576 bytes in 1.json"),
        (tar_of(json=b"[" * 200000, aec=b""), "recursion"),
        (tar_of(json=b'{"key": 5}', aec=b""), "a key that is no text"),
        (tar_of(json=b'{"key": null}', aec=b""), "a key that is no text"),
        (tar_of(json=b'{"key": "\\ud800"}', aec=b""), "a key that is no UTF-8"),
    ],
)
def test_hostile_tars(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(Corrupt, match=message):
        list(shards.read(Place.at(str(tmp_path / "a.tar"))))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"key": [1], "bytes": [b""]}, "a key that is no text"),
        ({"key": ["a"], "bytes": [None]}, "a picture that is no bytes"),
        ({"key": pa.array([b"\xff"]).cast(pa.string(), safe=False), "bytes": [b""]}, "no UTF-8"),
        ({"key": ["a"], "bytes": [bytes(10 << 20)]}, "more bytes than pictures have"),
    ],
)
def test_hostile_parquet(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    parquet.write_table(pa.table(columns), tmp_path / "a.parquet", compression="zstd")
    with pytest.raises(Corrupt, match=message):
        list(shards.read(Place.at(str(tmp_path / "a.parquet"))))


def test_a_shard_that_is_lost(folder: Place) -> None:
    filled(folder, count=3)
    (folder / "000001.tar").remove()
    assert len(shards.find(folder)) == 3
    with pytest.raises(FileNotFoundError, match=r"000001\.tar"):
        list(ShardDataset(folder.path, len, shuffle=0))
    assert shards.begin(folder) == 3
    assert len(shards.Finished(folder)) == 8  # the others are made again


def test_only_what_a_run_left_is_removed(folder: Place) -> None:
    filled(folder, count=1)
    for name in ("mine.tar", "000007.tar", ".000007.tar.0123456789abcdef.partial"):
        (folder / name).write(b"")
    shards.begin(folder)
    assert [name for name, _, _ in folder.children()] == ["000000.tar", "manifest", "mine.tar"]


def test_what_a_run_that_was_stopped_left(folder: Place) -> None:
    filled(folder, count=3)
    (folder / "manifest" / "000001.tar.parquet").remove()
    assert [shard.name for shard in shards.find(folder)] == [f"{folder.name}/{i:06}.tar" for i in (0, 2)]
    assert shards.begin(folder) == 3
    assert not (folder / "000001.tar").exists()


def test_shards_of_others_stay(tmp_path: Path) -> None:
    (tmp_path / "mine.tar").write_bytes(bytes(1024))
    with pytest.raises(UsageError, match=r"shards of something else, such as mine\.tar"):
        shards.begin(Place.at(str(tmp_path)))
    assert (tmp_path / "mine.tar").exists()


def test_no_shards(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no shards"):
        shards.find(Place.at(str(tmp_path)))


def test_finished_keys(folder: Place) -> None:
    assert not shards.Finished(folder).among(["x"]).any()
    filled(folder, count=3, each=50)
    finished = shards.Finished(folder)
    assert len(finished) == 150
    keys = [entry.key for entry in entries(100, 60)]
    assert finished.among(keys).tolist() == [True] * 50 + [False] * 10
    assert finished._sorted.nbytes == 150 * 16


def test_a_manifest_that_is_cut(folder: Place) -> None:
    filled(folder, count=1)
    part = folder / "manifest" / "000000.tar.parquet"
    part.write(part.read()[:100])
    with pytest.raises(Corrupt, match=r"000000\.tar\.parquet"):
        shards.Finished(folder)
    for columns in ({"name": ["a"]}, {"key": [1]}, {"key": [None]}):
        parquet.write_table(pa.table(columns), part.path)
        with pytest.raises(Corrupt, match=r"000000\.tar\.parquet"):
            shards.Finished(folder)


# As a data set


def test_ranks_and_workers_share_without_overlap(folder: Place) -> None:
    filled(folder)
    everything = {entry.key for entry in entries(0, 20)}
    for ranks in (1, 2, 3, 7):  # 7: more than there are shards
        shares = [[key for key, _ in keys_of(folder, rank=rank, ranks=ranks)] for rank in range(ranks)]
        assert Counter(key for share in shares for key in share) == Counter(everything), ranks
        assert all(shares)


def keys_of(folder: Place, **options: Any) -> Iterator[tuple[str, Any]]:
    return iter(ShardDataset(folder.path, len, **options))


@pytest.mark.filterwarnings("default:.*multi-threaded:DeprecationWarning")  # from Python 3.12, for forks
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # of two processes for one core
def test_workers_share(folder: Place) -> None:
    filled(folder)
    found = [key for key, _ in DataLoader(ShardDataset(folder.path, len), batch_size=None, num_workers=2)]
    assert sorted(found) == sorted(entry.key for entry in entries(0, 20))


def test_the_order_is_the_seeds_and_the_epochs(folder: Place) -> None:
    filled(folder)
    first = list(keys_of(folder))
    assert first == list(keys_of(folder))
    assert first != list(keys_of(folder, seed=1))
    dataset = ShardDataset(folder.path, len)
    dataset.set_epoch(1)
    assert sorted(first) == sorted(dataset)
    assert first != list(dataset)
    assert [key for key, _ in keys_of(folder, shuffle=0)] == [entry.key for entry in entries(0, 20)]
    assert len({key for key, _ in keys_of(folder, shuffle=3)}) == 20


def test_it_goes_on_where_it_stopped(folder: Place) -> None:
    filled(folder)
    dataset = ShardDataset(folder.path, len, shuffle=5, rank=1, ranks=2)
    dataset.set_epoch(3)
    whole = list(dataset)
    begun = iter(dataset)
    before = [next(begun) for _ in range(3)]
    later = ShardDataset(folder.path, len, shuffle=5, rank=1, ranks=2)
    later.load_state_dict(pickle.loads(pickle.dumps(dataset.state_dict())))
    assert before + list(later) == whole
    assert later.state_dict() == {"epoch": 3, "taken": 0, "seed": 0, "shuffle": 5, "ranks": 2, "shards": 5}
    for name, other in (("seed", 1), ("shuffle", 4), ("ranks", 3)):
        dataset = ShardDataset(folder.path, len, **{"shuffle": 5, "rank": 1, "ranks": 2, name: other})
        with pytest.raises(ValueError, match=f"a data set with {name} "):
            dataset.load_state_dict(later.state_dict())


def test_pictures_and_what_is_wrong_with_one(folder: Place, codec: Codec, photo: Plane) -> None:
    data = codec.compress(photo[:48, :64])
    shards.begin(folder)
    shards.write(folder, "000000.tar", [Entry("good.png", data)])
    ((key, picture),) = ShardDataset(folder.path)
    assert key == "good.png"
    assert torch.equal(picture, codec.decompress(data, "torch"))
    shards.write(folder, "000000.tar", [Entry("bad.png", data[:-9])])
    with pytest.raises(Truncated, match=r"^bad\.png: "):
        list(ShardDataset(folder.path))
    tar = folder / "000000.tar"
    tar.write(tar.read()[:700])
    with pytest.raises(Truncated, match=r"000000\.tar: the shard is cut"):
        list(ShardDataset(folder.path))


def test_a_rank_that_is_none(folder: Place) -> None:
    filled(folder, count=1)
    with pytest.raises(ValueError, match="rank 2 of 2"):
        ShardDataset(folder.path, rank=2, ranks=2)


def test_torchruns_rank(folder: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(folder, count=1)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    dataset = ShardDataset(folder.path)
    assert (dataset.rank, dataset.ranks) == (1, 4)


def test_latents_as_data(folder: Place, codec: Codec, photo: Plane) -> None:
    shards.begin(folder)
    shards.write(folder, "000000.parquet", [Entry("a", codec.compress(photo[:32, :32]))])
    ((_, latents),) = ShardDataset(folder.path, codec.latents)
    assert latents.shape == (2, 2, 320)
    assert np.isfinite(latents).all()


def test_json_that_says_something_else(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, content in (("1.json", json.dumps([1]).encode()), ("1.aec", b"")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    with pytest.raises(Corrupt, match="no tar of the WebDataset kind"):
        list(shards.read(Place.at(str(tmp_path / "a.tar"))))
