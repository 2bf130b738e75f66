"""How often tags are right (precision) and how many are found (recall); which label is taken for which.

Counted over pairs of a picture and a label. Tags of one picture stand or fall together, so intervals count pictures,
not tags, where that makes them wider (``intervals.grouped_share``).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.evaluation.intervals import Share, grouped_share
from clipsearch.types import Ints

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TagScores:
    """Precision and recall with 95 % intervals, 0 to 1; None where nothing was given, or nothing is there."""

    precision: Share | None
    recall: Share | None
    given: int
    right: int
    there: int


def tag_scores(given: Bools, truth: Bools) -> TagScores:
    """Compare the tags given (n, L) with those that are true (n, L)."""
    right = given & truth
    return TagScores(_share(right, given), _share(right, truth), int(given.sum()), int(right.sum()), int(truth.sum()))


def _share(right: Bools, among: Bools) -> Share | None:
    rows, columns = np.nonzero(among)
    if not len(rows):
        return None
    return grouped_share(right[rows, columns], rows, len(rows))


def label_scores(given: Bools, truth: Bools) -> list[TagScores]:
    """Compare label by label."""
    return [tag_scores(given[:, n : n + 1], truth[:, n : n + 1]) for n in range(given.shape[1])]


def confusion(predicted: Ints, true: Ints, n_labels: int) -> Ints:
    """Return how often each true label (row) was taken for each label (column): (L, L)."""
    counts = np.zeros((n_labels, n_labels), dtype=np.int64)
    np.add.at(counts, (true, predicted), 1)
    return counts


def ranks_of(scores: NDArray[Any], truth: Bools) -> Ints:
    """Return at which rank (n,) the best true label of each picture stands among all labels; ties count against it."""
    best = np.where(truth, scores, -np.inf).max(axis=1, keepdims=True)
    return 1 + ((scores >= best) & ~truth).sum(axis=1)
