"""How far an index run is, on stderr, while a person looks."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from clipsearch.cli.console import Console, is_terminal

if TYPE_CHECKING:
    from clipsearch import Progress

STAGES = {
    "scan": "scanning",
    "hash": "comparing",
    "embed": "embedding",
    "captions": "captions",
    "sample": "sampling",
    "train": "training",
    "add": "adding",
    "save": "joining",
    "rows": "copying",
    "compare": "comparing",
    "measure": "measuring",
    "calibrate": "calibrating",
    "augment": "measuring",
    "imagine": "drawing",
    "import": "importing",
    "export": "exporting",
    "look": "looking",
    "plant": "copying",
    "labels": "embedding",
    "tags": "tagging",
    "answers": "answering",
    "texts": "reading",
    "verify": "verifying",
    "compact": "compacting",
}


PERIOD = 300.0  # seconds that the rate is taken over: an iteration of a k-means can take a minute


@contextmanager
def progress_bar(console: Console) -> "Iterator[Callable[[Progress], None] | None]":
    """Show a bar with rate, time left and skipped files; gives None where stderr is no terminal or to be quiet."""
    if console.quiet or not is_terminal(sys.stderr):
        yield None
        return
    from rich import progress as bars
    from rich.console import Console as Terminal

    terminal = Terminal(file=sys.stderr, no_color=not console.colour(sys.stderr))
    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(bar_width=None),
        bars.TextColumn("{task.fields[counts]}"),
        bars.TimeRemainingColumn(),
    )
    how: Any = {"transient": True, "refresh_per_second": 5, "expand": True}  # Any: keyword arguments
    with bars.Progress(*columns, console=terminal, speed_estimate_period=PERIOD, **how) as bar:
        task = bar.add_task("loading", total=None, counts="")
        stage = ""

        def show(progress: "Progress") -> None:
            nonlocal stage
            if progress.stage != stage:
                stage = progress.stage
                bar.reset(task, total=progress.total, description=STAGES.get(stage, stage))
            bar.update(
                task, completed=progress.done, total=progress.total, counts=_counts(progress, bar.tasks[0].speed)
            )

        yield show


def _counts(progress: "Progress", speed: float | None) -> str:
    parts = [f"{progress.done:,}" + (f"/{progress.total:,}" if progress.total is not None else "")]
    if speed:
        parts.append(f"{speed:.0f}/s" if speed >= 9.95 else f"{speed:.1f}/s")
    if progress.skipped:
        parts.append(f"{progress.skipped:,} skipped")
    return ", ".join(parts)
