"""``clipsearch verify``: whether every byte of a collection is what was written. The model is not loaded for it."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from clipsearch.cli import options
from clipsearch.cli.console import Console

if TYPE_CHECKING:
    from clipsearch.flows.verify import Verification

DAMAGED = 4
_LISTED = 20


@click.command("verify", short_help="Check every byte of a collection.")
@options.collection
@click.option("--json", "as_json", is_flag=True, help="Print JSON Lines: one object a damaged file, then a summary.")
@options.common
def command(console: Console, index: str | None, indexes_dir: str, as_json: bool) -> int:
    """Check every byte of a collection.

    Reads each file once and names those that are not what was written, whether they are derived or originals, and what
    to do. Nothing is changed. Exit code 0: all is whole; 4: something is damaged.

    \b
    clipsearch verify
    clipsearch verify -i photos --json
    """  # noqa: D301
    from clipsearch.cli.place import find
    from clipsearch.cli.progress import progress_bar
    from clipsearch.flows.verify import verify

    with progress_bar(console) as progress:
        found = verify(find(index, indexes_dir), progress)
    if as_json:
        from clipsearch.present.json_lines import dump

        console.json(dump(one) for one in _as_objects(found))
    else:
        console.results(_lines(found))
        for note in found.notes:
            console.note(f"note: {note}")
        for name in found.orphans:
            console.detail(f"harmless, named by nothing: {name}")
    return 0 if found.whole else DAMAGED


def _lines(found: "Verification") -> list[str]:
    from clipsearch.present.text import count, duration, file_size, printable

    lines: list[str] = []
    for one in found.damages:
        lines += [f"{printable(one.name)}: {printable(one.what)} ({_sort(one.derived)})", f"  {one.todo}"]
    if found.orphans:
        lines.append(f"{count(len(found.orphans), 'file')} that nothing names: harmless; -v lists them")
    read = f"{count(found.files, 'file')}, {file_size(found.bytes)}, {duration(found.seconds)}"
    verdict = "whole" if found.whole else f"{len(found.damages)} damaged: run 'clipsearch repair'"
    return [*lines, f"{printable(found.name)}, version {found.version}: {verdict} ({read})"]


def _sort(derived: bool) -> str:
    return "derived" if derived else "original"


def _as_objects(found: "Verification") -> list[dict[str, Any]]:  # Any: what JSON holds
    head = {"schema": "clipsearch.verify/1"}
    damages = [{**head, "type": "damage", **asdict(one)} for one in found.damages]
    summary = {name: value for name, value in asdict(found).items() if name != "damages"}
    return [*damages, {**head, "type": "summary", "whole": found.whole, "damaged": len(damages), **summary}]
