import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from store_rows import DIM, ENCODER, add_images, expected_files, files_on_disk, image, live_ids, new_store, text

from clipsearch.errors import LockedError, StorageError
from clipsearch.store import Store, verify_files
from clipsearch.types import Skip, SkipReason

MUTATING = ("write", "fsync", "replace", "link")


class Faults:
    """Count the mutating calls of a commit and fail at the n-th, once or from there on."""

    def __init__(self, monkeypatch, at: int, problem: BaseException, for_good: bool) -> None:
        self.calls = 0
        self.at, self.problem, self.for_good = at, problem, for_good
        self.on = True
        for name in (*MUTATING, "unlink"):
            monkeypatch.setattr(os, name, self._wrap(name, getattr(os, name)))

    def _wrap(self, name, real):
        def call(*args, **kwargs):
            if self.on:
                self.calls += name != "unlink"
                if self.calls == self.at and name != "unlink":
                    raise self.problem
                if self.for_good and self.calls >= self.at:
                    raise OSError(errno.EIO, "the disk is dead")
            return real(*args, **kwargs)

        return call


def big_commit(writer, ids):
    return writer.commit(
        images=[image(ids[0]), image(ids[1])],
        texts=[text(ids[2], ids[0])],
        deleted=[0],
        skipped=[Skip(b"x.jpg", SkipReason.EMPTY)],
    )


def calls_of_a_commit(folder, monkeypatch) -> int:
    with monkeypatch.context() as patch, new_store(folder, n=2).writer() as writer:
        faults = Faults(patch, 0, OSError(), False)
        big_commit(writer, writer.new_ids(3))
        faults.on = False
        return faults.calls


PROBLEMS = [
    pytest.param(OSError(errno.ENOSPC, "full"), False, id="disk full once"),
    pytest.param(OSError(errno.EIO, "broken"), True, id="disk broken for good"),
    pytest.param(KeyboardInterrupt(), False, id="interrupted"),
    pytest.param(KeyboardInterrupt(), True, id="as if killed"),
]


@pytest.mark.parametrize(("problem", "for_good"), PROBLEMS)
def test_a_failure_at_any_mutating_call_leaves_the_previous_version_whole(tmp_path, monkeypatch, problem, for_good):
    total = calls_of_a_commit(tmp_path / "count", monkeypatch)
    assert total > 30
    store = new_store(tmp_path / "a", n=2)
    for n in range(1, total + 1):
        before = store.snapshot().version
        ids_before = live_ids(store)
        expected = pytest.raises((StorageError, KeyboardInterrupt))
        with monkeypatch.context() as patch, expected, store.writer() as writer:
            ids = writer.new_ids(3)
            faults = Faults(patch, n, problem, for_good)
            try:
                big_commit(writer, ids)
            finally:
                faults.on = False
        fresh = Store.open(store.path)
        snapshot = fresh.snapshot()
        assert verify_files(snapshot) == []
        if n < total:  # only the sync of CURRENT's own folder comes after the version is in force
            assert (snapshot.version, live_ids(fresh)) == (before, ids_before)
        else:
            assert snapshot.version == before + 1
        if n % 5 == 0:  # a new writer goes on, over what any number of dead ones left
            ids_now = live_ids(fresh)
            with fresh.writer() as writer:
                ids = add_images(writer, 1)
            assert live_ids(fresh) == [*ids_now, *ids]
            assert files_on_disk(fresh) == expected_files(fresh)
    with fresh.writer() as writer:
        ids = add_images(writer, 1)
    assert files_on_disk(fresh) == expected_files(fresh)
    assert live_ids(fresh)[-1] == ids[0]


