"""Which rows of an approximate index a search may answer, and how that is told to faiss.

There are three cases, by what is cheapest: *few* rows are copied together and all compared; *nearly all* are searched
as if there were no condition, with a few candidates more from which the hidden ones are struck; anything between is
searched through a bitmap over positions.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.index.faiss_library import load_faiss
from clipsearch.index.rows import RowStore
from clipsearch.types import Ints

FEW_ROWS = 2000  # so many rows are copied together and compared quicker than lists are searched
KEPT_ROWS = 20_000  # and so many, if the copy is kept for the next search: 30 ns a row of 512 numbers
HIDDEN_SHARE = 0.05  # up to this share of hidden rows a few more candidates cost less than a bitmap
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Scope:
    """Which rows may be answered, by position.

    Attributes:
        count: how many.
        few: these rows themselves, if they are few.
        mask: (N,) bool; None where nearly all are.
        selector: the same for faiss, and the bytes that it points to.
        hidden: positions (n,), ascending, to be struck from the candidates where there is no mask.
    """

    count: int
    few: RowStore | None = None
    mask: Mask | None = None
    selector: Any = None  # Any: faiss has no types
    hidden: Ints | None = None
    parameters: dict[tuple[int, ...], Any] = field(default_factory=dict)  # what was made of the selector for faiss

    @property
    def spare(self) -> int:
        """How many candidates more to ask for, because some will be struck."""
        return 0 if self.hidden is None else min(len(self.hidden), 16)


def all_but(rows: RowStore, hidden: Ints) -> Scope:
    """Return the scope of all rows but some ids (n,)."""
    there = _positions(rows, hidden)
    left = len(rows) - len(there)
    if left <= FEW_ROWS or len(there) > HIDDEN_SHARE * len(rows):
        mask = np.ones(len(rows), np.bool_)
        mask[there] = False
        return _masked(rows, mask, FEW_ROWS)
    return Scope(left, hidden=np.sort(there) if len(there) else None)


def within(rows: RowStore, allowed: Ints, hidden: Ints, kept: bool = False) -> Scope:
    """Return the scope of some ids (n,) but others (m,); ``kept`` where it will be used more than once."""
    limit = KEPT_ROWS if kept else FEW_ROWS
    if len(allowed) <= limit:
        return _few(rows, np.setdiff1d(_positions(rows, allowed), _positions(rows, hidden)))
    mask = np.zeros(len(rows), np.bool_)
    mask[_positions(rows, allowed)] = True
    mask[_positions(rows, hidden)] = False
    return _masked(rows, mask, limit)


def _masked(rows: RowStore, mask: Mask, limit: int) -> Scope:
    count = int(np.count_nonzero(mask))
    if count <= limit:
        return _few(rows, np.flatnonzero(mask))
    bits = np.packbits(mask, bitorder="little")
    return Scope(count, mask=mask, selector=(load_faiss().IDSelectorBitmap(bits), bits))


def _few(rows: RowStore, positions: Ints) -> Scope:
    few = RowStore(rows.dim)
    if len(positions):
        few.add(rows.ids[positions], rows.gather(positions))
    return Scope(len(positions), few=few)


def _positions(rows: RowStore, ids: Ints) -> Ints:
    """Return the positions of those ids (n,) that are there."""
    at = rows.positions(ids)
    return at if not len(at) or int(at.min()) >= 0 else at[at >= 0]
