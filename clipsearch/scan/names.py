"""What a file name says, and what the file system says of one file. Names are bytes."""

import os
import stat

from clipsearch.types import ImageRef, Skip, SkipReason, skip_reason

# By extension only: telling by content would open every file of the tree.
IMAGE_EXTENSIONS = frozenset(
    b".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .dib .tif .tiff .avif .heic .heif .hif".split()
)


def is_image_name(path: bytes) -> bool:
    """Tell whether a name has the extension of a picture, in upper or lower case."""
    return os.path.splitext(path)[1].lower() in IMAGE_EXTENSIONS


def absolute(place: bytes, base: bytes | None = None) -> bytes:
    """Return the absolute path of a place named from ``base`` (default: the current folder).

    ``a/../b`` is resolved by the file system where ``..`` occurs, since ``a`` may be a symbolic link.
    """
    joined = os.path.join(base if base is not None else os.getcwdb(), place)
    if b".." in joined.split(b"/"):
        head, tail = os.path.split(joined.rstrip(b"/"))
        return os.path.realpath(joined) if tail in (b"..", b".") else os.path.join(os.path.realpath(head), tail)
    return b"/" + os.path.normpath(joined).lstrip(b"/")


def look_at(root: bytes, path: bytes) -> ImageRef | Skip:
    """Return the reference of one candidate below ``root``, or why it cannot be an image. Opens nothing."""
    try:
        status = os.stat(os.path.join(root, path))
    except OSError as error:
        return Skip(path, skip_reason(error), error.strerror or str(error))
    except ValueError as error:  # a NUL byte, from a table
        return Skip(path, SkipReason.VANISHED, str(error))
    return from_status(root, path, status)


def from_status(root: bytes, path: bytes, status: os.stat_result) -> ImageRef | Skip:
    """Return the reference of a candidate that the file system has described."""
    if not stat.S_ISREG(status.st_mode):
        return Skip(path, SkipReason.NOT_REGULAR_FILE, f"a {_kind_of_file(status.st_mode)}, not a file")
    return ImageRef(root, path, None, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _kind_of_file(mode: int) -> str:
    kinds = {stat.S_IFDIR: "folder", stat.S_IFIFO: "named pipe", stat.S_IFSOCK: "socket"}
    return kinds.get(stat.S_IFMT(mode), "device")
