"""Fold hits that show or say the same into one: the same bytes, the same picture, the same burst; the same words.

The order of the hits stays: a picture joins the best one that it is like, and ``k`` hits remain as long as there are so
many that differ. No file is opened for it, so pictures count as the same only where their embeddings nearly agree, or
their perceptual hashes do (``alike.twins``). Texts are the same where nothing but case and blanks differ.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from clipsearch.flows.alike import Limits, fold
from clipsearch.flows.facts import COLUMNS, facts_of
from clipsearch.store import Snapshot
from clipsearch.types import Floats, Ints

MOST = 4096  # rows looked at, however many are wanted: a million pictures may have one caption
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


def fold_hits(snapshot: Snapshot, kind: str, ids: Ints, scores: Floats, k: int, fetch: Fetch) -> Folded:
    """Return ``k`` hits that differ, as far as there are so many among the 4,096 nearest or the ``2 k``.

    Twice as many rows are looked at as hits are wanted, and twice as many again until it is enough; what is folded
    into a hit is counted among those.

    Args:
        snapshot: where the rows are.
        kind: of rows, "images" or "texts".
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
        groups = _same_words(snapshot, part) if kind == "texts" else _alike(snapshot, part)
        if len(groups) >= k or len(ids) < looked or looked >= MOST:
            at = np.array([group[0] for group in groups[:k]], np.int64)
            others = tuple(tuple(part[group[1:]].tolist()) for group in groups[:k])
            return Folded(part[at], scores[at], others, at)
        looked *= 2


def _continued(ids: Ints, scores: Floats, more: Ints, their: Floats) -> tuple[Ints, Floats]:
    """Return rows with those of ``more`` behind them that are new."""
    new = (more >= 0) & ~np.isin(more, ids)
    return np.concatenate([ids, more[new]]), np.concatenate([scores, their[new]])


def _alike(snapshot: Snapshot, ids: Ints) -> list[list[int]]:
    """Return positions of pictures (n,) by group."""
    facts = facts_of(_with_ids(snapshot, ids), len(ids))
    return fold(facts, snapshot.embeddings("images", ids).astype(np.float32), Limits())


def _same_words(snapshot: Snapshot, ids: Ints) -> list[list[int]]:
    """Return positions of texts (n,) by group."""
    groups: dict[str, list[int]] = {}
    for place, row in enumerate(snapshot.rows("texts", ids)):
        groups.setdefault(words_of(row["text"]), []).append(place)
    return list(groups.values())


def words_of(text: str) -> str:
    """Return what texts of the same words share: the text without regard to case and blanks."""
    return " ".join(text.casefold().split())


def _with_ids(snapshot: Snapshot, ids: Ints) -> "list[dict[str, object]]":
    rows = snapshot.rows("images", ids)
    return [{name: row[name] for name in COLUMNS} for row in rows]
