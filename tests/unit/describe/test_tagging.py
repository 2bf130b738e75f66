"""From scores to tags: the level is kept on data whose truth is known."""

import numpy as np
import pytest

from clipsearch.describe.tagging import (
    Background,
    Standard,
    Weighing,
    chance_threshold,
    features,
    fit,
    mirror,
    only_best,
    threshold,
)


def world(seed, n=600, labels=12, share=0.08, gain=1.6):
    """Scores of pictures and labels with hubs on both sides; a label that is there scores higher."""
    rng = np.random.default_rng(seed)
    truth = rng.random((n, labels)) < share
    scores = 0.3 + 0.05 * (rng.standard_normal((n, labels)) + gain * truth)
    hub = 0.02 * rng.standard_normal((n, 1))
    scores += 0.02 * rng.standard_normal(labels) + hub
    generic = 0.3 + hub + 0.05 * rng.standard_normal((n, 80))
    made = features(scores.astype(np.float32), Standard.of(scores), Background.of(generic))
    return made, truth


@pytest.mark.parametrize("level", [0.7, 0.8, 0.9])
def test_the_level_holds_on_pictures_that_the_threshold_was_not_chosen_on(level):
    right = given = 0
    for seed in range(8):
        made, truth = world(seed, gain=3.0)
        half = np.arange(len(truth)) % 2 == 0
        weighing = fit(made[half], truth[half])
        chosen = threshold(weighing.evidence(made[half]), truth[half], level)
        tags = weighing.evidence(made[~half]) >= chosen.value
        right, given = right + (tags & truth[~half]).sum(), given + tags.sum()
    assert given > 300
    assert abs(right / given - level) < 0.05


def test_the_fit_is_where_the_likelihood_has_no_slope():
    made, truth = world(1)
    weighing = fit(made, truth)
    p = 1 / (1 + np.exp(-weighing.evidence(made).astype(np.float64)))
    assert weighing.weights is not None
    slope = np.einsum("nl,nlf->f", truth - p, made) - 1e-3 * weighing.weights
    assert np.abs(slope).max() < 0.05


def test_a_label_that_is_never_there_gets_a_low_bias_and_breaks_nothing():
    made, truth = world(2)
    truth[:, 0] = False
    biases = fit(made, truth).biases
    assert np.isfinite(biases).all() and biases[0] < biases[1:].min()


def test_a_threshold_does_not_part_equals_and_none_is_chosen_from_few():
    evidence = np.array([[3.0], [2.0], [2.0], [1.0]] * 5, np.float32)
    truth = np.array([[True], [True], [False], [False]] * 5)
    assert threshold(evidence, truth, 0.6).value == 2.0
    assert threshold(evidence, truth, 0.9).value == np.inf  # five at 3.0 would be right, and five say nothing


def test_at_most_one_tag_a_picture_is_the_best():
    kept = only_best(np.array([[1.0, 3.0], [2.0, 0.0]], np.float32))
    assert kept.tolist() == [[-np.inf, 3.0], [2.0, -np.inf]]


def test_where_there_is_nothing_but_chance_next_to_nothing_is_given():
    given = 0
    for seed in range(5):
        made, _ = world(seed, share=0.0)
        evidence = Weighing.by_chance(made.shape[1]).evidence(made)
        given += (evidence >= chance_threshold(evidence, mirror(made), 0.8)).sum()
    assert given <= 5 * 600 * 12 * 0.001


def test_what_stands_far_out_is_given_without_any_witness():
    made, truth = world(3, share=0.02, gain=9.0)
    evidence = Weighing.by_chance(made.shape[1]).evidence(made)
    tags = evidence >= chance_threshold(evidence, mirror(made), 0.8)
    assert tags[truth].mean() > 0.9
    assert (tags & truth).sum() >= 0.75 * tags.sum()


def test_one_label_alone_has_no_margin():
    scores = np.array([[0.2], [0.4]], np.float32)
    made = features(scores, Standard.of(scores), Background.of(np.array([[0.1, 0.3], [0.1, 0.3]])))
    assert (made[..., 1] == 0).all() and np.isfinite(made).all()
