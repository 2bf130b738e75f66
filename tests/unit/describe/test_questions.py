"""Questions become statements, statements answers; tags become sentences; XMP stays XML."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from clipsearch.describe.answers import TAKEN, Compared, by_choice, rank, smallest_alone, yes_or_no
from clipsearch.describe.compose import compose
from clipsearch.describe.statements import read_question
from clipsearch.describe.tagging import Standard
from clipsearch.describe.xmp import is_ours, sidecar
from clipsearch.errors import InputError


@pytest.mark.parametrize(
    ("question", "choices", "kind", "first"),
    [
        ("how many dogs are there?", ["one", "two"], "how many", "one dog"),
        ("How many people can you see", ["2", "3"], "how many", "2 people"),
        ("how many people are there?", ["one", "three"], "how many", "one person"),
        ("what colour is the car?", ["red", "blue"], "what colour", "a red car"),
        ("where are they?", ["beach", "in a house"], "where", "a photo taken at the beach"),
        ("what is the dog doing?", ["swimming", "sleeping"], "doing", "a dog swimming"),
        ("what animal is this?", ["a cat", "owl"], "open", "a cat"),
        ("is there a person in it?", None, "yes or no", "a person"),
        ("Does the picture show any dogs?", ["yes", "no"], "yes or no", "dogs"),
        ("is it snowing?", None, "yes or no", "a snowing"),
    ],
)
def test_a_question_becomes_the_statement_that_its_answer_would_make_true(question, choices, kind, first):
    asked = read_question(question, choices)
    assert (asked.kind, asked.statements[0][0]) == (kind, first)
    assert len(asked.fillers) > 200 and asked.is_yes_no == (kind == "yes or no")


@pytest.mark.parametrize(
    ("question", "choices", "message"),
    [
        ("", None, "question is empty"),
        ("what? " * 1000, ["a", "b"], "at most 500 are read"),
        ("what is it?", ["red", "RED"], "stands there twice"),
        ("what is it?", ["red", ""], "choices is empty"),
        ("what is it?", ["red"], "only choice"),
        ("what is it?", None, "open question"),
        ("what is it?", [str(n) for n in range(1001)], "at most 1,000"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_what_to_do(question, choices, message):
    with pytest.raises(InputError, match=message) as caught:
        read_question(question, choices)
    assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize(
    ("question", "what", "first"),
    [
        ("what is the dog doing?", "dog", "a dog"),
        ("what is that man in a red shirt doing in the park?", "man in a red shirt", "a man in a red shirt"),
        ("what is she doing?", "woman", "a woman"),
        ("what is it doing?", "animal", "an animal"),
        ("where is the dog sitting?", "dog", "a dog"),
        ("where is the swimming pool?", "swimming pool", "a swimming pool"),
        ("where is my black cat sleeping now?", "black cat", "a black cat"),
    ],
)
def test_what_somebody_does_and_where_something_is_take_it_for_granted(question, what, first):
    taken = read_question(question, ["one", "two"]).taken
    assert taken is not None and (taken.what, taken.statements[0][0]) == (what, first)
    alone = read_question(f"is there {first}?", None)
    assert taken.statements == alone.statements  # as if one asked for it
    assert len(taken.fillers) == 120 and set(taken.fillers) < set(alone.fillers)


def test_people_are_there_where_one_of_the_words_for_them_is():
    for question in ("what are they doing?", "where is everybody?", "where are the people standing?"):
        taken = read_question(question, ["one", "two"]).taken
        assert taken is not None and {"people", "a man", "women", "a girl"} <= {one[0] for one in taken.statements}


@pytest.mark.parametrize(
    "question",
    ["where is it?", "where was this photo taken?", "where is this", "what is it?", "how many dogs are there?",
     "what colour is the dog?", "is there a dog?"],
)  # fmt: skip
def test_other_questions_take_nothing_for_granted(question):
    assert read_question(question, None if question.startswith("is") else ["one", "two"]).taken is None


def test_arbitrary_words_pass_for_an_answer_no_more_often_than_is_said():
    rng = np.random.default_rng(0)
    for n_choices in (4, 1):  # 2,000 trials: three standard errors above 5 %
        draws = [(rng.standard_normal((2000, n_choices)), rng.standard_normal((2000, 240))) for _ in range(2)]
        p = rank(Compared(*draws[0]), Compared(*draws[1])).p_values
        assert 0.02 < (p <= 0.05).mean() < 0.065
        p = rank(Compared(*draws[0]), Compared(*draws[0])).p_values  # the same twice: half of what is allowed
        assert 0.01 < (p <= 0.05).mean() < 0.04


def test_each_word_for_a_thing_is_tested_as_if_it_were_the_only_one():
    rng = np.random.default_rng(1)
    one, other, others = (rng.standard_normal((300, n)) for n in (1, 1, 240))
    both = Compared(np.hstack([one, other]), others)
    alone = [rank(Compared(word, others), Compared(word, others)).p_values for word in (one, other)]
    np.testing.assert_array_equal(smallest_alone(both, both), np.minimum(*alone))
    single = Compared(rng.standard_normal((4000, 1)), rng.standard_normal((4000, 240)))
    assert 0.08 < (smallest_alone(single, single) <= TAKEN).mean() < 0.12  # the same twice: half of what is allowed


def test_the_smaller_p_of_two_tests_counts_doubled():
    choices, fillers = np.array([[3.0, 0.0]], np.float32), np.linspace(-1, 1, 240, dtype=np.float32)[None]
    fits, not_ = Compared(choices, fillers), Compared(choices - 9, fillers)
    assert rank(fits, not_).p_values[0] == rank(not_, fits).p_values[0] == 2 / 1000
    assert rank(not_, not_).p_values[0] == 1.0


def test_the_choice_of_the_nearest_statements_wins_and_scores_count_from_arbitrary_words():
    cosines = np.array([[0.3, 0.2, 0.26]], np.float32)
    choices = by_choice(cosines, np.array([0, 0, 1]))
    np.testing.assert_allclose(choices, [[0.25, 0.26]], rtol=1e-6)
    fillers = np.array([[0.1, 0.2]], np.float32)  # mean 0.15, deviation 0.05
    ranked = rank(Compared(choices, fillers), Compared(choices, fillers))
    np.testing.assert_allclose(ranked.scores, [[2.0, 2.2]], rtol=1e-4)
    np.testing.assert_allclose(ranked.shares.sum(axis=1), 1)


def test_what_a_label_scores_where_it_is_not_hardly_depends_on_how_often_it_is_there():
    rng = np.random.default_rng(2)
    scores = rng.normal(0.2, 0.03, (4000, 3)).astype(np.float32)
    scores[:400, 1] += 0.1  # a tenth of the pictures have it, and a third
    scores[:1300, 2] += 0.1
    absent, plain = Standard.of_absent(scores), Standard.of(scores)
    np.testing.assert_allclose(absent.center, 0.2, atol=0.02)
    np.testing.assert_allclose(absent.scale, 0.03, rtol=0.25)
    assert plain.z(np.full((1, 3), 0.3))[0, 2] < 1.5 < 2 < absent.z(np.full((1, 3), 0.3))[0, 2]


@pytest.mark.parametrize(("p", "answer"), [(0.01, "yes"), (0.3, None), (0.9, "no")])
def test_between_yes_and_no_lies_that_it_cannot_be_told(p, answer):
    assert yes_or_no(p) == answer


@pytest.mark.parametrize(
    ("tags", "sentence"),
    [
        ([("dog", "things"), ("beach", "scenes"), ("running", "activities")], "a dog, running, on a beach"),
        ([("dog", "things"), ("ball", "things"), ("owl", "things")], "a dog, a ball and an owl"),
        ([("dog", "things"), ("sketch", "styles")], "a sketch of a dog"),
        ([("old man", "things"), ("man", "things")], "an old man"),
        ([("sunset", "scenes")], "at a sunset"),
        ([], None),
    ],
)
def test_tags_become_a_sentence_that_says_no_more_than_they_do(tags, sentence):
    assert compose(tags) == sentence


def test_a_sidecar_is_xml_with_the_tags_as_keywords_and_knows_its_own():
    content = sidecar(["dog & cat", "<b>", "owl\x00"])
    root = ElementTree.fromstring(content)
    found = [item.text for item in root.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li")]
    assert found == ["dog & cat", "<b>", "owl"]
    assert is_ours(content) and not is_ours(content.replace(b">clipsearch<", b">darktable<"))
