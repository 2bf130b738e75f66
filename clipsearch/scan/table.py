"""A table with a column of paths: CSV or Parquet. Relative paths are meant from the table's own folder."""

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from clipsearch.errors import SourceNotFoundError
from clipsearch.scan import ScanOptions
from clipsearch.scan.listing import ListSource, below_one_root
from clipsearch.scan.names import absolute

_USUAL_COLUMNS = ("path", "image", "file", "image_path", "file_path", "filepath", "file_name", "filename")


@dataclass
class TableSource(ListSource):
    """The images that a table names, met in the order of their path bytes, each once."""

    kind: ClassVar[str] = "table"

    @classmethod
    def open(cls, where: bytes, options: ScanOptions) -> "TableSource":
        """Read the column of paths; raises SourceNotFoundError where it cannot be read or there is no such column."""
        place = absolute(where)
        shown = os.fsdecode(where)
        is_csv = not place.lower().endswith((b".parquet", b".pq"))
        try:
            read = read_csv if is_csv else read_parquet
            paths = list(read(place, shown, options.column))
        except (OSError, ValueError, csv.Error) as error:  # pyarrow's errors are ValueErrors or OSErrors
            why = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise SourceNotFoundError(
                f"The table {shown!r} cannot be read: {why}\nGive a CSV file with a header, or a Parquet file."
            ) from error
        root, relative = below_one_root((path for path in paths if path), os.path.dirname(place))
        stem = os.path.splitext(os.path.basename(place))[0]
        return cls(root, os.fsdecode(stem), relative)


def read_csv(place: bytes, shown: str, column: str | None) -> Iterator[bytes]:
    """Yield the cells of the column of paths; bytes that are not UTF-8 come through unchanged.

    Raises:
        ValueError: a line is broken: a quote that is not closed would hide the pictures of the lines behind it, and
            what a source names no more is taken out.
    """
    with open(place, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        rows, line = csv.reader(file, strict=True), 1
        try:
            names = next(rows, [])
            position = names.index(find_column(names, column, shown))
            line = rows.line_num + 1
            for row in rows:
                if position < len(row):
                    yield row[position].encode("utf-8", "surrogateescape")
                line = rows.line_num + 1
        except csv.Error as problem:
            raise ValueError(f"line {line} is broken, perhaps by a quote that is not closed ({problem})") from problem


def read_parquet(place: bytes, shown: str, column: str | None) -> Iterator[bytes]:
    """Yield the cells of the column of paths, text or binary."""
    import pyarrow.parquet as parquet  # slow to import, and a CSV does not need it

    with open(place, "rb") as raw, parquet.ParquetFile(raw) as file:
        name = find_column(file.schema_arrow.names, column, shown)
        for batch in file.iter_batches(columns=[name]):
            for cell in batch.column(0).to_pylist():
                if cell is not None:
                    yield cell if isinstance(cell, bytes) else str(cell).encode("utf-8", "surrogateescape")


def find_column(names: Sequence[str], wanted: str | None, shown: str) -> str:
    """Return the column of paths: the one asked for, else the first usual name.

    Raises:
        SourceNotFoundError: there is no such column; the message lists those there are.
    """
    known = ", ".join(names) or "none"
    if wanted is not None:
        if wanted in names:
            return wanted
        raise SourceNotFoundError(f"The table {shown!r} has no column {wanted!r}. Its columns: {known}.")
    for usual in _USUAL_COLUMNS:
        for name in names:
            if name.strip().lower() == usual:
                return name
    raise SourceNotFoundError(
        f"The table {shown!r} has no column called path, image or file. Its columns: {known}.\n"
        "Say which one holds the paths of the pictures: --column NAME."
    )
