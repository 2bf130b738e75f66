"""Hits: the rows behind an answer, read when somebody first looks at one, from the version that was searched."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from clipsearch.store import Snapshot
from clipsearch.types import Floats, Hit, Ints

METADATA = (
    *("width", "height", "format", "size", "taken", "camera", "lens", "latitude", "longitude"),
    "generated",  # True for what a generator made; a photo has no such entry
)


class LazyHits(Sequence[Hit]):
    """Hits built on first use. Holds on to its snapshot, so a later refresh does not change an answer.

    Two threads that look at once may both read the rows; they read the same, so neither waits for the other.
    """

    def __init__(self, snapshot: Snapshot, kind: str, ids: Ints, scores: Floats) -> None:
        self._snapshot, self._kind, self._ids, self._scores = snapshot, kind, ids, scores
        self._hits: list[Hit] | None = None
        self._plain: list[Hit] | None = None

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: Any) -> Any:  # Any: int gives a Hit, slice a list, as Sequence says
        return self._fetched()[index]

    def __iter__(self) -> Iterator[Hit]:
        return iter(self._fetched())

    def __repr__(self) -> str:
        return f"<{len(self)} hits>"

    @property
    def plain(self) -> list[Hit]:
        """The hits without what columns that were added later say of them, which would take reading those."""
        if self._plain is None:
            self._plain = self._fetch()
        return self._plain

    def _fetched(self) -> list[Hit]:
        if self._hits is None:
            self._hits = [_with_added(hit, added) for hit, added in zip(self.plain, self._added(), strict=True)]
        return self._hits

    def _fetch(self) -> list[Hit]:
        fetch = _text_hits if self._kind == "texts" else _image_hits
        return fetch(self._snapshot, self._ids, self._scores)

    def _added(self) -> list[dict[str, Any]]:
        """Return for each hit what the added columns say of its picture."""
        if not self._snapshot.added_columns():
            return [{}] * len(self)
        if self._kind == "images":
            return self._snapshot.added_values(self._ids)
        images = [row["image_id"] for row in self._snapshot.rows("texts", self._ids.tolist())]
        known = self._snapshot.added_values([-1 if id_ is None else id_ for id_ in images])
        return [added if hit.path else {} for hit, added in zip(self.plain, known, strict=True)]


def _with_added(hit: Hit, added: Mapping[str, Any]) -> Hit:
    return replace(hit, metadata={**hit.metadata, **added}) if added else hit


def _image_hits(snapshot: Snapshot, ids: Ints, scores: Floats) -> list[Hit]:
    rows = snapshot.rows("images", ids.tolist())
    return [
        Hit(rank, int(id_), image_path(snapshot, row), float(score), metadata=_metadata(row))
        for rank, (id_, score, row) in enumerate(zip(ids, scores, rows, strict=True), start=1)
    ]


def _text_hits(snapshot: Snapshot, ids: Ints, scores: Floats) -> list[Hit]:
    texts = snapshot.rows("texts", ids.tolist())
    linked = np.array(list({row["image_id"] for row in texts} - {None}), dtype=np.int64)
    image_ids = linked[~np.isin(linked, snapshot.deleted_ids())].tolist()
    images = dict(zip(image_ids, snapshot.rows("images", image_ids), strict=True))
    hits = []
    for rank, (id_, score, row) in enumerate(zip(ids, scores, texts, strict=True), start=1):
        image = images.get(row["image_id"])
        path = "" if image is None else image_path(snapshot, image)
        metadata = {} if image is None else _metadata(image)
        hits.append(Hit(rank, int(id_), path, float(score), text=row["text"], metadata=metadata))
    return hits


def image_path(snapshot: Snapshot, row: Mapping[str, Any]) -> str:
    """Return where an image row's file is on this machine, ``os.fsdecode``d; a tar member behind ``::``."""
    path = os.path.join(snapshot.root_path(row["root"]), row["path"])
    member = row.get("member")
    return os.fsdecode(path if member is None else path + b"::" + member)


def _metadata(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a person asks of a picture; where the row lies is not part of it."""
    return {name: row[name] for name in METADATA if row.get(name) is not None}
