"""True scores for the few candidates that count, and the arrays that answers are put into.

faiss scores in float32, in an order that depends on the hardware. What is answered is scored once more as exact search
does it: float64, rounded to float32, ties to the smaller id. So that it need not be done for all candidates, only those
on top are taken; where the last of them is so near the answers that rounding may hide a better one, that is said.
"""

import numpy as np
from numpy.typing import NDArray

from clipsearch.index.flat import FlatIndex, as_float32, rounding_error
from clipsearch.index.rows import RowStore
from clipsearch.types import EmbeddingBlock, Floats, Ints, Neighbors

NO_ID = np.iinfo(np.int64).max
NONE: Ints = np.empty(0, np.int64)


def scored(xq: Floats, rows: RowStore, at: Ints, k: int, there: NDArray[np.bool_] | None) -> Neighbors:
    """Return the ``k`` best of the rows at positions (Q, n); ``there`` (Q, n) says which of them count, or None."""
    if there is not None:
        at = np.where(there, at, 0)
    exact = as_float32(rows.gather(at.ravel())).reshape(*at.shape, rows.dim)
    scores = (exact * xq[:, None, :].astype(np.float64)).sum(axis=2).astype(np.float32)
    ids = rows.ids[at]
    if there is not None:
        scores[~there], ids[~there] = -np.inf, NO_ID
    order = np.lexsort((ids, -scores))[:, :k]
    each = np.arange(len(xq))[:, None]
    found = Neighbors(ids[each, order], scores[each, order])
    if there is not None:
        found.ids[found.ids == NO_ID] = -1
    return found if order.shape[1] == k else _widened(found, k)


def doubtful(xq: Floats, at: Ints, coarse: Floats, found: Neighbors) -> Ints:
    """Return the queries (n,) that have more near ties at the end of the top (Q, n) than were scored exactly."""
    close = coarse[:, -1] + 2 * rounding_error(xq) >= found.scores[:, -1]
    if not close.any():  # what is usual comes first: this is done for every query
        return NONE
    return np.flatnonzero(close & (at[:, -1] >= 0))


def flat_of(rows: RowStore) -> FlatIndex:
    """Return exact search over rows."""
    flat = FlatIndex(rows.dim)
    for ids, some in rows.segments:
        flat.add(EmbeddingBlock(ids, some))
    return flat


def padding(n: int, k: int) -> Neighbors:
    """Return answers (n, k) to fill in: -1 and -inf."""
    return Neighbors(np.full((n, k), -1, np.int64), np.full((n, k), -np.inf, np.float32))


def _widened(found: Neighbors, k: int) -> Neighbors:
    wide = padding(len(found.ids), k)
    n = found.ids.shape[1]
    wide.ids[:, :n], wide.scores[:, :n] = found.ids, found.scores
    return wide


def put(found: Neighbors, where: Ints, better: Neighbors) -> None:
    """Put the answers (n, k) to some queries (n,) in the place of others."""
    found.ids[where], found.scores[where] = better.ids, better.scores
