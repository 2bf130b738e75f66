"""``clipsearch ask``: a question about a picture, or about all pictures of a collection."""

import os
import sys
from typing import TYPE_CHECKING

import click

from clipsearch.cli import options
from clipsearch.cli.console import Console, is_terminal, terminal_width

if TYPE_CHECKING:
    from clipsearch import Answer, Collection

NONE_OF_THESE = 1


@click.command("ask", short_help="Answer a question about a picture, or about all.")
@click.argument("words", metavar="[PICTURE] QUESTION", nargs=-1, required=True, shell_complete=options.complete_files)
@options.collection
@click.option(
    "--choices", metavar="A,B,...", help="The answers to choose from, with commas between; not needed for yes or no."
)
@click.option("--all", "of_all", is_flag=True, help="Ask about every picture of the collection: gives a column.")
@click.option("--column", metavar="NAME", help="With --all: the column's name. [default: ask_ and its words]")
@click.option(
    "--model",
    metavar="NAME|FOLDER",
    help="Let a vision-language model answer an open question: smolvlm-256m, ORG/NAME, or a checkpoint's folder.",
)
@click.option("--pull", is_flag=True, help="Fetch that model first; without it nothing is downloaded.")
@click.option("--wait", is_flag=True, help="With --all: wait while another process writes to the collection.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@options.encoder
@options.common
def command(
    console: Console,
    words: tuple[str, ...],
    index: str | None,
    indexes_dir: str,
    choices: str | None,
    of_all: bool,
    column: str | None,
    model: str | None,
    pull: bool,
    wait: bool,
    as_json: bool,
    how: dict[str, str],
) -> int:
    """Answer a question about a picture, or about all.

    The choices become statements, which are compared with the picture and with arbitrary words; where those fit as
    well, the answer is "none of these", and the exit code 1. Open questions go to a model that writes.

    \b
    clipsearch ask photo.jpg "how many dogs are there?" --choices one,two,three
    clipsearch ask photo.jpg "is there a person in it?"
    clipsearch ask --all "is there a person in it?" --column person
    clipsearch search "beach" --where "person = 'yes'"
    """  # noqa: D301
    import clipsearch
    from clipsearch.cli.place import find

    picture, question = _read(words, of_all)
    _check_options(of_all, choices=choices, column=column, model=model, pull=pull)
    given = None if choices is None else [choice.strip() for choice in choices.split(",")]
    if pull and model is not None:
        from clipsearch.flows.writer import pull_writer

        pull_writer(model, console.note)
    with clipsearch.open(find(index, indexes_dir), **how) as collection:
        if picture is None:
            return _ask_all(console, collection, question, given, column, wait=wait, as_json=as_json)
        answer = collection.ask(picture, question, given, model=model)
    if as_json:
        from dataclasses import asdict

        from clipsearch.present.json_lines import dump

        console.json([dump({"schema": "clipsearch.answer/1", **asdict(answer)})])
    else:
        _say(console, answer)
    return 0 if answer.answer is not None else NONE_OF_THESE


def _read(words: tuple[str, ...], of_all: bool) -> tuple[str | None, str]:
    ctx = click.get_current_context()
    if of_all and len(words) == 1:
        return None, words[0]
    if not of_all and len(words) == 2:
        if os.path.isfile(words[1]) and not os.path.exists(words[0]):
            raise click.UsageError('The picture comes first: clipsearch ask PICTURE "QUESTION"', ctx)
        return words[0], words[1]
    form = 'clipsearch ask --all "QUESTION"' if of_all else 'clipsearch ask PICTURE "QUESTION"'
    raise click.UsageError(f"That is {len(words)} arguments. Put the question in quotes: {form}", ctx)


def _check_options(of_all: bool, *, choices: str | None, column: str | None, model: str | None, pull: bool) -> None:
    """Refuse options that would have no effect."""
    ctx = click.get_current_context()
    if column is not None and not of_all:
        raise click.UsageError("--column goes with --all: the answer for one picture is no column.", ctx)
    if model is not None and (of_all or choices is not None):
        what = "--all" if of_all else "--choices"
        raise click.UsageError(f"--model writes an answer of its own, so it does not go with {what}.", ctx)
    if pull and model is None:
        raise click.UsageError("--pull goes with --model: it says which model to fetch.", ctx)


def _say(console: Console, answer: "Answer") -> None:
    from clipsearch.present.text import printable

    for note in answer.notes:
        console.note(f"note: {note}")
    if answer.source == "model":
        console.results([f"{printable(answer.answer or '')}"])
        console.note("written by a model")
        return
    if answer.answer is None:
        console.note(_why_none(answer))
    console.detail(f"p = {answer.p_value:.3g}; asked as: {dict(answer.statements)}")
    marks = ["*" if choice.text == answer.answer else " " for choice in answer.choices]
    rows = [[printable(choice.text), f"{choice.share:.2f}", f"{choice.score:+.2f}"] for choice in answer.choices]
    if not is_terminal(sys.stdout):
        console.results("\t".join([f"{mark} {row[0]}", *row[1:]]) for mark, row in zip(marks, rows, strict=True))
        return
    from clipsearch.present.table import Column, render, wrapped

    numbers = (Column("share", right=True), Column("score", right=True))
    columns = (Column(""), Column("choice", fit=wrapped, least=20), *numbers)
    table = [[mark, *row] for mark, row in zip(marks, rows, strict=True)]
    console.results(render(columns, table, terminal_width(sys.stdout), console.colour(sys.stdout)))


def _why_none(answer: "Answer") -> str:
    from clipsearch.present.text import printable

    if answer.kind == "yes or no":
        return "it cannot be told"
    if answer.missing is not None:
        return f"none of these: nothing like {printable(repr(answer.missing))} seems to be there"
    return "none of these: arbitrary words fit as well"


def _ask_all(
    console: Console,
    collection: "Collection",
    question: str,
    choices: list[str] | None,
    column: str | None,
    *,
    wait: bool,
    as_json: bool,
) -> int:
    from clipsearch.cli.progress import progress_bar

    with progress_bar(console) as show:
        report = collection.ask_all(question, choices, column=column, wait=wait, progress=show)
    if as_json:
        from dataclasses import asdict

        from clipsearch.present.json_lines import dump

        console.json([dump({"schema": "clipsearch.answers/1", "collection": collection.name, **asdict(report)})])
        return 0
    for note in report.notes:
        console.note(f"note: {note}")
    console.results([*(f"{name}\t{n}" for name, n in report.answers.items()), f"(none)\t{report.unanswered}"])
    first = next(iter(report.answers)).replace("'", "''")
    console.note(f"column {report.column}: use it as --where \"{report.column} = '{first}'\"")
    return 0
