"""What is exported is what is live, in the layout that its readers expect; and it comes back the same."""

import json
import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clip_retrieval_layout import unit, write_golden

import clipsearch
from clipsearch.errors import InputError, MissingExtraError, UnknownNameError
from clipsearch.flows.export import export
from clipsearch.store import Store
from clipsearch.store.layouts import LAYOUTS, Options

DIM = 8


@pytest.fixture
def imported(tmp_path):
    """25 captioned rows, of which two are deleted, in three shards; and what each row is, by path."""
    write_golden(tmp_path / "cr")
    with clipsearch.create(tmp_path / "indexes" / "imported", dim=DIM) as collection:
        collection.index_embeddings(tmp_path / "cr", commit_rows=9)
        with Store.open(collection.path).writer() as writer:
            snapshot = Store.open(collection.path).snapshot()
            gone = [k.id for k in snapshot.known_files() if k.path in (b"pictures/0003.jpg", b"pictures/0004.jpg")]
            writer.commit(deleted=[*gone, *(t.id for t in snapshot.captions() if t.image_id in gone)])
        collection.refresh()
        yield collection


def live(collection):
    """Return path → (embedding, caption, caption's embedding) straight from the store."""
    snapshot = Store.open(collection.path).snapshot()
    files = {k.id: os.fsdecode(k.path) for k in snapshot.known_files()}
    embeddings = dict(zip(files.values(), snapshot.embeddings("images", list(files)), strict=True))
    texts = {files[t.image_id]: t for t in snapshot.captions()}
    said = dict(zip(texts, snapshot.embeddings("texts", [t.id for t in texts.values()]), strict=True))
    return {path: (embeddings[path], texts[path].text, said[path]) for path in embeddings}


def names_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def expected_names(count, width, texts=True):
    kinds = [("img_emb", ".npy"), ("metadata", ".parquet"), *([("text_emb", ".npy")] if texts else [])]
    numbers = [str(p).zfill(width) for p in range(count)]
    stats = [f"stats/{number}.json" for number in numbers]
    return sorted([f"{kind}/{kind}_{number}{suffix}" for kind, suffix in kinds for number in numbers] + stats)


@pytest.mark.parametrize(("rows", "count", "width"), [(100, 1, 1), (8, 3, 1), (3, 8, 1), (2, 12, 2), (1, 23, 2)])
def test_clip_retrievals_layout_has_the_documented_names_dtypes_columns_and_order(
    tmp_path, imported, rows, count, width
):
    out = tmp_path / "out"
    imported.export("clip-retrieval", out, partition_rows=rows)
    assert names_below(out) == expected_names(count, width)
    known, total = live(imported), 0
    for p in range(count):
        number = str(p).zfill(width)
        images, texts = (np.load(out / kind / f"{kind}_{number}.npy") for kind in ("img_emb", "text_emb"))
        frame = pd.read_parquet(out / "metadata" / f"metadata_{number}.parquet")
        table = pq.read_table(out / "metadata" / f"metadata_{number}.parquet")
        assert images.dtype == texts.dtype == np.float16 and images.flags.c_contiguous
        assert images.shape == texts.shape == (len(frame), DIM)
        assert table.column_names == ["image_path", "caption"] and set(table.schema.types) == {pa.string()}
        assert isinstance(frame.index, pd.RangeIndex) and len(frame.index) == len(frame)
        for image, text, path, caption in zip(images, texts, frame["image_path"], frame["caption"], strict=True):
            assert image.tobytes() == known[path][0].tobytes() and text.tobytes() == known[path][2].tobytes()
            assert caption == known[path][1]
        stats = json.loads((out / "stats" / f"{number}.json").read_text())
        assert list(stats) == [
            *("start_time", "end_time", "read_duration", "inference_duration", "write_duration"),
            *("total_duration", "sample_count"),
        ]
        assert stats["sample_count"] == len(frame)
        total += len(frame)
    assert total == 23


