"""The ledger: what was generated, by what, of what, one JSON object a line; only ever appended to.

Pictures may be removed and re-encoded; the ledger stays, so that a copy is recognised wherever it turns up. Prompts
are in it: it is its owner's only. A line that a crash cut short is passed over, and the next one begins afresh.

Beside it lies ``ledger.check``: how many bytes the ledger had after the last row, and their SHA-256. A longer ledger
is no damage: the process died before it could say so.
"""

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from clipsearch.generate.provenance import is_near

SCHEMA = "clipsearch.ledger/1"
MADE, REMOVED = "made", "removed"
_FILE_MODE = 0o600
_CHECK = re.compile(r"(\d+) sha256:([0-9a-f]{64}) ([0-9a-f]{16})\n")

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
        with suppress(OSError):  # the check before goes on being true of what it covers
            if self.problem() is None:
                self.note()

    @property
    def check_path(self) -> str:
        """Where size and digest stand."""
        return os.path.splitext(self.path)[0] + ".check"

    def note(self) -> None:
        """Write down size and digest of the ledger as it is.

        Raises:
            OSError: it cannot be written.
        """
        with open(self.path, "rb") as file:
            data = file.read()
        said = f"{len(data)} sha256:{hashlib.sha256(data).hexdigest()}"
        beside = f"{os.path.dirname(self.check_path)}/.{os.path.basename(self.check_path)}.tmp-{os.getpid()}"
        with open(beside, "w", encoding="ascii", opener=lambda name, flags: os.open(name, flags, _FILE_MODE)) as file:
            file.write(f"{said} {_short(said)}\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, self.check_path)

    def keep_readable(self) -> None:
        """Write the ledger again with the rows that can be read, and note its digest.

        Raises:
            OSError: it cannot be written.
        """
        lines = [line + b"\n" for line in (_content(self.path) or b"").split(b"\n") if _is_row(line)]
        beside = f"{os.path.dirname(self.path)}/.{os.path.basename(self.path)}.tmp-{os.getpid()}"
        with open(beside, "wb", opener=lambda name, flags: os.open(name, flags, _FILE_MODE)) as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, self.path)
        self.note()

    def problem(self) -> tuple[str, str] | None:
        """Return the damaged file, the ledger or its check, and what is wrong; None where both are whole.

        A ledger without a check, as older versions left it, is looked at line by line only.

        Raises:
            OSError: a file cannot be read.
        """
        data, noted = _content(self.path), _content(self.check_path)
        if noted is None and data is None:
            return None
        covered = 0
        if noted is not None:
            match = _CHECK.fullmatch(noted.decode("latin-1"))
            if match is None or match[3] != _short(f"{match[1]} sha256:{match[2]}"):
                return self.check_path, "it is not what was written"
            covered = int(match[1])
            if data is None or hashlib.sha256(data[:covered]).hexdigest() != match[2] or len(data) < covered:
                return self.path, "it is missing" if data is None else "its digest differs"
        lines = (data or b"")[covered:].split(b"\n")
        bad = sum(1 for line in lines[:-1] if line and not _is_row(line))  # a last line may have been cut short
        return (self.path, f"{bad} lines cannot be read") if bad else None

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


def _content(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _is_row(line: bytes) -> bool:
    with suppress(ValueError):
        row = json.loads(line)
        return isinstance(row, dict) and row.get("schema") == SCHEMA
    return False


def look_field(look: bytes) -> str:
    """Return a thumbnail as the ledger holds it."""
    return base64.b64encode(look).decode()
