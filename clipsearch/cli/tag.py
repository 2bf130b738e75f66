"""``clipsearch tag``: give pictures tags, as a column that filters can use."""

import sys
from typing import TYPE_CHECKING, Any

import click

from clipsearch.cli import options
from clipsearch.cli.console import Console, is_terminal, terminal_width

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from clipsearch import Collection, TagReport
    from clipsearch.evaluation.intervals import Share

SHOWN = 20  # labels that the table shows


@click.command("tag", short_help="Give pictures tags of a list of labels, at a stated level.")
@click.argument("source", required=False, shell_complete=options.complete_files)
@options.collection
@click.option(
    "--labels",
    metavar="FILE",
    shell_complete=options.complete_files,
    help="Labels, one a line; `tag = words, other words` asks for other words. [default: the vocabulary inside]",
)
@click.option(
    "--level",
    metavar="SHARE",
    type=float,
    default=0.8,
    show_default=True,
    help="Share of the tags that is to be right; what it stands for depends on what there is to learn from.",
)
@click.option("--single", is_flag=True, help="At most one tag a picture.")
@click.option(
    "--template",
    metavar="TEXT",
    multiple=True,
    help="How a label is asked for, such as 'a photo of {}'; repeatable, in place of the templates inside.",
)
@click.option(
    "--truth",
    metavar="FILE|FOLDER",
    shell_complete=options.complete_files,
    help="True labels of some pictures: CSV with the columns image and label, or a folder of labelled folders.",
)
@click.option("--column", metavar="NAME", default="tags", show_default=True, help="Name of the column.")
@click.option("--drop", is_flag=True, help="Take the column out instead.")
@click.option("--xmp", is_flag=True, help="Write the tags beside the pictures too, as photo.jpg.xmp.")
@click.option("--wait", is_flag=True, help="Wait while another process writes to the collection.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@options.encoder
@options.common
def command(
    console: Console,
    source: str | None,
    index: str | None,
    indexes_dir: str,
    labels: str | None,
    drop: bool,
    as_json: bool,
    template: tuple[str, ...],
    how: dict[str, str],
    **settings: Any,  # Any: options that go to Collection.tag
) -> int:
    """Give pictures tags of a list of labels, at a stated level.

    SOURCE, a folder or whatever `clipsearch index` takes, is indexed first; without it a collection is tagged as it
    is. The tags become a column: --where "'dog' IN tags". No picture is written to.

    \b
    clipsearch tag ./photos
    clipsearch tag ./photos --labels labels.txt
    clipsearch tag -i photos --labels labels.txt --truth labelled.csv --level 0.9
    clipsearch search "beach" --where "'dog' IN tags"
    """  # noqa: D301
    from clipsearch.cli.progress import progress_bar

    if source is not None and not drop:
        _check(labels, template, settings)
        _check_column(source, index, indexes_dir, settings["column"])
    with _open(console, source, index, indexes_dir, how) as collection:
        if drop:
            collection.drop_column(settings["column"], wait=settings["wait"])
            console.note(f"{collection.name}: the column {settings['column']} is gone")
            return 0
        with progress_bar(console) as show:
            report = collection.tag(labels, templates=template or None, progress=show, **settings)
        name = collection.name
    if as_json:
        from dataclasses import asdict

        from clipsearch.present.json_lines import dump

        console.json([dump({"schema": "clipsearch.tags/1", "collection": name, **asdict(report)})])
        return 0
    for note in report.notes:
        console.note(f"note: {note}")
    console.note(_summary(name, report))
    console.results(_table(console, report))
    for line in _confusion(report):
        console.note(line)
    console.note(explain(report))
    return 0


def _check(labels: str | None, templates: tuple[str, ...], settings: dict[str, Any]) -> None:
    """Refuse what cannot work before pictures are indexed for it."""
    from clipsearch.describe.labels import default_labels, read_labels
    from clipsearch.flows.labelled import read_labelled
    from clipsearch.flows.tag_learn import TagOptions
    from clipsearch.store.writer import check_column_name

    asked = default_labels() if labels is None else read_labels(labels)
    asked.with_templates(templates)
    TagOptions(settings["level"]).check()
    check_column_name(settings["column"])
    if settings["truth"] is not None:
        read_labelled(settings["truth"])


def _check_column(source: str, index: str | None, home: str, column: str) -> None:
    """Refuse a column that another command made, where the collection of a source is there already."""
    from clipsearch.cli.index import place_of_run
    from clipsearch.errors import CollectionNotFoundError
    from clipsearch.flows.given import check_replaces
    from clipsearch.flows.tagger import Tagger
    from clipsearch.store import Store

    try:
        snapshot = Store.open(place_of_run(source, index, home, None, None)).snapshot()
    except CollectionNotFoundError:
        return  # it is made first, and has no columns
    check_replaces(snapshot, column, Tagger.is_file)


def _open(
    console: Console, source: str | None, index: str | None, home: str, how: dict[str, str]
) -> "AbstractContextManager[Collection]":
    import clipsearch
    from clipsearch.cli.place import find

    if source is None:
        return clipsearch.open(find(index, home), **how)
    from clipsearch.cli.index import open_indexed

    return open_indexed(console, source, index, home, how)


def _summary(name: str, report: "TagReport") -> str:
    from clipsearch.present.text import count

    used = sum(label.tagged > 0 for label in report.labels)
    return (
        f"{name}: {count(report.tags, 'tag')} on {report.tagged:,} of {count(report.pictures, 'picture')}, "
        f"{used:,} of {count(len(report.labels), 'label')} used; column {report.column}"
    )


def explain(report: "TagReport") -> str:
    """Return in a few lines what the level stands for, and what was measured."""
    level = f"{report.level:.0%}"
    if report.source == "chance":
        chance = f"{1 - report.level:.0%}"
        if not report.tags:
            return (
                f"level {level}: no label stands out from what chance gives, so there are no tags. Ask for a lower "
                "--level, or let it learn: from captions that mention the labels, or from true labels (--truth)."
            )
        return (
            f"level {level}: at most {chance} of the tags are such as chance alone gives. How many are right "
            "is not known: that takes captions that mention the labels, or true labels of some pictures (--truth)."
        )
    against = "true labels" if report.source == "truth" else "captions that mention the label"
    lines = [
        f"level {level}: chosen so that {level} of the tags agree with {against}, on {report.learnt_on:,} pictures"
    ]
    if report.measured is not None and report.measured.precision is not None:
        measured = f"precision {share(report.measured.precision)}"
        if report.measured.recall is not None:
            measured += f", recall {share(report.measured.recall)}"
        lines.append(f"measured on pictures held back: {measured}; 95% intervals in brackets")
    if report.source == "captions":
        lines.append(
            "captions leave things out, so more of the tags are right than are counted, and recall is of what was said"
        )
    return "\n".join(lines)


def share(found: "Share | None") -> str:
    """Return a share with its interval, in percent."""
    return "" if found is None else f"{100 * found.value:.1f} ({100 * found.low:.0f}-{100 * found.high:.0f})"


def _table(console: Console, report: "TagReport") -> list[str]:
    from clipsearch.present.table import Column, plain, render
    from clipsearch.present.text import printable

    columns = [Column("label"), Column("pictures", right=True)]
    with_truth = report.source == "truth"
    if with_truth:
        columns += [Column(title, right=True) for title in ("precision %", "recall %")]
    whole = not is_terminal(sys.stdout)
    rows = []
    for label in report.labels if whole else [label for label in report.labels if label.tagged or with_truth][:SHOWN]:
        row = [printable(label.name), f"{label.tagged:,}"]
        if with_truth and label.measured is not None:
            row += [share(label.measured.precision), share(label.measured.recall)]
        rows.append(row)
    if whole:
        return list(plain(columns, rows))
    return list(render(columns, rows, terminal_width(sys.stdout), console.colour(sys.stdout)))


def _confusion(report: "TagReport") -> list[str]:
    """Return the matrix of a few labels as lines: a row for each true label, numbered columns."""
    names = report.confusion_names
    if not names:
        return []
    wide = max(map(len, names))
    cells = max(len(str(max(max(row) for row in report.confusion))), 2)
    room = terminal_width(sys.stderr) if is_terminal(sys.stderr) else None
    if len(names) > SHOWN or (room is not None and wide + 3 + len(names) * (cells + 1) > room):
        return [
            f"which of the {len(names)} labels was taken for which: --json has the matrix, which is too wide for here"
        ]
    lines = ["true label, and how often it was taken for which (columns by number), where one must be chosen:"]
    lines.append(" " * (wide + 4) + " ".join(f"{n:>{cells}}" for n in range(1, len(names) + 1)))
    for n, (name, row) in enumerate(zip(names, report.confusion, strict=True), start=1):
        lines.append(f"{n:>2}  {name:<{wide}}" + "".join(f" {count:>{cells}}" for count in row))
    return lines
