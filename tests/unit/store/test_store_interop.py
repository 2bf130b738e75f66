import numpy as np
import pytest
from store_rows import DIM, image, new_store, unit

duckdb = pytest.importorskip("duckdb")
pandas = pytest.importorskip("pandas")


@pytest.fixture
def store(tmp_path):
    store = new_store(tmp_path / "a", n=3)
    with store.writer() as writer:
        [id_] = writer.new_ids(1)
        writer.commit(images=[image(id_, path=b"\xffodd.tar", member=b"in.jpg", taken=None)], deleted=[1])
    return store


def stored(n: int) -> np.ndarray:
    return np.stack([unit(id_) for id_ in range(n)]).astype(np.float16)


def test_duckdb_reads_shards_and_compares_embeddings_without_us(store):
    query = unit(2).astype(np.float16).astype(np.float32)
    rows = duckdb.execute(
        "SELECT id, path_text, width, taken, list_dot_product(embedding::FLOAT[], $q::FLOAT[]) AS score "
        f"FROM '{store.path}/embeddings/images-*.parquet' "
        f"WHERE id NOT IN (SELECT id FROM '{store.path}/deleted/*.parquet') ORDER BY score DESC",
        {"q": query.tolist()},
    ).fetchall()
    assert rows[0][:3] == (2, "folder/2.jpg", 640)
    assert rows[0][4] == pytest.approx(1, abs=2e-3)
    assert {row[0] for row in rows} == {0, 2, 3}
    assert {row[1] for row in rows if row[0] == 3} == {"\\xffodd.tar::in.jpg"}


def test_duckdb_array_functions_work_on_the_column_as_it_is(store):
    where = f"'{store.path}/embeddings/images-*.parquet'"
    norms = duckdb.execute(f"SELECT sqrt(list_dot_product(embedding, embedding)) FROM {where}").fetchall()
    assert np.allclose(norms, 1, atol=2e-3)
    [values] = zip(*duckdb.execute(f"SELECT embedding FROM {where} ORDER BY id").fetchall(), strict=True)
    assert np.array_equal(np.array(values, np.float32), stored(4).astype(np.float32))


def test_pandas_reads_every_column_and_equal_float16_embeddings(store):
    frame = pandas.read_parquet(f"{store.path}/embeddings").sort_values("id")
    assert frame["id"].tolist() == [0, 1, 2, 3]
    assert frame["path"].tolist()[3] == b"\xffodd.tar"
    assert frame["content_hash"].map(len).tolist() == [32] * 4
    embeddings = np.stack(frame["embedding"].tolist())
    assert embeddings.dtype == np.float16
    assert np.array_equal(embeddings, stored(4))


def test_the_arrow_schema_says_what_it_is(store):
    import pyarrow as pa
    import pyarrow.parquet as pq

    [first] = [entry for entry in store.snapshot().manifest.files_of("images")][:1]
    schema = pq.read_schema(f"{store.path}/{first.name}")
    assert schema.field("embedding").type == pa.list_(pa.field("element", pa.float16(), False), DIM)
    assert schema.field("path").type == pa.binary()
    assert schema.metadata[b"clipsearch.encoder"] == b"hashing"
    assert schema.metadata[b"clipsearch.dim"] == str(DIM).encode()
