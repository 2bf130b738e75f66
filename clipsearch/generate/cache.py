"""The folder of generated pictures: what was made once is not made again.

A picture's file is named by the digest of everything that decides its pixels, so a changed prompt, seed, option,
weights or library is another file. A file counts only if its bytes have the digest that the ledger says: a damaged one
is made again. Files are written beside their place, synced and renamed. The oldest go when the folder grows beyond its
cap; their ledger rows stay.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from clipsearch.errors import GenerationError
from clipsearch.generate.base import Options
from clipsearch.generate.ledger import MADE, REMOVED, Ledger, Row

FOLDER, LEDGER, ENDING = "generated", "ledger.jsonl", ".generated.png"
CAP_BYTES, FLOOR_BYTES = 512 << 20, 1 << 30
_MODE = 0o700


def cache_key(prompt: str, n: int, seed: int, options: Options, identity: Mapping[str, Any]) -> str:
    """Return the SHA-256 (hex) of everything that decides pixels and choice; ``identity`` says who draws and judges."""
    request = {"prompt": prompt, "n": n, "seed": seed, "options": options.as_dict(), "identity": dict(identity)}
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


class GeneratedFolder:
    """The generated pictures of one collection and their ledger; made with the first picture."""

    def __init__(self, collection: str, cap: int = CAP_BYTES, floor: int = FLOOR_BYTES) -> None:
        self.path = os.path.join(collection, FOLDER)
        self.ledger = Ledger(os.path.join(self.path, LEDGER))
        self._cap, self._floor = cap, floor

    def place(self, row: Mapping[str, Any]) -> str:
        """Return where the picture of a ledger row lies, or lay."""
        return os.path.join(self.path, os.path.basename(str(row["file"])))

    def check_room(self) -> None:
        """Refuse to draw on a disk that is nearly full.

        Raises:
            GenerationError: too little is free.
        """
        place = self.path if os.path.isdir(self.path) else os.path.dirname(self.path)
        free = shutil.disk_usage(place).free
        if free < self._floor:
            raise GenerationError(
                f"Nothing is drawn: the disk of {self.path} has {free / 1e9:.1f} GB left, and at least "
                f"{self._floor / 1e9:.1f} GB are kept free.\nMake room, then run the command again."
            )

    def find(self, key: str) -> tuple[Row, bytes] | None:
        """Return the row and the PNG of a request that was answered before; None where it is to be drawn.

        A request that was rejected has b"" for a picture.
        """
        row = self.ledger.made().get(key)
        if row is None:
            return None
        if row.get("rejected"):
            return row, b""
        data = _read(self.place(row)) if row.get("file") else None
        if data is None or hashlib.sha256(data).hexdigest() != row.get("sha256"):
            return None
        return row, data

    def keep(self, row: Mapping[str, Any], data: bytes) -> str | None:
        """Write a picture (b"" for a rejected request) and its row; returns where it lies.

        Raises:
            OSError: it cannot be written, such as on a full disk; nothing is left of it then.
        """
        os.makedirs(self.path, _MODE, exist_ok=True)
        if not data:
            self.ledger.append({"event": MADE, **row})
            return None
        path = self.place(row)
        # The row first: a picture without a row would be taken for a photo once it is copied out of here.
        self.ledger.append({"event": MADE, **row})
        write_whole(path, data)
        self._trim(path)
        return path

    def remove(self, row: Mapping[str, Any]) -> None:
        """Remove a picture; the ledger keeps what it was."""
        with suppress(FileNotFoundError):
            os.unlink(self.place(row))
        self.ledger.append({"event": REMOVED, "key": row["key"]})

    def _trim(self, newest: str) -> None:
        """Remove the oldest pictures until the folder is within its cap; never the one just made."""
        with os.scandir(self.path) as entries:
            files = [(entry.stat(), entry.path) for entry in entries if entry.name.endswith(ENDING)]
        total = sum(status.st_size for status, _ in files)
        for status, path in sorted(files, key=lambda item: item[0].st_mtime_ns):
            if total <= self._cap:
                return
            if path != newest:
                with suppress(OSError):
                    os.unlink(path)
                total -= status.st_size


def write_whole(path: str, data: bytes) -> None:
    """Write a file beside its place, sync it and rename it; nothing is left of it where that fails.

    Raises:
        OSError: it cannot be written.
    """
    beside = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.tmp-{os.getpid()}")
    try:
        with open(beside, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        with suppress(OSError):
            os.unlink(beside)


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None
