"""What becomes of stored texts when their sources are read again: a pure plan, carried out in ``captions.py``.

A text keeps its *origins*: the caption files (by absolute path) that said it, or the words "sidecars" and "embedded"
for files beside pictures and the pictures themselves. One text may have several. A run reads some again, and then

- what an origin says that is not stored is new;
- what it says that another one said before gets that origin too;
- what it said and says no more loses that origin, and with the last one it goes.

Origins that a run does not read are left alone, and so is whatever could not be read this time (a broken line, a
picture that is not there for the moment): a text goes only where it was looked for and not found.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from clipsearch.store import KnownText

Found = tuple[bytes, str, int | None]  # source, text, row id of the image
Origins = frozenset[bytes]
_BETWEEN = b"\0"  # no path has one


@dataclass(frozen=True, slots=True)
class Told:
    """What one origin says now.

    Attributes:
        origin: its name.
        found: the texts.
        is_sure: of a stored text of this origin: had it been found if it were still there?
        by_picture: texts belong to the picture that they were found at, wherever it lies now.
    """

    origin: bytes
    found: Sequence[Found]
    is_sure: Callable[[KnownText], bool]
    by_picture: bool = False


@dataclass
class Changes:
    """New texts with their origins; stored ones (by id) with the picture and origins that they get; those that go."""

    new: dict[Found, Origins] = field(default_factory=dict)
    kept: dict[int, tuple[int | None, Origins]] = field(default_factory=dict)
    gone: list[int] = field(default_factory=list)


def origins_of(stored: bytes | None) -> Origins:
    """Return the origins as a row holds them; none of a row that was written before there were any."""
    return frozenset((stored or b"").split(_BETWEEN)) - {b""}


def as_stored(origins: Iterable[bytes]) -> bytes | None:
    """Return origins as a row holds them."""
    return _BETWEEN.join(sorted(origins)) or None


def changes(known: Iterable[KnownText], told: Sequence[Told]) -> Changes:
    """Compare what is stored with what its origins say now."""
    rows = list(known)
    origins = {row.id: origins_of(row.origins) for row in rows}
    pictures = {row.id: row.image_id for row in rows}
    by_source: dict[tuple[bytes, str], list[KnownText]] = {}
    by_picture: dict[tuple[int, str], list[KnownText]] = {}
    for row in rows:
        by_source.setdefault((row.source, row.text), []).append(row)
        if row.image_id is not None:
            by_picture.setdefault((row.image_id, row.text), []).append(row)
    made = Changes()
    for one in told:
        met: set[int] = set()
        for found in one.found:
            source, text, image = found
            several = by_picture.get((image or 0, text), ()) if one.by_picture else by_source.get((source, text), ())
            row = _fitting(several, one.origin, image, origins)
            if row is None:
                made.new[found] = made.new.get(found, frozenset()) | {one.origin}
                continue
            met.add(row.id)
            origins[row.id] |= {one.origin}
            if image is not None:
                pictures[row.id] = image
        for row in rows:
            if one.origin in origins[row.id] and row.id not in met and one.is_sure(row):
                origins[row.id] -= {one.origin}
                if not origins[row.id]:
                    made.gone.append(row.id)
    gone = set(made.gone)
    made.gone = sorted(id_ for id_ in gone if not origins[id_])  # a later origin may say it too
    gone = set(made.gone)
    for row in rows:
        now = (pictures[row.id], origins[row.id])
        if row.id not in gone and now != (row.image_id, origins_of(row.origins)):
            made.kept[row.id] = now
    return made


def _fitting(
    several: Sequence[KnownText], origin: bytes, image: int | None, origins: dict[int, Origins]
) -> KnownText | None:
    """Return the stored text that a found one is, among those of the same words and source.

    One of this origin first, then one of the same picture, then one that has no picture or no origin yet: the text of
    another picture that another origin told of is not it.
    """
    fits: tuple[Callable[[KnownText], bool], ...] = (
        lambda row: origin in origins[row.id] and row.image_id == image,
        lambda row: origin in origins[row.id],
        lambda row: image is None or row.image_id == image,
        lambda row: row.image_id is None or not origins[row.id],
    )
    return next((row for fit in fits for row in several if fit(row)), None)
