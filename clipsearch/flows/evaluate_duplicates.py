"""Measure ``duplicates`` against a file that says which pictures are copies of each other.

Pairs of the file are closed into groups before anything is compared, and so are the groups that are found: it makes no
difference which picture of a group the file calls the original. Only pictures that the file names are judged. A pair of
them that was found and is not true is wrong; pairs with a picture that the file does not name count neither way.

``plant_duplicates.py`` measures without a file.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from clipsearch.errors import InputError
from clipsearch.evaluation.intervals import Share
from clipsearch.evaluation.pairing import Link, compare, examples_of_wrong, nested
from clipsearch.flows.alike import Alike, Limits
from clipsearch.flows.captions import ImagePlaces
from clipsearch.flows.duplicates import DuplicateReport, find_duplicates
from clipsearch.flows.labelled import few
from clipsearch.flows.progress import Progress
from clipsearch.scan.captions import Problems
from clipsearch.scan.csv_rows import opened_csv, read_rows
from clipsearch.store import Snapshot
from clipsearch.types import Ints

CLASSES = tuple(Alike)  # the strictest first
NOT_GIVEN = "no class given"
EXAMPLES = 3  # wrong pairs that a report gives
_WORDS = {word: kind for kind in Alike for word in (str(kind), str(kind).split()[-1])}  # "same bytes", "bytes"
_COLUMNS = {"image", "duplicate_of"}


@dataclass(frozen=True, slots=True)
class Finder:
    """Finds duplicates with the same options again and again; see ``find_duplicates``."""

    limits: Limits = Limits()  # noqa: RUF009 (frozen)
    look: bool = True
    thorough: bool = False
    exact: bool | None = None
    progress: Callable[[Progress], None] | None = None

    def __call__(self, snapshot: Snapshot, allowed: Ints | None = None) -> DuplicateReport:
        """Find duplicates among pictures given by ids (n,), ascending, or among all."""
        return find_duplicates(
            snapshot,
            allowed=allowed,
            limits=self.limits,
            look=self.look,
            thorough=self.thorough,
            exact=self.exact,
            progress=self.progress,
        )

    def usual(self) -> "Finder":
        """Return one with the measured limits that looks at files; how long a burst may take is a matter of taste."""
        return replace(self, limits=Limits(burst_seconds=self.limits.burst_seconds), look=True)


@dataclass(frozen=True, slots=True)
class DuplicateRow:
    """What became of the pairs of one class, or of one kind of planted copy.

    Attributes:
        name: the class or the kind; "total" for all.
        planted: true pairs.
        found: the share of them that one group holds, or groups that share a picture; None without a pair.
        proposed_as: how many were found, by the class in which.
        as_planted: how many of them in the class that is true; None where the file says none.
        wrong: pairs that were found besides and are no copies; None for a class of a file, which has none of its
            own.
    """

    name: str
    planted: int
    found: Share | None
    proposed_as: dict[str, int]
    as_planted: int | None
    wrong: int | None = None


@dataclass(frozen=True, slots=True)
class DuplicateAccuracy:
    """How well duplicates are found.

    Attributes:
        source: "truth" for a file, "planted" for copies that were planted.
        images: pictures that were searched for duplicates, planted ones not counted.
        judged: pictures that the file names and the collection has; of planted ones, those that were copied.
        rows: by class, or by kind of copy.
        total: of all.
        wrong: pairs that were found and are no copies, by the class in which.
        precision: the share of the pairs found, among those that can be judged, that are right; None without one.
        wrong_examples: pairs of pictures that were joined and are no copies, the first few.
        missing: pictures that the file names and the collection lacks.
        seed: decides which pictures were planted; None for a file.
        notes: what a person should know.
    """

    source: str
    images: int
    judged: int
    rows: tuple[DuplicateRow, ...]
    total: DuplicateRow
    wrong: dict[str, int]
    precision: Share | None
    wrong_examples: tuple[tuple[str, str], ...] = ()
    missing: int = 0
    seed: int | None = None
    notes: tuple[str, ...] = ()


@dataclass
class _Truth:
    """A file of truth: links between row ids, the name that the file gave each, and what could not be used."""

    links: list[Link] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    missing: dict[str, None] = field(default_factory=dict)
    own: dict[str, None] = field(default_factory=dict)
    lines: int = 0
    notes: tuple[str, ...] = ()


def evaluate_duplicates(snapshot: Snapshot, path: str | os.PathLike[str], find: Finder) -> DuplicateAccuracy:
    """Measure what is found against a CSV with the columns image, duplicate_of and, if it is known, class.

    Args:
        snapshot: the collection.
        path: the CSV; a line with an empty duplicate_of names a picture that has no copy.
        find: finds duplicates.

    Raises:
        SourceNotFoundError: there is no such file.
        InputError: it has no such columns or names no such class, or no pair can be used.
    """
    truth = _read(snapshot, path)
    if not truth.links:
        raise InputError(_nothing_usable(path, truth))
    ids = sorted(truth.names)
    report = find(snapshot)
    true = nested(truth.links, ids, len(CLASSES) + 1)
    found = nested(links_of(report), ids, len(CLASSES))
    agreement = compare(true, found)
    titles = (*map(str, CLASSES), NOT_GIVEN)
    rows = tuple(
        DuplicateRow(
            name,
            int(agreement.true[n]),
            agreement.recall[n],
            by_class(agreement.found[n]),
            int(agreement.found[n, n]) if n < len(CLASSES) else None,
        )
        for n, name in enumerate(titles)
        if agreement.true[n]
    )
    pairs = [(ids[a], ids[b]) for a, b in examples_of_wrong(true[-1], found[-1], EXAMPLES)]
    return DuplicateAccuracy(
        source="truth",
        images=report.images,
        judged=len(ids),
        rows=rows,
        total=DuplicateRow(
            "total",
            int(agreement.true.sum()),
            agreement.recall_of_all,
            by_class(agreement.found.sum(axis=0)),
            None if agreement.true[-1] else int(np.trace(agreement.found)),
            int(agreement.wrong.sum()),
        ),
        wrong=by_class(agreement.wrong),
        precision=agreement.precision,
        wrong_examples=tuple((truth.names[a], truth.names[b]) for a, b in pairs),
        missing=len(truth.missing),
        notes=_notes(truth),
    )


def links_of(report: DuplicateReport) -> list[Link]:
    """Return the groups of a report as links between row ids."""
    return [(CLASSES.index(group.kind), [file.id for file in group.files]) for group in report.groups]


def by_class(counts: Ints) -> dict[str, int]:
    """Return counts (3,) by the name of the class."""
    return {str(kind): int(n) for kind, n in zip(CLASSES, counts, strict=True)}


def _read(snapshot: Snapshot, path: str | os.PathLike[str]) -> _Truth:
    places, truth = ImagePlaces.of(snapshot), _Truth()
    beside = os.path.dirname(os.path.abspath(os.fsencode(path)))
    folders = [*(snapshot.root_path(root.id) for root in snapshot.manifest.roots), beside]

    def find(name: str) -> int | None:
        id_ = places.find(os.fsencode(name), folders)
        if id_ is None:
            truth.missing.setdefault(name)
        else:
            truth.names.setdefault(id_, name)
        return id_

    problems = Problems()
    for line, row in _rows(path, problems):
        image, other = ((row[name] or "").strip() for name in ("image", "duplicate_of"))
        if not image:
            continue
        truth.lines += 1
        ids = [find(name) for name in (image, other) if name]
        level = _level(path, line, row.get("class"))
        if len(ids) == 2 and ids[0] is not None and ids[0] == ids[1]:
            truth.own.setdefault(image)
        elif len(ids) == 2 and ids[0] is not None and ids[1] is not None:
            truth.links.append((level, (ids[0], ids[1])))
    truth.notes = problems.notes(os.fspath(path))
    return truth


def _level(path: str | os.PathLike[str], line: int, word: str | None) -> int:
    word = (word or "").strip().lower()
    if not word:
        return len(CLASSES)
    if word not in _WORDS:
        raise InputError(
            f"{path}, line {line}: no class of duplicates is called {word[:40]!r}.\n"
            f"Give {', '.join(CLASSES[:-1])} or {CLASSES[-1]}, or leave it empty."
        )
    return CLASSES.index(_WORDS[word])


def _rows(path: str | os.PathLike[str], problems: Problems) -> list[tuple[int, dict[str, str]]]:
    """Return the lines of a CSV with their numbers; what stands behind the image may be left out."""
    missing = f"There is no file of duplicates {path}. Give a CSV: image,duplicate_of,class"
    with opened_csv(path, missing, "a CSV of duplicates") as file:
        columns, rows = read_rows(file, problems.add, least=1)
        lacking = _COLUMNS - set(columns)
        if lacking:
            raise InputError(
                f"{path} has no column {', '.join(sorted(lacking))}.\n"
                "The first line is: image,duplicate_of,class; class may be left out."
            )
        return list(rows)


def _nothing_usable(path: str | os.PathLike[str], truth: _Truth) -> str:
    if truth.missing:
        what = f"; the collection lacks {few(list(truth.missing))}.\nGive paths relative to the indexed folder"
        return f"{path} has no pair of pictures of this collection{what}, or absolute ones."
    if truth.own:
        return f"{path} has no pair: it calls pictures duplicates of themselves ({few(list(truth.own))})."
    return f"{path} has no pair. Write one a line: image,duplicate_of,class"


def _notes(truth: _Truth) -> tuple[str, ...]:
    notes = list(truth.notes)
    if truth.missing:
        n = len(truth.missing)
        what = "picture that the file names is" if n == 1 else "pictures that the file names are"
        notes.append(f"{n:,} {what} not in the collection: {few(list(truth.missing))}.")
    if truth.own:
        n = len(truth.own)
        what = "picture is called a duplicate of itself" if n == 1 else "pictures are called duplicates of themselves"
        notes.append(f"{n:,} {what}, which counts for nothing: {few(list(truth.own))}.")
    return tuple(notes)
