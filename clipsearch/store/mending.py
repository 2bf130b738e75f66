"""Mend a collection's own files: from one another where they hold the same, and by letting go of what is lost.

A shard and its sidecars hold the same rows, so either is made again from the other. What neither has is taken out of
the collection in a new version. Nothing that was damaged is deleted: it is moved to ``damaged/``. The order is that of
every commit: files first, then a manifest that names them, then CURRENT. A repair that was killed is begun again.
"""

import json
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np

from clipsearch.errors import CorruptShardError
from clipsearch.npy import load_npy
from clipsearch.store import manifest as manifests
from clipsearch.store import parquet, plan, sidecar
from clipsearch.store.checking import Checked, check_store, newest_readable
from clipsearch.store.codec import decode_value
from clipsearch.store.files import (
    CURRENT,
    DIR_MODE,
    WriterLock,
    read_bytes,
    replace_file,
    sha256,
    stamp_of,
    storage_errors,
    sync_dir,
)
from clipsearch.store.manifest import MANIFESTS, FileEntry, Manifest
from clipsearch.store.naming import FOLDERS, version_of
from clipsearch.store.writer import digest_in_force
from clipsearch.types import Ints

DAMAGED = "damaged"


@dataclass
class Mended:
    """What was done.

    Attributes:
        made: files that were made again.
        moved: files that were moved to ``damaged/``.
        lost: rows that are no longer in the collection.
        paths: where the pictures of lost rows are, as (root id, path), as far as it is known.
        notes: what cannot be had again.
    """

    made: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    lost: int = 0
    paths: list[tuple[int, bytes]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)  # files that the new version does not name
    went_back: bool = False  # an older version is in force, and the next one will have a number that was used before


def mend_store(path: str, *, wait: bool = False) -> Mended:
    """Mend CURRENT, the manifest, shards, sidecars and deletions; does nothing where all is whole.

    Raises:
        CollectionNotFoundError: there is none.
        CorruptShardError: no manifest can be read.
        LockedError: another process is writing.
        StorageError: the disk is full or cannot be written.
    """
    check_store(path)  # raises where there is no collection, before a lock file is made
    with storage_errors(path):
        lock = WriterLock(path)
        lock.acquire(wait)
        try:
            return _mend(path)
        finally:
            lock.release()


def _mend(path: str) -> Mended:
    done = Mended()
    found = check_store(path)
    manifest = _manifest(path, found, done)
    bad = {one.name for one in found.damages}
    naming = plan.Naming(manifest.version + 1, secrets.token_hex(4), datetime.now(UTC))
    files: list[FileEntry] = []
    for entry in manifest.files:
        if entry.kind == "sidecar":
            continue
        beside = [other for other in manifest.files if other.of == entry.name]
        files += _mended(path, manifest, entry, beside, bad, naming, done)
    order = {entry.name: n for n, entry in enumerate(manifest.files)}
    files.sort(key=lambda entry: order.get(entry.name, order.get(entry.of or "", len(order))))
    new = _counted(path, replace(manifest, files=tuple(files)), naming, done) if done.lost else tuple(files)
    if isinstance(new, tuple):
        new = replace(manifest, files=new)
    if new != manifest:
        moment = naming.now.isoformat(timespec="seconds")
        facts = {"version": naming.version, "previous": manifest.version, "committed": moment}
        facts["rows_version"] = naming.version if done.lost else manifest.rows_version
        for folder in FOLDERS:
            sync_dir(os.path.join(path, folder))
        manifests.publish(path, replace(new, **facts, previous_sha256=digest_in_force(path)))
    # last of all: until the new version is in force, a repair that begins again needs them where they are
    _move(path, [*done.replaced, *(one.name for one in found.damages if one.kind == "older")], done)
    return done