def test_files_are_byte_for_byte_those_that_numpy_writes_and_tables_describe_themselves_as_pandas_does(
    tmp_path, imported
):
    out = tmp_path / "out"
    imported.export("clip-retrieval", out)
    for file in (*out.glob("*_emb/*.npy"),):
        np.save(tmp_path / "again.npy", np.load(file))
        assert (tmp_path / "again.npy").read_bytes() == file.read_bytes()
    table = pq.read_schema(out / "metadata" / "metadata_0.parquet")
    frame = pd.read_parquet(out / "metadata" / "metadata_0.parquet").astype(object)
    frame.to_parquet(tmp_path / "pandas.parquet")
    theirs, ours = (json.loads(s.metadata[b"pandas"]) for s in (pq.read_schema(tmp_path / "pandas.parquet"), table))
    assert set(ours) >= set(theirs) - {"attributes"}
    assert ours["index_columns"] == theirs["index_columns"]
    assert [c["name"] for c in ours["columns"]] == [c["name"] for c in theirs["columns"]]
    assert [c["pandas_type"] for c in ours["columns"]] == [c["pandas_type"] for c in theirs["columns"]]


def test_samples_are_dealt_round_robin_in_the_order_of_their_ids(tmp_path, imported):
    imported.export("clip-retrieval", tmp_path / "out", partition_rows=8)
    snapshot = Store.open(imported.path).snapshot()
    paths = [os.fsdecode(k.path) for k in sorted(snapshot.known_files(), key=lambda k: k.id)]
    for p in range(3):
        frame = pd.read_parquet(tmp_path / "out" / "metadata" / f"metadata_{p}.parquet")
        assert list(frame["image_path"]) == paths[p::3]


def test_clip_retrievals_layout_comes_back_with_the_same_rows_and_neighbours(tmp_path, imported):
    imported.export("clip-retrieval", tmp_path / "out", partition_rows=5)
    with clipsearch.create(tmp_path / "indexes" / "back", dim=DIM) as back:
        report = back.index_embeddings(tmp_path / "out")
        assert (report.images, report.texts, report.skips) == (23, 23, ())
        ours, theirs = live(imported), live(back)
        assert {p: (a.tobytes(), c, t.tobytes()) for p, (a, c, t) in ours.items()} == {
            p: (a.tobytes(), c, t.tobytes()) for p, (a, c, t) in theirs.items()
        }
        for query in unit(20, DIM, seed=9):
            for target in ("image", "text"):
                a, b = (c.search(vector=query, k=5, target=target) for c in (imported, back))
                assert [(h.path, h.text, h.score) for h in a] == [(h.path, h.text, h.score) for h in b]


def test_more_columns_come_on_request_and_pictures_without_captions_stay_aligned(tmp_path, collection):
    collection.export("clip-retrieval", tmp_path / "plain")
    collection.export("clip-retrieval", tmp_path / "more", metadata=True)
    more = pq.read_table(tmp_path / "more" / "metadata" / "metadata_0.parquet")
    assert more.column_names[:4] == ["image_path", "caption", "width", "height"]
    assert more.column("camera").to_pylist() == ["Box Camera"] * 6
    assert all(os.path.isfile(path) for path in more.column("image_path").to_pylist())
    with Store.open(collection.path).writer() as writer:
        texts = Store.open(collection.path).snapshot().captions()
        writer.commit(deleted=[next(t.id for t in texts if t.text == "a red square")])
    collection.refresh()
    report = collection.export("clip-retrieval", tmp_path / "holes")
    assert "1 images have no caption" in report.notes[0]
    frame = pd.read_parquet(tmp_path / "holes" / "metadata" / "metadata_0.parquet")
    zeros = ~np.load(tmp_path / "holes" / "text_emb" / "text_emb_0.npy").any(axis=1)
    assert list(frame["caption"] == "") == list(zeros) and zeros.sum() == 1
    with clipsearch.create(tmp_path / "indexes" / "back", dim=zeros.shape[0] and collection.encoder.dim) as back:
        again = back.index_embeddings(tmp_path / "holes")
        assert (again.images, again.texts, again.skips) == (6, 5, ())


