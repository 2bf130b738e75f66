"""The two streams: results on stdout, everything else on stderr; and what each may show.

stdout carries results only, as bytes: a file name need not be text. A stream gets colours where it is a terminal that
knows them and nobody asked for none (``--no-color``, ``NO_COLOR``, ``TERM=dumb``).
"""

import os
import sys
from collections.abc import Iterable
from typing import IO, Any, BinaryIO, cast

import click


class Console:
    """Where a command writes, and how much.

    Attributes:
        command: name of the command that runs.
        quiet: say nothing on stderr but errors.
        verbose: say more on stderr.
        no_color: use no colours.
        debug: show the traceback of an error.
    """

    def __init__(self) -> None:
        self.command = ""
        self.quiet = self.verbose = self.no_color = self.debug = False

    def colour(self, stream: IO[str]) -> bool:
        """Tell whether a stream is to have colours."""
        plain = self.no_color or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        return not plain and is_terminal(stream)

    def results(self, lines: Iterable[str | bytes], end: bytes = b"\n") -> None:
        """Write lines to stdout."""
        stream = binary(sys.stdout)
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        try:
            for line in lines:
                stream.write((line if isinstance(line, bytes) else line.encode(encoding, "replace")) + end)
            stream.flush()
        except BrokenPipeError:
            raise
        except OSError as problem:
            raise click.ClickException(f"The results cannot be written: {problem.strerror}.") from problem

    def json(self, lines: Iterable[str]) -> None:
        """Write JSON Lines to stdout: UTF-8 whatever the terminal speaks."""
        self.results(line.encode() for line in lines)

    def note(self, text: str) -> None:
        """Say something on stderr, unless asked to be quiet."""
        if not self.quiet:
            self._say(_fitted(_harmless(text)))

    def detail(self, text: str) -> None:
        """Say something on stderr that only --verbose asks for."""
        if self.verbose:
            self.note(text)

    def complain(self, text: str, word: str = "error") -> None:
        """Say what went wrong on stderr, quiet or not."""
        said = _fitted(f"{word}: {_harmless(text)}") if text else word
        if self.colour(sys.stderr):
            length = len(word) + bool(text)
            said = f"\x1b[1;31m{said[:length]}\x1b[0m{said[length:]}"
        self._say(said)

    def _say(self, text: str) -> None:
        encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
        stream = binary(sys.stderr)
        sys.stderr.flush()
        stream.write(text.encode(encoding, "backslashreplace") + b"\n")
        stream.flush()


def _harmless(text: str) -> str:
    """Spell out what a file name in a message could do to a terminal."""
    from clipsearch.present.text import printable

    return "\n".join(map(printable, text.split("\n")))


def _fitted(text: str) -> str:
    """Break lines that are wider than the terminal between words; a pipe gets them whole."""
    if not is_terminal(sys.stderr):
        return text
    width = terminal_width(sys.stderr)
    return "\n".join(_broken(line, width) for line in text.split("\n"))


def _broken(line: str, width: int) -> str:
    from clipsearch.present.text import cell_width

    lines = [""]
    for place, word in enumerate(line.split(" ")):
        longer = f"{lines[-1]} {word}" if place else word
        if place and cell_width(longer) > width and lines[-1].strip():
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def binary(stream: IO[str]) -> BinaryIO:
    """Return the bytes below a text stream."""
    return cast(Any, stream).buffer  # Any: typing.IO does not know of it


def is_terminal(stream: IO[str]) -> bool:
    """Tell whether a person looks at a stream."""
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def terminal_width(stream: IO[str]) -> int:
    """Return the cells in a line: the environment variable COLUMNS, else what the terminal says, else 80."""
    named = os.environ.get("COLUMNS", "")
    if named.isdecimal() and int(named) > 0:
        return max(int(named), 20)
    try:
        return max(os.get_terminal_size(stream.fileno()).columns or 80, 20)
    except (OSError, ValueError):
        return 80
