"""A table of labels or captions, written again for variants: a picture's row becomes a row of each of its variants."""

import csv
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from clipsearch.augment.images import parse_kind
from clipsearch.errors import InputError, StorageError
from clipsearch.generate.cache import write_whole
from clipsearch.scan.captions import Problems
from clipsearch.scan.csv_rows import opened_csv, read_rows

LABELS = "labels.csv"
_SIDES = re.compile(r"\b(left|right)\b", re.IGNORECASE)

Table = tuple[list[str], list[dict[str, str]]]


def read_table(path: str, problems: Problems | None = None) -> Table:
    """Return columns and rows of a CSV with a column image; ``problems`` is told of lines that are left out.

    Raises:
        SourceNotFoundError: there is no such file.
        InputError: it is no CSV with a column image.
    """
    with opened_csv(path, f"There is no table {path}. Give a CSV with a column image.", "a CSV") as file:
        columns, rows = read_rows(file, (problems or Problems()).add, least=1)
        if "image" not in columns:
            raise InputError(f"{path} has no column image in its first line: {', '.join(columns)[:100] or 'none'}.")
        return columns, [row for _, row in rows]


def captions_of(path: str) -> dict[str, str]:
    """Return the first caption of each picture that a table names; none where it has no column caption.

    Raises:
        SourceNotFoundError: there is no such file.
        InputError: it is no CSV with a column image.
    """
    columns, rows = read_table(path)
    found: dict[str, str] = {}
    for row in rows if "caption" in columns else ():
        if row["caption"].strip():
            found.setdefault(os.path.normpath(row["image"]), row["caption"].strip())
    return found


def write_labels(path: str, place: str, variants: Sequence[Mapping[str, Any]]) -> tuple[int, list[str]]:
    """Write the rows of a table with the files of variants for images; returns how many, and what there is to say.

    A text that says left or right is not true of a mirrored picture, so such a variant does not get it.
    """
    problems = Problems()
    columns, rows = read_table(path, problems)
    by_source: dict[str, list[Mapping[str, Any]]] = {}
    for variant in variants:
        by_source.setdefault(str(variant["source"]), []).append(variant)
    find = _finder(by_source)
    written, unknown, mirrored = io.StringIO(newline=""), 0, 0
    writer = csv.DictWriter(written, columns, lineterminator="\n")
    writer.writeheader()
    n = 0
    for row in rows:
        source = find(row["image"])
        if source is None:
            unknown += 1
            continue
        says_sides = any(_SIDES.search(value) for name, value in row.items() if name != "image")
        for variant in by_source[source]:
            if says_sides and _is_mirrored(str(variant["kind"])):
                mirrored += 1
                continue
            writer.writerow({**row, "image": variant["file"]})
            n += 1
    try:
        write_whole(place, written.getvalue().encode("utf-8", "surrogateescape"))
    except OSError as problem:
        raise StorageError(f"{place} cannot be written: {problem.strerror or problem}.") from problem
    return n, [*problems.notes(path), *_notes(unknown, mirrored)]


def _is_mirrored(kind: str) -> bool:
    return kind != "generated" and parse_kind(kind).count("flip") % 2 == 1


def _finder(sources: Mapping[str, Any]) -> Any:  # Any: str -> str | None
    """Return what finds a picture by its path below the folder, or by a name that only one has."""
    names: dict[str, str | None] = {}
    for source in sources:
        base = os.path.basename(source)
        names[base] = None if base in names else source

    def find(image: str) -> str | None:
        path = os.path.normpath(image)
        return path if path in sources else names.get(os.path.basename(path))

    return find


def _notes(unknown: int, mirrored: int) -> Iterator[str]:
    if unknown:
        yield f"{unknown:,} rows of the table name no picture of which there is a variant; they are left out."
    if mirrored:
        yield f"{mirrored:,} rows say left or right, which a mirrored picture turns round; they are left out."
