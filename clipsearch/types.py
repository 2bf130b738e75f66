"""Frozen values that cross a room's border, with shapes and units.

Rooms do not know each other; they hand these to the corridors (``flows/``). Array results stay arrays:
``SearchResult.ids`` and ``.scores`` cost nothing, ``Hit`` objects are built only when somebody iterates.
"""

import errno
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Halves = NDArray[np.float16]
Ints = NDArray[np.int64]
Pixels = NDArray[np.uint8]


class SkipReason(StrEnum):
    """Why a file was left out: the closed list."""

    EMPTY = "empty"
    UNIDENTIFIED = "unidentified"
    UNSUPPORTED_FORMAT = "unsupported_format"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_LARGE_FILE = "too_large_file"
    DECODE_TIMEOUT = "decode_timeout"
    DECODE_MEMORY = "decode_memory"
    DECODE_CRASH = "decode_crash"
    UNREADABLE = "unreadable"
    NOT_REGULAR_FILE = "not_regular_file"
    SYMLINK_LOOP = "symlink_loop"
    VANISHED = "vanished"
    CHANGED_WHILE_READING = "changed_while_reading"
    PATH_TOO_LONG = "path_too_long"
    IO_ERROR = "io_error"
    NON_FINITE = "non_finite"
    ZERO_EMBEDDING = "zero_embedding"
    GENERATED = "generated"  # a whole picture, no photo: counted as ignored, never as skipped


_REASONS = {
    errno.ENOENT: SkipReason.VANISHED,
    errno.ENOTDIR: SkipReason.VANISHED,
    errno.EACCES: SkipReason.UNREADABLE,
    errno.EPERM: SkipReason.UNREADABLE,
    errno.ELOOP: SkipReason.SYMLINK_LOOP,
    errno.ENAMETOOLONG: SkipReason.PATH_TOO_LONG,
    errno.EISDIR: SkipReason.NOT_REGULAR_FILE,
    errno.ENXIO: SkipReason.NOT_REGULAR_FILE,
}


def skip_reason(error: OSError) -> SkipReason:
    """Return the reason that stands for what the file system said."""
    return _REASONS.get(error.errno or 0, SkipReason.IO_ERROR)


class Verdict(StrEnum):
    """How sure an answer is; ``uncalibrated`` where no calibration fits the collection and the query."""

    MATCH = "match"
    WEAK = "weak"
    NONE = "none"
    UNCALIBRATED = "uncalibrated"


def display_path(path: bytes, member: bytes | None = None) -> str:
    """Return a printable form of a file name: UTF-8, other bytes escaped; tar members behind ``::``."""
    text = path.decode("utf-8", "backslashreplace")
    return text if member is None else f"{text}::{member.decode('utf-8', 'backslashreplace')}"


@dataclass(frozen=True, slots=True)
class ImageRef:
    """Where one image is, and what the file system said of it when it was seen.

    Attributes:
        root: absolute folder (``os.fsencode``) that ``path`` is relative to.
        path: path of the file relative to ``root``; of the tar, for a member.
        member: name inside the tar, or None for a plain file.
        size: bytes of the file or member.
        mtime_ns: modification time in nanoseconds since the epoch; a member has its tar's.
        ctime_ns: inode change time in nanoseconds; catches edits that keep size and mtime. A member has its tar's.
        offset: position of the member's first byte in the tar; 0 for a plain file.
    """

    root: bytes
    path: bytes
    member: bytes | None
    size: int
    mtime_ns: int
    ctime_ns: int
    offset: int = 0

    @property
    def key(self) -> tuple[bytes, bytes | None]:
        """Identify the image below its root."""
        return self.path, self.member

    @property
    def display(self) -> str:
        """Return the relative path as text."""
        return display_path(self.path, self.member)


@dataclass(frozen=True, slots=True)
class Skip:
    """A file left out: its path relative to the root, why, and the detail a person needs."""

    path: bytes
    reason: SkipReason
    detail: str = ""
    member: bytes | None = None

    @property
    def display(self) -> str:
        """Return the path as text."""
        return display_path(self.path, self.member)


@dataclass(frozen=True, slots=True)
class ImageMetadata:
    """What a file says of its picture. ``width`` and ``height`` are upright pixels (EXIF orientation applied).

    ``generated`` is what in the file says that a machine made the picture, or None. ``phash`` is the perceptual hash of
    its pixels as a signed 64-bit number, 0 where that says nothing, None where nobody made one.
    """

    width: int
    height: int
    format: str
    taken: datetime | None = None
    camera: str | None = None
    lens: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    generated: str | None = None
    phash: int | None = None


