"""Put rows into empty copies of a trained index."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.index import INDEX_TYPES
from clipsearch.index.costs import ADD_ROWS
from clipsearch.index.flat import as_float32
from clipsearch.index.gpu import Adder
from clipsearch.index.ivf import IvfIndex
from clipsearch.index.ondisk import Write, read_plain, write_part
from clipsearch.index.recipe import Recipe


class PartFiller:
    """One part of an index: rows in, a file of lists out."""

    def __init__(self, recipe: Recipe, trained: str) -> None:
        """Open the file of a trained, empty index, whose digest was checked."""
        self._plain = read_plain(trained)
        self._index = holding(recipe, self._plain)
        adder = Adder(self._plain)
        self._adder = adder if adder.is_apart else None

    def add(self, first: int, rows: NDArray[Any]) -> None:
        """Add rows (n, D) float16 or float32, at the positions from ``first`` on.

        They are taken a few thousand at a time, for memory's sake.
        """
        for start in range(0, len(rows), ADD_ROWS):
            some = rows[start : start + ADD_ROWS]
            if self._adder is None:
                self._index.add_codes(first + start, some)
            else:
                self._adder.add(np.arange(first + start, first + start + len(some), dtype=np.int64), as_float32(some))

    def write(self, write: Write) -> None:
        """Write the lists."""
        write_part(self._plain, write)


def holding(recipe: Recipe, lists: Any) -> IvfIndex:
    """Return an index around a faiss index that is there already."""
    index: IvfIndex = INDEX_TYPES.load(recipe.type)(recipe.dim, recipe)
    index._faiss = lists
    return index