def test_the_same_writer_goes_on_after_a_failure_at_any_call(tmp_path, monkeypatch):
    total = calls_of_a_commit(tmp_path / "count", monkeypatch)
    for n in range(1, total + 1):
        store = new_store(tmp_path / f"{n}", n=2)
        with store.writer() as writer:
            ids = writer.new_ids(3)
            with monkeypatch.context() as patch:
                faults = Faults(patch, n, OSError(errno.ENOSPC, "full"), False)
                with pytest.raises(StorageError, match="the disk is full"):
                    big_commit(writer, ids)
                faults.on = False
            manifest = big_commit(writer, ids)  # the same once more: stored once, even where it had taken effect
            assert manifest.version == 3
            assert dict(manifest.counts) == {"images": 3, "texts": 1, "deleted": 1}
        assert live_ids(store) == [1, 2, 3]
        assert files_on_disk(store) == expected_files(store)


def test_a_failing_create_can_be_run_again(tmp_path, monkeypatch):
    path = tmp_path / "a"
    n = 0
    while True:
        n += 1
        with monkeypatch.context() as patch:
            faults = Faults(patch, n, OSError(errno.EIO, "broken"), True)
            try:
                Store.create(path, ENCODER, DIM)
                done = True
            except StorageError:
                done = False
            faults.on = False
        if done:
            break
        if (path / "CURRENT").exists():  # made, but not acknowledged
            assert live_ids(Store.open(path)) == []
            break
    store = Store.open(path) if (path / "CURRENT").exists() else new_store(path)
    with store.writer() as writer:
        add_images(writer, 1)
    assert files_on_disk(store) == expected_files(store)


def test_files_are_synced_before_their_rename_and_folders_before_the_next_step(tmp_path, monkeypatch):
    store = new_store(tmp_path / "a", n=2)
    trace: list[tuple[str, str]] = []
    real_fsync, real_replace, real_link = os.fsync, os.replace, os.link
    with store.writer() as writer:
        ids = writer.new_ids(3)

        def fsync(fd):
            trace.append(("sync", os.readlink(f"/proc/self/fd/{fd}")))
            real_fsync(fd)

        def named(source, target):
            assert ("sync", source) in trace, f"{target} was named before it was synced"
            if os.path.basename(target).startswith("v00"):
                unsynced = {os.path.dirname(t) for k, t in trace if k == "name"} - {p for k, p in trace if k == "sync"}
                assert not unsynced, "a manifest may not name files whose folder is not synced"
            if os.path.basename(target) == "CURRENT":
                assert trace[-2:] != [], "something came before"
                assert ("sync", os.path.join(store.path, "manifests")) in trace[-2:]
            trace.append(("name", target))

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(os, "replace", lambda s, t: (named(s, t), real_replace(s, t))[1])
        monkeypatch.setattr(os, "link", lambda s, t: (named(s, t), real_link(s, t))[1])
        big_commit(writer, ids)
        assert trace[-2:] == [("name", os.path.join(store.path, "CURRENT")), ("sync", store.path)]
        names = [target for kind, target in trace if kind == "name"]
        assert len(names) == len(set(names)) >= 11


def test_a_version_that_exists_is_never_overwritten(tmp_path):
    store = new_store(tmp_path / "a", n=1)
    with store.writer() as writer:
        rival = Path(store.path, "manifests", "v000003.json")
        rival.write_bytes(b"of a writer that ignores the lock")
        with pytest.raises(LockedError, match="network drive"):
            add_images(writer, 1)
        assert rival.read_bytes() == b"of a writer that ignores the lock"
    assert live_ids(store) == [0]


def test_a_file_system_without_hard_links_works_too(tmp_path, monkeypatch):
    def link(*_):
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", link)
    store = new_store(tmp_path / "a", n=2)
    rival = Path(store.path, "manifests", "v000003.json")
    with store.writer() as writer:
        rival.write_bytes(b"taken")
        with pytest.raises(LockedError):
            add_images(writer, 1)
        assert rival.read_bytes() == b"taken"
        add_images(writer, 1)
    assert live_ids(store) == [0, 1, 3]  # the ids of the failed commit were seen by its caller
    assert files_on_disk(store) == expected_files(store)


