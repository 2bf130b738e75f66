"""Decide what is packed, and pack it: see ``packs.py``.

A new pack takes in the ones before it that are not much larger. So sizes fall from pack to pack, there are few of
them, and adding a handful of pictures to a million does not write the million again.
"""

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from clipsearch.errors import LockedError
from clipsearch.store.files import DIR_MODE, WriterLock, stamp_of, storage_errors, stream_file, sync_dir
from clipsearch.store.manifest import FileEntry
from clipsearch.store.packs import FOLDER, Covered, Pack, pointed_record, publish_packs, read_packs, remove_others
from clipsearch.store.reader import Snapshot
from clipsearch.store.schema import KINDS, VISIBLE

ABSORB = 4  # times its own rows


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do for one kind of rows: packs that stay, packs that are taken in, shards that are new."""

    kind: str
    kept: tuple[Pack, ...]
    absorbed: tuple[Pack, ...]
    shards: tuple[FileEntry, ...]


def plan_packs(kind: str, shards: Sequence[FileEntry], packs: Sequence[Pack]) -> Plan:
    """Plan for the shards of a kind, given the sound packs of it in order."""
    names = {entry.name for entry in shards}
    useful = [p for p in packs if p.columns == VISIBLE[kind] and all(shard.name in names for shard in p.shards)]
    covered = {shard.name for pack in useful for shard in pack.shards}
    new = tuple(entry for entry in shards if entry.name not in covered)
    absorbed: list[Pack] = []
    rows = sum(entry.rows for entry in new)
    while new and useful and useful[-1].rows <= ABSORB * rows:
        absorbed.insert(0, useful.pop())
        rows += absorbed[0].rows
    return Plan(kind, tuple(useful), tuple(absorbed), new)


def update_packs(snapshot: Snapshot) -> int:
    """Pack the shards of a version that are not packed yet, and return how many those are.

    Where another process is at it, nothing is done: what it leaves out the next run will pack.

    Raises:
        StorageError: the disk is full or cannot be written; the packs before stay in force.
        CorruptShardError: a shard cannot be read.
    """
    folder = os.path.join(snapshot.path, FOLDER)
    with storage_errors(snapshot.path):
        if not any(snapshot.manifest.files_of(kind) for kind in KINDS) and not os.path.isdir(folder):
            return 0
        os.makedirs(folder, DIR_MODE, exist_ok=True)
        lock = WriterLock(folder)
        try:
            lock.acquire(wait=False)
        except LockedError:
            return 0
        try:
            return _update(snapshot, folder)
        finally:
            lock.release()


def _update(snapshot: Snapshot, folder: str) -> int:
    there = read_packs(snapshot.path)
    sound = [pack for pack in there if pack.is_whole(snapshot.stamps)]
    plans = [
        plan_packs(kind, snapshot.manifest.files_of(kind), [pack for pack in sound if pack.kind == kind])
        for kind in KINDS
    ]
    stem = f"{snapshot.version:06d}-{secrets.token_hex(4)}"
    packs = [(*plan.kept, *([_packed(snapshot, plan, folder, stem)] if plan.shards else ())) for plan in plans]
    result = tuple(chain.from_iterable(packs))
    if result != there:
        sync_dir(folder)
        publish_packs(snapshot.path, f"p{stem}", result)
    elif (record := pointed_record(snapshot.path)) is not None:
        remove_others(snapshot.path, record, there)
    return sum(len(plan.shards) for plan in plans)


def _packed(snapshot: Snapshot, plan: Plan, folder: str, stem: str) -> Pack:
    from clipsearch.store import metadata

    pieces = [metadata.read_pack(pack.where(snapshot.path)) for pack in plan.absorbed]
    shards = [shard for pack in plan.absorbed for shard in pack.shards]
    for entry in plan.shards:
        piece = snapshot.shard_table(entry.name)
        pieces.append(piece)
        shards.append(Covered(entry.name, entry.rows, *metadata.id_range(piece)))
    name = f"{plan.kind}-{stem}.arrow"
    with stream_file(os.path.join(folder, name)) as file:
        metadata.write_pack(file, pieces)
    stamp = stamp_of(os.path.join(folder, name))
    return Pack(name, plan.kind, VISIBLE[plan.kind], tuple(shards), file.bytes, file.sha256, stamp)
