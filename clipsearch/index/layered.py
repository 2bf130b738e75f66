"""An index and the rows that came after it, searched as one.

An approximate index is made once in a while; pictures come and go in between. So a search asks the index for the rows
that it covers, compares the rows added since one by one, and merges the two by exact score. That is why adding one
percent needs no rebuild, and why a row is found the moment it is committed.
"""

import numpy as np

from clipsearch.index.base import Effort, VectorIndex, check_queries
from clipsearch.index.flat import FlatIndex
from clipsearch.index.ivf import IvfIndex
from clipsearch.types import EmbeddingBlock, Floats, Ints, Neighbors


class LayeredIndex:
    """A trained index (``base``) and exact search over the rows that it does not cover (``tail``)."""

    def __init__(self, base: IvfIndex) -> None:
        self.base = base
        self.tail: VectorIndex = FlatIndex(base.dim)
        self.dim = base.dim
        self._first = np.iinfo(np.int64).max  # smallest id of the tail

    @property
    def ntotal(self) -> int:
        """Rows that a search can find."""
        return self.base.ntotal + self.tail.ntotal

    def train(self, sample: Floats) -> None:
        """Do nothing: the base is trained."""

    def add(self, block: EmbeddingBlock) -> None:
        """Add rows that the base does not cover."""
        self.tail.add(block)
        if len(block.ids):
            self._first = min(self._first, int(np.min(block.ids)))

    def remove(self, ids: Ints) -> None:
        """Hide rows by id (n,), wherever they are."""
        self.base.remove(ids)
        self.tail.remove(ids)

    def warmed(self) -> "LayeredIndex":
        """Return the same with the tail in memory as float32."""
        if not isinstance(self.tail, FlatIndex):
            return self
        warm = LayeredIndex(self.base)
        warm.tail, warm._first = self.tail.warmed(), self._first
        return warm

    def effort(self, recall: float | None = None, kind: str = "text") -> Effort | None:
        """Return the cheapest settings of the base that reach a recall@10."""
        return self.base.effort(recall, kind)

    def search(
        self,
        queries: Floats,
        k: int,
        *,
        allowed: Ints | None = None,
        excluded: Ints | None = None,
        effort: Effort | None = None,
    ) -> Neighbors:
        """Find the ``k`` best rows of both for each query; see ``VectorIndex.search``."""
        found = self.base.search(queries, k, allowed=allowed, excluded=excluded, effort=effort)
        if not self.tail.ntotal:
            return found
        xq = check_queries(queries, self.dim, k)
        later = self.tail.search(xq, k, allowed=self._later(allowed), excluded=self._later(excluded))
        return merged(found, later, k)

    def _later(self, ids: Ints | None) -> Ints | None:
        """Return the ids that can be of the tail: there may be a million others."""
        if ids is None:
            return None
        ids = np.asarray(ids, np.int64)
        return ids[ids >= self._first]


def merged(first: Neighbors, second: Neighbors, k: int) -> Neighbors:
    """Return the ``k`` best of two answers (Q, k) to the same queries; ties go to the smaller id."""
    ids = np.concatenate([first.ids, second.ids], axis=1)
    scores = np.concatenate([first.scores, second.scores], axis=1)
    ranked = np.where(ids < 0, np.iinfo(np.int64).max, ids)  # what pads comes last
    order = np.lexsort((ranked, -scores))[:, :k]
    return Neighbors(np.take_along_axis(ids, order, axis=1), np.take_along_axis(scores, order, axis=1))
