"""Exact ranks, block by block: what an index is measured against, and what a model is measured by.

The rows pass twice. The first pass finds the score of each query's best right answer, the second counts the wrong rows
that score at least as high; memory holds one block against one slice of queries, never the table of all scores.

Scores are computed in float64 and rounded to float32. A float32 matrix product can give equal rows unequal scores,
depending on where they stand in the block; ties, which the rank counts, would then be a matter of chance.
"""

from collections.abc import Callable, Iterable

import numpy as np

from clipsearch.errors import InputError
from clipsearch.types import EmbeddingBlock, Floats, Ints

Blocks = Callable[[], Iterable[EmbeddingBlock]]
ROWS = 2048  # rows and queries of one product: 32 MB of scores in float64
QUERIES = 2048


def best_ranks(xq: Floats, blocks: Blocks, queries: Ints, relevant: Ints) -> Ints:
    """Return the rank (Q,) of each query's best right answer among all rows, ties counted against it.

    Args:
        xq: queries (Q, D).
        blocks: gives the rows, each time it is called; every id once.
        queries: (R,) which query each right answer belongs to, 0 to Q - 1.
        relevant: (R,) ids of the right answers; several for one query are allowed.

    Raises:
        InputError: a query has no right answer among the rows.
    """
    order = np.argsort(relevant, kind="stable")
    queries, relevant = np.asarray(queries)[order], np.asarray(relevant)[order]
    targets = np.full(len(xq), -np.inf, np.float32)
    for ids, xb in _slices(blocks):
        owner, column = _right_answers(ids, queries, relevant)
        np.maximum.at(targets, owner, _pair_scores(xq, xb, owner, column))
    if np.isneginf(targets).any():
        raise InputError(f"{int(np.isneginf(targets).sum())} queries have no right answer among the rows.")
    ranks = np.ones(len(xq), np.int64)
    for ids, xb in _slices(blocks):
        owner, column = _right_answers(ids, queries, relevant)
        for start in range(0, len(xq), QUERIES):
            part = slice(start, start + QUERIES)
            scores = (xq[part].astype(np.float64) @ xb.T).astype(np.float32)
            inside = (owner >= start) & (owner < start + QUERIES)
            scores[owner[inside] - start, column[inside]] = -np.inf
            ranks[part] += (scores >= targets[part, None]).sum(axis=1)
    return ranks


def _slices(blocks: Blocks) -> Iterable[tuple[Ints, np.ndarray]]:
    """Yield ids (B,) and rows (B, D) as float64, at most ``ROWS`` at a time."""
    for block in blocks():
        for start in range(0, len(block.ids), ROWS):
            part = slice(start, start + ROWS)
            yield block.ids[part], np.asarray(block.embeddings[part], dtype=np.float64)


def _right_answers(ids: Ints, queries: Ints, relevant: Ints) -> tuple[Ints, Ints]:
    """Return (owner, column) of the right answers among these ids (B,); ``relevant`` is sorted."""
    first, last = np.searchsorted(relevant, ids, "left"), np.searchsorted(relevant, ids, "right")
    counts = last - first
    column = np.repeat(np.arange(len(ids)), counts)
    within = np.arange(len(column)) - np.repeat(np.cumsum(counts) - counts, counts)
    return queries[np.repeat(first, counts) + within], column


def _pair_scores(xq: Floats, xb: np.ndarray, owner: Ints, column: Ints) -> Floats:
    scores = np.empty(len(owner), np.float32)
    for start in range(0, len(owner), ROWS):
        part = slice(start, start + ROWS)
        scores[part] = np.einsum("ij,ij->i", xq[owner[part]].astype(np.float64), xb[column[part]])
    return scores
