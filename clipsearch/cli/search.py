"""``clipsearch search``: ask a collection."""

import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import click

from clipsearch.cli import filling, options
from clipsearch.cli.again import Again, again_options
from clipsearch.cli.console import Console, is_terminal, terminal_width
from clipsearch.cli.remembered import Remembered, described
from clipsearch.cli.writing import check_sheet

if TYPE_CHECKING:
    from clipsearch import Collection, GeneratedImage, SearchResult
    from clipsearch.cli.query import Asked

NOTHING_FOUND = 1


@click.command("search", short_help="Search a collection with words, a picture, or both.")
@click.argument("query", metavar="QUERY", nargs=-1, shell_complete=options.complete_files)
@options.collection
@click.option(
    "-k", "--count", metavar="N", type=click.IntRange(min=1), default=10, show_default=True, help="Hits wanted."
)
@click.option(
    "--add",
    metavar="[W:]PART",
    multiple=True,
    shell_complete=options.complete_files,
    help="Words or a picture's file to add to the query, with a weight W or not; repeatable.",
)
@click.option(
    "--subtract",
    metavar="[W:]PART",
    multiple=True,
    shell_complete=options.complete_files,
    help="Words or a picture's file to take away from the query; repeatable.",
)
@click.option("--text", "force", flag_value="text", help="QUERY is words, even if a file has that name.")
@click.option("--image", "force", flag_value="image", help="QUERY is a picture's file.")
@click.option(
    "--target",
    type=click.Choice(["image", "text"]),
    default="image",
    show_default=True,
    help="What to find: pictures, or the captions that describe QUERY best.",
)
@click.option(
    "--where",
    metavar="EXPR",
    help="Look only among pictures for which EXPR is true: SQL over the columns that `clipsearch columns` lists.",
)
@click.option(
    "--recall",
    metavar="SHARE",
    type=float,
    show_default="0.97",
    help="Share of the true best pictures wanted from an approximate index; 1 compares every picture.",
)
@click.option(
    "--leave-out-self/--keep-self", help="Leave out pictures that are the very query picture.", show_default=True
)
@click.option(
    "--fold/--no-fold",
    default=None,
    help="Fold copies, bursts and equal captions into one hit with a count; done where it is shown: terminal and JSON.",
)
@again_options
@click.option("--explain", is_flag=True, help="Say of each hit its rank by score alone, and what changed it.")
@click.option("--no-augment", is_flag=True, help="Leave hits in the order of their scores, whatever was fitted.")
@click.option(
    "--imagine",
    flag_value="measured",
    help="Draw a picture of QUERY and let it change the order, if 'augment fit --rung imagined' found that it helps.",
)
@click.option("--imagine-anyway", "imagine", flag_value="anyway", help="The same without evidence that it helps.")
@click.option("-f", "--files", is_flag=True, help="Print paths only, one a line.")
@click.option("-0", "--null", is_flag=True, help="Print paths only, each with a NUL behind it.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print JSON Lines: one object a hit, then one for the whole answer."
)
@click.option("--all", "show_all", is_flag=True, help="Where nothing matches, show the nearest all the same, marked.")
@click.option("--preview", is_flag=True, help="Show the pictures in the terminal.")
@click.option(
    "--contact-sheet",
    metavar="OUT.png",
    shell_complete=options.complete_files,
    help="Write a page of the pictures, rank, score and name under each.",
)
@click.option("--force", "overwrite", is_flag=True, help="Write OUT.png over a file that is no contact sheet.")
@filling.fill_options
@options.encoder
@options.common
def command(
    console: Console,
    query: tuple[str, ...],
    index: str | None,
    indexes_dir: str,
    count: int,
    add: Sequence[str],
    subtract: Sequence[str],
    force: str | None,
    target: str,
    where: str | None,
    recall: float | None,
    leave_out_self: bool,
    fold: bool | None,
    again: Again,
    explain: bool,
    no_augment: bool,
    imagine: str | None,
    files: bool,
    null: bool,
    as_json: bool,
    show_all: bool,
    preview: bool,
    contact_sheet: str | None,
    overwrite: bool,
    fill: str,
    fill_model: str | None,
    how: dict[str, str],
) -> int:
    """Search a collection with words, a picture, or both.

    QUERY is words, the file of a picture, or - for a picture on stdin. Exit code 1: nothing matches; --all shows
    the nearest then.

    \b
    clipsearch search "two dogs playing in snow"
    clipsearch search -i photos ./query.jpg
    clipsearch search "beach" --add "sunset" --subtract people -k 20 --json
    clipsearch search ./query.jpg --target text
    clipsearch search "sunset" --where "taken >= '2024-01-01' AND width > 2000"
    clipsearch search "receipts" -0 | xargs -0 cp -t ./receipts
    """  # noqa: D301
    start = time.monotonic()
    form = _form(files, null, as_json, preview)
    if len(query) > 1:
        ctx = click.get_current_context()
        raise click.UsageError(f'One query at a time. Put its words in quotes: "{" ".join(query)}"', ctx)
    if contact_sheet is not None:
        check_sheet(contact_sheet, overwrite)
    typed = Remembered(
        query[0] if query else None, force, tuple(add), tuple(subtract), target, where, recall, count, leave_out_self
    )
    place = _place(index, indexes_dir) if again.needs_place else ""
    request = again.request(place, typed)
    asked, plus, minus = _read_arguments(request)
    where = again.filter(place, request.where)
    with _open(index, indexes_dir, how) as collection:
        wanted = {
            "k": request.count,
            "target": request.target,
            "leave_out_self": request.leave_out_self,
            "fold": _shows_folded(form) if fold is None else fold,
            **{name: list(ids) for name, ids in (("more", request.more), ("less", request.less)) if ids},
        }
        result = _ask(
            collection,
            asked,
            plus,
            minus,
            **wanted,
            **_given(where=where, recall=request.recall, augment=False if no_augment else None, imagine=imagine),
        )
        run_by = f" ({collection.how})" if collection.how else ""
        console.detail(f"{collection.path}: model {collection.model}{run_by}, {time.monotonic() - start:.2f} s")
        for note in result.notes:
            console.note(f"note: {note}")
        more = filling.offer(console, collection, result, asked, fill, fill_model)
        _say_verdict(console, collection, result, _label(asked, plus, minus), show_all, where, more)
        shown = result if show_all or result.verdict != "none" else _emptied(result)
        if preview or contact_sheet is not None:
            _show_pictures(console, shown, _label(asked, plus, minus), preview, contact_sheet)
        _emit(console, collection, shown, form, (asked, plus, minus), explain)
        if explain and form != "json":
            _explain(console, shown)
        again.keep(console, collection, described(request, asked, plus, minus), shown)
        drawn = filling.fill(console, collection, result, asked, fill, fill_model, form == "json")
        if drawn and contact_sheet is not None:
            _show_pictures(console, shown, _label(asked, plus, minus), False, contact_sheet, drawn)
    return 0 if len(result) and result.verdict != "none" else NOTHING_FOUND


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


