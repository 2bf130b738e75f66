"""``clipsearch columns``: what ``--where`` and ``sql`` can name. The model is not loaded for it."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from clipsearch.cli import options
from clipsearch.cli.console import Console, is_terminal, terminal_width

if TYPE_CHECKING:
    from clipsearch.flows.tables import ColumnInfo


@click.command("columns", short_help="List the columns that --where and sql can name.")
@options.collection
@click.option("--json", "as_json", is_flag=True, help="Print JSON Lines: one object a column.")
@options.common
def command(console: Console, index: str | None, indexes_dir: str, as_json: bool) -> int:
    """List the columns that --where and sql can name.

    For each its type, the share of pictures that have a value, and one such value.

    \b
    clipsearch columns
    clipsearch columns -i photos --json
    """  # noqa: D301
    import clipsearch
    from clipsearch.cli.place import find

    with clipsearch.open(find(index, indexes_dir)) as collection:
        found = collection.columns()
    if as_json:
        from clipsearch.present.json_lines import dump

        console.json(dump(_as_object(column)) for column in found)
    else:
        console.results(_table(console, found))
    return 0


def _share(column: "ColumnInfo") -> float:
    return column.rows / column.total if column.total else 0.0


def _as_object(column: "ColumnInfo") -> dict[str, Any]:  # Any: what JSON holds
    from clipsearch.present.values import plain_value

    return {
        "schema": "clipsearch.column/1",
        "name": column.name,
        "type": column.type,
        "filled": round(_share(column), 6),
        "example": plain_value(column.example),
    }


def _table(console: Console, found: "Sequence[ColumnInfo]") -> list[str]:
    from clipsearch.present.table import Column, ended, plain, render
    from clipsearch.present.values import cell

    columns = (Column("column"), Column("type"), Column("filled", right=True), Column("example", fit=ended, style="2"))
    rows = [[column.name, column.type, _percent(column), cell(column.example)] for column in found]
    if not is_terminal(sys.stdout):
        return list(plain(columns, rows))
    return list(render(columns, rows, terminal_width(sys.stdout), console.colour(sys.stdout)))


def _percent(column: "ColumnInfo") -> str:
    """Return the share as a whole number; "<1%" and ">99%" are neither none nor all."""
    share = 100 * _share(column)
    return "<1%" if 0 < share < 1 else ">99%" if 99 < share < 100 else f"{share:.0f}%"
