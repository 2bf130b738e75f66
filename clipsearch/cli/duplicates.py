"""``clipsearch duplicates``: pictures that are there more than once. It only tells; nothing is ever deleted."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from clipsearch.cli import options
from clipsearch.cli.console import Console, is_terminal, terminal_width
from clipsearch.cli.options import F

if TYPE_CHECKING:
    from clipsearch.flows.duplicates import DuplicateGroup

KINDS = {"bytes": "same bytes", "picture": "same picture", "burst": "burst"}


def limits(function: F) -> F:
    """Add what decides which pictures count as alike: --near, --burst-seconds, --look, --thorough, --exact."""
    for option in reversed(
        (
            click.option(
                "--near",
                metavar="COSINE",
                type=click.FloatRange(min=0, max=1, min_open=True),
                help="Likeness of embeddings from which two pictures are looked at.",
                show_default="0.94",
            ),
            click.option(
                "--burst-seconds",
                metavar="S",
                type=click.FloatRange(min=0),
                help="Time between two pictures of a burst, at most.",
                show_default="3",
            ),
            click.option(
                "--look/--no-look", default=True, help="Open files that may be the same picture.", show_default=True
            ),
            click.option(
                "--thorough", is_flag=True, help="Open every file: finds small copies that the model sees otherwise."
            ),
            click.option("--exact", is_flag=True, help="Compare every pair of embeddings, however many there are."),
        )
    ):
        function = option(function)
    return function


@click.command("duplicates", short_help="Find pictures that are there more than once.")
@options.collection
@click.option(
    "--class", "kinds", type=click.Choice(list(KINDS)), multiple=True, help="Show only this class; repeatable."
)
@click.option("--where", metavar="EXPR", help="Look only among pictures for which EXPR is true, as in search.")
@limits
@click.option("-f", "--files", is_flag=True, help="Print paths of the files that are not the ones to keep.")
@click.option("-0", "--null", is_flag=True, help="The same, each with a NUL behind it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON Lines: one object a group, then one for all.")
@options.common
def command(
    console: Console,
    index: str | None,
    indexes_dir: str,
    kinds: Sequence[str],
    where: str | None,
    near: float | None,
    burst_seconds: float | None,
    look: bool,
    thorough: bool,
    exact: bool,
    files: bool,
    null: bool,
    as_json: bool,
) -> int:
    """Find pictures that are there more than once.

    They are told apart as same bytes, same picture and burst. Of each group one file is worth keeping, the one with
    most pixels, then most bytes. Nothing is ever deleted. The model is not loaded.

    \b
    clipsearch duplicates
    clipsearch duplicates --class bytes -0 | xargs -0 ls -l
    clipsearch duplicates --where "taken >= '2024-01-01'" --json
    """  # noqa: D301
    import clipsearch
    from clipsearch.cli.place import find
    from clipsearch.cli.progress import progress_bar

    if as_json and (files or null):
        raise click.UsageError("--json and --files or --null exclude each other.", click.get_current_context())
    with clipsearch.open(find(index, indexes_dir)) as collection, progress_bar(console) as tell:
        report = collection.duplicates(
            where=where,
            limits=limits_of(near, burst_seconds),
            look=look,
            thorough=thorough,
            exact=exact or None,
            progress=tell,
        )
    groups = [group for group in report.groups if not kinds or group.kind in {KINDS[kind] for kind in kinds}]
    if as_json:
        console.json(_json_lines(groups, report))
    elif files or null:
        extra = (os.fsencode(file.path) for group in groups for file in group.files if not file.keep)
        console.results(extra, end=b"\0" if null else b"\n")
    else:
        _table(console, groups)
    from clipsearch.present.duplicates import duplicate_summary
    from clipsearch.present.text import count

    totals = {str(kind): n for kind, n in report.superfluous.items()}
    console.note(duplicate_summary(report.images, totals, report.read, report.seconds))
    if report.unread:
        console.note(
            f"note: {count(report.unread, 'file')} could not be looked at; embeddings and hashes alone count there."
        )
    if report.unhashed:
        some = count(report.unhashed, "picture has", "pictures have")
        console.note(
            f"note: {some} no perceptual hash (indexed by an older version, or imported):\n"
            "their copies at another size are proposed by embeddings alone; --thorough opens all files."
        )
    return 0


def limits_of(near: float | None, burst_seconds: float | None) -> Any:  # Any: Limits, of a module loaded here
    """Return the limits that options ask for."""
    from clipsearch.flows.alike import Limits

    given: dict[str, Any] = {"proposed": near, "burst_seconds": burst_seconds}  # Any: float, or None
    return Limits(**{name: value for name, value in given.items() if value is not None})


def _json_lines(groups: "Sequence[DuplicateGroup]", report: Any) -> list[str]:
    from clipsearch.present.duplicates import duplicate_objects
    from clipsearch.present.json_lines import dump

    whole = {
        "schema": "clipsearch.duplicates_result/1",
        "images": report.images,
        "groups": len(groups),
        "superfluous": {str(kind): n for kind, n in report.superfluous.items()},
        "opened": report.read,
        "not_opened": report.unread,
        "without_hash": report.unhashed,
        "seconds": round(report.seconds, 3),
    }
    return [dump(item) for item in (*duplicate_objects(groups), whole)]


def _table(console: Console, groups: "Sequence[DuplicateGroup]") -> None:
    from clipsearch.present.duplicates import COLUMNS, duplicate_rows
    from clipsearch.present.table import plain, render

    on_terminal = is_terminal(sys.stdout)
    rows = duplicate_rows(groups, os.getcwd(), exact=not on_terminal)
    if not on_terminal:
        console.results(plain(COLUMNS, rows))
    elif rows:
        console.results(render(COLUMNS, rows, terminal_width(sys.stdout), console.colour(sys.stdout)))
