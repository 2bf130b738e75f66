"""Approximate search that ends exactly: inverted lists by faiss, then true scores from the rows themselves.

1. *Lists.* Rows are sorted by their nearest of ``nlist`` centroids. A query is compared with the centroids, and only
   the ``nprobe`` nearest lists are read.
2. *Codes.* In a list a row is a short code; the estimate from it is good enough to choose candidates by, not to
   rank by (recall@10 0.3 to 0.6 by itself).
3. *Re-ranking.* The best ``refine_factor`` x k candidates are scored again from their float16 rows (``rows.py``), by
   faiss where these lie in one piece. The few that come out on top are scored once more as exact search does it:
   float64, rounded to float32, ties to the smaller id. Scores are therefore those that ``flat`` gives, bit for bit;
   what an approximate index can do wrong is to miss a row.

The lists hold positions of rows; ids are looked up for what is answered.

Where few rows can be answered (a narrow filter, a small collection), they are all compared: cheaper and exact. Between
that and all rows the lists are searched through a bitmap of the permitted ids, with more lists the fewer there are;
and where lists and candidates end before ``k`` answers are found, exact search over the permitted rows takes over.
So fewer than ``k`` answers come only where there are fewer.

Nothing here changes while searching: ``nprobe`` and the bitmap are parameters of the faiss call.
"""

import math
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import CorruptShardError
from clipsearch.index.base import Effort, check_queries
from clipsearch.index.faiss_library import faiss_errors, load_faiss
from clipsearch.index.flat import FlatIndex, among, as_float32, best_of
from clipsearch.index.recipe import Recipe, load_recipe
from clipsearch.index.rescore import NONE, doubtful, flat_of, padding, put, scored
from clipsearch.index.rows import RowStore
from clipsearch.index.scope import Scope, all_but, within
from clipsearch.index.training import Tell, train_index
from clipsearch.index.tuning import OperatingPoint, effort_for
from clipsearch.types import EmbeddingBlock, Floats, Ints, Neighbors

MOST_CANDIDATES = 20_000
# Behind a filter that lets a share of the rows pass, the nearest rows lie further away, in more lists; among fewer rows
# fewer are mistaken for them. Measured from 2 % to 90 % at a million rows: see ``_lists`` and ``_wanted``.
MORE_LISTS = 0.6
LESS_CANDIDATES, LEAST_FACTOR = 0.35, 6.0
SPARE = 4  # rows scored exactly beside the k best, for what float32 put in the wrong order
KEPT = 256  # parameters of faiss calls that are remembered


