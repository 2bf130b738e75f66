"""``compact``: the same answers from fewer files, at any kill; against a model of what the rows are."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from care import HAS_FAISS, add_rows, columns, persistent_files, unit_rows
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import clipsearch
from clipsearch.cli import run
from clipsearch.errors import CorruptShardError, LockedError
from clipsearch.flows.compact import SAVED_SHARDS, advice, compact
from clipsearch.flows.index_files import read_record
from clipsearch.flows.verify import verify
from clipsearch.store import Store
from clipsearch.store.compaction import TARGET_BYTES, TARGET_ROWS, plan_groups
from clipsearch.store.files import WriterLock
from clipsearch.store.manifest import FileEntry

DIM = 64
QUERIES = unit_rows(3, DIM, 77).astype(np.float32)


def answers(path):
    """Return what every way of asking answers: by the index, exactly, behind a filter, for texts, by SQL."""
    with clipsearch.open(path) as collection:
        asked = [
            *collection.search(vector=QUERIES, k=7),
            *collection.search(vector=QUERIES, k=7, recall=1.0),
            *collection.search(vector=QUERIES, k=7, where="id % 3 = 0"),
            *collection.search(vector=QUERIES, k=7, target="text"),
        ]
        hits = [[(h.id, h.path, h.text, round(h.score, 4), dict(h.metadata)) for h in found] for found in asked]
        sql = [
            list(collection.sql("SELECT count(*), sum(id) FROM images")),
            list(collection.sql("SELECT id, path, indexed_at FROM images ORDER BY id")),
            list(collection.sql("SELECT id, image_id, text FROM captions ORDER BY id")),
        ]
        status = collection.status()
        return hits, sql, (status.images, status.texts, status.calibrated, status.calibration, status.augment)


def rows_of(path):
    snapshot = Store.open(path).snapshot()
    found = []
    for kind in ("images", "texts"):
        ids = np.concatenate([np.empty(0, np.int64), *(block.ids for block in snapshot.blocks(kind))])
        ids = np.sort(ids[~np.isin(ids, snapshot.deleted_ids())])
        found.append((ids.tolist(), snapshot.rows(kind, ids), snapshot.embeddings(kind, ids).tobytes()))
    return found


def entry(name, rows, size=1000):
    return FileEntry(name, rows, size, "", "images")


# What is planned.


def test_consecutive_small_shards_become_one_up_to_the_target():
    shards = [entry(f"{n}", 30_000) for n in range(5)]
    groups = plan_groups(shards, {})
    assert [[e.name for e in group.entries] for group in groups] == [["0", "1"], ["2", "3"]]
    large = [entry("a", 10, TARGET_BYTES), entry("b", 10, 10), entry("c", 10, 10), entry("d", TARGET_ROWS)]
    assert [[e.name for e in group.entries] for group in plan_groups(large, {})] == [["b", "c"]]


def test_a_shard_with_deleted_rows_is_written_again_and_one_without_stays():
    groups = plan_groups([entry("a", TARGET_ROWS), entry("b", TARGET_ROWS)], {"b": 1})
    assert [([e.name for e in group.entries], group.rows) for group in groups] == [(["b"], TARGET_ROWS - 1)]


def test_shards_that_the_index_covers_are_not_merged_with_others():
    shards = [entry(name, 10) for name in "abcd"]
    assert [[e.name for e in g.entries] for g in plan_groups(shards, {}, {"a", "b"})] == [["a", "b"], ["c", "d"]]


@given(
    st.lists(st.tuples(st.integers(1, 40_000), st.integers(0, 40_000), st.integers(1, 2**25), st.booleans())),
)
def test_a_plan_keeps_order_and_every_row_and_a_second_one_finds_nothing(shards):
    entries = [entry(f"{n}", rows, size) for n, (rows, _, size, _) in enumerate(shards)]
    dead = {f"{n}": min(gone, rows) for n, (rows, gone, _, _) in enumerate(shards)}
    apart = {f"{n}" for n, shard in enumerate(shards) if shard[3]}
    groups = plan_groups(entries, dead, apart)
    places = [int(e.name) for group in groups for e in group.entries]
    assert places == sorted(set(places))
    after = {e.name: (e.rows, e.bytes) for e in entries}
    for group in groups:
        numbers = [int(e.name) for e in group.entries]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert group.rows == sum(e.rows - dead[e.name] for e in group.entries)
        assert len(group.entries) == 1 or group.rows <= TARGET_ROWS
        size = sum(e.bytes * (e.rows - dead[e.name]) / e.rows for e in group.entries)
        for e in group.entries:
            del after[e.name]
        if group.rows:
            after[group.entries[0].name] = (group.rows, int(size))
    assert sum(rows for rows, _ in after.values()) == sum(e.rows - dead[e.name] for e in entries)


# What it does.


def test_answers_stay_the_same_and_everything_is_whole(path):
    before, rows = answers(path), rows_of(path)
    with clipsearch.open(path) as collection:
        report = collection.compact()
        assert collection.version == report.version
    assert (report.shards_before, report.shards_after, report.dropped) == (4, 2, 3)
    assert answers(path) == before
    assert rows_of(path) == rows
    found = verify(str(path))
    assert (found.damages, found.orphans) == ((), ())


def test_what_was_derived_from_the_rows_stays_in_use(path):
    compact(Store.open(path))
    snapshot = Store.open(path).snapshot()
    for kind in ("images", "texts") if HAS_FAISS else ():
        assert {e.name for e in snapshot.manifest.files_of(kind)} <= set(read_record(str(path), kind).shards)
    with clipsearch.open(path) as collection:
        status = collection.status()
        assert status.calibrated
        for target in ("image", "text"):
            assert collection.search(vector=QUERIES[0], target=target).notes == ()
        assert not HAS_FAISS or (status.index.uncovered, status.text_index.uncovered) == (0, 0)
    from clipsearch.flows.calibrate import renew

    assert not renew(Store.open(path), clipsearch.open(path).encoder)


def test_deleted_rows_are_on_the_disk_no_more_once_the_version_before_is_gone(path):
    gone = b"f/5.jpg"
    held = [name for name in persistent_files(path) if gone in Path(path, name).read_bytes()]
    assert any(name.startswith("sidecars/") for name in held)
    first, second = compact(Store.open(path)), compact(Store.open(path))
    assert first.held > 0 and second.held == 0 and second.freed >= first.held
    assert second.shards_before == second.shards_after and second.dropped == 0
    assert [name for name in persistent_files(path) if gone in Path(path, name).read_bytes()] == []
    assert len(list(Path(path, "manifests").iterdir())) == 2
    third = compact(Store.open(path))
    assert (third.version, third.freed) == (second.version, 0)


def test_the_next_writer_removes_what_only_older_versions_named(path):
    report = compact(Store.open(path))
    before = {entry.name for entry in Store.open(path).snapshot().manifest.files}
    add_rows(Store.open(path), unit_rows(3, DIM, 50))
    add_rows(Store.open(path), unit_rows(3, DIM, 51))
    size = sum(os.path.getsize(path / name) for name in persistent_files(path))
    assert size < report.held + sum(os.path.getsize(path / name) for name in before) + 10**6
    folders = ("embeddings", "sidecars", "deleted")
    there = {name for name in persistent_files(path) if name.startswith(folders)}
    assert there == {e.name for e in Store.open(path).snapshot().manifest.files if e.name.startswith(folders)}
    assert verify(str(path)).whole


def test_nothing_is_done_by_a_dry_run_and_it_says_what_would_be_done(path, capsys):
    before = {name: Path(path, name).read_bytes() for name in persistent_files(path)}
    assert run(["compact", "-i", str(path), "--dry-run"]) == 0
    assert capsys.readouterr().out == "c: 4 shards would become 2, 3 deleted rows would be dropped\n"
    now = {name: Path(path, name).read_bytes() for name in persistent_files(path)}
    now.pop("stamps.json", None)
    assert now == before
    assert run(["compact", "-i", str(path)]) == 0
    assert capsys.readouterr().out.startswith("c: 4 → 2 shards, 3 deleted rows dropped, ")


def test_rows_whose_ids_do_not_follow_the_shards_are_sorted(tmp_path):
    with clipsearch.create(tmp_path / "c", dim=DIM) as collection, Store.open(tmp_path / "c").writer() as writer:
        late, early = columns(writer, "images", unit_rows(3, DIM, 1)), columns(writer, "images", unit_rows(4, DIM, 2))
        writer.commit_columns(images=early)
        writer.commit_columns(images=late)
        assert collection.path
    before = rows_of(tmp_path / "c")
    assert compact(Store.open(tmp_path / "c")).shards_after == 1
    assert rows_of(tmp_path / "c") == before and verify(str(tmp_path / "c")).whole


def test_a_shard_with_fewer_columns_is_merged_with_newer_ones(path):
    import pyarrow.parquet as pq

    from clipsearch.store import parquet

    snapshot = Store.open(path).snapshot()
    datas = [Path(path, e.name).read_bytes() for e in snapshot.manifest.files_of("images")]
    import io

    buffer = io.BytesIO()
    pq.write_table(pq.read_table(io.BytesIO(datas[0])).drop_columns(["lens"]), buffer)
    data, ids, embeddings, order = parquet.merge([buffer.getvalue(), *datas[1:]], np.array([0, 1]))
    rows, again = parquet.decode("images", data)
    assert [row["id"] for row in rows] == ids.tolist() == list(range(2, len(ids) + 2)) == order.tolist()
    assert rows[0]["lens"] is None and again.tobytes() == embeddings.tobytes()


def test_a_damaged_shard_is_refused_and_gets_no_fresh_digest(path):
    where = next(Path(path, "embeddings").glob("images-000003*"))
    data = where.read_bytes()
    where.write_bytes(data[:200] + bytes([data[200] ^ 1]) + data[201:])
    version = Store.open(path).snapshot().version
    with pytest.raises(CorruptShardError):
        compact(Store.open(path))
    assert run(["compact", "-i", str(path)]) == 4
    assert Store.open(path).snapshot().version == version
    assert [one.name for one in verify(str(path)).damages] == [f"embeddings/{where.name}"]
    assert verify(str(path)).orphans == ()


def test_a_damaged_sidecar_is_made_again_from_the_shard(path):
    rows = rows_of(path)
    where = next(Path(path, "sidecars").glob("images-000003*.rows"))
    where.write_bytes(where.read_bytes()[:-9])
    compact(Store.open(path))
    assert rows_of(path) == rows


def test_a_second_writer_and_a_builder_keep_it_out(path):
    with Store.open(path).writer(), pytest.raises(LockedError):
        compact(Store.open(path))
    lock = WriterLock(str(path / "index"))
    lock.acquire(wait=False)
    try:
        with pytest.raises(LockedError):
            compact(Store.open(path))
        assert run(["compact", "-i", str(path)]) == 11
    finally:
        lock.release()


def test_a_caption_whose_picture_was_deleted_is_answered_without_it(path):
    with Store.open(path).writer() as writer:
        writer.commit(deleted=[7])
    before = answers(path)
    compact(Store.open(path))
    assert 7 in Store.open(path).snapshot().deleted_ids()
    assert answers(path) == before


def test_status_proposes_it_when_it_pays_and_not_otherwise(tmp_path, capsys):
    path = tmp_path / "c"
    clipsearch.create(path, dim=DIM).close()
    store = Store.open(path)
    with store.writer() as writer:
        for n in range(SAVED_SHARDS):
            writer.commit_columns(images=columns(writer, "images", unit_rows(2, DIM, n)))
    assert advice(store.snapshot()) is None
    add_rows(store, unit_rows(2, DIM, 99))
    assert advice(store.snapshot()) == "51 shards could be 1: run 'clipsearch compact'"
    assert run(["status", "-i", str(path)]) == 0
    assert "clipsearch compact" in capsys.readouterr().out
    compact(store)
    assert advice(store.snapshot()) is None
    with store.writer() as writer:
        writer.commit(deleted=list(range(40)))
    assert "40 of 102 rows are deleted" in advice(store.snapshot())
    compact(store)
    assert advice(store.snapshot()) is None and store.snapshot().count("images") == 62


def test_a_collection_of_which_every_row_is_deleted_holds_no_shard_any_more(tmp_path):
    clipsearch.create(tmp_path / "c", dim=DIM).close()
    store = Store.open(tmp_path / "c")
    ids = add_rows(store, unit_rows(5, DIM, 1))
    with store.writer() as writer:
        writer.commit(deleted=ids)
    report = compact(store)
    assert (report.shards_before, report.shards_after, report.dropped) == (1, 0, 5)
    assert add_rows(store, unit_rows(2, DIM, 2))[0] == 5  # an id is never given out again
    assert store.snapshot().count("images") == 2 and verify(str(tmp_path / "c")).whole


# Others meanwhile.


def test_a_reader_that_is_open_goes_on_with_its_version_and_takes_up_the_new_one(path):
    expected = answers(path)[0]
    with clipsearch.open(path) as old:
        first = old.search(vector=QUERIES, k=7, recall=1.0)
        compact(Store.open(path))
        late = old.search(vector=QUERIES, k=7)  # opens what it has not opened yet
        hits = [[(h.id, h.path) for h in found] for found in (*late, *first)]
        assert hits == [[(h[0], h[1]) for h in found] for found in expected[:6]]
        assert old.refresh()
        assert [[h.id for h in found] for found in old.search(vector=QUERIES, k=7)] == [
            [h[0] for h in found] for found in expected[:3]
        ]


def test_searches_never_fail_and_answer_the_same_while_others_compact_add_and_delete(tmp_path):
    path = tmp_path / "c"
    clipsearch.create(path, dim=DIM).close()
    store = Store.open(path)
    rows = unit_rows(40, DIM, 3)
    add_rows(store, rows[:20])
    kept = add_rows(store, rows[20:])
    problems, stop = [], threading.Event()

    def search():
        with clipsearch.open(path) as collection:
            while not stop.is_set():
                collection.refresh()
                try:
                    (hit,) = collection.search(vector=rows[30].astype(np.float32), k=1)
                    assert (hit.id, hit.path) == (kept[10], "/photos/f/30.jpg")
                except BaseException as problem:
                    problems.append(problem)
                    return

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    far = -rows[30:31]
    for _ in range(4):
        ids = add_rows(store, far)
        with store.writer() as writer:
            writer.commit(deleted=ids)
        compact(store)
    stop.set()
    for thread in threads:
        thread.join(300)
    assert problems == []


# Kills.


class Stopped(BaseException):
    """Stands for a kill: nothing but ``finally`` runs after it, and the test undoes what that did."""


def stopped_at(path, tmp_path, monkeypatch, every):
    """Stop at each ``every``-th rename, link and removal, look at it; return the versions and the steps."""
    expected, step, versions = rows_of(path), 1 - every, set()
    answered = answers(path)
    start = Store.open(path).snapshot().version
    while True:
        step += every
        place = tmp_path / f"{step}"
        shutil.copytree(path, place)
        calls, real = 0, {name: getattr(os, name) for name in ("replace", "link", "unlink")}

        def call(name, *args, real=real, step=step):
            nonlocal calls
            calls += 1
            if calls >= step:  # from there on nothing happens any more, as after a kill
                raise Stopped
            return real[name](*args)

        with monkeypatch.context() as patch:
            for name in real:
                patch.setattr(os, name, lambda *args, name=name: call(name, *args))
            try:
                compact(Store.open(place))
                stopped = False
            except Stopped:
                stopped = True
        version = Store.open(place).snapshot().version
        versions.add(version - start)
        assert rows_of(place) == expected, step
        assert verify(str(place)).whole, step
        if step % 4 == 0:
            assert answers(place) == answered, step
        compact(Store.open(place))
        compact(Store.open(place))
        found = verify(str(place))
        assert (found.damages, found.orphans) == ((), ()), step
        assert rows_of(place) == expected, step
        shutil.rmtree(place)
        if not stopped:
            return versions, step


def test_a_stop_at_any_step_leaves_the_old_version_or_the_new_one_whole(path, tmp_path, monkeypatch):
    versions, steps = stopped_at(path, tmp_path, monkeypatch, every=13)
    assert versions == {0, 1} and steps > 15


@pytest.mark.slow
def test_a_stop_at_every_single_step_leaves_the_old_version_or_the_new_one_whole(path, tmp_path, monkeypatch):
    versions, steps = stopped_at(path, tmp_path, monkeypatch, every=1)
    assert versions == {0, 1} and steps > 15


KILLED = """
import os, random, signal, sys, threading, time
import clipsearch
from clipsearch.flows.compact import compact
from clipsearch.store import Store
store = Store.open(sys.argv[1])
import pyarrow.parquet
print("ready", flush=True)
sys.stdin.readline()
compact(store)
print("done", flush=True)
"""


def killed(path, tmp_path, n, seed):
    expected, chance, finished = rows_of(path), np.random.default_rng(seed), 0
    for turn in range(n):
        place = tmp_path / f"k{turn}"
        shutil.copytree(path, place)
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("go\n")
        process.stdin.flush()
        try:
            process.wait(float(chance.random()) * 0.25)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        out, _ = process.communicate()
        finished += "done" in out
        assert rows_of(place) == expected
        assert verify(str(place)).whole
        compact(Store.open(place))
        assert verify(str(place)).orphans == ()
        assert rows_of(place) == expected
        shutil.rmtree(place)
    return finished


def test_a_kill_at_a_random_moment_loses_nothing(path, tmp_path):
    killed(path, tmp_path, 2, seed=1)


@pytest.mark.slow
def test_many_kills_at_random_moments_lose_nothing(path, tmp_path):
    killed(path, tmp_path, 100, seed=2)


# Any order of steps, against a model.

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 6), st.integers(0, 999)),
        st.tuples(st.just("delete"), st.integers(0, 5), st.integers(0, 999)),
        st.tuples(st.just("compact"), st.just(0), st.just(0)),
        st.tuples(st.just("search"), st.integers(1, 8), st.integers(0, 999)),
    ),
    min_size=3,
    max_size=14,
)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS)
def test_any_order_of_adding_deleting_compacting_and_searching_agrees_with_a_model(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("model") / "c"
    clipsearch.create(path, dim=DIM).close()
    store, model = Store.open(path), {}
    with clipsearch.open(path) as collection:
        for what, n, seed in [*steps, ("compact", 0, 0), ("search", 5, 1)]:
            chance = np.random.default_rng(seed)
            if what == "add":
                rows = unit_rows(n, DIM, seed)
                model |= dict(zip(add_rows(store, rows), rows, strict=True))
            elif what == "delete" and model:
                gone = chance.choice(sorted(model), min(n, len(model)), replace=False).tolist()
                with store.writer() as writer:
                    writer.commit(deleted=gone)
                model = {id_: row for id_, row in model.items() if id_ not in gone}
            elif what == "compact":
                compact(store)
                assert sum(e.rows for e in store.snapshot().manifest.files_of("images")) == len(model)
            elif what == "search":
                collection.refresh()
                query = unit_rows(1, DIM, seed + 1000)[0].astype(np.float32)
                found = collection.search(vector=query, k=n)
                ids = np.array(sorted(model))
                scores = np.array([model[id_].astype(np.float32) @ query for id_ in ids])
                best = ids[np.lexsort((ids, -scores.round(5)))][:n] if len(ids) else []
                assert len(found) == len(best)
                np.testing.assert_allclose(sorted(h.score for h in found), sorted(scores)[-n:][: len(found)], atol=1e-4)
                assert {h.id for h in found} <= set(model)
    assert verify(str(path)).whole
    assert store.snapshot().count("images") == len(model)
