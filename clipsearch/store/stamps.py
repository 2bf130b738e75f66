"""Which files are known to be whole: what spares a reader a look at all their bytes.

A file's *stamp* (inode, times) is noted beside its digest when it is written. As long as the file has that stamp its
bytes are those that were written: the kernel alone sets the time of change, so neither an edit nor a copy brings the
same one along. In a copied, restored or checked-out collection therefore no stamp fits. The first reader then reads the
bytes, holds them against the digest, and notes the stamps that it found; the next reader need not look again.

The notes are the file ``stamps.json`` in the collection, or, where that may not be written, one in the user's cache. No
lock is taken: the file is replaced in one step, and a note that is lost costs another look. It belongs to this machine;
carried to another one, its stamps fit nothing.
"""

import json
import os
import threading
import time
import weakref
from collections.abc import Mapping, Sequence

from clipsearch.store.files import DIR_MODE, read_bytes, replace_file, sha256, sha256_of_file, stamp_from

NOTES = "stamps.json"
_FORMAT = 1
_TICK = 50_000_000  # ns; a change and a look that are closer than the file system's clock ticks have one stamp
_SAVED_AFTER = 0.5  # seconds of reading that are worth a note at once; what took less is noted in the end
_Note = list[str | int]  # the beginning of the digest, and the stamp


class Stamps:
    """What is known of the files of one collection. Any number of threads may share it."""

    def __init__(self, path: str) -> None:
        """``path`` is the collection's folder."""
        self._path = path
        self._notes = _Notes(path)
        weakref.finalize(self, self._notes.save)  # at the latest when the process ends

    def is_whole(self, name: str, size: int, digest: str, stamp: Sequence[int] = ()) -> bool:
        """Tell whether a file is what was written; its bytes are read only where its stamp is none that is known.

        What changes bytes without a trace in the file system (a failing disk) goes past this; ``verify`` reads all.

        Args:
            name: relative to the collection's folder.
            size: in bytes.
            digest: SHA-256, in hex.
            stamp: what it got when it was written; empty where that is not known.
        """
        where = os.path.join(self._path, name)
        try:
            stat = os.stat(where)
            found = stamp_from(stat)
            if stat.st_size != size:
                return False
            return found == tuple(stamp) or self._notes.has(name, digest, found) or self._look(name, digest, found)
        except OSError:
            return False

    def _look(self, name: str, digest: str, stamp: tuple[int, ...]) -> bool:
        where, begun, start = os.path.join(self._path, name), time.time_ns(), time.monotonic()
        if sha256_of_file(where) != digest:
            return False
        if stamp_from(os.stat(where)) == stamp and begun - stamp[-1] > _TICK:
            self._notes.add(name, digest, stamp, time.monotonic() - start)
        return True


class _Notes:
    """The notes, as they are on the disk and as they are going to be."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._guard = threading.Lock()
        self._kept: Mapping[str, _Note] | None = None
        self._fresh: dict[str, _Note] = {}
        self._seconds = 0.0

    def has(self, name: str, digest: str, stamp: tuple[int, ...]) -> bool:
        note = [digest[:16], *stamp]
        with self._guard:
            if self._kept is None:
                self._kept = _newest(self._path)
            return note in (self._fresh.get(name), self._kept.get(name))

    def add(self, name: str, digest: str, stamp: tuple[int, ...], seconds: float) -> None:
        with self._guard:
            self._fresh[name] = [digest[:16], *stamp]
            self._seconds += seconds
        if self._seconds > _SAVED_AFTER:
            self.save()

    def save(self) -> None:
        """Write down what is new, where that is possible."""
        with self._guard:
            if not self._fresh:
                return
            self._kept = {
                name: note
                for name, note in {**_newest(self._path), **self._fresh}.items()
                if os.path.lexists(os.path.join(self._path, name))
            }
            self._fresh, self._seconds = {}, 0.0
            for place in places(self._path):
                try:
                    _write(place, self._kept, self._path)
                    return
                except OSError:  # read-only, full, another user's: the next place, or none
                    continue


def places(path: str) -> list[str]:
    """Return where the notes of a collection may be, the best place first."""
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    own = f"{sha256(os.fsencode(os.path.abspath(path)))[:32]}.json"
    return [os.path.join(path, NOTES), os.path.join(caches, "clipsearch", "stamps", own)]


def notes_problem(path: str) -> str | None:
    """Return what is wrong with the notes that lie in a collection; None where nothing is, or where there are none."""
    where = os.path.join(path, NOTES)
    return "it is not what was written" if os.path.lexists(where) and _read(where) is None else None


def _newest(path: str) -> Mapping[str, _Note]:
    found: dict[str, _Note] = {}
    for place in reversed(places(path)):
        found |= _read(place) or {}
    return found


def _read(place: str) -> dict[str, _Note] | None:
    try:
        digest, data = read_bytes(place).split(b"\n", 1)
        document = json.loads(data) if digest.decode("ascii") == sha256(data) else {}
        return document["files"] if document["format"] == _FORMAT else None
    except Exception:  # missing, damaged, not ours to read: there are no notes then, and every file is looked at
        return None


def _write(place: str, notes: Mapping[str, _Note], path: str) -> None:
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(note)}" for name, note in sorted(notes.items()))
    data = f'{{"format": {_FORMAT}, "files": {{\n{lines}\n}}}}\n'.encode()
    if os.path.dirname(place) != path:
        os.makedirs(os.path.dirname(place), DIR_MODE, exist_ok=True)
    replace_file(place, sha256(data).encode() + b"\n" + data)
