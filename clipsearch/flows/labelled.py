"""True labels: a CSV of image and label, or a folder whose subfolders are the labels."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import InputError
from clipsearch.flows.captions import ImagePlaces
from clipsearch.present.text import count
from clipsearch.scan.captions import Problems
from clipsearch.scan.csv_rows import opened_csv, read_rows
from clipsearch.scan.names import is_image_name
from clipsearch.store import Snapshot
from clipsearch.types import Ints, display_path

NAMED = 3
Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Pictures of a collection whose labels are known.

    Attributes:
        ids: (n,) ascending.
        truth: (n, L) whether the label is there.
        notes: what a person should know.
    """

    ids: Ints
    truth: NDArray[np.bool_]
    notes: tuple[str, ...] = ()


def read_labelled(path: str | os.PathLike[str], problems: Problems | None = None) -> list[tuple[str, str]]:
    """Return (image, label) pairs of a CSV with these columns, or of a folder with a subfolder for each label.

    ``problems`` is told of lines that are broken, which are left out.

    Raises:
        SourceNotFoundError: there is no such file or folder.
        InputError: it has no such columns, or no pair.
    """
    pairs = _of_folder(path) if os.path.isdir(path) else _of_table(path, problems or Problems())
    if not pairs and os.path.isdir(path):
        raise InputError(f"No subfolder of {path} has a picture; the names of the subfolders are the labels.")
    if not pairs:
        raise InputError(f"{path} names no picture with a label. Write one a line: image,label")
    return pairs


def _of_table(path: str | os.PathLike[str], problems: Problems) -> list[tuple[str, str]]:
    missing = f"There is no file of true labels {path}. Give a CSV: image,label"
    with opened_csv(path, missing, "a CSV of labels") as file:
        columns, rows = read_rows(file, problems.add)
        if not {"image", "label"} <= set(columns):
            shown = ", ".join(columns)[:100] or "none"
            raise InputError(f"{path} has no columns image and label, but {shown}.\nThe first line must name them.")
        return [(row["image"], row["label"].strip()) for _, row in rows if row["image"] and row["label"]]


def _of_folder(path: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """Return the pictures below each subfolder with its name; absolute paths."""
    pairs = []
    place = os.path.abspath(path)
    for label in sorted(os.listdir(place)):
        for folder, _, names in os.walk(os.path.join(place, label)):
            pictures = sorted(name for name in names if is_image_name(os.fsencode(name)))
            pairs += [(os.path.join(folder, name), label) for name in pictures]
    return pairs


def find_labelled(
    snapshot: Snapshot, names: Sequence[str], truth: "Pairs | str | os.PathLike[str]", what: str = "label"
) -> Labelled:
    """Find the pictures of pairs in a collection.

    Args:
        snapshot: the collection.
        names: the labels that are asked about.
        truth: (image, label) pairs, or what ``read_labelled`` takes.
        what: what the second of a pair is called.

    Raises:
        InputError: no pair can be used.
    """
    is_file = isinstance(truth, str | os.PathLike)
    problems = Problems()
    pairs = read_labelled(truth, problems) if is_file else list(truth)
    beside = os.path.dirname(os.path.abspath(os.fsencode(truth))) if is_file else os.fsencode(os.getcwd())
    places = ImagePlaces.of(snapshot)
    folders = [*(snapshot.root_path(root.id) for root in snapshot.manifest.roots), beside]
    found = {name: places.find(os.fsencode(name), folders) for name in dict.fromkeys(image for image, _ in pairs)}
    column = {name.lower(): n for n, name in enumerate(names)}
    missing = [name for name, id_ in found.items() if id_ is None]
    strange = list(dict.fromkeys(label for _, label in pairs if label.lower() not in column))
    ids = np.unique(np.array([id_ for id_ in found.values() if id_ is not None], dtype=np.int64))
    known = np.zeros((len(ids), len(names)), dtype=bool)
    for image, label in pairs:
        id_, at = found[image], column.get(label.lower())
        if id_ is not None and at is not None:
            known[np.searchsorted(ids, id_), at] = True
    if not len(ids):
        raise InputError(
            f"Of {count(len(found), 'picture')} with a true {what} none is in this collection ({few(missing)}).\n"
            "Give paths relative to the indexed folder, or absolute ones."
        )
    if not known.any():
        raise InputError(
            f"No true {what} ({few(strange)}) is among those asked about ({few(list(names))}).\n"
            f"Write each {what} the same in both; capitals do not matter."
        )
    notes = list(problems.notes(os.fspath(truth))) if is_file else []
    if missing:
        some = count(len(missing), "picture")
        verb = "is" if len(missing) == 1 else "are"
        notes.append(f"{some} with a true {what} {verb} not in the collection: {few(missing)}.")
    if strange:
        notes.append(f"True {what}s that were not asked about, so that they count as none: {few(strange)}.")
    return Labelled(ids, known, tuple(notes))


def few(names: Sequence[str]) -> str:
    """Return the first names in one line, and how many more there are."""
    shown = ", ".join(display_path(os.fsencode(name)) for name in names[:NAMED])
    return shown + (f" and {len(names) - NAMED:,} more" if len(names) > NAMED else "")
