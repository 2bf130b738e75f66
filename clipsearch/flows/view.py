"""One version of a collection, ready to be searched."""

import threading
from typing import Any

from clipsearch.flows.calibration_files import load_calibration, pointer_of
from clipsearch.flows.verdicts import Judge, make_judge
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
        self._judges: tuple[bytes | None, dict[str, Judge]] | None = None

    def judge(self, kind: str) -> Judge:
        """Return who gives verdicts on answers among "images" or "texts".

        A calibration may appear after its version did, when ``index`` has finished; so the pointer to it is looked at
        again while there is none that holds. Two threads may both read it; either result is right.
        """
        judges = self._judges
        if judges is not None and kind in judges[1]:
            judge = judges[1][kind]
            if judge.target is not None or pointer_of(self.snapshot.path) == judges[0]:
                return judge
            judges = None
        pointer = pointer_of(self.snapshot.path) if judges is None else judges[0]
        calibration = load_calibration(self.snapshot.path)
        made = make_judge(calibration, self.snapshot, kind)
        self._judges = (pointer, {**(judges[1] if judges else {}), kind: made})
        return made

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
