"""Ready embeddings become a collection: what is taken over, what is refused, what a second run does."""

import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clip_retrieval_layout import unit, write_golden

import clipsearch
from clipsearch.errors import InputError, ManifestMismatchError, SourceNotFoundError
from clipsearch.store import Store, verify_files
from clipsearch.types import SkipReason

DIM = 8


@pytest.fixture
def made(tmp_path):
    """An empty collection of 8 numbers an embedding, of an unknown model."""
    with clipsearch.create(tmp_path / "indexes" / "made", dim=DIM) as collection:
        yield collection


def stored(collection, kind="images"):
    """Return the live embeddings of a collection, in the order of their ids."""
    snapshot = Store.open(collection.path).snapshot()
    blocks = list(snapshot.blocks(kind))
    ids = np.concatenate([np.empty(0, np.int64), *(b.ids for b in blocks)])
    rows = np.concatenate([np.empty((0, DIM), np.float16), *(b.embeddings for b in blocks)])
    live = ~np.isin(ids, snapshot.deleted_ids())
    return rows[live][np.argsort(ids[live])]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rows_of_any_norm_and_float_type_are_stored_with_unit_norm(tmp_path, made, dtype):
    rows = unit(50, DIM) * np.random.default_rng(1).uniform(0.01, 100, (50, 1))
    np.save(tmp_path / "vectors.npy", rows.astype(dtype))
    report = made.index_embeddings(tmp_path / "vectors.npy")
    assert (report.images, report.skips) == (50, ())
    exact = rows.astype(dtype).astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    np.testing.assert_array_equal(stored(made), exact.astype(np.float16))


def test_float16_rows_of_unit_norm_keep_every_bit(tmp_path, made):
    rows = unit(3000, DIM).astype(np.float16)
    np.save(tmp_path / "vectors.npy", rows)
    made.index_embeddings(tmp_path / "vectors.npy")
    assert stored(made).tobytes() == rows.tobytes()


def test_numbers_whose_squares_leave_float64_still_have_a_direction(tmp_path, made):
    rows = unit(4, DIM) * np.array([[1e250], [1e-250], [1e-310], [1.0]])
    np.save(tmp_path / "vectors.npy", rows)
    assert made.index_embeddings(tmp_path / "vectors.npy").skips == ()
    np.testing.assert_allclose(stored(made).astype(np.float64), unit(4, DIM), atol=1e-3)


def test_rows_without_a_direction_are_refused_by_file_and_row_and_the_rest_is_taken(tmp_path, made):
    rows = unit(10, DIM)
    rows[2, 3], rows[5, 0], rows[7] = np.nan, np.inf, 0
    np.save(tmp_path / "vectors.npy", rows)
    report = made.index_embeddings(tmp_path / "vectors.npy")
    assert {(s.path, s.member, s.reason) for s in report.skips} == {
        (b"vectors.npy", b"2", SkipReason.NON_FINITE),
        (b"vectors.npy", b"5", SkipReason.NON_FINITE),
        (b"vectors.npy", b"7", SkipReason.ZERO_EMBEDDING),
    }
    hits = made.search(vector=rows[9], k=20)
    assert len(hits) == 7 and hits[0].path == "vectors.npy::9"
    again = made.index_embeddings(tmp_path / "vectors.npy")
    assert (again.images, again.unchanged, again.version) == (0, 10, report.version)
    assert again.skips == report.skips


def test_a_folder_of_arrays_of_any_layout_in_memory_is_read_in_the_order_of_its_names(tmp_path, made):
    folder = tmp_path / "arrays"
    folder.mkdir()
    rows = unit(30, DIM)
    np.save(folder / "b.npy", np.asfortranarray(rows[10:]))
    np.save(folder / "a.npy", rows[:10].astype(">f4"))
    made.index_embeddings(folder)
    np.testing.assert_allclose(stored(made), rows, atol=1e-3)


TYPES = [pa.list_(pa.float32(), DIM), pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.float16(), DIM)]


@pytest.mark.parametrize("type_", TYPES, ids=str)
def test_a_parquet_column_of_lists_brings_its_rows_metadata(tmp_path, made, type_):
    rows = unit(6, DIM).astype(np.float16 if pa.types.is_float16(type_.value_type) else np.float64)
    lists = [*(list(row) for row in rows[:4]), None, list(rows[5])]
    table = pa.table(
        {
            "vec": pa.array(lists, type_),
            "url": [f"https://example.org/{i}.jpg" for i in range(6)],
            "width": pa.array([640.0, None, 3, 4, 5, 6], pa.float64()),
            "taken": ["2024-05-01T10:00:00", "yesterday", None, None, None, None],
            "sha256": ["ab" * 32, None, "nonsense", None, None, None],
        }
    )
    pq.write_table(table, tmp_path / "table.parquet", row_group_size=2)
    report = made.index_embeddings(tmp_path / "table.parquet", column="vec")
    assert [(s.member, s.reason) for s in report.skips] == [(b"4", SkipReason.NON_FINITE)]
    first = made.search(vector=rows[0].astype(np.float64), k=1)[0]
    assert first.path == "https://example.org/0.jpg"
    assert first.metadata["width"] == 640 and first.metadata["taken"].year == 2024
    second = made.search(vector=rows[1].astype(np.float64), k=1)[0]
    assert "width" not in second.metadata and "taken" not in second.metadata
    assert [hit.path for hit in made.search(vector=rows[0].astype(np.float64), where="width < 10")] == [
        hit.path for hit in made.search(vector=rows[0].astype(np.float64), k=9) if hit.metadata.get("width", 99) < 10
    ]


