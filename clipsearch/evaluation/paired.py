"""The change between two ways of ranking the same queries, with its interval.

The interval is a percentile bootstrap over *groups* of queries: captions of one picture are found or missed together,
so pictures are drawn, each with all of its captions, and both ways are compared on the same draw.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import InputError

REPEATS = 2_000
NUMBERS = 4 * 2**20  # counts in memory at a time


@dataclass(frozen=True, slots=True)
class Change:
    """A mean change with the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def is_gain(self) -> bool:
        """Whether the lower bound is above zero."""
        return self.low > 0.0


def paired_bootstrap(changes: NDArray[Any], groups: NDArray[Any], seed: int = 0, repeats: int = REPEATS) -> Change:
    """Return the mean of per-query changes with its 95 % interval.

    Args:
        changes: (Q,) of each query: its value after less its value before.
        groups: (Q,) what queries stand or fall with, such as the picture's id.
        seed: decides the draws.
        repeats: how many are made.

    Raises:
        InputError: there is no query, or groups do not fit.
    """
    if not len(changes) or len(changes) != len(groups):
        raise InputError("A change needs queries, and one group for each.")
    _, group = np.unique(groups, return_inverse=True)
    sums = np.bincount(group, weights=np.asarray(changes, np.float64))
    sizes = np.bincount(group).astype(np.float64)
    n = len(sums)
    rng = np.random.default_rng(seed)
    means: list[NDArray[np.float64]] = []
    step = max(1, NUMBERS // n)
    for start in range(0, repeats, step):
        drawn = rng.multinomial(n, np.full(n, 1.0 / n), size=min(step, repeats - start)).astype(np.float64)
        means.append((drawn @ sums) / (drawn @ sizes))
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    return Change(float(sums.sum() / sizes.sum()), float(low), float(high))
