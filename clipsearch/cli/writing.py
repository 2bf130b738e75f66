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


def check_sheet(path: str, overwrite: bool) -> None:
    """Refuse a contact sheet that cannot be written, before any work; never write over somebody's picture unasked."""
    from clipsearch.errors import InputError

    if not path.lower().endswith(".png"):
        raise InputError(f"A contact sheet is a PNG, and {path} has another ending. Call it {path}.png")
    folder = os.path.dirname(path) or os.curdir
    if os.path.isdir(path) or not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise InputError(f"The contact sheet {path} cannot be written. Give a file in a folder that you may write to.")
    if os.path.exists(path) and not overwrite:
        from clipsearch.present.contact_sheet import is_contact_sheet

        if not is_contact_sheet(path):
            raise InputError(
                f"{path} is there already and is no contact sheet.\nGive another name, or --force to replace it."
            )
