"""Ridge: the linear map from captions to pictures that errs least, held back towards the mean picture.

With centred captions T and centred pictures X it is W = (T'T + lambda I)^-1 T'X; lambda is the mean eigenvalue of T'T,
so that directions in which captions hardly differ are not blown up.
"""

from typing import ClassVar, Self

import numpy as np

from clipsearch.augment.base import Arrays, Pairs, unit
from clipsearch.types import Floats

PENALTY = 1.0  # times the mean eigenvalue


class Ridge:
    """Adds the picture that a linear map expects for a query."""

    weights: ClassVar[tuple[float, ...]] = (0.1, 0.25, 0.5)

    def __init__(self, weight: Floats, offset: Floats) -> None:
        if weight.shape != (len(offset), len(offset)):
            raise ValueError("a linear map must be square")
        self._weight, self._offset = weight, offset

    @classmethod
    def fit(cls, pairs: Pairs) -> Self:
        """Solve for the map, in closed form."""
        texts, images = pairs.texts.astype(np.float64), pairs.images.astype(np.float64)
        mean_text, mean_image = texts.mean(axis=0), images.mean(axis=0)
        texts, images = texts - mean_text, images - mean_image
        gram = texts.T @ texts
        dim = len(gram)
        penalty = PENALTY * np.trace(gram) / dim + np.finfo(np.float64).eps
        weight = np.linalg.solve(gram + penalty * np.eye(dim), texts.T @ images)
        return cls(weight.astype(np.float32), (mean_image - mean_text @ weight).astype(np.float32))

    @classmethod
    def load(cls, arrays: Arrays) -> Self:
        """Return the rung that gave ``arrays``."""
        return cls(arrays["weight"], arrays["offset"])

    def arrays(self) -> Arrays:
        """Return the map (D, D) and what it adds (D,)."""
        return {"weight": self._weight, "offset": self._offset}

    def prior(self, xq: Floats, drawn: Floats | None = None) -> Floats:
        """Return the expected pictures (Q, D) of queries (Q, D)."""
        return unit(xq @ self._weight + self._offset)

    def row_term(self, rows: Floats) -> None:
        """Return None: rows have no term of their own."""
