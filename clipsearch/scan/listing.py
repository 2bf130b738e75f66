"""Paths that somebody names: one image, or a list on standard input.

``ImageRef.path`` is relative to a root in every source; here the root is the deepest folder that holds all paths.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from clipsearch.errors import SourceNotFoundError
from clipsearch.scan import Ignored, Scanned, ScanOptions
from clipsearch.scan.names import absolute, is_image_name, look_at
from clipsearch.types import Skip, SkipReason

_URLS = (b"http://", b"https://", b"s3://", b"gs://")


@dataclass
class ListSource:
    """Images named one by one, met in the order of their path bytes, each once."""

    root: bytes
    name: str
    paths: tuple[bytes, ...]  # relative to the root, sorted
    kind: ClassVar[str] = "list"

    @classmethod
    def open(cls, where: bytes, options: ScanOptions) -> "ListSource":
        """Read the paths from the stream; raises SourceNotFoundError where there is no stream."""
        if options.stdin is None:
            raise SourceNotFoundError(
                "'-' means paths on standard input, and there is none.\nPipe them in, or give a folder."
            )
        root, paths = below_one_root(split_paths(options.stdin.read()), os.getcwdb())
        return cls(root, "stdin", paths)

    def covers(self, path: bytes, member: bytes | None) -> bool:
        """A list says nothing of what it does not name."""
        return False

    def scan(self) -> Iterator[Scanned]:
        """Look at each path."""
        for path in self.paths:
            if path.startswith(_URLS):
                yield Skip(path, SkipReason.VANISHED, "an address, not a file; nothing is downloaded")
            elif is_image_name(path):
                yield look_at(self.root, path)
            else:
                yield Ignored(path, "not an image by its name")


@dataclass
class FileSource:
    """One image, whatever its name."""

    root: bytes
    name: str
    path: bytes
    kind: ClassVar[str] = "file"

    @classmethod
    def open(cls, where: bytes, options: ScanOptions) -> "FileSource":
        """Return the source; raises SourceNotFoundError where there is nothing."""
        place = absolute(where)
        if not os.path.lexists(place):
            raise SourceNotFoundError(f"There is no file {os.fsdecode(where)!r}. Give a picture that exists.")
        root, path = os.path.split(place)
        return cls(root, os.fsdecode(os.path.splitext(path)[0]), path)

    def covers(self, path: bytes, member: bytes | None) -> bool:
        """One file says nothing of the others."""
        return False

    def scan(self) -> Iterator[Scanned]:
        """Look at the file."""
        yield look_at(self.root, self.path)


def split_paths(data: bytes) -> list[bytes]:
    """Split a list of paths at its NUL bytes (``find -print0``) or, where it has none, at its line ends."""
    if b"\0" in data:
        return [path for path in data.split(b"\0") if path]
    lines = [line for line in data.split(b"\n") if line]
    if lines and all(line.endswith(b"\r") for line in lines):
        lines = [line[:-1] for line in lines if line != b"\r"]
    return lines


def below_one_root(paths: Iterable[bytes], base: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """Return the deepest folder that holds all paths, and the paths relative to it: sorted, each once.

    Relative paths are meant from ``base``; addresses (``https://...``) stay as they are.
    """
    distinct = set(paths)
    addresses = {path for path in distinct if path.startswith(_URLS)}
    places = {absolute(path, base) for path in distinct - addresses}
    root = os.path.commonpath([os.path.dirname(place) for place in places]) if places else base
    start = len(root.rstrip(b"/")) + 1
    return root, tuple(sorted({*(place[start:] for place in places), *addresses}))
