"""Where indexed folders are now: collection and pictures can move, together or alone."""

import os
from collections.abc import Sequence
from dataclasses import replace

from clipsearch.store.manifest import Root


def place_of(collection: str, root: Root) -> bytes:
    """Return where a root is now: as seen from the collection's folder if it is there, else where it was."""
    if root.relative is not None:
        place = os.path.normpath(os.path.join(_real(collection), root.relative))
        if os.path.exists(place):
            return place
    return root.absolute


def refreshed(collection: str, root: Root) -> Root:
    """Return a root with both of its places as they are now, if it can be found at all."""
    place = place_of(collection, root)
    if not os.path.exists(place):
        return root
    return replace(root, absolute=place, relative=os.path.relpath(place, _real(collection)))


def find(collection: str, roots: Sequence[Root], absolute: bytes) -> Root | None:
    """Return the root that is at a place now, or was when it was last indexed."""
    for root in roots:
        if place_of(collection, root) == absolute:
            return root
    return next((root for root in roots if root.absolute == absolute), None)


def new_root(collection: str, roots: Sequence[Root], absolute: bytes) -> Root:
    """Return a root for a folder that has none yet."""
    id_ = max((root.id for root in roots), default=-1) + 1
    return Root(id_, absolute, os.path.relpath(absolute, _real(collection)))


def given_root(roots: Sequence[Root]) -> Root:
    """Return the root of paths that are no files below any folder: as they were given, so they stand."""
    return Root(max((root.id for root in roots), default=-1) + 1, b"", None)


def _real(collection: str) -> bytes:
    return os.fsencode(os.path.realpath(collection))