def test_lists_of_another_length_are_refused_row_by_row(tmp_path, made):
    rows = [list(row) for row in unit(4, DIM)]
    rows[2] = rows[2][:5]
    pq.write_table(pa.table({"embedding": rows}), tmp_path / "t.parquet")
    report = made.index_embeddings(tmp_path / "t.parquet")
    assert report.images == 3 and [s.member for s in report.skips] == [b"2"]


def test_a_clip_retrieval_folder_comes_in_the_order_of_its_ids_with_captions_linked(tmp_path, made):
    images, texts, paths, captions = write_golden(tmp_path / "cr")
    report = made.index_embeddings(tmp_path / "cr")
    assert (report.images, report.texts, report.skips) == (25, 25, ())
    assert stored(made).tobytes() == images.tobytes() and stored(made, "texts").tobytes() == texts.tobytes()
    for i in (0, 11, 24):
        assert made.search(vector=images[i].astype(np.float32), k=1)[0].path == paths[i]
        hit = made.search(vector=texts[i].astype(np.float32), k=1, target="text")[0]
        assert (hit.text, hit.path) == (captions[i], paths[i])


def test_what_is_stored_as_columns_is_what_row_objects_would_store(tmp_path, made):
    """The sidecars are read by searches, the Parquet where they are missing: both must say the same."""
    write_golden(tmp_path / "cr")
    made.index_embeddings(tmp_path / "cr")
    assert verify_files(made.path) == []
    before = Store.open(made.path).snapshot()
    ids = before.blocks("images").__next__().ids.tolist()
    rows = before.rows("images", ids)
    for file in (tmp_path / "indexes" / "made" / "sidecars").iterdir():
        file.unlink()
    after = Store.open(made.path).snapshot()
    assert after.rows("images", ids) == rows
    assert [k.text for k in after.captions()] == [k.text for k in before.captions()]
    table = after.metadata_table()
    assert table.column("path").to_pylist() == [os.fsdecode(row["path"]) for row in rows]


def break_counts(folder):
    np.save(folder / "img_emb" / "img_emb_1.npy", unit(3, DIM))


def break_padding(folder):
    (folder / "img_emb" / "img_emb_2.npy").rename(folder / "img_emb" / "img_emb_02.npy")


def break_gap(folder):
    for kind, suffix in (("img_emb", "npy"), ("text_emb", "npy"), ("metadata", "parquet")):
        (folder / kind / f"{kind}_1.{suffix}").unlink()


def break_partner(folder):
    (folder / "metadata" / "metadata_1.parquet").unlink()


BROKEN = [
    (break_counts, "img_emb/img_emb_1.npy has 3"),
    (break_padding, "img_emb_02.npy"),
    (break_gap, "--allow-gaps"),
    (break_partner, "metadata/metadata_1.parquet"),
]


