"""``clipsearch evaluate duplicates``: how many copies are found, of those in a file or of planted ones."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from clipsearch.cli import options
from clipsearch.cli.console import Console, is_terminal, terminal_width
from clipsearch.cli.duplicates import limits, limits_of

if TYPE_CHECKING:
    from clipsearch.evaluation.intervals import Share
    from clipsearch.flows.evaluate_duplicates import DuplicateAccuracy, DuplicateRow


@click.command("duplicates", short_help="Measure which copies are found.")
@click.argument("truth", metavar="[TRUTH.csv]", required=False, shell_complete=options.complete_files)
@options.collection
@click.option(
    "--plant",
    metavar="N",
    type=click.IntRange(min=1),
    help="Copy N pictures of the collection in several ways, and see which copies are found.",
)
@click.option(
    "--seed",
    metavar="N",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Decides which pictures are copied.",
)
@limits
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@options.encoder
@options.common
def command(
    console: Console,
    truth: str | None,
    index: str | None,
    indexes_dir: str,
    plant: int | None,
    seed: int,
    near: float | None,
    burst_seconds: float | None,
    look: bool,
    thorough: bool,
    exact: bool,
    as_json: bool,
    how: dict[str, str],
) -> int:
    """Measure which copies "duplicates" finds.

    TRUTH.csv has the columns image, duplicate_of and, if known, class: same bytes, same picture or burst. Without such
    a file --plant makes copies in a temporary folder and searches among the collection and them; the collection never
    changes.

    \b
    clipsearch evaluate duplicates truth.csv
    clipsearch evaluate duplicates --plant 200 -i photos
    """  # noqa: D301
    import clipsearch
    from clipsearch.cli.place import find
    from clipsearch.cli.progress import progress_bar

    if (truth is None) == (plant is None):
        raise click.UsageError("Give TRUTH.csv or --plant N: one of the two.", click.get_current_context())
    with clipsearch.open(find(index, indexes_dir), **how) as collection, progress_bar(console) as tell:
        report = collection.evaluate_duplicates(
            truth,
            plant=plant,
            seed=seed,
            limits=limits_of(near, burst_seconds),
            look=look,
            thorough=thorough,
            exact=exact or None,
            progress=tell,
        )
        name = collection.name
    for note in report.notes:
        console.note(f"note: {note}")
    if as_json:
        from clipsearch.present.json_lines import dump

        console.json([dump({"schema": "clipsearch.duplicates_evaluation/1", "collection": name, **asdict(report)})])
        return 0
    console.note(_heading(name, report))
    console.results(_table(console, report))
    for line in _summary(report):
        console.note(line)
    return 0


def _heading(name: str, report: "DuplicateAccuracy") -> str:
    if report.source == "planted":
        return f"{name}: {report.images:,} pictures; copies of {report.judged:,} were planted, and are gone again"
    return f"{name}: {report.images:,} pictures, of which the file names {report.judged:,}"


def _table(console: Console, report: "DuplicateAccuracy") -> list[str]:
    from clipsearch.present.table import Column, plain, render

    first = "copy" if report.source == "planted" else "class"
    titles = ("pairs", "found %", "bytes", "picture", "burst", "wrong")
    columns = (Column(first), *(Column(title, right=True) for title in titles))
    rows = [_row(row) for row in (*report.rows, report.total)]
    if not is_terminal(sys.stdout):
        return list(plain(columns, rows))
    return list(render(columns, rows, terminal_width(sys.stdout), console.colour(sys.stdout)))


def _row(row: "DuplicateRow") -> list[str]:
    classes = [f"{n:,}" for n in row.proposed_as.values()]
    return [row.name, f"{row.planted:,}", _share(row.found), *classes, "" if row.wrong is None else f"{row.wrong:,}"]


def _share(found: "Share | None") -> str:
    if found is None:
        return ""
    return f"{100 * found.value:.1f} ({100 * found.low:.1f}-{100 * found.high:.1f})"


def _summary(report: "DuplicateAccuracy") -> list[str]:
    from clipsearch.present.text import count, printable

    found = sum(report.total.proposed_as.values())
    lines = ["bytes, picture, burst: pairs found as that class; in brackets: 95 % intervals"]
    if report.precision is None:
        lines.append("nothing was found")
    else:
        lines.append(f"precision {_share(report.precision)} % of {count(report.precision.n, 'pair')} that were joined")
    if report.total.as_planted is not None and found:
        lines.append(f"in the right class: {report.total.as_planted:,} of {found:,}")
    lines += [f"wrong, for example: {printable(a)} and {printable(b)}" for a, b in report.wrong_examples]
    return lines
