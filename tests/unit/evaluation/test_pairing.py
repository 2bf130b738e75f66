"""Pairs of groups against a count of every pair, and against numbers that can be checked by eye."""

from itertools import combinations

import numpy as np
import pytest

from clipsearch.evaluation.intervals import clopper_pearson, counted_share, grouped_share
from clipsearch.evaluation.pairing import class_of, compare, examples_of_wrong, nested, numbered, pairs_within


def classes(links, things, n):
    """The class of each pair by walking: the first whose links, and those of stricter classes, connect the two."""
    found = {}
    for level in range(n):
        near = {}
        for _, joined in (link for link in links if link[0] <= level):
            for a, b in combinations(joined, 2):
                near.setdefault(a, set()).add(b)
                near.setdefault(b, set()).add(a)
        for a in things:
            reached, waiting = {a}, [a]
            while waiting:
                more = near.get(waiting.pop(), set()) - reached
                reached |= more
                waiting += more
            for b in things:
                if a < b and b in reached:
                    found.setdefault((a, b), level)
    return found


def random_links(rng, things, n, most):
    return [
        (int(rng.integers(n)), rng.choice(things, rng.integers(2, 4), replace=False).tolist())
        for _ in range(rng.integers(0, most))
    ]


@pytest.mark.parametrize("seed", range(25))
def test_counts_equal_those_of_every_pair_one_by_one(seed):
    rng = np.random.default_rng(seed)
    everything = np.arange(30)
    things = np.sort(rng.choice(everything, 20, replace=False)).tolist()
    planted, proposed = (random_links(rng, everything, n, 12) for n in (4, 3))
    true, found = classes(planted, everything, 4), classes(proposed, everything, 3)
    judged = list(combinations(things, 2))
    got = compare(nested(planted, things, 4), nested(proposed, things, 3))
    for a in range(4):
        assert got.true[a] == sum(true.get(pair) == a for pair in judged)
        for b in range(3):
            assert got.found[a, b] == sum(true.get(pair) == a and found.get(pair) == b for pair in judged)
    for b in range(3):
        assert got.wrong[b] == sum(pair not in true and found.get(pair) == b for pair in judged)
    right, joined = int(got.found.sum()), int(got.found.sum() + got.wrong.sum())
    assert (got.recall_of_all is None) == (not got.true.sum())
    if got.recall_of_all is not None:
        assert got.recall_of_all.value == pytest.approx(right / got.true.sum())
        assert got.recall_of_all.low <= got.recall_of_all.value <= got.recall_of_all.high
    assert (got.precision is None) == (not joined)
    if got.precision is not None:
        assert got.precision.value == pytest.approx(right / joined) and got.precision.n == joined


def test_it_makes_no_difference_which_picture_of_a_group_is_called_the_original():
    things, found = list(range(5)), nested([(1, (0, 1, 2))], range(5), 3)
    star = compare(nested([(1, (0, 1)), (1, (0, 2)), (1, (0, 3))], things, 3), found)
    chain = compare(nested([(1, (3, 2)), (1, (2, 1)), (1, (1, 0))], things, 3), found)
    assert star.true.tolist() == chain.true.tolist() == [0, 6, 0]
    assert star.found.sum() == chain.found.sum() == 3 and star.recall == chain.recall


def test_the_class_of_a_pair_is_the_loosest_on_the_way():
    labels = nested([(0, (1, 2)), (1, (2, 3)), (2, (4, 5))], [1, 2, 3, 4, 5], 3)
    assert class_of(labels, np.array([0, 1, 0, 3, 0]), np.array([1, 2, 2, 4, 4])).tolist() == [0, 1, 1, 2, -1]


def test_things_that_nobody_asks_about_still_join_others():
    assert class_of(nested([(0, (1, 99)), (0, (99, 2))], [1, 2], 1), np.array([0]), np.array([1])).tolist() == [0]


def test_a_detector_that_joins_everything_is_counted_without_listing_pairs():
    n = 100_000
    true, found = np.arange(n)[None] // 2, np.zeros((1, n), np.int64)
    got = compare(true, found)
    assert got.recall_of_all.value == 1.0 and got.wrong.tolist() == [n * (n - 1) // 2 - n // 2]
    assert got.precision.value == pytest.approx(1 / (n - 1))


def test_wrong_pairs_are_named_once_a_group():
    found = numbered(np.array([7, 7, 7, 3, 3, 5, 5]))
    allowed = np.array([1, 1, 2, 4, 4, 6, 8])
    assert [set(pair) for pair in examples_of_wrong(allowed, found, 9)] == [{5, 6}, {1, 2}]
    assert len(examples_of_wrong(allowed, found, 1)) == 1
    assert pairs_within(found, found).tolist() == [1, 1, 3]


def test_shares_of_counts_are_those_of_answers_one_by_one():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(30), rng.integers(1, 9, 30))
    hits = rng.random(len(groups)) < 0.7
    counted = counted_share(np.bincount(groups, weights=hits), np.bincount(groups))
    single = grouped_share(hits, groups, len(groups))
    assert (counted.value, counted.n) == (pytest.approx(single.value), single.n)
    assert (counted.low, counted.high) == (pytest.approx(single.low), pytest.approx(single.high))


def test_pairs_of_one_group_are_one_piece_of_evidence():
    low, high = clopper_pearson(3, 3)
    share = counted_share(np.array([4950, 1, 1]), np.array([4950, 1, 1]))
    assert (share.value, share.low, share.high, share.n) == (1.0, pytest.approx(low), high, 4952)
    assert counted_share(np.array([0, 0]), np.array([0, 0])) is None
