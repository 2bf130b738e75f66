"""A part of a collection in memory, to calibrate and to measure on: pictures and captions come and go as masks."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.flows.sampling import sampled_ids
from clipsearch.store import Snapshot
from clipsearch.types import EmbeddingBlock, Halves, Ints


@dataclass(frozen=True, slots=True, eq=False)
class MemoryRows:
    """Rows: ids (n,) ascending, embeddings (n, D) float16; for texts the picture (n,) of each, or -1, and the text."""

    ids: Ints
    embeddings: Halves
    owners: Ints
    texts: tuple[str, ...] = ()

    def part(self, keep: NDArray[np.bool_]) -> "MemoryRows":
        """Return those marked in a mask (n,)."""
        texts = tuple(self.texts[i] for i in np.flatnonzero(keep)) if self.texts else ()
        return MemoryRows(self.ids[keep], self.embeddings[keep], self.owners[keep], texts)


class MemoryVersion:
    """A version of a collection in memory; see ``calibrate_rows.Version`` for what it promises."""

    def __init__(self, images: MemoryRows, texts: MemoryRows, version: int = 1) -> None:
        self.version = version
        self.kinds = {"images": images, "texts": texts}

    @classmethod
    def read(cls, snapshot: Snapshot, limit: int) -> "MemoryVersion":
        """Read the live rows, at most ``limit`` pictures, chosen by content, and the captions of those."""
        ids = np.sort(sampled_ids(snapshot, limit))
        nobody = np.full(len(ids), -1, np.int64)
        images = MemoryRows(ids, snapshot.embeddings("images", ids), nobody)
        linked = [text for text in snapshot.captions() if text.image_id is not None]
        owners = np.array([text.image_id for text in linked], dtype=np.int64)
        kept = [linked[i] for i in np.flatnonzero(np.isin(owners, ids))]
        kept.sort(key=lambda text: text.id)
        text_ids = np.array([text.id for text in kept], dtype=np.int64)
        texts = MemoryRows(
            text_ids,
            snapshot.embeddings("texts", text_ids),
            np.array([text.image_id for text in kept], dtype=np.int64),
            tuple(text.text for text in kept),
        )
        return cls(images, texts, snapshot.version)

    def part(self, images: NDArray[np.bool_], without: Ints) -> "MemoryVersion":
        """Return the pictures marked in a mask and their captions, but for those whose ids are in ``without``."""
        kept, texts = self.kinds["images"].part(images), self.kinds["texts"]
        stay = np.isin(texts.owners, kept.ids) & ~np.isin(texts.ids, without)
        return MemoryVersion(kept, texts.part(stay), self.version)

    def count(self, kind: str) -> int:
        """Return how many rows there are."""
        return len(self.kinds[kind].ids)

    def deleted_ids(self) -> Ints:
        """Return nothing: what is gone is not here."""
        return np.empty(0, np.int64)

    def blocks(self, kind: str) -> Iterator[EmbeddingBlock]:
        """Yield all rows."""
        rows = self.kinds[kind]
        if len(rows.ids):
            yield EmbeddingBlock(rows.ids, rows.embeddings)

    def embeddings(self, kind: str, ids: Any) -> Halves:  # Any: sequence or array of ids
        """Return embeddings (n, D) of rows by id."""
        rows = self.kinds[kind]
        return rows.embeddings[np.searchsorted(rows.ids, ids)]

    def rows(self, kind: str, ids: Any) -> list[dict[str, Any]]:  # Any: as above
        """Return the metadata of rows by id."""
        rows = self.kinds[kind]
        return [
            {"id": int(rows.ids[i]), "image_id": int(rows.owners[i]), "text": rows.texts[i]}
            for i in np.searchsorted(rows.ids, ids)
        ]

    def caption_links(self) -> tuple[Ints, Ints]:
        """Return ids (n,) of pictures, and the ids (n,) of the texts that belong to them."""
        rows = self.kinds["texts"]
        linked = rows.owners >= 0
        return rows.owners[linked], rows.ids[linked]