@pytest.mark.parametrize(("harm", "named"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_clip_retrieval_folder_that_does_not_fit_together_is_refused_before_anything_is_stored(
    tmp_path, made, harm, named
):
    write_golden(tmp_path / "cr")
    harm(tmp_path / "cr")
    before = made.version
    with pytest.raises(InputError, match=named) as caught:
        made.index_embeddings(tmp_path / "cr")
    assert len(str(caught.value).splitlines()) <= 3
    made.refresh()
    assert made.version == before
    if harm is break_gap:
        assert made.index_embeddings(tmp_path / "cr", allow_gaps=True).images == 17


@pytest.mark.parametrize("rows", [1, 7, 100])
def test_a_run_that_was_killed_goes_on_at_the_very_row(tmp_path, made, monkeypatch, rows):
    images, texts, _, _ = write_golden(tmp_path / "cr")
    from clipsearch.store import Writer

    real, left = Writer.commit_columns, [1]

    def dying(self, *args, **kwargs):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Writer, "commit_columns", dying)
    for _ in range(40):
        left[0] = 1
        try:
            made.index_embeddings(tmp_path / "cr", commit_rows=rows)
            break
        except KeyboardInterrupt:
            continue
    else:
        pytest.fail("it never came to an end")
    made.refresh()
    assert stored(made).tobytes() == images.tobytes() and stored(made, "texts").tobytes() == texts.tobytes()


def test_a_second_run_does_nothing_and_a_changed_file_is_read_again(tmp_path, made):
    images, *_ = write_golden(tmp_path / "cr")
    first = made.index_embeddings(tmp_path / "cr")
    again = made.index_embeddings(tmp_path / "cr")
    assert (again.images, again.unchanged, again.version) == (0, 25, first.version)
    file = tmp_path / "cr" / "img_emb" / "img_emb_1.npy"
    np.save(file, np.load(file)[:, ::-1])
    os.utime(file, ns=(1, 1))
    changed = made.index_embeddings(tmp_path / "cr")
    assert (changed.images, changed.deleted, changed.unchanged, changed.images_total) == (8, 8, 17, 25)
    assert len(made.search(vector=images[0].astype(float), k=50, target="text")) == 25


def test_a_later_run_over_pictures_leaves_imported_rows_alone(tmp_path, photos):
    """Even rows whose paths are those of the pictures, and even where these are not there."""
    names = [str(photos / "red.png"), str(photos / "nowhere.png"), "https://example.org/x.png"]
    with clipsearch.create(tmp_path / "indexes" / "mixed", model="hashing") as mixed:
        rows = unit(3, mixed.encoder.dim)
        pq.write_table(pa.table({"embedding": list(rows), "path": names}), tmp_path / "t.parquet")
        mixed.index_embeddings(tmp_path / "t.parquet", model="hashing")
        report = mixed.index(photos)
        assert (report.embedded, report.deleted, report.images_total) == (6, 0, 9)
        report = mixed.index(photos)
        assert (report.unchanged, report.deleted, report.images_total) == (6, 0, 9)
        assert {mixed.search(vector=row, k=1)[0].path for row in rows} == set(names)
        assert ("", False, 3) in mixed.status().roots


def test_embeddings_of_an_unknown_model_answer_vectors_and_refuse_words_in_three_lines(tmp_path, made):
    rows = unit(5, DIM)
    np.save(tmp_path / "v.npy", rows)
    made.index_embeddings(tmp_path / "v.npy")
    assert made.search(vector=rows[3], k=1)[0].path == "v.npy::3"
    with pytest.raises(InputError, match="--model NAME") as caught:
        made.search("a dog")
    assert len(str(caught.value).splitlines()) <= 3
    assert made.model == "unknown"


def test_a_named_model_must_be_of_that_dimension_and_then_answers_words(tmp_path):
    with pytest.raises(InputError, match="numbers"):
        clipsearch.create(tmp_path / "wrong", model="mini", dim=DIM)
    with clipsearch.create(tmp_path / "indexes" / "source", model="hashing") as source:
        rows = source.encoder.encode_texts(["a red square", "a blue sky"])
    np.save(tmp_path / "v.npy", rows)
    with clipsearch.create(tmp_path / "indexes" / "named", model="hashing", dim=rows.shape[1]) as named:
        named.index_embeddings(tmp_path / "v.npy", model="hashing")
        assert named.search("a blue sky", k=1)[0].path == "v.npy::1"
        with pytest.raises(ManifestMismatchError, match="unknown"):
            np.save(tmp_path / "w.npy", rows)
            named.index_embeddings(tmp_path / "w.npy")


def test_embeddings_of_a_model_whose_weights_are_not_here_can_be_imported_and_searched_by_vector(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "nothing"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "nothing"))
    rows = unit(5, 512)
    np.save(tmp_path / "v.npy", rows)
    with clipsearch.create(tmp_path / "named", model="vit-b-32", dim=512) as named:
        named.index_embeddings(tmp_path / "v.npy", model="vit-b-32")
        assert named.search(vector=rows[2], k=1)[0].path == "v.npy::2"
        assert Store.open(named.path).snapshot().manifest.encoder["name"] == "vit-b-32"


def test_embeddings_of_another_dimension_are_refused(tmp_path, made):
    np.save(tmp_path / "v.npy", unit(3, 4))
    with pytest.raises(ManifestMismatchError, match="4 numbers"):
        made.index_embeddings(tmp_path / "v.npy")


def sources(folder):
    (folder / "empty").mkdir()
    (folder / "both").mkdir()
    np.save(folder / "both" / "a.npy", unit(2, 2))
    pq.write_table(pa.table({"x": [1]}), folder / "both" / "b.parquet")
    np.save(folder / "flat.npy", np.zeros(3))
    np.save(folder / "whole.npy", np.zeros((3, 3), np.int64))
    (folder / "no.npy").write_bytes(b"this is no array")
    np.save(folder / "cut.npy", unit(100, DIM))
    os.truncate(folder / "cut.npy", 1000)
    pq.write_table(pa.table({"embedding": ["a"]}), folder / "text.parquet")
    (folder / "no.parquet").write_bytes(b"PAR1")


@pytest.mark.parametrize(
    "name",
    ["nowhere", "empty", "both", "flat.npy", "whole.npy", "no.npy", "cut.npy", "text.parquet", "no.parquet"],
)
def test_what_holds_no_embeddings_is_refused_in_three_lines(tmp_path, made, name):
    sources(tmp_path)
    with pytest.raises((InputError, SourceNotFoundError)) as caught:
        made.index_embeddings(tmp_path / name)
    assert name.split(".")[0] in str(caught.value) and len(str(caught.value).splitlines()) <= 3
