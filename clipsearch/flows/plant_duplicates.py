"""Measure ``duplicates`` without a file: plant copies of some pictures, and see which are found.

The copies lie in a temporary folder and are indexed, as any picture is, into a temporary collection on top of the one
that is measured (``store/overlay.py``); both are removed in the end, and the collection itself never changes.

Each kind of copy is measured by itself, as though it were the only one there: otherwise a copy that is hard to find
would be found through an easier one of the same picture. The frames of a burst take the place of their picture. A
*wrong* pair is a copy and a picture that are joined, where the copy is of another picture. The collection may hold
copies already, so it is searched before, with the usual limits whatever is measured: what is joined then counts as
copies, neither right nor wrong. Pairs without a planted copy count for nothing, as nobody knows what they are.
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipsearch.embed.base import Encoder
from clipsearch.errors import InputError
from clipsearch.evaluation.intervals import Share, counted_share, grouped_share
from clipsearch.evaluation.pairing import Link, class_of, examples_of_wrong, nested, numbered, pairs_within
from clipsearch.flows.calibrate_rows import live_ids
from clipsearch.flows.evaluate_duplicates import (
    CLASSES,
    EXAMPLES,
    DuplicateAccuracy,
    DuplicateRow,
    Finder,
    by_class,
    links_of,
)
from clipsearch.flows.hits import image_path
from clipsearch.flows.ingest import ingest
from clipsearch.flows.labelled import few
from clipsearch.flows.planted_copies import KINDS, Planted, found_again, write_copies
from clipsearch.flows.progress import Progress
from clipsearch.store import Snapshot, overlay
from clipsearch.types import Ints

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    """One kind: which pictures (m,) have a pair, the class (m,) that found it or -1, and pairs by group found."""

    kind: str
    pictures: Ints
    classes: Ints
    wrong: Ints  # (3,) by class
    right_of: Ints  # by group
    judged_of: Ints
    examples: list[tuple[int, int]]  # row ids


def plant_duplicates(
    snapshot: Snapshot,
    encoder: Encoder,
    n: int,
    find: Finder,
    *,
    seed: int = 0,
    tell: Callable[[Progress], None] | None = None,
) -> DuplicateAccuracy:
    """Measure what is found of copies of ``n`` pictures of the collection; ``KINDS`` says of which kinds.

    Args:
        snapshot: the collection.
        encoder: its encoder.
        n: pictures to copy.
        find: finds duplicates.
        seed: decides which pictures.
        tell: hears how far it is.

    Raises:
        InputError: there are fewer pictures, or none of them is there as it was.
        StorageError: the temporary folder is full or cannot be written.
    """
    count = snapshot.count("images")
    if n < 1:
        raise InputError(f"{n} pictures were to be planted; give 1 or more.")
    if not count:
        raise InputError("The collection holds no pictures, so there is nothing to copy. Index some first.")
    if n > count:
        raise InputError(f"The collection has {count:,} pictures, fewer than the {n:,} to be planted. Give {count:,}.")
    with tempfile.TemporaryDirectory(prefix="clipsearch-planted-") as place:
        pictures = os.path.join(place, "pictures")
        originals = write_copies(snapshot, pictures, n, seed, tell or (lambda _: None))
        if not originals:
            raise InputError(
                "No copy can be planted: no picture is a file that is as it was when it was indexed, nor in a tar.\n"
                "Bring them back, or measure against a file: clipsearch evaluate duplicates TRUTH.csv"
            )
        store = overlay(os.path.join(place, "collection"), snapshot)
        ingest(store, encoder, pictures, generated="mark", progress=tell)
        grown, ids = store.snapshot(), live_ids(snapshot, "images")
        planted = found_again(grown, pictures, originals)
        own: list[Link] = [(0, joined) for _, joined in links_of(find.usual()(grown, ids))]
        measured = [_measure_kind(grown, ids, planted, kind, own, find) for kind in KINDS]
    return _report(snapshot, measured, own, n, len(originals), seed)


def _measure_kind(grown: Snapshot, ids: Ints, planted: Planted, kind: str, own: list[Link], find: Finder) -> _Measured:
    pictures, first, second = planted.pairs(kind)
    files = planted.files[kind]
    if files.shape[1] > 1:  # two frames stand for their picture, which would take one of them for a copy of itself
        ids = np.setdiff1d(ids, planted.originals)
    links = links_of(find(grown, np.union1d(ids, files[files >= 0])))
    of_one = np.column_stack([planted.originals, files])
    families = [(0, [id_ for id_ in row if id_ >= 0]) for row in of_one.tolist()]
    seen = sorted({id_ for _, joined in (*links, *own, *families) for id_ in joined})
    found = nested(links, seen, len(CLASSES))
    allowed = nested([*own, *families], seen, 1)[0]
    classes = class_of(found, np.searchsorted(seen, first), np.searchsorted(seen, second))
    group = numbered(found[-1])
    wrong = _wrong(found, allowed, group) - _wrong(found, allowed, group, np.isin(seen, ids))
    right = np.bincount(group[np.searchsorted(seen, second[classes >= 0])], minlength=wrong.shape[1])
    original = {id_: row[0] for row in of_one.tolist() for id_ in row}
    bad = np.flatnonzero(wrong[-1][group])
    examples = [(seen[bad[a]], seen[bad[b]]) for a, b in examples_of_wrong(allowed[bad], group[bad], EXAMPLES)]
    return _Measured(
        kind,
        pictures,
        classes,
        np.diff(wrong.sum(axis=1), prepend=0),
        right,
        right + wrong[-1],
        [(original.get(a, a), original.get(b, b)) for a, b in examples],
    )


def _wrong(found: Ints, allowed: Ints, group: Ints, some: "Mask | slice" = slice(None)) -> Ints:
    """Count pairs (classes, groups) of some things that partitions (classes, n) join and ``allowed`` (n,) does not."""
    parts, n = (group[some], allowed[some]), int(group.max()) + 1
    return np.array(
        [
            pairs_within(parts[0], part, least=n) - pairs_within(parts[0], part, parts[1], least=n)
            for part in found[:, some]
        ]
    )


def _report(
    snapshot: Snapshot, measured: list[_Measured], own: list[Link], n: int, planted: int, seed: int
) -> DuplicateAccuracy:
    rows = tuple(_row(one.kind, [one]) for one in measured)
    wrong = np.sum([one.wrong for one in measured], axis=0)
    pairs = list(dict.fromkeys(pair for one in measured for pair in one.examples))[:EXAMPLES]
    paths = [[image_path(snapshot, row) for row in snapshot.rows("images", pair)] for pair in pairs]
    return DuplicateAccuracy(
        source="planted",
        images=snapshot.count("images"),
        judged=planted,
        rows=rows,
        total=_row("total", measured),
        wrong=by_class(wrong),
        precision=counted_share(
            np.concatenate([one.right_of for one in measured]), np.concatenate([one.judged_of for one in measured])
        ),
        wrong_examples=tuple((a, b) for a, b in paths),
        seed=seed,
        notes=_notes(measured, own, n, planted),
    )


def _row(name: str, measured: Sequence[_Measured]) -> DuplicateRow:
    classes = np.concatenate([one.classes for one in measured])
    return DuplicateRow(
        name,
        len(classes),
        _share(classes >= 0, np.concatenate([one.pictures for one in measured])),
        by_class(np.bincount(classes[classes >= 0], minlength=len(CLASSES))),
        sum(int((one.classes == CLASSES.index(KINDS[one.kind])).sum()) for one in measured),
        sum(int(one.wrong.sum()) for one in measured),
    )


def _share(hits: Mask, pictures: Ints) -> Share | None:
    """Return the share of pairs that were found; the copies of one picture stand or fall together."""
    return grouped_share(hits, pictures, len(hits)) if len(hits) else None


def _notes(measured: list[_Measured], own: list[Link], n: int, planted: int) -> tuple[str, ...]:
    notes = []
    if planted < n:
        notes.append(f"only {planted:,} of the {n:,} pictures were planted: files of others are gone or have changed.")
    lost = [one.kind for one in measured if len(one.pictures) < planted]
    if lost:
        notes.append(f"some copies could not be indexed, of the kinds {few(lost)}.")
    if own:
        several = sum(len(joined) for _, joined in own)
        notes.append(
            f"{several:,} pictures of the collection are alike already; joining those again is neither right nor wrong."
        )
    return tuple(notes)
