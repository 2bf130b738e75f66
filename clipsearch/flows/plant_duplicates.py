"""Measure ``duplicates`` without a file: plant copies of some pictures, and see which are found.

The copies lie in a temporary folder and are indexed, as any picture is, into a temporary collection on top of the one
that is measured (``store/overlay.py``); both are removed in the end, and the collection itself never changes.

Each kind of copy is measured by itself, as though it were the only one there: otherwise a copy that is hard to find
would be found through an easier one of the same picture. First of all the collection is searched as it is: what is
joined then may be a copy that was there before, and is no error. A *wrong* pair is one that is joined once the copies
are there, of pictures that are not copies of each other, nor of pictures that were joined before.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from clipsearch.decode import DecodeFailure, DecodeLimits, DecodePool, DecodeRequest
from clipsearch.decode.read import read_bytes
from clipsearch.decode.whole import Whole
from clipsearch.embed.base import Encoder
from clipsearch.errors import InputError, StorageError
from clipsearch.evaluation.intervals import Share, counted_share, grouped_share
from clipsearch.evaluation.pairing import Link, class_of, examples_of_wrong, nested, numbered, pairs_within
from clipsearch.evaluation.planting import COPIES, burst
from clipsearch.flows.alike import Alike
from clipsearch.flows.calibrate_rows import live_ids
from clipsearch.flows.evaluate_duplicates import (
    CLASSES,
    EXAMPLES,
    DuplicateAccuracy,
    DuplicateRow,
    Finder,
    by_class,
    few,
    links_of,
)
from clipsearch.flows.ingest import ingest
from clipsearch.flows.originals import Originals
from clipsearch.flows.progress import Progress
from clipsearch.flows.query import image_path
from clipsearch.scan.names import is_image_name
from clipsearch.store import Snapshot, overlay
from clipsearch.types import Decoded, ImageRef, Ints

BYTE_COPY, BURST = "byte copy", "burst"
KINDS = {
    BYTE_COPY: Alike.BYTES,
    **dict.fromkeys(
        ("JPEG, quality 50", "WebP, quality 60", "half the size", "cropped by 2 %"),
        Alike.PICTURE,
    ),
    BURST: Alike.BURST,
}
_LARGEST = 2048  # pixels of the longer side of what copies are made of: more would cost minutes and change nothing
_AT_ONCE = 64  # pictures drawn at a time


@dataclass(frozen=True, slots=True, eq=False)
class _Planted:
    """The pictures that were planted (m): row ids of what was copied, and of the files of each kind, -1 for none.

    A kind has one file of each picture, a burst two.
    """

    originals: Ints
    files: dict[str, Ints]  # (m, 1 or 2)

    def pairs(self, kind: str) -> tuple[Ints, Ints, Ints]:
        """Return which pictures have their pair of a kind, and the row ids of both."""
        files = self.files[kind]
        first = self.originals if files.shape[1] == 1 else files[:, 0]
        there = np.flatnonzero((files >= 0).all(axis=1))
        return there, first[there], files[there, -1]


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
        InputError: there are fewer pictures, or none of them can be opened.
        StorageError: the temporary folder is full or cannot be written.
    """
    count = snapshot.count("images")
    if n < 1:
        raise InputError(f"{n} pictures were to be planted; give 1 or more.")
    if n > count:
        raise InputError(f"The collection has {count:,} pictures, fewer than the {n:,} to be planted. Give {count:,}.")
    with tempfile.TemporaryDirectory(prefix="clipsearch-planted-") as place:
        pictures = os.path.join(place, "pictures")
        originals = _write_copies(snapshot, pictures, n, seed, tell or (lambda _: None))
        if not originals:
            raise InputError(
                "None of the pictures can be opened, so no copy can be planted: their files are gone or have changed.\n"
                "Bring them back, or measure against a file: clipsearch evaluate duplicates TRUTH.csv"
            )
        store = overlay(os.path.join(place, "collection"), snapshot)
        ingest(store, encoder, pictures, generated="mark", progress=tell)
        grown = store.snapshot()
        measured = _measure(grown, live_ids(snapshot, "images"), _found_again(grown, pictures, originals), find)
    return _report(snapshot, measured, n, len(originals), seed)


def _write_copies(snapshot: Snapshot, folder: str, n: int, seed: int, tell: Callable[[Progress], None]) -> list[int]:
    """Write copies of ``n`` pictures that can be opened, or of as many as there are; return their row ids."""
    ids: list[int] = []
    try:
        for number in range(len(KINDS)):
            os.makedirs(os.path.join(folder, str(number)))
        for id_, picture in _drawn(snapshot, seed):
            data = _bytes_of(picture)
            if data is None:
                continue
            for name, copy in _copies(picture, data, len(ids)):
                with open(os.path.join(folder, name), "wb") as file:
                    file.write(copy)
            ids.append(id_)
            tell(Progress("plant", len(ids), n))
            if len(ids) == n:
                break
    except OSError as problem:
        raise StorageError(
            f"Copies cannot be written to {folder}: {problem.strerror or problem}.\n"
            "Plant fewer, or give a folder with more room by the environment variable TMPDIR."
        ) from problem
    return ids


