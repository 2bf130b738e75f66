"""Packs: the metadata of many shards in one file. They change how quickly it is read, and never what is read."""

import errno
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import store_rows as rows
from hypothesis import given
from hypothesis import strategies as st

from clipsearch.errors import StorageError
from clipsearch.store import FileEntry, Store, update_packs, verify_files
from clipsearch.store.files import WriterLock
from clipsearch.store.packing import ABSORB, plan_packs
from clipsearch.store.packs import FOLDER, Covered, Pack, read_packs
from clipsearch.store.schema import VISIBLE

REPOSITORY = str(Path(__file__).parents[3])


def grown(path, commits=3, n=4):
    """A collection of several shards of images and texts, some rows of which are deleted."""
    store = rows.new_store(path)
    with store.writer() as writer:
        for c in range(commits):
            ids = writer.new_ids(n)
            root = writer.root_id(b"/photos")
            camera = None if c == 1 else f"camera {c}"
            images = [rows.image(id_, root, camera=camera, path=b"%d/%d.jpg" % (c, id_)) for id_ in ids]
            texts = [rows.text(writer.new_ids(1)[0], ids[0])]
            writer.commit(images=images, texts=texts, deleted=[ids[1]])
    return store


def told(store, kind="images"):
    return Store.open(store.path).snapshot().metadata_table(kind).to_pylist()


def packs(store, kind="images"):
    return [pack for pack in read_packs(store.path) if pack.kind == kind]


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_packed_or_not_the_rows_and_their_types_are_the_same(tmp_path, kind):
    store = grown(tmp_path / "a")
    before = store.snapshot().metadata_table(kind)
    assert update_packs(store.snapshot()) == 6
    snapshot = Store.open(store.path).snapshot()
    assert snapshot.metadata_table(kind).to_pylist() == before.to_pylist()
    assert snapshot.metadata_table(kind).schema.types == before.schema.types
    (pack,) = packs(store, kind)
    assert pack.rows == snapshot.stored_table(kind).num_rows >= len(before)
    assert update_packs(store.snapshot()) == 0 and packs(store, kind) == [pack]


def test_what_is_packed_is_read_without_the_shards(tmp_path):
    store = grown(tmp_path / "a")
    expected = told(store)
    update_packs(store.snapshot())
    snapshot = Store.open(store.path).snapshot()
    for file in Path(store.path, "embeddings").iterdir():
        file.write_bytes(b"x" * file.stat().st_size)
    assert snapshot.metadata_table().to_pylist() == expected


def test_rows_that_came_later_are_read_beside_the_pack_and_an_older_version_does_not_see_them(tmp_path):
    store = grown(tmp_path / "a")
    old = store.snapshot()
    update_packs(old)
    with store.writer() as writer:
        new = list(rows.add_images(writer, 4))
    assert [row["id"] for row in told(store)][-4:] == new
    update_packs(store.snapshot())
    assert [row["id"] for row in told(store)][-4:] == new
    known = {shard.name for pack in packs(store) for shard in pack.shards}
    assert known == {entry.name for entry in store.snapshot().manifest.files_of("images")}
    assert len(packs(store)) == 1
    assert set(new).isdisjoint(old.metadata_table().column("id").to_pylist())


def entry(name, n):
    return FileEntry(name, n, 1, "", "images")


@given(st.lists(st.integers(1, 10_000), max_size=60))
def test_there_are_few_packs_and_each_shard_is_in_one(sizes):
    there, shards = [], []
    for number, n in enumerate(sizes):
        shards.append(entry(f"{number}", n))
        plan = plan_packs("images", shards, there)
        assert not set(plan.kept) & set(plan.absorbed) and [*plan.kept, *plan.absorbed] == there
        covered = [shard for pack in plan.absorbed for shard in pack.shards]
        covered += [Covered(new.name, new.rows, 0, 0) for new in plan.shards]
        there = [*plan.kept, Pack(f"p{number}", "images", VISIBLE["images"], tuple(covered), 1, "", ())]
        assert [shard.name for pack in there for shard in pack.shards] == [shard.name for shard in shards]
        for larger, smaller in pairwise(there):
            assert larger.rows > ABSORB * smaller.rows
    assert plan_packs("images", shards, there).shards == ()


def test_a_pack_of_other_columns_is_made_anew(tmp_path, monkeypatch):
    store = grown(tmp_path / "a")
    update_packs(store.snapshot())
    (before,) = packs(store)
    monkeypatch.setitem(VISIBLE, "images", (*VISIBLE["images"], "mood"))
    assert {row["mood"] for row in told(store)} == {None}
    assert update_packs(store.snapshot()) == 3
    (after,) = packs(store)
    assert after.columns[-1] == "mood" and not Path(before.where(store.path)).exists()