Parts = tuple["Asked | None", list["Asked"], list["Asked"]]


def _shows_folded(form: str) -> bool:
    """Tell whether the output says what was folded into a hit; elsewhere files would vanish without a word."""
    return form == "json" or (form == "table" and is_terminal(sys.stdout))


def _form(files: bool, null: bool, as_json: bool, preview: bool) -> str:
    if as_json and (files or null):
        raise click.UsageError("--json and --files or --null exclude each other.", click.get_current_context())
    if preview and (as_json or files or null):
        raise click.UsageError("--preview goes with the table only.", click.get_current_context())
    return "json" if as_json else "null" if null else "files" if files else "table"


def _read_arguments(request: Remembered) -> Parts:
    from clipsearch.cli.query import read_part, read_query

    if request.query is None and not request.add:
        missing = "Missing argument 'QUERY': words in quotes, or a picture's file."
        raise click.UsageError(missing, click.get_current_context())
    asked = None if request.query is None else read_query(request.query, request.force)
    return asked, [read_part(part) for part in request.add], [read_part(part) for part in request.subtract]


def _place(index: str | None, home: str) -> str:
    from clipsearch.cli.place import find

    return find(index, home)


def _open(index: str | None, home: str, how: dict[str, str]) -> "Collection":
    import clipsearch

    return clipsearch.open(_place(index, home), **how)


def _ask(
    collection: "Collection", asked: "Asked | None", plus: Sequence["Asked"], minus: Sequence["Asked"], **how: Any
) -> "SearchResult":
    from clipsearch.errors import QueryImageError

    try:
        result = collection.search(
            asked.text if asked else None,
            image=asked.image if asked else None,
            add=[part.part() for part in plus],
            subtract=[part.part() for part in minus],
            **how,
        )
        return cast("SearchResult", result)  # one query, one answer
    except QueryImageError as problem:
        if asked and asked.guessed:
            raise QueryImageError(
                f"{problem}\nTo search for the words {asked.label!r} instead, add --text."
            ) from problem
        raise


