"""What there is to filter by: each column's type, how many rows have a value, and one such value."""

from dataclasses import dataclass
from typing import Any

from clipsearch.filter.connection import locked_down, seal

_TYPES = {"BIGINT": "integer", "DOUBLE": "number", "VARCHAR": "text", "TIMESTAMP": "time", "BOOLEAN": "boolean"}


@dataclass(frozen=True, slots=True)
class ColumnInfo:
    """A column of the metadata.

    Attributes:
        name: as a filter names it.
        type: "integer", "number", "text", "time" or "boolean".
        rows: rows that have a value; ``total``: rows there are.
        example: a value, or None where no row has one.
    """

    name: str
    type: str
    rows: int
    total: int
    example: Any  # Any: int, float, str or datetime


def describe(table: Any) -> list[ColumnInfo]:  # Any: an Arrow table, which this room does not import
    """Return what is known of each column of a table, in its order."""
    names = [f'"{name}"' for name in table.column_names]
    kinds = [str(field.type) for field in table.schema]
    parts = [f"count({name}), {_example(name, kind)}" for name, kind in zip(names, kinds, strict=True)]
    with locked_down() as connection:
        seal(connection, {"images": table})
        answer = connection.execute(f"SELECT count(*), {', '.join(parts)} FROM images")
        types = [str(column[1]) for column in answer.description[2::2]]
        total, *values = answer.fetchall()[0]
    return [
        ColumnInfo(name, _TYPES.get(type_, type_.lower()), rows, total, example)
        for name, type_, rows, example in zip(table.column_names, types, values[::2], values[1::2], strict=True)
    ]


def _example(name: str, kind: str) -> str:
    """Return the SQL for an example of a column; of lists, such as tags, one with something in it."""
    if not kind.startswith(("list", "large_list")):
        return f"any_value({name})"
    return f"coalesce(any_value({name}) FILTER (len({name}) > 0), any_value({name}))"
