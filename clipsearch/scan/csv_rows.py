"""Rows of a CSV file of which some lines may be broken: each costs itself, is named, and the others are read.

A quote that is opened and not closed takes all lines up to the next quote into its field. Such a record is given up,
and reading goes on with the line after its first. A quoted field with line ends in it that is closed as it should be
(RFC 4180) is a field like any other.
"""

import csv
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from clipsearch.errors import InputError, SourceNotFoundError

MAX_LINES = 1_000  # of one record: what is longer is taken for a quote that nobody closed
Rows = Iterator[tuple[int, dict[str, str]]]


class _Lines:
    """The lines of a file, of which the last that were taken can be taken once more."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._again: deque[str] = deque()
        self.taken: list[str] = []
        self.first = 1  # number of the first taken

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if len(self.taken) == MAX_LINES:
            raise csv.Error("too many lines")
        line = self._again.popleft() if self._again else next(self._file)
        self.taken.append(line)
        return line

    def keep(self, n: int) -> None:
        """Let the first n of those taken go, and the others come again."""
        self._again.extendleft(reversed(self.taken[n:]))
        self.first += n
        self.taken = []


@contextmanager
def opened_csv(path: str | os.PathLike[str], missing: str, what: str) -> Iterator[TextIO]:
    """Open a CSV file; bytes that are not UTF-8 come through unchanged.

    Args:
        path: the file.
        missing: what to say where there is none.
        what: what it should be, such as "a CSV of labels".

    Raises:
        SourceNotFoundError: there is no such file.
        InputError: it cannot be read, or its first line is broken.
    """
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            yield file
    except FileNotFoundError as problem:
        raise SourceNotFoundError(missing) from problem
    except (OSError, csv.Error) as problem:
        raise InputError(f"{path} cannot be read as {what}: {problem}.") from problem


def read_rows(
    file: TextIO, tell: Callable[[str], None], delimiter: str = ",", least: int | None = None
) -> tuple[list[str], Rows]:
    """Return the columns that the first line names, and the rows with the numbers of their first lines.

    Args:
        file: opened with ``newline=""``.
        tell: told of each line that is left out, by its number and with the reason.
        delimiter: what stands between fields.
        least: how many fields a row must have, those behind are empty; None for all.

    Raises:
        csv.Error: the first line is broken.
    """
    lines = _Lines(file)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    columns = next(reader, [])
    lines.keep(len(lines.taken))
    return columns, _rows(lines, reader, columns, tell, len(columns) if least is None else least)


def _rows(
    lines: _Lines, reader: Iterator[list[str]], columns: list[str], tell: Callable[[str], None], least: int
) -> Rows:
    while True:
        try:
            row = next(reader, None)
            if row is None:
                return
            while len(row) > len(columns) and not row[-1]:  # a delimiter too many at the end costs nothing
                row.pop()
            wrong = _misfit(row, len(columns), least) if any(row) else None
        except csv.Error as problem:
            row, wrong = [], _reason(problem, len(lines.taken))
        first = lines.first
        lines.keep(len(lines.taken) if wrong is None else 1)
        if wrong is not None:
            tell(f"line {first} ({wrong})")
        elif any(row):
            yield first, dict(zip(columns, row + [""] * (len(columns) - len(row)), strict=True))


def _misfit(row: list[str], most: int, least: int) -> str | None:
    """Say that a row has too many or too few fields; None where it has not."""
    if least <= len(row) <= most:
        return None
    return f"{len(row)} field{'' if len(row) == 1 else 's'}, where the first line has {most}"


def _reason(problem: csv.Error, lines: int) -> str:
    """Say what is wrong with a record that took some lines until that was seen."""
    if lines > 1 or "end of data" in str(problem):
        return "a quote in it is not closed"
    if "field limit" in str(problem):
        return f"a field of more than {csv.field_size_limit():,} characters"
    return "text behind a closing quote"
