"""Exact answers to held-back queries in one pass over the rows, with memory for one block of them."""

from collections.abc import Iterable

import numpy as np

from clipsearch.index.flat import FlatIndex
from clipsearch.index.layered import merged
from clipsearch.index.tuning import K, Sample, without_own
from clipsearch.types import EmbeddingBlock, Floats, Ints, Neighbors


def exact_samples(
    blocks: Iterable[EmbeddingBlock], queries: dict[str, tuple[Floats, Ints]], dim: int
) -> dict[str, Sample]:
    """Find the exact answers to several kinds of queries at once.

    Args:
        blocks: all rows, ids (n,) and embeddings (n, D).
        queries: for each kind the queries (Q, D) float32 and the ids (Q,) of the rows they are themselves, -1 for none.
        dim: D.
    """
    xq = np.concatenate([part for part, _ in queries.values()])
    best: Neighbors | None = None
    for block in blocks:
        flat = FlatIndex(dim)
        flat.add(block)
        found = flat.search(xq, K + 1)
        best = found if best is None else merged(best, found, K + 1)
    if best is None:
        best = FlatIndex(dim).search(xq, K + 1)
    samples, start = {}, 0
    for kind, (part, own) in queries.items():
        mine = slice(start, start + len(part))
        found = without_own(Neighbors(best.ids[mine], best.scores[mine]), own)
        samples[kind] = Sample(part, own, found.scores)
        start += len(part)
    return samples
