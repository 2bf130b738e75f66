"""Generated pictures as extra queries: what would a picture of the query look like, and what looks like that?

A generator draws a picture for the text (``flows/imagine.py``); its embedding by the collection's own encoder is added.
Nothing is learnt from the pairs, which only tell whether it helps. Where nothing could be drawn, nothing is added.
"""

from typing import ClassVar, Self

import numpy as np

from clipsearch.augment.base import Arrays, Pairs
from clipsearch.types import Floats


class Imagined:
    """Adds the picture that was drawn for a query."""

    weights: ClassVar[tuple[float, ...]] = (0.1, 0.25, 0.5)

    @classmethod
    def fit(cls, pairs: Pairs) -> Self:
        """Return the rung; the pairs do not matter."""
        return cls()

    @classmethod
    def load(cls, arrays: Arrays) -> Self:
        """Return the rung."""
        return cls()

    def arrays(self) -> Arrays:
        """Return nothing: there is nothing to keep."""
        return {}

    def prior(self, xq: Floats, drawn: Floats | None = None) -> Floats:
        """Return the pictures drawn (Q, D) for queries (Q, D), zeros where there is none."""
        return np.zeros_like(xq) if drawn is None else drawn.astype(np.float32)

    def row_term(self, rows: Floats) -> None:
        """Return None: rows have no term of their own."""
