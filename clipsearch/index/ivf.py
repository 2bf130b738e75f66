"""Approximate search that ends exactly: inverted lists by faiss, then true scores from the rows themselves.

1. *Lists.* Rows are sorted by their nearest of ``nlist`` centroids. A query is compared with the centroids, and only
   the ``nprobe`` nearest lists are read.
2. *Codes.* In a list a row is a short code; the estimate from it is good enough to choose candidates by, not to
   rank by (recall@10 0.3 to 0.6 by itself).
3. *Re-ranking.* The best ``refine_factor`` x k candidates are scored again from their float16 rows (``rows.py``), as
   exact search scores them: float64, rounded to float32, ties to the smaller id. Scores are therefore those that
   ``flat`` gives, bit for bit; what an approximate index can do wrong is to miss a row.

Where few rows can be answered (a narrow filter, a small collection), they are all compared: cheaper and exact. Between
that and all rows the lists are searched through a bitmap of the permitted ids, with more lists the fewer there are;
and where lists and candidates end before ``k`` answers are found, exact search over the permitted rows takes over.
So fewer than ``k`` answers come only where there are fewer.

Nothing here changes while searching: ``nprobe`` and the bitmap are parameters of the faiss call.
"""

import math
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import CorruptShardError
from clipsearch.index.base import Effort, check_queries
from clipsearch.index.faiss_library import faiss_errors, load_faiss
from clipsearch.index.flat import FlatIndex, as_float32, best_of
from clipsearch.index.recipe import Recipe, load_recipe
from clipsearch.index.rows import RowStore
from clipsearch.index.training import Tell, train_index
from clipsearch.index.tuning import OperatingPoint, effort_for
from clipsearch.types import EmbeddingBlock, Floats, Ints, Neighbors

EXACT_ROWS = 2000  # so many rows are compared quicker than lists are searched
HIDDEN_SHARE = 0.05  # up to this share of hidden rows a few more candidates cost less than a bitmap
MOST_CANDIDATES = 20_000
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Scope:
    """Which rows may be answered.

    Attributes:
        count: how many.
        positions: where they are, if they are few.
        mask: by id, (largest id + 1,) bool; None where nearly all are.
        selector: the same for faiss, and the bytes that it points to.
        hidden: ids (n,), ascending, to be struck from the candidates where there is no mask.
    """

    count: int
    positions: Ints | None = None
    mask: Mask | None = None
    selector: Any = None
    hidden: Ints | None = None


