"""Paths of hits for people and for programs."""

import os
from collections.abc import Iterator

from clipsearch.types import SearchResult


def path_lines(result: SearchResult, end: bytes = b"\n") -> Iterator[bytes]:
    r"""Yield the hits' paths as the file system has them, each with its end (``b"\n"`` or ``b"\0"``).

    Several captions may belong to one image: each path comes once, at its best rank. A caption without an image
    has no path and yields nothing.
    """
    seen: set[str] = {""}
    for hit in result.plain:
        if hit.path not in seen:
            seen.add(hit.path)
            yield os.fsencode(hit.path) + end


def nearest(path: str, folder: str) -> str:
    """Return the path relative to ``folder`` where that is shorter, else as it is."""
    if not path.startswith("/"):
        return path
    relative = os.path.relpath(path, folder)
    return relative if len(relative) < len(path) else path
