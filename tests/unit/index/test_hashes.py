"""Pairs of near hashes against a comparison of every pair, and what many equal hashes cost."""

import numpy as np
import pytest

from clipsearch.index.hashes import RADIUS, distances, equal_groups, near_hashes


def planted(n, bits, seed=0):
    """Return n random hashes, the second half of which are copies of the first with so many bits turned."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, n, dtype=np.uint64)
    for place in range(n // 2, n):
        turned = rng.choice(64, int(rng.integers(1, bits + 1)), replace=False).astype(np.uint64)
        hashes[place] = hashes[place - n // 2] ^ np.bitwise_or.reduce(np.uint64(1) << turned)
    return np.unique(hashes)


@pytest.mark.parametrize("seed", range(3))
def test_all_pairs_within_the_radius_are_found_and_no_other(seed):
    hashes = planted(600, RADIUS + 3, seed)
    i, j = np.triu_indices(len(hashes), 1)
    near = distances(hashes[i], hashes[j]) <= RADIUS
    wanted = set(zip(i[near].tolist(), j[near].tolist(), strict=True))
    first, second = near_hashes(hashes)
    assert set(zip(first.tolist(), second.tolist(), strict=True)) == wanted
    assert len(first) == len(wanted) > 100


def test_few_hashes_have_no_pairs():
    for hashes in ([], [7]):
        first, second = near_hashes(np.array(hashes, np.uint64))
        assert len(first) == len(second) == 0


def test_equal_hashes_are_told_as_groups():
    distinct, order, starts = equal_groups(np.array([5, 3, 5, 9, 3, 5], np.uint64))
    assert distinct.tolist() == [3, 5, 9] and starts.tolist() == [0, 2, 5, 6]
    assert order.tolist() == [1, 4, 0, 2, 5, 3]
    assert [len(part) for part in equal_groups(np.empty(0, np.uint64))] == [0, 0, 1]


def test_hashes_that_differ_in_few_places_only_do_not_cost_all_their_pairs(monkeypatch):
    monkeypatch.setattr("clipsearch.index.hashes.REACH", 1)
    hashes = np.unique(np.random.default_rng(1).integers(0, 2**16, 3_000, dtype=np.uint64))  # 48 bits are the same
    i, j = np.triu_indices(len(hashes), 1)
    first, second = near_hashes(hashes)
    assert (distances(hashes[first], hashes[second]) <= RADIUS).all()
    assert len(hashes) <= len(first) <= 84 * len(hashes) < (distances(hashes[i], hashes[j]) <= RADIUS).sum()