class IvfIndex:
    """Inverted lists and exact rows; see the module's docstring."""

    def __init__(self, dim: int, recipe: Recipe) -> None:
        """Make an index that is to be trained, filled and searched, or to be given its parts by ``load``."""
        self.dim = dim
        self.recipe = recipe.fitted(dim)
        self.points: Mapping[str, Sequence[OperatingPoint]] = {}
        self._faiss: Any = None
        self._rows = RowStore(dim)
        self._dead: Ints = np.empty(0, np.int64)
        self._kept: dict[int, Any] = {}
        self._usual: _Scope | None = None
        self._remembered: list[tuple[Any, Any, _Scope]] = []

    @property
    def ntotal(self) -> int:
        """Rows that a search can find."""
        return len(self._rows) - len(self._dead)

    @property
    def rows(self) -> RowStore:
        """The exact rows, removed ones too."""
        return self._rows

    def train(self, sample: Floats, tell: Tell | None = None) -> None:
        """Learn lists and codes from rows (n, D); ``tell`` hears how far it is.

        Raises:
            InputError: the rows are too few, or have another dimension.
        """
        sample = np.ascontiguousarray(check_queries(sample, self.dim, 1))
        self._faiss = train_index(self.recipe, sample, tell)

    def add(self, block: EmbeddingBlock) -> None:
        """Add rows: ids (n,), embeddings (n, D) float16 or float32 of unit norm."""
        ids = np.asarray(block.ids, np.int64)
        self.attach(ids, block.embeddings)
        self.add_codes(ids, block.embeddings)

    def add_codes(self, ids: Ints, rows: NDArray[Any]) -> None:
        """Add rows (n, D) to the lists alone; their exact rows come through ``attach``."""
        if self._faiss is None:
            raise ValueError("The index is not trained: call train first.")
        if len(ids):
            with faiss_errors("add rows"):
                self._faiss.add_with_ids(as_float32(rows), np.ascontiguousarray(ids, np.int64))

    def attach(self, ids: Ints, rows: NDArray[Any]) -> None:
        """Give the exact rows (n, D) float16 of ids (n,) that are in the lists; memory maps are kept."""
        self._rows.add(ids, rows)
        self._usual, self._remembered = None, []

    def remove(self, ids: Ints) -> None:
        """Hide rows by id (n,); ids that are not there are ignored."""
        gone = np.unique(np.asarray(ids, np.int64))
        there = gone[self._rows.positions(gone) >= 0]
        self._dead = np.union1d(self._dead, there)
        self._usual, self._remembered = None, []

    def imbalance(self) -> float:
        """Return how uneven the lists are: 1 where all are equally long; the work of a search grows with it."""
        return float(load_faiss().extract_index_ivf(self._faiss).invlists.imbalance_factor())

    def to_bytes(self) -> NDArray[np.uint8]:
        """Return the lists as the content of a faiss file; the exact rows are files of their own."""
        return load_faiss().serialize_index(self._faiss)

    def load(self, path: str) -> None:
        """Read the lists from a faiss file, whose digest the caller has checked; mapped where they can be.

        Raises:
            CorruptShardError: faiss cannot read it.
        """
        self._faiss = read_lists(path, self.recipe.is_mapped)

    def effort(self, recall: float | None = None, kind: str = "text") -> Effort | None:
        """Return the cheapest measured settings that reach a recall@10; see ``VectorIndex.effort``."""
        return effort_for(self.points.get(kind, ()), recall)

    def search(
        self,
        queries: Floats,
        k: int,
        *,
        allowed: Ints | None = None,
        excluded: Ints | None = None,
        effort: Effort | None = None,
    ) -> Neighbors:
        """Find the ``k`` best rows for each query; ties among those found go to the smaller id.

        Args:
            queries: (Q, D) float32, finite.
            k: answers wanted for each query, at least 1.
            allowed: (n,) ids that may be answered; None allows all. What was made of an array that cannot be written
                to is remembered for the next search with it.
            excluded: (n,) ids that may not be answered.
            effort: how hard to try; None takes the recipe's defaults.

        Returns:
            ids (Q, k) and scores (Q, k), best first, padded with -1 and -inf.

        Raises:
            InputError: wrong dimension, NaN or infinity, or ``k`` below 1.
        """
        xq = check_queries(queries, self.dim, k)
        found = Neighbors(np.full((len(xq), k), -1, np.int64), np.full((len(xq), k), -np.inf, np.float32))
        effort = effort or Effort(self.recipe.nprobe, self.recipe.refine_factor)
        scope = self._scope(allowed, excluded)
        if not len(xq) or not scope.count:
            return found
        wanted = min(effort.refine_factor * k, MOST_CANDIDATES)
        if effort.exact or scope.positions is not None or max(wanted, k) >= scope.count:
            return self._exact(xq, k, scope, found)
        candidates = self._candidates(xq, max(wanted, k), effort, scope)
        short = []
        for q, ids in enumerate(candidates):
            n = self._rerank(xq[q], ids, k, scope, found.ids[q], found.scores[q])
            if n < min(k, scope.count):
                short.append(q)
        if short:
            rest = Neighbors(found.ids[short], found.scores[short])
            self._exact(xq[short], k, scope, rest)
            found.ids[short], found.scores[short] = rest.ids, rest.scores
        return found

    def _candidates(self, xq: Floats, wanted: int, effort: Effort, scope: _Scope) -> Ints:
        """Return the ids (Q, R) that the codes find best, padded with -1."""
        nprobe = effort.nprobe
        if scope.mask is not None:
            # the permitted rows nearest to a query lie further away: in more lists, about as 1 / sqrt(share)
            nprobe = math.ceil(nprobe / math.sqrt(scope.count / len(self._rows)))
        elif scope.hidden is not None:
            wanted += math.ceil(2 * wanted * len(scope.hidden) / len(self._rows)) + min(len(scope.hidden), 16)
        params = self._parameters(min(max(nprobe, 1), self.recipe.nlist), scope)
        with faiss_errors("search"):
            return self._faiss.search(xq, min(wanted, len(self._rows)), params=params)[1]

    def _parameters(self, nprobe: int, scope: _Scope) -> Any:
        """Return faiss's parameters of one call; those without a selector are kept, for making them takes 20 µs."""
        if scope.selector is None and nprobe in self._kept:
            return self._kept[nprobe]
        faiss = load_faiss()
        params = faiss.SearchParametersIVF(nprobe=nprobe)
        if scope.selector is not None:
            params.sel = scope.selector[0]
        if self.recipe.rotation != "none":
            params = faiss.SearchParametersPreTransform(index_params=params)
        if scope.selector is None:
            self._kept[nprobe] = params  # faiss only reads it, so threads may share it
        return params

    def _rerank(self, query: Floats, ids: Ints, k: int, scope: _Scope, ids_out: Ints, scores_out: Floats) -> int:
        """Score candidates (R,) exactly, write the best ``k``, and return how many there are."""
        ids = ids[ids >= 0]
        if scope.hidden is not None:
            ids = ids[~_among(ids, scope.hidden)]
        at = self._rows.positions(ids)
        if len(at) and at.min() < 0:  # a damaged list may hold an id that no row has
            ids, at = ids[at >= 0], at[at >= 0]
        if not len(ids):
            return 0
        ids, scores = best_of(query, ids, as_float32(self._rows.gather(at)), k)
        ids_out[: len(ids)], scores_out[: len(ids)] = ids, scores
        return len(ids)

    def _exact(self, xq: Floats, k: int, scope: _Scope, found: Neighbors) -> Neighbors:
        """Compare all permitted rows."""
        if scope.positions is not None:
            ids, rows = self._rows.ids[scope.positions], as_float32(self._rows.gather(scope.positions))
            for q, query in enumerate(xq):
                best, scores = best_of(query, ids, rows, k)
                found.ids[q, : len(best)], found.scores[q, : len(best)] = best, scores
            return found
        flat = FlatIndex(self.dim)
        for ids, rows in self._rows.segments:
            flat.add(EmbeddingBlock(ids, rows), None if scope.mask is None else scope.mask[ids])
        if scope.hidden is not None:
            flat.remove(scope.hidden)
        exact = flat.search(xq, k)
        found.ids[:], found.scores[:] = exact.ids, exact.scores
        return found

    # Which rows may be answered.

    def _scope(self, allowed: Ints | None, excluded: Ints | None) -> _Scope:
        if allowed is None and excluded is None:
            scope = self._usual
            if scope is None:  # two threads may both make it once; they make the same
                scope = self._usual = self._all_but(self._dead)
            return scope
        hidden = self._dead if excluded is None else np.union1d(self._dead, np.asarray(excluded, np.int64))
        if allowed is None:
            return self._all_but(hidden)
        allowed = np.asarray(allowed, np.int64)
        if len(allowed) <= EXACT_ROWS:
            return self._few(np.setdiff1d(allowed, hidden))
        keep = not allowed.flags.writeable and excluded is None
        for array, dead, scope in self._remembered if keep else ():
            if array() is allowed and dead is self._dead:
                return scope
        scope = self._within(allowed, hidden)
        if keep:
            self._remembered = [*self._remembered[-3:], (weakref.ref(allowed), self._dead, scope)]
        return scope

    def _few(self, ids: Ints) -> _Scope:
        at = self._rows.positions(ids)
        at = at[at >= 0]
        return _Scope(len(at), positions=at)

    def _all_but(self, hidden: Ints) -> _Scope:
        there = hidden[self._rows.positions(hidden) >= 0]
        left = len(self._rows) - len(there)
        if left <= EXACT_ROWS:
            return self._few(np.setdiff1d(self._rows.ids, there, assume_unique=True))
        if len(there) <= HIDDEN_SHARE * len(self._rows):
            return _Scope(left, hidden=there if len(there) else None)
        mask = np.zeros(int(self._rows.ids[-1]) + 1, np.bool_)
        mask[self._rows.ids] = True
        mask[there] = False
        return _Scope(left, mask=mask, selector=_selector(mask))

    def _within(self, allowed: Ints, hidden: Ints) -> _Scope:
        """Make a mask by id: ids are dense, for the store gives them out one after the other."""
        last = int(self._rows.ids[-1]) if len(self._rows) else -1
        mask = np.zeros(last + 1, np.bool_)
        mask[allowed[(allowed >= 0) & (allowed <= last)]] = True
        mask[hidden[(hidden >= 0) & (hidden <= last)]] = False
        if not self._is_dense(last):
            stored = np.zeros(last + 1, np.bool_)
            stored[self._rows.ids] = True
            mask &= stored
        count = int(np.count_nonzero(mask))
        if count <= EXACT_ROWS:
            return self._few(np.flatnonzero(mask))
        return _Scope(count, mask=mask, selector=_selector(mask))

    def _is_dense(self, last: int) -> bool:
        return len(self._rows) == last + 1


