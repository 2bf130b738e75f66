"""The bank, and what kind of query a text is."""

import pytest

from clipsearch.match import bank


def test_the_bank_is_the_same_everywhere_and_every_text_is_of_its_kind():
    assert len(bank.all_queries()) == len(set(bank.all_queries())) == 1620
    for kind in bank.KINDS:
        assert {bank.kind_of(text) for text in bank.bank_queries(kind)} == {kind}
    assert len(bank.bank_hash()) == 64


def test_hubs_are_measured_with_every_kind_of_query_as_often_as_the_bank_has_it():
    some = bank.hub_queries()
    assert len(some) == 540 and set(some) < set(bank.all_queries())
    for kind in bank.KINDS:
        assert abs(sum(bank.kind_of(text) == kind for text in some) - len(bank.bank_queries(kind)) / 3) < 1


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("dog", "keyword"),
        ("red sports car", "keyword"),
        ("Dog, snow!", "keyword"),
        ("a dog", "phrase"),
        ("red sports car driving fast", "phrase"),
        ("a dog runs in the snow", "phrase"),
        ("a brown dog runs in the snow", "sentence"),
        ("", None),
        ("?!", None),
        ("word " * 41, None),
    ],
)
def test_the_kind_of_a_query_is_told_from_its_words(text, kind):
    assert bank.kind_of(text) == kind


def test_a_caption_yields_queries_of_every_kind():
    caption = "A brown dog is running through the deep snow ."
    assert bank.as_kind(caption, "sentence") == caption
    assert bank.as_kind(caption, "phrase") == "A brown dog is running"
    assert bank.as_kind(caption, "keyword") in ("brown", "brown dog", "brown dog running")
    assert bank.as_kind("snow", "sentence") is None and bank.as_kind("snow", "phrase") is None
    assert bank.as_kind("the", "keyword") is None
