"""Measure rungs on pairs that they were not fitted on.

Pictures are dealt into ``FOLDS`` by a hash of their embedding, so that copies of a picture lie in one fold. For each
fold the rungs are fitted on all others but the next one, the weight is chosen on that next one, and the change is
measured on the fold itself: nothing that was fitted or chosen saw a held-back caption or its picture.

A caption is ranked among pictures that were not fitted on either: those of its fold and of the one next to it, and
those without captions. Among all, the fitted ones would be in another position than the one that is looked for: their
captions pull a kNN prior towards them, and make hubs of them, which looked like a gain of two points where there was
none. In a search all are in the same position, as long as nearly all pictures have captions, which ``fit`` sees to.

A rung re-orders the ``DEPTH`` pictures nearest to the plain query, as a search does, and is tried on top of the rungs
that were switched on before it.

A rung for which pictures are drawn is measured on some of the captions only, for drawing takes seconds; the rungs that
it goes on top of are fitted on all pairs all the same.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipsearch.augment import DRAWN, RUNGS
from clipsearch.augment.base import Pairs, Rung
from clipsearch.evaluation.paired import Change, paired_bootstrap
from clipsearch.types import Floats, Ints

FOLDS = 5
DEPTH = 200  # pictures nearest to the plain query that rungs put into a new order
QUERIES = 256  # queries of one product
SEED = 20260101
AT = 10  # recall at this rank decides


@dataclass(frozen=True, slots=True)
class RungResult:
    """What was measured of a rung.

    Attributes:
        name: of the rung.
        on: whether the lower bound of ``r10`` is above zero.
        weight: the one to use.
        r1, r10, mrr: change on top of the rungs that are on before it, as shares (0 to 1).
        alone: change of R@10 against the plain query.
    """

    name: str
    on: bool
    weight: float
    r1: Change
    r10: Change
    mrr: Change
    alone: Change


@dataclass(frozen=True, slots=True)
class Level:
    """R@1, R@10 and MRR (0 to 1)."""

    r1: float
    r10: float
    mrr: float


@dataclass(frozen=True, slots=True)
class Trial:
    """All rungs measured: levels without any and with those that are on, and the change between the two."""

    rungs: tuple[RungResult, ...]
    plain: Level
    augmented: Level
    change: Change


@dataclass(frozen=True, slots=True, eq=False)
class Nearest:
    """The pictures nearest to each plain query.

    Attributes:
        at: (Q, m) their positions; plain: (Q, m) their scores, best first.
        target: (Q,) column of the query's own picture, or -1.
        rank: (Q,) plain rank of the query's own picture among all that it is ranked among, ties counted against it.
    """

    at: Ints
    plain: Floats
    target: Ints
    rank: Ints

    def ranks(self, scores: Floats, which: NDArray[np.bool_]) -> Ints:
        """Return the ranks (q,) of the marked queries under scores (Q, m); beyond the nearest the plain one holds."""
        scores, target, rank = scores[which], self.target[which], self.rank[which]
        own = np.take_along_axis(scores, np.maximum(target, 0)[:, None], axis=1)
        return np.where(target >= 0, (scores >= own).sum(axis=1), rank)


@dataclass(frozen=True, slots=True, eq=False)
class _Terms:
    """Terms or scores (Q, m) on each query's nearest: when its fold is held back, and when it chooses the weight."""

    held: Floats
    choosing: Floats


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """The pairs whose captions are asked, and their folds (q,)."""

    pairs: Pairs
    folds: Ints


@dataclass(frozen=True, slots=True, eq=False)
class _Near:
    held: Nearest
    choosing: Nearest


