"""Tables: aligned for a terminal, or one tab-separated line a row for a pipe.

A terminal's table has one column that gives way: it gets the cells that the others leave, and its contents are
shortened or wrapped into them, so no line is wider than the terminal. A pipe gets every field whole.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from clipsearch.present.generated import BADGE
from clipsearch.present.paths import nearest
from clipsearch.present.text import cell_width, cut, pad, printable, shorten_path, wrap
from clipsearch.types import Hit, SearchResult, Verdict

GAP = "  "
Fit = Callable[[str, int], list[str]]


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its heading, whether its contents stand at the right edge, and how they give way.

    Attributes:
        title: heading.
        right: align at the right edge, as numbers are.
        fit: makes lines of at most so many cells out of a value; None keeps values whole.
        least: cells below which the column does not shrink.
        style: ANSI style of the contents, such as "2" for dim.
    """

    title: str
    right: bool = False
    fit: Fit | None = None
    least: int = 8
    style: str = ""


def shortened(value: str, width: int) -> list[str]:
    """Fit a path: its middle is left out."""
    return [shorten_path(value, width)]


def wrapped(value: str, width: int) -> list[str]:
    """Fit a sentence: it goes on in the next line."""
    return wrap(value, width)


def ended(value: str, width: int) -> list[str]:
    """Fit words: their end is left out."""
    return [cut(value, width)]


def render(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int = 80, colour: bool = False
) -> Iterator[str]:
    """Yield a heading and the rows as lines of at most ``width`` cells.

    Columns with a ``fit`` share what the others leave: the widest gives way first.
    """
    for lines in render_groups(columns, rows, width, colour):
        yield from lines


def render_groups(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int = 80, colour: bool = False
) -> Iterator[list[str]]:
    """Yield the lines of the heading, then those of each row."""
    cells = [[printable(value) for value in row] for row in rows]
    widths = _widths(columns, cells, width)
    yield [_paint(_line([column.title for column in columns], columns, widths), "1", colour)]
    for row in cells:
        fitted = [
            column.fit(value, room) if column.fit else [value]
            for column, value, room in zip(columns, row, widths, strict=True)
        ]
        parts = zip_longest(*fitted, fillvalue="")
        yield [_line(part, columns, widths, colour) for part in parts]


def _widths(columns: Sequence[Column], cells: Sequence[Sequence[str]], width: int) -> list[int]:
    natural = [
        max([cell_width(column.title), *(cell_width(row[place]) for row in cells)])
        for place, column in enumerate(columns)
    ]
    over = sum(natural) + len(GAP) * (len(columns) - 1) - width
    while over > 0:  # take from the widest that can give
        givers = [p for p, column in enumerate(columns) if column.fit and natural[p] > column.least]
        if not givers:
            break
        widest = max(givers, key=lambda p: natural[p])
        others = [natural[p] for p in givers if p != widest]
        step = max(1, natural[widest] - max([columns[widest].least, *others]))
        natural[widest] -= min(over, step)
        over -= min(over, step)
    return natural


def _line(values: Sequence[str], columns: Sequence[Column], widths: Sequence[int], colour: bool = False) -> str:
    padded = [
        _paint(pad(value, width, column.right), column.style, colour)
        for value, column, width in zip(values, columns, widths, strict=True)
    ]
    return GAP.join(padded).rstrip()


def _paint(text: str, style: str, colour: bool) -> str:
    return f"\x1b[{style}m{text}\x1b[0m" if colour and style and text.strip() else text


_BADGED = Column("", style="31")
_HIT = (Column("rank", right=True), Column("score", right=True, style="36"))
_FOLDED = Column("alike", right=True, style="2")
_IMAGE_COLUMNS = (*_HIT, Column("path", fit=shortened))
_TEXT_COLUMNS = (*_HIT, Column("caption", fit=wrapped, least=24), Column("image", fit=shortened, style="2"))


def hits_table(result: SearchResult, folder: str, width: int = 80, colour: bool = False) -> Iterator[str]:
    """Yield an answer as a table for a terminal of ``width`` cells; paths are relative to ``folder`` where shorter."""
    if result.target == "text":
        columns = _TEXT_COLUMNS
        rows = [[rank(hit, result), score(hit), hit.text or "", os.path.basename(hit.path)] for hit in result.plain]
    else:
        columns = _IMAGE_COLUMNS
        rows = [[rank(hit, result), score(hit), nearest(hit.path, folder)] for hit in result.plain]
    if any(result.folded):
        columns = (*_HIT, _FOLDED, *columns[2:])
        alike = [f"+{len(others)}" if others else "" for others in result.folded]
        rows = [[*row[:2], n, *row[2:]] for row, n in zip(rows, alike, strict=True)]
    return render(*_badged(columns, rows, result), width, colour)


def _badged(
    columns: Sequence[Column], rows: list[list[str]], result: SearchResult
) -> tuple[Sequence[Column], list[list[str]]]:
    """Add a column that says which pictures a generator made, where there is one."""
    badges = [BADGE if hit.metadata.get("generated") else "" for hit in result.plain]
    if not any(badges):
        return columns, rows
    return (*columns[:2], _BADGED, *columns[2:]), [[*r[:2], b, *r[2:]] for r, b in zip(rows, badges, strict=True)]


def hits_plain(result: SearchResult, folder: str) -> Iterator[bytes]:
    """Yield an answer as lines for a pipe: rank, score and path, or rank, score, caption and path, between tabs.

    A picture that a generator made has one field more, which says so.

    Nothing is shortened. Tabs, line ends and other control characters of a name are spelt out so that a row stays a
    row; bytes that are not UTF-8 go through as they are.
    """
    for hit in result.plain:
        path = _plain_path(nearest(hit.path, folder))
        middle = [] if hit.text is None else [printable(hit.text).encode()]
        badge = [BADGE.encode()] if hit.metadata.get("generated") else []
        yield b"\t".join([rank(hit, result).encode(), score(hit).encode(), *middle, path, *badge])


def _plain_path(path: str) -> bytes:
    return os.fsencode("".join(c if "\udc80" <= c <= "\udcff" else printable(c) for c in path))


def plain(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield any table as lines for a pipe: the headings, then the rows, fields between tabs."""
    yield "\t".join(column.title for column in columns)
    for row in rows:
        yield "\t".join(printable(value) for value in row)


def rank(hit: Hit, result: SearchResult) -> str:
    """Return the rank; in brackets where the hit is only the nearest of what does not match."""
    return f"({hit.rank})" if result.verdict == Verdict.NONE else str(hit.rank)


def score(hit: Hit) -> str:
    """Return the score with the digits that mean something to a person."""
    return f"{hit.score:.3f}"
