"""``clipsearch searches``: the saved searches of a collection."""

import sys

import click

from clipsearch.cli import options
from clipsearch.cli.console import Console, is_terminal, terminal_width


@click.group("searches", short_help="List or remove saved searches.", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List or remove saved searches.

    clipsearch search --saved NAME runs one.

    \b
    clipsearch search "sunset" --where "width > 2000" --save evenings
    clipsearch searches list
    clipsearch searches rm evenings
    """  # noqa: D301
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@command.command("list", short_help="List the saved searches.")
@options.collection
@click.option("--json", "as_json", is_flag=True, help="Print JSON Lines: one object a search.")
@options.common
def list_searches(console: Console, index: str | None, indexes_dir: str, as_json: bool) -> int:
    """List the saved searches."""
    from dataclasses import asdict

    from clipsearch.cli.place import find
    from clipsearch.cli.remembered import listed
    from clipsearch.present.json_lines import dump
    from clipsearch.present.table import Column, ended, plain, render

    found = listed(find(index, indexes_dir))
    columns = (Column("name"), Column("search", fit=ended))
    rows = [[saved.name, saved.asked.label] for saved in found]
    if as_json:
        console.json(
            dump({"schema": "clipsearch.search/1", "name": saved.name, **asdict(saved.asked)}) for saved in found
        )
    elif not is_terminal(sys.stdout):
        console.results(plain(columns, rows))
    elif rows:
        console.results(render(columns, rows, terminal_width(sys.stdout), console.colour(sys.stdout)))
    else:
        console.note("no search is saved here yet. Save one: clipsearch search QUERY --save NAME")
    return 0


@command.command("rm", short_help="Forget a saved search.")
@click.argument("name", metavar="NAME")
@options.collection
@options.common
def rm(console: Console, name: str, index: str | None, indexes_dir: str) -> int:
    """Forget a saved search."""
    from clipsearch.cli.place import find
    from clipsearch.cli.remembered import remove

    remove(find(index, indexes_dir), name)
    console.note(f"forgotten: {name}")
    return 0