def _drawn(snapshot: Snapshot, seed: int) -> Iterator[tuple[int, Decoded]]:
    """Yield pictures whose files are what was indexed, in an order that the seed decides."""
    order, originals = np.random.default_rng(seed).permutation(live_ids(snapshot, "images")), Originals(snapshot)
    with DecodePool(Whole(_LARGEST), lookahead=_AT_ONCE) as pool:
        for start in range(0, len(order), _AT_ONCE):
            rows = snapshot.rows("images", order[start : start + _AT_ONCE])
            refs = originals.refs(rows)
            some = [(row, ref) for row, ref in zip(rows, refs, strict=True) if ref is not None]
            results = pool.run(DecodeRequest(ref) for _, ref in some)
            for (row, _), result in zip(some, results, strict=True):
                if isinstance(result, Decoded) and result.content_hash == row["content_hash"]:
                    yield row["id"], result


def _bytes_of(picture: Decoded) -> bytes | None:
    try:
        return read_bytes(picture.ref, DecodeLimits().max_bytes)
    except DecodeFailure:  # gone since it was decoded
        return None


def _copies(picture: Decoded, data: bytes, number: int) -> Iterator[tuple[str, bytes]]:
    """Yield the files of all kinds of copies of a picture: kind, number and which of the two, and bytes."""
    image = Image.fromarray(picture.pixels)
    for place, kind in enumerate(KINDS):
        if kind == BYTE_COPY:
            files = [(_suffix(picture.ref), data)]
        elif kind == BURST:
            files = [(".jpg", frame) for frame in burst(image, number)]
        else:
            files = [(COPIES[kind].suffix, COPIES[kind].made(image))]
        yield from ((os.path.join(str(place), f"{number}-{n}{suffix}"), made) for n, (suffix, made) in enumerate(files))


def _suffix(ref: ImageRef) -> str:
    name = ref.member or ref.path
    return os.fsdecode(os.path.splitext(name)[1]) if is_image_name(name) else ".jpg"


def _found_again(grown: Snapshot, folder: str, originals: Sequence[int]) -> _Planted:
    """Return the row ids of the files that were planted."""
    kinds = list(KINDS)
    files = {kind: np.full((len(originals), 2 if kind == BURST else 1), -1, np.int64) for kind in kinds}
    above = os.path.join(os.fsencode(os.path.abspath(folder)), b"")
    roots = {root.id: grown.root_path(root.id) for root in grown.manifest.roots}
    for row in grown.known_files():
        place = os.path.join(roots[row.root], row.path)
        if row.member is None and place.startswith(above):
            kind, name = os.fsdecode(place[len(above) :]).split("/")
            number, which = os.path.splitext(name)[0].split("-")
            files[kinds[int(kind)]][int(number), int(which)] = row.id
    return _Planted(np.array(originals, np.int64), files)


def _measure(grown: Snapshot, ids: Ints, planted: _Planted, find: Finder) -> list[_Measured]:
    """Search for duplicates among pictures (n,) as they are, then with the copies of each kind."""
    own = [(0, joined) for _, joined in links_of(find(grown, ids))]
    return [_measure_kind(grown, ids, planted, kind, own, find) for kind in KINDS]


def _measure_kind(grown: Snapshot, ids: Ints, planted: _Planted, kind: str, own: list[Link], find: Finder) -> _Measured:
    pictures, first, second = planted.pairs(kind)
    files = planted.files[kind]
    links = links_of(find(grown, np.union1d(ids, files[files >= 0])))
    of_one = np.column_stack([planted.originals, files])
    families = [(0, [id_ for id_ in row if id_ >= 0]) for row in of_one.tolist()]
    seen = sorted({id_ for _, joined in (*links, *own, *families) for id_ in joined})
    found = nested(links, seen, len(CLASSES))
    allowed = nested([*own, *families], seen, 1)[0]
    classes = class_of(found, np.searchsorted(seen, first), np.searchsorted(seen, second))
    group = numbered(found[-1])
    wrong = np.array([pairs_within(group, part) - pairs_within(group, part, allowed) for part in found])
    right = np.bincount(group[np.searchsorted(seen, second[classes >= 0])], minlength=wrong.shape[1])
    original = {id_: row[0] for row in of_one.tolist() for id_ in row}
    examples = [(seen[a], seen[b]) for a, b in examples_of_wrong(allowed, found[-1], EXAMPLES)]
    return _Measured(
        kind,
        pictures,
        classes,
        np.diff(wrong.sum(axis=1), prepend=0),
        right,
        right + wrong[-1],
        [(original.get(a, a), original.get(b, b)) for a, b in examples],
    )


def _report(snapshot: Snapshot, measured: list[_Measured], n: int, planted: int, seed: int) -> DuplicateAccuracy:
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
        notes=_notes(measured, n, planted),
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


def _share(hits: "np.ndarray[tuple[int], np.dtype[np.bool_]]", pictures: Ints) -> Share | None:
    """Return the share of pairs that were found; the copies of one picture stand or fall together."""
    return grouped_share(hits, pictures, len(hits)) if len(hits) else None


def _notes(measured: list[_Measured], n: int, planted: int) -> tuple[str, ...]:
    notes = []
    if planted < n:
        notes.append(f"only {planted:,} of the {n:,} pictures were planted: files of others are gone or have changed.")
    lost = [one.kind for one in measured if len(one.pictures) < planted]
    if lost:
        notes.append(f"some copies could not be indexed, of the kinds {few(lost)}.")
    return tuple(notes)
