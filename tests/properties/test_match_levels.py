"""P-values under exchangeability: never too small too often, whatever the scores look like."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipsearch.match.verdict import LEVELS, KindNull, judge, lower_p_value, p_value
from clipsearch.types import Verdict

samples = st.lists(st.floats(-1, 1, width=16), min_size=2, max_size=60)


@given(samples)
def test_exactly_exchangeable_p_values_are_super_uniform(values):
    """Take each value of a sample in turn as the query and the rest as its null: P(p <= a) <= a for every a."""
    scores = np.float32(values)
    p = np.array([p_value(scores[i], np.sort(np.delete(scores, i))) for i in range(len(scores))])
    q = np.array([lower_p_value(scores[i], np.sort(np.delete(scores, i))) for i in range(len(scores))])
    for level in np.unique(np.concatenate([p, q])):
        assert (p <= level).mean() <= level + 1e-12
        assert (q <= level).mean() <= level + 1e-12


@given(samples, st.floats(-1, 1, width=16), st.floats(-1, 1, width=16))
def test_more_evidence_never_gives_a_larger_p_value(null, a, b):
    null, low, high = np.sort(np.float32(null)), min(a, b), max(a, b)
    assert p_value(high, null) <= p_value(low, null)
    assert lower_p_value(high, null) >= lower_p_value(low, null)
    assert 0 < p_value(a, null) <= 1


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**31))
def test_the_levels_hold_on_average(seed):
    rng = np.random.default_rng(seed)
    rounds, far, frr = 400, 0, 0
    for _ in range(rounds):
        null, answerable = rng.standard_normal(100), rng.standard_normal(100) + 1
        known = KindNull(np.sort(np.float32(null)), np.sort(np.float32(answerable)), "captions", 9, 5, 0.0)
        far += judge(float(rng.standard_normal()), known)[0] == Verdict.MATCH
        frr += judge(float(rng.standard_normal() + 1), known)[0] == Verdict.NONE
    # 4 standard deviations of a binomial
    assert far / rounds <= LEVELS.match + 4 * np.sqrt(LEVELS.match / rounds)
    assert frr / rounds <= LEVELS.none + 4 * np.sqrt(LEVELS.none / rounds)


@pytest.mark.parametrize("n", [19, 99, 100, 400])
def test_the_p_value_of_new_draws_is_close_to_uniform(n):
    rng = np.random.default_rng(n)
    p = np.array([p_value(rng.random(), np.sort(rng.random(n).astype(np.float32))) for _ in range(2000)])
    grid = np.linspace(0.02, 0.98, 49)
    shares = (p[:, None] <= grid).mean(axis=0)
    assert (shares <= grid + 0.045).all() and (shares >= grid - 1 / (n + 1) - 0.045).all()
