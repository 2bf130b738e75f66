"""The two drifts that no threshold survives, on a continuum of rows: each breaks the level, and its remedy restores it.

Rows and queries have a common part, as embeddings of real encoders do; rows are spread evenly, so that a query whose
surroundings were left out always has a next best.
"""

import numpy as np
import pytest
from planted import unit

from clipsearch.match.calibration import Block, Queries, find_nearest, from_captions
from clipsearch.match.concepts import concept_count, find_concepts
from clipsearch.match.verdict import LEVELS, p_value

DIM, ROWS, ASKED = 10, 2400, 600
SLACK = 4 * np.sqrt(LEVELS.match * (1 - LEVELS.match) / ASKED) + 0.02  # of the queries, and of the null itself
COMMON = np.eye(DIM)[0]


def world(seed, common):
    """Rows with their concepts, and queries on rows; ``common`` of a query is what it shares with every row."""
    rng = np.random.default_rng(seed)
    rows = unit(COMMON + rng.standard_normal((ROWS, DIM)))
    concepts = find_concepts(rows, concept_count(ROWS)).assign(rows)
    at = rng.permutation(ROWS)[: 2 * ASKED]
    queries = unit(common * COMMON + rows[at] + 0.2 * rng.standard_normal((2 * ASKED, DIM)))
    return rows, concepts, at, queries


def blocks(rows, concepts):
    hubs = np.zeros(len(rows), np.float32)
    return lambda: iter([Block(np.arange(len(rows)), rows, hubs, concepts)])


def calibrated(rows, concepts, at, queries):
    return from_captions(Queries(queries, concepts[at], np.full(len(at), -1), at), blocks(rows, concepts))[0]


def accepted(reference, rows, concepts, at, queries):
    """Return the share of absent queries that are accepted: each is asked where its concept is not."""
    found = find_nearest(queries, blocks(rows, concepts), None, concepts[at]).evidence(reference.hub)
    return np.mean([p_value(e, reference.null) <= LEVELS.match for e in found])


@pytest.mark.parametrize("seed", range(3))
def test_a_calibration_on_sentences_is_wrong_for_keywords_and_their_own_is_right(seed):
    rows, concepts, at, sentences = world(seed, common=0.0)
    _, _, _, keywords = world(seed, common=0.4)
    first, second = slice(0, ASKED), slice(ASKED, None)
    of_sentences = calibrated(rows, concepts, at[first], sentences[first])
    of_keywords = calibrated(rows, concepts, at[first], keywords[first])
    assert accepted(of_sentences, rows, concepts, at[second], sentences[second]) <= LEVELS.match + SLACK
    assert accepted(of_sentences, rows, concepts, at[second], keywords[second]) > 2 * LEVELS.match
    assert accepted(of_keywords, rows, concepts, at[second], keywords[second]) <= LEVELS.match + SLACK


@pytest.mark.parametrize("seed", range(3))
def test_a_calibration_on_a_quarter_of_the_rows_is_wrong_for_all_and_a_new_one_is_right(seed):
    rows, concepts, at, queries = world(seed, common=0.0)
    first, second = slice(0, ASKED), slice(ASKED, None)
    quarter = np.random.default_rng(seed + 9).permutation(ROWS)[: ROWS // 4]
    asked = Queries(queries[first], concepts[at[first]], np.full(ASKED, -1), at[first])
    old, _ = from_captions(asked, blocks(rows[quarter], concepts[quarter]))
    new = calibrated(rows, concepts, at[first], queries[first])
    assert accepted(old, rows, concepts, at[second], queries[second]) > 2 * LEVELS.match
    assert accepted(new, rows, concepts, at[second], queries[second]) <= LEVELS.match + SLACK
