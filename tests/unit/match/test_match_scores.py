"""Hubs, evidence, concepts and reference samples against plain oracles."""

import math

import numpy as np
from planted import unit

from clipsearch.match.calibration import Block, Queries, find_both, find_nearest, from_bank, from_captions, separation
from clipsearch.match.concepts import concept_count, find_concepts, owners
from clipsearch.match.scores import content_keys, evidence, hubs, sample
from clipsearch.match.verdict import KindNull, judge, lower_p_value, most_as_high, p_value
from clipsearch.types import Verdict

RNG = np.random.default_rng(3)
ROWS = unit(RNG.standard_normal((300, 16)))
ASKED = unit(RNG.standard_normal((20, 16)))


def test_a_hub_is_the_mean_of_the_five_best_scores():
    bank = unit(RNG.standard_normal((80, 16)))
    expected = np.sort(ROWS @ bank.T, axis=1)[:, -5:].mean(axis=1)
    np.testing.assert_allclose(hubs(ROWS, bank), expected, atol=1e-6)


def test_evidence_is_the_mean_of_the_best_corrected_scores_in_any_order():
    scores, hub = RNG.random((4, 30)).astype(np.float32), RNG.random((4, 30)).astype(np.float32)
    expected = np.sort(scores - 0.5 * hub, axis=1)[:, -5:].mean(axis=1)
    np.testing.assert_allclose(evidence(scores, hub, 0.5), expected, atol=1e-6)
    at = RNG.permutation(30)
    np.testing.assert_array_equal(evidence(scores[:, at], hub[:, at], 0.5), evidence(scores, hub, 0.5))


def test_evidence_makes_do_with_the_rows_there_are():
    scores = np.array([[0.5, -np.inf, 0.3], [-np.inf] * 3], np.float32)
    found = evidence(scores, np.zeros_like(scores))
    assert found[0] == np.float32(0.4) and found[1] == -np.inf


def blocks(concepts, hub, *sizes):
    def give():
        start = 0
        for size in sizes:
            part = slice(start, start + size)
            yield Block(np.arange(300)[part] * 2, ROWS[part], hub[part], concepts[part])
            start += size

    return give


def test_the_nearest_rows_are_those_of_a_full_sort_however_the_rows_are_cut():
    concepts, hub = np.arange(300) % 7, np.zeros(300, np.float32)
    selves = np.where(np.arange(20) % 2, np.arange(20) * 2, -1)
    hidden = np.where(np.arange(20) % 3, np.arange(20) % 7, -1)
    expected = ASKED @ ROWS.T
    expected[hidden[:, None] == concepts[None]] = -np.inf
    for q in range(1, 20, 2):
        expected[q, q] = -np.inf
    expected = -np.sort(-expected, axis=1)[:, :100]
    for sizes in ((300,), (7, 120, 173), (150, 150)):
        found = find_nearest(ASKED, blocks(concepts, hub, *sizes), selves, hidden)
        np.testing.assert_allclose(-np.sort(-found.scores, axis=1), expected, atol=1e-6)


def test_the_nearest_of_many_rows_and_of_equal_ones_are_those_of_a_full_sort():
    rows = unit(np.random.default_rng(1).standard_normal((3000, 16)))
    rows[500:900] = rows[0]  # ties beyond what is kept
    hub, concepts = np.random.default_rng(2).random(3000).astype(np.float32), np.arange(3000) % 9
    give = [Block(np.arange(3000), rows, hub, concepts)]
    queries = Queries(unit(ASKED + rows[0]), np.arange(20) % 9, np.full(20, -1), np.full(20, -1))
    whole, null = find_both(queries, lambda: give)
    scores = queries.embeddings @ rows.T
    np.testing.assert_array_equal(np.sort(whole.scores, axis=1), np.sort(scores, axis=1)[:, -100:])
    scores[queries.concepts[:, None] == concepts[None]] = -np.inf
    np.testing.assert_array_equal(np.sort(null.scores, axis=1), np.sort(scores, axis=1)[:, -100:])
    assert (null.concepts != queries.concepts[:, None]).all()
    for found in (whole, null):  # scores, hubs and concepts stay together
        for q, score in enumerate(found.scores[:, -1]):
            at = np.flatnonzero(np.abs(queries.embeddings[q] @ rows.T - score) < 1e-6)
            assert found.hubs[q, -1] in hub[at] and found.concepts[q, -1] in concepts[at]


def test_a_concept_owns_a_query_by_majority_only():
    labels = np.array([[1, 1, 1, 2, 3], [1, 2, 3, 4, 5], [2, 2, 4, 4, 5], [7, 7, 7, 7, 7]])
    assert owners(labels).tolist() == [1, -1, -1, 7]