def test_the_index_is_one_that_faiss_reads_with_positions_as_ids(tmp_path, imported):
    faiss = pytest.importorskip("faiss")
    imported.export("clip-retrieval", tmp_path / "out", partition_rows=8, with_index=True)
    index = faiss.read_index(str(tmp_path / "out" / "image.index"))
    arrays = [np.load(file) for file in sorted((tmp_path / "out" / "img_emb").iterdir())]
    rows = np.concatenate(arrays).astype(np.float32)
    assert index.ntotal == 23 and index.metric_type == faiss.METRIC_INNER_PRODUCT
    np.testing.assert_array_equal(index.search(rows, 1)[1][:, 0], np.arange(23))
    told = json.loads((tmp_path / "out" / "image.json").read_text())
    assert set(told) == {
        *("index_key", "index_param", "index_path", "size in bytes", "avg_search_speed_ms", "99p_search_speed_ms"),
        *("reconstruction error %", "nb vectors", "vectors dimension", "compression ratio"),
    }
    assert (told["nb vectors"], told["vectors dimension"]) == (23, DIM)


def test_the_parquet_table_holds_the_live_rows_alone_and_comes_back(tmp_path, imported):
    out = tmp_path / "rows.parquet"
    imported.export("parquet", out)
    table = pq.read_table(out)
    assert table.schema.field("embedding").type.value_type == pa.float16()
    assert table.schema.field("embedding").type.list_size == DIM
    known = live(imported)
    assert set(table.column("path").to_pylist()) == set(known)
    for path, row, captions in zip(
        *(table.column(c).to_pylist() for c in ("path", "embedding", "captions")), strict=True
    ):
        assert np.array(row, np.float16).tobytes() == known[path][0].tobytes() and captions == [known[path][1]]
    with clipsearch.create(tmp_path / "indexes" / "back", dim=DIM) as back:
        assert back.index_embeddings(out).images == 23


def test_the_npy_folder_lines_up_row_by_row_and_comes_back(tmp_path, imported):
    imported.export("npy", tmp_path / "out")
    ids, rows = np.load(tmp_path / "out" / "ids.npy"), np.load(tmp_path / "out" / "embeddings.npy")
    table = pq.read_table(tmp_path / "out" / "metadata.parquet")
    snapshot = Store.open(imported.path).snapshot()
    assert table.column("id").to_pylist() == ids.tolist() and len(ids) == 23 and ids.dtype == np.int64
    assert rows.tobytes() == snapshot.embeddings("images", ids).tobytes()
    with clipsearch.create(tmp_path / "indexes" / "back", dim=DIM) as back:
        assert back.index_embeddings(tmp_path / "out").images == 23
        assert set(live_paths(back)) == set(live_paths(imported))


def live_paths(collection):
    return [k.path for k in Store.open(collection.path).snapshot().known_files()]


def test_a_filter_chooses_what_is_exported(tmp_path, imported):
    imported.export("parquet", tmp_path / "some.parquet", where="path LIKE '%/001%'")
    assert sorted(pq.read_table(tmp_path / "some.parquet").column("path").to_pylist()) == [
        f"pictures/{i:04}.jpg" for i in range(10, 20)
    ]
    with pytest.raises(InputError, match="nothing to export"):
        imported.export("parquet", tmp_path / "none.parquet", where="width = 3")
    assert not (tmp_path / "none.parquet").exists()


@pytest.mark.parametrize("layout", ["clip-retrieval", "npy", "parquet"])
def test_what_is_there_is_replaced_only_when_forced_and_only_if_it_is_an_export(tmp_path, imported, layout):
    out = tmp_path / "out"
    imported.export(layout, out)
    with pytest.raises(InputError, match="--force"):
        imported.export(layout, out)
    imported.export(layout, out, force=True, where="path LIKE '%/001%'")
    if out.is_dir():
        (out / "my thesis.txt").write_text("years of work")
        with pytest.raises(InputError, match="my thesis"):
            imported.export(layout, out, force=True)
        assert (out / "my thesis.txt").read_text() == "years of work"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cr", "indexes", "out"]


