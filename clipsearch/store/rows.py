"""Rows as they go in and come out: values of plain Python types, one class a direction.

``ImageRow`` and ``TextRow`` are what a writer is given, ``KnownFile`` and ``KnownText`` what a next run needs to know
of rows stored before. Row ids are stable int64 numbers that images and texts share; none is given out twice.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from numpy.typing import NDArray

Embedding = NDArray[Any]  # (D,) float16 or float32 of unit L2 norm; stored as float16


@dataclass(slots=True, eq=False)
class ImageRow:
    """One image to store.

    Attributes:
        id: from ``Writer.new_ids``.
        root: from ``Writer.root_id``.
        path: path of the file below the root, any bytes; of the tar, for a member.
        member: name inside the tar, or None.
        size: bytes.
        mtime_ns: modification time in nanoseconds since the epoch.
        ctime_ns: inode change time in nanoseconds.
        content_hash: SHA-256 of the file's bytes (32 bytes).
        width: upright pixels.
        height: upright pixels.
        format: such as "jpeg".
        taken: local time without a time zone, or None.
        camera: maker and model, or None.
        lens: name, or None.
        latitude: degrees north, or None.
        longitude: degrees east, or None.
        embedding: (D,) finite.
        generated: True for a picture that a generator made, else None.
        phash: perceptual hash, signed 64 bits; 0 where it says nothing, None where nobody made one.
    """

    id: int
    root: int
    path: bytes
    member: bytes | None
    size: int
    mtime_ns: int
    ctime_ns: int
    content_hash: bytes
    width: int
    height: int
    format: str
    taken: datetime | None
    camera: str | None
    lens: str | None
    latitude: float | None
    longitude: float | None
    embedding: Embedding
    generated: bool | None = None
    phash: int | None = None


@dataclass(slots=True, eq=False)
class TextRow:
    """One text (caption) to store.

    Attributes:
        id: from ``Writer.new_ids``.
        image_id: row id of the image it tells of, or None.
        text: the caption.
        source: the image as the caption file names it, any bytes.
        embedding: (D,) finite.
        origins: the sources that said it, a NUL between; None where that is not known.
    """

    id: int
    image_id: int | None
    text: str
    source: bytes
    embedding: Embedding
    origins: bytes | None = None


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A stored, live image: enough to tell whether the file changed, and whether its bytes are known."""

    id: int
    root: int
    path: bytes
    member: bytes | None
    size: int
    mtime_ns: int
    ctime_ns: int
    content_hash: bytes


@dataclass(frozen=True, slots=True)
class KnownText:
    """A stored, live text and the image it belongs to."""

    id: int
    image_id: int | None
    source: bytes
    text: str
    origins: bytes | None = None
