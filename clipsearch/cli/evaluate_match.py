"""``clipsearch evaluate match``: how often verdicts are wrong on a collection."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from clipsearch.cli import options
from clipsearch.cli.console import Console, is_terminal, terminal_width

if TYPE_CHECKING:
    from clipsearch import MatchReport, MatchRow


@click.command("match", short_help="Measure how often verdicts are wrong here.")
@options.collection
@click.option(
    "--target",
    type=click.Choice(["image", "text"]),
    default="image",
    show_default=True,
    help="Measure searches for pictures, or for captions.",
)
@click.option(
    "--repetitions",
    metavar="N",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="How often whole concepts are taken out, other ones each time.",
)
@click.option(
    "--seed",
    metavar="N",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Decides which are taken out when.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@options.encoder
@options.common
def command(
    console: Console,
    index: str | None,
    indexes_dir: str,
    target: str,
    repetitions: int,
    seed: int,
    as_json: bool,
    how: dict[str, str],
) -> int:
    """Measure how often verdicts are wrong on this collection.

    Whole concepts are taken out of a copy in memory, and the rest is calibrated and asked: for what was taken out (a
    match is a false accept) and for what is still there (none is a false reject), before and after growth.

    \b
    clipsearch evaluate match
    clipsearch evaluate match -i photos --repetitions 24 --json
    """  # noqa: D301
    import clipsearch
    from clipsearch.cli.place import find
    from clipsearch.cli.progress import progress_bar
    from clipsearch.present.text import count

    with clipsearch.open(find(index, indexes_dir), **how) as collection, progress_bar(console) as show:
        report = collection.evaluate_match(target=target, repetitions=repetitions, seed=seed, progress=show)
        name = collection.name
    if as_json:
        from clipsearch.present.json_lines import dump

        console.json([dump({"schema": "clipsearch.match_evaluation/1", "collection": name, **asdict(report)})])
        return 0
    for note in report.notes:
        console.note(f"note: {note}")
    console.note(
        f"{name}: {count(report.images, 'picture')}, {count(report.captions, 'caption')}, model {report.model}, "
        f"{count(report.repetitions, 'repetition')}"
    )
    console.results(_table(console, report))
    console.note(_legend(report))
    return 0


def _table(console: Console, report: "MatchReport") -> list[str]:
    from clipsearch.present.table import Column, plain, render

    titles = ("pictures", "false accept %", "false reject %", "found", "AUROC", "worst")
    columns = (Column("query"), *(Column(title, right=True) for title in titles))
    rows = [_row(row) for row in report.rows]
    if not is_terminal(sys.stdout):
        return list(plain(columns, rows))
    return list(render(columns, rows, terminal_width(sys.stdout), console.colour(sys.stdout)))


def _row(row: "MatchRow") -> list[str]:
    grown = f"{row.calibrated} > {row.searched}*" if row.refused else str(row.calibrated)
    worst = "" if row.worst is None else f"{row.worst.value:.0%}".rstrip("%")
    accept, reject = (
        f"{100 * s.value:.1f} ({100 * s.low:.1f}-{100 * s.high:.1f})" for s in (row.false_accept, row.false_reject)
    )
    return [row.kind, grown, accept, reject, f"{100 * row.found.value:.1f}", f"{row.auroc.value:.2f}", worst]


def _legend(report: "MatchReport") -> str:
    match, none = report.levels["match"], report.levels["none"]
    lines = [
        f"false accept: absent queries that got match; promised: at most {match:.0%}",
        f"false reject: answerable queries that got none; promised: at most {none:.0%}",
        "found %: answerable queries that got match; worst %: false accepts of the worst concept",
        "in brackets: 95 % intervals",
    ]
    if any(row.refused for row in report.rows):
        lines.append("* calibrated before the collection grew: searches refuse it and answer uncalibrated")
    return "\n".join(lines)
