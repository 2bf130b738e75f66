"""Stamps: a copied collection is read through once, by its first reader, and no change of bytes is overlooked."""

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from care import HAS_FAISS, persistent_files, unit_rows, whole_collection

import clipsearch
from clipsearch.errors import ClipsearchError
from clipsearch.flows.verify import verify
from clipsearch.store import Store, stamps
from clipsearch.store.stamps import NOTES, Stamps, places

QUERY = unit_rows(1, 64, 77)[0].astype(np.float32)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("stamps") / "c"
    whole_collection(path).close()
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def copy(made, tmp_path):
    shutil.copytree(made, tmp_path / "c")
    (tmp_path / "c" / NOTES).unlink(missing_ok=True)
    time.sleep(0.06)  # what changed this very moment is not noted
    return tmp_path / "c"


@pytest.fixture
def hashed(monkeypatch):
    """The names of the files whose bytes are read to hold them against their digests."""
    names, real = [], stamps.sha256_of_file

    def counting(where):
        names.append(os.path.basename(where))
        return real(where)

    monkeypatch.setattr(stamps, "sha256_of_file", counting)
    return names


def ask(path):
    """Search by the index, by comparing all, and behind a filter, as a new process would."""
    with clipsearch.open(path) as collection:
        found = [
            collection.search(vector=QUERY, k=5, recall=1.0),
            collection.search(vector=QUERY, k=5, where="id % 2 = 0"),
            collection.search(vector=QUERY, k=5, target="text"),
        ]
        answers = [[(hit.id, hit.path, round(hit.score, 5)) for hit in result] for result in found]
        collection._current().snapshot.stamps._notes.save()  # as at the end of a process
        return answers


def test_a_collection_where_it_was_made_is_never_read_through(made, hashed):
    ask(made)
    assert hashed == []


def test_a_copied_collection_is_read_through_once(made, copy, hashed):
    expected = ask(made)
    assert ask(copy) == expected
    assert len(hashed) > 10 and len(set(hashed)) == len(hashed)
    hashed.clear()
    assert ask(copy) == expected
    assert hashed == []


def test_notes_that_came_with_a_copy_fit_nothing(copy, tmp_path, hashed):
    ask(copy)
    first = set(hashed)
    hashed.clear()
    shutil.copytree(copy, tmp_path / "d")
    time.sleep(0.06)
    ask(tmp_path / "d")
    assert set(hashed) == first
    hashed.clear()
    ask(tmp_path / "d")
    assert hashed == []


def test_a_bit_flipped_in_any_file_after_the_copy_was_noted_is_noticed(copy):
    expected = ask(copy)
    searched = ("sidecars/", "columns/", "embeddings/", "index/", "deleted/")
    for name in [name for name in persistent_files(copy) if name.startswith(searched)]:
        where, before = Path(copy, name), os.stat(copy / name)
        data = where.read_bytes()
        where.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
        os.utime(where, ns=(before.st_atime_ns, before.st_mtime_ns))  # even by who covers the traces
        try:
            assert ask(copy) == expected, name
        except ClipsearchError as problem:
            assert problem.exit_code == 4
        assert not verify(str(copy)).whole
        where.write_bytes(data)
    assert ask(copy) == expected and verify(str(copy)).whole


def test_where_the_collection_cannot_be_written_the_notes_go_to_the_users_cache(copy, hashed, monkeypatch):
    real = stamps.replace_file

    def refusing(where, data):
        if where == str(copy / NOTES):
            raise PermissionError(where)
        real(where, data)

    monkeypatch.setattr(stamps, "replace_file", refusing)
    ask(copy)
    assert not (copy / NOTES).exists() and Path(places(str(copy))[1]).exists()
    hashed.clear()
    ask(copy)
    assert hashed == []


def test_where_nothing_can_be_written_searches_answer_all_the_same(made, copy, hashed, monkeypatch):
    def refusing(where, data):
        raise OSError(30, "read-only")

    monkeypatch.setattr(stamps, "replace_file", refusing)
    for _ in (1, 2):
        assert ask(copy) == ask(made)
        assert hashed
        hashed.clear()


@pytest.mark.parametrize("content", [b"", b"nonsense", b"0" * 64 + b'\n{"format": 1, "files": {}}\n'])
def test_damaged_notes_are_passed_over_and_written_anew_and_verify_names_them(copy, content, hashed):
    ask(copy)
    (copy / NOTES).write_bytes(content)
    assert [one.name for one in verify(str(copy)).damages] == [NOTES]
    hashed.clear()
    ask(copy)
    assert hashed
    assert verify(str(copy)).whole
    assert json.loads((copy / NOTES).read_bytes().split(b"\n", 1)[1])["files"]


def test_a_change_within_the_file_systems_tick_is_not_noted(tmp_path):
    where = tmp_path / "file"
    where.write_bytes(b"abc")
    from clipsearch.store.files import sha256

    known = Stamps(str(tmp_path))
    assert known.is_whole("file", 3, sha256(b"abc"))
    known._notes.save()
    assert not (tmp_path / NOTES).exists()
    time.sleep(0.06)
    assert known.is_whole("file", 3, sha256(b"abc"))
    known._notes.save()
    assert (tmp_path / NOTES).exists()


def test_notes_are_kept_at_the_end_of_a_process_and_of_files_that_are_there_only(copy):
    import subprocess
    import sys

    ask(copy)
    names = set(json.loads((copy / NOTES).read_bytes().split(b"\n", 1)[1])["files"])
    assert names <= set(persistent_files(copy))
    (copy / NOTES).unlink()
    code = "import sys, clipsearch, numpy as np\n"
    code += "clipsearch.open(sys.argv[1]).search(vector=np.eye(64, dtype=np.float32)[0], recall=1.0)"
    subprocess.run([sys.executable, "-c", code, str(copy)], check=True, timeout=300)
    assert (copy / NOTES).exists()


def test_a_collection_without_stamps_is_read_through_once(copy, hashed):
    from dataclasses import replace

    from clipsearch.store import manifest as manifests

    manifest = Store.open(copy).snapshot().manifest
    bare = tuple(replace(entry, stamp=()) for entry in manifest.files)
    manifests.publish(str(copy), replace(manifest, version=manifest.version + 1, files=bare))
    ask(copy)
    assert any(name.endswith(".emb.npy") for name in hashed) or HAS_FAISS
    hashed.clear()
    ask(copy)
    assert hashed == []
