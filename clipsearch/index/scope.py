"""Which rows of an approximate index a search may answer, and how that is told to faiss.

There are three cases, by what is cheapest: *few* rows are all compared; *nearly all* are searched as if there were no
condition, with a few candidates more from which the hidden ones are struck; anything between is searched through a
bitmap over positions.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.index.faiss_library import load_faiss
from clipsearch.index.rows import RowStore
from clipsearch.types import Ints

EXACT_ROWS = 2000  # so many rows are compared quicker than lists are searched
HIDDEN_SHARE = 0.05  # up to this share of hidden rows a few more candidates cost less than a bitmap
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Scope:
    """Which rows may be answered, by position.

    Attributes:
        count: how many.
        few: positions (n,) of these rows, if they are few.
        mask: (N,) bool; None where nearly all are.
        selector: the same for faiss, and the bytes that it points to.
        hidden: positions (n,), ascending, to be struck from the candidates where there is no mask.
    """

    count: int
    few: Ints | None = None
    mask: Mask | None = None
    selector: Any = None  # Any: faiss has no types
    hidden: Ints | None = None

    @property
    def spare(self) -> int:
        """How many candidates more to ask for, because some will be struck."""
        return 0 if self.hidden is None else min(len(self.hidden), 16)


def all_but(rows: RowStore, hidden: Ints) -> Scope:
    """Return the scope of all rows but some ids (n,)."""
    there = _positions(rows, hidden)
    left = len(rows) - len(there)
    if left <= EXACT_ROWS or len(there) > HIDDEN_SHARE * len(rows):
        mask = np.ones(len(rows), np.bool_)
        mask[there] = False
        return _masked(mask, left)
    return Scope(left, hidden=np.sort(there) if len(there) else None)


def within(rows: RowStore, allowed: Ints, hidden: Ints) -> Scope:
    """Return the scope of some ids (n,) but others (m,)."""
    if len(allowed) <= EXACT_ROWS:
        few = np.setdiff1d(_positions(rows, allowed), _positions(rows, hidden))
        return Scope(len(few), few=few)
    mask = np.zeros(len(rows), np.bool_)
    mask[_positions(rows, allowed)] = True
    mask[_positions(rows, hidden)] = False
    return _masked(mask, int(np.count_nonzero(mask)))


def _masked(mask: Mask, count: int) -> Scope:
    if count <= EXACT_ROWS:
        return Scope(count, few=np.flatnonzero(mask))
    bits = np.packbits(mask, bitorder="little")
    return Scope(count, mask=mask, selector=(load_faiss().IDSelectorBitmap(bits), bits))


def _positions(rows: RowStore, ids: Ints) -> Ints:
    """Return the positions of those ids (n,) that are there."""
    at = rows.positions(ids)
    return at if not len(at) or int(at.min()) >= 0 else at[at >= 0]


def among(positions: Ints, wanted: Ints) -> Mask:
    """Tell for each position whether it is in ``wanted`` (m,), ascending and not empty."""
    at = np.minimum(np.searchsorted(wanted, positions), len(wanted) - 1)
    return wanted[at] == positions
