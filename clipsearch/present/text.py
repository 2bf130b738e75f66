"""Text on a grid of cells: how wide it is, how to make it fit, how to keep it harmless.

A terminal counts cells, not characters: a Chinese character takes two, an accent that sits on the letter before
it takes none. All widths in this room are in cells.
"""

import re
import unicodedata
from datetime import datetime

ELLIPSIS = "…"
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_NAMED = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def printable(text: str) -> str:
    """Return the text with control characters, direction marks and undecodable bytes spelt out as escapes."""
    return text if text.isascii() and text.isprintable() else _CONTROL.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8, as os.fsdecode keeps it
        return f"\\x{code - 0xDC00:02x}"
    return _NAMED.get(match[0]) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def cell_width(text: str) -> int:
    """Return how many cells a terminal gives the text."""
    return len(text) if text.isascii() else sum(map(_char_width, text))


def _char_width(char: str) -> int:
    if char.isascii():
        return 1
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cut(text: str, width: int) -> str:
    """Return the longest start of the text that fits ``width`` cells; an ellipsis marks what is gone."""
    return text if cell_width(text) <= width else _take(text, width - 1) + ELLIPSIS if width > 0 else ""


def shorten_path(path: str, width: int) -> str:
    """Fit a path into ``width`` cells by leaving out its middle: the end, where the file's name is, matters most.

    The name stays whole where it can, with the start of the path in what room is left; a name that is itself too
    long loses its own middle, so that its extension can be seen.
    """
    if cell_width(path) <= width:
        return path
    if width < 8:
        return cut(path, width)
    name = path[path.rfind("/") :]  # with its slash: "holi…/beach.jpg"
    tail = min(max(cell_width(name), (width - 1) * 2 // 3), width - 1)
    if cell_width(name) > width - 1:
        tail = (width - 1) // 2
    end = _take_end(path, tail)
    return _take(path, width - 1 - cell_width(end)) + ELLIPSIS + end


def _take(text: str, width: int) -> str:
    used = 0
    for position, char in enumerate(text):
        used += _char_width(char)
        if used > width:
            return text[:position]
    return text


def _take_end(text: str, width: int) -> str:
    used, start = 0, len(text)
    while start and used + _char_width(text[start - 1]) <= width:
        start -= 1
        used += _char_width(text[start])
    while start < len(text) and _char_width(text[start]) == 0:  # an accent needs the letter before it
        start += 1
    return text[start:]


def pad(text: str, width: int, right: bool = False) -> str:
    """Fill the text with spaces up to ``width`` cells; ``right`` puts it at the right edge."""
    space = " " * max(0, width - cell_width(text))
    return space + text if right else text + space


def wrap(text: str, width: int) -> list[str]:
    """Break the text at spaces into lines of at most ``width`` cells; a longer word is broken within."""
    lines, line = [], ""
    for word in text.split():
        while cell_width(word) > width:
            head = _take(word, width) or word[:1]
            lines += [line, head] if line else [head]
            line, word = "", word[len(head) :]
        if line and cell_width(line) + 1 + cell_width(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line and word else line or word
    return [*lines, line] if line or not lines else lines


def file_size(size: int) -> str:
    """Return a number of bytes as people say it: "1.4 MB"."""
    if size < 1000:
        return f"{size} bytes"
    value, unit = size / 1000, "kB"
    for larger in ("MB", "GB", "TB", "PB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"


def count(number: int, one: str, many: str | None = None) -> str:
    """Return "1 image" or "1,000 images"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """Return "0.4 s", "21.4 s", "12 min 5 s", "3 h 20 min"."""
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def moment(value: datetime | str) -> str:
    """Return a time as "2026-11-20 18:02"; text in ISO 8601 is taken as such a time."""
    text = value if isinstance(value, str) else value.isoformat()
    return text[:16].replace("T", " ")