def test_files_of_other_makers_are_left_alone(tmp_path):
    store = new_store(tmp_path / "a", n=1)
    mine = [Path(store.path, name) for name in ("notes.txt", "embeddings/README", "sidecars/images-x.npy")]
    for file in mine:
        file.write_text("mine")
    orphans = [Path(store.path, name) for name in ("embeddings/images-000009-ab.parquet", "sidecars/.x.tmp-1")]
    for file in orphans:
        file.write_text("left behind")
    assert live_ids(Store.open(store.path)) == [0]
    assert all(file.exists() for file in orphans)  # a reader removes nothing
    with store.writer() as writer:
        add_images(writer, 1)
    assert all(file.exists() for file in mine)
    assert not any(file.exists() for file in orphans)


KILLED_RUNS = f"""
import os, random, signal, sys, time
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[3])]!r}
import pyarrow.parquet  # once, before all the forks
from store_rows import add_images, live_ids, text
from clipsearch.store import Store, verify_files

def write_for_ever(path, acknowledge):
    with Store.open(path).writer() as writer:
        while True:
            ids = add_images(writer, 3)
            version = writer.commit(texts=[text(writer.new_ids(1)[0], ids[0])], deleted=[ids[1]]).version
            os.write(acknowledge, b"%d %d %d\\n" % (version, ids[0], ids[2]))

path, chance, acknowledged = sys.argv[1], random.Random(int(sys.argv[3])), set()
for _ in range(int(sys.argv[2])):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        write_for_ever(path, writing)
    os.close(writing)
    with open(reading, "rb") as pipe:
        first = pipe.readline()
        time.sleep(chance.random() * 0.1)
        os.kill(child, signal.SIGKILL)
        whole = [[int(n) for n in line.split()] for line in [first, *pipe] if line.endswith(b"\\n")]
    os.waitpid(child, 0)
    acknowledged |= {{id_ for line in whole for id_ in line[1:]}}
    fresh = Store.open(path)
    ids = live_ids(fresh)
    assert len(ids) == len(set(ids)) == fresh.snapshot().count("images")
    assert acknowledged <= set(ids), acknowledged - set(ids)
    assert fresh.snapshot().version >= whole[-1][0]
    assert verify_files(fresh.snapshot()) == []
"""


def killed_runs(tmp_path, n: int, seed: int) -> None:
    store = new_store(tmp_path / "a")
    subprocess.run([sys.executable, "-c", KILLED_RUNS, store.path, str(n), str(seed)], check=True)
    with store.writer() as writer:
        add_images(writer, 1)
    assert files_on_disk(store) == expected_files(store)
    assert store.snapshot().version > n


def test_no_acknowledged_row_is_lost_by_kill_9(tmp_path):
    killed_runs(tmp_path, 12, seed=1)


@pytest.mark.slow
def test_no_acknowledged_row_is_lost_by_many_kill_9(tmp_path):
    killed_runs(tmp_path, 100, seed=int(time.time()))


KILLER = f"""
import os, signal, sys
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[3])]!r}
from test_store_crash import Faults, big_commit
from clipsearch.store import Store
calls = 0
def deadly(real):
    def call(*args):
        global calls
        calls += 1
        if calls == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args)
    return call
with Store.open(sys.argv[1]).writer() as writer:
    ids = writer.new_ids(3)
    for name in ("write", "fsync", "replace", "link", "unlink"):
        setattr(os, name, deadly(getattr(os, name)))
    big_commit(writer, ids)
"""


@pytest.mark.slow
def test_a_kill_at_every_mutating_call_leaves_a_whole_version(tmp_path):
    store = new_store(tmp_path / "a", n=2)
    n, code = 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        n += 1
        before = store.snapshot().version
        code = subprocess.run([sys.executable, "-c", KILLER, store.path, str(n)], check=False).returncode
        fresh = Store.open(store.path)
        assert fresh.snapshot().version in (before, before + 1)
        assert verify_files(fresh.snapshot()) == []
    assert code == 0
    assert n > 30
    assert files_on_disk(store) == expected_files(store)
