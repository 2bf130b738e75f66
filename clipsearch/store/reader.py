"""Read one version of a collection.

A ``Snapshot`` is a manifest and the files it names, all of them immutable: it goes on answering from its version
whatever a writer does meanwhile, any number of threads may share it, and no lock is taken. Files are opened when
they are first asked for, and shared between snapshots of one ``Store``: after a commit only what is new is opened.
"""

import json
import os
from collections.abc import Collection, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np

from clipsearch.arrays import distinct
from clipsearch.errors import CorruptShardError
from clipsearch.store import roots
from clipsearch.store.added import AddedColumns
from clipsearch.store.files import sha256_of_file
from clipsearch.store.manifest import FileEntry, Manifest, read_current
from clipsearch.store.packs import FOLDER, read_packs
from clipsearch.store.rows import KnownFile, KnownText
from clipsearch.store.schema import KINDS, RESTORE, VISIBLE
from clipsearch.store.shard import DeletedFile, Shard, check_size, read_checked
from clipsearch.store.sidecar import ShardData
from clipsearch.store.skips import from_lines as skips_from_lines
from clipsearch.store.stamps import Stamps
from clipsearch.store.tables import Tables
from clipsearch.types import EmbeddingBlock, Halves, Ints, Skip

_FEW_SHARDS = 8  # so many are opened quicker than the record of the packs is read
_LARGEST = np.iinfo(np.int64).max
_FILE_COLUMNS = ("id", "root", "path", "member", "size", "mtime_ns", "ctime_ns", "content_hash")

Opened = MutableMapping[str, Any]  # Any: file name → Shard, DeletedFile, or a pack's table, which is of Arrow


