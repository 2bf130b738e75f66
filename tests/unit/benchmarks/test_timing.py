"""Timing: who is asked what, how often, and when it ends."""

import time

import numpy as np

from benchmarks.timing import Plan, percentile_ms, run

XQ = np.arange(20, dtype=np.float32)[:, None]


class Searcher:
    def __init__(self, pause=0.0):
        self.pause, self.asked = pause, []

    def __call__(self, xq):
        time.sleep(self.pause)
        self.asked.append(len(xq))
        return xq.astype(np.int64)


def test_each_query_is_answered_once_and_warm_up_is_not_counted():
    search = Searcher()
    timed = run(search, XQ, Plan(batch=1, queries=12, warmup=5))
    assert timed.ids[:, 0].tolist() == list(range(12))
    assert len(timed.seconds) == 12
    assert len(search.asked) == 17


def test_batches_are_full_and_go_around_until_the_least_time_is_over():
    search = Searcher(0.001)
    timed = run(search, XQ, Plan(batch=8, queries=100, warmup=0, least_s=0.05))
    assert set(search.asked[1:]) == {8}
    assert timed.ids[:, 0].tolist() == list(range(16))
    assert sum(timed.seconds) >= 0.04


def test_a_slow_search_is_cut_off_but_answers_at_least_once():
    timed = run(Searcher(0.05), XQ, Plan(batch=1, queries=20, warmup=20, cap_s=0.01))
    assert len(timed.seconds) == 1
    assert timed.ids[:, 0].tolist() == [0]


def test_the_first_call_has_a_clock_of_its_own():
    assert run(Searcher(0.02), XQ, Plan(queries=1, warmup=0)).first >= 0.02


def test_seconds_inside_are_kept_call_by_call():
    clock = iter(range(100))
    timed = run(Searcher(), XQ, Plan(queries=3, warmup=0), lambda: next(clock) / 10)
    assert np.allclose(timed.inside, 0.1)


def test_percentiles_are_in_milliseconds():
    assert percentile_ms([0.001, 0.002, 0.003], 0.5) == 2.0
