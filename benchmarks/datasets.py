"""Data for index benchmarks: a seeded generator of vectors with the geometry of CLIP's, text-query gap included.

Embeddings of pictures lie in a narrow cone: they share a mean (the *modality gap*), crowd into clusters of very
unequal size inside a subspace of low dimension, and spread around their cluster along all dimensions with a power-law
spectrum. Embeddings of texts share *another* mean, so a text query lies outside the distribution of what is indexed.
That is what makes an index look better on database vectors than it is on real queries:

    picture = unit(g mean_i + c[topic] + spread)      query = unit(g mean_t + c[topic] + noise)

Rows are made a block at a time from their number and the seed alone: row 1,000,000 is the same whatever was made
before, and ten million rows never lie in memory at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

BLOCK = 8192
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Synthetic:
    """A seeded set of ``n`` unit vectors (D,) and queries to it.

    Attributes:
        n: rows.
        dim: numbers in a row.
        seed: everything follows from it.
        clusters: concepts; their sizes follow a power law.
        topics: what concepts are grouped in.
        inner: dimension of the subspace that the concepts lie in.
        gap: length of the common mean of pictures before normalising; concepts have length 1.
        spread: how far a row lies from its concept.
    """

    n: int
    dim: int = 512
    seed: int = 0
    clusters: int = 4000
    topics: int = 120
    inner: int = 64
    gap: float = 0.95
    spread: float = 0.95

    def base(self, start: int = 0, stop: int | None = None) -> Floats:
        """Return the rows ``start`` to ``stop`` (n, D), float32 of unit norm."""
        stop = self.n if stop is None else stop
        parts = [
            self._block(number)[max(start - number * BLOCK, 0) : stop - number * BLOCK]
            for number in range(start // BLOCK, (stop + BLOCK - 1) // BLOCK)
        ]
        return np.concatenate([np.empty((0, self.dim), np.float32), *parts])

    def blocks(self, size: int = BLOCK) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]:
        """Yield (ids (B,), rows (B, D) float16) of the whole set."""
        for start in range(0, self.n, size):
            stop = min(start + size, self.n)
            yield np.arange(start, stop), self.base(start, stop).astype(np.float16)

    def text_queries(self, n: int = 1000) -> Floats:
        """Return queries (n, D) like captions: a concept's direction and noise around another mean."""
        rng = np.random.default_rng((self.seed, 1))
        return self._queries(rng, self._concepts[self._pick(rng, n)], n)

    def hard_queries(self, n: int = 1000) -> Floats:
        """Return queries (n, D) like captions of two things: two concepts mixed, and more noise."""
        rng = np.random.default_rng((self.seed, 2))
        first, second = self._concepts[self._pick(rng, n)], self._concepts[self._pick(rng, n)]
        return self._queries(rng, (first + second) / np.float32(np.sqrt(2)), n, noise=2.0)

    def image_queries(self, n: int = 1000) -> Floats:
        """Return queries (n, D) like pictures that are not in the set."""
        rng = np.random.default_rng((self.seed, 3))
        return self._pictures(rng, n)

    def _block(self, number: int) -> Floats:
        rng = np.random.default_rng((self.seed, 4, number))
        return self._pictures(rng, BLOCK)

    def _pictures(self, rng: np.random.Generator, n: int) -> Floats:
        x = self._concepts[self._pick(rng, n)]
        x = x + rng.standard_normal((n, self.dim), np.float32) * self._spectrum
        x[:, 0] += self.gap
        return self._turned(x)

    def _queries(self, rng: np.random.Generator, concepts: Floats, n: int, noise: float = 1.0) -> Floats:
        x = concepts * np.float32(0.6) + rng.standard_normal((n, self.dim), np.float32) * self._spectrum * np.float32(
            0.8 * noise
        )
        x[:, 1] += self.gap  # another mean: along another axis, and a little against the pictures'
        x[:, 0] -= np.float32(0.14 * self.gap)
        return self._turned(x)

    def _turned(self, x: Floats) -> Floats:
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        return np.ascontiguousarray(x @ self._rotation)

    def _pick(self, rng: np.random.Generator, n: int) -> NDArray[np.int64]:
        return np.searchsorted(self._shares, rng.random(n)).astype(np.int64)

    @cached_property
    def _shares(self) -> NDArray[np.float64]:
        """Cumulative shares of the concepts (clusters,): a power law."""
        sizes = 1.0 / (np.arange(self.clusters) + 10.0) ** 0.8
        return np.cumsum(sizes / sizes.sum())

    @cached_property
    def _concepts(self) -> Floats:
        """Directions (clusters, D): unit vectors within the inner subspace, gathered around topics."""
        rng = np.random.default_rng((self.seed, 5))
        inner = min(self.inner, self.dim - 2)
        topics = rng.standard_normal((self.topics, inner)) / np.sqrt(inner)
        own = rng.standard_normal((self.clusters, inner)) / np.sqrt(inner)
        x = 0.7 * topics[rng.integers(0, self.topics, self.clusters)] + 0.7 * own
        x *= (np.arange(inner) + 4.0) ** -0.4
        concepts = np.zeros((self.clusters, self.dim), np.float32)
        concepts[:, 2 : 2 + inner] = x / np.linalg.norm(x, axis=1, keepdims=True)
        return concepts

    @cached_property
    def _spectrum(self) -> Floats:
        """Standard deviation of a row around its concept along each axis (D,): a power law, total ``spread``."""
        scale = (np.arange(self.dim) + 8.0) ** -0.55
        scale[:2] = np.median(scale)  # the two means point anywhere, not along the strongest axes: that would make hubs
        return (self.spread * scale / np.linalg.norm(scale)).astype(np.float32)

    @cached_property
    def _rotation(self) -> Floats:
        rng = np.random.default_rng((self.seed, 6))
        return np.linalg.qr(rng.standard_normal((self.dim, self.dim)))[0].astype(np.float32)