def _manifest(path: str, found: Checked, done: Mended) -> Manifest:
    """Return the manifest in force; where it is damaged, put the newest one in force that can be read."""
    for folder in FOLDERS:
        os.makedirs(os.path.join(path, folder), DIR_MODE, exist_ok=True)
    broken = [one.name for one in found.damages if one.kind in ("pointer", "manifest")]
    with suppress(CorruptShardError):
        return manifests.read_current(path)[1]
    named = manifests.pointed_at(manifests.read_pointer(path))  # readable or not, that one is not what was written
    manifest = newest_readable(path, None if named is None else named[0] - 1)
    if manifest is None:
        raise CorruptShardError(
            f"No manifest of {path} can be read, so nothing says what belongs to it.\n"
            "Restore the collection from a copy, or delete its folder and index the pictures again."
        )
    later = [
        f"{folder}/{name}"
        for folder in FOLDERS
        for name in os.listdir(os.path.join(path, folder))
        if version_of(name) > manifest.version
    ]
    _move(path, [*(name for name in broken if name not in later and name != CURRENT), *later], done)
    done.went_back = True
    if later:
        done.notes.append(
            f"Version {manifest.version} is in force again; what came later is in {DAMAGED}/. Index again to have it."
        )
    data = read_bytes(os.path.join(path, MANIFESTS, manifests.file_name(manifest.version)))
    replace_file(os.path.join(path, CURRENT), manifests.pointer(manifest.version, data))
    sync_dir(path)
    done.made.append(CURRENT)
    return manifest


def _mended(
    path: str,
    manifest: Manifest,
    entry: FileEntry,
    beside: Sequence[FileEntry],
    bad: set[str],
    naming: plan.Naming,
    done: Mended,
) -> list[FileEntry]:
    """Return a file and its sidecars as they are to be named from now on; empty where all of it is lost."""
    sound = [other for other in beside if other.name not in bad]
    if entry.name not in bad:
        made = [] if len(sound) == len(beside) else _sidecars(path, entry)
        for file in made:
            if file.entry.name in bad:
                replace_file(os.path.join(path, file.entry.name), file.data)
                done.made.append(file.entry.name)
        return [entry, *([_stamped(path, file.entry) for file in made] or sound)]
    if entry.kind in ("images", "texts", "deleted") and beside and len(sound) == len(beside):
        made = _from_sidecars(path, manifest, entry, naming)
        for file in made:
            replace_file(os.path.join(path, file.entry.name), file.data)
            done.made.append(file.entry.name)
        done.replaced.append(entry.name)
        return [_stamped(path, file.entry) for file in made]
    _give_up(path, entry, sound, done)
    done.replaced += [entry.name, *(other.name for other in beside)]
    return []


def _sidecars(path: str, entry: FileEntry) -> list[plan.NewFile]:
    """Make the sidecars of a whole file again, under the names that they had."""
    data = read_bytes(os.path.join(path, entry.name))
    stem = os.path.splitext(os.path.basename(entry.name))[0]
    if entry.kind == "deleted":
        parts = {".ids.npy": sidecar.npy_bytes(parquet.decode_ids(data))}
    else:
        rows, embeddings = parquet.decode(entry.kind, data)
        parts = sidecar.encode(entry.kind, rows, embeddings)
    return [
        plan.new_file(f"sidecars/{stem}{end}", entry.rows, part, "sidecar", entry.name) for end, part in parts.items()
    ]


def _from_sidecars(path: str, manifest: Manifest, entry: FileEntry, naming: plan.Naming) -> list[plan.NewFile]:
    """Make a file again from its whole sidecars, under a new name: its bytes are not the ones it had."""
    naming = replace(naming, token=secrets.token_hex(4))
    stem = os.path.join(path, "sidecars", os.path.splitext(os.path.basename(entry.name))[0])
    if entry.kind == "deleted":
        return plan.deleted(load_npy(f"{stem}.ids.npy"), naming)
    data = sidecar.ShardData.map_files(entry.kind, stem)
    rows = [data.row(n) for n in range(len(data.ids))]
    notes = {"encoder": str(manifest.encoder.get("name", ""))}
    made = parquet.encode(entry.kind, rows, data.embeddings, notes, _indexed_at(path, entry, naming.now))
    return plan.shard_files(entry.kind, naming, len(rows), made, sidecar.encode(entry.kind, rows, data.embeddings))


