"""Verdicts of searches with a filter: over the allowed rows they are what a collection of those rows would give."""

import numpy as np
import pytest
from planted import PLACES, PlantedEncoder, add, planted, text_of

from clipsearch.flows import filtered_verdicts
from clipsearch.flows.calibrate import renew
from clipsearch.match.calibration import Block, Part, Queries, asked_again, from_captions
from clipsearch.types import Verdict

HERE, ABSENT = range(24), range(40, 64)
HALF = "name LIKE '%0.png' OR name LIKE '%2.png' OR name LIKE '%4.png' OR name LIKE '%6.png' OR name LIKE '%8.png'"
KINDS = ("keyword", "phrase", "sentence")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """24 concepts of 12 pictures, calibrated from captions; half of each concept passes ``HALF``."""
    collection, encoder = planted(tmp_path_factory.mktemp("planted") / "w", concepts=HERE, copies=12)
    renew(collection._store, encoder)
    return collection, encoder


def verdicts(collection, kind, concepts, **options):
    asked = [text_of(kind, number, f"{place}asked") for number in concepts for place in PLACES[:8]]
    return [result.verdict for result in collection.search(asked, **options)]


def share(found, verdict):
    return float(np.mean([v == verdict for v in found]))


@pytest.mark.parametrize("target", ["image", "text"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_levels_hold_over_the_rows_that_pass(world, kind, target):
    collection, _ = world
    absent = verdicts(collection, kind, ABSENT, where=HALF, target=target)
    present = verdicts(collection, kind, HERE, where=HALF, target=target)
    assert Verdict.UNCALIBRATED not in absent
    assert share(absent, Verdict.MATCH) <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / len(absent))
    assert share(present, Verdict.NONE) <= 0.15 and share(present, Verdict.MATCH) >= 0.5


def test_a_concept_that_does_not_pass_is_no_match(world):
    """12 of the 24 concepts pass: what is asked of the others is there, but not among the rows that pass."""
    collection, _ = world
    passing = "name < '12-000.png'"
    inside = verdicts(collection, "sentence", range(12), where=passing)
    outside = verdicts(collection, "sentence", range(12, 24), where=passing)
    assert share(outside, Verdict.MATCH) <= 0.10 < 0.5 < share(inside, Verdict.MATCH)
    assert share(verdicts(collection, "sentence", range(12, 24)), Verdict.MATCH) > 0.8  # without the filter


def test_a_picture_as_a_query_is_judged_with_a_filter_too(world):
    kinds = world[0]._current().judge("images", HALF, world[0]._lock).target.kinds
    assert "image" in kinds and len(kinds["image"].null) >= 100 and set(kinds) >= set(KINDS)


def test_a_filter_that_all_rows_pass_has_the_answerable_sample_of_the_whole(world):
    view = world[0]._current()
    whole, everything = view.judge("images", None, None), view.judge("images", "width > 0", world[0]._lock)
    for kind in ("phrase", "image"):
        np.testing.assert_allclose(whole.target.kinds[kind].answerable, everything.target.kinds[kind].answerable)
        np.testing.assert_allclose(whole.target.kinds[kind].null, everything.target.kinds[kind].null)


def test_too_few_rows_that_pass_have_no_verdict_and_say_what_is_needed(world):
    for where, n in (("name < '08-003.png'", 99), ("name < '00-005.png'", 5)):
        result = world[0].search("concept03", where=where)
        assert (result.verdict, result.p_value) == (Verdict.UNCALIBRATED, None)
        assert f"leaves {n} pictures; at least 100" in result.why
    exact = world[0].search("concept03", where="name < '08-004.png'")
    assert exact.verdict != Verdict.UNCALIBRATED


def test_the_samples_of_a_filter_are_made_once_however_it_is_written(world, monkeypatch):
    collection, calls = world[0], []
    made = filtered_verdicts.asked_again
    monkeypatch.setattr(filtered_verdicts, "asked_again", lambda *a: calls.append(a) or made(*a))
    for where in ("name < '15'", "name<'15'", "'15' > name", "name < '15'"):
        for _ in range(2):
            collection.search("concept03 northfield", where=where)
    assert len(calls) == 1
    collection.search("concept03 in the open field", where="name < '15'")
    collection.search("concept03 northfield", where="name < '16'")
    assert len(calls) == 3


def test_a_verdict_with_a_filter_does_not_depend_on_k(world):
    found = [world[0].search("concept03 northfield", where=HALF, k=k).p_value for k in (1, 5, 120)]
    assert found[0] == found[1] == found[2] is not None


def test_rows_added_since_make_a_filtered_search_uncalibrated_too(tmp_path):
    collection, encoder = planted(tmp_path / "g", concepts=HERE, copies=6)
    renew(collection._store, encoder)
    assert collection.search("concept03", where="width > 0").verdict != Verdict.UNCALIBRATED
    add(collection, encoder, [30], copies=1)
    assert "1 row was added" in collection.search("concept03", where="width > 0").why
    renew(collection._store, encoder)
    assert collection.search("concept03", where="width > 0").verdict != Verdict.UNCALIBRATED


def test_without_captions_the_bank_is_asked_of_the_rows_that_pass(tmp_path):
    collection, encoder = planted(tmp_path / "b", PlantedEncoder(), concepts=HERE, copies=12, captions=False)
    renew(collection._store, encoder)
    assert share(verdicts(collection, "phrase", HERE, where=HALF), Verdict.MATCH) >= 0.8
    kinds = collection._current().judge("images", HALF, collection._lock).target.kinds
    assert kinds["phrase"].source == "bank" and kinds["image"].source == "images"


RNG = np.random.default_rng(11)


def continuum():
    rows = RNG.standard_normal((600, 12))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    concepts = np.arange(600) % 12
    asked = Queries(rows + np.float32(0.05), concepts, np.full(600, -1), np.arange(600))
    return rows, concepts, asked


def test_the_null_of_a_part_is_made_of_the_queries_about_it():
    rows, concepts, asked = continuum()
    hubs = np.zeros(600, np.float32)
    whole, used = from_captions(asked, lambda: [Block(np.arange(600), rows, hubs, concepts)])
    ids = np.flatnonzero(np.arange(600) % 2)
    block = Block(ids, rows[ids], hubs[ids], concepts[ids])
    part = Part(ids, np.bincount(concepts[ids], minlength=12))
    made = asked_again(whole, used, lambda: [block], part)
    about = used.part(np.isin(used.homes, ids))
    alone = asked_again(whole, about, lambda: [block])
    np.testing.assert_array_equal(made.null, alone.null)
    np.testing.assert_array_equal(made.answerable, alone.answerable)


def test_few_queries_about_a_part_are_made_up_by_the_nearest_of_the_others():
    rows, concepts, asked = continuum()
    hubs = np.zeros(600, np.float32)
    whole, used = from_captions(asked, lambda: [Block(np.arange(600), rows, hubs, concepts)])
    part = Part(np.arange(30), np.bincount(concepts[:30], minlength=12))
    made = asked_again(whole, used, lambda: [Block(np.arange(30), rows[:30], hubs[:30], concepts[:30])], part)
    assert len(made.null) == 100 and len(made.answerable) == 20
    block = Block(np.arange(30), rows[:30], hubs[:30], concepts[:30])
    others = asked_again(whole, used.part(used.homes >= 30), lambda: [block])
    assert np.isin(others.null[-80:], made.null).all()


def test_a_query_whose_concept_is_most_of_a_part_says_nothing():
    rows, _, asked = continuum()
    concepts = np.where(np.arange(600) < 400, 0, np.arange(600) % 11 + 1)
    asked = Queries(asked.embeddings, concepts, asked.selves, asked.homes)
    hubs = np.zeros(600, np.float32)
    everything = lambda: [Block(np.arange(600), rows, hubs, concepts)]  # noqa: E731
    whole, used = from_captions(asked, everything)
    made = asked_again(whole, used, everything, Part(np.arange(600), np.bincount(concepts, minlength=12)))
    assert len(made.null) == int((used.concepts != 0).sum()) and len(made.answerable) == len(used)


def test_of_many_rows_fewer_queries_are_asked(world, monkeypatch):
    monkeypatch.setattr(filtered_verdicts, "SCORES", 0)
    monkeypatch.setattr(filtered_verdicts, "LEAST", 120)
    kinds = world[0]._current().judge("images", "name < '20'", world[0]._lock).target.kinds
    assert 100 <= len(kinds["image"].null) <= 120 and 100 <= len(kinds["phrase"].null) <= 120


def test_of_very_many_rows_none_is_asked_and_no_verdict_is_none(world, monkeypatch):
    collection, _ = world
    monkeypatch.setattr(filtered_verdicts, "MOST_ROWS", 200)
    monkeypatch.setattr(filtered_verdicts, "asked_again", None)  # not called
    absent = verdicts(collection, "sentence", ABSENT, where="name < '21'")
    assert share(absent, Verdict.MATCH) <= 0.1 and Verdict.NONE not in absent
    assert share(verdicts(collection, "sentence", range(12), where="name < '21'"), Verdict.MATCH) >= 0.8
