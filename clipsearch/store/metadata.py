r"""The metadata of a version as Arrow tables: what filters and SQL read.

They come from packs (``packs.py``), mapped into memory: what is not looked at is not even read. Shards that are not
packed are read from their Parquet, which takes some milliseconds a shard; embeddings stay on the disk unless they are
wanted. Texts that repeat (camera, lens, format, folder) are dictionaries: a number a row.

``path`` is text here (other bytes as ``\xNN``); ``folder`` and ``name`` are its two parts, inside the tar for a tar's
member. Whole numbers are 64 bits wide, so that ``width * height`` cannot overflow. ``indexed_at`` is UTC. NaN becomes
NULL, as it does in the sidecars' JSON.
"""

import mmap
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipsearch.store.columns import NO_HASH
from clipsearch.store.files import StreamedFile
from clipsearch.store.schema import VISIBLE
from clipsearch.types import Ints, display_path

PACK_ROWS = 2**17  # rows in one batch of a pack

_READ = {"folder": ("path_text", "member"), "name": ("path_text", "member"), "path": ("path_text",)}
_READ |= {"source": ("source_text",)}
_compute: Any = pc  # Any: its functions are made at run time, and no stub lists them all


def read_shard(path: str, kind: str) -> pa.Table:
    """Return the visible columns of a shard; a column that it is too old to have is NULL.

    Raises:
        ValueError: it is no such shard, or a page is damaged.
    """
    names = VISIBLE[kind]
    table = _read(path, [stored for name in names for stored in _READ.get(name, (name,))])
    parts = _parts(table) if "folder" in names else {}
    return pa.table({name: _typed(parts[name] if name in parts else _column(table, name), name) for name in names})


def read_embeddings(path: str) -> pa.ChunkedArray:
    """Return the embeddings of a shard as float32 lists of a fixed size: DuckDB does not read float16.

    Raises:
        ValueError: it is no such shard, or a page is damaged.
    """
    column = _read(path, ["embedding"]).column("embedding")
    return column.cast(pa.list_(pa.float32(), column.type.list_size))


EVERYTHING = {
    "id": pa.int64(),
    "path": pa.string(),
    "size": pa.int64(),
    "width": pa.int32(),
    "height": pa.int32(),
    "format": pa.string(),
    "taken": pa.timestamp("us"),
    "camera": pa.string(),
    "lens": pa.string(),
    "latitude": pa.float64(),
    "longitude": pa.float64(),
    "generated": pa.bool_(),
    "indexed_at": pa.timestamp("us", tz="UTC"),
    "sha256": pa.string(),
}
"""What others are told of an image: ``path`` is where it is on this machine, or as it was given."""


def read_everything(path: str, known_roots: Mapping[int, bytes]) -> pa.Table:
    """Return the columns ``EVERYTHING`` of a shard of images.

    Args:
        path: the shard.
        known_roots: root id → where it is now; empty where paths stand as they were given.

    Raises:
        ValueError: it is no such shard, or a page is damaged.
    """
    own = ("root", "path_text", "content_hash")
    table = _read(path, [*own, *(name for name in EVERYTHING if name not in ("path", "sha256"))])
    roots = table.column("root").to_pylist()
    heads = {id_: display_path(os.path.join(place, b"")) if place else "" for id_, place in known_roots.items()}
    paths = [heads[root] + text for root, text in zip(roots, table.column("path_text").to_pylist(), strict=True)]
    hashes = [digest.hex() if digest != NO_HASH else None for digest in table.column("content_hash").to_pylist()]
    sizes = _compute.if_else(_compute.equal(table.column("size"), 0), pa.nulls(1, pa.int64())[0], table.column("size"))
    made = {"path": pa.array(paths, pa.string()), "sha256": pa.array(hashes, pa.string()), "size": sizes}
    found = {
        name: made[name]
        if name in made
        else table.column(name).cast(type_)
        if name in table.column_names
        else pa.nulls(len(table), type_)
        for name, type_ in EVERYTHING.items()
    }
    found["generated"] = _compute.fill_null(found["generated"], False)
    return pa.table(found)


def read_links(path: str) -> Ints:
    """Return ids and image ids (2, n) of a shard of texts, those without an image left out.

    Raises:
        ValueError: it is no such shard, or a page is damaged.
    """
    table = _read(path, ["id", "image_id"]).drop_null()
    return np.stack([table.column(name).to_numpy() for name in ("id", "image_id")])