def test_concepts_find_planted_groups_and_do_not_break_on_copies():
    centres = unit(RNG.standard_normal((12, 16)))
    points = unit(np.repeat(centres, 20, axis=0) + 0.05 * RNG.standard_normal((240, 16)))
    for k in (20, 40):  # too many groups: twins are joined again
        labels = find_concepts(points, k).assign(points).reshape(12, 20)
        assert all(not set(a) & set(b) for i, a in enumerate(labels) for b in labels[:i])  # none joins two
        assert sum(len(np.unique(row)) == 1 for row in labels) >= 11
    same = np.repeat(points[:1], 30, axis=0)
    assert len(np.unique(find_concepts(same, 12).assign(same))) == 1
    assert concept_count(20) == 12 and concept_count(200) == 50 and concept_count(10**6) == 64


def test_a_continuum_has_hardly_any_twins():
    points = unit(RNG.standard_normal((400, 16)))
    assert len(np.unique(find_concepts(points, 40).assign(points))) >= 36


def test_a_sample_depends_on_contents_alone():
    half = ROWS.astype(np.float16)
    order = RNG.permutation(300)
    keys, moved = content_keys(half), content_keys(half[order])
    np.testing.assert_array_equal(keys[order], moved)
    np.testing.assert_array_equal(half[sample(keys, 50)], half[order][sample(moved, 50)])
    assert len(np.unique(keys)) == 300


def test_the_null_of_captions_leaves_their_concepts_out():
    concepts = np.arange(300) % 10
    at = np.arange(300)
    queries = Queries(ROWS[at], concepts[at], np.full(300, -1), at)
    made, used = from_captions(queries, blocks(concepts, np.zeros(300, np.float32), 300))
    assert (made.null[:-1] <= made.null[1:]).all() and len(made.null) == len(made.answerable) == 200
    assert separation(made.null, made.answerable) > 0.9  # a query's own row is there or left out
    assert made.source == "captions" and made.concepts == 10
    assert used.homes.tolist() == [i for i in range(300) if i % 3]  # every third chose the hubs' strength


def test_the_null_of_the_bank_is_its_nearest_quarter():
    bank = unit(RNG.standard_normal((200, 16)))
    made = from_bank(Queries.generic(bank), blocks(np.arange(300) % 10, np.zeros(300, np.float32), 300))
    scores = np.sort(np.sort(bank @ ROWS.T, axis=1)[:, -5:].mean(axis=1))
    np.testing.assert_allclose(made.null, scores[-50:], atol=1e-6)


def reference(null, answerable):
    return KindNull(np.sort(np.float32(null)), np.sort(np.float32(answerable)), "captions", 9, 5, 0.0)


def test_p_values_count_ties_against_a_match():
    null = np.float32([1, 2, 2, 3])
    assert [p_value(e, null) for e in (0.5, 1, 2, 2.5, 3, 4)] == [1, 1, 0.8, 0.4, 0.4, 0.2]
    assert [lower_p_value(e, null) for e in (0.5, 1, 2, 2.5, 3, 4)] == [0.2, 0.4, 0.8, 0.8, 1, 1]


def test_a_match_asks_for_confidence_in_its_level():
    def below(n, c):
        return sum(math.comb(n, i) * 0.05**i * 0.95 ** (n - i) for i in range(c + 1))

    for n in (20, 100, 135, 300, 400, 600):
        c = most_as_high(n, 0.05)
        assert (c == -1 or below(n, c) <= 0.1) and below(n, c + 1) > 0.1
        assert (c + 1) / (n + 1) <= 0.05  # the p-value is below the level as well
    assert most_as_high(500, 0.05) == 18 and most_as_high(20, 0.05) == -1


def test_verdicts_follow_the_levels():
    apart = reference(np.linspace(0, 1, 99), np.linspace(2, 3, 99))
    assert judge(2.5, apart) == (Verdict.MATCH, 0.01)
    assert judge(1.5, apart)[0] == Verdict.MATCH  # between the two: no absent query comes that far
    assert judge(0.5, apart)[0] == Verdict.NONE
    mixed = reference(np.linspace(0, 1, 99), np.linspace(0, 1.2, 99))
    assert [judge(e, mixed)[0] for e in (0.01, 0.5, 1.1)] == [Verdict.NONE, Verdict.WEAK, Verdict.MATCH]


def test_a_strength_that_others_chose_needs_none_of_the_queries():
    concepts, at = np.arange(300) % 10, np.arange(300)
    queries = Queries(ROWS[at], concepts[at], np.full(300, -1), at)
    rows = blocks(concepts, RNG.random(300).astype(np.float32), 300)
    made, used = from_captions(queries, rows, 0.5)
    assert made.hub == 0.5 and len(made.null) == len(used) == 300
    chosen, part = from_captions(queries, rows)
    again, _ = from_captions(part, rows, chosen.hub)
    np.testing.assert_array_equal(again.null, chosen.null)
    np.testing.assert_array_equal(again.answerable, chosen.answerable)
