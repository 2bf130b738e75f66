"""Compact a collection: merge small shards, drop deleted rows, and let what was derived from them stay valid.

The live rows, their ids and their order stay as they are, so answers do too. What knows shards by name follows:

- *An index* holds positions and ids of its own, of rows deleted since too. Those stay hidden, as *tombstones*: the
  collection goes on listing them as deleted, though no shard has them any more, until the index is trained anew. The
  record of the index gets the names of the new shards that it covers; until it has, searches look at each of their
  ids, and answer the same.
- *Packed columns* are packed again for the new shards; until then filters read the shards.
- *Calibration and augmentation* hold for the same live rows: ``Manifest.rows_version`` says that these are the same.

A caption may lead to a picture that was deleted; the id of such a picture stays among the tombstones too.
"""

import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import numpy as np

from clipsearch.arrays import united
from clipsearch.errors import CorruptShardError
from clipsearch.flows.build_state import kept_files
from clipsearch.flows.index_files import (
    IndexRecord,
    files_in_force,
    publish_record,
    read_record,
    remove_others,
)
from clipsearch.flows.index_folders import INDEX_FOLDERS
from clipsearch.flows.progress import Progress
from clipsearch.flows.saved_files import is_whole
from clipsearch.index.recipe import to_toml
from clipsearch.npy import load_npy
from clipsearch.store import Manifest, Snapshot, Store, update_packs
from clipsearch.store.compaction import Group, plan_groups
from clipsearch.store.files import CURRENT, WriterLock, replace_file, storage_errors, sync_dir
from clipsearch.store.keeping import held_bytes
from clipsearch.store.schema import KINDS
from clipsearch.types import Ints

SAVED_SHARDS = 50  # so many fewer are worth a run
DEAD_SHARE = 0.2
Tell = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class CompactReport:
    """What a compaction did, or would do.

    Attributes:
        version: of the collection now.
        shards_before, shards_after: Parquet files of rows.
        rows: rows that were written again.
        dropped: deleted rows that are in no shard any more.
        freed: bytes of removed files.
        held: bytes of files that stay for those who have the version before open; they go with the next run.
        dry: nothing was done.
    """

    version: int
    shards_before: int
    shards_after: int
    rows: int
    dropped: int
    freed: int
    held: int
    seconds: float
    dry: bool = False


@dataclass(frozen=True, slots=True)
class _Plan:
    groups: tuple[Group, ...]
    tombstones: Ints
    shards: int
    dropped: int

    @property
    def shards_after(self) -> int:
        return self.shards - sum(len(group.entries) - (group.rows > 0) for group in self.groups)


def compact(store: Store, *, dry_run: bool = False, wait: bool = False, progress: Tell | None = None) -> CompactReport:
    """Compact a collection; where there is nothing to do, nothing is done.

    Args:
        store: the collection.
        dry_run: only say what would be done.
        wait: wait for another writer instead of raising LockedError.
        progress: hears the rows written.

    Raises:
        LockedError: another process is writing to the collection, or building its index.
        CorruptShardError: a shard is not what was written.
        StorageError: the disk is full or cannot be written; everything is as it was.
    """
    start = time.monotonic()
    if dry_run:
        snapshot = store.snapshot()
        return _report(snapshot, _plan(snapshot), 0, held_bytes(store.path, snapshot.manifest), start, dry=True)
    with ExitStack() as stack:
        writer = stack.enter_context(store.writer(wait))
        for kind in INDEX_FOLDERS:
            stack.enter_context(_index_locked(store.path, kind, wait))
        snapshot = store.snapshot()
        plan = _plan(snapshot)
        if plan.groups or len(plan.tombstones) < len(snapshot.deleted_ids()) or _holds(store.path, writer.manifest):
            done, total = 0, sum(group.rows for group in plan.groups)

            def told(rows: int) -> None:
                nonlocal done
                done += rows
                if progress is not None:
                    progress(Progress("compact", done, total))

            writer.rewrite(plan.groups, plan.tombstones, told)
        for kind in INDEX_FOLDERS:
            _cover(store.snapshot(), kind)
        freed, held = writer.freed, held_bytes(store.path, writer.manifest)
    after = store.snapshot()
    update_packs(after)
    return _report(after, plan, freed, held, start)


def advice(snapshot: Snapshot) -> str | None:
    """Return why compacting pays, and what to run, in one sentence; None where it does not. No file is opened."""
    manifest = snapshot.manifest
    shards = {kind: manifest.files_of(kind) for kind in KINDS}
    rows = sum(entry.rows for some in shards.values() for entry in some)
    dead = rows - sum(manifest.counts[kind] for kind in KINDS)
    saved = sum(len(group.entries) - 1 for some in shards.values() for group in plan_groups(some, {}))
    reasons = []
    if saved >= SAVED_SHARDS:
        reasons.append(f"{sum(map(len, shards.values())):,} shards could be {sum(map(len, shards.values())) - saved:,}")
    if dead > DEAD_SHARE * rows:
        reasons.append(f"{dead:,} of {rows:,} rows are deleted")
    return f"{'; '.join(reasons)}: run 'clipsearch compact'" if reasons else None


