"""Metrics on numbers a reader can check by eye."""

import numpy as np
import pytest

from clipsearch.errors import InputError
from clipsearch.evaluation.metrics import mean_reciprocal_rank, median_rank, ranks_of_best, recall_at_k

RANKS = np.array([1, 2, 4, 10])


@pytest.mark.parametrize(("k", "share"), [(1, 0.25), (2, 0.5), (3, 0.5), (4, 0.75), (9, 0.75), (10, 1.0)])
def test_recall_is_the_share_of_ranks_within_k(k, share):
    assert recall_at_k(RANKS, k) == share


def test_the_median_rank_lies_between_the_middle_two():
    assert median_rank(RANKS) == 3.0
    assert median_rank(np.array([7])) == 7.0


def test_the_mean_reciprocal_rank_averages_one_over_rank():
    assert mean_reciprocal_rank(RANKS) == pytest.approx((1 + 0.5 + 0.25 + 0.1) / 4)


def test_the_rank_counts_the_wrong_answers_in_front():
    scores = np.array([[0.9, 0.5, 0.7]], np.float32)
    for right, rank in ((0, 1), (1, 3), (2, 2)):
        assert ranks_of_best(scores, np.arange(3)[None] == right)[0] == rank


def test_the_best_of_several_right_answers_counts_and_the_others_do_not_stand_in_its_way():
    scores = np.array([[0.9, 0.8, 0.7, 0.6]], np.float32)
    assert ranks_of_best(scores, np.array([[False, True, False, True]]))[0] == 2
    assert ranks_of_best(scores, np.array([[True, True, False, False]]))[0] == 1


def test_ties_count_against_the_right_answer():
    scores = np.array([[0.5, 0.5, 0.5, 0.1]], np.float32)
    assert ranks_of_best(scores, np.array([[True, False, False, False]]))[0] == 3


def test_a_model_that_scores_everything_alike_ranks_last():
    scores = np.zeros((10, 10), np.float32)
    assert (ranks_of_best(scores, np.eye(10, dtype=bool)) == 10).all()


def test_ties_among_right_answers_cost_nothing():
    scores = np.array([[0.5, 0.5, 0.1]], np.float32)
    assert ranks_of_best(scores, np.array([[True, True, False]]))[0] == 1


@pytest.mark.parametrize("bad", [[], [0], [[1]]])
def test_what_is_no_list_of_ranks_is_refused(bad):
    with pytest.raises(InputError, match="Ranks"):
        recall_at_k(np.array(bad, dtype=np.int64), 1)


def test_a_query_without_a_right_answer_is_refused():
    with pytest.raises(InputError, match="right answer"):
        ranks_of_best(np.zeros((1, 2), np.float32), np.zeros((1, 2), bool))
