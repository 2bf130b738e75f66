import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from store_rows import DIM, add_images, image, live_ids, new_store, text

from clipsearch.errors import CorruptShardError, InputError
from clipsearch.store import Store, verify_files
from clipsearch.types import Skip, SkipReason

REPOSITORY = str(Path(__file__).parents[3])


def full_store(path: Path) -> Store:
    store = new_store(path, n=4)
    with store.writer() as writer:
        ids = writer.new_ids(3)
        writer.commit(
            images=[image(ids[0], path=b"\xff\xfe.jpg", latitude=-0.0, longitude=float("inf"), taken=None)],
            texts=[text(ids[1], ids[0]), text(ids[2])],
            deleted=[1, 2],
            skipped=[Skip(b"x.jpg", SkipReason.EMPTY)],
        )
    return store


def everything(store: Store) -> dict:
    """All that a snapshot can be asked, as plain values."""
    snapshot = store.snapshot()
    said = {"deleted": snapshot.deleted_ids().tolist(), "skipped": snapshot.skipped()}
    for kind in ("images", "texts"):
        blocks = list(snapshot.blocks(kind))
        ids = [id_ for block in blocks for id_ in block.ids.tolist()]
        said[kind] = snapshot.rows(kind, ids)
        said[kind + " vectors"] = [block.embeddings.tolist() for block in blocks]
        said[kind + " by id"] = snapshot.embeddings(kind, ids[::-1]).tolist()
    return {**said, "files": list(snapshot.known_files()), "captions": list(snapshot.captions())}


SEARCH = """
import sys
sys.path.insert(0, sys.argv[2])
from clipsearch.store import Store
snapshot = Store.open(sys.argv[1]).snapshot()
ids = [id_ for block in snapshot.blocks("images") for id_ in block.ids if block.embeddings.sum() is not None]
assert len(ids) == 5, ids
assert len(snapshot.rows("images", ids)) == len(snapshot.embeddings("images", ids)) == 5
assert len(snapshot.deleted_ids()) == 2 and len(snapshot.rows("texts", [5])) == 1
assert len(list(snapshot.known_files())) == 3 and len(list(snapshot.captions())) == 2
heavy = {"pyarrow", "filelock", "duckdb", "pandas", "torch", "PIL"} & set(sys.modules)
assert not heavy, heavy
"""


def test_a_search_needs_no_pyarrow(tmp_path):
    store = full_store(tmp_path / "a")
    subprocess.run([sys.executable, "-I", "-c", SEARCH, store.path, REPOSITORY], check=True)


def test_opening_a_thousand_rows_takes_a_few_milliseconds(tmp_path):
    store = new_store(tmp_path / "a", n=1000)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        [block] = Store.open(store.path).snapshot().blocks("images")
        assert block.embeddings.shape == (1000, DIM)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.02


@pytest.mark.parametrize("damage", ["missing", "shorter", "longer"])
@pytest.mark.parametrize("pattern", ["*.emb.npy", "*.ids.npy", "*.rows", "*"])
def test_without_sound_sidecars_the_same_answers_come_from_parquet(tmp_path, pattern, damage):
    store = full_store(tmp_path / "a")
    expected = everything(store)
    for file in Path(store.path, "sidecars").glob(pattern):
        if damage == "missing":
            file.unlink()
        else:
            data = file.read_bytes()
            file.write_bytes(data[:-1] if damage == "shorter" else data + b"x")
    assert everything(Store.open(store.path)) == expected
    assert len(verify_files(store.snapshot())) == len(
        [e for e in store.snapshot().manifest.files_of("sidecar") if Path(e.name).match(pattern)]
    )


def test_sidecars_that_vanish_after_opening_are_no_loss(tmp_path):
    store = full_store(tmp_path / "a")
    expected = everything(store)
    opened = Store.open(store.path)
    shutil.rmtree(Path(store.path, "sidecars"))
    assert everything(opened) == expected
    with opened.writer() as writer:  # a copy may have dropped whole folders
        add_images(writer, 1)
    assert len(live_ids(opened)) == 4