def measure(
    pairs: Pairs,
    folds: Ints,
    rows: Floats,
    targets: Ints,
    row_folds: Ints,
    names: Sequence[str] | None = None,
    tell: Callable[[int, int], None] | None = None,
    asked: Ints | None = None,
    given: Sequence[str] = (),
) -> Trial:
    """Measure rungs one after the other.

    Args:
        pairs: captions, each a query, and their pictures.
        folds: (P,) fold of each pair, 0 to ``FOLDS`` - 1; all pairs of a picture lie in one.
        rows: (n, D) float32, the pictures to rank among.
        targets: (P,) position among them of each caption's picture.
        row_folds: (n,) their folds; -1 for those without captions.
        names: rungs to try, in this order; None takes all that need nothing drawn.
        tell: called with how many rungs are done, of how many.
        asked: (q,) positions of the pairs whose captions are asked; None asks all.
        given: rungs that are on in any case and are tried before.
    """
    names = [name for name in RUNGS if name not in DRAWN] if names is None else names
    queries = _Asked(pairs, folds) if asked is None else _Asked(pairs.part(asked), folds[asked])
    targets = targets if asked is None else targets[asked]
    near = _Near(
        nearest(queries.pairs.texts, rows, targets, _among(queries.folds, row_folds, (0, 1))),
        nearest(queries.pairs.texts, rows, targets, _among(queries.folds, row_folds, (-1, 0))),
    )
    everything = np.ones(len(queries.folds), np.bool_)
    owners = queries.pairs.owners
    bare = stack = _Terms(near.held.plain, near.choosing.plain)  # scores without any rung, and with those that are on
    plain = before = near.held.ranks(bare.held, everything)
    for name in given:
        kind: type[Rung] = RUNGS.load(name)
        stack = _add(near, queries.folds, stack, _terms(kind, pairs, folds, queries, rows, near), kind.weights)
        before = near.held.ranks(stack.held, everything)
    results: list[RungResult] = []
    for number, name in enumerate(names):
        kind = RUNGS.load(name)
        terms = _terms(kind, pairs, folds, queries, rows, near)
        tried = _add(near, queries.folds, stack, terms, kind.weights)
        single = _add(near, queries.folds, bare, terms, kind.weights)
        after, alone = (near.held.ranks(scores.held, everything) for scores in (tried, single))
        r1, r10, mrr = (_change(value, before, after, owners) for value in (_within(1), _within(AT), _reciprocal))
        # the weight for later is chosen on all pairs; what was measured used none of its own fold
        weight = _best_weight(near.choosing, stack.choosing, terms.choosing, kind.weights, everything)
        change = _change(_within(AT), plain, alone, owners)
        results.append(RungResult(name, r10.is_gain, weight, r1, r10, mrr, change))
        if r10.is_gain:
            stack, before = tried, after
        if tell is not None:
            tell(number + 1, len(names))
    change = _change(_within(AT), plain, before, owners)
    return Trial(tuple(results), _level(plain), _level(before), change)


def row_folds_of(keys: NDArray[np.uint64], targets: Ints) -> tuple[Ints, Ints]:
    """Return the fold of each pair (P,), and of each row (n,), -1 for those without captions.

    Args:
        keys: (n,) hashes of the rows; equal pictures share one, and so a fold.
        targets: (P,) positions of the pairs' pictures among them.
    """
    folds = (keys[targets] % np.uint64(FOLDS)).astype(np.int64)
    row_folds = np.full(len(keys), -1, np.int64)
    row_folds[targets] = folds
    return folds, row_folds


def nearest(xq: Floats, rows: Floats, targets: Ints, among: Callable[[slice], NDArray[np.bool_]]) -> Nearest:
    """Return the rows nearest to each query, and where the rows asked for stand.

    Args:
        xq: (Q, D).
        rows: (n, D).
        targets: (Q,) positions of the rows asked for.
        among: gives for a slice of the queries (q, n) which rows they are ranked among.
    """
    m = min(DEPTH, len(rows))
    at, plain = np.empty((len(xq), m), np.int64), np.empty((len(xq), m), np.float32)
    rank = np.empty(len(xq), np.int64)
    for start in range(0, len(xq), QUERIES):
        part = slice(start, start + QUERIES)
        scores = np.where(among(part), xq[part] @ rows.T, np.float32(-np.inf))
        best = np.argpartition(-scores, m - 1, axis=1)[:, :m]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        at[part] = np.take_along_axis(best, order, axis=1)
        plain[part] = np.take_along_axis(scores, at[part], axis=1)
        rank[part] = (scores >= np.take_along_axis(scores, targets[part, None], axis=1)).sum(axis=1)
    hit = at == targets[:, None]
    return Nearest(at, plain, np.where(hit.any(axis=1), hit.argmax(axis=1), -1), rank)


