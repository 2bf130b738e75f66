"""One version of a collection, ready to be searched."""

import hashlib
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from clipsearch.flows import augment_files
from clipsearch.flows.calibration_files import load_calibration, pointer_of
from clipsearch.flows.index_folders import INDEX_FOLDERS, read_index_pointer
from clipsearch.flows.verdicts import Judge, make_judge
from clipsearch.index import INDEX_TYPES
from clipsearch.index.base import VectorIndex
from clipsearch.store import Snapshot
from clipsearch.types import Ints

if TYPE_CHECKING:
    from clipsearch.filter.connection import Engine
    from clipsearch.filter.mask import Mask, MaskCache
    from clipsearch.flows.augmenter import Augmenter

INDEX_TYPE = "flat"
FILTERS = 32  # whose calibrations are remembered


class View:
    """One version of a collection, its indexes, each made on first use and warmed on second, and its last filters."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.built = {kind: read_index_pointer(snapshot.path, kind) for kind in INDEX_FOLDERS}  # which were in force
        self.notes: dict[str, tuple[str, ...]] = {}  # why a built index is not used, by kind of rows
        self._cold: dict[str, Any] = {}  # Any: a FlatIndex; registries give classes untyped
        self._warm: dict[str, VectorIndex] = {}
        self._masks: dict[str, MaskCache] = {}
        self._engine: Engine | None = None
        self._digests: dict[tuple[str, str], tuple[Ints, bytes]] = {}  # of the rows of the last filters
        self._filtered: dict[tuple[str, bytes], tuple[Judge, Judge]] = {}  # whole, filtered; last used last
        self._judges: tuple[bytes | None, dict[str, Judge]] | None = None
        self._augmenter: tuple[bytes, Augmenter] | None = None

    def judge(self, kind: str, where: str | None, lock: threading.RLock) -> Judge:
        """Return who gives verdicts on answers among "images" or "texts", or those of them that a filter lets pass.

        Filters are told apart by the rows they leave, so one that was written differently is not measured again.
        """
        judge = self._judge(kind)
        if where is None or judge.target is None:
            return judge
        allowed, images = self.allowed(where, kind, lock), self.allowed(where, "images", lock)
        key = (kind, self._digest(where, kind, allowed))
        with lock:
            known = self._filtered.pop(key, None)
            if known is None or known[0] is not judge:
                from clipsearch.flows.filtered_verdicts import filtered

                known = (judge, filtered(judge, self.snapshot, kind, allowed, images))
            self._filtered[key] = known
            if len(self._filtered) > FILTERS:
                del self._filtered[next(iter(self._filtered))]
            return known[1]

    def augmenter(self) -> "Augmenter | None":
        """Return the rungs that are on, or None; a fit or a switch since the last search is taken up.

        Two threads may both read them; either result is right.
        """
        pointer = augment_files.pointer_of(self.snapshot.path)
        if pointer is None:
            return None
        known = self._augmenter
        if known is None or known[0] != pointer:
            from clipsearch.flows.augmenter import make_augmenter

            known = self._augmenter = (pointer, make_augmenter(self.snapshot))
        return known[1]

    def _digest(self, where: str, kind: str, allowed: Ints) -> bytes:
        """Return what tells the rows of a filter (n,) from others; looked at once, for there may be a million."""
        known = self._digests.get((where, kind))
        if known is None or known[0] is not allowed:
            known = (allowed, hashlib.blake2b(allowed.tobytes(), digest_size=16).digest())
            self._digests = {**dict(list(self._digests.items())[-FILTERS + 1 :]), (where, kind): known}
        return known[1]

    def _judge(self, kind: str) -> Judge:
        """Return who gives verdicts on answers among all rows.

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
        calibration = load_calibration(self.snapshot.path, self.snapshot.stamps)
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
            self._cold[kind] = self._make(kind)
            return self._cold[kind]

    def is_current(self) -> bool:
        """Tell whether the built indexes are those in force."""
        return all(read_index_pointer(self.snapshot.path, kind) == built for kind, built in self.built.items())

    def _make(self, kind: str) -> Any:  # Any: as _cold
        """Open the built index of a kind of rows where there is one, else make an exact one."""
        if self.built[kind] is not None:
            from clipsearch.flows.index_files import open_index

            built, self.notes[kind] = open_index(self.snapshot, kind)
            if built is not None:
                return built
        return _make_index(self.snapshot, kind)

    def allowed(self, where: str, kind: str, lock: threading.RLock) -> Ints:
        """Return the ids (n,), ascending, of the live rows that a filter lets pass: images, or texts of such images.

        A filter that was asked before costs nothing. The lock is held for a look at the memory only, so two threads
        that ask the same at once may both work for it.

        Raises:
            FilterSyntaxError: it is not one boolean expression over the columns of ``Snapshot.metadata_columns``.
        """
        from clipsearch.filter.mask import MaskCache

        with lock:
            memory = self._masks.setdefault(kind, MaskCache())
            mask = memory.get(where)
        if mask is None:
            mask = self._filter(where, kind, lock)
            with lock:
                memory.put(where, mask)
        mask.ids.flags.writeable = False  # so an index may remember what it made of them
        return mask.ids

    def _filter(self, where: str, kind: str, lock: threading.RLock) -> "Mask":
        from clipsearch.filter.mask import MaskCache, allowed_ids

        def known(key: str) -> "Mask | None":
            with lock:
                return self._masks.setdefault("images", MaskCache()).get(key)

        snapshot = self.snapshot
        mask = allowed_ids(
            where, snapshot.metadata_columns(), snapshot.stored_table, engine=self._started(), known=known
        )
        ids = snapshot.live(mask.ids)
        return replace(mask, ids=ids if kind == "images" else snapshot.texts_of(ids))

    def _started(self) -> "Engine":
        """Return what filters run in. Two threads may both start one; one of the two is kept."""
        engine = self._engine
        if engine is None:
            from clipsearch.filter.connection import Engine

            engine = self._engine = Engine().start()
            self.snapshot.stored_table()  # loads Arrow, which takes a while too
        return engine


def _make_index(snapshot: Snapshot, kind: str) -> Any:  # Any: registries give classes untyped
    index = INDEX_TYPES.load(INDEX_TYPE)(snapshot.manifest.dim)
    for block in snapshot.blocks(kind):
        index.add(block)
    index.remove(snapshot.deleted_ids())
    return index
