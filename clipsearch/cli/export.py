"""``clipsearch export``: the live rows, as other tools expect them."""

from typing import TYPE_CHECKING, Any

import click

from clipsearch.cli import options
from clipsearch.cli.console import Console

if TYPE_CHECKING:
    from clipsearch import Collection

_ONLY = {
    "partition_rows": ("--partition-rows", "clip-retrieval"),
    "metadata": ("--metadata", "clip-retrieval"),
    "with_index": ("--with-index", "clip-retrieval"),
    "url": ("--url", "qdrant"),
}


def _complete_layouts(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    from clipsearch.store.layouts import LAYOUTS

    return [name for name in LAYOUTS if name.startswith(incomplete)]


@click.command("export", short_help="Write a collection's rows for other tools.")
@click.argument("out", shell_complete=options.complete_files)
@options.collection
@click.option(
    "--to",
    "layout",
    metavar="LAYOUT",
    required=True,
    shell_complete=_complete_layouts,
    help="clip-retrieval, parquet, npy, lance or qdrant.",
)
@click.option("--where", metavar="EXPR", help="Only images for which this is true, as in search.")
@click.option("--force", is_flag=True, help="Replace an earlier export of the same layout.")
@click.option(
    "--partition-rows",
    metavar="N",
    type=click.IntRange(min=1),
    show_default="1000000",
    help="clip-retrieval: rows in a partition, at most.",
)
@click.option("--metadata", is_flag=True, help="clip-retrieval: more columns than image_path and caption.")
@click.option("--with-index", is_flag=True, help="clip-retrieval: write image.index too (needs faiss).")
@click.option("--url", metavar="URL", help="qdrant: a server, where OUT is the name of its collection.")
@options.common
def command(
    console: Console, out: str, index: str | None, indexes_dir: str, layout: str, where: str | None, **settings: Any
) -> int:
    """Write a collection's rows for other tools.

    OUT is a folder (clip-retrieval, npy, lance, qdrant) or a file (parquet). Only rows that are live are written. OUT
    appears when all of it is written, and nothing is ever replaced without --force.

    \b
    clipsearch export ./laion-style --to clip-retrieval -i photos
    clipsearch export photos.parquet --to parquet --where "taken >= '2024-01-01'"
    clipsearch export photos --to qdrant --url http://localhost:6333
    """  # noqa: D301
    import clipsearch
    from clipsearch.cli.place import find
    from clipsearch.store.layouts import LAYOUTS

    LAYOUTS[layout]  # an unknown name is refused before anything is opened
    for name, (option, of) in _ONLY.items():
        if settings[name] and layout != of:
            raise click.UsageError(f"{option} goes with --to {of}.", click.get_current_context())
    with clipsearch.open(find(index, indexes_dir)) as collection:
        return _run(console, collection, layout, out, where, settings)


def _run(
    console: Console, collection: "Collection", layout: str, out: str, where: str | None, settings: dict[str, Any]
) -> int:
    from clipsearch.cli.progress import progress_bar
    from clipsearch.present.text import count, duration

    given = {name: value for name, value in settings.items() if value is not None}
    try:
        with progress_bar(console) as progress:
            done = collection.export(layout, out, where=where, progress=progress, **given)
    except KeyboardInterrupt:
        kept = "what was written is kept; the same command goes on." if layout == "qdrant" else "nothing was written."
        raise click.Abort(kept) from None
    for note in done.notes:
        console.note(f"note: {note}")
    console.note(f"{out}: {count(done.rows, 'image')} as {layout} in {duration(done.seconds)}")
    return 0
