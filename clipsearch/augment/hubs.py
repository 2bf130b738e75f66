"""Hub correction: some pictures are near to every caption, so what they are near to in general is taken away.

A row's hub is the mean of its scores with the ``DEPTH`` nearest captions of a bank of the collection's own.
"""

from typing import ClassVar, Self

import numpy as np

from clipsearch.augment.base import Arrays, Pairs
from clipsearch.types import Floats

DEPTH = 15  # captions that a hub is the mean of
BANK = 1_000  # captions that are kept
ROWS = 4_096  # rows of one product


class Hubs:
    """Subtracts a row's hub from its scores."""

    weights: ClassVar[tuple[float, ...]] = (0.25, 0.5, 1.0)

    def __init__(self, bank: Floats) -> None:
        self._bank = bank

    @classmethod
    def fit(cls, pairs: Pairs) -> Self:
        """Keep captions evenly spread over the pairs."""
        chosen = np.linspace(0, len(pairs) - 1, min(BANK, len(pairs))).round().astype(np.int64)
        return cls(pairs.texts[chosen].astype(np.float16).astype(np.float32))

    @classmethod
    def load(cls, arrays: Arrays) -> Self:
        """Return the rung that gave ``arrays``."""
        return cls(arrays["bank"].astype(np.float32))

    def arrays(self) -> Arrays:
        """Return the bank (B, D) as float16."""
        return {"bank": self._bank.astype(np.float16)}

    def prior(self, xq: Floats, drawn: Floats | None = None) -> None:
        """Return None: nothing is added to queries."""

    def row_term(self, rows: Floats) -> Floats:
        """Return the negative hubs (n,) of rows (n, D)."""
        depth = min(DEPTH, len(self._bank))
        found = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), ROWS):
            scores = rows[start : start + ROWS] @ self._bank.T
            scores.partition(scores.shape[1] - depth, axis=1)
            found[start : start + ROWS] = -scores[:, -depth:].mean(axis=1)
        return found
