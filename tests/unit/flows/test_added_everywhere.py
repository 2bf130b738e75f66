"""Columns that were added (tags, answers) are to be had wherever the other columns are."""

import copy
import importlib.util
import json
import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipsearch.cli import run
from clipsearch.errors import InputError
from clipsearch.store import AddedColumn

TAGS = [["red", "square"], [], None]


@pytest.fixture
def tagged(collection):
    """Six pictures: tags of which some are empty, a text and a number for some."""
    with collection._store.writer() as writer:
        ids = np.array([row.id for row in collection._store.snapshot().known_files()])
        given = [TAGS[n % 3] for n in range(len(ids))]
        sides = [AddedColumn("person", ids[:4], ["yes", "no", None, "yes"], "text")]
        writer.add_columns([AddedColumn("tags", ids, given), *sides, AddedColumn("cluster", ids[1:2], [7], "number")])
    collection.refresh()
    return collection


def known(collection):
    """Return what the table of SQL says of each picture, by id."""
    batches = collection.sql("SELECT id, tags, person, cluster FROM images").batches
    return {row.pop("id"): row for batch in batches for row in batch.to_pylist()}


def without_null(row):
    return {name: value for name, value in row.items() if value is not None}


def test_hits_carry_added_columns_and_leave_out_what_has_no_value(tagged):
    told = known(tagged)
    hits = list(tagged.search("red", k=6))
    assert len(hits) == 6
    for hit in hits:
        wanted = without_null(told[hit.id])
        assert {name: hit.metadata[name] for name in ("tags", "person", "cluster") if name in hit.metadata} == wanted
        assert type(hit.metadata) is dict and {"width", "height", "format"} <= set(hit.metadata)
        assert pickle.loads(pickle.dumps(hit)) == copy.deepcopy(hit) == hit
    assert not any({"tags", "person", "cluster"} & set(hit.metadata) for hit in tagged.search("red", k=6).plain)


def test_a_caption_says_what_is_known_of_its_picture(collection, photos, tmp_path):
    (photos / "red.txt").write_text("a red square")
    (tmp_path / "bank.txt").write_text("a red thing that no picture shows\n")
    collection.index(photos, captions="sidecars")
    collection.index_texts(tmp_path / "bank.txt")
    with collection._store.writer() as writer:
        ids = np.array([row.id for row in collection._store.snapshot().known_files()])
        writer.commit_added("tags", ids, [[f"picture {id_}"] for id_ in ids])
    collection.refresh()
    hits = list(collection.search("red", target="text", k=20))
    images = dict(zip(*collection._current().snapshot.caption_links()[::-1], strict=True))
    assert {bool(hit.path) for hit in hits} == {False, True}
    for hit in hits:
        assert hit.metadata.get("tags") == ([f"picture {images[hit.id]}"] if hit.path else None)


def test_json_lines_carry_added_columns_and_nothing_else_changes(tagged, capsysbinary):
    assert run(["search", "red", "-i", tagged.path, "--json", "--all", "-k", "6"]) == 0
    *hits, _ = map(json.loads, capsysbinary.readouterr().out.splitlines())
    told = known(tagged)
    for hit in hits:
        assert {name: hit[name] for name in ("tags", "person", "cluster") if name in hit} == without_null(
            told[hit["id"]]
        )
        assert "size" not in hit and list(hit)[:5] == ["schema", "query", "rank", "id", "score"]


def test_tables_and_paths_do_not_read_added_columns(tagged, capsysbinary, monkeypatch):
    monkeypatch.setattr("clipsearch.store.added.Part.read", lambda self: pytest.fail("a column was read"))
    for form in ([], ["-f"], ["-0"]):
        assert run(["search", "red", "-i", tagged.path, "--all", *form]) == 0
    assert b"red.png" in capsysbinary.readouterr().out


@pytest.mark.parametrize("layout", ["parquet", "npy", "lance"])
def test_exported_tables_carry_added_columns(tagged, tmp_path, layout):
    if layout == "lance":
        pytest.importorskip("lance")
    tagged.export(layout, tmp_path / "out")
    if layout == "lance":
        table = importlib.import_module("lance").dataset(str(tmp_path / "out")).to_table()
    else:
        table = pq.read_table(tmp_path / "out" / "metadata.parquet" if layout == "npy" else tmp_path / "out")
    assert table.schema.field("tags").type.value_type == pa.string()
    assert table.schema.field("cluster").type == pa.int64()
    rows = table.select(["id", "tags", "person", "cluster"]).to_pylist()
    assert {row.pop("id"): row for row in rows} == known(tagged)


def test_clip_retrievals_metadata_carries_added_columns_where_more_is_asked_for(tagged, tmp_path):
    tagged.export("clip-retrieval", tmp_path / "bare")
    assert "tags" not in pd.read_parquet(tmp_path / "bare" / "metadata").columns
    tagged.export("clip-retrieval", tmp_path / "out", metadata=True)
    frame = pd.read_parquet(tmp_path / "out" / "metadata" / "metadata_0.parquet")
    told = list(known(tagged).values())
    assert [None if tags is None else list(tags) for tags in frame["tags"]] == [row["tags"] for row in told]
    assert [None if pd.isna(text) else text for text in frame["person"]] == [row["person"] for row in told]


def test_an_export_to_qdrant_carries_tags_and_a_second_one_brings_those_that_came_since(tagged, tmp_path):
    client = pytest.importorskip("qdrant_client")
    tagged.export("qdrant", tmp_path / "out")
    with tagged._store.writer() as writer:
        ids = np.array(list(known(tagged)))
        writer.commit_added("tags", ids, [["new"]] * len(ids))
    tagged.refresh()
    tagged.export("qdrant", tmp_path / "out", force=True)
    opened = client.QdrantClient(path=str(tmp_path / "out"))
    points = opened.scroll(tagged.name, limit=10)[0]
    opened.close()
    assert len(points) == 6 and all(point.payload["tags"] == ["new"] for point in points)
    assert {point.payload.get("person") for point in points} == {"yes", "no", None}


def test_the_web_app_gives_tags(tagged, monkeypatch, request):
    pytest.importorskip("flask")
    monkeypatch.setenv("PHOTOS", tagged.path)
    path = request.config.rootpath / "docs" / "examples" / "web_app.py"
    spec = importlib.util.spec_from_file_location("web_app_with_tags", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    answer = module.app.test_client().get("/search", query_string={"q": "red", "k": 6}).get_json()
    assert sorted(map(str, (hit["tags"] for hit in answer))) == sorted(map(str, [["red", "square"]] * 2 + [[]] * 4))


@pytest.mark.parametrize("name", ["text", "query", "captions", "sha256", "verdict", "schema"])
def test_no_column_takes_the_place_of_what_outputs_have_already(collection, name):
    with pytest.raises(InputError, match="already"):
        collection.tag(["red"], column=name)
