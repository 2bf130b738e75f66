"""The live rows of a collection as a stream of blocks, in the order in which they go into an index: ids ascending."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from clipsearch.flows.pages import trim
from clipsearch.index.costs import BLOCK_ROWS
from clipsearch.store import Snapshot
from clipsearch.types import EmbeddingBlock, Ints


def live(snapshot: Snapshot, kind: str = "images") -> Iterator[EmbeddingBlock]:
    """Yield the live rows, at most 65,536 at a time, and let go of the pages that were read."""
    for piece in _ordered(snapshot, kind):
        yield piece
        trim(snapshot.path)


def live_ids(snapshot: Snapshot, kind: str = "images") -> Iterator[Ints]:
    """Yield the ids of the live rows in the same order; the rows are not read."""
    for piece in _ordered(snapshot, kind):
        yield piece.ids


def live_range(snapshot: Snapshot, start: int, n: int, kind: str = "images") -> Iterator[EmbeddingBlock]:
    """Yield ``n`` live rows from the ``start``-th on; those before it are not read."""
    at = 0
    for piece in _ordered(snapshot, kind):
        first, last = max(start - at, 0), min(start + n - at, len(piece.ids))
        if first < last:
            yield EmbeddingBlock(piece.ids[first:last], piece.embeddings[first:last])
            trim(snapshot.path)
        at += len(piece.ids)
        if at >= start + n:
            return


def pieces(block: EmbeddingBlock, dead: Ints) -> Iterator[EmbeddingBlock]:
    """Cut a block into pieces of at most 65,536 rows without the dead ones."""
    for start in range(0, len(block.ids), BLOCK_ROWS):
        ids, rows = block.ids[start : start + BLOCK_ROWS], block.embeddings[start : start + BLOCK_ROWS]
        gone = np.isin(ids, dead) if len(dead) else np.zeros(len(ids), np.bool_)
        if not gone.any():
            yield EmbeddingBlock(ids, rows)
        elif not gone.all():
            yield EmbeddingBlock(ids[~gone], rows[~gone])


def joined(blocks: Iterable[EmbeddingBlock], most: int = BLOCK_ROWS) -> Iterator[EmbeddingBlock]:
    """Join small blocks up to ``most`` rows, for faiss likes large ones."""
    waiting: list[EmbeddingBlock] = []
    for block in blocks:
        if waiting and sum(len(b.ids) for b in waiting) + len(block.ids) > most:
            yield _one(waiting)
            waiting = []
        waiting.append(block)
    if waiting:
        yield _one(waiting)


def _ordered(snapshot: Snapshot, kind: str) -> Iterator[EmbeddingBlock]:
    dead = snapshot.deleted_ids()
    for block in sorted(snapshot.blocks(kind), key=lambda b: int(b.ids[0]) if len(b.ids) else -1):
        yield from pieces(block, dead)


def _one(blocks: Sequence[EmbeddingBlock]) -> EmbeddingBlock:
    if len(blocks) == 1:
        return blocks[0]
    return EmbeddingBlock(np.concatenate([b.ids for b in blocks]), np.concatenate([b.embeddings for b in blocks]))
