"""The rows that a calibration is made on: ids, hubs, content keys, concepts, and walks over their embeddings.

Rows that fit into ``KEPT_BYTES`` are read and widened to float32 once; of larger collections a chunk at a time is in
memory, and each walk reads them again.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from clipsearch.index.flat import as_float32
from clipsearch.match.calibration import Block
from clipsearch.match.concepts import (
    MAX_CONCEPTS,
    ROWS_EACH_ALONE,
    TRAINED_ON,
    Concepts,
    concept_count,
    find_concepts,
)
from clipsearch.match.scores import content_keys, hubs, sample
from clipsearch.types import EmbeddingBlock, Floats, Halves, Ints

CHUNK = 8_192  # rows in memory at a time, and rows that concepts are learnt on
KEPT_BYTES = 128 * 2**20
MAX_CAPTIONS = 100_000  # above it, concepts are found in the pictures alone


class Version(Protocol):
    """What is asked of a version of a collection: a ``Snapshot``, or a part of one."""

    @property
    def version(self) -> int:
        """Number of the version."""
        ...

    def count(self, kind: str) -> int:
        """Return how many live rows there are."""
        ...

    def deleted_ids(self) -> Ints:
        """Return ids (n,) of rows that ``blocks`` gives and that are gone, ascending."""
        ...

    def blocks(self, kind: str) -> Iterable[EmbeddingBlock]:
        """Yield all rows."""
        ...

    def embeddings(self, kind: str, ids: Sequence[int] | Ints) -> Halves:
        """Return embeddings (n, D) of rows by id."""
        ...

    def rows(self, kind: str, ids: Sequence[int] | Ints) -> Sequence[Mapping[str, Any]]:
        """Return the metadata of rows by id."""
        ...

    def caption_links(self) -> tuple[Ints, Ints]:
        """Return ids (n,) of pictures, and the ids (n,) of the live texts that belong to them."""
        ...


@dataclass
class Rows:
    """All live rows of a kind, in the order of the shards.

    Attributes:
        version: where they come from.
        kind: "images" or "texts".
        ids, hubs, keys, concepts: (n,); a concept is -1 until it is known.
        owners: (n,) for texts the id of the picture of each, or -1; None for pictures.
        kept: (n, D) float32, or None where they are too many.
    """

    version: Version
    kind: str
    ids: Ints
    hubs: Floats
    keys: NDArray[np.uint64]
    concepts: Ints
    kept: Floats | None
    owners: Ints | None = None

    def positions(self, ids: Ints) -> Ints:
        """Return where rows (m,) are, -1 for those that are not there."""
        if not len(self.ids):
            return np.full(len(ids), -1, dtype=np.int64)
        order = np.argsort(self.ids, kind="stable")
        at = order[np.minimum(np.searchsorted(self.ids, ids, sorter=order), len(self.ids) - 1)]
        return np.where(self.ids[at] == ids, at, -1)

    def at(self, positions: Ints) -> Floats:
        """Return the embeddings (m, D) of some rows."""
        if self.kept is not None:
            return self.kept[positions]
        return as_float32(self.version.embeddings(self.kind, self.ids[positions]))

    def walk(self) -> Iterator[tuple[slice, Floats]]:
        """Yield embeddings (b, D) of all rows, a chunk at a time, and where they stand."""
        start = 0
        if self.kept is not None:
            for start in range(0, len(self.ids), CHUNK):
                part = slice(start, min(start + CHUNK, len(self.ids)))
                yield part, self.kept[part]
            return
        for ids, rows in _chunks(self.version, self.kind):
            yield slice(start, start + len(ids)), as_float32(rows)
            start += len(ids)

    def blocks(self) -> Iterator[Block]:
        """Yield all rows with hubs and concepts."""
        for part, rows in self.walk():
            owners = None if self.owners is None else self.owners[part]
            yield Block(self.ids[part], rows, self.hubs[part], self.concepts[part], owners)


def read_rows(
    version: Version, kind: str, dim: int, hub_bank: Floats | None, known: tuple[Ints, Floats] | None = None
) -> Rows:
    """Walk over all rows once; their concepts are not known yet.

    Args:
        version: where they come from.
        kind: "images" or "texts".
        dim: length of an embedding.
        hub_bank: (B, D) what hubs are measured with; None leaves them 0.
        known: ids, ascending, and hubs of rows that were measured before with the same bank.
    """
    keep = version.count(kind) * dim * 4 <= KEPT_BYTES
    ids, found, keys = [np.empty(0, np.int64)], [np.empty(0, np.float32)], [np.empty(0, np.uint64)]
    kept = [np.empty((0, dim), np.float32)]
    for chunk_ids, halves in _chunks(version, kind):
        rows = as_float32(halves)
        ids.append(chunk_ids)
        found.append(_hubs(chunk_ids, rows, hub_bank, known))
        keys.append(content_keys(halves))
        if keep:
            kept.append(rows)
    joined = np.concatenate(ids)
    none = np.full(len(joined), -1, np.int64)
    return Rows(
        version,
        kind,
        joined,
        np.concatenate(found),
        np.concatenate(keys),
        none,
        np.concatenate(kept) if keep else None,
    )


def _hubs(ids: Ints, rows: Floats, hub_bank: Floats | None, known: tuple[Ints, Floats] | None) -> Floats:
    """Return hubs (n,): a row and the bank decide them, so those that were measured are taken over."""
    if hub_bank is None:
        return np.zeros(len(rows), np.float32)
    if known is None or not len(known[0]):
        return hubs(rows, hub_bank)
    at = np.minimum(np.searchsorted(known[0], ids), len(known[0]) - 1)
    found = np.asarray(known[1])[at].astype(np.float32)
    new = known[0][at] != ids
    found[new] = hubs(rows[new], hub_bank)
    return found


def live_ids(version: Version, kind: str) -> Ints:
    """Return the ids (n,) of the live rows, ascending."""
    joined = np.concatenate([np.empty(0, np.int64), *(block.ids for block in version.blocks(kind))])
    return np.sort(joined[~np.isin(joined, version.deleted_ids())])


def _chunks(version: Version, kind: str) -> Iterator[tuple[Ints, NDArray[Any]]]:
    """Yield ids and float16 embeddings of live rows, ascending ids, about ``CHUNK`` of them at a time."""
    deleted = version.deleted_ids()
    pieces: list[tuple[Ints, NDArray[Any]]] = []
    gathered = 0
    for block in version.blocks(kind):
        for start in range(0, len(block.ids), CHUNK):
            ids, rows = block.ids[start : start + CHUNK], block.embeddings[start : start + CHUNK]
            keep = ~np.isin(ids, deleted)
            pieces.append((ids, rows) if keep.all() else (ids[keep], rows[keep]))
            gathered += len(pieces[-1][0])
            if gathered >= CHUNK:
                yield _joined(pieces)
                pieces, gathered = [], 0
    if gathered:
        yield _joined(pieces)


def _joined(pieces: list[tuple[Ints, NDArray[Any]]]) -> tuple[Ints, NDArray[Any]]:
    if len(pieces) == 1 and (np.diff(pieces[0][0]) > 0).all():
        return pieces[0]
    ids = np.concatenate([ids for ids, _ in pieces])
    order = np.argsort(ids, kind="stable")
    return ids[order], np.concatenate([rows for _, rows in pieces])[order]


# Concepts: by pictures and captions where most pictures have some, else by the pictures alone.


def fill_concepts(version: Version, images: Rows, texts: Rows, most: int = MAX_CONCEPTS) -> None:
    """Fill in the concept of every row, from at most ``most`` groups, and the pictures of texts."""
    owners = _owners_of_texts(version, texts, images)
    texts.owners = np.where(owners >= 0, images.ids[owners], -1) if len(images.ids) else owners
    captioned = len(np.unique(owners[owners >= 0]))
    if len(texts.ids) <= MAX_CAPTIONS and 2 * captioned >= len(images.ids) > 0:
        _concepts_by_captions(images, texts, owners, most)
        return
    for rows in (images, texts):
        if len(rows.ids):
            count = min(concept_count(len(rows.ids), ROWS_EACH_ALONE), most)
            concepts = find_concepts(rows.at(sample(rows.keys, TRAINED_ON)), count)
            rows.concepts = np.concatenate([concepts.assign(part) for _, part in rows.walk()])


def _owners_of_texts(version: Version, texts: Rows, images: Rows) -> Ints:
    """Return for each text the position of its picture among the images, or -1 (n,)."""
    owners = np.full(len(texts.ids), -1, dtype=np.int64)
    if not len(owners):
        return owners
    linked, ids = version.caption_links()
    if len(ids):
        owners[texts.positions(ids)] = images.positions(linked)
    return owners


def _concepts_by_captions(images: Rows, texts: Rows, owners: Ints, most: int) -> None:
    """Group pictures by picture and captions together; what lacks one of the two goes by the other."""
    embeddings = np.concatenate([part for _, part in texts.walk()]) if texts.kept is None else texts.kept
    linked = np.flatnonzero(owners >= 0)
    linked = linked[np.argsort(owners[linked], kind="stable")]
    captioned, starts = np.unique(owners[linked], return_index=True)
    said = embeddings[linked]
    means = said if len(said) == len(captioned) else _unit(np.add.reduceat(said, starts, axis=0))
    # each half is of unit norm, so the two together are of norm sqrt(2)
    both = np.concatenate((images.at(captioned), means), axis=1)
    both *= np.float32(np.sqrt(0.5))
    order = np.argsort(images.keys[captioned], kind="stable")[:TRAINED_ON]
    concepts = find_concepts(both[order], min(concept_count(len(images.ids)), most))
    of_picture, of_text = np.split(concepts.centres, 2, axis=1)
    images.concepts[captioned] = concepts.assign(both)
    bare = np.flatnonzero(images.concepts < 0)
    if len(bare):
        images.concepts[bare] = Concepts(of_picture, concepts.groups).assign(images.at(bare))
    texts.concepts = images.concepts[owners]
    alone = owners < 0
    if alone.any():
        texts.concepts[alone] = Concepts(of_text, concepts.groups).assign(embeddings[alone])


def _unit(x: Floats) -> Floats:
    return (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)).astype(np.float32)
