"""Where collections are: their home, and what ``-i`` means.

``-i NAME`` is a collection in the home; ``-i`` with a slash is a path. Without ``-i`` the only collection of the home
is meant; where there are several, nothing is guessed.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING

import click

from clipsearch.errors import CollectionNotFoundError, InputError

if TYPE_CHECKING:
    from clipsearch import Collection

_LISTED = 12


def is_collection(path: str) -> bool:
    """Tell whether a folder is a collection, a damaged one included."""
    return os.path.isfile(os.path.join(path, "CURRENT")) or os.path.isdir(os.path.join(path, "manifests"))


def collections_in(home: str) -> list[str]:
    """Return the names of the collections in a home, sorted."""
    try:
        names = os.listdir(home)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as problem:
        raise InputError(f"The home of collections {home} cannot be read: {problem.strerror}.") from None
    return sorted(name for name in names if is_collection(os.path.join(home, name)))


def find(index: str | None, home: str) -> str:
    """Return the path of the collection that ``-i`` means, or the only one there is.

    Raises:
        CollectionNotFoundError: there is none.
        InputError: there are several and none was named.
    """
    if index is not None:
        return _named(index, home)
    names = collections_in(home)
    if not names:
        raise CollectionNotFoundError(f"There is no collection in {home} yet.\nMake one: clipsearch index FOLDER")
    if len(names) > 1:
        raise InputError(f"There are several collections in {home}. Say which with -i: {_listed(names)}")
    return os.path.join(home, names[0])


def _named(index: str, home: str) -> str:
    path = to_make(index, home)
    if is_collection(path) or _is_path(index):  # of a path, the collection itself says best what is wrong
        return path
    names = collections_in(home)
    if not names:
        raise CollectionNotFoundError(
            f"There is no collection {index!r} in {home}, nor any other.\nMake it: clipsearch index FOLDER -i {index}"
        )
    from difflib import get_close_matches

    near = get_close_matches(index, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise CollectionNotFoundError(f"There is no collection {index!r} in {home}.{hint}\nThere are: {_listed(names)}")


def to_make(index: str, home: str) -> str:
    """Return the path that ``-i`` stands for, whether or not there is a collection.

    A name is looked for in the home first; a collection of that name in the current folder is taken too.
    """
    if not index:
        raise InputError("-i is empty. Give the name of a collection, or a path.")
    in_home = os.path.join(home, index)
    if _is_path(index) or (not is_collection(in_home) and is_collection(index)):
        return index
    return in_home


def _is_path(index: str) -> bool:
    return os.sep in index or index in (os.curdir, os.pardir)


def first_missing(path: str) -> str | None:
    """Return the first folder on the way to a path, itself included, that is not there yet; None where all are."""
    missing, here = None, os.path.abspath(path)
    while not os.path.lexists(here):
        missing, here = here, os.path.dirname(here)
    return missing


@contextmanager
def opened_or_made(
    path: str, opened: "Callable[[], Collection]", made: "Callable[[], tuple[Collection, bool]]"
) -> "Iterator[Collection]":
    """Open a collection, or make it where there is none; one that was made goes if nothing comes to be stored.

    Args:
        path: of the collection.
        opened: opens it.
        made: makes it, and says whether it was not another process that did.
    """
    missing, is_new = first_missing(path), False
    try:
        collection = opened()
    except CollectionNotFoundError:  # or only the beginnings of one, that a kill left: making takes those up
        collection, is_new = made()
    with undone_on_failure(path, missing) if is_new else nullcontext(), collection:
        yield collection


@contextmanager
def undone_on_failure(path: str, missing: str | None) -> Iterator[None]:
    """Remove a collection that a run made if the block fails before anything was stored in it.

    The folders that the run made go with it. A collection that has content by now, or that another process is writing,
    stays; so does whatever was there before, and all where the run was only interrupted.

    Args:
        path: of the collection.
        missing: what ``first_missing`` said before it was made.
    """
    try:
        yield
    except click.Abort:
        raise
    except Exception:
        _take_back(path, missing)
        raise


def _take_back(path: str, missing: str | None) -> None:
    from clipsearch.errors import ClipsearchError
    from clipsearch.store import Store

    with suppress(ClipsearchError, OSError):  # why the run failed is what there is to say
        if not Store.unmake(path):
            return
        here = os.path.abspath(path)
        while missing is not None and len(here) >= len(missing):
            os.rmdir(here)
            here = os.path.dirname(here)


def _listed(names: list[str]) -> str:
    rest = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")
