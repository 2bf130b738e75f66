"""Near pairs against comparing everything, parts and whole; groups without chains."""

import numpy as np
import pytest

from clipsearch.errors import InputError
from clipsearch.index import pairs as room
from clipsearch.index.linkage import centre_groups
from clipsearch.index.pairs import Pairs, near_pairs


def clustered(n, dim=96, seed=0):
    """Unit rows with a common mean, in clusters, none nearly the same as another."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((40, dim))
    x = 5 * np.ones(dim) / np.sqrt(dim) + centres[rng.integers(0, 40, n)] + 0.6 * rng.standard_normal((n, dim))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float16)


def plant(x, n, low, seed=1):
    """Overwrite the last ``n`` rows with copies of the first ones, at cosines of ``low`` to 0.999."""
    rng = np.random.default_rng(seed)
    source = x[:n].astype(np.float64)
    noise = rng.standard_normal(source.shape)
    noise -= (noise * source).sum(axis=1, keepdims=True) * source
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    cosine = rng.uniform(low, 0.999, (n, 1))
    x[-n:] = cosine * source + np.sqrt(1 - cosine**2) * noise
    return {(at, len(x) - n + at) for at in range(n)}


def oracle(x, threshold):
    scores = x.astype(np.float64) @ x.astype(np.float64).T
    return {(int(i), int(j)) for i, j in zip(*np.nonzero(np.triu(scores, 1) >= threshold), strict=True)}


def as_set(found):
    return set(zip(found.first.tolist(), found.second.tolist(), strict=True))


@pytest.mark.parametrize("threshold", [0.8, 0.9, 0.97])
def test_comparing_all_finds_what_comparing_one_by_one_finds(threshold):
    x = clustered(700)
    plant(x, 100, 0.85)
    found = near_pairs(lambda at: x[at], len(x), threshold)
    expected = oracle(x, threshold)
    near_the_bar = oracle(x, threshold - 1e-5) - oracle(x, threshold + 1e-5)
    assert as_set(found) ^ expected <= near_the_bar and expected
    scores = (x[found.first].astype(np.float32) * x[found.second]).sum(axis=1)
    np.testing.assert_allclose(found.scores, scores, atol=2e-6)


def test_parts_find_all_planted_pairs_and_no_other(monkeypatch):
    monkeypatch.setattr(room, "LEAF_ROWS", 128)
    x = clustered(4000)
    planted = plant(x, 300, 0.96)
    assert as_set(near_pairs(lambda at: x[at], len(x), 0.95, exact=False)) == planted == oracle(x, 0.95)


def test_parts_give_the_same_answer_again(monkeypatch):
    monkeypatch.setattr(room, "LEAF_ROWS", 128)
    x = clustered(2000)
    plant(x, 100, 0.95)
    one, two = (near_pairs(lambda at: x[at], len(x), 0.94, exact=False) for _ in range(2))
    np.testing.assert_array_equal(one.first, two.first)
    np.testing.assert_array_equal(one.scores, two.scores)


def test_rows_that_cannot_be_parted_are_compared_all_the_same(monkeypatch):
    monkeypatch.setattr(room, "LEAF_ROWS", 64)
    x = np.tile(clustered(1), (200, 1))
    assert len(near_pairs(lambda at: x[at], len(x), 0.99, exact=False).first) == 200 * 199 // 2


def test_too_many_pairs_are_refused_with_advice(monkeypatch):
    monkeypatch.setattr(room, "MOST_PAIRS", 1000)
    x = np.tile(clustered(1), (100, 1))
    with pytest.raises(InputError, match="higher threshold"):
        near_pairs(lambda at: x[at], len(x), 0.9)


@pytest.mark.parametrize("n", [0, 1])
def test_nothing_pairs_with_nothing(n):
    assert len(near_pairs(lambda at: np.ones((len(at), 8), np.float16), n, 0.9).first) == 0


def pairs_of(*edges):
    first, second = (np.array(column, np.int64) for column in zip(*edges, strict=True))
    return Pairs(first, second, np.ones(len(first), np.float32))


def test_a_chain_is_not_one_group():
    groups = centre_groups(pairs_of((0, 1), (1, 2), (2, 3), (3, 4)), 6)
    assert [group.tolist() for group in groups] == [[0, 1, 2], [3, 4]]


def test_members_of_a_group_are_all_paired_with_one_of_them():
    rng = np.random.default_rng(3)
    edges = {tuple(sorted(pair)) for pair in rng.integers(0, 60, (200, 2)).tolist() if pair[0] != pair[1]}
    groups = centre_groups(pairs_of(*sorted(edges)), 60)
    members = [m for group in groups for m in group.tolist()]
    assert len(members) == len(set(members))
    for group in groups:
        rows = group.tolist()
        assert any(all(m == c or tuple(sorted((m, c))) in edges for m in rows) for c in rows)
    left = set(range(60)) - set(members)
    assert not any(a in left and b in left for a, b in edges)


def test_what_is_all_alike_is_one_group():
    edges = [(a, b) for a in range(5) for b in range(a + 1, 5)]
    assert [group.tolist() for group in centre_groups(pairs_of(*edges, (7, 8)), 9)] == [[0, 1, 2, 3, 4], [7, 8]]
