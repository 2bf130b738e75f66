"""The exact rows beside an approximate index: float16, one after the other, usually a memory map.

An index answers with candidates; their true scores need the true rows. Parquet takes a hundred times too long for a
few hundred scattered rows, so they lie once more in files that hold nothing else, row after row. A row's *position* is
its place in these files; the inverted lists hold positions, and an id is looked up at the very end, for the few rows
that are answered.

There may be several such *segments*: rows that were added later come in one of their own, and no file is ever written
again. Where there is only one, faiss can read it as it lies there (``refiner``).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import InputError
from clipsearch.index.faiss_library import load_faiss
from clipsearch.types import Floats, Halves, Ints

Segment = tuple[Ints, Halves]  # ids (n,), rows (n, D)
SHARED_ROWS = 10_000  # from so many rows on a second thread pays
JOINED_BYTES = 64 * 2**20  # segments that are smaller together are copied into one


class _Table:
    """All segments, ready to be looked up; never changed."""

    def __init__(self, segments: list[Segment], dim: int) -> None:
        ids: Ints = segments[0][0] if len(segments) == 1 else np.concatenate([s[0] for s in segments])
        n = len(ids)
        if len(segments) > 1 and n * dim * 2 <= JOINED_BYTES:
            segments = [(ids, np.concatenate([s[1] for s in segments]))]
        self.segments = segments
        self.ids = ids
        self.starts = np.cumsum([0, *(len(s[0]) for s in segments)])
        self.first, self.last = int(ids[0]), int(ids[-1])
        # rows as a build writes them have ascending ids, most often without a gap: then looking up is a subtraction
        ascends = bool((ids[1:] > ids[:-1]).all())
        self.is_dense = ascends and self.last - self.first == n - 1
        self.order: Ints | None = None if ascends else np.argsort(ids, kind="stable")
        self.sorted = ids if self.order is None else ids[self.order]

    def positions(self, ids: Ints) -> Ints:
        if self.is_dense:
            at = ids - self.first
            return at if _all_within(at, len(self.ids)) else np.where((at >= 0) & (at < len(self.ids)), at, -1)
        at = np.minimum(np.searchsorted(self.sorted, ids), len(self.sorted) - 1)
        found = self.sorted[at] == ids
        return np.where(found, at if self.order is None else self.order[at], -1)


class RowStore:
    """Rows (N, D) float16 by position, and their ids."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._segments: list[Segment] = []
        self._table: _Table | None = None
        self._refiner: Any = None
        self._scanner: Any = None

    def __len__(self) -> int:
        return sum(len(ids) for ids, _ in self._segments)

    @property
    def segments(self) -> list[Segment]:
        """The rows as (ids, rows) pieces, in the order of their positions."""
        return self._ready().segments if self._segments else []

    @property
    def ids(self) -> Ints:
        """The ids (N,) by position."""
        return self._ready().ids if self._segments else np.empty(0, np.int64)

    def add(self, ids: Ints, rows: NDArray[Any]) -> None:
        """Add ids (n,) and rows (n, D) behind the others; float16 memory maps are kept as they are."""
        if rows.ndim != 2 or rows.shape != (len(ids), self.dim):
            raise InputError(f"Rows have shape {rows.shape}; {len(ids)} ids and dim {self.dim} were expected.")
        if len(ids):
            halves = rows if rows.dtype == np.float16 else rows.astype(np.float16)
            self._segments.append((np.asarray(ids, np.int64), np.asarray(halves)))
            self._table = self._refiner = self._scanner = None

    def positions(self, ids: Ints) -> Ints:
        """Return where rows are, by id (n,): the position, or -1 for an id that is not there."""
        return self._ready().positions(ids) if self._segments else np.full(len(ids), -1, np.int64)

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

    def refiner(self) -> Any:  # Any: a faiss index, and faiss has no types
        """Return a faiss index that reads the rows where they lie, or None where they lie in several places."""
        if self._refiner is not None:
            return self._refiner
        segments = self.segments
        if len(segments) != 1 or not segments[0][1].flags.c_contiguous:
            return None
        self._refiner = _view(segments[0][1])
        return self._refiner

    def scanner(self) -> Any:  # Any: as above
        """Return a faiss index that compares all rows, which lie in one piece; many of them on several threads."""
        if self._scanner is None:
            rows, threads = self.segments[0][1], load_faiss().omp_get_max_threads()
            self._scanner = self.refiner() if len(rows) < SHARED_ROWS or threads < 2 else _shards(rows, threads)
        return self._scanner

    def _ready(self) -> _Table:
        """Return the table. Two threads may both make it once; they make the same."""
        table = self._table
        if table is None:
            table = self._table = _Table(self._segments, self.dim)
        return table


def _view(rows: Halves) -> Any:  # Any: a faiss index, and faiss has no types
    """Return a faiss index of rows (n, D) that reads them where they lie."""
    faiss = load_faiss()
    kind = faiss.ScalarQuantizer.QT_fp16
    index = faiss.IndexScalarQuantizer(rows.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
    index.is_trained = True
    view = faiss.MaybeOwnedVectorUInt8
    index.codes = view.create_view(faiss.swig_ptr(rows.view(np.uint8)), rows.nbytes, view().owner)
    index.ntotal = len(rows)
    index.referenced_objects = [rows]  # a view owns nothing: the rows must live as long as it does
    return index


def _shards(rows: Halves, n: int) -> Any:  # Any: as above
    """Return a faiss index that searches ``n`` equal parts of rows (m, D) at the same time."""
    faiss = load_faiss()
    shards = faiss.IndexShards(rows.shape[1], True, True)  # on threads; numbered one after the other
    for part in np.array_split(rows, n):
        shards.add_shard(_view(part))
    return shards


def _all_within(positions: Ints, n: int) -> bool:
    """Tell whether all are positions of ``n`` rows."""
    return not len(positions) or (int(positions.min()) >= 0 and int(positions.max()) < n)


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
