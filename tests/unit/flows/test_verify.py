"""``verify``: what it finds, what it says, and that it changes nothing."""

import json
import os
from pathlib import Path

import numpy as np
from care import persistent_files, unit_rows

import clipsearch
from clipsearch.cli import run
from clipsearch.flows.verify import verify
from clipsearch.store import Store


def contents(path):
    return {name: Path(path, name).read_bytes() for name in persistent_files(path)}


def test_a_whole_collection_is_whole_and_every_file_of_it_is_known(path):
    before = contents(path)
    found = verify(str(path))
    assert (found.damages, found.orphans, found.notes) == ((), (), ())
    assert found.files == len(before)
    assert contents(path) == before
    with clipsearch.open(path) as collection:
        assert collection.verify().whole


def test_every_file_flipped_emptied_or_gone_is_found_by_its_name_and_kind(path):
    assert len(persistent_files(path)) > 30
    for name in persistent_files(path):
        where = Path(path, name)
        data = where.read_bytes()
        for damaged in (data[:-2] + bytes([data[-2] ^ 4]) + data[-1:], data[: len(data) // 2], b""):
            where.write_bytes(damaged)
            found = verify(str(path))
            assert found.damages, name
            assert all(one.what and one.todo for one in found.damages)
            near = {one.name for one in found.damages} | {os.path.dirname(one.name) for one in found.damages}
            assert name in near or os.path.dirname(name) in near or name.startswith("manifests")
        where.write_bytes(data)
    assert verify(str(path)).whole


def test_a_change_in_a_shard_that_no_checksum_of_its_pages_covers_is_found(path):
    for entry in Store.open(path).snapshot().manifest.files_of("images"):
        where = Path(path, entry.name)
        data = where.read_bytes()
        place = data.rindex(b"parquet-cpp-arrow")  # who wrote it, in the footer: no reader looks at it
        where.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert [(one.name, one.what) for one in verify(str(path)).damages] == [(entry.name, "its digest differs")]
        where.write_bytes(data)


def test_a_missing_file_of_the_version_in_force_is_found(path):
    for name in [entry.name for entry in Store.open(path).snapshot().manifest.files]:
        where = Path(path, name)
        data = where.read_bytes()
        where.unlink()
        assert [one.name for one in verify(str(path)).damages] == [name]
        where.write_bytes(data)


def test_what_nothing_names_is_harmless(path):
    Path(path, "embeddings", "images-000002-00000000.parquet").write_bytes(b"left over")
    found = verify(str(path))
    assert found.whole
    assert found.orphans == ("embeddings/images-000002-00000000.parquet",)


def test_embeddings_that_are_not_of_unit_norm_are_found_although_the_digest_is_right(path):
    from care import add_rows

    rows = unit_rows(3, 64, 5)
    rows[1] *= np.float16(1.5)
    (bad,) = add_rows(Store.open(path), rows)[1:2]
    (one,) = verify(str(path)).damages
    assert (one.kind, one.derived) == ("images", False)
    assert f"row {bad} is not finite or not of unit norm" in one.what


def test_the_command_exits_4_where_something_is_damaged_and_says_what_to_do(path, capsys):
    assert run(["verify", "-i", str(path)]) == 0
    assert "whole" in capsys.readouterr().out
    shard = next(Path(path, "embeddings").glob("images-*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    assert run(["verify", "-i", str(path)]) == 4
    out = capsys.readouterr().out
    assert shard.name in out and "(original)" in out and "clipsearch repair" in out
    assert run(["verify", "-i", str(path), "--json"]) == 4
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["type"] for line in lines] == ["damage", "summary"]
    assert lines[0]["name"] == f"embeddings/{shard.name}" and lines[1]["whole"] is False


def test_a_collection_that_cannot_be_opened_can_be_verified(path):
    (path / "CURRENT").write_bytes(b"nonsense")
    (one,) = verify(str(path)).damages
    assert (one.name, one.derived) == ("CURRENT", True)
