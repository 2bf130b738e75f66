"""``clipsearch evaluate labels``, ``tags``, ``describe`` and ``answers``: the way from pictures to words, measured."""

import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from clipsearch.cli import options
from clipsearch.cli.console import Console, is_terminal, terminal_width
from clipsearch.cli.tag import share

if TYPE_CHECKING:
    from clipsearch import Collection


def _measure(
    console: Console,
    place: tuple[str | None, str],
    how: dict[str, str],
    schema: str,
    as_json: bool,
    call: "Callable[[Collection], Any]",  # Any: a report, each of its own class
    say: Callable[[str, Any], list[str]],
) -> int:
    """Open the collection, measure, and write the report."""
    import clipsearch
    from clipsearch.cli.place import find

    with clipsearch.open(find(*place), **how) as collection:
        report = call(collection)
        name = collection.name
    for note in getattr(report, "notes", ()):
        console.note(f"note: {note}")
    if as_json:
        from clipsearch.present.json_lines import dump

        console.json([dump({"schema": schema, "collection": name, **asdict(report)})])
        return 0
    console.results(say(name, report))
    return 0


def _table(titles: tuple[str, ...], rows: list[list[str]]) -> list[str]:
    from clipsearch.present.table import Column, plain, render

    columns = [Column(titles[0]), *(Column(title, right=True) for title in titles[1:])]
    if not is_terminal(sys.stdout):
        return list(plain(columns, rows))
    return list(render(columns, rows, terminal_width(sys.stdout), False))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


@click.command("labels", short_help="Measure zero-shot labels on labelled pictures.")
@click.argument("truth", metavar="TRUTH", shell_complete=options.complete_files)
@click.option("--labels", metavar="FILE", help="Labels to choose from. [default: those of TRUTH]")
@options.collection
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@options.encoder
@options.common
def labels(
    console: Console,
    truth: str,
    labels: str | None,
    index: str | None,
    indexes_dir: str,
    as_json: bool,
    how: dict[str, str],
) -> int:
    """Measure zero-shot labels: is the true label the nearest, or among the nearest five?

    TRUTH is a CSV with the columns image and label, or a folder whose subfolders are the labels.
    """
    from clipsearch.present.text import count

    def say(name: str, report: Any) -> list[str]:
        console.note(
            f"{name}: {count(report.pictures, 'picture')}, {count(report.labels, 'label')}; "
            f"top-1 {share(report.top1)}, top-5 {share(report.top5)} %"
        )
        return _table(("label", "pictures", "top-1 %"), [[n, f"{s.n:,}", share(s)] for n, s in report.by_label])

    return _measure(
        console,
        (index, indexes_dir),
        how,
        "clipsearch.labels_evaluation/1",
        as_json,
        lambda collection: collection.evaluate_labels(truth, labels),
        say,
    )


@click.command("tags", short_help="Measure stored tags against true labels.")
@click.argument("truth", metavar="TRUTH", shell_complete=options.complete_files)
@click.option("--column", metavar="NAME", default="tags", show_default=True, help="The column of tags.")
@options.collection
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@options.common
def tags(console: Console, truth: str, column: str, index: str | None, indexes_dir: str, as_json: bool) -> int:
    """Measure precision and recall of the tags that a collection holds.

    TRUTH is a CSV with the columns image and label, or a folder whose subfolders are the labels; give pictures that the
    tags were not calibrated on.
    """
    from clipsearch.present.text import count

    def say(name: str, report: Any) -> list[str]:
        stated = "" if report.level is None else f"stated {report.level:.0%} ({report.source}), "
        console.note(
            f"{name}: {count(report.pictures, 'picture')}, {stated}precision {share(report.scores.precision) or '-'}, "
            f"recall {share(report.scores.recall) or '-'} %"
        )
        rows = [
            [n, f"{s.there:,}", f"{s.given:,}", share(s.precision), share(s.recall)]
            for n, s in report.by_label
            if s.there or s.given
        ]
        return _table(("label", "true", "given", "precision %", "recall %"), rows)

    return _measure(
        console,
        (index, indexes_dir),
        {},
        "clipsearch.tags_evaluation/1",
        as_json,
        lambda collection: collection.evaluate_tags(truth, column),
        say,
    )


