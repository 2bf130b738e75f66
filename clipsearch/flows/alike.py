"""When two pictures count as one: the same bytes, the same picture, or the same burst.

The limits were measured with ``mini`` on 2,000 photographs (``benchmarks/stages/duplicates.py --part limits``; figures
in docs/cli.md). The cosine alone does not tell a hard re-encoding from another picture of the same kind, so it only
proposes; where the files are at hand, a look at 32 x 32 pixels of both decides.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.decode.phash import FLAT
from clipsearch.flows.facts import NO_LOOK, NO_TIME, Facts
from clipsearch.index.hashes import distances, equal_groups, near_hashes
from clipsearch.index.pairs import Pairs, near_pairs
from clipsearch.types import Floats, Ints

Rows = Callable[[Ints], NDArray[Any]]  # Any: float16 or float32 (m, D) at positions (m,)


class Alike(StrEnum):
    """How the pictures of a group are alike, the strictest first."""

    BYTES = "same bytes"
    PICTURE = "same picture"
    BURST = "burst"


@dataclass(frozen=True, slots=True)
class Limits:
    """What counts as alike.

    Attributes:
        proposed: cosine from which two pictures are looked at.
        unseen: cosine from which they are the same picture where the files cannot be looked at.
        bits: of the perceptual hash, up to which pictures that differ in them are looked at, 6 at most; -1 takes none.
        hashed: cosine that those must have besides.
        unseen_bits: bits up to which they are the same picture where the files cannot be looked at.
        unseen_hashed: cosine that those must have besides.
        aspect: difference of the ratio of the sides, as a share, up to which they can be the same picture.
        difference: mean difference of 32 x 32 pixels, 0 to 255, up to which they are the same picture.
        correlation: of those pixels, from which they are.
        burst_seconds: time between two pictures of a burst, at most.
        burst: cosine of a picture and the first of its burst, at least.
    """

    proposed: float = 0.94
    unseen: float = 0.97
    bits: int = 6
    hashed: float = 0.5
    unseen_bits: int = 2
    unseen_hashed: float = 0.8
    aspect: float = 0.03
    difference: float = 8.0
    correlation: float = 0.97
    burst_seconds: float = 3.0
    burst: float = 0.85


MANY = 64  # pictures of one hash, from which their embeddings part them before they are paired
FEW = 16  # pictures of one hash that are paired with those of a hash near to it
_PAIRS = 8192  # compared at a time
_FLAT = 8.0  # standard deviation of pixels below which a picture is flat, and correlation says nothing


def same_bytes(facts: Facts) -> list[Ints]:
    """Return groups of positions whose files have the same bytes, each of two at least."""
    order = np.argsort(facts.content, kind="stable")
    known = order[facts.content[order] >= 0]
    borders = np.flatnonzero(np.diff(facts.content[known])) + 1
    return sorted((group for group in np.split(known, borders) if len(group) > 1), key=lambda group: int(group[0]))


def aspects_fit(facts: Facts, one: Ints, two: Ints, limits: Limits) -> NDArray[np.bool_]:
    """Tell of pairs of positions (m,) whether the sides have the same ratio, or one that is not known."""
    left, right = facts.width[one] * facts.height[two], facts.width[two] * facts.height[one]
    rounding = facts.width[one] + facts.width[two] + facts.height[one] + facts.height[two]  # half a pixel each
    return (left == 0) | (right == 0) | (abs(left - right) <= np.maximum(limits.aspect * left, rounding / 2))


def looks_same(one: Floats, two: Floats, limits: Limits) -> NDArray[np.bool_]:
    """Tell of pairs of small pictures (m, P), values 0 to 255, whether they show the same."""
    close = abs(one - two).mean(axis=1) <= limits.difference
    a, b = one - one.mean(axis=1, keepdims=True), two - two.mean(axis=1, keepdims=True)
    spread = np.stack([a.std(axis=1), b.std(axis=1)])
    correlation = (a * b).mean(axis=1) / np.maximum(spread.prod(axis=0), 1e-6)
    return close & ((correlation >= limits.correlation) | (spread < _FLAT).all(axis=0))


def twins(facts: Facts, one: Ints, two: Ints, scores: Floats, limits: Limits) -> NDArray[np.bool_]:
    """Tell of pairs of positions (m,) with their cosines whether they are the same picture, no file looked at.

    Two frames of a burst may have one hash; what was taken at different times is no copy.
    """
    taken = facts.taken[one], facts.taken[two]
    a, b = facts.phash[one], facts.phash[two]
    told = (a != FLAT) & (b != FLAT) & (a != NO_LOOK) & (b != NO_LOOK)
    told &= (taken[0] == taken[1]) | (taken[0] == NO_TIME) | (taken[1] == NO_TIME)
    near = distances(a.view(np.uint64), b.view(np.uint64)) <= limits.unseen_bits
    return (scores >= limits.unseen) | (told & near & (scores >= limits.unseen_hashed))


def hashed_pairs(facts: Facts, units: Ints, embeddings: Rows, limits: Limits, exact: bool | None) -> Pairs:
    """Return the pairs of positions in ``units`` whose perceptual hashes are near, embeddings not far apart.

    Args:
        facts: of all pictures.
        units: (u,) positions that count.
        embeddings: gives rows (m, D) at positions (m,) of all pictures.
        limits: what counts as near.
        exact: as for ``near_pairs``, which parts pictures that have one hash, should they be many.
    """
    known = np.flatnonzero((facts.phash[units] != FLAT) & (facts.phash[units] != NO_LOOK))
    found = Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    if limits.bits < 0 or len(known) < 2:
        return found
    distinct, order, starts = equal_groups(facts.phash[units[known]].view(np.uint64))
    members = known[order]
    first, second = near_hashes(distinct)
    near = distances(distinct[first], distinct[second]) <= limits.bits
    ones, twos = _across(members, starts, first[near], second[near])
    for place in np.flatnonzero(np.diff(starts) > 1).tolist():
        at = members[starts[place] : starts[place + 1]]
        if len(at) <= MANY:
            i, j = np.triu_indices(len(at), 1)
        else:
            within = near_pairs(lambda p, at=at: embeddings(units[at[p]]), len(at), limits.hashed, exact=exact)
            i, j = within.first, within.second
        ones.append(at[i])
        twos.append(at[j])
    if not ones:
        return found
    one, two = np.concatenate(ones), np.concatenate(twos)
    scores = _cosines(embeddings, units[one], units[two])
    return kept(Pairs(np.minimum(one, two), np.maximum(one, two), scores), scores >= limits.hashed)


def _across(members: Ints, starts: Ints, first: Ints, second: Ints) -> tuple[list[Ints], list[Ints]]:
    """Return all pairs between groups of positions that belong together, of large groups those of the first few."""
    ones, twos = [], []
    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        one, two = (members[starts[g] : min(starts[g + 1], starts[g] + FEW)] for g in (a, b))
        ones.append(np.repeat(one, len(two)))
        twos.append(np.tile(two, len(one)))
    return ones, twos


def _cosines(embeddings: Rows, one: Ints, two: Ints) -> Floats:
    scores = np.empty(len(one), np.float32)
    for start in range(0, len(one), _PAIRS):
        part = slice(start, start + _PAIRS)
        at, back = np.unique(np.concatenate([one[part], two[part]]), return_inverse=True)
        rows = np.asarray(embeddings(at), np.float32)
        m = len(one[part])
        scores[part] = np.einsum("ij,ij->i", rows[back[:m]], rows[back[m:]])
    return scores


def kept(pairs: Pairs, keep: NDArray[np.bool_]) -> Pairs:
    """Return the pairs for which (n,) is true."""
    return Pairs(pairs.first[keep], pairs.second[keep], pairs.scores[keep])


def bursts(facts: Facts, at: Ints, embeddings: Rows, limits: Limits) -> list[Ints]:
    """Return groups of positions, in the order of time, that were taken in a burst.

    A picture belongs to the burst before it if the same camera took it at most ``burst_seconds`` after the last one,
    and it is like the first one: so a walk through a museum, picture after picture, is no burst.

    Args:
        facts: of all pictures.
        at: (m,) positions that may be in a burst.
        embeddings: gives rows (m, D) at positions (m,).
        limits: what a burst is.
    """
    at = at[facts.taken[at] != NO_TIME]
    at = at[np.lexsort((facts.ids[at], facts.taken[at], facts.camera[at]))]
    near = (np.diff(facts.camera[at]) == 0) & (np.diff(facts.taken[at]) <= limits.burst_seconds)
    groups = []
    for run in np.split(at, np.flatnonzero(~near) + 1):
        if len(run) > 1:
            groups += _alike_runs(run, embeddings, limits)
    return groups


def _alike_runs(run: Ints, embeddings: Rows, limits: Limits) -> list[Ints]:
    """Part pictures (m,) that were taken one after the other where one is not like the first of its group."""
    rows = np.asarray(embeddings(run), np.float32)
    groups, start = [], 0
    for place in range(1, len(run) + 1):
        if place == len(run) or rows[start] @ rows[place] < limits.burst:
            if place - start > 1:
                groups.append(run[start:place])
            start = place
    return groups


def fold(facts: Facts, rows: Floats, limits: Limits) -> list[list[int]]:
    """Return positions by group, for pictures that come best first; a group comes where its best one does.

    A picture joins the first group whose best one it is like. No file is looked at.

    Args:
        facts: of the pictures.
        rows: (n, D) float32 their embeddings.
        limits: what counts as alike.
    """
    groups: dict[int, list[int]] = {}  # by their best one
    for place in range(len(rows)):
        leaders = np.array(list(groups), np.int64)
        like = _joins(facts, rows, leaders, place, limits) if groups else leaders
        groups.setdefault(int(like[0]) if len(like) else place, []).append(place)
    return list(groups.values())


def _joins(facts: Facts, rows: Floats, others: Ints, place: int, limits: Limits) -> Ints:
    """Return those of positions (m,), ascending in m, that the picture at ``place`` is like."""
    scores = rows[others] @ rows[place]
    bytes_ = (facts.content[others] == facts.content[place]) & (facts.content[place] >= 0)
    near = bytes_ | (scores >= min(limits.unseen, limits.unseen_hashed, limits.burst))
    if not near.any():  # as it is for nearly all
        return others[:0]
    others, scores, bytes_ = others[near], scores[near], bytes_[near]
    here = np.full(len(others), place)
    picture = twins(facts, others, here, scores, limits) & aspects_fit(facts, others, here, limits)
    timed = (facts.taken[others] != NO_TIME) & (facts.taken[place] != NO_TIME)
    apart = abs(np.where(timed, facts.taken[others], 0) - np.where(timed, facts.taken[place], 0))
    burst = timed & (apart <= limits.burst_seconds) & (facts.camera[others] == facts.camera[place])
    return others[bytes_ | picture | (burst & (scores >= limits.burst))]
