"""All pairs of rows that are nearly the same, without comparing every row with every other.

Two ideas make the work grow as N log N:

1. *Few numbers first.* Rows are projected onto the directions in which they differ most (principal components of a
   sample, ``COMPONENTS`` of them). A projection never lengthens a difference, so rows at cosine t, which are
   r = sqrt(2 - 2t) apart, are at most r apart there too. What is farther apart is out, exactly; the few pairs that are
   left are compared in all their numbers.
2. *Parts.* Beyond ``EXACT_ROWS`` rows the projections are parted again and again, each time among a few centres,
   until a part is small enough to be compared whole. Two rows that are alike fall into different parts only if a
   border runs between them, the plane halfway between two centres; then one of the two is at most r / 2 from it. So a
   row that near to a border goes to both sides. All of r / 2 is needed only where two rows differ along the very
   normal of a border, one direction of many. So a row goes to both sides within ``MARGIN`` of that only, which copies
   far fewer rows, and the whole is done ``ROUNDS`` times with other centres: a pair is missed only where a border of
   every round runs just so. ``benchmarks/stages/duplicates.py`` measures what is missed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import InputError
from clipsearch.types import Floats, Ints

EXACT_ROWS = 50_000
LEAF_ROWS = 2048
COMPONENTS = 64
ROUNDS = 3
MARGIN = 0.2  # share of the distance from a border within which nothing at all can be missed
MOST_PAIRS = 20_000_000
_SAMPLE = 4096
_BRANCHES = 48
_BLOCK = 2048
_DEPTH = 12
_ROUNDING = 1e-4  # of squared distances in float32
Gather = Callable[[Ints], NDArray[np.float16] | Floats]
Spans = list[tuple[Ints, Ints, Floats]]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of rows by position, each once: first (n,) < second (n,), scores (n,) float32; ordered by both."""

    first: Ints
    second: Ints
    scores: Floats


def near_pairs(gather: Gather, n: int, threshold: float, *, exact: bool | None = None, seed: int = 0) -> Pairs:
    """Find the pairs of rows whose inner product is at least ``threshold``.

    In memory are the projections, ``4 * COMPONENTS`` bytes a row, and what is made of a part.

    Args:
        gather: gives the rows (m, D), of unit norm, at ascending positions (m,).
        n: rows.
        threshold: cosine, above 0 and at most 1.
        exact: compare every pair; None does so up to ``EXACT_ROWS``.
        seed: of the samples that directions and centres are learned from.

    Raises:
        InputError: there are more than ``MOST_PAIRS``.
    """
    if n < 2:
        return _joined([], 1)
    rng = np.random.default_rng(seed)
    near, total = projected(gather, n, rng), 0
    reach = max(2 - 2 * threshold, 0.0) + _ROUNDING
    found: Spans = []
    for part in _parts(near, reach, rng, whole=n <= EXACT_ROWS if exact is None else exact):
        for one, two in _candidates(near, part, reach):
            confirmed = _confirmed(gather, one, two, threshold)
            found += confirmed
            total += sum(len(first) for first, _, _ in confirmed)
            if total > MOST_PAIRS:
                raise InputError(
                    f"More than {MOST_PAIRS:,} pairs of pictures are that much alike (cosine {threshold:g} or more).\n"
                    "Ask for a higher threshold, or for fewer pictures with --where."
                )
    return _joined(found, n)


def projected(gather: Gather, n: int, rng: np.random.Generator) -> Floats:
    """Return the rows (n, C) in the directions in which they differ most."""
    sample = np.asarray(gather(np.sort(rng.choice(n, min(n, _SAMPLE), replace=False))), np.float32)
    middle = sample.mean(axis=0)
    basis = np.linalg.eigh((sample - middle).T.astype(np.float64) @ (sample - middle))[1]
    basis = basis[:, ::-1][:, :COMPONENTS].astype(np.float32)
    rows = np.empty((n, basis.shape[1]), np.float32)
    for start in range(0, n, _BLOCK):
        at = np.arange(start, min(start + _BLOCK, n))
        rows[at] = (np.asarray(gather(at), np.float32) - middle) @ basis
    return rows


def _parts(near: Floats, reach: float, rng: np.random.Generator, whole: bool) -> Iterator[Ints]:
    """Yield positions (m,) of rows that are to be compared with each other; a row is in several parts."""
    waiting = [(np.arange(len(near)), 0)] * (1 if whole or len(near) <= LEAF_ROWS else ROUNDS)
    while waiting:
        at, depth = waiting.pop()
        children = [] if whole or len(at) <= LEAF_ROWS or depth == _DEPTH else _split(near, at, reach, rng)
        waiting += [(child, depth + 1) for child in children]
        if not children:
            yield at


