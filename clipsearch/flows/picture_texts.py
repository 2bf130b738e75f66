"""Texts that pictures bring along: in files beside them ("sidecars"), or inside them ("embedded": IPTC and XMP)."""

import os
from collections.abc import Callable, Iterator

from clipsearch.decode.words import read_words
from clipsearch.flows.progress import Progress
from clipsearch.scan.beside import beside_file, beside_members
from clipsearch.scan.captions import Problems
from clipsearch.store import KnownFile, Snapshot

MAX_BYTES = 256 << 20
_EVERY = 200

Found = tuple[bytes, str, int | None]


def picture_texts(
    snapshot: Snapshot, root: bytes, kind: str, notes: list[str], tell: Callable[[Progress], None]
) -> Iterator[Found]:
    """Yield source, text and row id for all live pictures below a folder.

    Args:
        snapshot: the version that holds them.
        root: absolute folder.
        kind: "sidecars" or "embedded".
        notes: gets a sentence where something could not be read.
        tell: called with how far it is.
    """
    problems = Problems()
    roots = {one.id: snapshot.root_path(one.id) for one in snapshot.manifest.roots if not one.is_given}
    below = root.rstrip(b"/") + b"/"
    inside: dict[bytes, list[KnownFile]] = {}
    for n, row in enumerate(snapshot.known_files()):
        place = os.path.join(roots[row.root], row.path) if row.root in roots else b""
        if not place.startswith(below):
            continue
        if row.member is not None:
            inside.setdefault(place, []).append(row)
        else:
            texts = beside_file(place, problems) if kind == "sidecars" else _embedded(place, 0, row.size, problems)
            yield from ((row.path, text, row.id) for text in texts)
        if n % _EVERY == 0:
            tell(Progress("texts", n, snapshot.count("images")))
    for place, rows in inside.items():
        yield from _of_tar(place, rows, kind, problems)
    notes += problems.notes(kind)


def _of_tar(place: bytes, rows: list[KnownFile], kind: str, problems: Problems) -> Iterator[Found]:
    by_member = {row.member: row for row in rows if row.member is not None}
    if kind == "sidecars":
        found = beside_members(place, list(by_member), problems)
    else:
        found = _inside_members(place, by_member, problems)
    for member, texts in found:
        row = by_member[member]
        yield from ((row.path + b"::" + member, text, row.id) for text in texts)


def _inside_members(
    place: bytes, rows: dict[bytes, KnownFile], problems: Problems
) -> Iterator[tuple[bytes, list[str]]]:
    from clipsearch.scan import Ignored, open_source
    from clipsearch.types import Skip

    if not place.lower().endswith(b".tar"):  # pictures in a table are not read a second time
        return
    for entry in open_source(os.fsdecode(place)).scan():
        if not isinstance(entry, Ignored | Skip) and entry.member in rows:
            yield entry.member, _embedded(place, entry.offset, entry.size, problems)


def _embedded(place: bytes, offset: int, size: int, problems: Problems) -> list[str]:
    """Return the captions of a picture's file, and its keywords as one text."""
    if size > MAX_BYTES:
        return []
    try:
        with open(place, "rb") as file:
            file.seek(offset)
            captions, keywords = read_words(file.read(size))
    except OSError as problem:
        problems.add(f"{os.fsdecode(place)} ({problem.strerror})")
        return []
    return [*captions, *([", ".join(keywords)] if keywords else [])]
