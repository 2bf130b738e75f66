"""Intervals against the definition, tables, and simulation."""

import math

import numpy as np
import pytest

from clipsearch.evaluation.intervals import clopper_pearson, grouped_share, incomplete_beta


def at_most(k, n, p):
    return sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))


@pytest.mark.parametrize(("k", "n"), [(1, 10), (5, 10), (9, 10), (12, 400), (40, 400), (390, 400)])
def test_the_ends_are_where_the_count_becomes_improbable(k, n):
    low, high = clopper_pearson(k, n)
    assert at_most(k, n, high) == pytest.approx(0.025, abs=1e-9)
    assert 1 - at_most(k - 1, n, low) == pytest.approx(0.025, abs=1e-9)


def test_nothing_and_everything_have_the_closed_form():
    assert clopper_pearson(0, 20) == (0.0, pytest.approx(1 - 0.025 ** (1 / 20)))
    assert clopper_pearson(20, 20) == (pytest.approx(0.025 ** (1 / 20)), 1.0)


def test_the_incomplete_beta_function_has_its_known_values():
    assert incomplete_beta(1, 1, 0.3) == pytest.approx(0.3)
    assert incomplete_beta(2, 3, 0.5) == pytest.approx(11 / 16)
    assert incomplete_beta(0.5, 0.5, 0.25) == pytest.approx(1 / 3)  # 2 / pi asin(sqrt(x))
    for a, b, x in ((3.5, 90.2, 0.02), (200.0, 7.0, 0.99), (14.0, 387.0, 0.05)):
        assert incomplete_beta(a, b, x) == pytest.approx(1 - incomplete_beta(b, a, 1 - x), abs=1e-12)


def test_answers_of_their_own_have_the_plain_interval():
    hits = np.arange(400) < 20
    share = grouped_share(np.random.default_rng(0).permutation(hits), np.arange(400), 400)
    low, high = clopper_pearson(20, 400)
    assert (share.value, share.n) == (0.05, 400)
    assert share.low == pytest.approx(low, abs=1e-3) and share.high == pytest.approx(high, abs=1e-3)


def test_asking_the_same_again_makes_nothing_surer():
    hits, groups = np.arange(400) % 20 == 0, np.arange(400)
    once, often = grouped_share(hits, groups, 400), grouped_share(np.tile(hits, 5), np.tile(groups, 5), 400)
    assert (often.low, often.high) == (pytest.approx(once.low, abs=1e-3), pytest.approx(once.high, abs=1e-3))


def test_answers_in_groups_are_covered_where_the_plain_interval_fails():
    rng = np.random.default_rng(4)
    groups, inside, plain = np.repeat(np.arange(40), 15), 0, 0
    for _ in range(300):
        shares = rng.beta(0.6, 5.4, 40)  # mean 0.1, far apart
        hits = rng.random(600) < shares[groups]
        share = grouped_share(hits, groups, 600)
        low, high = clopper_pearson(hits.sum(), 600)
        inside += share.low <= 0.1 <= share.high
        plain += low <= 0.1 <= high
    assert inside / 300 >= 0.90 > plain / 300
