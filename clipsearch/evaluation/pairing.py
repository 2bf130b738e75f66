"""Compare groups that were found with groups that are true, pair by pair.

Both are *nested partitions*, the strictest class first: an array (L, n) whose row l gives each of n things the number
of its group when the classes up to l are taken together. So pairs are closed into groups, and the class of a pair is
the first whose groups hold both: where A and B have the same bytes, and B and C are the same picture, so are A and C.

Pairs are counted, not listed: a detector that joins a million things makes half a billion million pairs. Pairs of one
group stand or fall together, which makes intervals wider (see ``intervals.py``).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from clipsearch.evaluation.intervals import Share, counted_share
from clipsearch.types import Ints

Link = tuple[int, Sequence[int]]  # the class, from 0, and the things that it joins


@dataclass(frozen=True, slots=True)
class Agreement:
    """Pairs that are true and pairs that were found, by class.

    Attributes:
        true: (T,) pairs of each true class.
        found: (T, P) how many of them were found, by the class in which.
        wrong: (P,) pairs that were found and are not true.
        recall: the share found of each true class, None where there is no pair of it; ``recall_of_all`` of all.
        precision: the share of the pairs found that are true, None where none was found.
    """

    true: Ints
    found: Ints
    wrong: Ints
    recall: tuple[Share | None, ...]
    recall_of_all: Share | None
    precision: Share | None


def nested(links: Iterable[Link], things: Sequence[int], classes: int) -> Ints:
    """Close links into nested partitions.

    Args:
        links: what belongs together, in any order; of things that are not in ``things`` too, which may join others.
        things: (n,) different numbers.
        classes: how many there are; a link of a class joins in this one and all that are less strict.

    Returns:
        (classes, n) numbers of groups.
    """
    parent: dict[int, int] = {}

    def root(thing: int) -> int:
        while (above := parent.get(thing, thing)) != thing:
            parent[thing] = parent.get(above, above)
            thing = above
        return thing

    by_class: list[list[Sequence[int]]] = [[] for _ in range(classes)]
    for at, joined in links:
        by_class[at].append(joined)
    labels = np.empty((classes, len(things)), np.int64)
    for at, groups in enumerate(by_class):
        for joined in groups:
            for other in joined[1:]:
                parent[root(other)] = root(joined[0])
        labels[at] = [root(thing) for thing in things]
    return labels


def class_of(labels: Ints, first: Ints, second: Ints) -> Ints:
    """Return the class (m,) in which pairs of positions (m,) are joined; -1 where they are not."""
    joined = labels[:, first] == labels[:, second]
    return np.where(joined.any(axis=0), joined.argmax(axis=0), -1)


def pairs_within(groups: Ints, *partitions: Ints, least: int = 0) -> Ints:
    """Count the pairs that partitions (n,) all hold together, by group.

    Args:
        groups: (n,) numbers, from 0, of a partition that holds together all that the others do.
        partitions: (n,) each.
        least: counts to give, at least.
    """
    _, at, sizes = np.unique(np.stack(partitions), axis=1, return_index=True, return_counts=True)
    counts = np.zeros(max(least, int(groups.max(initial=-1)) + 1), np.int64)
    np.add.at(counts, groups[at], sizes * (sizes - 1) // 2)
    return counts


def numbered(labels: Ints) -> Ints:
    """Return a partition (n,) with its groups numbered from 0."""
    return np.unique(labels, return_inverse=True)[1].reshape(-1)


def compare(true: Ints, found: Ints) -> Agreement:
    """Compare what was found (P, n) with what is true (T, n), both nested partitions of the same things."""
    truth, proposed = numbered(true[-1]), numbered(found[-1])
    joint = np.array([[pairs_within(truth, a, b) for b in found] for a in true])  # (T, P, groups), cumulative
    hits = np.diff(joint, axis=0, prepend=0)
    alone = np.diff(np.array([pairs_within(truth, a) for a in true]), axis=0, prepend=0)  # (T, groups)
    everything = np.array([pairs_within(proposed, b).sum() for b in found])
    cells = np.diff(hits, axis=1, prepend=0).sum(axis=2)  # (T, P)
    return Agreement(
        true=alone.sum(axis=1),
        found=cells,
        wrong=np.diff(everything, prepend=0) - cells.sum(axis=0),
        recall=tuple(counted_share(hit, of) for hit, of in zip(hits[:, -1], alone, strict=True)),
        recall_of_all=counted_share(joint[-1, -1], alone.sum(axis=0)),
        precision=counted_share(pairs_within(proposed, found[-1], true[-1]), pairs_within(proposed, found[-1])),
    )


def examples_of_wrong(allowed: Ints, found: Ints, most: int) -> list[tuple[int, int]]:
    """Return positions of pairs that a partition (n,) joins and another one does not; of each group one, at most."""
    order = np.lexsort((allowed, found))
    grouped, kinds = found[order], allowed[order]
    at = np.flatnonzero((grouped[1:] == grouped[:-1]) & (kinds[1:] != kinds[:-1]))
    _, first = np.unique(grouped[at], return_index=True)
    return [(int(order[n]), int(order[n + 1])) for n in np.sort(at[first])[:most]]