def _among(folds: Ints, row_folds: Ints, steps: Sequence[int]) -> Callable[[slice], NDArray[np.bool_]]:
    """Return what gives the rows of the folds ``steps`` from each query's own, and those of none."""

    def among(part: slice) -> NDArray[np.bool_]:
        wanted = [(folds[part, None] + step) % FOLDS == row_folds for step in steps]
        return np.logical_or.reduce([*wanted, np.broadcast_to(row_folds < 0, wanted[0].shape)])

    return among


def _splits(folds: Ints) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]]:
    """Yield masks (P,): pairs to fit on, to choose the weight on, and held back."""
    for fold in range(FOLDS):
        held, choosing = folds == fold, folds == (fold + 1) % FOLDS
        yield ~held & ~choosing, choosing, held


def _terms(kind: type[Rung], pairs: Pairs, folds: Ints, queries: _Asked, rows: Floats, near: _Near) -> _Terms:
    terms = _Terms(np.zeros_like(near.held.plain), np.zeros_like(near.choosing.plain))
    fitted_on = (fitting for fitting, _, _ in _splits(folds))
    for fitting, (_, choosing, held) in zip(fitted_on, _splits(queries.folds), strict=True):
        rung = kind.fit(pairs.part(fitting))
        own = rung.row_term(rows)
        for mask, out, at in (
            (choosing, terms.choosing, near.choosing.at),
            (held, terms.held, near.held.at),
        ):
            where = np.flatnonzero(mask)
            for start in range(0, len(where), QUERIES):
                part = where[start : start + QUERIES]
                some = queries.pairs.part(part)
                prior = rung.prior(some.texts, some.drawn)
                if prior is not None:
                    out[part] = np.take_along_axis(prior @ rows.T, at[part], axis=1)
                elif own is not None:
                    out[part] = own[at[part]]
    return terms


def _add(near: _Near, folds: Ints, scores: _Terms, terms: _Terms, weights: Sequence[float]) -> _Terms:
    """Return scores with a rung's terms added, for each fold with the weight that is best on the next one."""
    added = _Terms(scores.held.copy(), scores.choosing.copy())
    for _, choosing, held in _splits(folds):
        weight = _best_weight(near.choosing, scores.choosing, terms.choosing, weights, choosing)
        added.held[held] += weight * terms.held[held]
        added.choosing[choosing] += weight * terms.choosing[choosing]
    return added


def _best_weight(
    near: Nearest, scores: Floats, terms: Floats, weights: Sequence[float], which: NDArray[np.bool_]
) -> float:
    """Return the weight with the best R@10 among the marked queries; among equals that with the best MRR."""

    def quality(weight: float) -> tuple[float, float]:
        ranks = near.ranks((scores + weight * terms).astype(np.float32), which)
        return float((ranks <= AT).mean()), float((1.0 / ranks).mean())

    return max(weights, key=quality) if which.any() else min(weights)


def _within(k: int) -> Callable[[Ints], NDArray[np.float64]]:
    return lambda ranks: (ranks <= k).astype(np.float64)


def _reciprocal(ranks: Ints) -> NDArray[np.float64]:
    return 1.0 / ranks


def _change(value: Callable[[Ints], NDArray[np.float64]], before: Ints, after: Ints, owners: Ints) -> Change:
    return paired_bootstrap(value(after) - value(before), owners, SEED)


def _level(ranks: Ints) -> Level:
    return Level(*(float(value(ranks).mean()) for value in (_within(1), _within(AT), _reciprocal)))
