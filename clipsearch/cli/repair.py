"""``clipsearch repair``: make again what is damaged."""

from typing import TYPE_CHECKING

import click

from clipsearch.cli import options
from clipsearch.cli.console import Console

if TYPE_CHECKING:
    from clipsearch.embed.base import Encoder

DAMAGED = 4


@click.command("repair", short_help="Make again what is damaged in a collection.")
@options.collection
@click.option("--wait", is_flag=True, help="Wait while another process writes to the collection.")
@options.encoder
@options.common
def command(console: Console, index: str | None, indexes_dir: str, wait: bool, how: dict[str, str]) -> int:
    """Make again what is damaged in a collection.

    What is derived is made from the shards, a shard from its sidecars, and pictures whose rows are lost are embedded
    again from their files. Damaged originals are moved to damaged/, never deleted. Safe to stop and to run again.

    \b
    clipsearch verify -i photos
    clipsearch repair -i photos
    """  # noqa: D301
    from clipsearch.cli.place import find
    from clipsearch.cli.progress import progress_bar
    from clipsearch.flows.repair import repair
    from clipsearch.present.text import count

    path = find(index, indexes_dir)

    def encoder() -> "Encoder":
        import clipsearch

        return clipsearch.open(path, **how).encoder

    with progress_bar(console) as progress:
        done = repair(path, encoder, wait=wait, progress=progress)
    for name in done.made:
        console.results([f"made again: {name}"])
    for name in done.moved:
        console.results([f"moved to damaged/: {name}"])
    if done.lost:
        console.results([f"lost: {count(done.lost, 'row')}, of which {done.embedded:,} were indexed again"])
    for note in done.notes:
        console.note(f"note: {note}")
    console.results([f"{len(done.left.damages)} damaged still" if done.left.damages else f"{done.left.name} is whole"])
    return 0 if done.left.whole else DAMAGED
