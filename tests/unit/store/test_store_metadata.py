"""Metadata as Arrow tables: columns, live rows, what is kept, damage."""

import math
import os
from datetime import datetime

import numpy as np
import pytest
import store_rows as rows

from clipsearch.errors import CorruptShardError
from clipsearch.store import Store
from clipsearch.store.metadata import read_shard, table_of, write_parquet
from clipsearch.store.schema import VISIBLE


def test_a_row_reads_as_a_person_knows_it(tmp_path):
    store = rows.new_store(tmp_path / "c")
    with store.writer() as writer:
        writer.commit(images=[rows.image(writer.new_ids(1)[0], writer.root_id(b"/photos"))])
    (row,) = store.snapshot().metadata_table().to_pylist()
    assert list(row) == list(VISIBLE["images"]) == list(store.snapshot().metadata_columns())
    indexed = row.pop("indexed_at")
    assert isinstance(indexed, datetime) and indexed.tzinfo is None
    assert row == {
        "id": row["id"], "path": f"folder/{row['id']}.jpg", "folder": "folder", "name": f"{row['id']}.jpg",
        "size": 1000 + row["id"], "width": 640, "height": 480, "format": "jpeg",
        "taken": datetime(2024, 5, 17, 12, 30, 1, 250_000), "camera": "FUJIFILM X100V", "lens": None,
        "latitude": 47.3769, "longitude": -8.5417, "generated": False,
    }  # fmt: skip


PATHS = [
    (b"a/b/c.jpg", None, "a/b", "c.jpg"),
    (b"c.jpg", None, "", "c.jpg"),
    (b"a::b.jpg", None, "", "a::b.jpg"),
    (b"a\nb/c\n.jpg", None, "a\nb", "c\n.jpg"),
    (b"caf\xe9/x.jpg", None, "caf\\xe9", "x.jpg"),
    (b"x/t.tar", b"m/n.jpg", "x/t.tar::m", "n.jpg"),
    (b"t.tar", b"n.jpg", "t.tar", "n.jpg"),
]


@pytest.mark.parametrize("mixed", [True, False])
def test_folder_and_name_are_the_two_parts_of_the_path(tmp_path, mixed):
    store = rows.new_store(tmp_path / "c")
    with store.writer() as writer:
        root = writer.root_id(b"/photos")
        images = [rows.image(writer.new_ids(1)[0], root, path=p, member=m) for p, m, _, _ in PATHS]
        for part in [images] if mixed else [[image] for image in images]:
            writer.commit(images=part)
    table = store.snapshot().metadata_table()
    assert table.column("folder").to_pylist() == [folder for *_, folder, _ in PATHS]
    assert table.column("name").to_pylist() == [name for *_, name in PATHS]


def test_deleted_rows_are_not_there_and_a_version_keeps_its_own(tmp_path):
    store = rows.new_store(tmp_path / "c", 5)
    before = store.snapshot()
    ids = before.metadata_table().column("id").to_pylist()
    with store.writer() as writer:
        writer.commit(deleted=ids[1:3], texts=[rows.text(writer.new_ids(1)[0], ids[0])])
    after = store.snapshot()
    assert after.metadata_table().column("id").to_pylist() == [ids[0], *ids[3:]]
    assert before.metadata_table().column("id").to_pylist() == ids
    assert after.metadata_table("texts").column("image_id").to_pylist() == [ids[0]]
    assert after.metadata_table() is after.metadata_table()


def test_texts_are_found_by_their_images(tmp_path):
    store = rows.new_store(tmp_path / "c", 4)
    ids = store.snapshot().metadata_table().column("id").to_numpy()
    with store.writer() as writer:
        given = [rows.text(id_, image) for id_, image in zip(writer.new_ids(5), [*ids[:3], ids[0], None], strict=True)]
        writer.commit(texts=given)
        writer.commit(deleted=[given[3].id])
    found = store.snapshot().texts_of(np.sort(ids[:2]))
    assert found.tolist() == [given[0].id, given[1].id]
    assert rows.new_store(tmp_path / "none").snapshot().texts_of(ids).tolist() == []


def test_an_empty_version_has_all_columns_and_no_row(tmp_path):
    snapshot = rows.new_store(tmp_path / "c").snapshot()
    filled = rows.new_store(tmp_path / "d", 1).snapshot()
    for kind in ("images", "texts"):
        table = snapshot.metadata_table(kind)
        assert len(table) == 0 and table.column_names == list(VISIBLE[kind])
    assert snapshot.metadata_table().schema.types == filled.metadata_table().schema.types


def test_a_number_that_is_none_is_null(tmp_path):
    store = rows.new_store(tmp_path / "c")
    with store.writer() as writer:
        writer.commit(images=[rows.image(writer.new_ids(1)[0], writer.root_id(b"/p"), latitude=math.nan)])
    assert store.snapshot().metadata_table().column("latitude").null_count == 1


def test_embeddings_come_when_asked_for(tmp_path):
    store = rows.new_store(tmp_path / "c", 3)
    snapshot = store.snapshot()
    table = snapshot.table_with_embeddings()
    ids = table.column("id").to_pylist()
    stored = np.array(table.column("embedding").to_pylist(), dtype=np.float16)
    np.testing.assert_array_equal(stored, snapshot.embeddings("images", ids))
    assert "embedding" not in snapshot.metadata_table().column_names


def test_a_damaged_shard_is_told_by_name(tmp_path):
    store = rows.new_store(tmp_path / "c", 3)
    (name,) = (entry.name for entry in store.snapshot().manifest.files if entry.kind == "images")
    path = tmp_path / "c" / name
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(CorruptShardError, match="images-"):
        Store.open(tmp_path / "c").snapshot().metadata_table()


def test_a_shard_too_old_for_a_column_has_null_there(tmp_path, monkeypatch):
    store = rows.new_store(tmp_path / "c", 2)
    (name,) = (entry.name for entry in store.snapshot().manifest.files if entry.kind == "images")
    monkeypatch.setitem(VISIBLE, "images", (*VISIBLE["images"], "mood"))
    assert read_shard(os.fspath(tmp_path / "c" / name), "images").column("mood").to_pylist() == [None, None]


def test_a_parquet_file_is_written_whole_or_not_at_all(tmp_path):
    table = table_of({"a": [1, 2]})
    write_parquet(str(tmp_path / "out.parquet"), table.schema, table.to_batches())
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]
    with pytest.raises(ValueError, match="schema"):
        write_parquet(str(tmp_path / "bad.parquet"), table_of({"b": [1]}).schema, table.to_batches())
    with pytest.raises(OSError, match="No such file"):
        write_parquet(str(tmp_path / "none" / "out.parquet"), table.schema, [])
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]