def _emptied(result: "SearchResult") -> "SearchResult":
    """Return an answer without its hits, which do not match."""
    from dataclasses import replace

    return replace(result, ids=result.ids[:0], scores=result.scores[:0], rows=(), reordered=(), folded=())


def _say_verdict(
    console: Console,
    collection: "Collection",
    result: "SearchResult",
    asked: str,
    show_all: bool,
    where: str | None,
    more: str = "",
) -> None:
    """Say on stderr what a person should know of an answer; a match speaks for itself."""
    if not len(result):
        console.note("nothing found" if where is not None else _nothing(collection, result.target))
    elif result.verdict == "none":
        what = "captions" if result.target == "text" else "pictures"
        rest = f"These are the nearest {what}." if show_all else "--all shows the nearest."
        console.note(f"nothing in {collection.name} matches {asked!r}. {rest}{more}")
    elif result.verdict == "weak":
        console.note(f"note: weak: queries that match nothing here often score as high (p = {result.p_value:.2g}).")
    elif result.verdict == "match":
        console.detail(f"match: p = {result.p_value:.2g}")
    else:
        console.detail(f"uncalibrated: {result.why}")


def _nothing(collection: "Collection", target: str) -> str:
    if target == "text":
        return f"nothing found: {collection.name} holds no captions. Add some: clipsearch index ... --captions FILE"
    return f"nothing found: {collection.name} holds no images. Add some: clipsearch index FOLDER -i {collection.name}"


def _explain(console: Console, result: "SearchResult") -> None:
    from clipsearch.present.explained import lines

    for line in lines(result):
        console.note(line)


def _emit(
    console: Console, collection: "Collection", result: "SearchResult", form: str, parts: Parts, explain: bool
) -> None:
    """Write the answer to stdout: for a person at a terminal, for a program elsewhere."""
    if form == "json":
        console.json(_json_lines(collection, result, parts, explain))
    elif form == "table":
        from clipsearch.present.table import hits_plain, hits_table

        if not is_terminal(sys.stdout):
            console.results(hits_plain(result, os.getcwd()))
        elif len(result):
            width = terminal_width(sys.stdout)
            console.results(hits_table(result, os.getcwd(), width, console.colour(sys.stdout)))
    else:
        from clipsearch.present.paths import path_lines

        console.results(path_lines(result, b"\0" if form == "null" else b"\n"), end=b"")


def _json_lines(collection: "Collection", result: "SearchResult", parts: Parts, explain: bool) -> list[str]:
    from clipsearch.present.json_lines import dump, hit_object, result_object

    asked, plus, minus = parts
    query = asked.label if asked else ""
    more = {"add": [part.label for part in plus], "subtract": [part.label for part in minus]}
    whole = result_object(
        result,
        query,
        model=collection.model,
        collection=collection.name,
        version=collection.version,
        parts={name: labels for name, labels in more.items() if labels},
    )
    mark = str(result.verdict) if result.verdict == "none" else None
    folded = result.folded or ((),) * len(result)
    hits = [hit_object(hit, query, mark, others) for hit, others in zip(result, folded, strict=True)]
    if explain:
        from clipsearch.present.explained import fields

        hits = [{**hit, **more} for hit, more in zip(hits, fields(result), strict=True)]
    return [dump(item) for item in (*hits, whole)]


def _label(asked: "Asked | None", plus: Sequence["Asked"], minus: Sequence["Asked"]) -> str:
    """Return the query on one line, as a heading: beach + sunset - people."""
    parts = [("+", part.label) for part in plus] + [("−", part.label) for part in minus]
    return " ".join([asked.label if asked else "", *(f"{sign} {label}" for sign, label in parts)]).strip(" +")


def _show_pictures(
    console: Console,
    result: "SearchResult",
    heading: str,
    preview: bool,
    sheet: str | None,
    drawn: "Sequence[GeneratedImage]" = (),
) -> None:
    from clipsearch.cli import pictures

    if preview and not console.colour(sys.stdout):
        console.note("note: --preview needs a terminal with colours.")
        preview = False
    if not (len(result) or drawn) or not (preview or sheet):
        return
    thumbnails = [*pictures.thumbnails(result), *map(pictures.generated_thumbnail, drawn)]
    if sheet is not None:
        pictures.write_sheet(sheet, thumbnails, heading)
        console.note(f"contact sheet: {sheet}")
    if preview:
        console.results(pictures.preview_lines(thumbnails, terminal_width(sys.stdout)))