DAMAGE = {
    "missing": lambda file: file.unlink(),
    "shorter": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "other bytes": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "a bit": lambda file: file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:]),
}


@pytest.mark.parametrize("what", ["*.arrow", "p*.json", "CURRENT"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_is_read_from_the_shards_and_mended_by_the_next_run(tmp_path, what, damage):
    store = grown(tmp_path / "a")
    expected = told(store)
    update_packs(store.snapshot())
    damaged = sorted(Path(store.path, FOLDER).glob(what))
    for file in damaged:
        DAMAGE[damage](file)
    assert told(store) == expected
    if what == "*.arrow":
        assert verify_files(store.path) == [f"{FOLDER}/{file.name}" for file in damaged]
    assert update_packs(Store.open(store.path).snapshot()) == 6
    assert verify_files(store.path) == [] and len(packs(store)) == 1
    assert len(list(Path(store.path, FOLDER).glob("*.arrow"))) == 2  # nothing is left behind


def test_a_copied_collection_keeps_its_packs(tmp_path):
    store = grown(tmp_path / "a")
    update_packs(store.snapshot())
    os.rename(store.path, tmp_path / "b")
    for file in (tmp_path / "b" / FOLDER).iterdir():
        os.utime(file, (1, 1))  # another stamp: the digest is looked at
    moved = Store.open(tmp_path / "b").snapshot()
    for file in (tmp_path / "b" / "embeddings").iterdir():
        file.write_bytes(b"x" * file.stat().st_size)
    assert moved.metadata_table().num_rows == moved.count("images")


def test_a_pack_that_is_replaced_goes_on_being_read(tmp_path):
    store = grown(tmp_path / "a")
    update_packs(store.snapshot())
    old = Store.open(store.path).snapshot()
    table = old.stored_table()
    with store.writer() as writer:
        rows.add_images(writer, 9)
    update_packs(store.snapshot())
    assert table.column("name").to_pylist()[0] == "0.jpg"
    late = Store(store.path).snapshot()  # opened now, with the new packs
    assert len(late.stored_table()) == len(table) + 9


def test_where_the_disk_is_full_the_packs_before_stay(tmp_path, monkeypatch):
    store = grown(tmp_path / "a")
    update_packs(store.snapshot())
    before = read_packs(store.path)
    with store.writer() as writer:
        rows.add_images(writer, 2)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    snapshot = store.snapshot()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="the disk is full"):
            update_packs(snapshot)
    assert read_packs(store.path) == before
    update_packs(snapshot)
    assert not [name for name in os.listdir(Path(store.path, FOLDER)) if ".tmp-" in name]


def test_two_processes_do_not_pack_at_once(tmp_path):
    store = grown(tmp_path / "a")
    os.makedirs(Path(store.path, FOLDER))
    lock = WriterLock(os.fspath(Path(store.path, FOLDER)))
    lock.acquire(wait=False)
    assert update_packs(store.snapshot()) == 0
    lock.release()
    assert update_packs(store.snapshot()) == 6


def test_an_empty_collection_has_no_packs(tmp_path):
    store = rows.new_store(tmp_path / "a")
    assert update_packs(store.snapshot()) == 0
    assert not Path(store.path, FOLDER).exists()


LOOK_UP = """
import sys
sys.path.insert(0, sys.argv[2])
from clipsearch.store import Store
snapshot = Store.open(sys.argv[1]).snapshot()
assert [row["id"] for row in snapshot.rows("images", [50, 7])] == [50, 7]
opened = [shard for shard in snapshot._shards["images"] if shard._data is not None]
print(len(opened), len({"pyarrow", "duckdb", "pandas"} & set(sys.modules)))
"""


def test_few_rows_of_many_shards_open_few_shards(tmp_path):
    store = grown(tmp_path / "a", commits=20)

    def opened():
        command = [sys.executable, "-I", "-c", LOOK_UP, store.path, REPOSITORY]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()

    assert int(opened()[0]) > 10
    update_packs(store.snapshot())
    assert opened() == ["2", "0"]
    with store.writer() as writer:
        new = rows.add_images(writer, 1)[0]
    assert store.snapshot().rows("images", [new, 7])[1]["id"] == 7
    with pytest.raises(KeyError, match="12345"):
        store.snapshot().rows("images", [7, 12345])


def test_live_ids_are_those_that_are_not_deleted(tmp_path):
    store = grown(tmp_path / "a")
    snapshot = store.snapshot()
    gone = snapshot.deleted_ids()
    ids = np.arange(20)
    assert snapshot.live(ids).tolist() == [i for i in range(20) if i not in set(gone.tolist())]
    assert snapshot.live(gone).tolist() == [] and snapshot.live(gone[:0]).tolist() == []
    assert snapshot.live(np.array([100])).tolist() == [100]
