"""Layouts of others: the live rows of a collection, written as other tools expect them.

A layout is a function that is given a ``Rows`` (what there is, block by block) and a place. Files and folders are
written beside their place and renamed when they are whole (``target.py``); a server is filled in batches, and a second
run goes on where the first ended.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clipsearch.registry import Registry
from clipsearch.types import Halves, Ints

__all__ = ["LAYOUTS", "Block", "Options", "Rows"]

LAYOUTS = Registry(
    "layout",
    {
        "clip-retrieval": "clipsearch.store.layouts.clip_retrieval:write",
        "parquet": "clipsearch.store.layouts.parquet_file:write",
        "npy": "clipsearch.store.layouts.npy_folder:write",
        "lance": "clipsearch.store.layouts.lance_dataset:write",
        "qdrant": "clipsearch.store.layouts.qdrant_points:write",
    },
)


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive rows.

    Attributes:
        ids: (n,) row ids, ascending.
        embeddings: (n, D) float16 of unit norm.
        table: Arrow table of n rows, columns as in ``metadata.EVERYTHING`` and those that were added.
        captions: the captions of each image, oldest first.
        texts: (n, D) float16, the embedding of each image's first caption, zeros where it has none; None where the
            layout has no use for it, or no image has a caption.
    """

    ids: Ints
    embeddings: Halves
    table: Any  # Any: an Arrow table
    captions: list[Sequence[str]]
    texts: Halves | None = None

    def slice(self, start: int, stop: int) -> "Block":
        """Return some of the rows."""
        texts = None if self.texts is None else self.texts[start:stop]
        table = self.table.slice(start, stop - start)
        return Block(self.ids[start:stop], self.embeddings[start:stop], table, self.captions[start:stop], texts)

    def take(self, positions: Ints) -> "Block":
        """Return the rows at some positions."""
        texts = None if self.texts is None else self.texts[positions]
        captions = [self.captions[at] for at in positions.tolist()]
        return Block(self.ids[positions], self.embeddings[positions], self.table.take(positions), captions, texts)


@dataclass(frozen=True, slots=True)
class Rows:
    """What is to be written.

    Attributes:
        n: rows in all blocks.
        dim: numbers in an embedding.
        name: of the collection.
        model: name of the encoder.
        has_captions: whether any of the images has a caption.
        blocks: gives the rows anew at each call, ids ascending; with the embeddings of captions if asked for.
        wrote: to be called with the rows written so far.
        added: columns of the images that were added later, such as tags, with their Arrow types.
    """

    n: int
    dim: int
    name: str
    model: str
    has_captions: bool
    blocks: Callable[[bool], Iterator[Block]]
    wrote: Callable[[int], None] = field(default=lambda _: None)
    added: Mapping[str, Any] = field(default_factory=dict)  # Any: Arrow types


@dataclass(frozen=True, slots=True)
class Options:
    """What a layout may be asked for.

    Attributes:
        force: write over an earlier export.
        partition_rows: clip-retrieval: rows in a partition, at most.
        metadata: clip-retrieval: more columns than path and caption.
        url: qdrant: a server; None for a folder on this machine.
        batch_rows: qdrant: points a request.
        finish: clip-retrieval: called with the folder before it takes its place, to put more into it.
    """

    force: bool = False
    partition_rows: int = 1_000_000
    metadata: bool = False
    url: str | None = None
    batch_rows: int = 256
    finish: Callable[[str], None] | None = None


def first_captions(block: Block) -> list[str]:
    """Return the first caption of each row, "" where there is none."""
    return [captions[0] if captions else "" for captions in block.captions]


def contiguous(embeddings: Halves) -> Halves:
    """Return embeddings in C order, which they may not be after a selection."""
    return np.ascontiguousarray(embeddings, dtype=np.float16)