def _indexed_at(path: str, entry: FileEntry, now: datetime) -> datetime:
    """Return when the rows of a shard were committed, as its version's manifest says; else now."""
    where = os.path.join(path, MANIFESTS, manifests.file_name(version_of(os.path.basename(entry.name))))
    with suppress(OSError, CorruptShardError, ValueError):
        return datetime.fromisoformat(manifests.from_bytes(read_bytes(where), where).committed)
    return now


def _give_up(path: str, entry: FileEntry, sound: Sequence[FileEntry], done: Mended) -> None:
    done.notes.append(f"{entry.name} ({entry.rows:,} rows) cannot be made again from other files.")
    if entry.kind in ("images", "texts"):
        done.lost += entry.rows
    whole = {os.path.splitext(other.name)[1] for other in sound}
    if entry.kind == "images" and ".rows" in whole:
        rows = next(other for other in sound if other.name.endswith(".rows"))
        for line in read_bytes(os.path.join(path, rows.name)).splitlines():
            row = json.loads(line)
            if row.get("member") is None:
                done.paths.append((row["root"], decode_value("bytes", row["path"])))


def _counted(path: str, manifest: Manifest, naming: plan.Naming, done: Mended) -> Manifest:
    """Count the rows that are left, and delete captions whose picture is gone: nothing they lead to is there."""
    datas = {e.name: read_bytes(os.path.join(path, e.name)) for e in manifest.files if e.kind in ("texts", "deleted")}
    none = np.empty(0, np.int64)
    dead = np.concatenate([none, *(parquet.decode_ids(datas[e.name]) for e in manifest.files_of("deleted"))])
    images, texts = none, none
    for entry in manifest.files_of("images"):
        images = np.concatenate([images, parquet.inspect(read_bytes(os.path.join(path, entry.name)))[0]])
    loose: list[int] = []
    for entry in manifest.files_of("texts"):
        rows = parquet.decode("texts", datas[entry.name])[0]
        texts = np.concatenate([texts, np.array([row["id"] for row in rows], np.int64)])
        known = set(images.tolist())
        loose += [row["id"] for row in rows if row["image_id"] is not None and row["image_id"] not in known]
    gone = np.setdiff1d(np.array(loose, np.int64), dead)
    made = plan.deleted(gone, replace(naming, token=secrets.token_hex(4)))
    for file in made:
        replace_file(os.path.join(path, file.entry.name), file.data)
    if len(gone):
        done.notes.append(f"{len(gone):,} captions belonged to lost pictures and went with them; index them again.")
    dead = np.unique(np.concatenate([dead, gone]))
    counts = {kind: _live(ids, dead) for kind, ids in (("images", images), ("texts", texts))}
    files = (*manifest.files, *(_stamped(path, file.entry) for file in made))
    return replace(manifest, files=files, counts={**counts, "deleted": len(dead)})


def _live(ids: Ints, dead: Ints) -> int:
    return int(np.count_nonzero(~np.isin(ids, dead)))


def _stamped(path: str, entry: FileEntry) -> FileEntry:
    return replace(entry, stamp=stamp_of(os.path.join(path, entry.name)))


def _move(path: str, names: Sequence[str], done: Mended) -> None:
    """Move damaged files out of the way, each under a name of its own."""
    for name in names:
        where = os.path.join(path, name)
        if not os.path.lexists(where):
            continue
        os.makedirs(os.path.join(path, DAMAGED), DIR_MODE, exist_ok=True)
        digest = sha256(read_bytes(where))[:8]
        os.replace(where, os.path.join(path, DAMAGED, f"{name.replace('/', '-')}.{digest}"))
        done.moved.append(name)
