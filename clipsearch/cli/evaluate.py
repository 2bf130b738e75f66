"""``clipsearch evaluate``: how well a model answers on somebody's own pictures.

``evaluate match`` measures verdicts; without the name of a measurement, ``evaluate captions.csv`` measures retrieval.
"""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from clipsearch.cli import options
from clipsearch.cli.console import Console, is_terminal, terminal_width
from clipsearch.cli.evaluate_duplicates import command as evaluate_duplicates
from clipsearch.cli.evaluate_match import command as evaluate_match
from clipsearch.cli.evaluate_words import COMMANDS as WORDS

if TYPE_CHECKING:
    from clipsearch import DirectionReport, EvaluationReport

_NAMES = {"text_to_image": "text to image", "image_to_text": "image to text"}


class _Evaluate(click.Group):
    """A group that takes what is no name of a measurement as the file of the usual one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args.insert(0, "retrieval")
        return super().parse_args(ctx, args)


@click.group(
    "evaluate",
    cls=_Evaluate,
    short_help="Measure searches, words and duplicates on your own pictures.",
    invoke_without_command=True,
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Measure searches, words and duplicates on your own pictures.

    \b
    clipsearch evaluate captions.csv        Recall@1/5/10 both ways
    clipsearch evaluate match               how often verdicts are wrong
    clipsearch evaluate labels FOLDER       zero-shot top-1 and top-5
    clipsearch evaluate tags labels.csv     precision and recall of the tags
    clipsearch evaluate describe caps.csv   BLEU, ROUGE-L, CIDEr-D
    clipsearch evaluate answers ask.csv     answers that are right
    clipsearch evaluate duplicates t.csv    copies found, of those in a file
    clipsearch evaluate duplicates --plant 100   or of those it plants
    """  # noqa: D301
    if ctx.invoked_subcommand is None:
        raise click.UsageError("Say what to measure with: a file of captions, or the name of a measurement.", ctx)


command.add_command(evaluate_match)
for _measurement in (*WORDS, evaluate_duplicates):
    command.add_command(_measurement)


@command.command("retrieval", short_help="Measure retrieval on pictures and captions (the usual one).")
@click.argument("captions", metavar="CAPTIONS.csv", shell_complete=options.complete_files)
@options.collection
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@options.encoder
@options.common
def retrieval(
    console: Console, captions: str, index: str | None, indexes_dir: str, as_json: bool, how: dict[str, str]
) -> int:
    """Measure retrieval on pictures and captions.

    CAPTIONS.csv has the columns image and caption. Each caption is asked of all pictures of the collection, and each
    picture of all captions of the file. R@k is the share of queries whose right answer is among the first k.

    \b
    clipsearch evaluate captions.csv
    clipsearch evaluate captions.csv -i photos --json
    """  # noqa: D301
    import clipsearch
    from clipsearch.cli.place import find

    with clipsearch.open(find(index, indexes_dir), **how) as collection:
        report = collection.evaluate(captions)
        name = collection.name
    for note in report.notes:
        console.note(f"note: {note}")
    if report.missing:
        console.note(_missing(report))
    if as_json:
        from clipsearch.present.json_lines import dump

        console.json([dump({"schema": "clipsearch.evaluation/1", "collection": name, **asdict(report)})])
        return 0
    from clipsearch.present.text import count

    held = f"{count(report.images, 'picture')}, {count(report.captions, 'caption')}"
    console.note(f"{name}: {held}, model {report.model}")
    console.results(_table(console, report))
    return 0


def _missing(report: "EvaluationReport") -> str:
    from clipsearch.present.text import count, printable

    names = ", ".join(map(printable, report.missing_names))
    more = " ..." if report.missing > len(report.missing_names) else ""
    return f"note: {count(report.missing, 'caption')} left out: the collection has no picture {names}{more}"


def _table(console: Console, report: "EvaluationReport") -> list[str]:
    from clipsearch.present.table import Column, plain, render

    ks = list(report.text_to_image.recall)
    titles = [*(f"R@{k}" for k in ks), "median rank", "MRR", "queries"]
    columns = (Column("direction"), *(Column(title, right=True) for title in titles))
    rows = [_row(name, getattr(report, field), ks) for field, name in _NAMES.items()]
    if not is_terminal(sys.stdout):
        return list(plain(columns, rows))
    return list(render(columns, rows, terminal_width(sys.stdout), console.colour(sys.stdout)))


def _row(name: str, direction: "DirectionReport", ks: list[int]) -> list[str]:
    recall = [f"{direction.recall[k]:.1%}" for k in ks]
    return [name, *recall, f"{direction.median_rank:g}", f"{direction.mrr:.3f}", f"{direction.queries:,}"]
