"""The exact rows beside an approximate index: float16, in the order of their ids, usually a memory map.

An index answers with candidates; their true scores need the true rows. Parquet takes a hundred times too long for a
few hundred scattered rows, so they lie once more in files that hold nothing else, row after row. There may be several
such *segments*: rows that were added later come in one of their own, and no file is ever written again.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import InputError
from clipsearch.types import Floats, Halves, Ints

Segment = tuple[Ints, Halves]  # ids (n,), rows (n, D)


class _Table:
    """All segments in the order of their ids, ready to be looked up; never changed."""

    def __init__(self, segments: list[Segment]) -> None:
        if not _ascend(segments):
            ids, rows = np.concatenate([s[0] for s in segments]), np.concatenate([s[1] for s in segments])
            order = np.argsort(ids, kind="stable")
            segments = [(ids[order], rows[order])]
        self.segments = segments
        self.ids: Ints = segments[0][0] if len(segments) == 1 else np.concatenate([s[0] for s in segments])
        self.starts = np.cumsum([0, *(len(s[0]) for s in segments)])
        n = len(self.ids)
        self.first = int(self.ids[0])
        self.is_dense = int(self.ids[-1]) - self.first == n - 1  # then a position is a subtraction away


class RowStore:
    """Rows (N, D) float16 by id."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._segments: list[Segment] = []
        self._table: _Table | None = None

    def __len__(self) -> int:
        return sum(len(ids) for ids, _ in self._segments)

    @property
    def segments(self) -> list[Segment]:
        """The rows as (ids, rows) pieces; all ids ascending over them."""
        return self._ready().segments if self._segments else []

    @property
    def ids(self) -> Ints:
        """All ids (N,), ascending."""
        return self._ready().ids if self._segments else np.empty(0, np.int64)

    def add(self, ids: Ints, rows: NDArray[Any]) -> None:
        """Add ids (n,) and rows (n, D); float16 memory maps are kept as they are."""
        if rows.ndim != 2 or rows.shape != (len(ids), self.dim):
            raise InputError(f"Rows have shape {rows.shape}; {len(ids)} ids and dim {self.dim} were expected.")
        if len(ids):
            halves = rows if rows.dtype == np.float16 else rows.astype(np.float16)
            self._segments.append((np.asarray(ids, np.int64), np.asarray(halves)))
            self._table = None

    def positions(self, ids: Ints) -> Ints:
        """Return where rows are, by id (n,): position in the order of ids, -1 for an id that is not there."""
        if not self._segments:
            return np.full(len(ids), -1, np.int64)
        table = self._ready()
        if table.is_dense:
            at = ids - table.first
            return np.where((at >= 0) & (at < len(table.ids)), at, -1)
        at = np.minimum(np.searchsorted(table.ids, ids), len(table.ids) - 1)
        return np.where(table.ids[at] == ids, at, -1)

    def gather(self, positions: Ints) -> Halves:
        """Return the rows (n, D) at positions (n,)."""
        table = self._ready()
        if len(table.segments) == 1:
            return table.segments[0][1][positions]
        rows = np.empty((len(positions), self.dim), np.float16)
        owner = np.searchsorted(table.starts, positions, side="right") - 1
        for number in np.unique(owner):
            mine = owner == number
            rows[mine] = table.segments[number][1][positions[mine] - table.starts[number]]
        return rows

    def _ready(self) -> _Table:
        """Return the table. Two threads may both make it once; they make the same."""
        table = self._table
        if table is None:
            table = self._table = _Table(self._segments)
        return table


def _ascend(segments: list[Segment]) -> bool:
    last = -1
    for ids, _ in segments:
        if int(ids[0]) <= last or (len(ids) > 1 and not (ids[1:] > ids[:-1]).all()):
            return False
        last = int(ids[-1])
    return True


def sample_rows(blocks: Any, n: int, wanted: int, seed: int = 0) -> Floats:  # Any: an iterable of (ids, rows)
    """Return ``wanted`` of ``n`` rows (wanted, D) as float32, spread evenly, in one pass over blocks of (ids, rows)."""
    from clipsearch.index.flat import as_float32

    at = np.sort(np.random.default_rng(seed).choice(n, min(wanted, n), replace=False))
    sample: Floats | None = None
    start = 0
    for _, rows in blocks:
        here = slice(*np.searchsorted(at, (start, start + len(rows))))
        if sample is None:
            sample = np.empty((len(at), rows.shape[1]), np.float32)
        if here.stop > here.start:
            sample[here] = as_float32(rows[at[here] - start])
        start += len(rows)
    return np.empty((0, 0), np.float32) if sample is None else sample
