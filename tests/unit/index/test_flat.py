"""Exact search: what is particular to it beside the contract of all index types."""

import threading
import tracemalloc

import numpy as np
import pytest

from clipsearch.index import flat
from clipsearch.index.flat import FlatIndex
from clipsearch.types import EmbeddingBlock


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def random_rows(n, dim, seed=0):
    return unit(np.random.default_rng(seed).standard_normal((n, dim), dtype=np.float32)).astype(np.float16)


def brute_force(rows, xq, k):
    scores = (xq.astype(np.float64) @ rows.astype(np.float64).T).astype(np.float32)
    ids = np.arange(len(rows))
    return np.stack([np.lexsort((ids, -row))[:k] for row in scores])


@pytest.fixture
def small_slices(monkeypatch):
    """Slices of a few rows, so that borders between them are met often."""
    monkeypatch.setattr(flat, "ROW_NUMBERS", 300)
    monkeypatch.setattr(flat, "SCORE_NUMBERS", 80)


@pytest.mark.parametrize("k", [1, 5, 40, 500])
def test_answers_do_not_depend_on_slice_borders(small_slices, k):
    originals = random_rows(40, 16)
    rows = originals[np.random.default_rng(1).integers(0, 40, 500)]
    xq = unit(np.random.default_rng(2).standard_normal((9, 16)))
    index = FlatIndex(16)
    index.add(EmbeddingBlock(np.arange(500), rows))
    np.testing.assert_array_equal(index.search(xq, k).ids, brute_force(rows, xq, k))


@pytest.mark.parametrize("slice_rows", [100, 4000])
def test_answers_equal_brute_force_where_rows_are_almost_equal(monkeypatch, slice_rows):
    # Rows closer together than a float32 product can tell apart: the float64 score must decide.
    monkeypatch.setattr(flat, "ROW_NUMBERS", 256 * slice_rows)
    rng = np.random.default_rng(3)
    base = unit(rng.standard_normal((1, 256)))
    rows = unit(base + 3e-7 * rng.standard_normal((3000, 256)))
    index = FlatIndex(256)
    index.add(EmbeddingBlock(np.arange(3000), rows))
    np.testing.assert_array_equal(index.search(base, 50).ids, brute_force(rows, base, 50))


def test_memory_maps_are_searched_in_bounded_memory(tmp_path):
    n, dim = 60_000, 128
    rows = random_rows(n, dim)
    np.save(tmp_path / "rows.npy", rows)
    index = FlatIndex(dim)
    index.add(EmbeddingBlock(np.arange(n), np.load(tmp_path / "rows.npy", mmap_mode="r")))
    xq = unit(np.random.default_rng(4).standard_normal((300, dim)))
    index.search(xq[:1], 1)
    tracemalloc.start()
    try:
        found = index.search(xq, 10)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * 2**20
    np.testing.assert_array_equal(found.ids[:5], brute_force(rows, xq[:5], 10))


def test_all_rows_can_be_asked_for_in_bounded_memory():
    n, dim = 30_000, 16
    rows = random_rows(n, dim)
    index = FlatIndex(dim)
    index.add(EmbeddingBlock(np.arange(n), rows))
    tracemalloc.start()
    try:
        found = index.search(rows[:4].astype(np.float32), n)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * 2**20
    np.testing.assert_array_equal(np.sort(found.ids[0]), np.arange(n))
    assert (np.diff(found.scores) <= 0).all()


def test_a_warm_copy_answers_the_same_and_drops_dead_rows():
    rows = random_rows(200, 16)
    index = FlatIndex(16)
    index.add(EmbeddingBlock(np.arange(100), rows[:100]))
    index.add(EmbeddingBlock(np.arange(100, 200), rows[100:]))
    index.remove(np.array([3, 150, 151]))
    warm = index.warmed()
    xq = unit(np.random.default_rng(5).standard_normal((4, 16)))
    assert warm is not index and warm.ntotal == index.ntotal == 197
    np.testing.assert_array_equal(warm.search(xq, 30).ids, index.search(xq, 30).ids)
    np.testing.assert_array_equal(warm.search(xq, 30).scores, index.search(xq, 30).scores)


def test_a_collection_over_the_budget_stays_on_disk():
    index = FlatIndex(16)
    index.add(EmbeddingBlock(np.arange(100), random_rows(100, 16)))
    assert index.warmed(budget_bytes=100 * 16 * 4 - 1) is index
    assert index.warmed(budget_bytes=100 * 16 * 4) is not index


def test_every_finite_half_becomes_the_same_float():
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)][:, None]
    np.testing.assert_array_equal(flat.as_float32(halves).view(np.uint32), halves.astype(np.float32).view(np.uint32))
    strided = np.arange(24, dtype=np.float16).reshape(4, 6)[::2, ::3]
    np.testing.assert_array_equal(flat.as_float32(strided), strided.astype(np.float32))


def test_threads_get_the_answers_of_one_thread():
    rows = random_rows(4000, 32)
    index = FlatIndex(32)
    index.add(EmbeddingBlock(np.arange(4000), rows))
    queries = [unit(np.random.default_rng(seed).standard_normal((3, 32))) for seed in range(16)]
    expected = [index.search(xq, 10).ids for xq in queries]
    found = [None] * 16

    def work(part):
        for number in range(part, 16, 4):
            found[number] = index.search(queries[number], 10).ids

    threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(np.stack(found), np.stack(expected))