def kept(table: pa.Table, keep: Any) -> pa.Table:  # Any: (n,) bool
    """Return the rows of a table for which an array of bool is true."""
    return table if keep.all() else table.filter(pa.array(keep))


def read_pack(path: str) -> pa.Table:
    """Map a pack into memory and return its columns; no row is read here.

    Raises:
        ValueError: it is no pack.
        OSError: it cannot be opened.
    """
    with open(path, "rb") as file:  # opened by Python: its file names may be any bytes, Arrow's are UTF-8
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        return pa.ipc.open_file(pa.BufferReader(pa.py_buffer(content))).read_all()
    except pa.ArrowException as problem:
        raise ValueError(str(problem)) from problem


def write_pack(file: StreamedFile, tables: Sequence[pa.Table]) -> None:
    """Write the rows of tables of one schema, one after the other; at least one table."""
    table = pa.concat_tables(tables).unify_dictionaries()  # a file has one dictionary a column
    sink: Any = pa.PythonFile(_Sink(file), mode="w")  # Any: its stub wants an io.IOBase
    with pa.ipc.new_file(sink, table.schema) as writer:
        for start in range(0, len(table), PACK_ROWS):
            writer.write_table(table.slice(start, PACK_ROWS).combine_chunks())


class _Sink:
    """What Arrow asks of a file that it writes to."""

    closed = False

    def __init__(self, file: StreamedFile) -> None:
        self._file = file

    def write(self, data: Any) -> int:  # Any: bytes or an Arrow buffer
        self._file.write(memoryview(data))
        return len(data)

    def tell(self) -> int:
        return self._file.bytes

    def flush(self) -> None:
        """Leave it to the one who opened the file."""

    def close(self) -> None:
        """Leave it to the one who opened the file."""


def id_range(table: pa.Table) -> tuple[int, int]:
    """Return the smallest and the largest id of a table that has rows."""
    found = _compute.min_max(table.column("id"))
    return found["min"].as_py(), found["max"].as_py()


def joined(tables: Sequence[pa.Table], kind: str) -> pa.Table:
    """Return tables of one schema, of a kind ("images" or "texts"), as one; there may be none."""
    if not tables:
        return pa.table({name: pa.array([], _type(name)) for name in VISIBLE[kind]})
    return pa.concat_tables(tables)


def without(table: pa.Table, deleted: Ints) -> pa.Table:
    """Return the rows of a table whose ids are not among ``deleted`` (n,)."""
    if not len(deleted):
        return table
    ids = pa.Array.from_buffers(pa.int64(), len(deleted), [None, pa.py_buffer(np.ascontiguousarray(deleted, np.int64))])
    return table.filter(_compute.invert(_compute.is_in(table.column("id"), value_set=ids)))


def read_added(path: str, name: str) -> tuple[Ints, Any]:  # Any: an Arrow array
    """Return ids (n,), ascending, and values of a column that was added later.

    Raises:
        ValueError: it is no such file, or a page is damaged.
    """
    table = _read(path, ["id", name])
    if table.column_names != ["id", name]:
        raise ValueError(f"it has no column {name}")
    return numbers(table.column("id")), table.column(name).combine_chunks()


def joined_added(parts: Sequence[tuple[Ints, Any]]) -> tuple[Ints, Any]:  # Any: Arrow arrays
    """Return the parts of an added column (ids, values), at least one, as one, ids ascending."""
    if len(parts) == 1:
        return parts[0]
    ids = np.concatenate([ids for ids, _ in parts])
    values = pa.chunked_array([values for _, values in parts]).combine_chunks()
    order = np.argsort(ids, kind="stable")
    if (np.diff(order) == 1).all():  # later rows have larger ids, but for those that an older part left out
        return ids, values
    return ids[order], values.take(pa.array(order))


def taken(known: Ints, values: Any, ids: Ints) -> Any:  # Any: Arrow arrays
    """Return the values of rows (n,), given those of rows ``known`` (m,), ascending; NULL where a row has none."""
    if not len(known):
        return pa.nulls(len(ids), values.type)
    at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return values.take(pa.array(at, mask=known[at] != ids))


