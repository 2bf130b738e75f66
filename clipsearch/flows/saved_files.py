"""Files of an index as they are noted down: name, size, digest, and a stamp that spares reading them again."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clipsearch.store.files import stamp_of, stream_file
from clipsearch.store.stamps import Stamps

if TYPE_CHECKING:
    from clipsearch.index.ondisk import Write


@dataclass(frozen=True, slots=True)
class SavedFile:
    """A file of an index: name in ``index/``, size, SHA-256, and the file system's stamp when it was written."""

    name: str
    bytes: int
    sha256: str
    stamp: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Segment:
    """Exact rows: a file of ids and a file of float16 rows, ``n`` of them."""

    n: int
    ids: SavedFile
    rows: SavedFile


def stamped(folder: str, name: str, size: int, digest: str) -> SavedFile:
    """Return the entry of a file that was just put in place."""
    return SavedFile(name, size, digest, stamp_of(os.path.join(folder, name)))


def stream_to(folder: str, name: str, writing: "Callable[[Write], object]") -> SavedFile:
    """Put a file in place whose bytes come piece by piece; its digest is taken on the way."""
    with stream_file(os.path.join(folder, name)) as file:
        writing(file.write)
    return stamped(folder, name, file.bytes, file.sha256)


def is_whole(stamps: Stamps, folder: str, file: SavedFile) -> bool:
    """Tell whether a file is there and as it was written; ``folder`` is one in the collection, such as "index"."""
    return stamps.is_whole(f"{folder}/{file.name}", file.bytes, file.sha256, file.stamp)


def saved_file(document: Any) -> SavedFile:  # Any: JSON
    """Read back what ``dataclasses.asdict`` gave of a file."""
    return SavedFile(**{**document, "stamp": tuple(document["stamp"])})


def saved_segment(document: Any) -> Segment:  # Any: JSON
    """Read back what ``dataclasses.asdict`` gave of a segment."""
    return Segment(document["n"], saved_file(document["ids"]), saved_file(document["rows"]))
