"""Read a file's bytes once, so that what is hashed is what is decoded."""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from clipsearch.decode.limits import DecodeFailure
from clipsearch.types import ImageRef, SkipReason, skip_reason

_PIECE = 1 << 20
_MAX_READ = 1 << 30


def read_bytes(ref: ImageRef, max_bytes: int) -> bytes:
    """Return the bytes of a file or of a tar's member.

    Raises:
        DecodeFailure: it cannot be read, is too large, or changed meanwhile.
    """
    with _opened(ref, max_bytes) as (descriptor, size):
        return b"".join(_pieces(descriptor, ref.offset, size, _MAX_READ))


def hash_bytes(ref: ImageRef, max_bytes: int) -> bytes:
    """Return the SHA-256 (32 bytes) of a file or member, without holding it in memory.

    Raises:
        DecodeFailure: it cannot be read, is too large, or changed meanwhile.
    """
    digest = hashlib.sha256()
    with _opened(ref, max_bytes) as (descriptor, size):
        for piece in _pieces(descriptor, ref.offset, size, _PIECE):
            digest.update(piece)
    return digest.digest()


@contextmanager
def _opened(ref: ImageRef, max_bytes: int) -> Iterator[tuple[int, int]]:
    """Open the file of a reference; yields its descriptor and the bytes to read.

    ``O_NONBLOCK`` because opening a named pipe would otherwise wait for a writer.
    """
    try:
        descriptor = os.open(os.path.join(ref.root, ref.path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                raise DecodeFailure(SkipReason.NOT_REGULAR_FILE, "not a regular file")
            if ref.member is not None and _times(before) != (ref.mtime_ns, ref.ctime_ns):
                raise DecodeFailure(SkipReason.CHANGED_WHILE_READING, "the tar changed since it was scanned")
            size = before.st_size if ref.member is None else ref.size
            if size > max_bytes:
                raise DecodeFailure(SkipReason.TOO_LARGE_FILE, f"{size:,} bytes; at most {max_bytes:,} are read")
            yield descriptor, size
            after = os.fstat(descriptor)
            if (before.st_size, *_times(before)) != (after.st_size, *_times(after)):
                raise DecodeFailure(SkipReason.CHANGED_WHILE_READING, "the file changed while it was read")
        finally:
            os.close(descriptor)
    except OSError as error:
        raise DecodeFailure(skip_reason(error), error.strerror or str(error)) from error
    except ValueError as error:  # a NUL byte in the path
        raise DecodeFailure(SkipReason.VANISHED, str(error)) from error


def _times(status: os.stat_result) -> tuple[int, int]:
    return status.st_mtime_ns, status.st_ctime_ns


def _pieces(descriptor: int, offset: int, size: int, piece: int) -> Iterator[bytes]:
    end = offset + size
    while offset < end:
        data = os.pread(descriptor, min(piece, end - offset), offset)
        if not data:
            raise DecodeFailure(SkipReason.CHANGED_WHILE_READING, "the file became shorter while it was read")
        offset += len(data)
        yield data
