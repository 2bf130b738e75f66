"""Exact rows by id, over segments."""

import numpy as np
import pytest

from clipsearch.errors import InputError
from clipsearch.index.rows import RowStore, sample_rows


def rows_of(ids):
    return np.asarray(ids, np.float16)[:, None] * np.ones((1, 3), np.float16)


@pytest.mark.parametrize(
    "pieces",
    [[[0, 1, 2, 3]], [[5, 6], [7, 8, 9]], [[3, 8], [11, 40]], [[9, 2], [30, 1]], [[40], [3, 8, 11]], [[7]]],
    ids=["dense", "dense in two", "sparse", "unordered", "overlapping order", "one"],
)
def test_rows_are_found_by_id_whatever_the_segments(pieces):
    store = RowStore(3)
    for piece in pieces:
        store.add(np.array(piece), rows_of(piece))
    ids = np.sort(np.concatenate(pieces))
    np.testing.assert_array_equal(store.ids, np.concatenate(pieces))  # a position is where a row was put
    np.testing.assert_array_equal(store.ids[store.positions(ids)], ids)
    wanted = np.concatenate([ids[::-1], [-1, 1000, 4]])
    at = store.positions(wanted)
    there = np.isin(wanted, ids)
    assert (at[~there] == -1).all()
    np.testing.assert_array_equal(store.gather(at[there])[:, 0], wanted[there])
    np.testing.assert_array_equal(np.concatenate([s[0] for s in store.segments]), store.ids)


def test_an_empty_store_knows_no_id():
    assert RowStore(3).positions(np.array([1, 2])).tolist() == [-1, -1]
    assert len(RowStore(3)) == 0 and RowStore(3).segments == []


def test_rows_of_another_shape_are_refused():
    with pytest.raises(InputError, match="dim 3"):
        RowStore(3).add(np.array([1, 2]), np.zeros((2, 4), np.float16))


def test_a_sample_is_drawn_evenly_over_blocks_and_repeats():
    blocks = [(np.arange(a, b), rows_of(np.arange(a, b))) for a, b in ((0, 100), (100, 101), (101, 1000))]
    sample = sample_rows(blocks, 1000, 200)[:, 0]
    assert sample.dtype == np.float32
    assert len(np.unique(sample)) == 200 and abs(np.median(sample) - 500) < 100
    np.testing.assert_array_equal(sample, sample_rows(blocks, 1000, 200)[:, 0])
    assert len(sample_rows(blocks, 1000, 5000)) == 1000
