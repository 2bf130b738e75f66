"""The metadata of many shards in one file: what filters and SQL read, and where a row is looked up.

A collection grows by a shard a commit, so a million pictures are a thousand Parquet files, and reading one column out
of all of them takes seconds. After an index run the columns that a person can name (``schema.VISIBLE``) are therefore
written once more, uncompressed, as Arrow IPC, to be mapped into memory. In the collection's folder ``columns/`` lie,
under names that are never used twice:

- ``images-000012-1f2e3d4c.arrow``   a *pack*: the rows, dead ones too, of some shards, in the manifest's order
- ``p000012-1f2e3d4c.json``          the *record*: the packs with size and SHA-256, and the shards that each covers

The file ``columns/CURRENT`` names the record in force. All of this is derived: what is missing, damaged or not
covered yet is read from the shards themselves. This module knows the record, with json alone; ``metadata.py`` reads
and writes the packs, ``packing.py`` decides what is packed.
"""

import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from clipsearch.store.files import (
    CURRENT,
    HOLDER,
    LOCK,
    derived_pointer,
    put_in_force,
    read_bytes,
    sha256,
    sha256_of_file,
)
from clipsearch.store.stamps import Stamps

FOLDER = "columns"
ADDED = "added"  # a folder in it: columns that were added later; they are in the manifest
FORMAT = 1
_POINTER = re.compile(rb"(\S+\.json) sha256:([0-9a-f]{64})\n")


@dataclass(frozen=True, slots=True)
class Covered:
    """A shard in a pack: name, rows, and its smallest and largest row id."""

    name: str
    rows: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Pack:
    """A file of columns.

    Attributes:
        name: in ``columns/``.
        kind: "images" or "texts".
        columns: what is in it.
        shards: whose rows they are, in this order.
        bytes: its size; ``sha256`` of its content, in hex.
        stamp: the file system's, when it was written; the same stamp spares a look at the digest.
    """

    name: str
    kind: str
    columns: tuple[str, ...]
    shards: tuple[Covered, ...]
    bytes: int
    sha256: str
    stamp: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Rows in it."""
        return sum(shard.rows for shard in self.shards)

    def where(self, path: str) -> str:
        """Return the path of the file in the collection at ``path``."""
        return os.path.join(path, FOLDER, self.name)

    def is_whole(self, stamps: Stamps) -> bool:
        """Tell whether the file is what was written, as far as stamps tell."""
        return stamps.is_whole(f"{FOLDER}/{self.name}", self.bytes, self.sha256, self.stamp)


def read_packs(path: str) -> tuple[Pack, ...]:
    """Return the packs in force in the collection at ``path``; none where the record is missing or damaged."""
    match = _POINTER.fullmatch(derived_pointer(os.path.join(path, FOLDER)) or b"")
    if match is None:
        return ()
    try:
        data = read_bytes(os.path.join(path, FOLDER, match[1].decode()))
        document = json.loads(data)
        if sha256(data) != match[2].decode() or document["format"] != FORMAT:
            return ()
        return tuple(_pack(pack) for pack in document["packs"])
    except (OSError, ValueError, TypeError, KeyError):
        return ()


def pointed_record(path: str) -> str | None:
    """Return the name of the record in force where it is whole, else None."""
    match = _POINTER.fullmatch(derived_pointer(os.path.join(path, FOLDER)) or b"")
    try:
        whole = match is not None and sha256_of_file(os.path.join(path, FOLDER, match[1].decode())) == match[2].decode()
    except (OSError, ValueError):
        return None
    return match[1].decode() if match is not None and whole else None


def publish_packs(path: str, stem: str, packs: Sequence[Pack]) -> None:
    """Put packs in force, and remove the files of those before; who has mapped one keeps it."""
    folder = os.path.join(path, FOLDER)
    document = {"format": FORMAT, "packs": [{**asdict(p), "shards": [_row(s) for s in p.shards]} for p in packs]}
    put_in_force(folder, f"{stem}.json", json.dumps(document).encode() + b"\n")
    remove_others(path, f"{stem}.json", packs)


def remove_others(path: str, record: str, packs: Sequence[Pack]) -> None:
    """Remove what is none of these packs nor their record: those before, and what a stopped run left."""
    folder = os.path.join(path, FOLDER)
    kept = {record, CURRENT, LOCK, HOLDER, *(pack.name for pack in packs)}
    for name in os.listdir(folder):
        if name not in kept and name != ADDED:
            with suppress(OSError):
                os.unlink(os.path.join(folder, name))


def _row(shard: Covered) -> list[Any]:  # Any: a text and numbers
    return [shard.name, shard.rows, shard.first, shard.last]


def _pack(document: dict[str, Any]) -> Pack:  # Any: JSON
    shards = tuple(Covered(*shard) for shard in document["shards"])
    columns, stamp = tuple(document["columns"]), tuple(document["stamp"])
    return Pack(**{**document, "columns": columns, "shards": shards, "stamp": stamp})
