"""Numbers from ranks.

A retrieval is right as far as the right answer stands near the top. Its *rank* is 1 for the first place; with ties the
right answer stands last among its equals (the pessimistic convention):

    rank = 1 + how many wrong answers score at least as high as the best right one

So an encoder that gives every picture the same score ranks last instead of being credited with luck, and the number
does not depend on how a sort happened to order equals. From the ranks of Q queries, each in 1 .. n:

- recall@k: the share of queries whose rank is at most k;
- median rank; mean reciprocal rank: the mean of 1 / rank, between 0 and 1.
"""

from collections.abc import Sequence

import numpy as np

from clipsearch.errors import InputError
from clipsearch.types import Floats, Ints


def ranks_of_best(scores: Floats, relevant: np.ndarray) -> Ints:
    """Return the rank (Q,) of each query's best right answer among scores (Q, n); ``relevant`` (Q, n) is bool.

    Raises:
        InputError: the shapes differ or a query has no right answer.
    """
    if scores.shape != relevant.shape or not relevant.any(axis=1).all():
        raise InputError("Each query needs a right answer, and scores and relevance the same shape (Q, n).")
    best = np.where(relevant, scores, -np.inf).max(axis=1, keepdims=True)
    return 1 + ((scores >= best) & ~relevant).sum(axis=1)


def recall_at_k(ranks: Ints, k: int) -> float:
    """Return the share of ranks (Q,) that are at most ``k``, 0 to 1."""
    return float((_checked(ranks) <= k).mean())


def median_rank(ranks: Ints) -> float:
    """Return the median of the ranks (Q,)."""
    return float(np.median(_checked(ranks)))


def mean_reciprocal_rank(ranks: Ints) -> float:
    """Return the mean of 1 / rank over ranks (Q,), 0 to 1."""
    return float((1.0 / _checked(ranks)).mean())


def _checked(ranks: Ints | Sequence[int]) -> Ints:
    array = np.asarray(ranks, dtype=np.int64)
    if array.ndim != 1 or not len(array) or array.min() < 1:
        raise InputError("Ranks must be a non-empty list of numbers from 1.")
    return array