def with_added(table: pa.Table, added: Mapping[str, tuple[Ints, Any]]) -> pa.Table:  # Any: as above
    """Return a table with columns (name → ids, values) put beside its rows; NULL where a row has no value."""
    if not added:
        return table
    ids = numbers(table.column("id"))
    for name, (known, values) in added.items():
        table = table.append_column(name, taken(known, values, ids))
    return table


def numbers(column: pa.ChunkedArray) -> Ints:
    """Return a column of 64-bit numbers without NULL as an array (n,). ``to_numpy`` would import pandas."""
    return np.concatenate([np.empty(0, np.int64), *(np.from_dlpack(chunk) for chunk in column.chunks)], dtype=np.int64)


_TYPES: dict[str, pa.DataType] = {name: pa.int64() for name in ("id", "image_id", "size", "width", "height")}
_TYPES |= {"taken": pa.timestamp("us"), "indexed_at": pa.timestamp("us")}
_TYPES |= {"latitude": pa.float64(), "longitude": pa.float64(), "generated": pa.bool_()}
_REPEATED = pa.dictionary(pa.int32(), pa.string())
_TYPES |= dict.fromkeys(("format", "camera", "lens", "folder"), _REPEATED)


def _type(name: str) -> pa.DataType:
    return _TYPES.get(name, pa.string())


def _read(path: str, columns: Sequence[str]) -> pa.Table:
    import pyarrow.parquet as pq  # 15 ms that a filter over packs has no use for

    try:
        with open(path, "rb") as raw, pq.ParquetFile(raw, page_checksum_verification=True) as file:
            known = set(file.schema_arrow.names)
            return file.read([name for name in dict.fromkeys(columns) if name in known])
    except (pa.ArrowException, OSError) as problem:
        raise ValueError(str(problem)) from problem


def _column(table: pa.Table, name: str) -> Any:  # Any: an Arrow column
    stored = _READ.get(name, (name,))[0]
    if stored not in table.column_names:
        nulls = pa.nulls(len(table), pa.string() if _type(name) == _REPEATED else _type(name))
        return pa.chunked_array([_compute.fill_null(nulls, False) if name == "generated" else nulls])
    column = table.column(stored)
    if name == "generated":  # nothing is kept of a photo; as NULL it would pass neither "generated" nor "NOT generated"
        return _compute.fill_null(column, False)
    if pa.types.is_floating(column.type):
        null = pa.nulls(1, column.type)[0]  # None in its place would make Arrow import pandas
        column = _compute.if_else(_compute.is_nan(column), null, column)
    return column


def _typed(column: Any, name: str) -> Any:  # Any: as above
    target = _type(name)
    if column.type == target:
        return column
    return column.dictionary_encode() if target == _REPEATED else column.cast(target)


def _parts(table: pa.Table) -> dict[str, Any]:  # Any: as above
    """Return the folder and the name in each path; a tar's member is parted at ``::`` too."""
    text = table.column("path_text")
    parts = _compute.extract_regex(text, r"(?s)^(?:(?P<folder>.*)/)?(?P<name>.*)$")
    if table.column("member").null_count < len(table):
        inside = _compute.extract_regex(text, r"(?s)^(?P<folder>.*)(?:/|::)(?P<name>.*)$")
        parts = _compute.if_else(_compute.is_valid(table.column("member")), inside, parts)
    return {name: _compute.struct_field(parts, name) for name in ("folder", "name")}


def table_of(columns: Mapping[str, Any]) -> pa.Table:  # Any: arrays and lists
    """Return columns (name → values) as an Arrow table."""
    return pa.table(dict(columns))


def write_parquet(path: str, schema: pa.Schema, batches: Sequence[pa.RecordBatch]) -> None:
    """Write record batches as a Parquet file: beside it, then renamed.

    Raises:
        OSError: it cannot be written.
        ValueError: a column has a type that Parquet does not know.
    """
    import pyarrow.parquet as pq

    beside = f"{path}.{os.getpid()}.part"
    try:
        with open(beside, "xb") as raw, pq.ParquetWriter(raw, schema, compression="zstd") as writer:
            for batch in batches:
                writer.write_batch(batch)
        os.replace(beside, path)
    except pa.ArrowException as problem:
        raise ValueError(str(problem)) from problem
    finally:
        if os.path.exists(beside):
            os.unlink(beside)