def _holds(path: str, manifest: Manifest) -> bool:
    """Tell whether files of before the last compaction are there only for the sake of the version before it."""
    return manifest.compacted == manifest.version and held_bytes(path, manifest) > 0


def _report(
    snapshot: Snapshot, plan: _Plan, freed: int, held: int, start: float, *, dry: bool = False
) -> CompactReport:
    return CompactReport(
        version=snapshot.version,
        shards_before=plan.shards,
        shards_after=plan.shards_after,
        rows=sum(group.rows for group in plan.groups),
        dropped=plan.dropped,
        freed=freed,
        held=held,
        seconds=round(time.monotonic() - start, 3),
        dry=dry,
    )


def _plan(snapshot: Snapshot) -> _Plan:
    dead, records = snapshot.deleted_ids(), {kind: _record(snapshot, kind) for kind in INDEX_FOLDERS}
    covered = frozenset(name for record in records.values() if record is not None for name in record.shards)
    groups: list[Group] = []
    dropped = 0
    for kind in KINDS:
        counts = {entry.name: int(np.isin(ids, dead).sum()) for entry, ids in snapshot.shard_ids(kind)}
        dropped += sum(counts.values())
        groups += plan_groups(snapshot.manifest.files_of(kind), counts, covered)
    shards = sum(len(snapshot.manifest.files_of(kind)) for kind in KINDS)
    return _Plan(tuple(groups), _tombstones(snapshot, records, dead), shards, dropped)


def _tombstones(snapshot: Snapshot, records: Mapping[str, IndexRecord | None], dead: Ints) -> Ints:
    """Return the deleted ids that something but a shard still holds; all of them where that cannot be seen."""
    if not len(dead):
        return dead
    held = [snapshot.caption_links()[0]]
    for kind, record in records.items():
        if not os.path.lexists(os.path.join(snapshot.path, INDEX_FOLDERS[kind], CURRENT)):
            continue
        ids = None if record is None else _indexed_ids(snapshot, record)
        if ids is None:
            return dead
        held.append(ids)
    return dead[np.isin(dead, np.concatenate(held))]


def _record(snapshot: Snapshot, kind: str) -> IndexRecord | None:
    try:
        return read_record(snapshot.path, kind)
    except CorruptShardError:
        return None


def _indexed_ids(snapshot: Snapshot, record: IndexRecord) -> Ints | None:
    """Return the ids (n,) in an index; None where they cannot be read."""
    folder = os.path.join(snapshot.path, record.folder)
    if not all(is_whole(snapshot.stamps, record.folder, segment.ids) for segment in record.segments):
        return None
    ids = [load_npy(os.path.join(folder, segment.ids.name)) for segment in record.segments]
    return np.concatenate([np.empty(0, np.int64), *ids])


def _cover(snapshot: Snapshot, kind: str) -> None:
    """Name the shards in the record of an index all of whose live rows it holds."""
    record = _record(snapshot, kind)
    ids = None if record is None else _indexed_ids(snapshot, record)
    if record is None or ids is None:
        return
    known, hidden = frozenset(record.shards), united(ids, snapshot.deleted_ids())
    new = [e.name for e, some in snapshot.shard_ids(kind) if e.name not in known and np.isin(some, hidden).all()]
    if not new:
        return
    kept = [name for name in record.shards if os.path.lexists(os.path.join(snapshot.path, name))]
    stem = f"{record.recipe.type}-{snapshot.version:06d}-{secrets.token_hex(4)}"
    folder = os.path.join(snapshot.path, record.folder)
    with storage_errors(snapshot.path):
        replace_file(os.path.join(folder, f"{stem}.recipe.toml"), to_toml(record.recipe).encode())
        sync_dir(folder)
        publish_record(snapshot.path, stem, replace(record, shards=(*kept, *new)))


@contextmanager
def _index_locked(path: str, kind: str, wait: bool) -> Iterator[None]:
    """Keep builders out, where there is an index: it must not change between a look at its ids and the commit.

    What a run that was killed left beside the index goes.
    """
    folder = os.path.join(path, INDEX_FOLDERS[kind])
    if not os.path.isdir(folder):
        yield
        return
    lock = WriterLock(folder)
    with storage_errors(path):
        lock.acquire(wait)
    try:
        kept = files_in_force(path, kind)
        if kept:
            remove_others(folder, {*kept, *kept_files(folder)})
        yield
    finally:
        lock.release()
