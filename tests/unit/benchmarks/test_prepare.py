"""Data sets: exact answers are exact, and recall counts what it should."""

import numpy as np
import pytest
from planted import planted

from benchmarks import prepare as module
from benchmarks.prepare import Dataset, exact, prepare


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def dataset(tmp_path):
    """Rows 0 to 9 along an axis each, 10 the same as 9, and one query that likes the later ones better."""
    base = np.concatenate([np.eye(10), np.eye(10)[9:]]).astype(np.float16)
    query = unit(np.arange(10)[None] + 1.0)
    np.save(tmp_path / "base.npy", base)
    np.savez(tmp_path / "queries.npz", text=query)
    ids, scores = exact(base, query)
    np.savez(tmp_path / "truth.npz", text_ids=ids, text_scores=scores)
    return Dataset("tiny", str(tmp_path))


def test_exact_answers_equal_a_full_sort_whatever_the_block(monkeypatch):
    rng = np.random.default_rng(0)
    base, xq = unit(rng.standard_normal((500, 8))).astype(np.float16), unit(rng.standard_normal((9, 8)))
    expected = np.argsort(-(xq.astype(np.float64) @ base.T.astype(np.float64)), axis=1)[:, :20]
    for block in (7, 100, 10_000):
        monkeypatch.setattr(module, "BLOCK", block)
        ids, scores = exact(base, xq, 20)
        assert np.array_equal(ids, expected)
        assert (np.diff(scores, axis=1) <= 0).all()


def test_recall_counts_a_tie_as_right(dataset):
    for best in (9, 10):
        assert dataset.recall("text", np.array([[best]]), 1) == 1.0


def test_recall_counts_no_answer_twice_and_no_padding(dataset):
    assert dataset.recall("text", np.array([[9, 10, 8, 7]]), 4) == 1.0
    assert dataset.recall("text", np.array([[9, 9, 9, 9]]), 4) == 0.25
    assert dataset.recall("text", np.array([[9, -1, -1, 0]]), 4) == 0.25


def test_recall_is_of_the_queries_that_were_answered(dataset):
    assert dataset.recall("text", np.array([[8]]), 1) == 0.0


def test_a_big_ann_set_is_normalised_and_keeps_the_truth_it_came_with(tmp_path):
    rng = np.random.default_rng(0)
    rows, queries = rng.integers(1, 200, (60, 8)).astype(np.uint8), rng.integers(1, 200, (4, 8)).astype(np.uint8)
    for name, array in (("base.u8bin", rows), ("queries.u8bin", queries)):
        (tmp_path / name).write_bytes(np.array(array.shape, np.uint32).tobytes() + array.tobytes())
    spec = {"kind": "bigann", "base": str(tmp_path / "base.u8bin"), "queries": str(tmp_path / "queries.u8bin")}
    own = prepare(spec, str(tmp_path / "one"))
    assert np.allclose(np.linalg.norm(np.asarray(own.base, np.float32), axis=1), 1, atol=1e-3)
    ids = own.truth("text")[0].astype(np.uint32)
    truth = np.array(ids.shape, np.uint32).tobytes() + ids.tobytes() + np.zeros(ids.shape, np.float32).tobytes()
    (tmp_path / "truth.bin").write_bytes(truth)
    given = prepare({**spec, "truth": str(tmp_path / "truth.bin")}, str(tmp_path / "two"))
    assert np.allclose(given.truth("text")[1], own.truth("text")[1], atol=1e-6)
    assert given.recall("text", ids[:, :10].astype(np.int64), 10) == 1.0


def test_a_synthetic_set_is_made_once_and_tunes_on_other_queries_than_it_measures(tmp_path, monkeypatch):
    spec = {"kind": "synthetic", "n": 300, "dim": 16, "queries": 20, "clusters": 10, "topics": 3}
    made = prepare(spec, str(tmp_path))
    assert made.base.shape == (300, 16)
    assert {kind: len(made.queries(kind)) for kind in ("text", "image", "hard")} == dict.fromkeys(
        ("text", "image", "hard"), 20
    )
    tuning = np.load(made.tuning)
    assert not (tuning[:, None] == made.queries("text")[None]).all(axis=2).any()
    monkeypatch.setattr(module, "_synthetic", None)
    assert prepare(spec, str(tmp_path)).folder == made.folder


def test_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"dataset.kind is 'parquet'"):
        prepare({"kind": "parquet"}, str(tmp_path))


def test_a_collection_gives_its_pictures_some_of_them_as_queries_and_its_captions(tmp_path):
    planted(tmp_path / "c", concepts=range(20), copies=10)
    spec = {"kind": "collection", "path": str(tmp_path / "c"), "queries": 50}
    made = prepare(spec, str(tmp_path / "cache"))
    assert made.base.shape == (180, 64)
    assert made.queries("image").shape == (20, 64)
    assert made.queries("text").shape == (50, 64)
    assert made.recall("image", made.truth("image")[0], 10) == 1.0
    same = (made.queries("image")[:, None].astype(np.float16) == made.base[None]).all(axis=2)
    assert not same.any()  # what is asked for is not in the set
