"""``clipsearch sql``: one SELECT over a collection's metadata."""

import csv
import io
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from clipsearch.cli import options
from clipsearch.cli.console import Console, is_terminal, terminal_width

if TYPE_CHECKING:
    from clipsearch.flows.tables import SqlResult


@click.command("sql", short_help="Run one SELECT over a collection's metadata.")
@click.argument("statement", metavar="SELECT")
@options.collection
@click.option("--csv", "form", flag_value="csv", help="Print CSV with a heading.")
@click.option("--json", "form", flag_value="json", help="Print JSON Lines: one object a row.")
@click.option("--parquet", metavar="OUT.parquet", shell_complete=options.complete_files, help="Write a Parquet file.")
@click.option("--force", is_flag=True, help="Write OUT.parquet over a file that is there.")
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="Stop the statement after so long.",
)
@options.encoder
@options.common
def command(
    console: Console,
    statement: str,
    index: str | None,
    indexes_dir: str,
    form: str | None,
    parquet: str | None,
    force: bool,
    timeout: float,
    how: dict[str, str],
) -> int:
    """Run one SELECT over a collection's metadata.

    The tables are images and captions (their columns: clipsearch columns), and search('words', k) with the columns
    id, rank and score. Nothing is ever changed, and no file is read.

    \b
    clipsearch sql "SELECT camera, count(*) AS n FROM images GROUP BY camera ORDER BY n DESC"
    clipsearch sql "SELECT rank, path, taken FROM search('a dog', 20) JOIN images USING (id) ORDER BY taken"
    clipsearch sql "SELECT * FROM images WHERE width > 4000" --csv > large.csv
    """  # noqa: D301
    import clipsearch
    from clipsearch.cli.place import find
    from clipsearch.present.text import count

    if parquet is not None:
        _check_out(parquet, form, force)
    with clipsearch.open(find(index, indexes_dir), **how) as collection:
        result = collection.sql(statement, seconds=timeout)
    console.detail(count(len(result), "row"))
    if parquet is not None:
        _save(console, result, parquet)
    elif form == "json":
        console.json(_json_lines(result))
    elif form == "csv":
        console.results(line.encode("utf-8", "backslashreplace") for line in _csv_lines(result))
    else:
        console.results(_lines(console, result))
    return 0


def _check_out(path: str, form: str | None, force: bool) -> None:
    from clipsearch.errors import InputError

    if form is not None:
        raise click.UsageError(f"--parquet and --{form} exclude each other.", click.get_current_context())
    if os.path.exists(path) and not force:
        raise InputError(f"{path} is there already.\nGive another name, or --force to replace it.")


def _save(console: Console, result: "SqlResult", path: str) -> None:
    from clipsearch.errors import InputError
    from clipsearch.flows.tables import save_parquet
    from clipsearch.present.text import count

    try:
        save_parquet(result, path)
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise InputError(f"{path} cannot be written: {reason}.\nGive another name, or --csv.") from problem
    console.note(f"{count(len(result), 'row')}: {path}")


def _json_lines(result: "SqlResult") -> Iterator[str]:
    from clipsearch.present.json_lines import dump
    from clipsearch.present.values import named, plain_value

    names = named(result.columns)
    for row in result:
        yield dump(dict(zip(names, map(plain_value, row), strict=True)))


def _csv_lines(result: "SqlResult") -> Iterator[str]:
    from clipsearch.present.values import exact

    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="")
    for row in (result.columns, *result):
        buffer.seek(0)
        buffer.truncate()
        writer.writerow([exact(value) for value in row])
        yield buffer.getvalue()


def _lines(console: Console, result: "SqlResult") -> Iterator[str]:
    if is_terminal(sys.stdout):
        from clipsearch.present.values import any_table

        return any_table(result.columns, list(result), terminal_width(sys.stdout), console.colour(sys.stdout))
    from clipsearch.present.table import Column, plain
    from clipsearch.present.values import exact

    return plain([Column(name) for name in result.columns], [[exact(value) for value in row] for row in result])
