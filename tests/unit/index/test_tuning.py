"""Operating points: recall with ties, the frontier, and the choice."""

import numpy as np

from clipsearch.index.base import EXACT, Effort
from clipsearch.index.exact import exact_samples
from clipsearch.index.tuning import K, OperatingPoint, Sample, cheapest, effort_for, frontier, recall_of
from clipsearch.types import EmbeddingBlock, Neighbors

POINTS = [OperatingPoint(4, 5, 0.8, 0.1), OperatingPoint(16, 10, 0.95, 0.2), OperatingPoint(64, 20, 0.99, 0.5)]


def test_only_points_that_no_other_beats_are_kept():
    beaten = [OperatingPoint(8, 5, 0.79, 0.15), OperatingPoint(32, 40, 0.95, 0.3), OperatingPoint(64, 40, 0.98, 0.9)]
    assert frontier([*beaten, *POINTS]) == POINTS


def test_the_cheapest_point_that_reaches_the_recall_is_taken():
    assert cheapest(POINTS, 0.9) == POINTS[1]
    assert cheapest(POINTS, 0.995) is None
    assert effort_for(POINTS, 0.98) == Effort(64, 20)


def test_a_recall_that_nothing_reaches_is_exact_if_asked_for_and_the_best_if_not():
    assert effort_for(POINTS, 0.999) == EXACT
    assert effort_for(POINTS[:2], None) == Effort(16, 10)
    assert effort_for([], 0.9) == EXACT and effort_for([], None) is None
    assert effort_for([OperatingPoint(512, 80, 1.0, 9.0)], 1.0) == EXACT, "all of a sample is not all"


def test_recall_counts_answers_that_tie_with_the_tenth():
    scores = np.tile(np.array([0.9] * 5 + [0.5] * 5, np.float32), (1, 1))
    sample = Sample(np.zeros((1, 2), np.float32), np.array([-1]), scores)
    other = Neighbors(np.arange(100, 111)[None], np.array([[0.9] * 5 + [0.5] * 6], np.float32))
    assert recall_of(other, sample) == 1.0
    half = Neighbors(np.arange(11)[None], np.array([[0.9] * 5 + [0.1] * 6], np.float32))
    assert recall_of(half, sample) == 0.5


def test_a_collection_smaller_than_ten_has_full_recall_with_all_of_it():
    scores = np.array([[0.9, 0.5, *[-np.inf] * 8]], np.float32)
    sample = Sample(np.zeros((1, 2), np.float32), np.array([-1]), scores)
    found = Neighbors(np.array([[1, 2, *[-1] * 9]]), np.array([[0.9, 0.5, *[-np.inf] * 9]], np.float32))
    assert recall_of(found, sample) == 1.0


def test_a_query_is_not_credited_with_finding_itself():
    x = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    blocks = [EmbeddingBlock(np.arange(50), x)]
    sample = exact_samples(blocks, {"image": (x[:5], np.arange(5))}, 8)["image"]
    assert sample.scores.shape == (5, K) and (sample.scores < 0.999).all()