@pytest.mark.parametrize("suffix", [".emb.npy", ".ids.npy", ".rows"])
def test_a_changed_sidecar_is_noticed_and_the_shard_answers_in_its_place(tmp_path, suffix):
    store = full_store(tmp_path / "a")
    expected = everything(store)
    for file in Path(store.path, "sidecars").glob(f"*{suffix}"):
        flip(file, 8 * file.stat().st_size - 3)
    assert everything(Store.open(store.path)) == expected


def test_a_garbled_row_that_left_no_trace_says_what_to_delete(tmp_path, monkeypatch):
    store = full_store(tmp_path / "a")
    rows = next(Path(store.path, "sidecars").glob("images-000002*.rows"))
    rows.write_bytes(rows.read_bytes().replace(b'"id"', b'"id\0'))
    monkeypatch.setattr("clipsearch.store.stamps.Stamps.is_whole", lambda *_: True)
    snapshot = Store.open(store.path).snapshot()
    for ask in (lambda: snapshot.rows("images", [0]), lambda: list(snapshot.known_files())):
        with pytest.raises(CorruptShardError, match="Delete"):
            ask()
    assert verify_files(snapshot) == [f"sidecars/{rows.name}"]
    rows.unlink()
    assert Store.open(store.path).snapshot().rows("images", [0])[0]["id"] == 0


@pytest.mark.parametrize("name", ["embeddings/images-*", "embeddings/texts-*", "deleted/*", "skipped/*"])
@pytest.mark.parametrize("damage", ["missing", "shorter"])
def test_a_shard_of_another_size_is_found_when_opening(tmp_path, name, damage):
    store = full_store(tmp_path / "a")
    file = next(Path(store.path).glob(name))
    if damage == "missing":
        file.unlink()
    else:
        os.truncate(file, file.stat().st_size - 1)
    with pytest.raises(CorruptShardError, match=file.name) as error:
        Store.open(store.path)
    assert "clipsearch repair" in str(error.value)
    assert error.value.exit_code == 4
    assert verify_files(store.path) == [os.path.relpath(file, store.path)]


def flip(file: Path, bit: int) -> None:
    data = bytearray(file.read_bytes())
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    file.write_bytes(data)


def test_every_flipped_bit_is_found_by_verify_and_never_read_from_a_shard(tmp_path):
    store = full_store(tmp_path / "a")
    expected = everything(store)
    chance = np.random.default_rng(3)
    files = [Path(store.path, entry.name) for entry in store.snapshot().manifest.files]
    for _ in range(60):
        file = files[chance.integers(len(files))]
        data, bit = file.read_bytes(), int(chance.integers(1 << 40))
        flip(file, bit)
        assert verify_files(store.snapshot()) == [os.path.relpath(file, store.path)]
        if file.suffix == ".parquet":
            shutil.rmtree(tmp_path / "copy", ignore_errors=True)
            shutil.copytree(store.path, tmp_path / "copy")
            shutil.rmtree(tmp_path / "copy" / "sidecars")
            with pytest.raises(CorruptShardError, match="digest"):
                everything(Store.open(tmp_path / "copy"))
        file.write_bytes(data)
    assert everything(Store.open(store.path)) == expected


def test_every_flipped_bit_in_the_pointer_or_the_manifest_is_refused(tmp_path):
    store = full_store(tmp_path / "a")
    for name in ("CURRENT", "manifests/v000003.json"):
        file = Path(store.path, name)
        data = file.read_bytes()
        bits = range(len(data) * 8)
        for bit in bits[:: 5 if name == "CURRENT" else 397]:
            flip(file, bit)
            with pytest.raises(CorruptShardError):
                Store.open(store.path)
            file.write_bytes(data)
    assert Store.open(store.path).snapshot().version == 3


@pytest.mark.parametrize(
    "content", [b"", b"v000099.json sha256:" + b"0" * 64 + b"\n", b"../../etc/passwd\n", b"v000003.json\n", b"\0" * 90]
)
def test_a_pointer_to_nothing_is_refused(tmp_path, content):
    store = full_store(tmp_path / "a")
    Path(store.path, "CURRENT").write_bytes(content)
    with pytest.raises(CorruptShardError) as error:
        Store.open(store.path)
    assert len(str(error.value).splitlines()) <= 3


