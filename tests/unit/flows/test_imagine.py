"""Pictures drawn for queries: on where they help, off where they do not, and a search never suffers from them."""

import os

import numpy as np
import pytest
from planted import add, planted
from planted_generator import Instant, Misleading, Right, SeeingEncoder, caption

from clipsearch.augment.base import Pairs, unit
from clipsearch.augment.imagined import Imagined
from clipsearch.errors import GenerationError, InputError, UnknownNameError
from clipsearch.flows import imagine
from clipsearch.flows.augment_files import load_evidence, load_kept
from clipsearch.flows.augment_trial import FOLDS, measure
from clipsearch.flows.calibrate import renew
from clipsearch.generate import GENERATORS
from clipsearch.generate.cache import GeneratedFolder
from clipsearch.generate.card import load_card

PICTURES = [(number, copy) for number in (1, 3) for copy in (0, 9, 14, 23, 38)]
ASKED = [caption(number, copy) for number, copy in PICTURES]


@pytest.fixture(autouse=True)
def own_locks(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def make(folder, kind, **how):
    """Return a collection measured with a planted generator, and what stands in for ``generate``."""
    collection, _ = planted(folder / "c", SeeingEncoder(), concepts=range(5), copies=40)
    collection.generate = Instant(kind)
    collection.fit_augment(["hubs", "imagined"], generator="gradient", samples=100, **how)
    return collection


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    said = []
    with make(tmp_path_factory.mktemp("right"), Right, say=said.append) as collection:
        collection.said = said
        renew(collection._store, collection.encoder)
        yield collection


@pytest.fixture(scope="module")
def misleading(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Imagined, "weights", (1.0,))  # no small weight to make it harmless
        with make(tmp_path_factory.mktemp("misleading"), Misleading) as collection:
            yield collection


@pytest.fixture
def fresh(tmp_path):
    """A collection that a test may change; of the rungs only hubs were measured."""
    collection, _ = planted(tmp_path / "fresh", SeeingEncoder(), concepts=range(3), copies=40)
    with collection:
        collection.generate = Instant(Right)
        collection.fit_augment(["hubs"])
        yield collection


@pytest.fixture
def worker(fresh, monkeypatch):
    """The same, drawing in a process, as outside of tests."""
    monkeypatch.setattr(imagine, "FEWEST", 10)
    monkeypatch.setitem(GENERATORS._table, "gradient", "planted_generator:Right")
    del fresh.generate
    return fresh


def drawn(collection):
    """Return how many pictures were asked for."""
    return len(collection.generate.asked)


def drawn_in_process(collection):
    return len(list(GeneratedFolder(collection.path).ledger.rows()))


def test_pictures_that_show_what_is_looked_for_are_on_with_their_evidence(right):
    known = right.augment_evidence().imagined
    assert known.rung.on and known.rung.r10.low > 0 and known.trial.augmented.r10 > known.trial.plain.r10
    assert (known.generator, known.asked) == ("gradient", 100) and known.drawn == 100 == drawn(right)
    assert "imagined (gradient): with search --imagine, R@10 +" in right.status().augment
    assert len(right.said) == 1 and right.said[0].startswith("gradient draws for 98 captions, about ")


def test_a_search_draws_only_where_it_is_asked_to(right):
    before = drawn(right)
    result = right.search(caption(1, 7) + "now")
    assert drawn(right) == before and not any("imagined" in note for note in result.notes)
    assert all("imagined" not in why.terms for why in result.reordered)


def test_what_looks_like_the_picture_comes_nearer_and_scores_and_verdict_stay(right):
    gained = 0
    for (number, copy), text in zip(PICTURES, ASKED, strict=True):
        plain, seen = right.search(text, k=200), right.search(text, k=200, imagine=True)
        assert (seen.verdict, seen.p_value) == (plain.verdict, plain.p_value)
        scores = dict(zip(plain.ids.tolist(), plain.scores.tolist(), strict=True))
        assert all(scores[id_] == score for id_, score in zip(seen.ids.tolist(), seen.scores.tolist(), strict=True))
        name = f"{number:02d}-{copy:03d}.png"
        ranks = [[os.path.basename(hit.path) for hit in result].index(name) for result in (plain, seen)]
        gained += ranks[1] < ranks[0]
        assert ranks[1] <= ranks[0] + 5
    assert gained > len(ASKED) / 2


def test_the_order_is_that_of_plain_score_and_weighted_picture_and_the_picture_is_named(right):
    known = right.augment_evidence().imagined
    result = right.search(ASKED[0], k=200, imagine=True)
    picture = SeeingEncoder().picture(1, 0)
    rows = right._current().snapshot.embeddings("images", result.ids).astype(np.float32)
    added = known.rung.weight * (rows @ picture)
    told = np.array([why.terms["imagined"] for why in result.reordered])
    np.testing.assert_allclose(told, added - np.median(added), atol=5e-3)  # greys have 256 steps
    assert (np.diff(result.scores + np.array([sum(why.terms.values()) for why in result.reordered])) <= 1e-5).all()
    (note,) = (note for note in result.notes if note.startswith("imagined"))
    assert "by a picture that gradient drew; R@10 +" in note and "\n" not in note


def test_pictures_that_show_nothing_of_the_text_are_rejected_and_stay_off(worker, monkeypatch):
    monkeypatch.setitem(GENERATORS._table, "gradient", "planted_generator:Noise")
    worker.fit_augment(["imagined"], generator="gradient", samples=12)
    known = worker.augment_evidence().imagined
    assert not known.rung.on and known.rejected >= 10 and known.drawn + known.rejected == 12
    result = worker.search("concept03 in the snow", imagine=True)
    assert drawn_in_process(worker) == 12, "nothing is drawn where it is off"
    assert "off for want of evidence: R@10 " in result.notes[-1] and "12 held-back captions" in result.notes[-1]
    result = worker.search("concept03 in the snow", imagine="anyway")
    assert drawn_in_process(worker) == 13 and "left out: Rejected" in result.notes[-1]
    assert list(result.ids) == list(worker.search("concept03 in the snow").ids)


def test_a_picture_drawn_in_a_process_is_used_and_named(worker):
    evidence = worker.fit_augment(["imagined"], generator="gradient", samples=12)
    assert evidence.imagined.drawn > 3 and drawn_in_process(worker) == 12
    shown = next(row["prompt"] for row in GeneratedFolder(worker.path).ledger.rows() if not row["rejected"])
    result = worker.search(shown, imagine="anyway")
    assert "imagined" in result.reordered[0].terms and ".generated.png); R@10 " in result.notes[-1]
    assert drawn_in_process(worker) == 12, "it was drawn before"


def test_pictures_that_mislead_stay_off_unless_somebody_insists(misleading):
    known = misleading.augment_evidence().imagined
    assert known.rung.r10.high < 0, "it must hurt, or the test shows nothing"
    assert not known.rung.on and "imagined (gradient): off, R@10 -" in misleading.status().augment
    plain, off = misleading.search(ASKED[0]), misleading.search(ASKED[0], imagine=True)
    assert list(off.ids) == list(plain.ids) and off.reordered == plain.reordered
    forced = misleading.search(ASKED[0], imagine="anyway")
    assert all("imagined" in why.terms for why in forced.reordered) and "R@10 -" in forced.notes[-1]
    assert (forced.verdict, forced.p_value) == (plain.verdict, plain.p_value)


def test_without_evidence_a_search_says_how_to_get_it_and_draws_nothing(fresh):
    (note,) = fresh.search(ASKED[0], imagine=True).notes
    assert "not measured here" in note and "--rung imagined" in note and not drawn(fresh)
    assert "not measured here" in fresh.search(ASKED[0], imagine="anyway").notes[-1] and drawn(fresh) == 1


@pytest.mark.parametrize(
    "options",
    [{"where": "width = 8"}, {"add": ["concept03"]}, {"target": "text"}, {"more": [1]}],
    ids=["filter", "sum", "captions", "feedback"],
)
def test_what_was_not_measured_is_not_drawn(right, options):
    before = drawn(right)
    result = right.search(caption(2, 3), imagine=True, **options)
    assert len(result) and not result.reordered and drawn(right) == before
    assert sum("imagined: not used" in note for note in result.notes) == 1


@pytest.mark.parametrize("fault", ["raise", "kill", "black", "hang"])
def test_a_search_goes_on_without_a_picture_that_could_not_be_drawn(collection, monkeypatch, fault):
    monkeypatch.setitem(GENERATORS._table, "gradient", "faulty_generator:FaultyGenerator")
    monkeypatch.setattr(imagine, "SECONDS", 1.0 if fault == "hang" else 60.0)
    monkeypatch.setattr("clipsearch.flows.generators.best_card", lambda *_: load_card("gradient"))
    plain = collection.search(f"{fault} red", k=3)
    result = collection.search(f"{fault} red", k=3, imagine="anyway")
    assert list(result.ids) == list(plain.ids) and result.reordered == ()
    assert result.notes[-1].startswith("imagined: left out: ") and "\n" not in result.notes[-1]
    for _ in range(2):
        collection.search(f"{fault} red", k=3, imagine="anyway")
    assert "it failed 3 times" in collection.search("a red ball", k=3, imagine="anyway").notes[-1]


def test_drawing_that_fails_again_and_again_ends_the_measurement_and_changes_nothing(worker, monkeypatch):
    before = worker.augment_evidence()
    monkeypatch.setitem(GENERATORS._table, "gradient", "planted_generator:Failing")
    with pytest.raises(GenerationError, match="failed 3 times"):
        worker.fit_augment(["imagined"], generator="gradient", samples=12)
    assert worker.augment_evidence() == before


def test_a_measurement_may_be_stopped_and_goes_on_with_what_was_drawn(worker):
    def stop(progress):
        if progress.stage == "imagine" and progress.done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        worker.fit_augment(["imagined"], generator="gradient", samples=12, progress=stop)
    assert drawn_in_process(worker) == 6 and worker.augment_evidence().imagined is None
    one = worker.fit_augment(["imagined"], generator="gradient", samples=12)
    assert drawn_in_process(worker) == 12
    again = worker.fit_augment(["imagined"], generator="gradient", samples=12)
    assert drawn_in_process(worker) == 12 and again.imagined.trial == one.imagined.trial


def test_what_was_measured_is_read_back_and_forgotten_by_the_next_fit_of_the_others(fresh):
    made = fresh.fit_augment(["imagined"], generator="gradient", samples=50)
    assert made == load_evidence(fresh.path) and [rung.name for rung in made.trial.rungs] == ["hubs"]
    assert made.imagined.rung.on and not load_kept(fresh.path).rungs.get("imagined")
    assert fresh.augment_off() and "switched off" in fresh.search(ASKED[0], imagine=True).notes[-1]
    fresh.fit_augment(["hubs"])
    assert "not measured here" in fresh.search(ASKED[0], imagine=True).notes[-1]


def test_new_pictures_put_it_out_of_use(fresh):
    fresh.fit_augment(["imagined"], generator="gradient", samples=100)
    assert fresh.search(ASKED[0], imagine=True).reordered
    add(fresh, fresh.encoder, [11], 2, start=9)
    result = fresh.search(ASKED[0], imagine=True)
    assert not result.reordered and "2 pictures were added" in result.notes[-1]


def test_other_weights_of_the_generator_are_not_those_that_were_measured(fresh):
    fresh.fit_augment(["imagined"], generator="gradient", samples=100)
    fresh.generate.weights = "w2"
    assert "left out: it was measured with other weights" in fresh.search(ASKED[0], imagine=True).notes[-1]
    assert "by a picture that gradient drew" in fresh.search(ASKED[0], imagine="anyway").notes[-1]


def test_requests_that_make_no_sense_are_refused(fresh):
    with pytest.raises(UnknownNameError, match="imagined"):
        fresh.fit_augment(["imagind"])
    with pytest.raises(UnknownNameError, match="anyway"):
        fresh.search(ASKED[0], imagine="always")
    with pytest.raises(InputError, match="Give one of the two"):
        fresh.search(ASKED[0], imagine=True, augment=False)
    with pytest.raises(InputError, match="give 50 to 2,000"):
        fresh.fit_augment(["imagined"], generator="gradient", samples=10)


def some_pairs(n=200, dim=16):
    rng = np.random.default_rng(2)
    texts = unit(rng.standard_normal((n, dim)))
    images = unit(0.2 * texts + rng.standard_normal((n, dim)))
    return Pairs(texts, images, np.arange(n), unit(images + 0.5 * rng.standard_normal((n, dim)))), np.arange(n) % FOLDS


def test_captions_that_are_asked_are_measured_as_if_there_were_no_others():
    """For a rung that is not fitted on the others."""
    pairs, folds = some_pairs()
    rows, asked = pairs.images, np.arange(0, 200, 3)
    some = measure(pairs, folds, rows, np.arange(200), folds, ["imagined"], asked=asked)
    alone = measure(pairs.part(asked), folds[asked], rows, asked, folds, ["imagined"])
    assert some == alone and some.rungs[0].on


def test_it_is_measured_on_top_of_the_rungs_that_are_on():
    pairs, folds = some_pairs()
    both = measure(pairs, folds, pairs.images, np.arange(200), folds, ["imagined", "ridge"])
    assert both.rungs[0].on
    given = measure(pairs, folds, pairs.images, np.arange(200), folds, ["ridge"], given=["imagined"])
    assert given.rungs == both.rungs[1:] and given.plain == both.plain
