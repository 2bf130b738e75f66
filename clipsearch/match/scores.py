"""Scores that can be compared between queries: hubs, and the evidence for a query.

Some rows are near to every query. A row's hub measures that against the bank; all of it, half of it or nothing is taken
from its scores, whichever tells present from absent best on this collection. Evidence looks at the
``NEAREST`` best rows by plain score only, because that is what an index, exact or not, can give at query time; the
calibration looks at just as many, so that the two are the same quantity.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.types import Floats, Ints

HUB_DEPTH = 5  # bank queries that a hub is the mean of
ROWS = 512  # of one product, so that scores stay in the processor's cache until they are looked at
NEAREST = 100  # rows that evidence is taken from
DEPTH = 5  # ... and the best of them that it is the mean of, for texts
IMAGE_DEPTH = 1  # for pictures: that the very picture is there must be enough for a match
STRENGTHS = (0.0, 0.5, 1.0)  # of the hub correction; which one separates best depends on the encoder


def hubs(rows: Floats, bank: Floats) -> Floats:
    """Return how near each row is to anything at all: (n,) float32.

    Args:
        rows: (n, D) float32, unit norm.
        bank: (B, D) float32, unit norm; B at least ``HUB_DEPTH``.
    """
    found = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), ROWS):
        scores = rows[start : start + ROWS] @ bank.T
        scores.partition(scores.shape[1] - HUB_DEPTH, axis=1)
        found[start : start + ROWS] = scores[:, -HUB_DEPTH:].mean(axis=1, dtype=np.float32)
    return found


def evidence(scores: Floats, hubs: Floats, strength: float = 1.0, depth: int = DEPTH) -> Floats:
    """Return the evidence for each query: (Q,) float32, from its nearest rows.

    Args:
        scores: (Q, m) cosines of the nearest rows, in any order; -inf where there is no row.
        hubs: (Q, m) their hubs.
        strength: how much of the hubs to subtract.
        depth: the best corrected scores to take the mean of; fewer where there are fewer rows.
    """
    corrected = scores.astype(np.float64) - strength * hubs.astype(np.float64)
    depth = min(depth, corrected.shape[1])
    best = -np.sort(-corrected, axis=1)[:, :depth]
    there = np.isfinite(best)
    total = np.where(there, best, 0.0).sum(axis=1)
    counts = there.sum(axis=1)
    means = np.divide(total, counts, out=np.full(len(best), -np.inf), where=counts > 0)
    return means.astype(np.float32)


def content_keys(embeddings: NDArray[Any]) -> NDArray[np.uint64]:
    """Return a hash of each float16 row (n, D) by its content alone: (n,) uint64.

    Rows in the order of their keys are a fair sample, the same however the rows lie on the disk, and it changes little
    when rows are added.
    """
    bits = np.ascontiguousarray(embeddings, dtype=np.float16).view(np.uint16)
    factors = np.random.default_rng(20260101).integers(1, 2**63, bits.shape[1], dtype=np.uint64) | np.uint64(1)
    keys = np.empty(len(bits), np.uint64)
    for start in range(0, len(bits), ROWS):
        products = bits[start : start + ROWS] * factors
        keys[start : start + ROWS] = products.sum(axis=1, dtype=np.uint64)  # wraps around, as a hash may
    keys ^= keys >> np.uint64(31)
    return keys * np.uint64(0x9E3779B97F4A7C15)


def sample(keys: NDArray[np.uint64], n: int) -> Ints:
    """Return the positions (at most n,) of the rows with the smallest keys, in the order of the keys."""
    return np.argsort(keys, kind="stable")[:n].astype(np.int64)
