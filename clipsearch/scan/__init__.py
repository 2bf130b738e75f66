"""Room 1: where the images are.

A source is a folder, one image, a list of paths, a tar or a table. Scanning it yields, in a stable order, an
``ImageRef`` for each candidate (by its name: nothing is opened), a ``Skip`` for a candidate that cannot be one, and an
``Ignored`` for everything else. File names are bytes from here to the shard: any byte but ``/`` and NUL may occur.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol, runtime_checkable

from clipsearch.errors import SourceNotFoundError
from clipsearch.registry import Registry
from clipsearch.types import ImageRef, Skip

__all__ = ["SOURCES", "Excluder", "Holder", "Ignored", "ScanOptions", "Scanned", "Source", "open_source"]


@dataclass(frozen=True, slots=True)
class Ignored:
    """Something that is not an image by its name: counted, never a skip. ``path`` is relative to the source's root."""

    path: bytes
    why: str


Scanned = ImageRef | Skip | Ignored


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """What a source may need beside its place.

    Attributes:
        column: the column of paths or pictures, for a table.
        stdin: byte stream of paths, for a list.
        excludes: glob patterns, matched against names and relative paths, for a folder.
        exclude_dirs: absolute folders to leave out, for a folder.
    """

    column: str | None = None
    stdin: BinaryIO | None = None
    excludes: tuple[str, ...] = ()
    exclude_dirs: tuple[bytes, ...] = ()


class Source(Protocol):
    """Where images are.

    Attributes:
        kind: its name in ``SOURCES``.
        root: absolute folder that every path of the source is relative to.
        name: what a collection of it is called by default.
    """

    kind: str
    root: bytes
    name: str

    def scan(self) -> Iterator[Scanned]:
        """Yield every entry in a stable order, lazily; one bad entry is a Skip, never an exception."""
        ...

    def covers(self, path: bytes, member: bytes | None) -> bool:
        """Tell whether a full scan would have met this image if it still existed."""
        ...


@runtime_checkable
class Holder(Protocol):
    """A source that holds the bytes of its pictures in a form that only it can read."""

    def load(self, refs: Iterable[ImageRef]) -> Iterator[bytes]:
        """Yield the bytes of each picture, in the order asked for; quickest in the order of the scan."""
        ...


@runtime_checkable
class Excluder(Protocol):
    """A source that can be told to leave out some of what it would meet."""

    def is_excluded(self, path: bytes) -> bool:
        """Tell whether a picture, by its path relative to the root, is left out because somebody asked for that."""
        ...


SOURCES = Registry(
    "source kind",
    {
        "folder": "clipsearch.scan.folder:FolderSource",
        "file": "clipsearch.scan.listing:FileSource",
        "list": "clipsearch.scan.listing:ListSource",
        "tar": "clipsearch.scan.tar:TarSource",
        "table": "clipsearch.scan.table:TableSource",
        "rows": "clipsearch.scan.picture_rows:RowSource",
    },
)

_COMPRESSED_TARS = (b".tgz", b".tar.gz", b".tar.bz2", b".tar.xz", b".tar.zst", b".tbz2", b".txz")
_PARQUET = (b".parquet", b".pq")
_TABLES = (b".csv", *_PARQUET)


def open_source(
    where: str | os.PathLike[str],
    *,
    kind: str | None = None,
    column: str | None = None,
    stdin: BinaryIO | None = None,
    excludes: Sequence[str] = (),
    exclude_dirs: Sequence[bytes] = (),
) -> Source:
    """Open what a person named.

    Args:
        where: a folder, an image, a ``.tar``, a ``.csv`` or ``.parquet`` table of paths, a ``.parquet`` table of
            pictures; "-" for paths on ``stdin``.
        kind: a name of ``SOURCES``; None tells by what is there.
        column: the column of paths or pictures in a table; None looks for the usual names.
        stdin: byte stream of paths, separated by NUL or, where there is none, by newlines.
        excludes: glob patterns of names or relative paths to leave out.
        exclude_dirs: absolute folders to leave out.

    Raises:
        SourceNotFoundError: there is nothing of that name, or nothing that can be scanned.
        UnknownNameError: no source kind has that name.
    """
    place = os.fsencode(where)
    options = ScanOptions(column, stdin, tuple(excludes), tuple(exclude_dirs))
    return SOURCES.load(kind or _kind_of(place, column)).open(place, options)


def _kind_of(place: bytes, column: str | None) -> str:
    """Tell the kind of a source by what is there."""
    from clipsearch.scan.names import is_image_name

    if place == b"-":
        return "list"
    shown = os.fsdecode(place)
    try:
        mode = os.stat(place).st_mode
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise SourceNotFoundError(
            f"Nothing can be indexed at {shown!r}: {why}.\nGive a folder of pictures, a picture, a tar or a table."
        ) from None
    if stat.S_ISDIR(mode):
        return "folder"
    lower = place.lower()
    if lower.endswith(_COMPRESSED_TARS):
        raise SourceNotFoundError(
            f"{shown!r} is a compressed tar, and pictures are read straight out of an uncompressed one.\n"
            "Decompress it (gunzip, bunzip2, unxz, unzstd) and index the .tar."
        )
    if lower.endswith(b".tar"):
        return "tar"
    if lower.endswith(_PARQUET):
        from clipsearch.scan.picture_rows import picture_column

        return "table" if picture_column(place, column) is None else "rows"
    if lower.endswith(_TABLES):
        return "table"
    if is_image_name(place):
        return "file"
    raise SourceNotFoundError(
        f"{shown!r} is neither a folder, a picture, a .tar nor a .csv or .parquet table.\n"
        "Give one of these, or - for a list of paths on standard input."
    )
