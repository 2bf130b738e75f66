"""Concepts: what to leave out of a collection, so that a query has nothing to find.

Hiding only a query's own picture is not enough: its near-duplicates stay behind, and "absent" would look like "there".
So rows are grouped by k-means on the sphere, and whole groups are hidden. How fine the groups are decides how the null
comes out. Too coarse, and more is hidden than a real absent query lacks: the null is too low, which breaks the level
(measured: with groups of 8 of 212 pictures, 7 to 11 % instead of 5 %). Too fine, and the other half of a concept stays
behind: the null is too high, which keeps the level and costs power. So the groups are fine, one for four rows, at most
64, and halves of one concept are joined again: two groups are *twins* when most rows of each have their nearest
neighbour outside in the other, and no farther than inside. In a continuum neighbours are many and few have a twin.
Pictures alone are grouped a little coarser, one for six: a group of few pictures is the very nearest ones, and to hide
those and no more is to hide what a query by picture goes by (108 pictures: 6.9 % with four, 5.9 % with six).

A picture with captions is the two embeddings side by side. A caption's concept is its picture's. A query of the bank
has no picture: where most of its best rows lie in one concept, that is taken to be the one it asks for; where they are
scattered, it asks for nothing that is there.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipsearch.types import Floats, Ints

MIN_CONCEPTS, MAX_CONCEPTS = 12, 64
ROWS_EACH, ROWS_EACH_ALONE = 4, 6  # rows in a concept of a small collection; where there are no captions
TRAINED_ON = 2_048  # rows: 32 for each of 64 groups
TWINS_FROM = 1_024  # rows that twins are looked for among
TWIN_SHARE = 0.4  # of the neighbours outside, mean of both ways
CLOSE_SHARE = 0.2  # of all neighbours, both ways added: halves of one group have 1, groups apart 0
_ROUNDS = 8
_SEED = 7


@dataclass(frozen=True, slots=True, eq=False)
class Concepts:
    """Centres (k, D) and the concept (k,) that each stands for; twins stand for the same."""

    centres: Floats
    groups: Ints

    def assign(self, points: Floats) -> Ints:
        """Return the concept (n,) of each point (n, D)."""
        return self.groups[_nearest_centre(points, self.centres)]


def concept_count(n: int, each: int = ROWS_EACH) -> int:
    """Return how many groups ``n`` rows are divided into, before twins are joined."""
    return int(np.clip(n // each, MIN_CONCEPTS, MAX_CONCEPTS))


def find_concepts(points: Floats, k: int) -> Concepts:
    """Return the concepts among points (n, D) of unit norm, from at most ``k`` groups; the first points count most."""
    centres = _spread(points, k)
    for _ in range(_ROUNDS):
        labels = _nearest_centre(points, centres)
        sums = (labels == np.arange(len(centres))[:, None]).astype(np.float32) @ points
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(norms > 0, sums / np.maximum(norms, 1e-12), centres).astype(np.float32)
    some = points[:TWINS_FROM]
    return Concepts(centres, _join_twins(some, _nearest_centre(some, centres), len(centres)))


def _nearest_centre(points: Floats, centres: Floats) -> Ints:
    return (points @ centres.T).argmax(axis=1)


def _join_twins(points: Floats, labels: Ints, k: int) -> Ints:
    """Return which group each group belongs to (k,), once twins are joined."""
    groups = np.arange(k)
    scores = points @ points.T
    np.fill_diagonal(scores, -np.inf)
    nearest = scores.argmax(axis=1)
    scores[labels[:, None] == labels] = -np.inf
    while np.isfinite(scores).any():
        outside = _shares(labels, labels[scores.argmax(axis=1)], k)
        mutual = (outside + outside.T) / 2
        anywhere = _shares(labels, labels[nearest], k)
        mutual[anywhere + anywhere.T < CLOSE_SHARE] = 0  # neighbours, but far from each other
        np.fill_diagonal(mutual, 0)
        a, b = np.unravel_index(mutual.argmax(), mutual.shape)
        if mutual[a, b] < TWIN_SHARE:
            break
        groups[groups == b], labels = a, np.where(labels == b, a, labels)
        joined = labels == a
        scores[np.ix_(joined, joined)] = -np.inf
    return groups


def _shares(labels: Ints, others: Ints, k: int) -> NDArray[np.float64]:
    """Return for each group (k, k) which share of its rows has its neighbour in each group."""
    counts = np.zeros((k, k))
    np.add.at(counts, (labels, others), 1)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def _spread(points: Floats, k: int) -> Floats:
    """Choose starting centres far from each other (k-means++), the same for the same points."""
    rng = np.random.default_rng(_SEED)
    chosen = [0]
    distance = 1.0 - points @ points[0]
    while len(chosen) < min(k, len(points)):
        weights = np.maximum(distance, 0.0).astype(np.float64)
        if weights.sum() <= 1e-9:  # only copies are left
            break
        chosen.append(int(np.searchsorted(np.cumsum(weights), rng.random() * weights.sum(), side="right")))
        chosen[-1] = min(chosen[-1], len(points) - 1)
        distance = np.minimum(distance, 1.0 - points @ points[chosen[-1]])
    return points[chosen].copy()


def owners(labels: Ints, majority: int = 3) -> Ints:
    """Return for each query the concept that at least ``majority`` of its best rows (Q, m) lie in, or -1 (Q,)."""
    counts = (labels[:, :, None] == labels[:, None, :]).sum(axis=2)
    most = counts.argmax(axis=1)[:, None]
    owner = np.take_along_axis(labels, most, axis=1)[:, 0]
    return np.where(counts.max(axis=1) >= majority, owner, -1)