class Snapshot:
    """One version of a collection, immutable and safe to share between threads."""

    def __init__(
        self, path: str, manifest: Manifest, opened: Opened | None = None, stamps: Stamps | None = None
    ) -> None:
        """Look at the size of every file that ``opened`` does not hold yet; ``stamps`` knows which were whole.

        Raises:
            CorruptShardError: a file is missing or has another size. A sidecar may: it is derived.
        """
        self.path = path
        self.manifest = manifest
        self.version = manifest.version
        self._shards: dict[str, list[Shard]] = {kind: [] for kind in KINDS}
        self._by_name: dict[str, Shard] = {}
        self._deleted_files: list[DeletedFile] = []
        self._deleted: Ints | None = None
        self._spans: dict[str, tuple[Ints, Ints]] = {}
        self._opened = {} if opened is None else opened
        self.stamps = Stamps(path) if stamps is None else stamps
        self._open_files(self._opened)
        self._added = AddedColumns(path, manifest.files_of("added"), self._opened, self.stamps)
        self._tables = Tables(path, manifest, self._opened, self.shard_table, self.stamps, self._added_to)

    def _open_files(self, opened: Opened) -> None:
        sidecars: dict[str | None, list[FileEntry]] = {}
        for entry in self.manifest.files:
            if entry.kind == "sidecar":
                sidecars.setdefault(entry.of, []).append(entry)
        for entry in self.manifest.files:
            if entry.kind in ("skipped", "imports", "added", "made"):
                check_size(self.path, entry)
            elif entry.kind != "sidecar" and entry.name not in opened:
                make = DeletedFile if entry.kind == "deleted" else Shard
                opened[entry.name] = make(self.path, entry, sidecars.get(entry.name, ()), self.stamps)
            if entry.kind in self._shards:
                self._by_name[entry.name] = opened[entry.name]
                self._shards[entry.kind].append(opened[entry.name])
            elif entry.kind == "deleted":
                self._deleted_files.append(opened[entry.name])
        # what was replaced: older snapshots that are in use hold on to it themselves
        names = {entry.name for entry in self.manifest.files}
        for name, one in list(opened.items()):
            if isinstance(one, Shard | DeletedFile) and name not in names:
                opened.pop(name, None)

    def count(self, kind: str) -> int:
        """Return how many live rows there are of a kind, "images" or "texts" (or "deleted" ones)."""
        return self.manifest.counts[kind]

    def blocks(self, kind: str = "images", without: Collection[str] = ()) -> Iterator[EmbeddingBlock]:
        """Yield ids and float16 embeddings as stored, dead rows too, memory-mapped, oldest shard first.

        Shards whose names are in ``without`` are not opened.
        """
        for entry, shard in zip(self.manifest.files_of(kind), self._shards[kind], strict=True):
            if entry.name in without:
                continue
            data = shard.data
            yield EmbeddingBlock(data.ids, data.embeddings)

    def deleted_ids(self) -> Ints:
        """Return the ids (n,) of rows that are gone, ascending."""
        if self._deleted is None:
            parts = [file.ids() for file in self._deleted_files]
            self._deleted = distinct(np.concatenate([np.empty(0, np.int64), *parts]))
        return self._deleted

    def rows(self, kind: str, ids: Sequence[int] | Ints) -> list[dict[str, Any]]:
        """Return the metadata of rows, live or dead, in the order asked for.

        Each is a dictionary of the kind's columns (``schema.COLUMNS``): paths as bytes, ``taken`` as datetime,
        None where there is none.

        Raises:
            KeyError: no row has such an id.
        """
        return [data.row(position) for data, position in self._locate(kind, ids)]

    def embeddings(self, kind: str, ids: Sequence[int] | Ints) -> Halves:
        """Return the embeddings (n, D) float16 of rows, live or dead, in the order asked for.

        Raises:
            KeyError: no row has such an id.
        """
        result = np.empty((len(ids), self.manifest.dim), dtype=np.float16)
        for n, (data, position) in enumerate(self._locate(kind, ids)):
            result[n] = data.embeddings[position]
        return result

    def shard_ids(self, kind: str = "images") -> Iterator[tuple[FileEntry, Ints]]:
        """Yield each shard of a kind with the ids (n,) of its rows, dead ones too."""
        for entry, shard in zip(self.manifest.files_of(kind), self._shards[kind], strict=True):
            yield entry, shard.data.ids

    def contains(self, kind: str, ids: Sequence[int] | Ints) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Tell for each id (n,) whether a row of this kind, live or dead, has it: (n,) bool."""
        wanted = np.asarray(ids, dtype=np.int64)
        found = np.zeros(len(wanted), dtype=bool)
        for shard in self._shards[kind]:
            found |= np.isin(wanted, shard.data.ids)
        return found

    def metadata_columns(self, kind: str = "images") -> tuple[str, ...]:
        """Return the names of the columns of ``metadata_table``."""
        return (*VISIBLE[kind], *self.added_columns()) if kind == "images" else VISIBLE[kind]

    def added_columns(self) -> tuple[str, ...]:
        """Return the names of the columns that were added to the images later, such as tags."""
        return self._added.names

    def added_column(self, name: str) -> tuple[Ints, Any]:  # Any: an Arrow array
        """Return ids (n,), ascending, and values of an added column; dead rows may be among them.

        Raises:
            CorruptShardError: it cannot be read.
            KeyError: there is no such column.
        """
        return self._added.column(name)

    def added_types(self) -> dict[str, Any]:  # Any: Arrow types
        """Return the added columns with their types.

        Raises:
            CorruptShardError: one cannot be read.
        """
        return {name: self._added.column(name)[1].type for name in self._added.names}

    def added_values(self, ids: Sequence[int] | Ints) -> list[dict[str, Any]]:
        """Return what the added columns say of images, in the order asked for: name → value, None left out.

        Raises:
            CorruptShardError: a column cannot be read.
        """
        return self._added.of_rows(np.asarray(ids, dtype=np.int64))

    def made_of(self, column: str) -> bytes | None:
        """Return what ``Writer.add_columns`` was told of how a column was made, or None.

        Raises:
            CorruptShardError: the file is damaged.
        """
        entry = next((entry for entry in self.manifest.files_of("made") if entry.of == column), None)
        return None if entry is None else read_checked(self.path, entry)

    def _added_to(self, kind: str) -> dict[str, Any]:  # Any: ids and an Arrow array
        return {name: self._added.column(name) for name in self._added.names} if kind == "images" else {}

    def metadata_table(self, kind: str = "images") -> Any:  # Any: so that this module needs no pyarrow
        """Return the metadata of the live rows as an Arrow table, columns as in ``schema.VISIBLE``; kept once read.

        Raises:
            CorruptShardError: a shard cannot be read.
        """
        return self._tables.live(kind, self.deleted_ids())

    def stored_table(self, kind: str = "images") -> Any:  # Any: as above
        """Return the same with dead rows in it, mapped into memory as far as it is packed: see ``packs.py``.

        Raises:
            CorruptShardError: a shard cannot be read.
        """
        return self._tables.stored(kind)

    def live(self, ids: Ints) -> Ints:
        """Return those of ids (n,), ascending, that are not deleted."""
        deleted = self.deleted_ids()
        if not len(deleted) or not len(ids):
            return ids
        at = np.minimum(np.searchsorted(ids, deleted), len(ids) - 1)
        return np.delete(ids, at[ids[at] == deleted])

    def shard_table(self, name: str) -> Any:  # Any: as above
        """Return the metadata of one shard as an Arrow table, read from its Parquet file.

        Raises:
            CorruptShardError: it cannot be read.
        """
        return self._by_name[name].metadata()

    def table_with_embeddings(self, kind: str = "images") -> Any:  # Any: as above
        """Return ``metadata_table`` with the column ``embedding`` (float32 lists), read anew at each call."""
        from clipsearch.store import metadata

        shards = self._shards[kind]
        tables = [shard.metadata().append_column("embedding", shard.embedding_column()) for shard in shards]
        if not tables:
            return self.metadata_table(kind)
        table = metadata.with_added(metadata.joined(tables, kind), self._added_to(kind))
        return metadata.without(table, self.deleted_ids())

    def live_blocks(self, allowed: Ints | None = None) -> Iterator[tuple[EmbeddingBlock, Any]]:
        """Yield live images shard by shard, ids ascending, with an Arrow table of all that is known of each.

        Its columns are those of ``metadata.EVERYTHING``, and behind them those that were added.

        Args:
            allowed: (n,) ids that may come, ascending; None allows all.
        """
        from clipsearch.store import metadata

        known = {root.id: self.root_path(root.id) for root in self.manifest.roots}
        dead = self.deleted_ids()
        for shard in self._shards["images"]:
            data = shard.data
            keep = ~np.isin(data.ids, dead)
            if allowed is not None:
                keep &= np.isin(data.ids, allowed)
            if keep.any():
                table = metadata.with_added(shard.everything(known), self._added_to("images"))
                yield EmbeddingBlock(data.ids[keep], data.embeddings[keep]), metadata.kept(table, keep)

    def caption_links(self) -> tuple[Ints, Ints]:
        """Return image ids (n,), ascending, and the ids (n,) of the live texts that belong to them."""
        none = np.empty((2, 0), np.int64)
        ids, images = np.concatenate([none, *(shard.text_links() for shard in self._shards["texts"])], axis=1)
        live = ~np.isin(ids, self.deleted_ids())
        ids, images = ids[live], images[live]
        order = np.lexsort((ids, images))
        return images[order], ids[order]

    def texts_of(self, image_ids: Ints) -> Ints:
        """Return the ids (n,) of the live texts that belong to images, whose ids are ascending."""
        from clipsearch.store import metadata

        table = self.metadata_table("texts").select(["id", "image_id"]).drop_null()
        ids, images = (metadata.numbers(column) for column in table.columns)
        return np.sort(ids[np.isin(images, image_ids)])

    def known_files(self) -> Iterator[KnownFile]:
        """Yield all live images, oldest shard first; one shard's chunk of rows is in memory at a time."""
        for row in self.live_rows("images", _FILE_COLUMNS):
            yield KnownFile(*row.values())

    def captions(self) -> Iterator[KnownText]:
        """Yield all live texts, oldest shard first."""
        for row in self.live_rows("texts", ("id", "image_id", "source", "text", "origins")):
            yield KnownText(*row.values())

    def skipped(self) -> list[Skip]:
        """Return the files left out when they were last looked at: ``KnownSkip``, or ``Skip`` of an import."""
        return [skip for entry in self.manifest.files_of("skipped") for skip in self._skips(entry)]

    def imports(self) -> list[Any]:  # Any: JSON values
        """Return what ``Writer.commit_columns`` was last told of imports; empty where there were none."""
        entries = self.manifest.files_of("imports")
        return json.loads(read_checked(self.path, entries[-1])) if entries else []

    def root_path(self, root_id: int) -> bytes:
        """Return where a root is now: where it lies as seen from the collection if it is there, else where it was.

        Raises:
            KeyError: no root has such an id.
        """
        return roots.place_of(self.path, {root.id: root for root in self.manifest.roots}[root_id])

    def close(self) -> None:
        """Let go of memory maps; asking again maps again."""
        for shards in self._shards.values():
            for shard in shards:
                shard.close()
        self._tables.close()
        self._added.close()

    def _skips(self, entry: FileEntry) -> list[Skip]:
        try:
            return skips_from_lines(read_checked(self.path, entry))
        except (ValueError, KeyError, TypeError) as problem:
            raise CorruptShardError(f"{entry.name} cannot be read: {problem!r}.\n{RESTORE}") from problem

    def live_rows(self, kind: str, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Yield some columns (``schema.COLUMNS``) of all live rows, oldest shard first, in the order of ``blocks``."""
        deleted = self.deleted_ids()
        for shard in self._shards[kind]:
            data = shard.data
            alive = ~np.isin(data.ids, deleted, assume_unique=True) if len(deleted) else None
            for n, row in enumerate(data.walk(columns)):
                if alive is None or alive[n]:
                    yield row

    def _locate(self, kind: str, ids: Sequence[int] | Ints) -> list[tuple[ShardData, int]]:
        """Return the shard and the position in it of each id."""
        wanted = np.asarray(ids, dtype=np.int64)
        found: list[tuple[ShardData, int] | None] = [None] * len(wanted)
        left = len(wanted)
        for shard in self._likely(kind, wanted):
            if not left:
                break
            data = shard.data
            positions = np.minimum(np.searchsorted(data.ids, wanted), len(data.ids) - 1)
            for n in np.flatnonzero(data.ids[positions] == wanted):
                left -= found[n] is None
                found[n] = (data, int(positions[n]))
        if left:
            missing = [int(id_) for id_, place in zip(wanted, found, strict=True) if place is None]
            raise KeyError(f"No row of {kind} has the id {missing[0]}.")
        return [place for place in found if place is not None]

    def _likely(self, kind: str, ids: Ints) -> Iterator[Shard]:
        """Yield the shards that may hold one of ids (n,), newest first: opening all takes a thousand of them 0.2 s."""
        shards = self._shards[kind]
        places: Sequence[int] | Ints = range(len(shards))
        if len(shards) > _FEW_SHARDS:
            first, last = self._span(kind)
            ordered = np.sort(ids)
            places = np.flatnonzero(np.searchsorted(ordered, first) < np.searchsorted(ordered, last, side="right"))
        yield from (shards[place] for place in reversed(places))

    def _span(self, kind: str) -> tuple[Ints, Ints]:
        """Return the smallest and the largest id of each shard (S,), as far as they are known without opening it."""
        if kind not in self._spans:
            packed = {shard.name: shard for pack in read_packs(self.path) for shard in pack.shards}
            known = [packed.get(entry.name) for entry in self.manifest.files_of(kind)]
            first = np.array([0 if shard is None else shard.first for shard in known], np.int64)
            last = np.array([_LARGEST if shard is None else shard.last for shard in known], np.int64)
            self._spans[kind] = (first, last)
        return self._spans[kind]


def verify_files(collection: Snapshot | str) -> list[str]:
    """Read every file of a version and return the names of those that are missing or not what was written.

    Args:
        collection: a snapshot, or the path of a collection, which may be too damaged to be opened.

    Raises:
        CorruptShardError: not even the manifest can be read.
    """
    path = collection if isinstance(collection, str) else collection.path
    manifest = read_current(path)[1] if isinstance(collection, str) else collection.manifest
    damaged = [entry.name for entry in manifest.files if _digest(os.path.join(path, entry.name)) != entry.sha256]
    packs = [pack for pack in read_packs(path) if _digest(pack.where(path)) != pack.sha256]
    return [*damaged, *(f"{FOLDER}/{pack.name}" for pack in packs)]


def _digest(where: str) -> str | None:
    try:
        return sha256_of_file(where)
    except OSError:
        return None
