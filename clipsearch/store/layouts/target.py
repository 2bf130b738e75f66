"""Where an export goes: refused where something is in its way, written beside, renamed when it is whole."""

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

from clipsearch.errors import InputError, StorageError


def check_target(path: str, force: bool, ours: Collection[str]) -> None:
    """Refuse a place that holds something; with ``force`` only what is no earlier export.

    Args:
        path: file or folder to write.
        force: allow an earlier export there.
        ours: names that a folder of this layout has.

    Raises:
        InputError: something is in the way, or the place cannot be written.
    """
    parent = os.path.dirname(os.path.abspath(path))
    while not os.path.lexists(parent):
        parent = os.path.dirname(parent)
    if not os.path.isdir(parent) or not os.access(parent, os.W_OK):
        raise InputError(f"{path} cannot be written: {parent} is no folder that you may write to.\nGive another place.")
    if not os.path.lexists(path) or (os.path.isdir(path) and not os.listdir(path)):
        return
    if not force:
        raise InputError(f"{path} is there already.\nGive another place, or --force to replace an earlier export.")
    if os.path.isdir(path) != bool(ours):
        raise InputError(f"{path} is {'a folder' if os.path.isdir(path) else 'a file'}, unlike what is to be written.")
    others = sorted(set(os.listdir(path)) - set(ours)) if os.path.isdir(path) else []
    if others:
        raise InputError(
            f"{path} holds {others[0]!r}, which no export of this kind has written; nothing is replaced.\n"
            "Give another place."
        )


@contextmanager
def beside(path: str) -> Iterator[str]:
    """Give a name beside a place; what was written there takes the place when the block ends well, else it goes.

    Raises:
        StorageError: the disk is full or cannot be written.
    """
    path = os.path.abspath(path)
    parent, name = os.path.split(path)
    tmp, old = (os.path.join(parent, f".{name}.{what}-{os.getpid()}") for what in ("part", "old"))
    try:
        os.makedirs(parent, exist_ok=True)
        yield tmp
        if os.path.lexists(path):
            os.replace(path, old)
        os.replace(tmp, path)
    except OSError as problem:
        raise StorageError(
            f"The export {path} could not be written: {problem.strerror or problem}. Nothing was changed there.\n"
            "Make room or give another place, then run the command again."
        ) from problem
    finally:
        for left in (tmp, old):
            _remove(left)


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
