"""The ledger: what was generated, by what, of what, one JSON object a line; only ever appended to.

Pictures may be removed and re-encoded; the ledger stays, so that a copy is recognised wherever it turns up. Prompts
are in it: it is its owner's only. A line that a crash cut short is passed over, and the next one begins afresh.
"""

import base64
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from clipsearch.generate.provenance import is_near

SCHEMA = "clipsearch.ledger/1"
MADE, REMOVED = "made", "removed"
_FILE_MODE = 0o600

Row = dict[str, Any]  # Any: JSON values


class Ledger:
    """The ledger of one collection; need not exist yet."""

    def __init__(self, path: str) -> None:
        self.path = path

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row and wait until it is on the disk.

        Raises:
            OSError: it cannot be written.
        """
        line = json.dumps({"schema": SCHEMA, **row}, ensure_ascii=True, allow_nan=False).encode() + b"\n"
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _FILE_MODE)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":  # a crash cut the last line short
                line = b"\n" + line
            written = os.write(descriptor, line)
            if written < len(line):  # the disk is full: what was written must not look like a row
                with suppress(OSError):
                    os.ftruncate(descriptor, size)
                raise OSError(28, os.strerror(28))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rows(self) -> Iterator[Row]:
        """Yield the rows, oldest first."""
        try:
            with open(self.path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return
        for line in data.split(b"\n"):
            with suppress(ValueError):
                row = json.loads(line)
                if isinstance(row, dict) and row.get("schema") == SCHEMA:
                    yield row

    def made(self) -> dict[str, Row]:
        """Return the newest row of each picture or refusal by its key, without those that were removed."""
        found: dict[str, Row] = {}
        for row in self.rows():
            key = str(row.get("key"))
            if row.get("event") == MADE:
                found.pop(key, None)
                found[key] = row
            elif row.get("event") == REMOVED:
                found.pop(key, None)
        return found

    def marks(self) -> "Marks":
        """Return how to recognise every picture that was ever made, removed ones too."""
        digests, looks = set[bytes](), list[bytes]()
        for row in self.rows():
            with suppress(ValueError, TypeError, KeyError):
                digests.add(bytes.fromhex(row["sha256"]))
                looks.append(base64.b64decode(row["look"], validate=True))
        return Marks(frozenset(digests), tuple(looks))


class Marks:
    """Digests (SHA-256) and thumbnails of generated pictures."""

    def __init__(self, digests: frozenset[bytes] = frozenset(), looks: tuple[bytes, ...] = ()) -> None:
        self.digests, self.looks = digests, looks

    def has_digest(self, digest: bytes) -> bool:
        """Tell whether a file has the very bytes of a generated picture."""
        return digest in self.digests

    def is_near(self, look: bytes) -> bool:
        """Tell whether a thumbnail is that of a generated picture."""
        return any(is_near(look, known) for known in self.looks)


def look_field(look: bytes) -> str:
    """Return a thumbnail as the ledger holds it."""
    return base64.b64encode(look).decode()
