"""One table of all that is known: shared by the layouts that are tables."""

from collections.abc import Mapping

import pyarrow as pa

from clipsearch.store.layouts import Block, contiguous
from clipsearch.store.metadata import EVERYTHING


def schema(dim: int | None, added: Mapping[str, pa.DataType]) -> pa.Schema:
    """Return the columns of an exported table: all that is known, those that were added, and the embedding (or not)."""
    columns = []
    for name, type_ in EVERYTHING.items():
        columns.append(pa.field(name, type_, name not in ("id", "path")))
        if name == "path":
            columns.append(pa.field("captions", pa.list_(pa.string()), False))
    columns += [pa.field(name, type_) for name, type_ in added.items()]
    if dim is not None:
        columns.append(pa.field("embedding", pa.list_(pa.field("element", pa.float16(), False), dim), False))
    return pa.schema(columns)


def table(block: Block, target: pa.Schema) -> pa.Table:
    """Return a block as a table of that schema."""
    arrays = []
    for field in target:
        if field.name == "captions":
            arrays.append(pa.array([list(captions) for captions in block.captions], field.type))
        elif field.name == "embedding":
            numbers = pa.array(contiguous(block.embeddings).reshape(-1))
            arrays.append(pa.FixedSizeListArray.from_arrays(numbers, type=field.type))
        else:
            arrays.append(block.table.column(field.name).combine_chunks())
    return pa.Table.from_arrays(arrays, schema=target)
