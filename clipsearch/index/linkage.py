"""Groups of rows out of pairs of rows, without chains.

Joining whatever is connected makes chains: of a hundred pictures each like the next, the first and the last have
nothing in common. Here every group has a centre, and all its members are paired with the centre itself.
"""

import numpy as np

from clipsearch.index.pairs import Pairs
from clipsearch.types import Ints


def centre_groups(pairs: Pairs, n: int) -> list[Ints]:
    """Return groups of at least two positions, each ascending; no position is in two groups.

    The row with most pairs among the rows that are left becomes a centre (of several, the first), and takes the rows
    that it is paired with and that no group has yet. Groups come in the order of their smallest position.

    Args:
        pairs: of positions below ``n``.
        n: rows.
    """
    both = np.concatenate([pairs.first, pairs.second])
    other = np.concatenate([pairs.second, pairs.first])
    order = np.argsort(both, kind="stable")
    other, starts = other[order], np.searchsorted(both[order], np.arange(n + 1))
    degrees = np.diff(starts)
    free = degrees > 0
    groups = []
    for centre in np.argsort(-degrees, kind="stable")[: int(free.sum())].tolist():
        if not free[centre]:
            continue
        near = other[starts[centre] : starts[centre + 1]]
        members = np.append(near[free[near]], centre)
        free[members] = False
        if len(members) > 1:
            groups.append(np.sort(members))
    return sorted(groups, key=lambda group: int(group[0]))
