"""``clipsearch describe``: what a picture shows, in words, and which of three ways made each sentence."""

import sys
from typing import TYPE_CHECKING, Any

import click

from clipsearch.cli import options
from clipsearch.cli.console import Console, is_terminal, terminal_width

if TYPE_CHECKING:
    from clipsearch import Description, Descriptions

FAILED = 2


@click.command("describe", short_help="Say in words what a picture shows.")
@click.argument("pictures", metavar="PICTURE...", nargs=-1, required=True, shell_complete=options.complete_files)
@options.collection
@click.option(
    "-k", "--count", "k", metavar="N", type=click.IntRange(min=1), default=3, show_default=True, help="Captions wanted."
)
@click.option(
    "--bank",
    metavar="FILE",
    shell_complete=options.complete_files,
    help="Describe with the texts of FILE (text, CSV, JSON Lines, Parquet) in place of the collection's.",
)
@click.option("--compose", is_flag=True, help="Make a sentence of tags even where a caption matches.")
@click.option("--where", metavar="EXPR", help="Only captions of pictures for which EXPR is true.")
@click.option(
    "--model",
    metavar="NAME|FOLDER",
    help="Let a vision-language model write a sentence too: smolvlm-256m, ORG/NAME, or a checkpoint's folder.",
)
@click.option("--pull", is_flag=True, help="Fetch that model first; without it nothing is downloaded.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON Lines: one object a picture.")
@options.encoder
@options.common
def command(
    console: Console,
    pictures: tuple[str, ...],
    index: str | None,
    indexes_dir: str,
    pull: bool,
    as_json: bool,
    how: dict[str, str],
    **settings: Any,  # Any: options that go to Collection.describe
) -> int:
    """Say in words what a picture shows.

    Each sentence says where it comes from: caption (a text of the collection or of a bank, as it is, with score and
    verdict), tags (a sentence made of tags, where no caption matches), model (written by a vision-language model).

    \b
    clipsearch describe photo.jpg
    clipsearch describe *.jpg --bank captions.txt -k 1 --json
    clipsearch describe photo.jpg --model smolvlm-256m --pull
    """  # noqa: D301
    import clipsearch
    from clipsearch.cli.place import find
    from clipsearch.errors import QueryImageError

    ctx = click.get_current_context()
    if pull and not settings["model"]:
        raise click.UsageError("--pull goes with --model: it says which model to fetch.", ctx)
    if settings["bank"] is not None and settings["where"] is not None:
        raise click.UsageError("--where chooses among the collection's captions, so it does not go with --bank.", ctx)
    path, failed = find(index, indexes_dir), False
    if pull:
        from clipsearch.flows.writer import pull_writer

        pull_writer(settings["model"], console.note)
    said: set[str] = set()
    with clipsearch.open(path, **how) as collection:
        for picture in pictures:
            try:
                found = collection.describe(picture, **settings)
            except QueryImageError as problem:  # one bad picture does not cost the others
                console.complain(str(problem))
                failed = True
                continue
            if as_json:
                console.json([_json(found)])
                continue
            for note in found.notes:
                of_bank = settings["bank"] is not None and note.startswith(settings["bank"])
                if not (of_bank and note in said):  # once for all pictures
                    console.note(f"note: {note}" if of_bank else f"note: {picture}: {note}")
                said.add(note)
            console.results(_lines(console, found, len(pictures) > 1))
    return FAILED if failed else 0


def _lines(console: Console, found: "Descriptions", named: bool) -> list[str]:
    from clipsearch.present.text import printable

    head = [printable(found.picture)] if named else []
    if not is_terminal(sys.stdout):
        return head + ["\t".join([*_source(one), printable(one.text)]) for one in found.sentences]
    from clipsearch.present.table import Column, render, wrapped

    columns = (Column(""), Column("", right=True, style="36"), Column(""), Column("", fit=wrapped, least=24))
    rows = [[one.source, *_source(one)[1:], *[""] * (3 - len(_source(one))), one.text] for one in found.sentences]
    table = render(columns, rows, terminal_width(sys.stdout), console.colour(sys.stdout))
    return head + list(table)[1:]  # the line of empty headings is for tables


def _source(one: "Description") -> list[str]:
    """Return where a sentence comes from, and how sure it is."""
    if one.score is None:
        return [one.source]
    return [one.source, f"{one.score:.3f}", str(one.verdict) if one.source == "caption" else "-"]


def _json(found: "Descriptions") -> str:
    from dataclasses import asdict

    from clipsearch.present.json_lines import dump

    return dump({"schema": "clipsearch.description/1", **asdict(found)})
