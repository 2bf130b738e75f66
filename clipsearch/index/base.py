"""The contract of every index type.

The life of an index is *train, add, search, save, load*. Training learns the shape of the data and is nothing for
exact search; adding and removing happen while one thread builds; after that the index is shared, and searching
changes nothing, so any number of threads may search at once. Settings of a search (``Effort``) are arguments of the
call. An index type with a file of its own also has ``to_bytes()`` and ``load(path)``; exact search has none, because
the collection's float16 sidecars already are what it reads.

What every type owes its caller (``tests/contracts/test_indexes.py``):

- scores are inner products, best first; among equal scores the smaller id comes first;
- fewer than ``k`` answers are padded with id -1 and score -inf, never with garbage;
- a search within ``allowed`` ids answers as an index of only those rows would;
- a query's answer does not depend on the other queries of the batch (an approximate type may, where two inverted
  lists are equally near but for rounding, look into the other one; scores never change);
- a query of the wrong dimension, or with NaN or infinity in it, is an ``InputError``.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from clipsearch.errors import InputError
from clipsearch.types import EmbeddingBlock, Floats, Ints, Neighbors


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard one search tries: a setting of the call, never of the index.

    Attributes:
        nprobe: inverted lists looked into.
        refine_factor: candidates scored exactly, as a multiple of ``k``.
        exact: compare all rows instead.
    """

    nprobe: int = 0
    refine_factor: int = 0
    exact: bool = False


EXACT = Effort(exact=True)


class VectorIndex(Protocol):
    """Rows of unit-norm embeddings with stable int64 ids, and the nearest of them to a query."""

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        ...

    @property
    def ntotal(self) -> int:
        """Rows that a search can find."""
        ...

    def train(self, sample: Floats) -> None:
        """Learn the shape of the data from rows (n, D); before the first ``add``.

        Raises:
            InputError: the rows are too few.
        """
        ...

    def add(self, block: EmbeddingBlock) -> None:
        """Add rows; an id is added once."""
        ...

    def remove(self, ids: Ints) -> None:
        """Hide rows (n,) by id; ids that are not there are ignored."""
        ...

    def effort(self, recall: float | None = None, kind: str = "text") -> Effort | None:
        """Return the cheapest settings measured to reach a recall@10; None where there is nothing to choose.

        Args:
            recall: share of the true answers wanted, 0 to 1; where nothing else reaches it, all rows are compared.
                None takes the usual 0.97, or the best there is.
            kind: of query, "text" or "image": the two are tuned apart.
        """
        ...

    def search(
        self,
        queries: Floats,
        k: int,
        *,
        allowed: Ints | None = None,
        excluded: Ints | None = None,
        effort: Effort | None = None,
    ) -> Neighbors:
        """Find the ``k`` best rows for each query.

        Args:
            queries: (Q, D) float32, finite.
            k: answers wanted for each query, at least 1.
            allowed: (n,) ids that may be answered; None allows all.
            excluded: (n,) ids that may not be answered.
            effort: how hard to try; None takes the index's own default.

        Returns:
            ids (Q, k) and scores (Q, k), best first, padded with -1 and -inf.

        Raises:
            InputError: wrong dimension, NaN or infinity, or ``k`` below 1.
        """
        ...


def check_k(k: int) -> None:
    """Refuse a number of answers that is none."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise InputError(f"k is {k!r}; ask for a whole number of answers, at least 1.")


def check_queries(queries: Floats, dim: int, k: int) -> Floats:
    """Return the queries (Q, D) as contiguous float32, or say what is wrong with them."""
    xq = np.asarray(queries)
    if xq.ndim != 2 or xq.shape[1] != dim:
        raise InputError(
            f"Queries have shape {xq.shape}; this index holds embeddings of {dim} numbers. Give (Q, {dim})."
        )
    check_k(k)
    if not np.isfinite(xq).all():
        raise InputError("A query holds NaN or infinity, which has no neighbours. Check the vector.")
    return np.ascontiguousarray(xq, dtype=np.float32)
