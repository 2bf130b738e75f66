"""Searches that can be asked again: the last one of each collection, and those saved under a name.

A search is kept as its arguments (words, absolute paths of pictures, filter), never as pictures. The last one lies with
the user, not in the collection, which others may read: in ``$XDG_STATE_HOME/clipsearch/last/`` (``~/.local/state``),
readable by the user alone, with the row ids of its hits and no path of a hit. Saved ones lie in the collection's folder
``searches/``, one JSON file a name, and travel with it.
"""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from clipsearch.cli.writing import put_in_place
from clipsearch.errors import InputError

if TYPE_CHECKING:
    from clipsearch.cli.query import Asked

_NAME = re.compile(r"\w[\w .-]{0,99}")


@dataclass(frozen=True, slots=True)
class Remembered:
    """The arguments of a search.

    Attributes:
        query: words, or the absolute path of a picture; None where only parts were added.
        force: what ``query`` is, "text" or "image".
        add: parts as the command line has them; ``subtract`` likewise.
        target: "image" or "text".
        where: a filter, or None.
        recall: share wanted of an approximate index, or None.
        count: hits wanted.
        leave_out_self: as in the command.
        more: row ids of pictures to be more like; ``less`` likewise.
    """

    query: str | None = None
    force: str | None = None
    add: tuple[str, ...] = ()
    subtract: tuple[str, ...] = ()
    target: str = "image"
    where: str | None = None
    recall: float | None = None
    count: int = 10
    leave_out_self: bool = False
    more: tuple[int, ...] = ()
    less: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        """Return the search on one line."""
        parts = [self.query or "", *(f"+ {part}" for part in self.add), *(f"- {part}" for part in self.subtract)]
        feedback = [f"({len(ids)} {word})" for ids, word in ((self.more, "more"), (self.less, "less")) if ids]
        where = [f"where {self.where}"] if self.where else []
        return " ".join(part for part in (*parts, *feedback, *where) if part)


@dataclass(frozen=True, slots=True)
class LastSearch:
    """The last search and the row ids of its hits, by rank; ``asked`` is None where a picture was piped in."""

    asked: Remembered | None
    ids: tuple[int, ...] = ()
    target: str = "image"


@dataclass(frozen=True, slots=True)
class SavedSearch:
    """A search with a name; ``seen`` is the largest row id there was when it was last run."""

    name: str
    asked: Remembered = field(default_factory=Remembered)
    seen: int = -1


def part_argument(part: "Asked") -> str | None:
    """Return an argument that means the part from any folder; None for a picture whose bytes were piped in."""
    if isinstance(part.image, bytes):
        return None
    if part.image is None:
        return part.label
    path = os.path.abspath(part.image)
    return path if part.weight == 1.0 else f"{part.weight:g}:{path}"


def described(
    request: Remembered, asked: "Asked | None", plus: Sequence["Asked"], minus: Sequence["Asked"]
) -> Remembered | None:
    """Return a search so that it can be asked from any folder; None where a picture was piped in."""
    query = None if asked is None else part_argument(asked)
    added, taken = [part_argument(part) for part in plus], [part_argument(part) for part in minus]
    if (asked is not None and query is None) or None in (*added, *taken):
        return None
    force = None if asked is None else "text" if asked.image is None else "image"
    return replace(
        request,
        query=query,
        force=force,
        add=tuple(part for part in added if part is not None),
        subtract=tuple(part for part in taken if part is not None),
    )


# The last search.


def _last_file(collection: str) -> str:
    home = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    name = hashlib.sha256(os.fsencode(os.path.realpath(collection))).hexdigest()[:32]
    return os.path.join(home, "clipsearch", "last", f"{name}.json")


def keep_last(collection: str, last: LastSearch) -> str | None:
    """Keep a search as the last one; return why it could not be kept, or None. A search does not fail of it."""
    place = _last_file(collection)
    try:
        os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
        _write(place, asdict(last))
    except OSError as problem:
        return f"the search is not kept for --more and --less: {problem.strerror}"
    return None


