"""Shards as Parquet: the truth of a collection, for DuckDB, pandas and polars as for us.

Only this module and ``metadata.py`` import pyarrow: writing needs it, reading a shard without its sidecars, filters.
Pages carry checksums; the manifest has a digest of the whole file besides, because a bit flip in the footer can go
past them.
"""

import io
from collections.abc import Mapping, Sequence, Set
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipsearch.store.columns import Columns
from clipsearch.store.schema import COLUMNS, FORMAT_VERSION, REQUIRED, clean_text
from clipsearch.types import Halves, Ints, display_path

_TYPES: dict[str, pa.DataType] = {
    "int64": pa.int64(),
    "int32": pa.int32(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "bytes": pa.binary(),
    "hash": pa.binary(32),
    "text": pa.string(),
    "time": pa.timestamp("us"),
}
_ADDED: dict[str, pa.DataType] = {"text": pa.string(), "texts": pa.list_(pa.string()), "number": pa.int64()}
_DISPLAY = {"images": "path_text", "texts": "source_text"}


def schema(kind: str, dim: int, notes: Mapping[str, str]) -> pa.Schema:
    """Return the Arrow schema of a kind's shards; ``notes`` go into the file's key-value metadata."""
    columns = [pa.field(name, _TYPES[type_], name not in REQUIRED) for name, type_ in COLUMNS[kind].items()]
    columns += [
        pa.field(_DISPLAY[kind], pa.string()),
        pa.field("indexed_at", pa.timestamp("us", tz="UTC")),
        pa.field("embedding", pa.list_(pa.field("element", pa.float16(), False), dim), False),
    ]
    told = {"format_version": str(FORMAT_VERSION), "kind": kind, "dim": str(dim), **notes}
    return pa.schema(columns, {f"clipsearch.{name}": text for name, text in told.items()})


def encode(
    kind: str, rows: Sequence[Mapping[str, Any]], embeddings: Halves, notes: Mapping[str, str], now: datetime
) -> bytes:
    """Return a shard's bytes.

    Args:
        kind: "images" or "texts".
        rows: N rows, column name → value.
        embeddings: (N, D) float16.
        notes: key-value metadata of the file.
        now: the time of the commit, in UTC.

    Raises:
        ValueError: a value does not fit its column.
    """
    target = schema(kind, embeddings.shape[1], notes)
    values: dict[str, Any] = {
        name: [_clean(row[name]) for row in rows] if type_ == "text" else [row[name] for row in rows]
        for name, type_ in COLUMNS[kind].items()
    }
    values[_DISPLAY[kind]] = [_display(kind, row) for row in rows]
    values["indexed_at"] = [now] * len(rows)
    try:
        arrays = [pa.array(values[field.name], field.type) for field in target if field.name != "embedding"]
    except (pa.ArrowException, OverflowError, TypeError) as problem:
        raise ValueError(f"A row cannot be stored: {problem}") from problem
    arrays.append(
        pa.FixedSizeListArray.from_arrays(pa.array(embeddings.reshape(-1)), type=target.field("embedding").type)
    )
    return _write(pa.Table.from_arrays(arrays, schema=target))


def encode_columns(kind: str, columns: Columns, notes: Mapping[str, str], now: datetime) -> bytes:
    """Return a shard's bytes from rows given as columns; the arguments are those of ``encode``.

    Raises:
        ValueError: a value does not fit its column.
    """
    n, dim = columns.embeddings.shape
    target = schema(kind, dim, notes)
    everywhere = {**columns.constants, "indexed_at": now}
    values: dict[str, Any] = {name: _texts(kind, name, given) for name, given in columns.values.items()}
    values["id"] = columns.ids
    values[_DISPLAY[kind]] = _displays(kind, columns, n)
    try:
        arrays = [
            pa.array(values[field.name], field.type)
            if field.name in values
            else pa.repeat(pa.scalar(everywhere.get(field.name), field.type), n)
            for field in target
            if field.name != "embedding"
        ]
    except (pa.ArrowException, OverflowError, TypeError) as problem:
        raise ValueError(f"A row cannot be stored: {problem}") from problem
    numbers = pa.array(columns.embeddings.reshape(-1))
    arrays.append(pa.FixedSizeListArray.from_arrays(numbers, type=target.field("embedding").type))
    # millions come this way, and zstd finds next to nothing in embeddings: a tenth of the size for half of the time
    return _write(pa.Table.from_arrays(arrays, schema=target), compressed=set(target.names) - {"embedding"})


def encode_ids(ids: Ints) -> bytes:
    """Return a file of one column, ``id``."""
    return _write(pa.table({"id": pa.array(ids, pa.int64())}))


def encode_added(name: str, ids: Ints, values: Sequence[Any], type_: str) -> bytes:
    """Return a file of two columns: ``id``, and ``name`` with a "text", a list of "texts" or a "number" for each id."""
    kind = _ADDED[type_]
    cleaned = values if type_ == "number" else [_cleaned(value) for value in values]
    return _write(pa.table({"id": pa.array(ids, pa.int64()), name: pa.array(cleaned, kind)}))


def decode(kind: str, data: bytes) -> tuple[list[dict[str, Any]], Halves]:
    """Return the rows of a shard (column name → value) and their embeddings (N, D) float16.

    Raises:
        ValueError: it is no such shard.
    """
    table = _read(data)
    embedding = table.column("embedding").combine_chunks()
    embeddings = embedding.flatten().to_numpy(zero_copy_only=False).reshape(len(table), embedding.type.list_size)
    columns = list(COLUMNS[kind])
    missing = {name: None for name in columns if name not in table.column_names}  # a column added since
    rows = table.select([name for name in columns if name not in missing]).to_pylist()
    return [{**missing, **row} for row in rows], embeddings


def decode_ids(data: bytes) -> Ints:
    """Return the ids (N,) of a file that ``encode_ids`` made.

    Raises:
        ValueError: it is no such file.
    """
    return _read(data).column("id").to_numpy().astype(np.int64)


def merge(datas: Sequence[bytes], gone: Ints) -> tuple[bytes, Ints, Halves, Ints]:
    """Join shards of one kind; columns are carried over as they are, and are NULL where a shard has not got them.

    Args:
        datas: the shards.
        gone: ids (m,) of rows to leave out, ascending.

    Returns:
        The new shard's bytes, its ids (N,), ascending, its embeddings (N, D) float16, and where each of its rows was
        among those of all shards (N,).

    Raises:
        ValueError: one is no such shard.
    """
    tables = [_read(data) for data in datas]
    table = pa.concat_tables(tables, promote_options="default").replace_schema_metadata(tables[-1].schema.metadata)
    ids = table.column("id").to_numpy().astype(np.int64)
    order = np.flatnonzero(~np.isin(ids, gone))
    order = order[np.argsort(ids[order], kind="stable")]
    if len(order) < len(ids) or (np.diff(order) != 1).any():
        table = table.take(pa.array(order))
    column = table.column("embedding").combine_chunks()
    embeddings = column.flatten().to_numpy(zero_copy_only=False).reshape(len(table), column.type.list_size)
    plain = pq.ParquetFile(io.BytesIO(datas[-1])).metadata.row_group(0)
    last = plain.column(plain.num_columns - 1)  # the embedding
    compressed = set(table.column_names) - {"embedding"} if last.compression == "UNCOMPRESSED" else None
    return _write(table, compressed), ids[order], embeddings, order


def inspect(data: bytes) -> tuple[Ints, Halves]:
    """Return the ids (N,) and embeddings (N, D) float16 of a shard, checksums of their pages verified.

    Raises:
        ValueError: it is no such shard.
    """
    table = _read(data, ["id", "embedding"])
    embedding = table.column("embedding").combine_chunks()
    ids = table.column("id").to_numpy().astype(np.int64)
    return ids, embedding.flatten().to_numpy(zero_copy_only=False).reshape(len(table), embedding.type.list_size)


def page_problem(data: bytes) -> str | None:
    """Return what the checksums of a file's pages say against it; None where they find nothing."""
    try:
        _read(data)
    except Exception as problem:  # a damaged footer may say anything, and Arrow believe it
        return str(problem).split("\n", 1)[0] or type(problem).__name__
    return None


def _write(table: pa.Table, compressed: Set[str] | None = None) -> bytes:
    buffer = io.BytesIO()
    # Dictionaries pay for short repeated texts only; for embeddings they cost time and save nothing.
    repeated = [name for name in ("format", "camera", "lens", "source_text") if name in table.column_names]
    options: dict[str, Any] = {"use_dictionary": repeated}  # Any: its stub says bool, its documentation bool or list
    codec: Any = "zstd" if compressed is None else {name: "zstd" for name in compressed}
    pq.write_table(table, buffer, compression=codec, write_page_checksum=True, **options)
    return buffer.getvalue()


def _read(data: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    try:
        return pq.read_table(
            io.BytesIO(data), columns=None if columns is None else list(columns), page_checksum_verification=True
        )
    except (pa.ArrowException, OSError) as problem:  # pyarrow reports a bad page as OSError
        raise ValueError(str(problem)) from problem


def _clean(text: str | None) -> str | None:
    return None if text is None else clean_text(text)


def _cleaned(value: "str | Sequence[str] | None") -> "str | list[str] | None":
    return [clean_text(text) for text in value] if isinstance(value, list | tuple) else _clean(value)  # pyright: ignore


def _texts(kind: str, name: str, values: Sequence[Any]) -> Sequence[Any]:
    return [_clean(value) for value in values] if COLUMNS[kind][name] == "text" else values


def _displays(kind: str, columns: Columns, n: int) -> list[str]:
    def column(name: str) -> Sequence[Any]:
        given = columns.values.get(name)
        return [columns.constants.get(name)] * n if given is None else given

    if kind == "texts":
        return [display_path(source) for source in column("source")]
    return [display_path(path, member) for path, member in zip(column("path"), column("member"), strict=True)]


def _display(kind: str, row: Mapping[str, Any]) -> str:
    return display_path(row["path"], row["member"]) if kind == "images" else display_path(row["source"])
