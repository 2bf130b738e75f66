"""``clipsearch index --embeddings``: take ready embeddings into a collection."""

import os
from typing import TYPE_CHECKING, Any

import click

from clipsearch.cli.build import build
from clipsearch.cli.console import Console

if TYPE_CHECKING:
    from clipsearch import Collection

_OTHERS = {
    "captions": "--captions",
    "exclude": "--exclude",
    "shard": "--shard",
    "retry_skipped": "--retry-skipped",
    "prune_empty": "--prune-empty",
    "batch_size": "--batch-size",
    "jobs": "--jobs",
}


def run_import(
    console: Console,
    source: str,
    place: tuple[str | None, str],
    model: str | None,
    how: dict[str, str],
    wanted: dict[str, Any],
    settings: dict[str, Any],
) -> int:
    """Import a source and return how many of its rows were refused.

    Args:
        console: where to speak.
        source: as on the command line.
        place: -i and the home of collections.
        model: --model.
        how: how an encoder is run.
        wanted: options of the approximate index.
        settings: the other options of ``clipsearch index``.
    """
    import clipsearch
    from clipsearch.cli.index import check_report, say_skips
    from clipsearch.cli.place import opened_or_made, to_make
    from clipsearch.cli.summary import columns_summary, import_summary
    from clipsearch.scan.embeddings import open_embeddings

    for name, option in _OTHERS.items():
        if settings[name]:
            ctx = click.get_current_context()
            raise click.UsageError(f"{option} does not go with --embeddings: no picture is opened.", ctx)
    check_report(settings["report"])
    opened = open_embeddings(source, column=settings["column"], allow_gaps=settings["allow_gaps"])
    index, home = place
    path = to_make(index, home) if index is not None else os.path.join(home, opened.name)
    with opened_or_made(
        path,
        lambda: clipsearch.open(path, **how),
        lambda: (clipsearch.create(path, model, dim=opened.dim, **how), True),
    ) as collection:
        done = _run(console, collection, source, {**settings, "model": model})
        say_skips(console, done, settings["report"], "row")
        console.note(import_summary(done, path))
        if done.columns:
            console.note(f"  {columns_summary(done.columns)}")
        build(console, collection, wanted, wait=settings["wait"])
    return len(done.skips)


def _run(console: Console, collection: "Collection", source: str, settings: dict[str, Any]) -> Any:
    from clipsearch.cli.index import stopping_politely
    from clipsearch.cli.progress import progress_bar

    given = {name: settings[name] for name in ("model", "column", "allow_gaps", "wait")}
    given["commit_rows"] = settings["commit_every"]
    try:
        with stopping_politely(), progress_bar(console) as progress:
            return collection.index_embeddings(source, progress=progress, **given)
    except KeyboardInterrupt:
        raise click.Abort("what is finished is saved. The same command goes on from there.") from None
