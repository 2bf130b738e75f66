"""kNN prior: what do the pictures look like whose captions are nearest to the query?

The ``K`` captions nearest to the query are looked up; the mean of their pictures, weighted by a softmax of how near
they are, is where a picture for this query would be expected. Nothing is trained, and it can be explained.
"""

from typing import ClassVar, Self

import numpy as np

from clipsearch.augment.base import Arrays, Pairs, unit
from clipsearch.types import Floats

K = 32
SHARPNESS = 40.0  # factor of the cosines in the softmax
QUERIES = 256  # queries of one product


class NearestCaptions:
    """Adds the pictures of the captions nearest to a query."""

    weights: ClassVar[tuple[float, ...]] = (0.1, 0.25, 0.5)

    def __init__(self, texts: Floats, images: Floats) -> None:
        if len(texts) != len(images) or not len(texts):
            raise ValueError("captions and pictures must be pairs")
        self._texts, self._images = texts, images

    @classmethod
    def fit(cls, pairs: Pairs) -> Self:
        """Keep the pairs, in the numbers that they are stored in."""
        halves = (pairs.texts.astype(np.float16), pairs.images.astype(np.float16))
        return cls(*(half.astype(np.float32) for half in halves))

    @classmethod
    def load(cls, arrays: Arrays) -> Self:
        """Return the rung that gave ``arrays``."""
        return cls(arrays["texts"].astype(np.float32), arrays["images"].astype(np.float32))

    def arrays(self) -> Arrays:
        """Return captions and pictures (P, D) as float16."""
        return {"texts": self._texts.astype(np.float16), "images": self._images.astype(np.float16)}

    def prior(self, xq: Floats, drawn: Floats | None = None) -> Floats:
        """Return the expected pictures (Q, D) of queries (Q, D)."""
        found = np.empty((len(xq), self._images.shape[1]), np.float32)
        for start in range(0, len(xq), QUERIES):
            part = slice(start, start + QUERIES)
            found[part] = self._expected(xq[part])
        return found

    def _expected(self, xq: Floats) -> Floats:
        scores = xq @ self._texts.T
        k = min(K, scores.shape[1])
        # the stable order makes ties a matter of position, not of how numpy partitions
        nearest = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        close = np.take_along_axis(scores, nearest, axis=1).astype(np.float64)
        shares = np.exp(SHARPNESS * (close - close[:, :1]))
        shares /= shares.sum(axis=1, keepdims=True)
        return unit(np.einsum("qk,qkd->qd", shares, self._images[nearest]))

    def row_term(self, rows: Floats) -> None:
        """Return None: rows have no term of their own."""
