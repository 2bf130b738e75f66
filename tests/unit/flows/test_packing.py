"""After an index run the metadata is packed, and filters find the same."""

import os

import clipsearch
from clipsearch.errors import StorageError
from clipsearch.flows import ingest
from clipsearch.store.packs import read_packs


def test_an_index_run_packs_what_is_new(photos, tmp_path):
    collection = clipsearch.create(tmp_path / "c", model="hashing")
    collection.index(photos, batch_size=1, commit_rows=2)
    (pack,) = read_packs(collection.path)
    assert pack.rows == collection.status().images and len(pack.shards) > 1
    found = collection.search("a photo", k=100, where="width > 0")
    gone = found.hits[0]
    (photos / os.path.basename(gone.path)).unlink()
    collection.index(photos)
    again = collection.search("a photo", k=100, where="width > 0")
    assert {hit.path for hit in again} == {hit.path for hit in found} - {gone.path}
    assert read_packs(collection.path) == (pack,)  # nothing new to pack
    assert len(list(collection.sql("SELECT id FROM images"))) == len(again)


def test_where_packing_fails_the_run_says_so_and_filters_work(photos, tmp_path, monkeypatch):
    def full(snapshot):
        raise StorageError("the disk is full")

    monkeypatch.setattr(ingest, "update_packs", full)
    collection = clipsearch.create(tmp_path / "c", model="hashing")
    report = collection.index(photos)
    assert any("filters are slow" in note and "the disk is full" in note for note in report.notes)
    assert len(collection.search("a photo", k=100, where="width > 0")) == collection.status().images
