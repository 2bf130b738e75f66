"""Values of any column, as a cell of a table and as JSON; and tables of unknown width."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from clipsearch.present.table import GAP, Column, ended, render
from clipsearch.present.text import cell_width, cut, pad, printable

LEAST = 6  # cells below which a column tells nothing
_SHOWN = 4  # items of a list that a cell shows


def cell(value: Any) -> str:  # Any: whatever a column holds
    """Return a value as a cell: nothing for NULL, times without what is zero, the start of a long list."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        text = value.isoformat(" ")
        return text[:10] if text.endswith(" 00:00:00") else text
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        more = ", ..." if len(value) > _SHOWN else ""
        return f"[{', '.join(cell(item) for item in value[:_SHOWN])}{more}]"
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def exact(value: Any) -> str:  # Any: as above
    """Return a value with nothing left out, for CSV and for pipes."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return f"[{', '.join(exact(item) for item in value)}]"
    return value.hex() if isinstance(value, bytes) else str(value)


def plain_value(value: Any) -> Any:  # Any: as above; and what JSON holds
    """Return a value as JSON can hold it."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, Mapping):
        return {str(key): plain_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, date | time):  # a datetime is a date
        return value.isoformat()
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def named(columns: Sequence[str]) -> list[str]:
    """Return the names with a number behind those that were there before, so that each is a key."""
    names: list[str] = []
    for column in columns:
        name, n = column, 1
        while name in names:
            n += 1
            name = f"{column}_{n}"
        names.append(name)
    return names


def any_table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], width: int = 80, colour: bool = False
) -> Iterator[str]:
    """Yield rows of any columns as lines of at most ``width`` cells; one under the other where they are too many."""
    cells = [[cell(value) for value in row] for row in rows]
    numbers = [
        any(isinstance(row[n], int | float | Decimal) for row in rows)
        and not any(isinstance(row[n], str | bool) for row in rows)
        for n in range(len(columns))
    ]
    least = [
        max([cell_width(printable(name)) if number else 0, *(cell_width(row[n]) for row in cells)]) if number else LEAST
        for n, (name, number) in enumerate(zip(columns, numbers, strict=True))
    ]
    if sum(least) + len(GAP) * (len(columns) - 1) > width:
        yield from _records(columns, cells, width)
        return
    room = max(LEAST, width // max(len(columns), 1))  # for a heading, which does not give way as a value does
    shaped = [
        Column(printable(name), right=True) if number else Column(cut(printable(name), room), fit=ended, least=LEAST)
        for name, number in zip(columns, numbers, strict=True)
    ]
    yield from render(shaped, cells, width, colour)


def _records(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    titles = [cut(printable(name), width // 2) for name in columns]
    wide = max(map(cell_width, titles))
    for number, row in enumerate(rows, start=1):
        yield cut(f"row {number}", width)
        for title, value in zip(titles, row, strict=True):
            yield cut(f"{pad(title, wide)}{GAP}{printable(value)}".rstrip(), width)