@click.command("describe", short_help="Measure retrieved captions against references.")
@click.argument("captions", metavar="CAPTIONS", shell_complete=options.complete_files)
@click.option("--bank", metavar="FILE", help="Choose among the texts of FILE in place of the collection's.")
@options.collection
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@options.encoder
@options.common
def describe(
    console: Console,
    captions: str,
    bank: str | None,
    index: str | None,
    indexes_dir: str,
    as_json: bool,
    how: dict[str, str],
) -> int:
    """Measure the caption that each picture gets, with BLEU, ROUGE-L and CIDEr-D.

    CAPTIONS are references: image and caption in each row. Of the collection's texts a picture is never given its own.
    """
    from clipsearch.present.text import count

    def say(name: str, report: Any) -> list[str]:
        texts = count(report.candidates, "caption")
        console.note(f"{name}: {count(report.pictures, 'picture')}, {texts} to choose from")
        if report.missing:
            some = count(report.missing, "picture of the references is", "pictures of the references are")
            console.note(f"note: {some} not in the collection")
        found = report.scores
        if found.bleu is None:
            console.note("note: BLEU is computed by sacrebleu: pip install 'clipsearch[evaluate]'")
        rows = [[f"BLEU-{n}", f"{100 * value:.1f}"] for n, value in enumerate(found.bleu or (), start=1)]
        rows += [["ROUGE-L", f"{100 * found.rouge_l:.1f}"], ["CIDEr-D", f"{found.cider_d:.3f}"]]
        return _table(("measure", "score"), rows)

    return _measure(
        console,
        (index, indexes_dir),
        how,
        "clipsearch.description_evaluation/1",
        as_json,
        lambda collection: collection.evaluate_descriptions(captions, bank),
        say,
    )


@click.command("answers", short_help="Measure answers to questions with known answers.")
@click.argument("questions", metavar="QUESTIONS.csv", shell_complete=options.complete_files)
@options.collection
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@options.encoder
@options.common
def answers(
    console: Console, questions: str, index: str | None, indexes_dir: str, as_json: bool, how: dict[str, str]
) -> int:
    """Measure how many questions are answered rightly, beside guessing, and how many get no answer.

    QUESTIONS.csv has the columns image, question, choices (with | between; none for yes or no) and answer, which may be
    "none of these".
    """
    from clipsearch.present.text import count

    def say(name: str, report: Any) -> list[str]:
        if report.impossible:
            answers = count(report.impossible, "true answer is", "true answers are")
            console.note(f"note: {answers} no choice of the question, nor 'none of these'; nothing can be right there")
        if report.missing:
            console.note(
                f"note: left out, because the collection lacks the picture: {count(report.missing, 'question')}"
            )
        console.note(f"{name}: {count(report.questions, 'question')}")
        rows = [
            ["questions", f"{report.questions:,}"],
            ["right %", share(report.right)],
            ["right of those answered %", share(report.right_of_answered)],
            ["right choice ranks first %", share(report.first)],
            ["  by chance %", _percent(report.chance)],
            ["  by the commonest answer %", _percent(report.commonest)],
            ["none of these", f"{report.unanswered:,}"],
            ["  where the right one was there %", share(report.withheld_there)],
            ["  where it was not %", share(report.withheld_absent)],
        ]
        return _table(("measure", "value"), rows)

    return _measure(
        console,
        (index, indexes_dir),
        how,
        "clipsearch.answers_evaluation/1",
        as_json,
        lambda collection: collection.evaluate_answers(questions),
        say,
    )


COMMANDS = (labels, tags, describe, answers)
