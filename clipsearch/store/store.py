"""A collection's folder: make it, open it, hand out its reader and its writer."""

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from clipsearch.errors import CorruptShardError, InputError
from clipsearch.store.files import CURRENT, DIR_MODE, HOLDER, LOCK, WriterLock, is_temporary, storage_errors, sync_dir
from clipsearch.store.manifest import (
    MANIFESTS,
    Manifest,
    file_name,
    has_versions,
    publish,
    read_current,
    read_pointer,
)
from clipsearch.store.naming import FOLDERS, remove_leftovers
from clipsearch.store.reader import Opened, Snapshot
from clipsearch.store.schema import FORMAT_VERSION
from clipsearch.store.stamps import Stamps
from clipsearch.store.writer import Writer

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]


class Store:
    """A collection on disk. Reading takes no lock and changes nothing (see ``stamps.py``); one writer at a time."""

    def __init__(self, path: str) -> None:
        """Use ``create`` or ``open``."""
        self.path = path
        self._guard = threading.Lock()
        self._pointer: bytes | None = None
        self._snapshot: Snapshot | None = None
        self._opened: Opened = {}
        self._stamps = Stamps(path)

    @classmethod
    def create(cls, path: Path, encoder: Mapping[str, Any], dim: int) -> "Store":
        """Make an empty collection.

        Args:
            path: the folder to make; its parents are made too.
            encoder: what is to be known of the encoder, as JSON values; "name" goes into every shard too.
            dim: numbers in an embedding.

        Raises:
            InputError: there is a collection already, or a folder with something else in it.
            StorageError: the folder cannot be written.
        """
        where = _absolute(path)
        if dim < 1:
            raise ValueError(f"dim is {dim}; an embedding has at least 1 number.")
        with storage_errors(where):
            _refuse_other_content(where)
            os.makedirs(os.path.dirname(where), exist_ok=True)
            os.makedirs(where, DIR_MODE, exist_ok=True)
            with _locked(where, wait=False):
                _refuse_other_content(where)  # another process may have been at it
                _make(where, _first_manifest(encoder, dim))
        return cls(where)

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Open a collection and look at the sizes of its files.

        Raises:
            CollectionNotFoundError: there is none.
            CorruptShardError: a file is damaged.
            FormatVersionError: a newer clipsearch wrote it.
        """
        store = cls(_absolute(path))
        store.snapshot()
        return store

    @classmethod
    def unmake(cls, path: Path) -> bool:
        """Remove a collection in which nothing was ever stored, and say whether that was so; any other stays.

        Its folder stays, empty: whether that was there before the collection, only the caller knows.

        Raises:
            CollectionNotFoundError: there is none.
            LockedError: a writer is at work.
            StorageError: it cannot be removed.
        """
        where = _absolute(path)
        read_current(where)  # before a lock file is made where there is no collection
        with storage_errors(where), _locked(where, wait=False):
            manifest = read_current(where)[1]
            if manifest.version != 1 or manifest.files or _other_content(where):
                return False
            os.unlink(os.path.join(where, CURRENT))  # first: what is left after a kill is what a killed create leaves
            os.unlink(os.path.join(where, MANIFESTS, file_name(1)))
            remove_leftovers(where, 0)
            for folder in FOLDERS:
                with suppress(FileNotFoundError):
                    os.rmdir(os.path.join(where, folder))
            os.unlink(os.path.join(where, LOCK))
        return True

    def snapshot(self) -> Snapshot:
        """Return the newest committed version; the same object while there is no newer one.

        Raises:
            CollectionNotFoundError: the collection is gone.
            CorruptShardError: a file is damaged.
        """
        with self._guard:
            while self._snapshot is None or read_pointer(self.path) != self._pointer:
                pointer = read_pointer(self.path)
                try:
                    self._pointer, manifest = read_current(self.path)
                    self._snapshot = Snapshot(self.path, manifest, self._opened, self._stamps)
                except CorruptShardError:
                    if read_pointer(self.path) == pointer:
                        raise
                    # compacted meanwhile: what was looked for went with its version
            return self._snapshot

    @contextmanager
    def writer(self, wait: bool | float = False) -> Iterator[Writer]:
        """Be the one writer for the length of a ``with`` block; what a dead writer left is removed first.

        Args:
            wait: wait for another writer instead of raising, for so many seconds at most where it is a number.

        Raises:
            LockedError: another writer is at work.
            StorageError: the collection cannot be written.
        """
        read_current(self.path)  # before a lock file is made where there is no collection
        with storage_errors(self.path):
            lock = _locked(self.path, wait)
            lock.__enter__()
        try:
            with storage_errors(self.path):
                writer = Writer(self.path, self.snapshot)
            try:
                yield writer
            finally:
                writer.close()
        finally:
            lock.__exit__(None, None, None)


def _absolute(path: Path) -> str:
    return os.path.abspath(os.fsdecode(path))


@contextmanager
def _locked(path: str, wait: bool | float) -> Iterator[None]:
    lock = WriterLock(path)
    lock.acquire(wait)
    try:
        yield
    finally:
        lock.release()


def _refuse_other_content(path: str) -> None:
    """Allow a folder that is not there, is empty, or holds what a killed ``create`` left; nothing else."""
    if not os.path.lexists(path):
        home = os.path.dirname(path)
        while not os.path.lexists(home):
            home = os.path.dirname(home)
        if not os.path.isdir(home):
            raise InputError(f"{home} is a file, so no collection can be made below it. Choose another place.")
        return
    if not os.path.isdir(path):
        raise InputError(f"{path} is a file; a collection is a folder. Choose another name.")
    if read_pointer(path) is not None or has_versions(path):
        raise InputError(f"There is a collection at {path} already.\nOpen it, or choose another name.")
    other = _other_content(path)
    if other:
        raise InputError(
            f"The folder {path} holds something else ({other[0]!r}).\n"
            "Choose a name for the collection that is not taken."
        )


def _other_content(path: str) -> list[str]:
    """Return the names in a folder that no collection without content has."""
    ours = {*FOLDERS, LOCK, HOLDER, CURRENT}
    return [name for name in sorted(os.listdir(path)) if name not in ours and not is_temporary(name)]


def _first_manifest(encoder: Mapping[str, Any], dim: int) -> Manifest:
    try:
        described = json.loads(json.dumps(dict(encoder), allow_nan=False))
    except TypeError as problem:
        raise ValueError(f"The encoder's description is not JSON: {problem}") from problem
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Manifest(
        version=1,
        format_version=FORMAT_VERSION,
        encoder=described,
        dim=dim,
        next_id=0,
        roots=(),
        files=(),
        counts={"images": 0, "texts": 0, "deleted": 0},
        created=now,
        committed=now,
        previous=None,
    )


def _make(path: str, manifest: Manifest) -> None:
    remove_leftovers(path, 0)
    for folder in FOLDERS:
        os.makedirs(os.path.join(path, folder), DIR_MODE, exist_ok=True)
    publish(path, manifest)
    sync_dir(os.path.dirname(path))
