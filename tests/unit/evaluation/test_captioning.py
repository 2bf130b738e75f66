"""Caption measures against reference implementations, and tags against counting by hand."""

from importlib.util import find_spec

import numpy as np
import pytest

from clipsearch.errors import InputError
from clipsearch.evaluation import captioning
from clipsearch.evaluation.captioning import bleu, caption_scores, cider_d, rouge_l, words_of
from clipsearch.evaluation.tags import confusion, label_scores, ranks_of, tag_scores

SAID = ["a cat sits on a mat", "two dogs in the snow", "a man on a horse"]
WANTED = [
    ["a cat sits on the mat", "there is a cat on a mat"],
    ["two dogs play in the snow", "dogs are playing in snow"],
    ["a man rides a red bicycle", "the man is riding a bicycle down the road"],
]


needs_sacrebleu = pytest.mark.skipif(find_spec("sacrebleu") is None, reason="sacrebleu is not installed")


def split(texts):
    return [text.split() for text in texts]


def test_cider_d_has_the_values_of_the_coco_evaluation():
    """Values of pycocoevalcap 1.2, each caption's by itself as it gives them (times 10, as it does)."""
    wanted = [split(texts) for texts in WANTED]
    assert cider_d(split(SAID), wanted) == pytest.approx(3.0065267808456526, abs=1e-9)


@needs_sacrebleu
def test_cider_d_and_bleu_have_the_values_that_aac_metrics_publishes():
    """The example in the README of aac-metrics (https://github.com/Labbeti/aac-metrics): 0.9614."""
    said = ["a man is speaking", "rain falls"]
    wanted = [
        ["a man speaks.", "someone speaks.", "a man is speaking while a bird is chirping in the background"],
        ["rain is falling hard on a surface"],
    ]
    found = caption_scores(said, wanted)
    assert found.cider_d == pytest.approx(0.9614, abs=1e-4) and found.bleu[0] == pytest.approx(0.4278, abs=1e-4)


def test_cider_d_by_hand():
    """Two pictures; the formulas are those of section 4 and 5 of the paper (https://arxiv.org/abs/1411.5726).

    References: "a dog", "a red dog runs" | "a cat". An n-gram weighs ln(2 / pictures that have it): "a" 0, all others
    L = ln 2. Captions: "a red dog" | "cat cat". Dots and norms of the vectors, in L:

        "a red dog", "a dog":           n=1  (red, dog)(dog): 1 / (sqrt 2 * 1)          n=2, 3, 4  nothing in common: 0
        "a red dog", "a red dog runs":  n=1  (red, dog)(red, dog, runs): 2 / (sqrt 2 * sqrt 3)
                                        n=2  (a red, red dog)(a red, red dog, dog runs): 2 / (sqrt 2 * sqrt 3)
                                        n=3  (a red dog)(a red dog, red dog runs): 1 / (1 * sqrt 2)      n=4  0
        "cat cat", "a cat":             n=1  (2 cat)(cat), clipped: min(2, 1) * 1 / (2 * 1) = 1/2       n=2, 3, 4  0

    Means over n = 1 to 4 and over references, times 10, times exp(-d^2 / (2 * 6^2)) for lengths that differ by d: one
    in the first picture, none in the second.
    """
    root2, root6 = 2**0.5, 6**0.5
    first = 10 * np.exp(-1 / 72) * ((1 / root2) / 4 + (2 / root6 + 2 / root6 + 1 / root2) / 4) / 2
    second = 10 * (1 / 2) / 4
    wanted = [split(["a dog", "a red dog runs"]), split(["a cat"])]
    assert first == pytest.approx(3.756471) and second == 1.25
    assert cider_d(split(["a red dog", "cat cat"]), wanted) == pytest.approx((first + second) / 2, rel=1e-12)
    assert cider_d(split(["a red dog", "a cat"]), wanted) == pytest.approx((first + 10 * 2 / 4) / 2, rel=1e-12)


def test_a_caption_that_is_its_only_reference_scores_ten():
    said = split(["a cat sits on a mat", "two dogs play in deep snow"])
    assert cider_d(said, [[words] for words in said]) == pytest.approx(10)
    assert rouge_l(said, [[words] for words in said]) == 1


@needs_sacrebleu
def test_captions_that_are_their_only_references_have_a_bleu_of_one():
    said = split(["a cat sits on a mat", "two dogs play in deep snow"])
    assert bleu(said, [[words] for words in said]) == pytest.approx((1, 1, 1, 1))


@needs_sacrebleu
def test_bleu_by_hand():
    said, wanted = [["the", "the", "the", "the", "cat"]], [[["the", "cat", "is", "there", "now"]]]
    assert bleu(said, wanted)[:2] == (pytest.approx(2 / 5), pytest.approx(((2 / 5) * (1 / 4)) ** 0.5))
    short = bleu([["the", "cat"]], [[["the", "cat", "is", "there"]]])
    assert short[0] == pytest.approx(np.exp(1 - 4 / 2))
    uneven = bleu([["a", "cat"], ["a", "dog"]], [[["a", "cat"], ["the", "cat"]], [["one", "dog", "runs"]]])
    assert uneven[0] == pytest.approx(np.exp(1 - 5 / 4) * 3 / 4), "as many references as each picture has"
    assert bleu([["x"]], [[["y"]]]) == (0, 0, 0, 0)


def test_without_sacrebleu_the_other_measures_are_given(monkeypatch):
    monkeypatch.setattr(captioning, "find_spec", lambda _: None)
    found = caption_scores(["a dog"], [["a dog"]])
    assert found.bleu is None and found.rouge_l == 1


def test_rouge_l_is_that_of_rouge_score():
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"])
    expected = [
        max(scorer.score(w, said)["rougeL"].fmeasure for w in texts) for said, texts in zip(SAID, WANTED, strict=True)
    ]
    assert rouge_l(split(SAID), [split(texts) for texts in WANTED]) == pytest.approx(np.mean(expected))


def test_rouge_l_by_hand():
    assert rouge_l([["a", "b", "c", "d"]], [[["a", "x", "c"]]]) == pytest.approx(2 * 2 / 7)


def test_punctuation_and_case_do_not_count():
    assert words_of("A dog's bone, (red) .") == ["a", "dog's", "bone", "red"]
    assert caption_scores(["A dog ."], [["a dog"]]).rouge_l == 1


def test_a_caption_without_reference_is_refused():
    with pytest.raises(InputError):
        caption_scores(["a dog"], [[]])


def test_precision_and_recall_are_counted_by_pairs():
    given = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0]], bool)
    truth = np.array([[1, 0, 0], [0, 1, 1], [1, 0, 0]], bool)
    found = tag_scores(given, truth)
    assert found.precision is not None and found.recall is not None
    assert (found.precision.value, found.recall.value) == (pytest.approx(2 / 3), 2 / 4)
    assert (found.given, found.right, found.there) == (3, 2, 4)
    assert found.precision.low < 2 / 3 < found.precision.high
    assert label_scores(given, truth)[2].precision is None
    assert confusion(np.array([0, 1, 1]), np.array([0, 0, 1]), 2).tolist() == [[1, 1], [0, 1]]
    assert ranks_of(np.array([[3.0, 2.0, 3.0]]), np.array([[True, False, False]])).tolist() == [2]