@dataclass(frozen=True, slots=True)
class Decoded:
    """An image ready for the encoder: pixels (S, S, 3) uint8 RGB, upright; SHA-256 of the file's bytes (32 bytes)."""

    ref: ImageRef
    content_hash: bytes
    metadata: ImageMetadata
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class EmbeddingBlock:
    """Rows of a collection: ids (B,) int64, embeddings (B, D) float16 or float32 of unit L2 norm."""

    ids: Ints
    embeddings: NDArray[Any]  # float16 from a sidecar, float32 from an encoder


@dataclass(frozen=True, slots=True)
class Neighbors:
    """Nearest rows: ids (Q, k) int64 padded with -1, scores (Q, k) float32 (cosine, best first) padded with -inf."""

    ids: Ints
    scores: Floats


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer: rank from 1, row id, path on this machine, score (cosine).

    Paths are ``os.fsdecode``d; a tar member stands behind ``::``. For captions (``target="text"``) ``text`` is the
    caption and ``path`` its image's path, "" for a text without an image. ``metadata`` has what is known of the picture
    by the names of ``Collection.columns``, columns that were added (tags, answers) too; what is not known is left out.
    """

    rank: int
    id: int
    path: str
    score: float
    text: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)  # Any: column values as read from the shard


@dataclass(frozen=True, slots=True)
class Reordering:
    """Why a hit stands where it stands, where rungs put the nearest pictures into a new order.

    Attributes:
        plain_rank: its rank by score alone, from 1.
        terms: what each rung added to its score, by name, more (or less, if negative) than to the middle one of the
            nearest pictures.
    """

    plain_rank: int
    terms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class GeneratedImage:
    """A picture that a model drew. Never a hit: it has no row, no rank, and no score that compares with a hit's.

    Attributes:
        path: where it lies, ending in ``.generated.png``; None where it could not be kept.
        prompt: what was asked for.
        seed: of this picture.
        generator: name of the model.
        licence: of the model's weights.
        weights: digest of the weights, or "" for a generator without.
        sha256: of the PNG, in hex.
        parent: SHA-256 (hex) of the picture that it was made of, or None.
        tried: pictures drawn, of which this is the best.
        fit: log-probability of the prompt against contrasting captions, at most 0; only to rank attempts.
        p_value: chance that a picture with nothing of the prompt fits as well.
        cached: whether it was drawn by an earlier request.
        seconds: that drawing took, loading included.
        notes: sentences a person should read.
        png: the file, which says of itself that it is generated.
    """

    path: str | None
    prompt: str
    seed: int
    generator: str
    licence: str
    weights: str
    sha256: str
    parent: str | None
    tried: int
    fit: float
    p_value: float
    cached: bool
    seconds: float
    notes: tuple[str, ...] = ()
    png: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class SearchResult(Sequence[Hit]):
    """The answer to one query: hits, best first, and how sure it is.

    Attributes:
        ids: (n,) int64 row ids, best first.
        scores: (n,) float32 cosine scores; where ``reordered`` is not empty, they do not fall from hit to hit.
        verdict: how sure the answer is; ``uncalibrated`` where nothing is known.
        p_value: chance of so good a score when nothing matches, or None when uncalibrated.
        levels: what the verdicts stand for: the share of queries without an answer that get ``match``, and of
            queries with one that get ``none``, at most; empty when uncalibrated.
        why: why the answer is uncalibrated, or None.
        generated: pictures that were drawn because nothing matched; not among the hits.
        target: "image" or "text".
        notes: sentences a person should read, such as a language that the model does not cover.
        reordered: for each hit what changed its rank; empty where the order is that of the scores.
        folded: for each hit the row ids that were folded into it, best first; empty where nothing was to be folded.
    """

    ids: Ints
    scores: Floats
    rows: Sequence[Hit]
    verdict: Verdict = Verdict.UNCALIBRATED
    p_value: float | None = None
    target: str = "image"
    notes: tuple[str, ...] = ()
    levels: Mapping[str, float] = field(default_factory=dict)
    why: str | None = None
    generated: tuple[GeneratedImage, ...] = ()
    reordered: tuple[Reordering, ...] = ()
    folded: tuple[tuple[int, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Any) -> Any:  # Any: int gives a Hit, slice a list, as Sequence says
        return self.rows[index]

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.rows)

    @property
    def plain(self) -> Sequence[Hit]:
        """The hits without columns that were added later, such as tags: for who shows paths and scores only."""
        return getattr(self.rows, "plain", self.rows)

    @property
    def hits(self) -> list[Hit]:
        """Build the hits as objects."""
        return list(self.rows)