class IvfIndex:
    """Inverted lists and exact rows; see the module's docstring."""

    def __init__(self, dim: int, recipe: Recipe) -> None:
        """Make an index that is to be trained, filled and searched, or to be given its parts by ``load``."""
        self.dim = dim
        self.recipe = recipe.fitted(dim)
        self.points: Mapping[str, Sequence[OperatingPoint]] = {}
        self._faiss: Any = None
        self._refined: Any = None
        self._rows = RowStore(dim)
        self._dead: Ints = np.empty(0, np.int64)
        self._kept: dict[tuple[int, ...], Any] = {}
        self._usual: Scope | None = None
        self._remembered: list[tuple[Any, Any, Scope]] = []

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
        first = len(self._rows)
        self.attach(block.ids, block.embeddings)
        self.add_codes(first, block.embeddings)

    def add_codes(self, first: int, rows: NDArray[Any]) -> None:
        """Add rows (n, D) to the lists alone, at the positions from ``first`` on; ``attach`` gives the rows."""
        if self._faiss is None:
            raise ValueError("The index is not trained: call train first.")
        if len(rows):
            with faiss_errors("add rows"):
                self._faiss.add_with_ids(as_float32(rows), np.arange(first, first + len(rows), dtype=np.int64))

    def attach(self, ids: Ints, rows: NDArray[Any]) -> None:
        """Give the exact rows (n, D) float16 of the next positions, and their ids (n,); memory maps are kept."""
        self._rows.add(ids, rows)
        self._forget()

    def remove(self, ids: Ints) -> None:
        """Hide rows by id (n,); ids that are not there are ignored."""
        gone = np.unique(np.asarray(ids, np.int64))
        there = gone[self._rows.positions(gone) >= 0]
        self._dead = np.union1d(self._dead, there)
        self._forget()

    def _forget(self) -> None:
        self._usual, self._remembered, self._refined = None, [], None

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
        effort = effort or Effort(self.recipe.nprobe, self.recipe.refine_factor)
        scope = self._scope(allowed, excluded)
        if not len(xq) or not scope.count:
            return padding(len(xq), k)
        if scope.few is not None:
            return self._among_few(xq, k, scope.few)
        wanted = self._wanted(effort, k, scope)
        if effort.exact or wanted >= scope.count:
            return self._exact(xq, k, scope)
        found, open_ = self._best(xq, k, wanted, effort, scope)
        if len(open_):
            put(found, open_, self._reranked(xq[open_], k, wanted, effort, scope))
        last = found.ids[:, min(k, scope.count) - 1]
        if int(last.min()) < 0:
            short = np.flatnonzero(last < 0)
            put(found, short, self._exact(xq[short], k, scope))
        return found

    # Candidates, and their true scores.

    def _wanted(self, effort: Effort, k: int, scope: Scope) -> int:
        """Return how many candidates to score."""
        factor = float(effort.refine_factor)
        if scope.mask is not None:
            factor = max(factor * (scope.count / len(self._rows)) ** LESS_CANDIDATES, min(factor, LEAST_FACTOR))
        return max(min(math.ceil(factor * k), MOST_CANDIDATES), k)

    def _lists(self, effort: Effort, scope: Scope) -> int:
        """Return how many lists to look into."""
        nprobe = effort.nprobe
        if scope.mask is not None:
            nprobe += math.ceil((8 + nprobe / 16) * ((scope.count / len(self._rows)) ** -MORE_LISTS - 1))
        return min(max(nprobe, 1), self.recipe.nlist)

    def _best(self, xq: Floats, k: int, wanted: int, effort: Effort, scope: Scope) -> tuple[Neighbors, Ints]:
        """Let faiss look through lists and rows, and score the top again exactly.

        Returns:
            The answers, and which queries (n,) have more near ties at the end than were scored.
        """
        top = min(k + SPARE + scope.spare, wanted)
        refined = self._refiner()
        if refined is None:
            return padding(len(xq), k), np.arange(len(xq))
        with faiss_errors("search"):
            coarse, at = refined.search(xq, top, params=self._parameters(effort, wanted, scope, top))
        found = scored(xq, self._rows, at, k, self._permitted(at, scope))
        return found, NONE if top == wanted else doubtful(xq, at, coarse, found)

    def _among_few(self, xq: Floats, k: int, few: RowStore) -> Neighbors:
        """Compare rows that were copied together; by faiss, and those on top once more."""
        top = min(k + SPARE, len(few))
        coarse, at = few.scanner().search(xq, top)
        found = scored(xq, few, at, k, None)
        open_ = NONE if top == len(few) else doubtful(xq, at, coarse, found)
        if len(open_):
            put(found, open_, flat_of(few).search(xq[open_], k))
        return found

    def _reranked(self, xq: Floats, k: int, wanted: int, effort: Effort, scope: Scope) -> Neighbors:
        """Score all candidates here: where there are many equal rows, or rows in several pieces."""
        found = padding(len(xq), k)
        with faiss_errors("search"):
            candidates = self._faiss.search(xq, wanted, params=self._parameters(effort, wanted, scope))[1]
        for q, at in enumerate(candidates):
            permitted = self._permitted(at, scope)
            kept = at if permitted is None else at[permitted]
            if len(kept):
                ids, scores = best_of(xq[q], self._rows.ids[kept], as_float32(self._rows.gather(kept)), k)
                found.ids[q, : len(ids)], found.scores[q, : len(ids)] = ids, scores
        return found

    def _permitted(self, at: Ints, scope: Scope) -> NDArray[np.bool_] | None:
        """Tell which candidates may be answered, None for all; a damaged list may hold a position that no row has."""
        whole = int(at.min()) >= 0 and int(at.max()) < len(self._rows)
        if scope.hidden is None:
            return None if whole else (at >= 0) & (at < len(self._rows))
        return (at >= 0) & (at < len(self._rows)) & ~among(at, scope.hidden)

    def _exact(self, xq: Floats, k: int, scope: Scope) -> Neighbors:
        """Compare all permitted rows."""
        flat = FlatIndex(self.dim)
        start = 0
        for ids, rows in self._rows.segments:
            part = slice(start, start + len(ids))
            flat.add(EmbeddingBlock(ids, rows), None if scope.mask is None else scope.mask[part])
            start = part.stop
        if scope.hidden is not None:
            flat.remove(self._rows.ids[scope.hidden])
        return flat.search(xq, k)

    # The faiss side of a call.

    def _refiner(self) -> Any:
        """Return faiss's index of lists and rows, or None where the rows lie in several pieces."""
        refined = self._refined
        if refined is None:
            rows = self._rows.refiner()
            if rows is None or rows.ntotal != self._faiss.ntotal:
                return None
            refined = self._refined = load_faiss().IndexRefine(self._faiss, rows)
        return refined

    def _parameters(self, effort: Effort, wanted: int, scope: Scope, top: int = 0) -> Any:
        """Return faiss's parameters of one call, with re-ranking to ``top`` where that is given.

        They are kept, for making them takes 60 µs. faiss only reads them, so threads may share them.
        """
        nprobe = self._lists(effort, scope)
        key = (nprobe, wanted, top)
        kept = self._kept if scope.selector is None else scope.parameters
        if key in kept:
            return kept[key]
        faiss = load_faiss()
        params = faiss.SearchParametersIVF(nprobe=nprobe)
        if scope.selector is not None:
            params.sel = scope.selector[0]
        if self.recipe.rotation != "none":
            params = faiss.SearchParametersPreTransform(index_params=params)
        if top:
            factor = (min(wanted, len(self._rows)) + 0.5) / top  # faiss multiplies again, and rounds down
            params = faiss.IndexRefineSearchParameters(k_factor=factor, base_index_params=params)
        if len(kept) < KEPT:
            kept[key] = params
        return params

    def _scope(self, allowed: Ints | None, excluded: Ints | None) -> Scope:
        if allowed is None and excluded is None:
            scope = self._usual
            if scope is None:  # two threads may both make it once; they make the same
                scope = self._usual = all_but(self._rows, self._dead)
            return scope
        hidden = self._dead if excluded is None else np.union1d(self._dead, np.asarray(excluded, np.int64))
        if allowed is None:
            return all_but(self._rows, hidden)
        allowed = np.asarray(allowed, np.int64)
        keep = not allowed.flags.writeable and excluded is None
        for array, dead, scope in self._remembered if keep else ():
            if array() is allowed and dead is self._dead:
                return scope
        scope = within(self._rows, allowed, hidden, kept=keep)
        if keep:
            self._remembered = [*self._remembered[-3:], (weakref.ref(allowed), self._dead, scope)]
        return scope


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
