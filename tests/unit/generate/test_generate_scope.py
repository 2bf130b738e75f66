"""What a generator says that it can draw: what lies within, in which words it is told, and why the rest does not."""

import json
import re
import shutil

import pytest

from clipsearch.errors import WeightsNotFoundError
from clipsearch.generate.mini import WEIGHTS
from clipsearch.generate.scope import FILE, read_scope


@pytest.fixture(scope="module")
def scope():
    found = read_scope(str(WEIGHTS))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a dog", "a dog"),
        ("Dog!", "a dog"),
        ("a cute puppy", "a dog"),
        ("a photo of an owl", "an owl"),
        ("a red apple", "an apple"),
        ("a black and white cow", "a cow"),
        ("some grapes", "grapes"),
        ("the palm tree", "a palm tree"),
        ("a camera icon", "a camera"),
        ("an owl on a blue background", "an owl on a blue background"),
        ("a dog on an orange backdrop", "a dog on an orange background"),
        ("an ice-cream, pink background", "an ice cream on a pink background"),
        ("a gray background with a key", "a key on a grey background"),
        ("a red car in front of a plain green background", "a car on a green background"),
        ("a banana on white", "a banana on a white background"),
    ],
)
def test_what_says_one_thing_is_told_in_the_words_of_a_caption(scope, prompt, words):
    assert scope.read(prompt).words == words and scope.read(prompt).why_not is None


@pytest.mark.parametrize(
    ("prompt", "why"),
    [
        ("quarterly tax report", "does not know 'quarterly', 'tax' and 'report'"),
        ("a submarine made of glass", "'submarine', 'made' and 'glass'"),
        ("two dogs playing in snow", "'two', 'dogs', 'playing' and 'snow'"),
        ("a zebra", "'zebra'"),
        ("dogs", "'dogs'"),
        ("a dog's bone", "'bone'"),
        ("a hot dog", "'hot'"),
        ("a computer mouse", "'computer'"),
        ("a cup of tea", "'tea'"),
        ("a dog in", "'in'"),
        ("ein Hund", "'ein' and 'hund'"),
        ("a dog and a cat", "one thing at a time, not dog and cat together"),
        ("a house on fire", "one thing at a time"),
        ("a blue dog", "its dog is not blue; .*'on a blue background'"),
        ("a ginger dog", "its dog is not ginger$"),
        ("a red dog on a blue background", "not red"),
        ("a dog on a red background on a blue background", "one background"),
        ("a red background", "names no thing"),
        ("\U0001f984", "names no thing"),
        (" ", "names no thing"),
    ],
)
def test_what_says_anything_else_lies_outside_and_is_told_why(scope, prompt, why):
    reading = scope.read(prompt)
    assert reading.words == "" and re.search(why, reading.why_not)


def test_every_name_and_every_colour_lies_within_and_a_caption_is_told_as_it_is(scope):
    for name, thing in scope.things.items():
        for ground in scope.backgrounds:
            told = scope.read(f"{name} on a {ground} background").words
            assert told.endswith(f"{ground} background") and thing in told
            assert scope.read(told).words == told
        assert scope.read(name).words == scope.said[thing] == scope.read(scope.said[thing]).words
    for thing, tints in scope.colours.items():
        assert all(scope.read(f"a {tint} {thing}").words == scope.said[thing] for tint in tints)


def test_the_shipped_statement_names_what_its_card_names(scope):
    card = (WEIGHTS / "MODEL_CARD.md").read_text(encoding="utf-8").partition("## Things that it knows")[2]
    things, colours = card.partition("## Licences")[0].split("Colours:")
    listed = [name.strip(" .") for name in " ".join(things.split()).split(",")]
    assert scope.names() == listed and len(listed) == 106
    assert list(scope.backgrounds) == [name.strip(" .") for name in " ".join(colours.split()).split(",")]


def test_weights_without_a_statement_say_nothing(tmp_path):
    assert read_scope(None) is None and read_scope("") is None and read_scope(str(tmp_path)) is None


@pytest.mark.parametrize(
    "damage", ["", "[]", "{", '{"schema": "clipsearch.scope/9"}', '{"schema": "clipsearch.scope/1"}']
)
def test_a_statement_that_cannot_be_read_is_an_error_and_no_licence_to_draw_anything(tmp_path, damage):
    (tmp_path / FILE).write_text(damage)
    with pytest.raises(WeightsNotFoundError, match="Install its weights again") as caught:
        read_scope(str(tmp_path))
    assert str(caught.value).count("\n") < 3


def test_another_statement_is_read_as_it_says(tmp_path):
    said = {
        "schema": "clipsearch.scope/1", "captions": ["one {a}", "one {a}, {colour}"], "backgrounds": ["teal"],
        "things": {"boat": {"said": "boat", "also": ["dinghy"]}},
    }  # fmt: skip
    (tmp_path / FILE).write_text(json.dumps(said))
    scope = read_scope(str(tmp_path))
    assert scope.read("a dinghy on teal").words == "one boat, teal" and scope.read("a dog").why_not
    assert scope.read("a teal boat").why_not


def test_the_statement_belongs_to_what_decides_the_pictures(tmp_path):
    from clipsearch.generate.weights import weights_digest

    shutil.copytree(WEIGHTS, tmp_path / "mini")
    before = weights_digest(str(tmp_path / "mini"))
    (tmp_path / "mini" / FILE).unlink()
    assert weights_digest(str(tmp_path / "mini")) != before
