"""Caption measures against reference implementations, and tags against counting by hand."""

import numpy as np
import pytest

from clipsearch.errors import InputError
from clipsearch.evaluation.captioning import bleu, caption_scores, cider_d, rouge_l, words_of
from clipsearch.evaluation.tags import confusion, label_scores, ranks_of, tag_scores

SAID = ["a cat sits on a mat", "two dogs in the snow", "a man on a horse"]
WANTED = [
    ["a cat sits on the mat", "there is a cat on a mat"],
    ["two dogs play in the snow", "dogs are playing in snow"],
    ["a man rides a red bicycle", "the man is riding a bicycle down the road"],
]


def split(texts):
    return [text.split() for text in texts]


def test_cider_d_has_the_values_of_the_coco_evaluation():
    """Values of pycocoevalcap 1.2, each caption's by itself as it gives them (times 10, as it does)."""
    wanted = [split(texts) for texts in WANTED]
    assert cider_d(split(SAID), wanted) == pytest.approx(3.0065267808456526, abs=1e-9)


def test_a_caption_that_is_its_only_reference_scores_ten():
    said = split(["a cat sits on a mat", "two dogs play in deep snow"])
    assert cider_d(said, [[words] for words in said]) == pytest.approx(10)
    assert rouge_l(said, [[words] for words in said]) == 1 and bleu(said, [[words] for words in said]) == (1, 1, 1, 1)


def test_bleu_is_that_of_sacrebleu():
    sacrebleu = pytest.importorskip("sacrebleu")
    for said, wanted in ((SAID, WANTED), (SAID * 2, [WANTED[1], WANTED[0], WANTED[2]] * 2)):
        expected = sacrebleu.corpus_bleu(
            said, list(map(list, zip(*wanted, strict=True))), tokenize="none", smooth_method="none"
        )
        found = bleu(split(said), [split(texts) for texts in wanted])
        assert 100 * found[3] == pytest.approx(expected.score, abs=1e-6)


def test_bleu_by_hand():
    said, wanted = [["the", "the", "the", "the", "cat"]], [[["the", "cat", "is", "there", "now"]]]
    assert bleu(said, wanted)[:2] == (pytest.approx(2 / 5), pytest.approx(((2 / 5) * (1 / 4)) ** 0.5))
    short = bleu([["the", "cat"]], [[["the", "cat", "is", "there"]]])
    assert short[0] == pytest.approx(np.exp(1 - 4 / 2))


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
