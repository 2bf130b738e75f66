"""Keep a collection current with a folder: wait for changes, let them come to rest, run the ordinary index run.

Each batch is a whole run over the folder. It compares names, sizes and times, and opens only what is new; so what
happened while nobody watched, during a run, or unnoticed by the system is found as well, and a kill at any moment costs
nothing that an index run would not lose. A folder that goes away (a drive is unplugged) is waited for: a run over the
empty place where it was mounted deletes nothing.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from clipsearch.errors import InputError, SourceNotFoundError
from clipsearch.flows.ingest import IndexReport
from clipsearch.scan import ScanOptions
from clipsearch.scan.changes import TICK, Watcher, watching
from clipsearch.scan.folder import FolderSource


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """When a batch of changes is indexed.

    Attributes:
        quiet_seconds: nothing may have changed for so long: a copy that is under way is let finish.
        longest_seconds: but after so long it is indexed all the same.
        poll_seconds: look at all files every so often, in place of the system's events.
    """

    quiet_seconds: float = 2.0
    longest_seconds: float = 60.0
    poll_seconds: float | None = None


def watch(
    place: str | os.PathLike[str],
    index: Callable[[], IndexReport],
    options: ScanOptions,
    settings: WatchSettings,
    say: Callable[[str], None],
) -> Iterator[IndexReport]:
    """Yield the report of a first run, then that of each batch of changes, for ever.

    Args:
        place: the folder.
        index: makes one index run over the folder.
        options: what of the folder is left out.
        settings: when a batch is indexed.
        say: called with one sentence when the folder is gone, and when it is back.

    Raises:
        SourceNotFoundError: there is no such folder at the start.
        MissingExtraError: there is no package for the system's events, and ``poll_seconds`` is None.
    """
    if settings.quiet_seconds < 0 or (settings.poll_seconds is not None and settings.poll_seconds <= 0):
        raise InputError("The quiet time is 0 or more seconds, and the time between two looks more than 0.")
    source = FolderSource.open(os.fsencode(place), options)
    while True:
        identity = _identity(source.root)
        try:
            with watching(source, settings.poll_seconds) as watcher:
                yield index()
                while _settled(watcher, settings, source.root, identity):
                    yield index()
        except (FileNotFoundError, SourceNotFoundError):  # it went away during a run, or was about to be watched
            pass
        _wait_for(source, say)


def _settled(watcher: Watcher, settings: WatchSettings, root: bytes, identity: tuple[int, int] | None) -> bool:
    """Wait until something has changed and come to rest; False where the folder is another one, or none."""
    first = last = None
    while _identity(root) == identity:
        changed, now = watcher.tick(), time.monotonic()
        if changed:
            first, last = first or now, now
        if first is not None and last is not None:
            quiet = now - last >= settings.quiet_seconds
            if quiet or now - first >= settings.longest_seconds:
                return _identity(root) == identity
    return False


def _wait_for(source: FolderSource, say: Callable[[str], None]) -> None:
    """Wait until the folder is there."""
    if os.path.isdir(source.root):
        return
    shown = os.fsdecode(source.root)
    say(f"{shown} is gone; what is known from there is kept. Waiting for it to come back.")
    while not os.path.isdir(source.root):
        time.sleep(TICK)
    say(f"{shown} is back.")


def _identity(place: bytes) -> tuple[int, int] | None:
    try:
        status = os.stat(place)
    except OSError:
        return None
    return status.st_dev, status.st_ino
