"""Pictures inside Parquet files are indexed like files, and not decoded again while they are the same."""

import io
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support import COLOURS

import clipsearch
from clipsearch.decode import DecodePool
from clipsearch.errors import SourceNotFoundError
from clipsearch.scan import open_source
from clipsearch.store import Store
from clipsearch.types import SkipReason


def png(colour, seed=0):
    noise = np.random.default_rng(seed).integers(-8, 9, (64, 96, 3))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(buffer, "png")
    return buffer.getvalue()


PICTURES = {name: png(colour, seed) for seed, (name, colour) in enumerate(COLOURS.items())}
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write(path, cells, type_=STRUCT, column="image", group=2):
    pq.write_table(
        pa.table({"label": list(range(len(cells))), column: pa.array(cells, type_)}), path, row_group_size=group
    )


def cells_of(pictures):
    return [{"bytes": data, "path": f"{name}.png"} for name, data in pictures.items()]


@pytest.fixture
def made(tmp_path):
    with clipsearch.create(tmp_path / "indexes" / "made", model="hashing") as collection:
        yield collection


@pytest.fixture(scope="module")
def of_files(tmp_path_factory):
    """The embeddings (6, D) of the same pictures as files, in the order of ``PICTURES``."""
    folder = tmp_path_factory.mktemp("same")
    for name, data in PICTURES.items():
        (folder / f"{name}.png").write_bytes(data)
    with clipsearch.create(tmp_path_factory.mktemp("indexes") / "files", model="hashing") as files:
        files.index(folder, workers=1)
        snapshot = Store.open(files.path).snapshot()
        rows = {k.path.decode().removesuffix(".png"): k.id for k in snapshot.known_files()}
        return snapshot.embeddings("images", [rows[name] for name in PICTURES])


@pytest.fixture
def no_decoding(monkeypatch):
    def refuse(*_):
        raise AssertionError("something was to be decoded")

    return lambda: monkeypatch.setattr(DecodePool, "run", lambda self, requests: (refuse() for _ in requests))


LAYOUTS = [
    ("image", STRUCT, cells_of(PICTURES), "t.parquet::0/red.png"),
    ("bytes", pa.binary(), list(PICTURES.values()), "t.parquet::0"),
    ("image", pa.large_binary(), list(PICTURES.values()), "t.parquet::0"),
    ("foto", pa.binary(), list(PICTURES.values()), "t.parquet::0"),
]


@pytest.mark.parametrize(("column", "type_", "cells", "shown"), LAYOUTS, ids=["struct", "bytes", "large", "named"])
def test_rows_are_embedded_as_the_same_files_would_be(
    tmp_path, made, of_files, column, type_, cells, shown, no_decoding
):
    write(tmp_path / "t.parquet", cells, type_, column)
    named = "foto" if column == "foto" else None
    report = made.index(tmp_path / "t.parquet", column=named, workers=1)
    assert (report.embedded, report.skips) == (6, ())
    snapshot = Store.open(made.path).snapshot()
    vectors = snapshot.embeddings("images", sorted(k.id for k in snapshot.known_files()))
    np.testing.assert_array_equal(vectors, of_files)
    hit = made.search(vector=vectors[0].astype(np.float32), k=1)[0]
    assert hit.path == str(tmp_path / shown) and (hit.metadata["width"], hit.metadata["format"]) == (96, "png")
    no_decoding()
    again = made.index(tmp_path / "t.parquet", column=named)
    assert (again.unchanged, again.embedded, again.version) == (6, 0, report.version)


def test_cells_that_are_no_pictures_are_skipped_by_row_and_the_rest_is_taken(tmp_path, made):
    cells = [*cells_of(PICTURES), None, {"bytes": b"", "path": "empty.png"}, {"bytes": b"no picture\0", "path": None}]
    write(tmp_path / "t.parquet", cells)
    report = made.index(tmp_path / "t.parquet", workers=1)
    assert report.embedded == 6
    assert {(s.member, s.reason) for s in report.skips} == {
        (b"6", SkipReason.EMPTY),
        (b"7/empty.png", SkipReason.EMPTY),
        (b"8", SkipReason.UNIDENTIFIED),
    }


def test_a_table_written_anew_embeds_only_what_is_new_and_drops_what_is_gone(tmp_path, made):
    write(tmp_path / "t.parquet", cells_of(PICTURES))
    made.index(tmp_path / "t.parquet", workers=1)
    fewer = {name: data for name, data in PICTURES.items() if name != "black"} | {"red": png((1, 200, 200), 9)}
    write(tmp_path / "t.parquet", cells_of(fewer))
    os.utime(tmp_path / "t.parquet", ns=(5, 5))
    report = made.index(tmp_path / "t.parquet", workers=1)
    assert (report.embedded, report.reused, report.deleted, report.images_total) == (1, 4, 1, 5)


def test_a_column_of_paths_is_still_one_of_paths_even_as_bytes(tmp_path, photos):
    names = [os.fsencode(path) for path in sorted(photos.iterdir())]
    pq.write_table(pa.table({"image": pa.array(names, pa.binary())}), tmp_path / "t.parquet")
    assert open_source(tmp_path / "t.parquet").kind == "table"
    pq.write_table(pa.table({"a": [1]}), tmp_path / "u.parquet")
    with pytest.raises(SourceNotFoundError):
        open_source(tmp_path / "u.parquet")