class IvfFlatIndex(IvfIndex):
    """Inverted lists of rows kept at a byte (or a float16) a number."""

    def __init__(self, dim: int, recipe: Recipe | None = None) -> None:
        super().__init__(dim, recipe or load_recipe("ivfflat-1m"))


class IvfPqIndex(IvfIndex):
    """Inverted lists of product codes: 8-bit, or 4-bit in fast-scan order."""

    def __init__(self, dim: int, recipe: Recipe | None = None) -> None:
        super().__init__(dim, recipe or load_recipe("ivfpq-1m"))


def read_lists(path: str, mapped: bool) -> Any:
    """Open a faiss file, by memory map where that is asked for.

    Raises:
        CorruptShardError: faiss cannot read it.
    """
    faiss = load_faiss()
    try:
        return faiss.read_index(path, faiss.IO_FLAG_MMAP_IFC if mapped else 0)
    except RuntimeError as problem:
        raise CorruptShardError(
            f"The index file {path} is damaged: faiss cannot read it.\n"
            "It is derived from the collection: rebuild it with 'clipsearch index --retrain'."
        ) from problem


def _selector(mask: Mask) -> tuple[Any, NDArray[np.uint8]]:
    """Return a faiss selector of the ids marked in a mask, and the bytes it points to, which must outlive it."""
    bits = np.packbits(mask, bitorder="little")
    return load_faiss().IDSelectorBitmap(bits), bits


def _among(ids: Ints, wanted: Ints) -> Mask:
    at = np.minimum(np.searchsorted(wanted, ids), len(wanted) - 1)
    return wanted[at] == ids
