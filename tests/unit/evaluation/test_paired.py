"""The interval of a change: what it holds, what it is drawn over, and that it is the same each time."""

import numpy as np
import pytest

from clipsearch.errors import InputError
from clipsearch.evaluation.paired import paired_bootstrap


def test_a_change_that_is_the_same_everywhere_has_no_width():
    found = paired_bootstrap(np.full(50, 0.25), np.arange(50))
    assert (found.value, found.low, found.high) == (0.25, 0.25, 0.25) and found.is_gain


def test_the_interval_is_that_of_the_mean_where_queries_stand_alone():
    changes = np.random.default_rng(0).normal(0.1, 1.0, 2_000)
    found = paired_bootstrap(changes, np.arange(2_000))
    width = 1.96 * changes.std() / np.sqrt(2_000)
    assert found.low == pytest.approx(changes.mean() - width, abs=0.006)
    assert found.high == pytest.approx(changes.mean() + width, abs=0.006)


def test_five_captions_of_a_picture_that_go_together_count_as_one():
    changes = np.random.default_rng(1).normal(0.0, 1.0, 200)
    once = paired_bootstrap(changes, np.arange(200))
    five = paired_bootstrap(np.repeat(changes, 5), np.repeat(np.arange(200), 5))
    assert (five.low, five.high) == pytest.approx((once.low, once.high))


def test_no_change_is_switched_on_by_chance_much_more_often_than_the_interval_says():
    rng = np.random.default_rng(2)
    draws = [rng.choice([-1.0, 0.0, 1.0], 300, p=[0.1, 0.8, 0.1]) for _ in range(300)]
    gains = [paired_bootstrap(changes, np.arange(300), repeats=400).is_gain for changes in draws]
    assert np.mean(gains) < 0.025 + 4 * np.sqrt(0.025 * 0.975 / 300)


def test_the_same_seed_draws_the_same():
    changes = np.random.default_rng(3).normal(size=40)
    assert paired_bootstrap(changes, np.arange(40), 7) == paired_bootstrap(changes, np.arange(40), 7)


def test_nothing_to_compare_is_refused():
    with pytest.raises(InputError, match="queries"):
        paired_bootstrap(np.empty(0), np.empty(0))
