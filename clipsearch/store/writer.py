"""Write to a collection: one commit, one new manifest version, whole or not at all.

The order is what makes it safe, at any kill and at a power cut:

1. all new files are made in memory, so a row that does not fit stops the commit before anything is written;
2. each is written beside its place, synced and renamed to a name never used before; then its folder is synced;
3. the manifest that names them is put in place by a hard link, which fails if the version exists: two writers can
   never both win;
4. ``CURRENT`` is replaced. From here on readers see the new version, and only now does ``commit`` return.

Whatever a dead writer left has a version number above ``CURRENT``'s or a temporary name. The next writer removes
it, under the lock, *before* it writes: so a file of version v on the disk, v not above ``CURRENT``, was committed.
"""

import os
import re
import secrets
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from clipsearch.errors import InputError, LockedError
from clipsearch.store import plan, roots
from clipsearch.store.added import AddedColumn, Part, taken_in
from clipsearch.store.columns import Columns
from clipsearch.store.compaction import Group, merged
from clipsearch.store.files import DIR_MODE, replace_file, stamp_of, storage_errors, sync_dir
from clipsearch.store.keeping import remove_unkept
from clipsearch.store.manifest import FileEntry, Manifest, pointed_at, publish, read_current, read_pointer
from clipsearch.store.naming import ADDED, FOLDERS, remove_leftovers
from clipsearch.store.reader import Snapshot
from clipsearch.store.rows import ImageRow, TextRow
from clipsearch.store.schema import VISIBLE
from clipsearch.types import Ints, Skip

_ADDED = ("added", "made")  # kinds of files
_TAKEN = {"embedding", "score", "rank", "k", "words", "captions", "sha256", "model"}  # in SQL and in exports
_TAKEN |= {"schema", "query", "text", "verdict", "folded", "path_b64"}  # in the JSON of a hit
_COLUMN = re.compile(r"[a-z][a-z0-9_]{0,59}")


