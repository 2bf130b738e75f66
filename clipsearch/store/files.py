"""Files that are whole or not there: the smallest steps of the commit protocol.

A file is written beside its place as ``.<name>.tmp-<pid>``, synced, and only then given its name. The name of a
shard is never used twice, so nothing that a reader has mapped into memory is ever changed or cut short (which would
kill the reader with SIGBUS). Syncing the *directory* makes the name itself survive a power cut.
"""

import errno
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from clipsearch.errors import DataError, InputError, LockedError, StorageError

FILE_MODE = 0o600  # a collection tells where pictures lie and where they were taken: it is its owner's only
DIR_MODE = 0o700
LOCK = ".lock"
HOLDER = ".lock-holder"
CURRENT = "CURRENT"  # names what is in force, in the collection's folder and in those of derived data
_TMP = re.compile(r"\..+\.tmp-\d+")


def sha256(data: bytes) -> str:
    """Return the SHA-256 of bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: str) -> str:
    """Return the SHA-256 of a file, in hex, reading 1 MiB at a time."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def stamp_from(stat: os.stat_result) -> tuple[int, ...]:
    """Return what changes whenever a file is changed, moved here or put in another's place."""
    return stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns


def stamp_of(path: str) -> tuple[int, ...]:
    """Return the stamp of a file."""
    return stamp_from(os.stat(path))


def read_bytes(path: str) -> bytes:
    """Read a whole file; what the user may not read is an InputError.

    Raises:
        FileNotFoundError: it is not there.
        InputError: it may not be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read()
    except PermissionError as problem:
        raise InputError(
            f"{path} may not be read by this user.\nAsk its owner, or run as a user who may read it."
        ) from problem


def write_synced(path: str, data: bytes, flags: int = os.O_TRUNC) -> None:
    """Write a file and wait until its bytes are on the disk. The name is not safe until its folder is synced."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | flags, FILE_MODE)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_dir(path: str) -> None:
    """Wait until the names in a folder are on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _beside(path: str, data: bytes) -> Iterator[str]:
    """Write data to a temporary name beside its place; what is left of it is removed, if the disk still lets us."""
    tmp = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.tmp-{os.getpid()}")
    try:
        write_synced(tmp, data)
        yield tmp
    finally:
        with suppress(OSError):
            os.unlink(tmp)


def replace_file(path: str, data: bytes) -> None:
    """Put a file in place in one step, over a former one. The folder is the caller's to sync."""
    with _beside(path, data) as tmp:
        os.replace(tmp, path)


def link_file(path: str, data: bytes) -> None:
    """Put a file in place in one step, only where there is none. The folder is the caller's to sync.

    Raises:
        FileExistsError: the name is taken: another writer was faster.
    """
    with _beside(path, data) as tmp:
        try:
            os.link(tmp, path)
        except OSError as problem:
            if problem.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
                raise
            # exFAT and some network drives have no hard links. A torn file under the final name is harmless:
            # CURRENT does not name it yet, and the next writer removes it.
            write_synced(path, data, os.O_EXCL)


class StreamedFile:
    """A file that is written piece by piece, its size and SHA-256 kept on the way."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.bytes = 0

    @property
    def sha256(self) -> str:
        """SHA-256 of what was written so far, in hex."""
        return self._digest.hexdigest()

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        self._file.write(data)
        self._digest.update(data)
        self.bytes += len(data)


def pointer_to(name: str, data: bytes) -> bytes:
    """Return what CURRENT says of a file: its name and the digest of its content."""
    return f"{name} sha256:{sha256(data)}\n".encode()


def put_in_force(folder: str, name: str, data: bytes) -> None:
    """Write the record of derived data and make ``CURRENT`` of its folder name it; all it names is written already."""
    replace_file(os.path.join(folder, name), data)
    sync_dir(folder)
    replace_file(os.path.join(folder, CURRENT), pointer_to(name, data))
    sync_dir(folder)


def derived_pointer(folder: str) -> bytes | None:
    """Return what ``CURRENT`` of a folder of derived data says; None where it cannot be read, for it can be spared."""
    try:
        with open(os.path.join(folder, CURRENT), "rb") as file:
            return file.read()
    except OSError:
        return None


@contextmanager
def stream_file(path: str) -> Iterator[StreamedFile]:
    """Write a file too large for memory beside its place; it is synced and gets its name when the block ends well.

    The folder is the caller's to sync.
    """
    tmp = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.tmp-{os.getpid()}")
    fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_TRUNC, FILE_MODE)
    try:
        with open(fd, "wb") as file:
            yield StreamedFile(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(tmp, path)
    finally:
        with suppress(OSError):
            os.unlink(tmp)


def is_temporary(name: str) -> bool:
    """Tell whether a file name is one that only an unfinished write leaves behind."""
    return _TMP.fullmatch(name) is not None


@contextmanager
def storage_errors(path: str) -> Iterator[None]:
    """Translate what the operating system says while a collection is written.

    Raises:
        StorageError: the disk is full, read-only or broken.
    """
    try:
        yield
    except OSError as problem:
        why = "the disk is full" if problem.errno in (errno.ENOSPC, errno.EDQUOT) else str(problem)
        raise StorageError(
            f"The collection {path} could not be written: {why}.\n"
            "Everything committed before is kept. Make room or allow writing there, then run the command again."
        ) from problem


class WriterLock:
    """The one writer's lock, free again the moment its holder dies. Readers take none."""

    def __init__(self, collection: str) -> None:
        self._collection = collection
        self._holder = os.path.join(collection, HOLDER)
        self._lock: object | None = None

    def acquire(self, wait: bool | float) -> None:
        """Take the lock, or wait for it, for so many seconds at most where ``wait`` is a number.

        Raises:
            LockedError: another writer is at work, in this process or in another one.
        """
        from filelock import FileLock, Timeout  # 40 ms that a search has no use for

        lock = FileLock(os.path.join(self._collection, LOCK), mode=FILE_MODE, thread_local=False)
        try:
            lock.acquire(timeout=-1 if wait is True else float(wait))
        except Timeout as problem:
            raise self._refusal() from problem
        except RuntimeError as problem:  # filelock saw that this very thread holds it: waiting would never end
            raise self._refusal() from problem
        self._lock = lock
        # Only a hint for the message above; the lock itself is the kernel's.
        with suppress(OSError):
            replace_file(self._holder, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Give the lock back."""
        with suppress(OSError):
            os.unlink(self._holder)
        if self._lock is not None:
            self._lock.release()  # pyright: ignore[reportAttributeAccessIssue]
            self._lock = None

    def _refusal(self) -> DataError:
        who = "another writer"
        with suppress(OSError, ValueError):
            pid = int(read_bytes(self._holder))
            who = "this process" if pid == os.getpid() else f"process {pid}"
        return LockedError(
            f"The collection {self._collection} is being written by {who}.\n"
            "Wait until it has finished (--wait does so), or stop it; searching goes on meanwhile."
        )
