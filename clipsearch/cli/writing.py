"""Files that commands write beside a collection: reports, contact sheets, searches."""

import os
from contextlib import suppress


def put_in_place(path: str, data: bytes, mode: int = 0o666) -> None:
    """Write beside and rename, so that a reader never finds half a file.

    Raises:
        OSError: it cannot be written; nothing of it is left.
    """
    beside = f"{path}.{os.getpid()}.tmp"
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
            file.write(data)
        os.replace(beside, path)
    finally:
        with suppress(OSError):
            os.unlink(beside)
