"""Pairs of 64-bit hashes that differ in a few bits, without comparing every hash with every other.

Cut the 64 bits into ``RADIUS + 3`` blocks. Two hashes that differ in at most ``RADIUS`` bits agree in three blocks at
least, whichever these are. So for each choice of three blocks the hashes are sorted by these bits alone, about 21 of
them, and only neighbours that agree in them are compared: 84 sorts, each N log N, and few comparisons, since a million
hashes fall into two million places. (Manku, Jain, Das Sarma: Detecting near-duplicates for web crawling, 2007.)

Hashes that many share would bring all their pairs, which grow as N squared. Equal hashes are therefore told as groups,
and of hashes that agree in three blocks each is compared with the next ``REACH`` only, in the order of all their bits.
"""

from collections.abc import Iterator
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from clipsearch.types import Ints

RADIUS = 6
REACH = 64
_BITS = 64
_MOST = 4_000_000  # pairs, found several times each, that are gathered before they are told apart
_PAIRS, _FOURS = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333)
_EIGHTS, _ONES = np.uint64(0x0F0F0F0F0F0F0F0F), np.uint64(0x0101010101010101)
Hashes = NDArray[np.uint64]


def distances(one: Hashes, two: Hashes) -> Hashes:
    """Return in how many bits hashes (m,) differ; numpy counts bits itself from 2.0 on only."""
    x = one ^ two
    x = x - ((x >> np.uint64(1)) & _PAIRS)
    x = (x & _FOURS) + ((x >> np.uint64(2)) & _FOURS)
    x = (x + (x >> np.uint64(4))) & _EIGHTS
    return (x * _ONES) >> np.uint64(56)


def equal_groups(hashes: Hashes) -> tuple[Hashes, Ints, Ints]:
    """Group hashes (n,) that are equal.

    Returns:
        The distinct hashes (u,), ascending; all positions (n,), those of the first hash first, ascending; and where in
        these each group begins (u + 1,), the last being n.
    """
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    first = np.ones(len(hashes), np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    starts = np.flatnonzero(first)
    return ordered[starts], order, np.append(starts, len(hashes))


def near_hashes(distinct: Hashes) -> tuple[Ints, Ints]:
    """Return pairs (m,), (m,) of positions, first < second, of hashes that differ in at most ``RADIUS`` bits.

    Args:
        distinct: (u,) hashes, no two equal.
    """
    n = len(distinct)
    keys, waiting = [np.empty(0, np.int64)], 0
    for mask in _masks():
        for one, two in _neighbours(distinct, mask):
            near = distances(distinct[one], distinct[two]) <= RADIUS
            low, high = np.minimum(one[near], two[near]), np.maximum(one[near], two[near])
            keys.append(low * n + high)
            waiting += len(low)
            if waiting > _MOST:
                keys, waiting = [np.unique(np.concatenate(keys))], 0
    found = np.unique(np.concatenate(keys))
    return found // max(n, 1), found % max(n, 1)


def _masks() -> Iterator[np.uint64]:
    """Yield the bits of every three of the blocks."""
    count = RADIUS + 3
    edges = [place * _BITS // count for place in range(count + 1)]
    blocks = [((1 << high) - 1) ^ ((1 << low) - 1) for low, high in pairwise(edges)]
    for three in combinations(blocks, 3):
        yield np.uint64(sum(three))


def _neighbours(distinct: Hashes, mask: np.uint64) -> Iterator[tuple[Ints, Ints]]:
    """Yield pairs of positions of hashes that agree in the bits of a mask, at most ``REACH`` places apart."""
    masked = distinct & mask
    order = np.argsort(masked, kind="stable")  # equal ones stay in the order of all their bits
    masked = masked[order]
    at = np.arange(len(order) - 1)
    for step in range(1, REACH + 1):
        at = at[at + step < len(order)]
        at = at[masked[at] == masked[at + step]]
        if not len(at):
            return
        yield order[at], order[at + step]
