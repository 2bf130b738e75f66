"""What the arguments of ``search`` mean: words, a picture's file, or a picture on stdin.

An argument that names a file is a picture; everything else is words. What only looks like a file, such as a
mistyped ``./holiday.jpg``, is refused, for nobody searches for the words of a file name by accident.
"""

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from clipsearch.cli.console import binary, is_terminal
from clipsearch.errors import InputError, QueryImageError

_LOOKS_LIKE_FILE = re.compile(
    r"(\.{0,2}/.*)|\S+\.(jpe?g|jpe|jfif|png|webp|gif|bmp|dib|tiff?|avif|heic|heif|hif)", re.IGNORECASE | re.DOTALL
)
_WEIGHTED = re.compile(r"(\d+(?:\.\d*)?|\.\d+):(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Asked:
    """One part of a query as the command line gives it.

    Attributes:
        label: the argument, for output.
        text: words, or None.
        image: path or bytes of a picture, or None.
        guessed: whether it counts as a picture only because a file has that name.
        weight: how much of it.
    """

    label: str
    text: str | None = None
    image: Any = None  # Any: Path or bytes
    guessed: bool = False
    weight: float = 1.0

    def part(self) -> Any:  # Any: what Collection.search takes for a part
        """Return the part as ``Collection.search`` takes it in ``add`` and ``subtract``."""
        from clipsearch import Weighted

        value = self.text if self.image is None else self.image
        return value if self.weight == 1.0 else Weighted(value, self.weight)


def read_query(argument: str, force: str | None = None) -> Asked:
    """Read the argument QUERY; ``force`` is "text", "image" or None.

    Raises:
        QueryImageError: a picture was asked for, or the argument looks like one, and there is no such file.
    """
    if force == "text":
        return Asked(argument, text=argument)
    if argument == "-":
        return Asked("-", image=_read_stdin())
    return _read(argument, force == "image")


def read_part(argument: str) -> Asked:
    """Read an argument of --add or --subtract: words or a file, with a weight and a colon in front or not."""
    match = None if _is_file(argument) else _WEIGHTED.fullmatch(argument)
    if match is None:
        return _read(argument, False)
    weight = float(match[1])
    if weight == 0:
        raise InputError(f"The weight of {argument!r} is 0. Give a number above 0, or leave the part out.")
    inner = _read(match[2], False)
    return Asked(argument, inner.text, inner.image, inner.guessed, weight)


def _read(argument: str, is_image: bool) -> Asked:
    if _is_file(argument):
        return Asked(
            argument, image=_image(argument), guessed=not is_image and not _LOOKS_LIKE_FILE.fullmatch(argument)
        )
    if is_image:
        what = "a folder" if os.path.isdir(argument) else "no file"
        raise QueryImageError(f"There is no picture {argument}: it is {what}.")
    if _LOOKS_LIKE_FILE.fullmatch(argument):
        raise QueryImageError(f"There is no file {argument}.\nTo search for these words all the same, add --text.")
    return Asked(argument, text=argument)


def _is_file(argument: str) -> bool:
    return bool(argument) and os.path.exists(argument) and not os.path.isdir(argument)


def _image(path: str) -> Any:  # Any: Path or bytes
    """Return a plain file as its path; a pipe, as the shell's <(...) makes it, is read here, for it is read once."""
    if os.path.isfile(path):
        return Path(path)
    try:
        with open(path, "rb") as file:
            return _read_all(file)
    except OSError as problem:
        raise QueryImageError(f"The picture {path} cannot be read: {problem.strerror}.") from None


def _read_stdin() -> bytes:
    if is_terminal(sys.stdin):
        raise click.UsageError("QUERY - reads a picture from stdin, which is a terminal. Pipe one in.")
    data = _read_all(binary(sys.stdin))
    if not data:
        raise QueryImageError("stdin holds no picture: it is empty.")
    return data


def _read_all(stream: Any) -> bytes:  # Any: a binary stream
    from clipsearch.decode import DecodeLimits

    return stream.read(DecodeLimits().max_bytes + 1)  # one more than is allowed is enough to be refused
