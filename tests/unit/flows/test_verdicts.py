"""Verdicts of whole collections with planted concepts: rates, traps, staleness, independence."""

import json
import os

import numpy as np
import pytest
from planted import PLACES, PlantedEncoder, add, planted, text_of

from clipsearch.errors import StorageError
from clipsearch.flows.calibrate import make_calibration, renew
from clipsearch.flows.calibrate_queries import Texts
from clipsearch.flows.calibration_files import load_calibration
from clipsearch.match import bank
from clipsearch.types import Verdict

HERE, ABSENT = range(24), range(40, 64)
KINDS = ("keyword", "phrase", "sentence")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """24 concepts of 12 pictures, calibrated from captions."""
    collection, encoder = planted(tmp_path_factory.mktemp("planted") / "w", concepts=HERE, copies=12)
    assert renew(collection._store, encoder)
    return collection, encoder


def verdicts(collection, kind, concepts, **options):
    asked = [text_of(kind, number, f"{place}asked") for number in concepts for place in PLACES[:8]]
    assert {bank.kind_of(text) for text in asked} == {kind}
    return [result.verdict for result in collection.search(asked, **options)]


def share(found, verdict):
    return float(np.mean([v == verdict for v in found]))


@pytest.mark.parametrize("target", ["image", "text"])
@pytest.mark.parametrize("kind", KINDS)
def test_absent_concepts_are_not_accepted_and_present_ones_are(world, kind, target):
    collection, _ = world
    absent = verdicts(collection, kind, ABSENT, target=target)
    present = verdicts(collection, kind, HERE, target=target)
    slack = 4 * np.sqrt(0.05 * 0.95 / len(absent))
    assert share(absent, Verdict.MATCH) <= 0.05 + slack and share(absent, Verdict.NONE) >= 0.75
    assert share(present, Verdict.MATCH) >= 0.85 and share(present, Verdict.NONE) <= 0.10


def test_a_verdict_says_what_it_stands_for(world):
    result = world[0].search(text_of("phrase", 3, "south"))
    assert result.verdict == Verdict.MATCH and 0 < result.p_value <= 0.05 and result.why is None
    assert result.levels == {"match": 0.05, "none": 0.1}


def test_a_verdict_does_not_depend_on_k(world):
    collection, _ = world
    asked = [text_of(kind, number, "here") for kind in KINDS for number in (1, 5, 41, 50)]
    answers = {k: collection.search(asked, k=k) for k in (1, 3, 10, 250)}
    for k, results in answers.items():
        assert [r.p_value for r in results] == [r.p_value for r in answers[10]] and len(results[0]) == min(k, 288)
    alone = [collection.search(text, k=2).p_value for text in asked]
    assert alone == [r.p_value for r in answers[10]]


def test_a_verdict_does_not_depend_on_the_order_of_the_rows(world, tmp_path):
    collection, encoder = world
    shuffled = np.random.default_rng(5).permutation
    other, _ = planted(tmp_path / "o", encoder, concepts=HERE, copies=12, order=shuffled)
    renew(other._store, encoder)
    a, b = (load_calibration(c.path).targets["images"].kinds for c in (collection, other))
    for kind in a:
        np.testing.assert_allclose(a[kind].null, b[kind].null, atol=1e-6)
    asked = [text_of("sentence", number, "here") for number in (*HERE, *ABSENT)]
    assert [r.verdict for r in collection.search(asked)] == [r.verdict for r in other.search(asked)]


def test_after_growth_the_old_calibration_is_not_used_and_the_next_one_holds(tmp_path):
    encoder = PlantedEncoder(spread=1.6)
    collection, _ = planted(tmp_path / "g", encoder, concepts=HERE, copies=6)
    renew(collection._store, encoder)
    add(collection, encoder, HERE, copies=30, start=6)
    stale = verdicts(collection, "sentence", ABSENT)
    assert set(stale) == {Verdict.UNCALIBRATED}
    assert "720 rows were added" in collection.search(text_of("phrase", 1, "x")).why
    assert renew(collection._store, encoder)
    fresh = verdicts(collection, "sentence", ABSENT)
    assert Verdict.UNCALIBRATED not in fresh
    assert share(fresh, Verdict.MATCH) <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / len(fresh))


