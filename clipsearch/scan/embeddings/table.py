"""Embeddings in a column of a Parquet file, beside what else it knows of each row."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clipsearch.errors import InputError, SourceNotFoundError
from clipsearch.scan.embeddings import FileStamp, Rows, stamp
from clipsearch.scan.embeddings.metadata import Chosen, choose, chunks, look_into

USUAL = "embedding"


@dataclass(frozen=True, slots=True)
class TablePart:
    """The rows of one Parquet file."""

    name: str
    files: tuple[FileStamp, ...]
    rows: int
    dim: int
    path: bytes
    column: str
    chosen: Chosen

    def read(self, start: int, size: int) -> Iterator[Rows]:
        """Yield the rows from a position on, at most ``size`` at a time."""
        for table in chunks(self.path, [self.column, *self.chosen.sources], start, size):
            embeddings = to_array(table.column(self.column), self.dim)
            columns = self.chosen.values(table, self.files[0].name, start)
            columns.pop("caption", None)  # a caption without an embedding cannot be searched
            yield Rows(start, embeddings, columns=columns)
            start += len(table)


def open_part(path: bytes, name: bytes, column: str | None) -> TablePart:
    """Open one file as a part.

    Raises:
        SourceNotFoundError: there is no such column; the message lists those there are.
        InputError: it is no column of lists of floats, all of one length.
    """
    shown = os.fsdecode(path)
    schema, rows = look_into(path)
    wanted = column or USUAL
    if wanted not in schema.names:
        raise SourceNotFoundError(
            f"The table {shown!r} has no column {wanted!r}. Its columns: {', '.join(schema.names) or 'none'}.\n"
            "Say which one holds the embeddings: --column NAME."
        )
    dim = _dim(path, wanted, schema.field(wanted).type)
    return TablePart(os.fsdecode(name), (stamp(path, name),), rows, dim, path, wanted, choose(schema.names, wanted))


def _dim(path: bytes, column: str, type_: Any) -> int:  # Any: an Arrow type
    """Return the numbers in an embedding: from the type, else from the first row that has one."""
    is_list = pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_)
    if not is_list or not pa.types.is_floating(type_.value_type):
        raise InputError(
            f"The column {column!r} of {os.fsdecode(path)} holds {type_}.\n"
            "Embeddings are lists of float16, float32 or float64. Say which column has them: --column NAME."
        )
    if pa.types.is_fixed_size_list(type_):
        return type_.list_size
    for table in chunks(path, [column], 0, 1024):
        for value in table.column(column):
            if value.is_valid and len(value):
                return len(value)
    raise InputError(f"The column {column!r} of {os.fsdecode(path)} holds no embedding. Give a table that has some.")


def to_array(column: Any, dim: int) -> NDArray[Any]:  # Any: an Arrow column of lists of floats
    """Return lists as an array (n, dim); a list that is missing, or of another length, becomes a row of NaN."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    kind = column.type.value_type.to_pandas_dtype()
    if pa.types.is_fixed_size_list(column.type):
        whole = np.asarray(column.is_valid())
    else:
        whole = np.asarray(column.value_lengths().fill_null(-1)) == dim
    if whole.all() and not column.null_count:
        return _numbers(column.flatten(), kind).reshape(len(column), dim)
    found = np.full((len(column), dim), np.nan, dtype=kind)
    found[whole] = _numbers(column.filter(pa.array(whole)).flatten(), kind).reshape(-1, dim)
    return found


def _numbers(values: Any, kind: Any) -> NDArray[Any]:
    """Return numbers as an array; a missing one is NaN."""
    if values.null_count:  # None in place of NaN would make an array of objects
        return np.array([np.nan if value is None else value for value in values.to_pylist()], dtype=kind)
    return values.to_numpy(zero_copy_only=False)
