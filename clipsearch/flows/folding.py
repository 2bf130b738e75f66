"""Fold hits that show the same thing into one: the same bytes, the same picture, the same burst.

The order of the hits stays: a picture joins the best one that it is like, and ``k`` hits remain as long as there are so
many that differ. No file is opened for it, so pictures count as the same only where their embeddings nearly agree
(``alike.Limits.unseen``).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from clipsearch.flows.alike import Limits, fold
from clipsearch.flows.facts import COLUMNS, facts_of
from clipsearch.store import Snapshot
from clipsearch.types import Floats, Ints

Fetch = Callable[[int], tuple[Ints, Floats]]


@dataclass(frozen=True, slots=True)
class Folded:
    """The hits that are left.

    Attributes:
        ids: (n,) rows, best first.
        scores: (n,) theirs.
        others: the rows that were folded into each, best first.
        at: (n,) where they stood before.
    """

    ids: Ints
    scores: Floats
    others: tuple[tuple[int, ...], ...]
    at: Ints


def fold_hits(snapshot: Snapshot, ids: Ints, scores: Floats, k: int, fetch: Fetch) -> Folded:
    """Return ``k`` hits that differ, as far as there are so many.

    Twice as many rows are looked at as hits are wanted, and twice as many again until it is enough; what is folded
    into a hit is counted among those.

    Args:
        snapshot: where the pictures are.
        ids: (m,) rows in the order to show them, -1 where there is none.
        scores: (m,) theirs.
        k: hits wanted.
        fetch: gives ids and scores of so many nearest rows, where those given are not enough.
    """
    looked = 2 * k
    while True:
        there = ids >= 0
        ids, scores = ids[there], scores[there]
        if len(ids) < looked:
            ids, scores = _continued(ids, scores, *fetch(looked))
        part = ids[:looked]
        facts = facts_of(_with_ids(snapshot, part), len(part))
        groups = fold(facts, snapshot.embeddings("images", part).astype(np.float32), Limits())
        if len(groups) >= k or len(ids) < looked:
            at = np.array([group[0] for group in groups[:k]], np.int64)
            others = tuple(tuple(part[group[1:]].tolist()) for group in groups[:k])
            return Folded(part[at], scores[at], others, at)
        looked *= 2


def _continued(ids: Ints, scores: Floats, more: Ints, their: Floats) -> tuple[Ints, Floats]:
    """Return rows with those of ``more`` behind them that are new."""
    new = (more >= 0) & ~np.isin(more, ids)
    return np.concatenate([ids, more[new]]), np.concatenate([scores, their[new]])


def _with_ids(snapshot: Snapshot, ids: Ints) -> "list[dict[str, object]]":
    rows = snapshot.rows("images", ids)
    return [{name: row[name] for name in COLUMNS} for row in rows]
