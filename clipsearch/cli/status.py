"""``clipsearch status``: what a collection holds. The model is not loaded for it."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from clipsearch.cli import options
from clipsearch.cli.console import Console, is_terminal, terminal_width

if TYPE_CHECKING:
    from clipsearch import CollectionStatus
    from clipsearch.flows.status import IndexStatus


@click.command("status", short_help="Show what a collection holds.")
@options.collection
@click.option("--json", "as_json", is_flag=True, help="Print JSON Lines: one object a collection.")
@options.common
def command(console: Console, index: str | None, indexes_dir: str, as_json: bool) -> int:
    """Show what a collection holds.

    Without -i: the collection, where there is one; where there are several, a line for each.

    \b
    clipsearch status
    clipsearch status -i photos --json
    """  # noqa: D301
    from clipsearch.cli.place import collections_in, find

    names = collections_in(indexes_dir) if index is None else []
    paths = [os.path.join(indexes_dir, name) for name in names] if len(names) > 1 else [find(index, indexes_dir)]
    if len(paths) == 1:
        found, code = [_status(paths[0])], 0
    else:
        found, code = _statuses(console, paths)
    if as_json:
        from clipsearch.present.json_lines import dump

        console.json(dump(_as_object(status)) for status in found)
    elif len(paths) == 1:
        console.results(_lines(found[0]))
    else:
        console.results(_table(console, found))
    return code


def _status(path: str) -> "CollectionStatus":
    import clipsearch

    with clipsearch.open(path) as collection:
        return collection.status()


def _statuses(console: Console, paths: Sequence[str]) -> "tuple[list[CollectionStatus], int]":
    """Return the states of all that can be read, and the exit code of the first that cannot."""
    from clipsearch.errors import ClipsearchError

    found, code = [], 0
    for path in paths:
        try:
            found.append(_status(path))
        except ClipsearchError as problem:
            console.complain(str(problem))
            code = code or problem.exit_code
    return found, code


def _lines(status: "CollectionStatus") -> list[str]:
    from clipsearch.present.text import count, file_size, moment, printable

    facts = [
        ("collection", status.name),
        ("path", status.path),
        ("model", f"{status.model} ({status.dim} dimensions)"),
        ("images", f"{status.images:,}"),
        ("captions", f"{status.texts:,}"),
        ("deleted", f"{status.deleted:,}"),
        ("on disk", f"{file_size(status.bytes_on_disk)} in {count(status.shards, 'shard')}"),
        *_index_facts("index", status.index),
        *(_index_facts("text index", status.text_index) if status.texts else []),
        ("verdicts", status.calibration if status.calibrated else f"uncalibrated: {status.calibration}"),
        ("augment", status.augment),
        *([("columns", ", ".join(status.columns))] if status.columns else []),
        *(("to do", advice) for advice in (*status.columns_advice, status.compaction) if advice),
        ("version", f"{status.version} of {moment(status.updated)}"),
    ]
    for number, (root, there, images) in enumerate(status.roots):
        gone = "" if there or not root else ", not there now"
        where = root or "imported, paths as given"
        facts.append(("folders" if number == 0 else "", f"{where} ({count(images, 'image')}{gone})"))
    return [f"{name:<10}  {printable(value)}" for name, value in facts]


def _index_facts(name: str, built: "IndexStatus | None") -> list[tuple[str, str]]:
    from clipsearch.present.text import count, file_size, moment

    if built is None or built.type == "flat":
        facts = [(name, "flat (exact)")]
    else:
        later = f", {built.uncovered:,} beside it" if built.uncovered else ""
        recall = ", ".join(f"{value:.3f} ({kind} queries)" for kind, value in built.recall.items())
        facts = [
            (name, f"{built.type}: {count(built.rows, 'row')}{later}"),
            ("", f"{built.bytes_per_vector:g} bytes a vector, {file_size(built.bytes_on_disk)} on disk"),
            ("", f"trained with {count(built.trained_rows, 'row')} on {moment(built.trained)}"),
        ]
        if recall:
            facts.append(("recall@10", f"{recall}, measured {moment(built.measured)}"))
    if built is not None and built.advice:
        facts.append(("to do", built.advice))
    return facts


def _table(console: Console, found: "Sequence[CollectionStatus]") -> list[str]:
    from clipsearch.present.table import Column, ended, plain, render
    from clipsearch.present.text import file_size, moment

    columns = (
        Column("name", fit=ended, least=12),
        Column("model", fit=ended, least=8),
        Column("images", right=True),
        Column("captions", right=True),
        Column("on disk", right=True),
        Column("updated"),
    )
    rows = [
        [s.name, s.model, f"{s.images:,}", f"{s.texts:,}", file_size(s.bytes_on_disk), moment(s.updated)] for s in found
    ]
    if not is_terminal(sys.stdout):
        return list(plain(columns, rows))
    return list(render(columns, rows, terminal_width(sys.stdout), console.colour(sys.stdout)))


def _as_object(status: "CollectionStatus") -> dict[str, Any]:
    from dataclasses import asdict

    from clipsearch.present.json_lines import path_fields

    roots = [{**path_fields(root), "exists": there, "images": images} for root, there, images in status.roots]
    return {"schema": "clipsearch.status/1", **asdict(status), **path_fields(status.path), "roots": roots}
