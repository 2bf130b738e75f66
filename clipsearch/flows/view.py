"""One version of a collection, ready to be searched."""

import threading
from typing import Any

from clipsearch.index import INDEX_TYPES
from clipsearch.index.base import VectorIndex
from clipsearch.store import Snapshot

INDEX_TYPE = "flat"


class View:
    """One version of a collection and its indexes, each made on first use and warmed on second."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._cold: dict[str, Any] = {}  # Any: a FlatIndex; registries give classes untyped
        self._warm: dict[str, VectorIndex] = {}

    def index(self, kind: str, lock: threading.RLock) -> VectorIndex:
        """Return the index of "images" or "texts"."""
        if kind in self._warm:
            return self._warm[kind]
        with lock:
            if kind in self._warm:
                return self._warm[kind]
            if kind in self._cold:  # asked again: this process stays, so a float32 copy pays
                self._warm[kind] = self._cold.pop(kind).warmed()
                return self._warm[kind]
            self._cold[kind] = _make_index(self.snapshot, kind)
            return self._cold[kind]


def _make_index(snapshot: Snapshot, kind: str) -> Any:  # Any: registries give classes untyped
    index = INDEX_TYPES.load(INDEX_TYPE)(snapshot.manifest.dim)
    for block in snapshot.blocks(kind):
        index.add(block)
    index.remove(snapshot.deleted_ids())
    return index
