"""Every index type against a float64 oracle: what ``clipsearch.index.base`` promises."""

import numpy as np
import pytest

from clipsearch.errors import InputError
from clipsearch.index import INDEX_TYPES
from clipsearch.types import EmbeddingBlock

DIM = 24


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def rows_with_copies(n, seed=0, dim=DIM):
    """Unit rows, about half of them exact copies of others, so that many scores tie."""
    rng = np.random.default_rng(seed)
    originals = unit(rng.standard_normal((max(n // 2, 1), dim))).astype(np.float16)
    return originals[rng.integers(0, len(originals), n)]


def shuffled_ids(n, seed=1):
    return np.random.default_rng(seed).permutation(n).astype(np.int64) * 3 + 5


def oracle(xb, ids, xq, k):
    """The best k by float64 scores rounded to float32, ties to the smaller id."""
    scores = (xq.astype(np.float64)[:, None, :] * xb.astype(np.float64)[None]).sum(axis=2).astype(np.float32)
    ids_out = np.full((len(xq), k), -1, np.int64)
    scores_out = np.full((len(xq), k), -np.inf, np.float32)
    for q, row in enumerate(scores):
        order = np.lexsort((ids, -row))[:k]
        ids_out[q, : len(order)], scores_out[q, : len(order)] = ids[order], row[order]
    return ids_out, scores_out


def blocks(ids, rows, *sizes):
    start = 0
    for size in (*sizes, len(ids)):
        if start < len(ids):
            yield EmbeddingBlock(ids[start : start + size], rows[start : start + size])
        start += size


@pytest.fixture(params=list(INDEX_TYPES))
def make_index(request):
    def make(ids, rows, *sizes):
        index = INDEX_TYPES.load(request.param)(rows.shape[1])
        for block in blocks(ids, rows, *sizes):
            index.add(block)
        return index

    return make


def same(found, expected):
    np.testing.assert_array_equal(found.ids, expected[0])
    np.testing.assert_array_equal(found.scores, expected[1])
    assert found.ids.dtype == np.int64
    assert found.scores.dtype == np.float32


@pytest.mark.parametrize("k", [1, 3, 10, 199, 200])
def test_answers_equal_the_oracle_with_ties_to_the_smaller_id(make_index, k):
    rows, ids = rows_with_copies(200), shuffled_ids(200)
    xq = unit(np.random.default_rng(2).standard_normal((7, DIM)))
    same(make_index(ids, rows, 64, 1, 50).search(xq, k), oracle(rows, ids, xq, k))


def test_a_tie_across_the_last_place_goes_to_the_smallest_ids(make_index):
    rows = np.repeat(unit(np.ones((1, DIM))), 50, axis=0)
    ids = shuffled_ids(50)
    found = make_index(ids, rows, 7, 20).search(rows[:1], 4)
    np.testing.assert_array_equal(found.ids[0], np.sort(ids)[:4])


def test_missing_answers_are_padded(make_index):
    rows, ids = rows_with_copies(3), shuffled_ids(3)
    found = make_index(ids, rows).search(unit(np.ones((2, DIM))), 6)
    assert (found.ids[:, 3:] == -1).all()
    assert np.isneginf(found.scores[:, 3:]).all()
    assert (found.ids[:, :3] >= 0).all()


def test_an_empty_index_answers_nothing(make_index):
    index = make_index(np.empty(0, np.int64), np.empty((0, DIM), np.float16))
    found = index.search(unit(np.ones((2, DIM))), 3)
    assert index.ntotal == 0
    assert (found.ids == -1).all() and np.isneginf(found.scores).all()


def test_one_row_is_found(make_index):
    rows, ids = rows_with_copies(1), np.array([42])
    same(make_index(ids, rows).search(rows.astype(np.float32), 1), oracle(rows, ids, rows.astype(np.float32), 1))


def test_no_query_gives_no_answer(make_index):
    found = make_index(shuffled_ids(4), rows_with_copies(4)).search(np.empty((0, DIM), np.float32), 3)
    assert found.ids.shape == found.scores.shape == (0, 3)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_a_search_within_allowed_ids_equals_an_index_of_only_those_rows(make_index, share):
    rows, ids = rows_with_copies(300), shuffled_ids(300)
    inside = np.random.default_rng(4).random(300) < share
    xq = unit(np.random.default_rng(5).standard_normal((5, DIM)))
    wanted = np.random.default_rng(6).permutation(np.concatenate([ids[inside], [10**9]]))
    same(make_index(ids, rows, 100).search(xq, 10, allowed=wanted), oracle(rows[inside], ids[inside], xq, 10))


def test_nothing_allowed_answers_nothing(make_index):
    found = make_index(shuffled_ids(9), rows_with_copies(9)).search(
        unit(np.ones((1, DIM))), 3, allowed=np.empty(0, np.int64)
    )
    assert (found.ids == -1).all()


@pytest.mark.parametrize("share", [0.05, 0.95])
def test_excluded_and_removed_rows_are_not_answered(make_index, share):
    rows, ids = rows_with_copies(300), shuffled_ids(300)
    rng = np.random.default_rng(7)
    removed, excluded, inside = rng.random(300) < share / 2, rng.random(300) < share / 2, rng.random(300) < 0.8
    xq = unit(rng.standard_normal((4, DIM)))
    index = make_index(ids, rows, 128)
    index.remove(np.concatenate([ids[removed], [10**9]]))
    left = ~removed & ~excluded & inside
    assert index.ntotal == 300 - removed.sum()
    same(index.search(xq, 12, allowed=ids[inside], excluded=ids[excluded]), oracle(rows[left], ids[left], xq, 12))


def test_an_answer_does_not_depend_on_the_rest_of_the_batch(make_index):
    rows, ids = rows_with_copies(500), shuffled_ids(500)
    xq = unit(np.random.default_rng(8).standard_normal((33, DIM)))
    index = make_index(ids, rows, 90, 200)
    together = index.search(xq, 20)
    for q in (0, 16, 32):
        alone = index.search(xq[q : q + 1], 20)
        np.testing.assert_array_equal(alone.ids[0], together.ids[q])
        np.testing.assert_array_equal(alone.scores[0], together.scores[q])


def test_how_rows_were_split_into_blocks_does_not_matter(make_index):
    rows, ids = rows_with_copies(400), shuffled_ids(400)
    xq = unit(np.random.default_rng(9).standard_normal((6, DIM)))
    one, many = make_index(ids, rows).search(xq, 15), make_index(ids, rows, *[1] * 30, 7, 70).search(xq, 15)
    same(one, (many.ids, many.scores))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_query_that_is_not_finite_is_refused(make_index, bad):
    xq = unit(np.ones((2, DIM)))
    xq[1, 3] = bad
    with pytest.raises(InputError, match="NaN or infinity"):
        make_index(shuffled_ids(4), rows_with_copies(4)).search(xq, 3)


@pytest.mark.parametrize("shape", [(DIM,), (2, DIM + 1), (2, DIM - 1), (1, 1, DIM)])
def test_a_query_of_the_wrong_shape_is_refused(make_index, shape):
    with pytest.raises(InputError, match="shape"):
        make_index(shuffled_ids(4), rows_with_copies(4)).search(np.ones(shape, np.float32), 3)


@pytest.mark.parametrize("k", [0, -1])
def test_less_than_one_answer_is_refused(make_index, k):
    with pytest.raises(InputError, match="k is"):
        make_index(shuffled_ids(4), rows_with_copies(4)).search(unit(np.ones((1, DIM))), k)


def test_rows_of_another_dimension_are_refused(make_index):
    index = make_index(shuffled_ids(4), rows_with_copies(4))
    with pytest.raises(InputError, match="dim"):
        index.add(EmbeddingBlock(np.array([1]), np.ones((1, DIM + 1), np.float16)))