def _split(near: Floats, at: Ints, reach: float, rng: np.random.Generator) -> list[Ints]:
    """Return smaller parts that cover the rows at ``at`` (m,); none where they cannot be parted."""
    k = min(_BRANCHES, max(2, 2 * len(at) // LEAF_ROWS))
    centres = _centres(near[rng.choice(at, min(len(at), 100 * k), replace=False)], k, rng)
    margin = MARGIN * np.sqrt(reach) / 2
    members: list[list[Ints]] = [[] for _ in centres]
    for start in range(0, len(at), _BLOCK):
        piece = at[start : start + _BLOCK]
        inside = _within(near[piece], centres, margin)
        for cell in np.flatnonzero(inside.any(axis=0)).tolist():
            members[cell].append(piece[inside[:, cell]])
    sizes = [sum(map(len, rows)) for rows in members]
    if max(sizes) > 0.8 * len(at) or sum(sizes) > 8 * len(at):
        return []  # one clump: parting would copy rows and part nothing
    return [np.concatenate(rows) for rows, size in zip(members, sizes, strict=True) if size > 1]


def _within(rows: Floats, centres: Floats, margin: float) -> NDArray[np.bool_]:
    """Tell (m, C) in which cells each row is, or at most ``margin`` away from."""
    squared = (centres**2).sum(axis=1) - 2 * rows @ centres.T  # but for |x|^2, which is the same in a line
    best = squared.argmin(axis=1)
    apart = np.sqrt(((centres[:, None] - centres[None]) ** 2).sum(axis=2))
    return squared - squared.min(axis=1, keepdims=True) <= 2 * margin * apart[best]


def _centres(rows: Floats, k: int, rng: np.random.Generator, rounds: int = 6) -> Floats:
    """Return ``k`` centres (k, C) of rows (n, C) by k-means."""
    centres = rows[rng.choice(len(rows), k, replace=False)].copy()
    for _ in range(rounds):
        cell = ((centres**2).sum(axis=1) - 2 * rows @ centres.T).argmin(axis=1)
        order = np.argsort(cell, kind="stable")
        counts = np.bincount(cell, minlength=k)
        filled = counts > 0
        starts = (np.cumsum(counts) - counts)[filled]
        centres[filled] = np.add.reduceat(rows[order], starts, axis=0) / counts[filled, None]
    return centres


def _candidates(near: Floats, at: Ints, reach: float) -> Iterator[tuple[Ints, Ints]]:
    """Yield the pairs of positions within a part whose projections are near enough."""
    rows, columns = _sides(near[at], reach)
    for start in range(0, len(at), _BLOCK):
        for other in range(start, len(at), _BLOCK):
            right = columns[other : other + _BLOCK]
            i, j = np.divmod(np.flatnonzero(rows[start : start + _BLOCK] @ right.T >= 0), len(right))
            if other == start:
                i, j = i[i < j], j[i < j]
            if len(i):
                yield at[start + i], at[other + j]


def _sides(near: Floats, reach: float) -> tuple[Floats, Floats]:
    """Return left and right (m, C + 2), whose products are (reach - |x - y|^2) / 2: one product and one comparison."""
    half = (near**2).sum(axis=1, keepdims=True) / 2
    one = np.ones_like(half)
    return np.hstack([near, one, reach / 2 - half]), np.hstack([near, -half, one])


def _confirmed(gather: Gather, one: Ints, two: Ints, threshold: float) -> Spans:
    """Return those of the pairs whose whole rows are near enough, and their scores."""
    kept: Spans = []
    for start in range(0, len(one), _BLOCK):
        a, b = one[start : start + _BLOCK], two[start : start + _BLOCK]
        at, back = np.unique(np.concatenate([a, b]), return_inverse=True)
        rows = np.asarray(gather(at), np.float32)
        scores = np.einsum("ij,ij->i", rows[back[: len(a)]], rows[back[len(a) :]])
        keep = scores >= threshold
        kept.append((a[keep], b[keep], scores[keep]))
    return kept


def _joined(found: Spans, n: int) -> Pairs:
    """Return pairs that may have come several times, each once."""
    if not found:
        return Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    one, two, scores = (np.concatenate(column) for column in zip(*found, strict=True))
    keys, at = np.unique(np.minimum(one, two) * n + np.maximum(one, two), return_index=True)
    return Pairs(keys // n, keys % n, scores[at])


def union(one: Pairs, two: Pairs, n: int) -> Pairs:
    """Return the pairs of both, of positions below ``n``, each once; the scores of ``one`` come first."""
    return _joined([(pairs.first, pairs.second, pairs.scores) for pairs in (one, two)], n)