def digest_in_force(path: str) -> str | None:
    """Return the digest of the manifest that CURRENT names."""
    named = pointed_at(read_pointer(path))
    return None if named is None else named[1]


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A commit that raised: did it take effect?"""

    version: int
    ids: tuple[Ints, Ints]


class Writer:
    """The one writer of a collection; made by ``Store.writer``, which holds the lock for it."""

    def __init__(self, path: str, snapshot: Callable[[], Snapshot]) -> None:
        self.path = path
        self._snapshot = snapshot
        self._failed: _Attempt | None = None
        self._closed = False
        self.freed = 0  # bytes of files that no kept version named
        self._start()
        self._next_id = self.manifest.next_id
        self._roots = list(self.manifest.roots)

    def root_id(self, absolute: bytes) -> int:
        """Return the id of a folder, given by its absolute path; a new one is stored with the next commit.

        Raises:
            ValueError: the path is not absolute.
        """
        if not os.path.isabs(absolute):
            raise ValueError(f"A root is given by its absolute path, not as {absolute!r}.")
        absolute = os.path.normpath(absolute)
        root = roots.find(self.path, self._roots, absolute)
        if root is None:
            root = roots.new_root(self.path, self._roots, absolute)
            self._roots.append(root)
        return root.id

    def given_root(self) -> int:
        """Return the id of the root for paths that stand as they were given, be they files, addresses or keys."""
        root = next((root for root in self._roots if root.is_given), None)
        if root is None:
            root = roots.given_root(self._roots)
            self._roots.append(root)
        return root.id

    def new_ids(self, n: int) -> range:
        """Return ``n`` row ids that no committed row has or had."""
        ids = range(self._next_id, self._next_id + n)
        self._next_id += n
        return ids

    def commit(
        self,
        images: Sequence[ImageRow] = (),
        texts: Sequence[TextRow] = (),
        deleted: Sequence[int] = (),
        skipped: Sequence[Skip] | None = None,
    ) -> Manifest:
        """Make one new version of the collection, and return its manifest once it is safe on the disk.

        Args:
            images: new images.
            texts: new texts.
            deleted: ids of rows, images or texts, that are gone; one that is gone already is passed over.
            skipped: the files that this run left out, in place of the list stored before; None keeps that list.

        Raises:
            ValueError: a row does not fit (shape, NaN, an id that is stored already or was never given out).
            StorageError: the disk is full or cannot be written; the version before stays in force. (If the very
                last step failed, the new one may be; the same commit given again then does nothing.)
        """
        if not {row.root for row in images} <= {root.id for root in self._roots}:
            raise ValueError("An image's root is unknown; take it from root_id.")

        def shards(naming: plan.Naming, encoder: str) -> list[plan.NewFile]:
            dim = self.manifest.dim
            return [
                *plan.shard("images", images, dim, naming, encoder),
                *plan.shard("texts", texts, dim, naming, encoder),
            ]

        return self._commit(shards, (_ids(images), _ids(texts)), deleted, skipped, None)

    def commit_columns(
        self,
        images: Columns | None = None,
        texts: Columns | None = None,
        deleted: Sequence[int] | Ints = (),
        skipped: Sequence[Skip] | None = None,
        imports: Sequence[Any] | None = None,
    ) -> Manifest:
        """Make one new version as ``commit`` does, of rows given as columns: a shard a kind.

        Args:
            images: new images.
            texts: new texts.
            deleted: ids of rows that are gone.
            skipped: what this run left out, in place of the list stored before; None keeps that list.
            imports: JSON values that ``Snapshot.imports`` is to give back, in place of those stored before; None
                keeps them. They become real with the rows, or not at all.

        Raises:
            ValueError: a column does not fit.
            StorageError: the disk is full or cannot be written.
        """

        def shards(naming: plan.Naming, encoder: str) -> list[plan.NewFile]:
            dim = self.manifest.dim
            return [
                *plan.columnar_shard("images", images, dim, naming, encoder),
                *plan.columnar_shard("texts", texts, dim, naming, encoder),
            ]

        none = np.empty(0, np.int64)
        ids = (none if images is None else images.ids, none if texts is None else texts.ids)
        return self._commit(shards, ids, deleted, skipped, imports)

    def commit_added(
        self, name: str, ids: Ints, values: Sequence[Any], *, type_: str = "texts", made: bytes | None = None
    ) -> Manifest:
        """Make one new version in which the images have a column more: ``add_columns`` of one."""
        return self.add_columns([AddedColumn(name, ids, values, type_, made)])

    def add_columns(self, columns: Sequence[AddedColumn]) -> Manifest:
        """Make one new version in which the images have more columns, in place of former ones of those names.

        Raises:
            InputError: images have a column of that name already, or it is no name.
            StorageError: the disk is full or cannot be written.
        """
        for column in columns:
            check_column_name(column.name)
        names = {column.name for column in columns}
        replaced = {entry.name for entry in self.manifest.files if entry.kind in _ADDED and entry.of in names}
        return self._commit_added(columns, replaced)

    def extend_columns(self, columns: Sequence[AddedColumn]) -> Manifest:
        """Make one new version in which more images have a value in columns that were added before.

        Args:
            columns: values of images that have none yet; ``type_`` as before, and ``made`` None.

        Raises:
            CorruptShardError: what is there of a column cannot be read.
            StorageError: the disk is full or cannot be written.
        """
        snapshot = self._snapshot()
        longer, replaced = [], set[str]()
        for column in columns:
            parts = [entry for entry in self.manifest.files_of("added") if entry.of == column.name]
            old = taken_in(parts, len(column.ids))
            replaced |= {entry.name for entry in old}
            read = [Part(self.path, entry, snapshot.stamps).read() for entry in old]
            longer.append(_with_parts(column, read, snapshot.deleted_ids()))
        return self._commit_added(longer, replaced)

    def _commit_added(self, columns: Sequence[AddedColumn], replaced: Collection[str]) -> Manifest:
        with storage_errors(self.path):
            for folder in (os.path.dirname(ADDED), ADDED):
                os.makedirs(os.path.join(self.path, folder), DIR_MODE, exist_ok=True)
            sync_dir(os.path.join(self.path, os.path.dirname(ADDED)))
        ordered = [column.ascending() for column in columns]

        def files(naming: plan.Naming, encoder: str) -> list[plan.NewFile]:
            named = [replace(naming, token=secrets.token_hex(4)) for _ in ordered]
            return [file for column, name in zip(ordered, named, strict=True) for file in plan.added(column, name)]

        none = np.empty(0, np.int64)
        return self._commit(files, (none, none), (), None, None, replaced)

    def drop_added(self, name: str) -> Manifest:
        """Make one new version in which the images have no such column.

        Raises:
            InputError: there is none that was added later.
        """
        known = list(dict.fromkeys(str(entry.of) for entry in self.manifest.files_of("added")))
        if name not in known:
            there = f"There are: {', '.join(known)}." if known else "There is none."
            raise InputError(f"No column {name!r} was added to this collection. {there}")
        none = np.empty(0, np.int64)
        gone = {entry.name for entry in self.manifest.files if entry.kind in _ADDED and entry.of == name}
        return self._commit(lambda naming, encoder: [], (none, none), (), None, None, gone)

    def _commit(
        self,
        shards: Callable[[plan.Naming, str], list[plan.NewFile]],
        ids: tuple[Ints, Ints],
        deleted: Sequence[int] | Ints,
        skipped: Sequence[Skip] | None,
        imports: Sequence[Any] | None,
        without: Collection[str] = (),
    ) -> Manifest:
        if self._closed:
            raise ValueError("The writer is closed: its lock was given back.")
        with storage_errors(self.path):
            if self._took_effect(ids):
                return self.manifest
            naming = plan.Naming(self.manifest.version + 1, secrets.token_hex(4), datetime.now(UTC))
            self._check_ids(np.concatenate(ids))
            gone = self._newly_deleted(deleted, np.concatenate(ids))
            files = [
                *shards(naming, str(self.manifest.encoder.get("name", ""))),
                *plan.deleted(gone, naming),
                *plan.skipped(skipped or (), naming),
                *plan.imports(imports, naming),
            ]
            if not files and not without and (skipped is None or not self.manifest.files_of("skipped")):
                return self.manifest
            replaced = {name for name, new in (("skipped", skipped), ("imports", imports)) if new is not None}
            manifest = self._next_manifest(files, ids, gone, naming, replaced, without)
            self._failed = _Attempt(manifest.version, ids)
            manifest = self._write(files, manifest)
        self._failed = None
        self.manifest = manifest
        return manifest

    def rewrite(
        self, groups: Sequence[Group], tombstones: Ints, tell: Callable[[int], None] = lambda _: None
    ) -> Manifest:
        """Make one new version with the same live rows in other files.

        Args:
            groups: shards that become one each, without their deleted rows.
            tombstones: ids (n,), ascending, of deleted rows that something still holds; the other ones are forgotten.
            tell: hears the rows written, group by group.

        Raises:
            CorruptShardError: a shard is not what was written.
            StorageError: the disk is full or cannot be written; the version before stays in force.
        """
        if self._closed:
            raise ValueError("The writer is closed: its lock was given back.")
        with storage_errors(self.path):
            none = np.empty(0, np.int64)
            if self._failed is not None:
                self._took_effect((none, none))
            naming = plan.Naming(self.manifest.version + 1, secrets.token_hex(4), datetime.now(UTC))
            self._failed = _Attempt(naming.version, (none, none))
            try:
                files = self._rewritten(groups, naming, tell)
                old = self.manifest.files_of("deleted")
                if len(old) == 1 and old[0].rows == len(tombstones):  # the same ids: tombstones were deleted before
                    files += [entry for entry in self.manifest.files if old[0].name in (entry.name, entry.of)]
                else:
                    files += [self._put(file) for file in plan.deleted(tombstones, naming)]
                manifest = replace(
                    self._next_manifest((), (none, none), none, naming, set()),
                    files=tuple(files),
                    counts={**self.manifest.counts, "deleted": len(tombstones)},
                    compacted=naming.version,
                )
                self._publish(manifest, {os.path.dirname(entry.name) for entry in files})
            except BaseException:
                with suppress(OSError):  # much may have been written: the disk may be full of it
                    remove_leftovers(self.path, read_current(self.path)[1].version)
                raise
            self._failed = None
            self.manifest = manifest
            self.freed += remove_unkept(self.path, manifest)
        return manifest

    def _rewritten(self, groups: Sequence[Group], naming: plan.Naming, tell: Callable[[int], None]) -> list[FileEntry]:
        """Write the merged shards, one after the other, and return all files but those of deleted ids."""
        snapshot, old = self._snapshot(), self.manifest
        heads = {group.entries[0].name: group for group in groups}
        replaced = {entry.name for group in groups for entry in group.entries}
        replaced |= {entry.name for entry in old.files_of("deleted")}
        sidecars = old.files_of("sidecar")
        files: list[FileEntry] = []
        for entry in old.files:
            if entry.name in heads:
                group = heads[entry.name]
                named = replace(naming, token=secrets.token_hex(4))
                files += [self._put(file) for file in merged(self.path, group, snapshot.deleted_ids(), named, sidecars)]
                tell(group.rows)
            elif entry.name not in replaced and entry.of not in replaced:
                files.append(entry)
        return files

    def close(self) -> None:
        """Refuse any further commit."""
        self._closed = True

    def _start(self) -> None:
        """Take up the version in force and clear away what dead writers left."""
        self.manifest: Manifest = read_current(self.path)[1]
        remove_leftovers(self.path, self.manifest.version)
        if self.manifest.compacted is not None:
            self.freed += remove_unkept(self.path, self.manifest)
        for folder in FOLDERS:  # an archive or a copy may have dropped the empty ones
            os.makedirs(os.path.join(self.path, folder), DIR_MODE, exist_ok=True)

    def _took_effect(self, ids: tuple[Ints, Ints]) -> bool:
        """After a commit that raised: see which version is in force, and whether it is this very commit."""
        attempt, self._failed = self._failed, None
        if attempt is None:
            return False
        try:
            self._start()
            sync_dir(self.path)  # if it did take effect, only this may have been missing
        except BaseException:
            self._failed = attempt
            raise
        same = all(np.array_equal(old, new) for old, new in zip(attempt.ids, ids, strict=True))
        return same and len(np.concatenate(ids)) > 0 and self.manifest.version == attempt.version

    def _check_ids(self, ids: Ints) -> None:
        if len(np.unique(ids)) != len(ids):
            raise ValueError("Two rows of the commit have the same id; take each from new_ids.")
        if len(ids) and (ids.min() < 0 or ids.max() >= self._next_id):
            raise ValueError("A row's id was never given out; take each from new_ids.")
        if len(ids) and ids.min() < self.manifest.next_id:
            snapshot = self._snapshot()
            if (snapshot.contains("images", ids) | snapshot.contains("texts", ids)).any():
                raise ValueError("A row's id is stored already; ids are never used again.")

    def _newly_deleted(self, deleted: Sequence[int] | Ints, new: Ints) -> Ints:
        """Return the ids, ascending, of rows that are stored (or come with this commit) and not deleted yet."""
        ids = np.unique(np.asarray(deleted, dtype=np.int64))
        if not len(ids):
            return ids
        if ids[0] < 0 or ids[-1] >= self._next_id:
            raise ValueError("A row to delete has an id that was never given out.")
        snapshot = self._snapshot()
        known = snapshot.contains("images", ids) | snapshot.contains("texts", ids) | np.isin(ids, new)
        return ids[known & ~np.isin(ids, snapshot.deleted_ids())]

    def _next_manifest(
        self,
        files: Sequence[plan.NewFile],
        ids: tuple[Ints, Ints],
        gone: Ints,
        naming: plan.Naming,
        replaced: Collection[str],
        without: Collection[str] = (),
    ) -> Manifest:
        old = self.manifest
        kept = [entry for entry in old.files if entry.kind not in replaced and entry.name not in without]
        counts = {"deleted": old.counts["deleted"] + len(gone)}
        for kind, new in zip(("images", "texts"), ids, strict=True):
            lost = self._snapshot().contains(kind, gone) | np.isin(gone, new) if len(gone) else gone
            counts[kind] = old.counts[kind] + len(new) - int(np.count_nonzero(lost))
        same = not len(gone) and not any(map(len, ids))
        return replace(
            old,
            version=naming.version,
            next_id=self._next_id,
            roots=tuple(roots.refreshed(self.path, root) for root in self._roots),
            files=(*kept, *(file.entry for file in files)),
            counts=counts,
            committed=naming.now.isoformat(timespec="seconds"),
            previous=old.version,
            previous_sha256=digest_in_force(self.path),
            rows_version=(old.rows_version or old.version) if same else naming.version,
        )

    def _write(self, files: Sequence[plan.NewFile], manifest: Manifest) -> Manifest:
        """Write new files and put the manifest in force, with the stamps that the files have got."""
        written = {entry.name: entry for entry in map(self._put, files)}
        manifest = replace(manifest, files=tuple(written.get(entry.name, entry) for entry in manifest.files))
        self._publish(manifest, plan.folders_of(files))
        return manifest

    def _put(self, file: plan.NewFile) -> FileEntry:
        """Write a file, and return what the manifest is to say of it."""
        where = os.path.join(self.path, file.entry.name)
        replace_file(where, file.data)
        return replace(file.entry, stamp=stamp_of(where))

    def _publish(self, manifest: Manifest, folders: Collection[str]) -> None:
        """Put a manifest in force whose files are in place, new ones in some folders."""
        for folder in sorted(folders):
            sync_dir(os.path.join(self.path, folder))
        try:
            publish(self.path, manifest)
        except FileExistsError as problem:
            raise LockedError(
                f"Another writer made version {manifest.version} of {self.path} although this one holds the lock.\n"
                "Does the file system (a network drive?) ignore locks? Nothing was lost; run the command again."
            ) from problem


def check_column_name(name: str) -> None:
    """Refuse the name of an added column that a filter could not use.

    Raises:
        InputError: it is no word in small letters, or images have such a column already.
    """
    if not _COLUMN.fullmatch(name):
        raise InputError(
            f"{name[:60]!r} cannot name a column: small letters, digits and _, a letter first, 60 characters at most."
        )
    if name in VISIBLE["images"] or name in _TAKEN:
        raise InputError(f"Pictures have a column {name!r} already. Give another name with --column.")


def _with_parts(column: AddedColumn, parts: Sequence[tuple[Ints, Any]], gone: Ints) -> AddedColumn:  # Any: Arrow
    """Return a column with the values that are in parts of it (ids, values), but for rows that are gone."""
    if not parts:
        return column
    from clipsearch.store import metadata

    ids, values = metadata.joined_added(parts)
    keep = ~np.isin(ids, gone)
    kept = [value for value, stays in zip(values.to_pylist(), keep.tolist(), strict=True) if stays]
    return replace(column, ids=np.concatenate([ids[keep], column.ids]), values=[*kept, *column.values])


def _ids(rows: Sequence[ImageRow] | Sequence[TextRow]) -> Ints:
    return np.array([row.id for row in rows], dtype=np.int64)