def load_last(collection: str) -> LastSearch:
    """Return the last search of a collection.

    Raises:
        InputError: there was none.
    """
    try:
        document = _read(_last_file(collection))
        asked = document["asked"]
        return LastSearch(None if asked is None else _remembered(asked), tuple(document["ids"]), document["target"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            "There is no last search of this collection, so --more and --less have no ranks to name.\n"
            "Search first: clipsearch search QUERY"
        ) from None


def ids_at(last: LastSearch, ranks: Sequence[int], option: str) -> tuple[int, ...]:
    """Return the row ids at ranks (from 1) of the last hits.

    Raises:
        InputError: the last search was for captions, or had fewer hits.
    """
    if ranks and last.target != "image":
        raise InputError(f"The last search was for captions; {option} names pictures. Search for pictures first.")
    for rank in ranks:
        if not 1 <= rank <= len(last.ids):
            hits = f"{len(last.ids)} hit{'' if len(last.ids) == 1 else 's'}"
            raise InputError(f"{option} names rank {rank}, and the last search had {hits}.")
    return tuple(last.ids[rank - 1] for rank in ranks)


def read_ranks(value: str, option: str) -> tuple[int, ...]:
    """Read "1,3" as ranks.

    Raises:
        InputError: it is something else.
    """
    try:
        return tuple(dict.fromkeys(int(part) for part in value.split(",")))
    except ValueError:
        raise InputError(f"{option} is {value!r}; give ranks of the last hits, such as 1,3.") from None


def with_feedback(asked: Remembered, more: Sequence[int], less: Sequence[int]) -> Remembered:
    """Return a search with pictures added on either side; the newest word on a picture holds."""
    ups = [id_ for id_ in asked.more if id_ not in less] + list(more)
    downs = [id_ for id_ in asked.less if id_ not in more] + list(less)
    return replace(asked, more=tuple(dict.fromkeys(ups)), less=tuple(dict.fromkeys(downs)))


# Saved searches.


def _saved_file(collection: str, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InputError(f"A saved search cannot be called {name!r}. Use letters, digits, spaces, dots and dashes.")
    return os.path.join(collection, "searches", f"{name}.json")


def save(collection: str, saved: SavedSearch) -> None:
    """Save a search under its name, over one of that name.

    Raises:
        InputError: the name is none, or the file cannot be written.
    """
    place = _saved_file(collection, saved.name)
    try:
        os.makedirs(os.path.dirname(place), exist_ok=True)
        _write(place, asdict(saved))
    except OSError as problem:
        raise InputError(f"The search {saved.name!r} cannot be saved: {problem.strerror}.") from None


def load(collection: str, name: str) -> SavedSearch:
    """Return a saved search.

    Raises:
        InputError: there is none of that name, or its file is damaged.
    """
    place = _saved_file(collection, name)
    try:
        document = _read(place)
        return SavedSearch(name, _remembered(document["asked"]), int(document["seen"]))
    except FileNotFoundError:
        from clipsearch.registry import suggest

        names = [saved.name for saved in listed(collection)]
        known = suggest("saved search", name, names) if names else f"No search is saved as {name!r}."
        raise InputError(f"{known}\nSave one: clipsearch search QUERY --save {name}") from None
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise InputError(f"The saved search {name!r} cannot be read ({problem}). Save it again.") from None


def listed(collection: str) -> list[SavedSearch]:
    """Return the saved searches by name; damaged ones are left out."""
    try:
        names = sorted(name[:-5] for name in os.listdir(os.path.join(collection, "searches")) if name.endswith(".json"))
    except OSError:
        return []
    found = []
    for name in names:
        try:
            found.append(load(collection, name))
        except InputError:
            continue
    return found


def remove(collection: str, name: str) -> None:
    """Forget a saved search.

    Raises:
        InputError: there is none of that name.
    """
    load(collection, name)
    os.unlink(_saved_file(collection, name))


def _remembered(document: dict[str, Any]) -> Remembered:  # Any: JSON values
    lists = ("add", "subtract", "more", "less")
    values: dict[str, Any] = {name: tuple(value) if name in lists else value for name, value in document.items()}
    return Remembered(**values)


def _read(place: str) -> dict[str, Any]:  # Any: JSON values
    with open(place, encoding="utf-8") as file:
        return json.load(file)


def _write(place: str, document: dict[str, Any]) -> None:
    """Write it readable by the user alone."""
    put_in_place(place, json.dumps(document).encode(), 0o600)