def test_a_lost_pointer_or_manifest_is_damage_and_not_an_absent_collection(tmp_path):
    store = full_store(tmp_path / "a")
    os.unlink(Path(store.path, "manifests", "v000003.json"))
    with pytest.raises(CorruptShardError, match="missing"):
        Store.open(store.path)
    os.unlink(Path(store.path, "CURRENT"))
    with pytest.raises(CorruptShardError, match="CURRENT"):
        Store.open(store.path)


@pytest.mark.parametrize("content", [b'{"format_version": 1', b"[]", b'{"format_version": 1}', b"\xff", b""])
def test_a_manifest_that_is_none_is_refused_even_with_a_right_digest(tmp_path, content):
    from clipsearch.store.files import sha256

    store = full_store(tmp_path / "a")
    Path(store.path, "manifests", "v000003.json").write_bytes(content)
    Path(store.path, "CURRENT").write_text(f"v000003.json sha256:{sha256(content)}\n")
    with pytest.raises(CorruptShardError):
        Store.open(store.path)


def test_a_copy_elsewhere_answers_the_same(tmp_path):
    store = full_store(tmp_path / "a")
    expected = everything(store)
    shutil.copytree(store.path, tmp_path / "deep" / "er" / "b")
    copy = Store.open(tmp_path / "deep" / "er" / "b")
    assert everything(copy) == expected
    with copy.writer() as writer:
        add_images(writer, 1)
    assert everything(Store.open(store.path)) == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_user_reads_a_read_only_folder_and_one_without_rights_is_told_so():
    folder = Path(tempfile.mkdtemp())
    try:
        store = full_store(folder / "a")
        expected = everything(store)
        os.chmod(folder, 0o755)
        for where, _, names in os.walk(store.path):
            os.chmod(where, 0o555)
            for name in names:
                os.chmod(Path(where, name), 0o444)
        os.seteuid(65534)
        try:
            reopened = Store.open(store.path)
            assert everything(reopened) == expected
            from clipsearch.errors import StorageError

            with pytest.raises(StorageError) as error, reopened.writer():
                pass
            assert error.value.exit_code == 1
        finally:
            os.seteuid(0)
        os.chmod(store.path, 0o700)
        os.seteuid(65534)
        try:
            with pytest.raises(InputError, match="may not be read"):
                Store.open(store.path)
        finally:
            os.seteuid(0)
    finally:
        shutil.rmtree(folder)


def test_readers_in_threads_see_whole_versions_while_a_writer_commits(tmp_path):
    store = new_store(tmp_path / "a")
    stop, problems = threading.Event(), []

    def read():
        reader, last = Store.open(store.path), 0
        try:
            while not stop.is_set():
                snapshot = reader.snapshot()
                ids = [row.id for row in snapshot.known_files()]
                assert len(ids) == snapshot.count("images") == 2 * (snapshot.version - 1)
                assert snapshot.version >= last
                last = snapshot.version
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    with store.writer() as writer:
        for _ in range(15):
            root, ids = writer.root_id(b"/photos"), writer.new_ids(3)
            writer.commit(images=[image(id_, root) for id_ in ids], deleted=[ids[1]])
    stop.set()
    for thread in threads:
        thread.join()
    assert problems == []
    assert store.snapshot().version == 16


def test_known_files_are_made_one_at_a_time(tmp_path):
    store = new_store(tmp_path / "a")
    with store.writer() as writer:
        root = writer.root_id(b"/photos")
        vector = np.eye(DIM, dtype=np.float32)[0]
        writer.commit(images=[image(id_, root, embedding=vector) for id_ in writer.new_ids(20_000)])
    snapshot = Store.open(store.path).snapshot()
    tracemalloc.start()
    assert sum(1 for _ in snapshot.known_files()) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000  # 20,000 rows at once would be about 15 MB


def test_rows_are_readable_json_lines_beside_the_shard(tmp_path):
    store = full_store(tmp_path / "a")
    [entry] = [e for e in store.snapshot().manifest.files if e.name.endswith(".rows") and "images-000003" in e.name]
    [row] = [json.loads(line) for line in Path(store.path, entry.name).read_text().splitlines()]
    assert row["path"] == {"base64": "//4uanBn"}
    assert "taken" not in row
    assert row["width"] == 640