def test_an_export_that_fails_leaves_nothing_behind_and_the_earlier_one_in_place(tmp_path, imported, monkeypatch):
    out = tmp_path / "out"
    imported.export("npy", out)
    before = {name: (out / name).read_bytes() for name in names_below(out)}
    snapshot = Store.open(imported.path).snapshot()

    def failing(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(snapshot, "npy", str(out), options=Options(force=True), progress=failing)
    assert {name: (out / name).read_bytes() for name in names_below(out)} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cr", "indexes", "out"]


def test_an_export_into_the_collection_itself_and_an_unknown_layout_are_refused(tmp_path, imported):
    with pytest.raises(InputError, match="inside"):
        imported.export("npy", os.path.join(imported.path, "out"))
    with pytest.raises(UnknownNameError, match="clip-retrieval"):
        imported.export("clip-retrival", tmp_path / "out")


@pytest.mark.parametrize(("layout", "package"), [("lance", "lance"), ("qdrant", "qdrant_client")])
def test_a_package_that_is_missing_is_named_with_its_extra(tmp_path, imported, monkeypatch, layout, package):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"clipsearch\[{layout}\]"):
        imported.export(layout, tmp_path / "out")


def test_every_layout_is_documented():
    from pathlib import Path

    page = (Path(__file__).parents[3] / "docs" / "cli.md").read_text(encoding="utf-8")
    for name in LAYOUTS:
        assert f"`{name}`" in page.split("## clipsearch export")[1]


@pytest.mark.filterwarnings("ignore")
def test_a_lance_dataset_holds_the_rows(tmp_path, imported):
    lance = pytest.importorskip("lance")
    imported.export("lance", tmp_path / "rows.lance")
    table = lance.dataset(str(tmp_path / "rows.lance")).to_table()
    known = live(imported)
    assert set(table.column("path").to_pylist()) == set(known)
    for path, row in zip(table.column("path").to_pylist(), table.column("embedding").to_pylist(), strict=True):
        assert np.array(row, np.float16).tobytes() == known[path][0].tobytes()
    with pytest.raises(InputError, match="--force"):
        imported.export("lance", tmp_path / "rows.lance")
    imported.export("lance", tmp_path / "rows.lance", force=True)


@pytest.mark.filterwarnings("ignore")
def test_qdrant_points_hold_the_rows_and_a_second_run_goes_on(tmp_path, imported):
    qdrant = pytest.importorskip("qdrant_client")
    place = str(tmp_path / "points")
    snapshot = Store.open(imported.path).snapshot()
    ids = sorted(k.id for k in snapshot.known_files())

    class StopError(Exception):
        pass

    def stop(progress):
        if progress.done >= 8:
            raise StopError

    with pytest.raises(StopError):
        export(snapshot, "qdrant", place, options=Options(batch_rows=4), progress=stop)
    report = imported.export("qdrant", place)
    client = qdrant.QdrantClient(path=place)
    points = client.scroll("imported", limit=100, with_vectors=True)[0]
    assert sorted(point.id for point in points) == ids and report.rows == 23
    query = snapshot.embeddings("images", ids[5:6])[0].astype(np.float32)
    best = client.query_points("imported", query=query.tolist(), limit=1).points[0]
    assert best.id == ids[5] and best.payload["path"] == snapshot.rows("images", [ids[5]])[0]["path"].decode()
    assert best.payload["captions"] and best.score == pytest.approx(1, abs=1e-3)
    client.close()
    with Store.open(imported.path).writer() as writer:
        writer.commit(deleted=ids[:3])
    imported.refresh()
    imported.export("qdrant", place)
    client = qdrant.QdrantClient(path=place)
    assert sorted(point.id for point in client.scroll("imported", limit=100)[0]) == ids[3:]
    client.delete_collection("imported")
    client.create_collection("imported", vectors_config=qdrant.models.VectorParams(size=3, distance="Cosine"))
    client.close()
    with pytest.raises(InputError, match="--force"):
        imported.export("qdrant", place)
    imported.export("qdrant", place, force=True)