def test_pictures_are_a_kind_of_their_own(world):
    collection, _encoder = world
    reference = collection._current()._judge("images").target.kinds["image"]
    assert reference.source == "images" and reference.depth == 1 and len(reference.null) == 258
    assert np.median(reference.answerable) > np.quantile(reference.null, 0.9)


def test_a_picture_is_asked_as_if_neither_it_nor_its_captions_were_there(world):
    collection, _ = world
    snapshot, reference = collection._current().snapshot, collection._current()._judge("texts").target
    asked = reference.queries["image"]
    (texts,) = snapshot.blocks("texts")
    owners = {text.id: text.image_id for text in collection._current().snapshot.captions()}
    scores = asked.embeddings.astype(np.float32) @ np.asarray(texts.embeddings, np.float32).T
    own = asked.homes[:, None] == np.array([owners[id_] for id_ in texts.ids])[None]
    assert own.sum() == len(asked) > 100
    expected = np.sort(np.where(own, -np.inf, scores).max(axis=1))
    np.testing.assert_allclose(reference.kinds["image"].answerable, expected, atol=1e-6)


def test_what_was_never_calibrated_is_uncalibrated(world):
    collection, encoder = world
    for options, why in (
        ({"vector": encoder.concept(3)}, "vectors"),
        ({"text": "concept03", "add": ["concept04"]}, "sums"),
        ({"text": "concept03", "subtract": ["concept04"]}, "sums"),
        ({"text": "?!"}, "without words"),
        ({"text": "собака"}, "language"),
    ):
        result = collection.search(**options)
        assert (result.verdict, result.p_value, result.levels) == (Verdict.UNCALIBRATED, None, {})
        assert why in result.why and len(result) == 10


def test_a_weight_on_the_only_part_changes_nothing(world):
    collection, _ = world
    plain, weighted = collection.search("concept03"), collection.search("concept03", weights=[0.3])
    assert plain.p_value == weighted.p_value
    # a negative weight asks for the opposite of something
    assert collection.search(subtract=["concept03"]).verdict == Verdict.UNCALIBRATED


def test_too_small_a_collection_says_what_is_needed(tmp_path):
    collection, encoder = planted(tmp_path / "s", concepts=range(9), copies=11)
    assert not renew(collection._store, encoder) and encoder.encoded == 0
    result = collection.search("concept03")
    assert result.verdict == Verdict.UNCALIBRATED and "99 pictures; at least 100" in result.why
    add(collection, encoder, [9], copies=1)
    assert "not calibrated" in collection.search("concept03").why
    assert renew(collection._store, encoder)
    assert collection.search("concept03").verdict != Verdict.UNCALIBRATED  # taken up without a new version


def test_without_captions_the_bank_stands_in(tmp_path):
    collection, encoder = planted(tmp_path / "b", concepts=HERE, copies=12, captions=False)
    renew(collection._store, encoder)
    kinds = collection._current()._judge("images").target.kinds
    assert {kinds[kind].source for kind in KINDS} == {"bank"}
    for kind in KINDS:
        assert share(verdicts(collection, kind, HERE), Verdict.MATCH) >= 0.9
    assert collection.search(target="text", text="concept03").verdict == Verdict.UNCALIBRATED


def test_nothing_is_done_again_while_the_calibration_holds(world, tmp_path):
    collection, encoder = planted(tmp_path / "n", concepts=HERE, copies=12)
    assert renew(collection._store, encoder)
    before = encoder.encoded
    assert not renew(collection._store, encoder) and encoder.encoded == before
    name = load_calibration(collection.path).name
    with collection._store.writer() as writer:
        writer.commit(skipped=[])
    assert not renew(collection._store, encoder) and load_calibration(collection.path).name == name
    add(collection, encoder, [24], copies=1)
    assert renew(collection._store, encoder) and load_calibration(collection.path).name != name
    assert encoder.encoded - before < 20  # texts are embedded once


