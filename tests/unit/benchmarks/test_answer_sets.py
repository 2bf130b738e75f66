"""Questions made by rule from captions: only what the captions agree on, and each true answer is theirs."""

import pytest

from benchmarks.stages.answer_sets import NONE, classes, count, questions


def five(*texts):
    return (texts * 5)[:5]


CAPTIONS = {
    "dog.jpg": five("A black dog runs through the grass .", "The black dog is running ."),
    "two.jpg": five("Two brown dogs play in the snow .", "Two brown dogs fight in the snow ."),
    "swim.jpg": five("A boy swims in the pool .", "A child is swimming in a pool ."),
    "women.jpg": five("Two women ride bikes on a street .", "Two women are biking down the road ."),
    "eat.jpg": five("A man eats a sandwich .", "A man is eating ."),
    "mixed.jpg": ("A dog .", "A cat .", "A horse .", "A man .", "A car ."),
}


@pytest.fixture(scope="module")
def made():
    return questions(CAPTIONS)


def answers(made, group, form="there"):
    return {one.image: one.answer for one in made if (one.group, one.form) == (group, form)}


@pytest.mark.parametrize(
    ("group", "told"),
    [
        ("how many dogs", {"dog.jpg": "one", "two.jpg": "two"}),
        ("how many people", {"women.jpg": "two", "swim.jpg": "one", "eat.jpg": "one"}),
        ("colour of dog", {"dog.jpg": "black", "two.jpg": "brown"}),
        ("dog does", {"dog.jpg": "running", "two.jpg": "fighting"}),
        ("doing", {"swim.jpg": "swimming", "women.jpg": "riding a bicycle"}),
        ("where", {"dog.jpg": "grass", "two.jpg": "snow", "swim.jpg": "swimming pool", "women.jpg": "street"}),
        ("what", {"dog.jpg": "dog", "two.jpg": "dog", "swim.jpg": "boy", "women.jpg": "woman", "eat.jpg": "man"}),
    ],
)
def test_the_true_answer_is_what_the_captions_agree_on(made, group, told):
    assert answers(made, group) == told


def test_without_the_true_choice_none_of_these_is_right(made):
    there = {(one.group, one.image): one for one in made if one.form == "there"}
    removed = [one for one in made if one.form == "removed"]
    assert removed
    for one in removed:
        assert one.answer == NONE and set(there[one.group, one.image].choices) - set(one.choices) == {
            there[one.group, one.image].answer
        }


def test_pictures_that_have_nothing_to_do_with_it_do_not_mention_it(made):
    assert set(answers(made, "how many dogs", "absent")) == {"swim.jpg", "women.jpg", "eat.jpg"}
    assert set(answers(made, "doing", "near")) == {"eat.jpg"}
    assert set(answers(made, "doing", "absent")) == {"dog.jpg", "two.jpg"}


def test_yes_needs_all_captions_and_no_needs_their_silence(made):
    dogs = [one for one in made if one.text == "is there a dog in it?"]
    assert {one.image for one in dogs if one.answer == "yes"} == {"dog.jpg", "two.jpg"}
    assert {one.image for one in dogs if one.answer == "no"} < {"swim.jpg", "women.jpg", "eat.jpg"}
    assert sum(one.answer == "yes" for one in dogs) == sum(one.answer == "no" for one in dogs)


def test_words_are_counted_a_caption_whatever_their_number():
    assert count(("two dogs and a dog", "a cat", "DOGS ."), "dog,puppy") == 2


def test_classes_become_questions_with_the_words_of_all_classes():
    made = classes([("a.jpg", "pants")], {"pants": "trousers", "hat": "hat"}, "what is it?")
    assert [(one.form, one.choices, one.answer) for one in made] == [
        ("there", ("trousers", "hat"), "trousers"),
        ("removed", ("hat",), NONE),
    ]


def test_a_question_about_a_thing_is_asked_where_captions_tell_of_it_and_where_they_are_silent(made):
    dog = [one for one in made if one.text == "where is the dog?"]
    assert {one.image: one.answer for one in dog if one.form == "there"} == {"dog.jpg": "grass", "two.jpg": "snow"}
    assert {one.image for one in dog if one.form == "absent"} == {"swim.jpg", "women.jpg", "eat.jpg"}
    child = [one for one in made if one.text == "what is the child doing?"]
    assert {one.image: one.answer for one in child if one.form == "there"} == {"swim.jpg": "swimming"}
    assert {one.image for one in child if one.form == "absent"} == {"dog.jpg", "two.jpg"}
    assert set(answers(made, "colour of shirt", "absent")) == {"dog.jpg", "two.jpg"}
