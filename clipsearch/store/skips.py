"""The list of files left out, one JSON object a line: what became of each, and what the file system said of it then.

A broken file is as broken tomorrow. With its *stamp* (size and times) the next run knows it without decoding it; ``by``
names the decoder, for another one may read what this one could not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from clipsearch.store.codec import Json, bytes_from_json, bytes_to_json, dumps
from clipsearch.store.schema import clean_text
from clipsearch.types import Skip, SkipReason

Stamp = tuple[int, int, int]  # size in bytes, mtime_ns, ctime_ns


@dataclass(frozen=True, slots=True)
class KnownSkip(Skip):
    """A file left out, with its path relative to one of the collection's roots.

    Attributes:
        root: from ``Writer.root_id``.
        stamp: size, mtime_ns and ctime_ns of the file that could not be decoded; None where nothing was decoded.
        by: what could not decode it; "" where nothing was decoded.
    """

    root: int = 0
    stamp: Stamp | None = None
    by: str = ""


def to_lines(skips: Sequence[Skip]) -> bytes:
    """Return a list of files left out as JSON Lines."""
    return b"".join(dumps(_to_json(skip)) + b"\n" for skip in skips)


def from_lines(data: bytes) -> list[Skip]:
    """Return what ``to_lines`` was given; raises ValueError, KeyError or TypeError where it was not."""
    from json import loads

    return [_from_json(loads(line)) for line in data.splitlines()]


def _to_json(skip: Skip) -> Json:
    row: Json = {
        "path": bytes_to_json(skip.path),
        "member": None if skip.member is None else bytes_to_json(skip.member),
        "reason": str(skip.reason),
        "detail": clean_text(skip.detail),
    }
    if isinstance(skip, KnownSkip):
        row |= {"root": skip.root}
        row |= {} if skip.stamp is None else {"stamp": skip.stamp, "by": skip.by}
    return row


def _from_json(row: Json) -> Skip:
    path = bytes_from_json(row["path"])
    member = None if row["member"] is None else bytes_from_json(row["member"])
    reason = SkipReason(row["reason"])
    if "root" not in row:  # of an import, or of an older clipsearch
        return Skip(path, reason, row["detail"], member)
    stamp = row.get("stamp")
    known = None if stamp is None else (int(stamp[0]), int(stamp[1]), int(stamp[2]))
    return KnownSkip(path, reason, row["detail"], member, int(row["root"]), known, str(row.get("by", "")))
