"""What a rung is: something fitted on pairs that adds to a query, or to the score of a row.

The two are one thing. A picture's score is the inner product of query and row, so adding ``weight * prior(q)`` to the
query adds ``weight * prior(q) . row`` to the score; a term that belongs to the row alone is added likewise:

    score(q, row) = q . row + sum over rungs of weight * (prior(q) . row  or  row_term(row))

Everything is computed a query at a time in the same way, so an answer does not depend on what else is asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from clipsearch.types import Floats, Ints

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Captions and the picture of each.

    Attributes:
        texts: (P, D) float32, unit norm.
        images: (P, D) float32, unit norm; row p is the picture of caption p.
        owners: (P,) ids of the pictures.
        drawn: (P, D) float32, unit norm: a picture that a generator drew for each caption, zeros where it could not;
            None where none were drawn.
    """

    texts: Floats
    images: Floats
    owners: Ints
    drawn: Floats | None = None

    def __len__(self) -> int:
        return len(self.owners)

    def part(self, which: NDArray[Any]) -> "Pairs":
        """Return some of the pairs, by mask or position (m,)."""
        drawn = None if self.drawn is None else self.drawn[which]
        return Pairs(self.texts[which], self.images[which], self.owners[which], drawn)


class Rung(Protocol):
    """A fitted rung. Deterministic: the same pairs make the same rung.

    Attributes:
        weights: those to choose from; the term is multiplied by one of them.
    """

    weights: ClassVar[tuple[float, ...]]

    @classmethod
    def fit(cls, pairs: Pairs) -> Self:
        """Learn from pairs; at least one."""
        ...

    @classmethod
    def load(cls, arrays: Arrays) -> Self:
        """Return what ``arrays`` was given by; ValueError or KeyError where they are not a rung's."""
        ...

    def arrays(self) -> Arrays:
        """Return what to keep on disk, small and without pickles."""
        ...

    def prior(self, xq: Floats, drawn: Floats | None = None) -> Floats | None:
        """Return what to add to queries (Q, D): (Q, D) float32 of unit norm, or None for a rung of rows.

        Args:
            xq: (Q, D) float32, unit norm.
            drawn: (Q, D) a picture drawn for each query, as in ``Pairs``; looked at by the rungs in ``DRAWN`` only,
                which add nothing (zeros) where there is none.
        """
        ...

    def row_term(self, rows: Floats) -> Floats | None:
        """Return what to add to the scores of rows (n, D): (n,) float32, or None for a rung of queries."""
        ...


def term(rung: Rung, query: Floats, rows: Floats, drawn: Floats | None = None) -> Floats:
    """Return a rung's term for one query (D,), with a picture drawn for it (D,) or none, and rows (m, D).

    It is (m,) float32, not yet weighted.
    """
    added = rung.prior(query[None], None if drawn is None else drawn[None])
    if added is not None:
        return rows @ added[0]
    own = rung.row_term(rows)
    if own is None:
        raise ValueError("a rung adds to queries or to rows")
    return own


def unit(x: NDArray[Any]) -> Floats:
    """Return rows (n, D) brought to unit norm; a row of zeros stays."""
    norms = np.linalg.norm(x, axis=-1, keepdims=True)
    return (x / np.maximum(norms, np.finfo(np.float32).tiny)).astype(np.float32)
