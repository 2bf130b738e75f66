"""Notice that something below a folder changed: by the system's events, or by looking at it now and then.

A watcher says *that* something changed, never what: the run that follows compares the whole folder with the collection,
so a lost event, or one about a name that no text can hold, costs nothing.
"""

import hashlib
import os
import stat
import time
from collections.abc import Callable, Generator
from contextlib import closing
from importlib.util import find_spec
from typing import Any, Protocol

from clipsearch.errors import InputError, MissingExtraError
from clipsearch.scan.folder import FolderSource
from clipsearch.scan.names import is_image_name
from clipsearch.types import ImageRef, Skip

TICK = 0.2  # seconds that a watcher waits at a time: Ctrl-C is heeded in between


class Watcher(Protocol):
    """Looks out for changes below a folder; a context manager."""

    def tick(self) -> bool:
        """Wait a moment; tell whether anything that matters changed since the last call."""
        ...

    def close(self) -> None:
        """Stop watching."""
        ...


def open_watcher(source: FolderSource, poll_seconds: float | None) -> Watcher:
    """Return a watcher; from now on no change is missed.

    Args:
        source: the folder; what its patterns leave out does not count as a change.
        poll_seconds: look at all files every so often; None takes the system's events.

    Raises:
        MissingExtraError: there is no package for the system's events.
        InputError: the system lets no more folders be watched.
    """
    if poll_seconds is not None:
        return PollWatcher(source, poll_seconds)
    if find_spec("watchfiles") is None:
        raise MissingExtraError(
            "Watching a folder needs watchfiles, which this Python does not have.\n"
            "Install with: pip install 'clipsearch[watch]'\n"
            "Or look at all files every ten seconds, which needs nothing: --poll 10"
        )
    return EventWatcher(source)


def concerns(source: FolderSource, place: bytes) -> bool:
    """Tell whether a change of a file or folder may be one of a picture. In doubt it may."""
    below = source.root.rstrip(b"/") + b"/"
    path = place[len(below) :] if place.startswith(below) else b""
    if path and source.prunes(path):
        return False
    if not path or is_image_name(path):
        return True
    try:
        mode = os.lstat(place).st_mode
    except OSError:  # gone: it may have been a folder of pictures
        return True
    return stat.S_ISDIR(mode) or stat.S_ISLNK(mode)


class EventWatcher:
    """Is told by the system (inotify, FSEvents, ReadDirectoryChanges), through watchfiles."""

    def __init__(self, source: FolderSource) -> None:
        self._source = source
        self._events = self._open()
        next(self._events)  # the folders are watched from here on

    def tick(self) -> bool:
        """Wait a moment; tell whether anything that matters changed since the last call."""
        from watchfiles._rust_notify import WatchfilesRustInternalError

        try:
            changes = next(self._events)
        except WatchfilesRustInternalError:  # an event about a name that is no UTF-8
            self._events = self._open()
            next(self._events)
            return True
        return any(concerns(self._source, os.fsencode(place)) for _, place in changes)

    def close(self) -> None:
        """Stop watching."""
        self._events.close()

    def _open(self) -> Generator[Any]:  # Any: watchfiles has its own names for sets of (kind, path)
        from watchfiles import watch

        place = os.fsdecode(self._source.root)
        milliseconds = int(TICK * 1000)
        try:
            yield from watch(
                place,
                watch_filter=None,
                step=milliseconds // 4,
                debounce=4 * milliseconds,
                rust_timeout=milliseconds,
                yield_on_timeout=True,
                force_polling=False,
                ignore_permission_denied=True,
            )
        except OSError as problem:
            if isinstance(problem, FileNotFoundError):
                raise
            raise InputError(
                f"{place} cannot be watched: {problem}.\n"
                "Let the system watch more folders (sysctl fs.inotify.max_user_watches), or use --poll 10."
            ) from problem


class PollWatcher:
    """Looks at names, sizes and times of all pictures every so often; for network drives, which send no events."""

    def __init__(self, source: FolderSource, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._source, self._seconds, self._clock = source, seconds, clock
        self._seen, self._due = self._look(), clock() + seconds

    def tick(self) -> bool:
        """Wait a moment; tell whether anything that matters changed since the last call."""
        time.sleep(min(TICK, max(0.0, self._due - self._clock())))
        if self._clock() < self._due:
            return False
        before, self._seen = self._seen, self._look()
        self._due = self._clock() + self._seconds
        return self._seen != before

    def close(self) -> None:
        """Nothing is held."""

    def _look(self) -> bytes:
        """Return a digest of everything that the next run would compare."""
        digest = hashlib.blake2b()
        for entry in self._source.scan():
            if isinstance(entry, ImageRef):
                digest.update(repr((entry.path, entry.size, entry.mtime_ns, entry.ctime_ns)).encode())
            elif isinstance(entry, Skip):
                digest.update(repr((entry.path, str(entry.reason))).encode())
        return digest.digest()


def watching(source: FolderSource, poll_seconds: float | None) -> "closing[Watcher]":
    """Return a watcher as a context manager; see ``open_watcher``."""
    return closing(open_watcher(source, poll_seconds))
