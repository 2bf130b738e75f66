"""Texts that pictures bring along: in files beside them ("sidecars"), or inside them ("embedded": IPTC and XMP).

Files beside pictures are small and read on every run. Pictures are not: which were read is noted in the collection, by
row id, and a picture whose file has the size and time of that row is not opened again. A changed file gets another row,
so the note needs no more than ids; it may be lost at any time, and costs another look then.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from clipsearch.decode.words import read_words
from clipsearch.flows.progress import Progress
from clipsearch.flows.text_origins import Found, Told
from clipsearch.scan.beside import beside_file, beside_members
from clipsearch.scan.captions import Problems
from clipsearch.store import KnownFile, KnownText, Snapshot
from clipsearch.store.files import read_bytes, replace_file

MAX_BYTES = 256 << 20
NOTE = "read-inside.json"
_READER = 1  # goes up when ``read_words`` finds more than before: then all pictures are read again
_EVERY = 200


class InsideRead:
    """The pictures whose insides were read, by row id."""

    def __init__(self, ids: Iterable[int] = ()) -> None:
        self.ids = set(ids)
        self._before = frozenset(self.ids)

    @classmethod
    def of(cls, snapshot: Snapshot) -> "InsideRead":
        """Read the note of a collection; one of another reader or of a later version counts for none."""
        try:
            note = json.loads(read_bytes(os.path.join(snapshot.path, NOTE)))
            if note["reader"] == _READER and note["version"] <= snapshot.version:
                return cls(id_ for first, last in note["ids"] for id_ in range(first, last + 1))
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return cls()

    def save(self, snapshot: Snapshot) -> None:
        """Write the note, where it has changed and that is possible."""
        if self.ids == self._before:
            return
        live = sorted(self.ids.intersection(row.id for row in snapshot.known_files()))
        note = {"reader": _READER, "version": snapshot.version, "ids": _ranges(live)}
        with suppress(OSError):
            replace_file(os.path.join(snapshot.path, NOTE), json.dumps(note).encode() + b"\n")


def forget_inside(path: str) -> None:
    """Have all pictures of a collection read again by the next run that looks inside them."""
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(path, NOTE))


def _ranges(ids: list[int]) -> list[list[int]]:
    found: list[list[int]] = []
    for id_ in ids:
        if found and found[-1][1] == id_ - 1:
            found[-1][1] = id_
        else:
            found.append([id_, id_])
    return found


def pictures_told(
    snapshot: Snapshot,
    root: bytes,
    kind: str,
    notes: list[str],
    tell: Callable[[Progress], None],
    inside: InsideRead,
) -> Told:
    """Return what the live pictures below a folder say.

    Args:
        snapshot: the version that holds them.
        root: absolute folder.
        kind: "sidecars" or "embedded".
        notes: gets a sentence where something could not be read.
        tell: called with how far it is.
        inside: the pictures that need not be opened for "embedded"; gets those that were.
    """
    look = _Look(kind, inside)
    found: list[Found] = []
    for n, (place, rows) in enumerate(_places(snapshot, root)):
        found += look.into(place, rows)
        if n % _EVERY == 0:
            tell(Progress("texts", n, snapshot.count("images")))
    notes += look.problems.notes(kind)
    if kind == "embedded":
        inside.ids |= look.looked

    def is_sure(text: KnownText) -> bool:
        return text.image_id in look.looked

    return Told(os.fsencode(kind), list(dict.fromkeys(found)), is_sure, by_picture=True)


def _places(snapshot: Snapshot, root: bytes) -> Iterator[tuple[bytes, list[KnownFile]]]:
    """Yield the files below a folder with the pictures in them: one, or the members of a tar."""
    roots = {one.id: snapshot.root_path(one.id) for one in snapshot.manifest.roots if not one.is_given}
    below = root.rstrip(b"/") + b"/"
    inside: dict[bytes, list[KnownFile]] = {}
    for row in snapshot.known_files():
        place = os.path.join(roots[row.root], row.path) if row.root in roots else b""
        if not place.startswith(below):
            continue
        if row.member is not None:
            inside.setdefault(place, []).append(row)
        else:
            yield place, [row]
    yield from ((place, rows) for place, rows in inside.items() if place.lower().endswith(b".tar"))


class _Look:
    """Reads texts of one kind; ``looked`` are the pictures of which all was read."""

    def __init__(self, kind: str, inside: InsideRead) -> None:
        self.problems = Problems()
        self.looked: set[int] = set()
        self._is_beside, self._known = kind == "sidecars", inside.ids

    def into(self, place: bytes, rows: list[KnownFile]) -> list[Found]:
        """Return the texts of the pictures in a file."""
        if not self._is_beside and all(row.id in self._known for row in rows) and _is_as_stored(place, rows[0]):
            return []
        before = self.problems.count
        found = list(self._of_tar(place, rows) if rows[0].member is not None else self._of_file(place, rows[0]))
        if self.problems.count == before:
            self.looked.update(row.id for row in rows)
        return found

    def _of_file(self, place: bytes, row: KnownFile) -> Iterator[Found]:
        texts = beside_file(place, self.problems) if self._is_beside else _embedded(place, 0, None, self.problems)
        yield from ((row.path, text, row.id) for text in texts)

    def _of_tar(self, place: bytes, rows: list[KnownFile]) -> Iterator[Found]:
        by_member = {row.member: row for row in rows if row.member is not None}
        if self._is_beside:
            found = beside_members(place, list(by_member), self.problems)
        else:
            found = _inside_members(place, by_member, self.problems)
        for member, texts in found:
            row = by_member[member]
            yield from ((row.path + b"::" + member, text, row.id) for text in texts)


def _is_as_stored(place: bytes, row: KnownFile) -> bool:
    """Tell whether a file has the size and time that it had when its row was stored."""
    try:
        status = os.stat(place)
    except OSError:
        return False
    return status.st_mtime_ns == row.mtime_ns and (row.member is not None or status.st_size == row.size)


def _inside_members(
    place: bytes, rows: dict[bytes, KnownFile], problems: Problems
) -> Iterator[tuple[bytes, list[str]]]:
    from clipsearch.scan import Ignored, open_source
    from clipsearch.types import Skip

    for entry in open_source(os.fsdecode(place)).scan():
        if not isinstance(entry, Ignored | Skip) and entry.member in rows:
            yield entry.member, _embedded(place, entry.offset, entry.size, problems)


def _embedded(place: bytes, offset: int, size: int | None, problems: Problems) -> list[str]:
    """Return the captions of a picture's file, and its keywords as one text; of ``size`` bytes, or the whole file."""
    try:
        with open(place, "rb") as file:
            size = os.fstat(file.fileno()).st_size if size is None else size
            if size > MAX_BYTES:
                return []
            file.seek(offset)
            captions, keywords = read_words(file.read(size))
    except OSError as problem:
        problems.add(f"{os.fsdecode(place)} ({problem.strerror})")
        return []
    return [*captions, *([", ".join(keywords)] if keywords else [])]
