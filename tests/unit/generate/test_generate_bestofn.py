"""Choosing among pictures: the normalised score against its definition, and rejection at its level."""

import numpy as np
import pytest

from clipsearch.generate.bestofn import LEVEL, choose, normalised, swapped, unrelated


def log_softmax(x):
    return x - x.max() - np.log(np.exp(x - x.max()).sum())


def rows(rng, *shape):
    x = rng.standard_normal(shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def test_the_score_is_the_log_probability_of_the_prompt():
    rng = np.random.default_rng(0)
    images, prompt, contrast = rows(rng, 5, 16), rows(rng, 16), rows(rng, 9, 16)
    expected = [log_softmax(50 * np.array([i @ prompt, *(contrast @ i)], np.float64))[0] for i in images]
    np.testing.assert_allclose(normalised(images, prompt, contrast, 50.0), expected, rtol=1e-4)


def test_a_picture_that_scores_high_with_every_caption_does_not_win():
    prompt, contrast = np.eye(4, dtype=np.float32)[0], np.eye(4, dtype=np.float32)[1:2]
    hub = np.array([0.6, 0.6, 0.529, 0], np.float32)
    plain = np.array([0.5, 0.0, 0.866, 0], np.float32)
    chosen = choose(np.stack([hub, plain]), prompt, contrast, np.tile(contrast, (199, 1)), 20.0)
    assert hub @ prompt > plain @ prompt and chosen.picked == 1 and not chosen.rejected


def test_ties_go_to_the_lower_seed():
    rng = np.random.default_rng(1)
    image = rows(rng, 16)
    assert choose(np.stack([image] * 3), image, rows(rng, 4, 16), rows(rng, 199, 16)).picked == 0


@pytest.mark.parametrize("n", [1, 4])
def test_pictures_with_nothing_of_the_prompt_pass_no_more_often_than_the_level(n):
    rng = np.random.default_rng(n)
    passed = 0
    for _ in range(400):
        texts = rows(rng, 224, 16)
        passed += not choose(rows(rng, n, 16), texts[0], texts[1:25], texts[25:]).rejected
    assert passed / 400 <= LEVEL + 3 * np.sqrt(LEVEL * (1 - LEVEL) / 400)


def test_at_level_one_pictures_are_ranked_and_only_what_is_not_finite_is_rejected():
    rng = np.random.default_rng(5)
    texts = rows(rng, 224, 16)
    images = rows(rng, 4, 16)
    strict = choose(images, texts[0], texts[1:25], texts[25:])
    lenient = choose(images, texts[0], texts[1:25], texts[25:], level=1.0)
    assert strict.rejected and not lenient.rejected
    assert (lenient.picked, lenient.scores, lenient.p_value) == (strict.picked, strict.scores, strict.p_value)
    assert choose(np.full((1, 16), np.nan, np.float32), texts[0], texts[1:25], texts[25:], level=1.0).rejected


def test_a_picture_of_the_prompt_passes():
    rng = np.random.default_rng(3)
    texts = rows(rng, 224, 64)
    image = (texts[0] + 0.5 * rows(rng, 64))[None]
    assert not choose(image / np.linalg.norm(image), texts[0], texts[1:25], texts[25:]).rejected


def test_an_embedding_that_is_not_finite_is_rejected():
    rng = np.random.default_rng(4)
    assert choose(np.full((1, 16), np.nan, np.float32), rows(rng, 16), rows(rng, 4, 16), rows(rng, 199, 16)).rejected


def test_one_attribute_is_exchanged_at_a_time():
    assert swapped("a red dog", 3) == ["a blue dog", "a green dog", "a yellow dog"]
    assert swapped("a zebra") == []


def test_captions_that_share_a_word_with_the_prompt_are_left_out():
    assert unrelated("a red dog", ["a dog runs", "the red car", "a cat"], frozenset({"a", "the"})) == ["a cat"]
