"""Exact search in numpy: the baseline, the oracle of the other index types, and fast enough for most photo folders.

Every row is compared with every query. Three ideas keep that exact, small and quick:

1. *Blocks.* Rows may lie in float16 memory maps of any size; a slice of them at a time becomes float32 and meets a
   slice of the queries in one matrix product. Slices are sized so that working memory stays near 64 MB whatever
   N, Q and D are (the answer itself, Q times k, comes on top).
2. *A bar to clear.* Each query keeps its best ``k`` so far; only rows above the k-th of them are looked at again.
3. *Coarse, then true.* A float32 matrix product rounds differently depending on the shape of the batch, so equal
   rows can come out unequal, and the order would depend on chance. Rows that reach the bar within the known rounding
   error are therefore scored again, row by row, in float64. Only that score counts: equal rows are ties, ties go to
   the smaller id (also at the k-th place and across blocks), and an answer is the same bit for bit whatever else is
   in the batch.

The error of a float32 dot product of D terms is at most ``D * 2**-24 * |q| * |x|``, and |x| = 1 for stored rows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import InputError
from clipsearch.index.base import Effort, check_queries
from clipsearch.types import EmbeddingBlock, Floats, Ints, Neighbors

WARM_BYTES = 256 * 2**20  # up to this size a float32 copy in memory is worth having: half a million numbers a MB
ROW_NUMBERS = 4 * 2**20  # numbers in one slice of rows: 16 MB as float32
SCORE_NUMBERS = 2 * 2**20  # numbers in one table of scores: 8 MB
Rows = NDArray[Any]  # float16 or float32, (n, D)
Mask = NDArray[np.bool_]


@dataclass(slots=True)
class _Block:
    ids: Ints
    rows: Rows
    live: Mask | None = None  # None: all rows are


class FlatIndex:
    """Exact k nearest rows by inner product; see the module's docstring.

    Build it in one thread (``add``, ``remove``), then share it: a search changes nothing.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._blocks: list[_Block] = []

    @property
    def ntotal(self) -> int:
        """Rows that a search can find."""
        return sum(len(b.ids) if b.live is None else int(b.live.sum()) for b in self._blocks)

    def add(self, block: EmbeddingBlock, live: Mask | None = None) -> None:
        """Add rows: ids (n,), embeddings (n, D) float16 or float32 of unit norm. Memory maps are not read here.

        Where ``live`` (n,) bool is given, only the rows marked in it can be found.
        """
        ids, rows = np.asarray(block.ids, dtype=np.int64), block.embeddings
        if rows.ndim != 2 or rows.shape != (len(ids), self.dim):
            raise InputError(f"Rows have shape {rows.shape}; {len(ids)} ids and dim {self.dim} were expected.")
        if len(ids):
            self._blocks.append(_Block(ids, rows, live))

    def remove(self, ids: Ints) -> None:
        """Hide rows by id (n,); ids that are not there are ignored."""
        gone = np.unique(np.asarray(ids, dtype=np.int64))
        for block in self._blocks if len(gone) else ():
            dead = among(block.ids, gone)
            if dead.any():
                block.live = ~dead if block.live is None else block.live & ~dead

    def warmed(self, budget_bytes: int = WARM_BYTES) -> "FlatIndex":
        """Return an index with the live rows as float32 in memory, or this one where they exceed the budget.

        Worth it from the second search on: converting float16 costs more than comparing.
        """
        n = self.ntotal
        if not n or n * self.dim * 4 > budget_bytes:
            return self
        warm = FlatIndex(self.dim)
        ids, rows, at = np.empty(n, np.int64), np.empty((n, self.dim), np.float32), 0
        for block in self._blocks:
            keep = slice(None) if block.live is None else block.live
            size = len(kept := block.ids[keep])
            ids[at : at + size], rows[at : at + size] = kept, as_float32(block.rows[keep])
            at += size
        warm.add(EmbeddingBlock(ids, rows))
        return warm

    def train(self, sample: Floats) -> None:
        """Do nothing: exact search has nothing to learn."""

    def effort(self, recall: float | None = None, kind: str = "text") -> Effort | None:
        """Return None: the answer is exact whatever is asked."""

    def search(
        self,
        queries: Floats,
        k: int,
        *,
        allowed: Ints | None = None,
        excluded: Ints | None = None,
        effort: Effort | None = None,
    ) -> Neighbors:
        """Find the ``k`` best rows for each query; ties go to the smaller id.

        Args:
            queries: (Q, D) float32, finite.
            k: answers wanted for each query, at least 1.
            allowed: (n,) ids that may be answered; None allows all.
            excluded: (n,) ids that may not be answered.
            effort: passed over; every row is compared.

        Returns:
            ids (Q, k) and scores (Q, k), best first, padded with -1 and -inf.

        Raises:
            InputError: wrong dimension, NaN or infinity, or ``k`` below 1.
        """
        xq = check_queries(queries, self.dim, k)
        found = Neighbors(np.full((len(xq), k), -1, np.int64), np.full((len(xq), k), -np.inf, np.float32))
        allowed = None if allowed is None else _ascending(allowed)
        excluded = None if excluded is None or not len(excluded) else _ascending(excluded)
        step = max(1, SCORE_NUMBERS // max(self._slice_rows, k))
        for start in range(0, len(xq), step):
            part = slice(start, start + step)
            self._search_slice(xq[part], k, allowed, excluded, found.ids[part], found.scores[part])
        return found

    @property
    def _slice_rows(self) -> int:
        return max(1, ROW_NUMBERS // max(self.dim, 1))

    def _search_slice(
        self, xq: Floats, k: int, allowed: Ints | None, excluded: Ints | None, ids_out: Ints, scores_out: Floats
    ) -> None:
        best = [_Best(q, min(k, self.ntotal)) for q in xq]
        for ids, rows in self._slices(allowed, excluded):
            xb = as_float32(rows)
            coarse = xq @ xb.T
            bars = np.array([b.bar for b in best], dtype=np.float32)
            hopeful = np.flatnonzero(coarse.max(axis=1) >= bars)
            for q in hopeful:
                best[q].offer(ids, xb, coarse[q])
        for q, b in enumerate(best):
            ids, scores = b.finish()
            ids_out[q, : len(ids)], scores_out[q, : len(ids)] = ids, scores

    def _slices(self, allowed: Ints | None, excluded: Ints | None) -> Iterator[tuple[Ints, Rows]]:
        """Yield the (ids, rows) that may be answered, a bounded number at a time.

        Small pieces are joined: a matrix product of a thousand rows spends its time waking threads.
        """
        pieces: list[tuple[Ints, Rows]] = []
        gathered = 0
        for piece in self._pieces(allowed, excluded):
            if pieces and gathered + len(piece[0]) > self._slice_rows:
                yield _joined(pieces)
                pieces, gathered = [], 0
            pieces.append(piece)
            gathered += len(piece[0])
        if pieces:
            yield _joined(pieces)

    def _pieces(self, allowed: Ints | None, excluded: Ints | None) -> Iterator[tuple[Ints, Rows]]:
        for block in self._blocks:
            for start in range(0, len(block.ids), self._slice_rows):
                part = slice(start, start + self._slice_rows)
                ids, rows = block.ids[part], block.rows[part]
                keep = _permitted(ids, None if block.live is None else block.live[part], allowed, excluded)
                if keep is None:
                    yield ids, rows
                elif keep.any():
                    yield ids[keep], rows[keep]


def best_of(query: Floats, ids: Ints, rows: Floats, k: int) -> tuple[Ints, Floats]:
    """Return ids and scores of the ``k`` best of a few rows (n, D) float32 with ids (n,), best first."""
    coarse = _inner(rows, query)
    true = query.astype(np.float64)
    at = np.arange(len(ids))
    if len(ids) > k:
        slack = _slack(true)
        at = np.flatnonzero(coarse >= np.partition(coarse, -k)[-k] - 2 * slack)
    scores, ids = true_scores(rows, at, true), ids[at]
    order = np.lexsort((ids, -scores))[:k]
    return ids[order], scores[order]


def _inner(rows: Floats, query: Floats) -> Floats:
    """Return the inner products (n,) on this thread alone: waking BLAS's others for a few rows costs up to 15 ms."""
    vecdot = getattr(np, "vecdot", None)  # from numpy 2.0 on
    return rows @ query if vecdot is None else vecdot(rows, query)


def rounding_error(queries: Floats) -> Floats:
    """Return how far a float32 score can be off, for each query (Q, D)."""
    squared = queries[0].dot(queries[0]) if len(queries) == 1 else np.einsum("qd,qd->q", queries, queries)
    return ((queries.shape[1] + 8) * 2.0**-24 * 1.01) * np.sqrt(squared)


def _slack(query: NDArray[np.float64]) -> float:
    """Return how far a float32 score can be off; 1.01: float16 rows are of unit norm but for rounding."""
    return (len(query) + 8) * 2.0**-24 * float(np.linalg.norm(query)) * 1.01


class _Best:
    """The best ``k`` rows for one query so far. New rows are gathered and merged ``k`` at a time."""

    def __init__(self, query: Floats, k: int) -> None:
        self._query = query.astype(np.float64)
        self._k = k
        self._slack = _slack(self._query)
        self._ids: Ints = np.empty(0, np.int64)
        self._scores: Floats = np.empty(0, np.float32)
        self._waiting: list[tuple[Ints, Floats]] = []
        self._gathered = 0
        self.bar = -np.inf  # coarse scores below it cannot be among the best

    def offer(self, ids: Ints, rows: Floats, coarse: Floats) -> None:
        """Take from a slice, ids (n,), rows (n, D) and coarse scores (n,), what may be among the best."""
        at = np.flatnonzero(coarse >= self.bar)
        if len(at) > 2 * self._k:  # the slice's own k-th best is a bar too: it spares scoring a first slice whole
            bar = np.partition(coarse, -self._k)[-self._k] - 2 * self._slack
            at = at[coarse[at] >= bar]
        if not len(at):
            return
        self._waiting.append((ids[at], true_scores(rows, at, self._query)))
        self._gathered += len(at)
        if self._gathered >= self._k:
            self._merge()

    def _merge(self) -> None:
        ids = np.concatenate([self._ids, *(w[0] for w in self._waiting)])
        scores = np.concatenate([self._scores, *(w[1] for w in self._waiting)])
        self._waiting, self._gathered = [], 0
        order = np.lexsort((ids, -scores))[: self._k]
        self._ids, self._scores = ids[order], scores[order]
        if len(order) == self._k > 0:
            self.bar = float(self._scores[-1]) - 2 * self._slack

    def finish(self) -> tuple[Ints, Floats]:
        """Return ids and scores, best first."""
        self._merge()
        return self._ids, self._scores


def as_float32(rows: Rows) -> Floats:
    """Return finite float16 or float32 rows (n, D) as float32, bit for bit what ``astype`` gives.

    numpy converts float16 one number at a time. Shifting the bits to their places in a float32 and mending the
    exponent, whose bias differs by 112, is plain integer work on whole vectors: half the time, measured.
    """
    if rows.dtype != np.float16:
        return np.ascontiguousarray(rows, dtype=np.float32)
    bits = np.ascontiguousarray(rows).view(np.int16).astype(np.int32)  # the sign fills the upper half
    bits <<= 13
    bits &= np.int32(~0x70000000)  # of the copies of the sign only the topmost stays
    floats = bits.view(np.float32)
    floats *= np.float32(2.0**112)
    return floats


def true_scores(rows: Floats, at: Ints, query: NDArray[np.float64]) -> Floats:
    """Score ``rows[at]`` (n,) against a query (D,) in float64, each row by itself, rounded to float32."""
    scores = np.empty(len(at), np.float32)
    step = max(1, SCORE_NUMBERS // 2 // max(len(query), 1))
    for start in range(0, len(at), step):
        part = slice(start, start + step)
        scores[part] = (rows[at[part]] * query).sum(axis=1)
    return scores


def _joined(pieces: Sequence[tuple[Ints, Rows]]) -> tuple[Ints, Rows]:
    if len(pieces) == 1:
        return pieces[0]
    return np.concatenate([ids for ids, _ in pieces]), np.concatenate([rows for _, rows in pieces])


def _ascending(ids: Ints) -> Ints:
    """Return ids (n,) sorted, each once; those of a filter are so already, and looking costs less than sorting."""
    ids = np.asarray(ids, np.int64)
    return ids if (ids[1:] > ids[:-1]).all() else np.unique(ids)


def among(ids: Ints, wanted: Ints) -> Mask:
    """Tell for each id, in an array of any shape, whether it is in ``wanted`` (m,), which is sorted."""
    if not len(wanted):
        return np.zeros(ids.shape, np.bool_)
    at = np.searchsorted(wanted, ids)
    return wanted[np.minimum(at, len(wanted) - 1)] == ids


def _permitted(ids: Ints, live: Mask | None, allowed: Ints | None, excluded: Ints | None) -> Mask | None:
    keep = live
    if allowed is not None:
        inside = among(ids, allowed)
        keep = inside if keep is None else keep & inside
    if excluded is not None and (out := among(ids, excluded)).any():
        keep = ~out if keep is None else keep & ~out
    return keep
