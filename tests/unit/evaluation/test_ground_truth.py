"""Exact ranks block by block against the whole table of scores."""

import numpy as np
import pytest

from clipsearch.errors import InputError
from clipsearch.evaluation import ground_truth
from clipsearch.evaluation.ground_truth import best_ranks
from clipsearch.evaluation.metrics import ranks_of_best
from clipsearch.types import EmbeddingBlock


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(params=[3, 2048])
def slice_size(request, monkeypatch):
    monkeypatch.setattr(ground_truth, "ROWS", request.param)
    monkeypatch.setattr(ground_truth, "QUERIES", request.param)


@pytest.mark.parametrize("seed", range(4))
def test_ranks_equal_those_of_the_whole_table(slice_size, seed):
    rng = np.random.default_rng(seed)
    rows = unit(rng.standard_normal((12, 8)))[rng.integers(0, 12, 41)].astype(np.float16)  # copies, so ties
    ids = rng.permutation(41).astype(np.int64) * 7
    xq = unit(rng.standard_normal((10, 8)))
    relevant = rng.random((10, 41)) < 0.1
    relevant[np.arange(10), rng.integers(0, 41, 10)] = True
    queries, columns = np.nonzero(relevant)
    scores = (xq.astype(np.float64) @ rows.astype(np.float64).T).astype(np.float32)
    shuffled = rng.permutation(len(queries))
    found = best_ranks(
        xq,
        lambda: [EmbeddingBlock(ids[:17], rows[:17]), EmbeddingBlock(ids[17:], rows[17:])],
        queries[shuffled],
        ids[columns][shuffled],
    )
    np.testing.assert_array_equal(found, ranks_of_best(scores, relevant))


def test_a_right_answer_that_is_not_there_is_refused():
    xq = unit(np.ones((2, 4)))
    block = EmbeddingBlock(np.array([1, 2]), xq)
    with pytest.raises(InputError, match="1 queries have no right answer"):
        best_ranks(xq, lambda: [block], np.array([0, 1]), np.array([1, 9]))
