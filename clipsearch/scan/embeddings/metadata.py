"""What a table says of its rows, as the collection's columns: which column is which, and values of plain types.

A path may be a file, an address or a key: it is taken as it stands, and nobody looks whether it is there.
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clipsearch.errors import InputError
from clipsearch.scan.embeddings.npy import numbered

NAMES: dict[str, tuple[str, ...]] = {
    "path": ("path", "image_path", "file_path", "filepath", "file_name", "filename", "url"),
    "caption": ("caption", "text"),
    "content_hash": ("sha256",),
    **{name: (name,) for name in ("width", "height", "format", "taken", "camera", "lens", "latitude", "longitude")},
    "generated": ("generated",),
}
"""Column of the collection → its names in the tables of others, the first that is there."""

_LARGEST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which column of a table is which of the collection's; ``address`` stands in for paths that are bare keys."""

    columns: Mapping[str, str]
    address: str | None

    @property
    def sources(self) -> list[str]:
        """The columns to read."""
        return list(dict.fromkeys([*self.columns.values(), *([self.address] if self.address else [])]))

    def values(self, table: pa.Table, name: bytes, start: int) -> dict[str, Sequence[Any]]:
        """Return the collection's columns of a table's rows, which begin at ``start`` of the file ``name``."""
        found = {
            column: [_READERS[column](value) for value in _plain(table.column(source))]
            for column, source in self.columns.items()
            if column != "path"
        }
        return {"path": self._paths(table, name, start), **found}

    def _paths(self, table: pa.Table, name: bytes, start: int) -> list[bytes]:
        paths: list[bytes | None] = [None] * len(table)
        for source in (self.columns.get("path"), self.address):
            if source is not None:
                given = (_path(value) for value in _plain(table.column(source)))
                paths = [new if old is None or is_key(old) else old for old, new in zip(paths, given, strict=True)]
        missing = numbered(name, start, len(table)) if None in paths else paths
        return [spare if path is None else path for path, spare in zip(paths, missing, strict=True)]  # pyright: ignore


def choose(names: Sequence[str], taken: str | None = None) -> Chosen:
    """Choose among the columns of a table, leaving ``taken`` aside.

    WebDataset's ``image_path`` is a bare key such as ``000000013``; where there are addresses too, these say more.
    """
    there = [name for name in names if name != taken]
    columns = {}
    for column, known in NAMES.items():
        found = next((name for name in known if name in there), None)
        if found is not None:
            columns[column] = found
    address = "url" if "url" in there and columns.get("path") != "url" else None
    return Chosen(columns, address)


def is_key(path: bytes) -> bool:
    """Tell whether a path is a bare key: no folder, no suffix."""
    return b"/" not in path and b"." not in path


def look_into(path: bytes) -> tuple[pa.Schema, int]:
    """Return the schema of a Parquet file and its rows.

    Raises:
        InputError: it is none.
    """
    try:
        with open(path, "rb") as raw, pq.ParquetFile(raw) as file:
            return file.schema_arrow, file.metadata.num_rows
    except pa.ArrowException as problem:
        raise InputError(f"{os.fsdecode(path)} is no Parquet file: {str(problem).splitlines()[0]}") from problem


def chunks(path: bytes, columns: Sequence[str], start: int, size: int) -> Iterator[pa.Table]:
    """Yield the rows of a Parquet file from a position on, ``size`` at a time; only the last chunk is shorter.

    Raises:
        InputError: a page is damaged.
    """
    with open(path, "rb") as raw, pq.ParquetFile(raw) as file:
        groups, skip = _groups_from(file, start)
        waiting: list[pa.Table] = []
        columns = columns or file.schema_arrow.names[:1]  # a table of no column has no rows
        try:
            for batch in file.iter_batches(batch_size=size, row_groups=groups, columns=list(columns)):
                rows = pa.Table.from_batches([batch])
                rows, skip = rows.slice(min(skip, len(rows))), max(skip - len(rows), 0)
                waiting.append(rows)
                while sum(map(len, waiting)) >= size:
                    joined = pa.concat_tables(waiting)
                    yield joined.slice(0, size)
                    waiting = [joined.slice(size)]
        except (pa.ArrowException, OSError) as problem:
            raise InputError(f"{os.fsdecode(path)} cannot be read: {str(problem).splitlines()[0]}") from problem
        if sum(map(len, waiting)):
            yield pa.concat_tables(waiting)


def _groups_from(file: pq.ParquetFile, start: int) -> tuple[list[int], int]:
    """Return the row groups from the one that holds a position on, and the rows of it to pass over."""
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if start < rows:
            return list(range(group, file.num_row_groups)), start
        start -= rows
    return [], 0


def _plain(column: Any) -> list[Any]:  # Any: an Arrow column
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    return column.to_pylist()


# Values of others, as the collection's columns hold them; what makes no sense there becomes None.


def _path(value: Any) -> bytes | None:
    if value is None or value == "" or value == b"":
        return None
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")


def _text(value: Any) -> str | None:
    text = value if isinstance(value, str) else None
    return text.strip() or None if text is not None else None


def _whole(value: Any) -> int | None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return int(value) if 0 < value <= _LARGEST else None


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


def _moment(value: Any) -> datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    return value.replace(tzinfo=None) if isinstance(value, datetime) else None


def _hash(value: Any) -> bytes:
    """Return the SHA-256 of a picture's file from hex or bytes; zeros where it is not known."""
    if isinstance(value, bytes) and len(value) == 32:
        return value
    try:
        return bytes.fromhex(value) if isinstance(value, str) and len(value) == 64 else bytes(32)
    except ValueError:
        return bytes(32)


_READERS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("caption", "format", "camera", "lens"), _text),
    **dict.fromkeys(("width", "height"), _whole),
    **dict.fromkeys(("latitude", "longitude"), _number),
    "taken": _moment,
    "content_hash": _hash,
    "generated": lambda value: True if value is True else None,
}
