"""Measuring verdicts: on planted concepts the figures are known, and what cannot be measured is said."""

import numpy as np
import pytest
from planted import PlantedEncoder, add, planted

from clipsearch.errors import InputError
from clipsearch.flows.calibrate_rows import live_ids
from clipsearch.flows.evaluate_match import MIN_PICTURES, concepts_of, evaluate_match
from clipsearch.flows.match_trials import Captions
from clipsearch.flows.memory import MemoryVersion

CONCEPTS = 24


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """24 concepts of 13 pictures, far apart and easy to name."""
    return planted(tmp_path_factory.mktemp("planted") / "w", PlantedEncoder(0.5), concepts=range(CONCEPTS), copies=13)


@pytest.fixture(scope="module")
def report(world):
    collection, _ = world
    return collection.evaluate_match(repetitions=2, seed=3)


def rows_of(report, kind):
    return {(row.calibrated, row.searched): row for row in report.rows if row.kind == kind}


def test_well_separated_concepts_are_told_apart_within_the_levels(report):
    assert {row.kind for row in report.rows} == {"keyword", "phrase", "sentence", "image"}
    for row in report.rows:
        assert row.auroc.value > 0.9 and row.refused == (row.calibrated != row.searched)
        if not row.refused:
            assert row.false_accept.low <= 0.05 and row.false_reject.low <= 0.10
        for share in (row.false_accept, row.false_reject, row.found, row.told, row.auroc):
            assert 0 <= share.low <= share.value <= share.high <= 1
    sentence = rows_of(report, "sentence")
    largest = sentence[max(sentence)]
    assert largest.found.low > largest.false_accept.high and largest.told.value > 0.5 and largest.source == "captions"


def test_every_size_and_the_growth_to_all_are_measured(report):
    sizes = set(rows_of(report, "phrase"))
    searched = max(now for _, now in sizes)
    assert (searched, searched) in sizes and len(sizes) == 3  # a quarter of 312 is fewer than 100
    assert report.images == 312 and report.captions == 312 and report.levels == {"match": 0.05, "none": 0.1}


def test_the_same_seed_gives_the_same_figures_and_another_seed_others(world):
    first, again, other = (world[0].evaluate_match(repetitions=1, seed=seed) for seed in (3, 3, 4))
    assert first == again != other


def test_captions_can_be_searched_too(world):
    report = world[0].evaluate_match(target="text", repetitions=1)
    assert report.target == "text" and {"sentence", "image"} <= {row.kind for row in report.rows}


def test_without_captions_pictures_alone_are_measured_and_it_says_so(tmp_path):
    collection, _ = planted(tmp_path / "b", concepts=range(12), copies=20, captions=False)
    report = collection.evaluate_match(repetitions=2)
    assert {row.kind for row in report.rows} == {"image"}
    (note,) = report.notes
    assert note == "not measured: words; without captions nobody knows which words have an answer here"
    with pytest.raises(InputError, match=r"0 captions.*at least 160"):
        collection.evaluate_match(target="text")


def test_a_small_collection_is_refused_with_the_size_that_is_needed(tmp_path):
    collection, encoder = planted(tmp_path / "s", concepts=range(3), copies=53)
    with pytest.raises(InputError, match=r"159 pictures; .* at least 160"):
        collection.evaluate_match()
    add(collection, encoder, [4], copies=1)
    assert collection.status().images == MIN_PICTURES and collection.evaluate_match(repetitions=1).images == 160


def test_a_large_collection_is_measured_on_a_sample(world, monkeypatch):
    from clipsearch.flows import evaluate_match as flow

    monkeypatch.setattr(flow, "LARGEST", 200)
    report = evaluate_match(world[0]._current().snapshot, world[1], repetitions=1)
    assert report.images == report.captions == 200 and "measured on 200 of the 312 pictures" in report.notes


def test_the_part_in_memory_holds_what_the_collection_holds(tmp_path):
    collection, _ = planted(tmp_path / "m", concepts=range(6), copies=5)
    with collection._store.writer() as writer:
        writer.commit(deleted=[live_ids(collection._current().snapshot, "images")[0]])
    collection.refresh()
    snapshot = collection._current().snapshot
    version = MemoryVersion.read(snapshot, 1000)
    for kind in ("images", "texts"):
        ids = version.kinds[kind].ids
        np.testing.assert_array_equal(version.embeddings(kind, ids), snapshot.embeddings(kind, ids))
    assert version.count("images") == 29 == version.count("texts")  # the caption of the deleted picture has none
    keep = np.arange(29) % 2 == 0
    part = version.part(keep, version.kinds["texts"].ids[:3])
    assert part.count("images") == 15 and part.count("texts") == 13
    assert set(part.caption_links()[0].tolist()) <= set(part.kinds["images"].ids.tolist())


def test_a_picture_with_one_caption_keeps_it_three_times_in_four(tmp_path):
    collection, encoder = planted(tmp_path / "o", concepts=range(4), copies=10)
    whole = MemoryVersion.read(collection._current().snapshot, 1000)
    captions = Captions.of(whole, np.random.default_rng(0))
    assert len(captions.to_ask(np.arange(40))) == 10
    labels = concepts_of(whole, encoder)
    assert len(labels) == 40 and len(np.unique(labels)) >= 4
