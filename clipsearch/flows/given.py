"""Columns whose values are worked out beside other writers, and committed when the lock is free.

Scores of all pictures take seconds to minutes, in which nobody else should have to wait. So they are worked out on a
version of the collection, and the lock is held only to see what has come and gone since and to commit: a row that is
gone by then gets no value, and one that came gets its own then, by arithmetic on its stored embedding. The column is
that of a run which began at that moment, but for what was learnt from the rows of before.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from clipsearch.errors import InputError
from clipsearch.flows.evaluate import live_blocks
from clipsearch.flows.tagger import widened
from clipsearch.store import AddedColumn, Snapshot, Store
from clipsearch.store.writer import check_column_name
from clipsearch.types import Floats, Ints

CHUNK = 2_048  # pictures in memory at a time
PATIENCE = 10.0  # seconds that a finished run waits for another writer at least

Give = Callable[[Floats], Sequence[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Committed:
    """Columns as they were committed, the rows that they are of, and the version that has them."""

    columns: tuple[AddedColumn, ...]
    snapshot: Snapshot
    version: int


def check_replaces(snapshot: Snapshot, name: str, is_own: Callable[[bytes], bool]) -> None:
    """Refuse the name of a column unless it is free, or the one there was made in the same way.

    Raises:
        InputError: no column can have such a name, or one is there that something else made.
    """
    check_column_name(name)
    if name in snapshot.added_columns() and not is_own(snapshot.made_of(name) or b""):
        raise InputError(
            f"There is a column {name!r} already, which another command made. Give another name with --column,\n"
            f"or take it out first: clipsearch tag --drop --column {name}"
        )


def not_busy(store: Store, wait: bool) -> Snapshot:
    """Return the newest version, once no other writer is at work; so that nobody works long to be refused at the end.

    Raises:
        LockedError: another writer is at work, and ``wait`` is false.
    """
    with store.writer(wait=wait):
        return store.snapshot()


def commit_given(
    store: Store,
    before: Snapshot,
    columns: Sequence[tuple[AddedColumn, Give | None]],
    *,
    is_own: Callable[[bytes], bool],
    wait: bool,
    since: float,
) -> Committed:
    """Commit columns that were worked out on a version, for the rows that there are now.

    Args:
        store: the collection.
        before: the version.
        columns: each with what gives the values of pictures (n, D) that came since; None where those get none.
        is_own: tells by what is kept of a column whether it was made in the same way, so that it may be replaced.
        wait: wait for another writer however long; else as long as the work took, for that is what it would cost again.
        since: when the work began, by ``time.monotonic``.

    Raises:
        InputError: something else made a column of such a name meanwhile.
        LockedError: another writer is at work, for longer than that.
        StorageError: the disk is full or cannot be written.
    """
    patience = True if wait else max(PATIENCE, time.monotonic() - since)
    with store.writer(wait=patience) as writer:
        now = store.snapshot()
        for column, _ in columns:
            check_replaces(now, column.name, is_own)
        ready = [
            column if now.manifest.has_rows_of(before.version) else _of_now(column, give, now)
            for column, give in columns
        ]
        manifest = writer.add_columns(ready)
    return Committed(tuple(ready), now, manifest.version)


def _of_now(column: AddedColumn, give: Give | None, now: Snapshot) -> AddedColumn:
    """Return a column without the rows that are gone, and with values for those that came."""
    there = now.contains("images", column.ids) & ~np.isin(column.ids, now.deleted_ids())
    ids: list[Ints] = [column.ids[there]]
    values = [value for value, stays in zip(column.values, there.tolist(), strict=True) if stays]
    for block in live_blocks(now) if give is not None else ():
        new = ~np.isin(block.ids, column.ids)
        came, rows = block.ids[new], block.embeddings[new]
        for start in range(0, len(came), CHUNK):
            ids.append(came[start : start + CHUNK])
            values += give(widened(rows[start : start + CHUNK])) if give is not None else ()
    return replace(column, ids=np.concatenate(ids), values=values)
