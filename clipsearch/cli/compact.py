"""``clipsearch compact``: fewer, larger shards without deleted rows. The model is not loaded for it."""

from typing import TYPE_CHECKING

import click

from clipsearch.cli import options
from clipsearch.cli.console import Console

if TYPE_CHECKING:
    from clipsearch.flows.compact import CompactReport


@click.command("compact", short_help="Merge small shards and drop deleted rows.")
@options.collection
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--wait", is_flag=True, help="Wait while another process writes to the collection.")
@options.common
def command(console: Console, index: str | None, indexes_dir: str, dry_run: bool, wait: bool) -> int:
    """Merge small shards and drop deleted rows.

    Row ids and answers stay as they are, and searches go on meanwhile. The files of the version before stay until the
    next run, for those who have it open. Safe to stop and to run again.

    \b
    clipsearch compact --dry-run
    clipsearch compact -i photos
    """  # noqa: D301
    import clipsearch
    from clipsearch.cli.place import find
    from clipsearch.cli.progress import progress_bar

    with clipsearch.open(find(index, indexes_dir)) as collection, progress_bar(console) as progress:
        done = collection.compact(dry_run=dry_run, wait=wait, progress=progress)
        name = collection.name
    console.results([_line(name, done)])
    return 0


def _line(name: str, done: "CompactReport") -> str:
    from clipsearch.present.text import count, file_size, printable

    if done.dry:
        parts = [f"{done.shards_before:,} shards would become {done.shards_after:,}"]
        parts.append(f"{count(done.dropped, 'deleted row')} would be dropped")
    else:
        parts = [f"{done.shards_before:,} → {done.shards_after:,} shards"]
        parts += [f"{count(done.dropped, 'deleted row')} dropped", f"{file_size(done.freed)} freed"]
    later = f"; {file_size(done.held)} of the version before go with the next run" if done.held else ""
    return f"{printable(name)}: {', '.join(parts)}{later}"
