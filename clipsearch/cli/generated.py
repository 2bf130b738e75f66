"""``clipsearch generated``: the pictures that were drawn, and what they were drawn of."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from clipsearch.cli import options
from clipsearch.cli.console import Console, is_terminal, terminal_width

if TYPE_CHECKING:
    from clipsearch.generate.cache import GeneratedFolder

Row = dict[str, Any]  # Any: JSON values


@click.group("generated", short_help="List, show or remove generated pictures.", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List, show or remove generated pictures.

    \b
    clipsearch generated list
    clipsearch generated show 3f2a9c
    clipsearch generated rm 3f2a9c
    """  # noqa: D301
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@command.command("list", short_help="List the generated pictures, oldest first.")
@options.collection
@click.option("--json", "as_json", is_flag=True, help="Print JSON Lines: one ledger row a picture.")
@options.common
def list_generated(console: Console, index: str | None, indexes_dir: str, as_json: bool) -> int:
    """List the generated pictures, oldest first."""
    folder = _folder(index, indexes_dir)
    found = _there(folder)
    if as_json:
        from clipsearch.present.json_lines import dump

        console.json(dump({**row, "path": folder.place(row)}) for row, _ in found)
        return 0
    from clipsearch.present.generated import LIST_COLUMNS, list_rows
    from clipsearch.present.table import Column, ended, plain, render

    columns = [Column(name, fit=ended if name == "prompt" else None) for name in LIST_COLUMNS]
    rows = list_rows(found)
    if not is_terminal(sys.stdout):
        console.results(plain(columns, rows))
    elif rows:
        console.results(render(columns, rows, terminal_width(sys.stdout), console.colour(sys.stdout)))
    else:
        console.note("nothing was generated here yet.")
    return 0


@command.command("show", short_help="Print all that the ledger knows of one.")
@click.argument("name")
@options.collection
@options.common
def show_generated(console: Console, name: str, index: str | None, indexes_dir: str) -> int:
    """Print all that the ledger knows of one, as JSON; NAME as list shows it, or its beginning."""
    from clipsearch.present.json_lines import dump

    folder = _folder(index, indexes_dir)
    row = _find(folder, name)
    console.json([dump({**row, "path": folder.place(row)})])
    return 0


@command.command("rm", short_help="Remove generated pictures; the ledger keeps what they were.")
@click.argument("names", metavar="NAME", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Remove all of them.")
@options.collection
@options.common
def remove_generated(
    console: Console, names: Sequence[str], everything: bool, index: str | None, indexes_dir: str
) -> int:
    """Remove generated pictures; the ledger keeps what they were, so that copies are recognised."""
    from clipsearch.errors import StorageError

    if bool(names) == everything:
        raise click.UsageError("Give the names of pictures, or --all.", click.get_current_context())
    folder = _folder(index, indexes_dir)
    rows = [row for row, _ in _there(folder)] if everything else [_find(folder, name) for name in names]
    for row in rows:
        try:
            folder.remove(row)
        except OSError as problem:
            raise StorageError(f"{folder.place(row)} could not be removed: {problem.strerror}.") from None
    from clipsearch.present.text import count

    console.note(f"removed {count(len(rows), 'generated picture')}")
    return 0


def _folder(index: str | None, home: str) -> "GeneratedFolder":
    import clipsearch
    from clipsearch.cli.place import find
    from clipsearch.generate.cache import GeneratedFolder

    with clipsearch.open(find(index, home)) as collection:  # says what is wrong where it is none
        return GeneratedFolder(collection.path)


def _there(folder: "GeneratedFolder") -> list[tuple[Row, int]]:
    """Return the rows whose file is there, with its size in bytes."""
    found = []
    for row in folder.ledger.made().values():
        if row.get("file") and os.path.isfile(folder.place(row)):
            found.append((row, os.path.getsize(folder.place(row))))
    return found


def _find(folder: "GeneratedFolder", name: str) -> Row:
    """Return the row of the picture whose name begins so."""
    from clipsearch.errors import InputError

    wanted = os.path.basename(name)
    rows = [row for row, _ in _there(folder) if wanted and str(row["file"]).startswith(wanted)]
    if len(rows) == 1:
        return rows[0]
    if rows:
        raise InputError(f"{len(rows)} generated pictures begin with {name!r}. Give more of the name.")
    raise InputError(f"There is no generated picture {name!r}. To see what there is: clipsearch generated list")