def test_few_deletions_are_harmless_and_many_make_it_stale(tmp_path):
    collection, encoder = planted(tmp_path / "d", concepts=HERE, copies=12)
    renew(collection._store, encoder)
    ids = load_calibration(collection.path).targets["images"].ids
    for gone, verdict in ((14, Verdict.MATCH), (15, Verdict.UNCALIBRATED)):
        with collection._store.writer() as writer:
            writer.commit(deleted=ids[:gone].tolist())
        collection.refresh()
        result = collection.search(text_of("phrase", 20, "x"))
        assert result.verdict == verdict
    assert "15 removed" in result.why and renew(collection._store, encoder)
    assert collection.search(text_of("phrase", 20, "x")).verdict == Verdict.MATCH


def test_other_weights_make_it_stale(world, tmp_path):
    collection, encoder = planted(tmp_path / "f", concepts=HERE, copies=12)
    renew(collection._store, encoder)
    folder = os.path.join(collection.path, "calibration")
    (name,) = [n for n in os.listdir(folder) if n.endswith(".json") and ".texts" not in n]
    with open(os.path.join(folder, name), encoding="utf-8") as file:
        facts = json.load(file)
    assert facts["fingerprint"] == encoder.fingerprint() and facts["bank"] == bank.bank_hash()
    assert facts["version"] == collection.status().version and facts["targets"]["images"]["rows"] == 288
    from dataclasses import replace

    from clipsearch.flows.verdicts import staleness

    known = replace(load_calibration(collection.path), fingerprint="other")
    assert "weights" in staleness(known, collection._current().snapshot, "images")


@pytest.mark.parametrize("harm", ["truncate", "remove", "garble"])
def test_a_damaged_calibration_is_no_calibration_and_is_made_again(tmp_path, harm):
    collection, encoder = planted(tmp_path / "h", concepts=HERE, copies=6)
    renew(collection._store, encoder)
    folder = os.path.join(collection.path, "calibration")
    for name in [n for n in os.listdir(folder) if n != "CURRENT"]:
        where = os.path.join(folder, name)
        if harm == "remove":
            os.unlink(where)
        else:
            with open(where, "r+b") as file:
                file.truncate(20) if harm == "truncate" else file.write(b"garbage")
    result = collection.search("concept03")
    assert result.verdict == Verdict.UNCALIBRATED and "not calibrated" in result.why and len(result) == 10
    assert renew(collection._store, encoder)
    assert collection.search("concept03").verdict != Verdict.UNCALIBRATED


def test_old_calibrations_are_cleared_away_but_for_the_last(tmp_path):
    collection, encoder = planted(tmp_path / "c", concepts=HERE, copies=6)
    for number in range(4):
        renew(collection._store, encoder)
        add(collection, encoder, [30 + number], copies=1)
    stems = {
        name.split(".")[0].removesuffix("-images").removesuffix("-texts")
        for name in os.listdir(os.path.join(collection.path, "calibration"))
    } - {"CURRENT"}
    assert len(stems) == 2


def test_a_full_disk_costs_the_verdict_and_nothing_else(world, monkeypatch, tmp_path):
    from clipsearch import collection as facade
    from clipsearch.flows import calibrate

    def full(*_):
        raise StorageError("The disk is full.")

    monkeypatch.setattr(calibrate, "save_calibration", full)
    collection, encoder = planted(tmp_path / "x", concepts=HERE, copies=6)
    from clipsearch.flows.ingest import IndexReport

    report = IndexReport(0, 0, 0, 0, 0, 0, (), 0, 0, 144, 144, 1.0, {}, 2)
    done = facade._calibrated(collection._store, encoder, report, None)
    assert "no verdict" in done.notes[0] and "calibrate" in done.stages and done.seconds > 1.0


def test_the_status_says_whether_there_are_verdicts(world, tmp_path):
    status = world[0].status()
    assert status.calibrated and "keyword (captions)" in status.calibration and "image (images)" in status.calibration
    small, _ = planted(tmp_path / "t", concepts=[1], copies=3)
    assert not small.status().calibrated and "at least 100" in small.status().calibration


def test_a_calibration_holds_every_row_once(world):
    collection, encoder = world
    tower = Texts(encoder, {})
    made = make_calibration(collection._current().snapshot, tower)
    for kind, target in made.targets.items():
        assert (np.diff(target.ids) > 0).all() and len(target.hubs) == len(target.ids) == collection.status().images
        assert np.isfinite(target.hubs).all() and kind in ("images", "texts")
    assert set(bank.hub_queries()) <= set(tower.used)
