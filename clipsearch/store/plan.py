"""Plan a commit: from rows to the bytes of new files, in memory, before anything is written."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import index
from typing import Any

import numpy as np

from clipsearch.store import sidecar
from clipsearch.store.added import AddedColumn
from clipsearch.store.codec import dumps
from clipsearch.store.columns import Columns
from clipsearch.store.files import sha256
from clipsearch.store.manifest import FileEntry
from clipsearch.store.rows import ImageRow, TextRow
from clipsearch.store.schema import COLUMNS
from clipsearch.store.skips import to_lines as skips_as_lines
from clipsearch.types import Halves, Ints, Skip

FOLDERS = {
    "images": "embeddings",
    "texts": "embeddings",
    "deleted": "deleted",
    "skipped": "skipped",
    "imports": "imports",
    "added": "columns/added",
}


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file to write and what the manifest will say of it."""

    entry: FileEntry
    data: bytes


@dataclass(frozen=True, slots=True)
class Naming:
    """What makes this attempt's file names new: the version it aims at, and a random token for each attempt."""

    version: int
    token: str
    now: datetime

    def stem(self, kind: str) -> str:
        """Return a file name without its suffix."""
        return f"{kind}-{self.version:06d}-{self.token}"


def shard(
    kind: str, rows: Sequence[ImageRow] | Sequence[TextRow], dim: int, naming: Naming, encoder: str
) -> list[NewFile]:
    """Return a shard and its sidecars.

    Raises:
        ValueError: an embedding has another shape or is not finite, or a value does not fit its column.
    """
    if not rows:
        return []
    from clipsearch.store import parquet

    ordered = sorted(rows, key=lambda row: row.id)
    embeddings = stack([row.embedding for row in ordered], dim)
    values = [_values(kind, row) for row in ordered]
    data = parquet.encode(kind, values, embeddings, {"encoder": encoder}, naming.now)
    return shard_files(kind, naming, len(ordered), data, sidecar.encode(kind, values, embeddings))


def columnar_shard(kind: str, columns: Columns | None, dim: int, naming: Naming, encoder: str) -> list[NewFile]:
    """Return a shard and its sidecars from rows given as columns.

    Raises:
        ValueError: the columns do not fit each other, or a value does not fit its column.
    """
    if columns is None or not len(columns.ids):
        return []
    from clipsearch.store import parquet

    columns.check(kind, dim)
    data = parquet.encode_columns(kind, columns, {"encoder": encoder}, naming.now)
    return shard_files(kind, naming, len(columns.ids), data, sidecar.encode_columns(kind, columns))


def shard_files(kind: str, naming: Naming, n: int, data: bytes, sidecars: Mapping[str, bytes]) -> list[NewFile]:
    """Return a shard of n rows, given as its bytes, and its sidecars, given by suffix."""
    stem = naming.stem(kind)
    name = f"{FOLDERS[kind]}/{stem}.parquet"
    return [
        new_file(name, n, data, kind),
        *(new_file(f"sidecars/{stem}{suffix}", n, part, "sidecar", name) for suffix, part in sidecars.items()),
    ]


def deleted(ids: Ints, naming: Naming) -> list[NewFile]:
    """Return a file of deleted ids (n,) and its sidecar."""
    if not len(ids):
        return []
    from clipsearch.store import parquet

    stem = naming.stem("deleted")
    name = f"{FOLDERS['deleted']}/{stem}.parquet"
    return [
        new_file(name, len(ids), parquet.encode_ids(ids), "deleted"),
        new_file(f"sidecars/{stem}.ids.npy", len(ids), sidecar.npy_bytes(ids), "sidecar", name),
    ]


def skipped(skips: Sequence[Skip], naming: Naming) -> list[NewFile]:
    """Return the list of files left out, one JSON object a line."""
    if not skips:
        return []
    name = f"{FOLDERS['skipped']}/{naming.stem('skipped')}.jsonl"
    return [new_file(name, len(skips), skips_as_lines(skips), "skipped")]


def imports(known: Sequence[Any] | None, naming: Naming) -> list[NewFile]:
    """Return the record of which ready embeddings were taken over, as JSON; none where there is nothing new to say."""
    if known is None:
        return []
    name = f"{FOLDERS['imports']}/{naming.stem('imports')}.json"
    return [new_file(name, len(known), dumps(list(known)) + b"\n", "imports")]


def added(column: AddedColumn, naming: Naming) -> list[NewFile]:
    """Return a part of a column that is added to the images, and what is to be known of how the column was made.

    Args:
        column: ids ascending.
        naming: of this part.
    """
    from clipsearch.store import parquet

    stem, name = f"{FOLDERS['added']}/{naming.stem('added')}", column.name
    data = parquet.encode_added(name, column.ids, column.values, column.type_)
    files = [new_file(f"{stem}.parquet", len(column.ids), data, "added", name)]
    return files if column.made is None else [*files, new_file(f"{stem}.made", 1, column.made, "made", name)]


def stack(embeddings: Sequence[Any], dim: int) -> Halves:
    """Return embeddings as one float16 array (N, D).

    Raises:
        ValueError: a shape is not (D,), or a number is not finite (float16 ends at 65,504).
    """
    for embedding in embeddings:
        if np.shape(embedding) != (dim,):
            raise ValueError(f"An embedding has shape {np.shape(embedding)}; this collection holds ({dim},).")
    with np.errstate(over="ignore", invalid="ignore"):
        halves = np.stack(embeddings).astype(np.float16)
    bad = int(np.count_nonzero(~np.isfinite(halves).all(axis=1)))
    if bad:
        raise ValueError(f"{bad} of {len(halves)} embeddings hold NaN or infinity; none is stored.")
    return halves


def new_file(name: str, rows: int, data: bytes, kind: str, of: str | None = None) -> NewFile:
    """Return a file with what the manifest will say of it."""
    return NewFile(FileEntry(name, rows, len(data), sha256(data), kind, of), data)


def _values(kind: str, row: ImageRow | TextRow) -> dict[str, Any]:
    """Return a row as column name → plain Python value (numpy numbers are welcome in a row)."""
    return {name: _plain(type_, getattr(row, name), name) for name, type_ in COLUMNS[kind].items()}


def _plain(type_: str, value: Any, name: str) -> Any:
    if value is None:
        return None
    if type_ in ("int64", "int32"):
        return index(value)
    if type_ == "float64":
        return float(value)
    if type_ in ("bytes", "hash"):
        return bytes(memoryview(value))  # a str is a mistake, and memoryview says so
    if type_ == "time" and value.tzinfo is not None:
        raise ValueError(f"{name} has a time zone; give the camera's local time without one.")
    return value


def folders_of(files: Sequence[NewFile]) -> list[str]:
    """Return the folders that hold the files, each once."""
    return sorted({os.path.dirname(file.entry.name) for file in files})
