"""Spherical k-means: parts of rows that point the same way, the same ones at each run.

Centres start from rows picked far from each other (k-means++ on a sample) and move to the mean direction of their rows;
the best of a few starts on the sample parts all rows. Everything follows from the seed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipsearch.types import Floats, Ints

SAMPLE = 20_000
STARTS = 3
ROUNDS = 25
_BLOCK = 4096
Gather = Callable[[Ints], NDArray[np.float16] | Floats]


@dataclass(frozen=True, slots=True)
class Clusters:
    """Centres (k, D) float32 of unit norm, largest cluster first; of each row (n,) its cluster and its cosine to it."""

    centres: Floats
    cluster: Ints
    scores: Floats


def spherical_kmeans(gather: Gather, n: int, k: int, *, seed: int = 0) -> Clusters:
    """Part rows into ``k`` clusters; some may be empty and are left out.

    Args:
        gather: gives the rows (m, D), of unit norm, at ascending positions (m,).
        n: rows, at least ``k``.
        k: clusters wanted.
        seed: of the sample and the starts.
    """
    rng = np.random.default_rng(seed)
    at = np.sort(rng.choice(n, min(n, max(SAMPLE, 50 * k)), replace=False)) if n > SAMPLE else np.arange(n)
    sample = np.asarray(gather(at), np.float32)
    tries = [_settled(sample, _start(sample, k, rng)) for _ in range(STARTS)]
    centres = max(tries, key=lambda found: float((sample @ found.T).max(axis=1).sum()))
    cluster, scores = _assigned(gather, n, centres)
    sizes = np.bincount(cluster, minlength=len(centres))
    order = np.argsort(-sizes, kind="stable")[: int((sizes > 0).sum())]
    place = np.empty(len(centres), np.int64)
    place[order] = np.arange(len(order))
    return Clusters(centres[order], place[cluster], scores)


def _start(rows: Floats, k: int, rng: np.random.Generator) -> Floats:
    """Return ``k`` rows (k, D) of (n, D), each picked by how far it is from those picked before."""
    picked = [int(rng.integers(len(rows)))]
    apart = np.maximum(1 - rows @ rows[picked[0]], 0.0).astype(np.float64)
    while len(picked) < k:
        total = apart.sum()
        picked.append(int(rng.choice(len(rows), p=apart / total)) if total > 1e-9 else int(rng.integers(len(rows))))
        apart = np.minimum(apart, np.maximum(1 - rows @ rows[picked[-1]], 0.0))
    return rows[picked].copy()


def _settled(rows: Floats, centres: Floats) -> Floats:
    """Return centres (k, D) after ``ROUNDS`` rounds, or when no row changes its cluster any more."""
    before: Ints | None = None
    for _ in range(ROUNDS):
        cluster = (rows @ centres.T).argmax(axis=1)
        if before is not None and np.array_equal(cluster, before):
            break
        before = cluster
        counts = np.bincount(cluster, minlength=len(centres))
        filled = counts > 0
        starts = (np.cumsum(counts) - counts)[filled]
        centres[filled] = np.add.reduceat(rows[np.argsort(cluster, kind="stable")], starts, axis=0)
        centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)
    return centres


def _assigned(gather: Gather, n: int, centres: Floats) -> tuple[Ints, Floats]:
    cluster, best = np.empty(n, np.int64), np.empty(n, np.float32)
    for start in range(0, n, _BLOCK):
        at = np.arange(start, min(start + _BLOCK, n))
        scores = np.asarray(gather(at), np.float32) @ centres.T
        cluster[at] = scores.argmax(axis=1)
        best[at] = scores.max(axis=1)
    return cluster, best


def distinct_labels(centres: Floats, labels: Floats) -> tuple[Ints, Floats]:
    """Return for each centre the label that tells it best from the other centres, no label twice, and how well it does.

    A label's score at a centre is its cosine less its mean over all centres: what fits everything names nothing. Pairs
    are given out best first. A centre alone gets the label nearest to it, with a contrast of 0, for there is nothing to
    tell it from.

    Args:
        centres: (k, D) unit norm.
        labels: (m, D) unit norm.

    Returns:
        (k,) positions of labels, -1 where there are fewer labels than centres; (k,) contrasts.
    """
    scores = labels @ centres.T
    contrast = scores - scores.mean(axis=1, keepdims=True) if len(centres) > 1 else scores
    names, how = np.full(len(centres), -1, np.int64), np.zeros(len(centres), np.float32)
    taken = np.zeros(len(labels), np.bool_)
    for place in np.argsort(-contrast, axis=None, kind="stable").tolist():
        label, centre = divmod(place, len(centres))
        if names[centre] < 0 and not taken[label]:
            names[centre], how[centre], taken[label] = label, contrast[label, centre], True
            if (names >= 0).all():
                break
    return names, how if len(centres) > 1 else np.zeros_like(how)
