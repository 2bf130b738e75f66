"""A file of rows, opened on demand after a look at what was written: a shard, or a file of deleted ids."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from clipsearch.errors import CorruptShardError
from clipsearch.npy import load_npy
from clipsearch.store.files import read_bytes, sha256
from clipsearch.store.manifest import FileEntry
from clipsearch.store.schema import RESTORE
from clipsearch.store.sidecar import ShardData
from clipsearch.store.stamps import Stamps
from clipsearch.types import Ints


def _has_size(path: str, entry: FileEntry) -> bool:
    try:
        return os.stat(os.path.join(path, entry.name)).st_size == entry.bytes
    except OSError:
        return False


def _is_intact(stamps: Stamps, entry: FileEntry) -> bool:
    return stamps.is_whole(entry.name, entry.bytes, entry.sha256, entry.stamp)


def check_size(path: str, entry: FileEntry) -> None:
    """Refuse a file that is missing or has another size.

    Raises:
        CorruptShardError: it is so.
    """
    if not _has_size(path, entry):
        raise CorruptShardError(
            f"{os.path.join(path, entry.name)} is missing or has not the {entry.bytes:,} bytes that were written.\n"
            f"{RESTORE}"
        )


def read_checked(path: str, entry: FileEntry) -> bytes:
    """Return a file's content after a look at its digest.

    Raises:
        CorruptShardError: it is not what was written, or cannot be read.
    """
    where = os.path.join(path, entry.name)
    try:
        data = read_bytes(where)
    except OSError as problem:
        raise CorruptShardError(f"{where} cannot be read: {problem}.\n{RESTORE}") from problem
    if sha256(data) != entry.sha256:
        raise CorruptShardError(f"{where} is not what was written: its digest differs.\n{RESTORE}")
    return data


class Shard:
    """A shard of images or texts, opened on demand: by its sidecars, or by its Parquet where one is missing."""

    def __init__(self, path: str, entry: FileEntry, sidecars: Sequence[FileEntry], stamps: Stamps) -> None:
        check_size(path, entry)
        self._path, self._entry = path, entry
        self._sidecars, self._stamps = sidecars, stamps
        self._checked = False
        self._data: ShardData | None = None
        self._metadata: Any = None  # Any: an Arrow table; pyarrow is imported when one is asked for

    @property
    def data(self) -> ShardData:
        """Open the shard. Two threads may both do so once; one of the two results is kept."""
        data = self._data
        if data is None:
            data = self._data = self._open()
        return data

    def close(self) -> None:
        """Let go of what is mapped; arrays that were handed out stay valid."""
        self._data = self._metadata = None

    def metadata(self) -> Any:  # Any: as above
        """Return the visible columns as an Arrow table, kept as long as the shard is."""
        table = self._metadata
        if table is None:
            from clipsearch.store import metadata

            table = self._metadata = self._read(metadata.read_shard, self._entry.kind)
        return table

    def everything(self, known_roots: Mapping[int, bytes]) -> Any:  # Any: as above
        """Return all that is known of the images as an Arrow table, paths as on this machine; not kept."""
        from clipsearch.store import metadata

        return self._read(metadata.read_everything, known_roots)

    def text_links(self) -> Ints:
        """Return ids and image ids (2, n) of the texts that belong to an image; nothing else of them is read."""
        from clipsearch.store import metadata

        return self._read(metadata.read_links)

    def embedding_column(self) -> Any:  # Any: as above
        """Return the embeddings as a column of an Arrow table."""
        from clipsearch.store import metadata

        return self._read(metadata.read_embeddings)

    def _read(self, read: Callable[..., Any], *arguments: Any) -> Any:  # Any: as above
        if not self._checked and not _is_intact(self._stamps, self._entry):
            where = os.path.join(self._path, self._entry.name)
            raise CorruptShardError(f"{where} is not what was written: its digest differs.\n{RESTORE}")
        self._checked = True
        try:
            return read(os.path.join(self._path, self._entry.name), *arguments)
        except (ValueError, KeyError) as problem:
            raise CorruptShardError(f"{self._entry.name} cannot be read: {problem}.\n{RESTORE}") from problem

    def _open(self) -> ShardData:
        if self._sidecars and all(_is_intact(self._stamps, sidecar) for sidecar in self._sidecars):
            stem = os.path.splitext(os.path.basename(self._entry.name))[0]
            try:
                data = ShardData.map_files(self._entry.kind, os.path.join(self._path, "sidecars", stem))
                if len(data.ids) == self._entry.rows:
                    return data
            except (OSError, ValueError):
                pass  # the Parquet file still has it all
        return self._open_parquet()

    def _open_parquet(self) -> ShardData:
        from clipsearch.store import parquet

        raw = read_checked(self._path, self._entry)
        try:
            rows, embeddings = parquet.decode(self._entry.kind, raw)
        except (ValueError, KeyError) as problem:
            raise CorruptShardError(f"{self._entry.name} cannot be read: {problem}.\n{RESTORE}") from problem
        return ShardData.from_rows(self._entry.kind, rows, embeddings)


class DeletedFile:
    """A file of deleted ids, opened on demand."""

    def __init__(self, path: str, entry: FileEntry, sidecars: Sequence[FileEntry], stamps: Stamps) -> None:
        check_size(path, entry)
        self._path, self._entry, self._sidecars, self._stamps = path, entry, sidecars, stamps

    def ids(self) -> Ints:
        """Return the ids (n,)."""
        for sidecar in self._sidecars:
            if not _is_intact(self._stamps, sidecar):
                continue
            try:
                ids = load_npy(os.path.join(self._path, sidecar.name))
            except (OSError, ValueError):
                continue
            if len(ids) == self._entry.rows:
                return ids
        from clipsearch.store import parquet

        try:
            return parquet.decode_ids(read_checked(self._path, self._entry))
        except (ValueError, KeyError) as problem:
            raise CorruptShardError(f"{self._entry.name} cannot be read: {problem}.\n{RESTORE}") from problem
