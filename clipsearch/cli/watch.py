"""``clipsearch watch``: keep a collection current with a folder."""

import re
import time
from typing import TYPE_CHECKING, Any

import click

from clipsearch.cli import options
from clipsearch.cli.console import Console

if TYPE_CHECKING:
    from clipsearch import IndexReport

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


class Duration(click.ParamType):
    """A time such as 2s, 500ms, 1m; a bare number is seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*(ms|s|min|m|h)?", str(value))
        if match is None:
            self.fail(f"{value!r} is no time. Say 2s, 500ms or 1m.", param, ctx)
        return float(match[1]) * _UNITS[match[2] or "s"]


@click.command("watch", short_help="Keep a collection current with a folder.")
@click.argument("source", shell_complete=options.complete_files)
@options.collection
@options.new_model
@options.exclude
@click.option(
    "--quiet-time",
    metavar="TIME",
    type=Duration(),
    default="2s",
    show_default=True,
    help="Index when nothing has changed for so long; after a minute in any case.",
)
@click.option(
    "--poll",
    metavar="TIME",
    type=Duration(),
    help="Look at all files every so often instead of being told by the system.",
)
@click.option("--once", is_flag=True, help="End after the first batch of changes.")
@click.option(
    "--report",
    metavar="FILE",
    shell_complete=options.complete_files,
    help="Keep every skipped file with its reason in FILE, as JSON Lines.",
)
@options.batch_size
@click.option(
    "--jobs",
    metavar="N",
    type=click.IntRange(min=0),
    show_default="0, one a core",
    help="Processes that decode pictures.",
)
@options.encoder
@options.common
def command(
    console: Console,
    source: str,
    index: str | None,
    indexes_dir: str,
    model: str | None,
    exclude: tuple[str, ...],
    quiet_time: float,
    poll: float | None,
    once: bool,
    report: str | None,
    batch_size: int | None,
    jobs: int | None,
    how: dict[str, str],
) -> int:
    """Keep a collection current with a folder.

    Brings the collection up to date, then waits for changes and indexes each batch of them, until Ctrl-C (exit code
    130). Safe to kill at any moment. While another process writes to the collection it waits.

    \b
    clipsearch watch ./photos
    clipsearch watch ./photos --quiet-time 10s
    clipsearch watch /mnt/nas/photos --poll 1m
    """  # noqa: D301
    from clipsearch.cli.index import FINISHED_WITH_SKIPS, check_report, open_or_create, place_of_run, stopping_politely
    from clipsearch.scan import ScanOptions
    from clipsearch.scan.changes import open_watcher
    from clipsearch.scan.folder import FolderSource

    check_report(report)
    folder = FolderSource.open(source.encode("utf-8", "surrogateescape"), ScanOptions())
    if poll is None:
        open_watcher(folder, None).close()  # a missing package is said before a collection is made
    path = place_of_run(source, index, indexes_dir, None, None)
    given = {"batch_size": batch_size, "workers": jobs}
    settings = {name: value for name, value in given.items() if value is not None}
    try:
        with stopping_politely(), open_or_create(console, path, model, how) as collection:
            before: IndexReport | None = None
            for n, done in enumerate(
                collection.watch(
                    source,
                    quiet_seconds=quiet_time,
                    poll_seconds=poll,
                    excludes=exclude,
                    say=console.note,
                    **settings,
                )
            ):
                _say(console, done, before, path, report)
                before = done
                if once and n:
                    return FINISHED_WITH_SKIPS if done.skips else 0
    except KeyboardInterrupt:
        raise click.Abort("what is finished is saved. The same command goes on from there.") from None
    return 0


def _say(console: Console, done: "IndexReport", before: "IndexReport | None", path: str, report: str | None) -> None:
    """Say in one line what a batch changed; nothing, where it changed nothing."""
    from clipsearch.cli.index import write_report
    from clipsearch.cli.summary import columns_summary
    from clipsearch.present.text import count, printable

    changed = (done.embedded, done.reused, done.deleted) != (0, 0, 0)
    if report is not None and (before is None or before.skips != done.skips):
        write_report(report, done)
    if before is not None and not changed and before.skips == done.skips:
        console.detail("nothing changed")
        return
    new = [skip for skip in done.skips if before is None or skip not in before.skips]
    counted = ((done.embedded, "embedded"), (done.reused, "reused"), (done.deleted, "deleted"), (len(new), "skipped"))
    what = ", ".join(f"{n:,} {word}" for n, word in counted if n) or "up to date"
    named = "; ".join(f"{printable(skip.display)}: {str(skip.reason).replace('_', ' ')}" for skip in new[:3])
    rest = f" ({named}{'; ...' if len(new) > 3 else ''})" if new else ""
    console.note(f"{time.strftime('%H:%M:%S')} {printable(path)}: {what}{rest}; {count(done.images_total, 'image')}")
    if done.columns:
        console.detail(columns_summary(done.columns))
    for note in done.notes:
        is_news = before is not None and note not in before.notes
        (console.note if is_news else console.detail)(f"note: {note}")
