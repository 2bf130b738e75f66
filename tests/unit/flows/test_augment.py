"""Rungs on planted collections: what helps is on, what hurts stays off, and searches say what they did."""

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
from planted import DIM, PLACES, PlantedEncoder, add, noise, planted, text_of, unit

from clipsearch.augment.base import Pairs
from clipsearch.augment.knn import NearestCaptions
from clipsearch.augment.prior import DiffusionPrior
from clipsearch.augment.ridge import Ridge
from clipsearch.errors import InputError
from clipsearch.flows import augment_trial
from clipsearch.flows.augment import fit, read_pairs
from clipsearch.flows.augment_files import load_evidence, load_kept, save
from clipsearch.flows.augment_trial import FOLDS, measure, nearest
from clipsearch.flows.calibrate import renew

HERE = range(20)
COPIES = 15
TURN = np.linalg.qr(np.random.default_rng(3).standard_normal((DIM, DIM)))[0]


def caption(number, copy):
    return text_of("sentence", number, f"{PLACES[copy % len(PLACES)]}{copy}")


class Turned(PlantedEncoder):
    """Pictures lie mostly where a linear map takes their captions, so a map that is learnt finds them."""

    def picture(self, number, copy):
        text = self._text(caption(number, copy))
        return unit(0.4 * text + TURN @ text + 0.6 * noise(f"picture {number} {copy}"))


class Contrary(PlantedEncoder):
    """Captions say of their pictures all that there is; what neighbours' pictures look like is noise on top."""

    def picture(self, number, copy):
        own = noise(caption(number, copy))
        return unit(own + 1.5 * noise(f"picture {number} {copy}"))


@pytest.fixture(scope="module")
def turned(tmp_path_factory):
    collection, encoder = planted(tmp_path_factory.mktemp("augment") / "turned", Turned(), concepts=HERE, copies=COPIES)
    renew(collection._store, encoder)
    collection.fit_augment()
    return collection, encoder


@pytest.fixture
def fresh(tmp_path):
    """A fitted collection that a test may change."""
    collection, encoder = planted(tmp_path / "fresh", Turned(), concepts=range(10), copies=12)
    collection.fit_augment()
    assert collection.augment_evidence().on
    return collection, encoder


def asked():
    return [caption(number, copy) for number in HERE for copy in range(3)]


def test_a_rung_that_helps_is_on_with_its_evidence(turned):
    evidence = turned[0].augment_evidence()
    ridge = next(rung for rung in evidence.trial.rungs if rung.name == "ridge")
    assert ridge.alone.low > 0 and evidence.trial.change.low > 0
    assert evidence.on and all(rung.on == (rung.r10.low > 0) for rung in evidence.trial.rungs)
    assert evidence.trial.augmented.r10 > evidence.trial.plain.r10
    assert (evidence.pairs, evidence.pictures) == (300, 300) and 100 < evidence.among < 140
    assert "held-back captions" in turned[0].status().augment


def test_a_rung_that_hurts_stays_off_and_searches_stay_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(NearestCaptions, "weights", (1.0,))  # no small weight to make it harmless
    collection, _ = planted(tmp_path / "contrary", Contrary(), concepts=HERE, copies=COPIES)
    evidence = collection.fit_augment()
    knn = next(rung for rung in evidence.trial.rungs if rung.name == "knn")
    assert knn.alone.high < 0, "it must hurt, or the test shows nothing"
    assert not knn.on and "knn" not in {rung.name for rung in evidence.on}
    assert "knn" not in load_kept(collection.path).rungs
    for result in collection.search(asked()):
        assert all("knn" not in why.terms for why in result.reordered)


def test_a_diffusion_prior_is_on_where_it_helps_and_off_where_it_hurts(tmp_path, monkeypatch):
    monkeypatch.setattr(DiffusionPrior, "weights", (1.0,))  # no small weight to make it harmless
    for name, encoder, helps in (("turned", Turned(), True), ("contrary", Contrary(), False)):
        collection, _ = planted(tmp_path / name, encoder, concepts=HERE, copies=COPIES)
        evidence = fit(collection._current().snapshot, names=["prior"])
        (prior,) = evidence.trial.rungs
        assert (prior.alone.low > 0) if helps else (prior.alone.high < 0), "or the test shows nothing"
        assert prior.on == helps and ("prior" in load_kept(collection.path).rungs) == helps
        assert bool(collection.search(asked()[0]).reordered) == helps


def test_nothing_held_back_is_fitted_on_or_chosen_by(monkeypatch):
    """A rung that notes what it was fitted on and asked about; every caption is held back exactly once."""
    seen = []

    class Spy(Ridge):
        @classmethod
        def fit(cls, pairs):
            made = super().fit(pairs)
            made.fitted = set(pairs.owners.tolist())
            return made

        def prior(self, xq, drawn=None):
            asked = {owner[row.tobytes()] for row in xq}
            assert not asked & self.fitted
            seen.append(asked)
            return super().prior(xq)

    rng = np.random.default_rng(0)
    texts, images = unit(rng.standard_normal((60, 8))), unit(rng.standard_normal((60, 8)))
    owner = {row.tobytes(): n for n, row in enumerate(texts)}
    monkeypatch.setattr(augment_trial, "RUNGS", SimpleNamespace(load=lambda _: Spy))
    folds = np.arange(60) % FOLDS
    measure(Pairs(texts, images, np.arange(60)), folds, images, np.arange(60), folds, ["spy"])
    assert len(seen) == 2 * FOLDS  # each fold chooses once and is held back once
    assert sorted(n for asked in seen[1::2] for n in asked) == list(range(60))
    for choosing, held in zip(seen[::2], seen[1::2], strict=True):
        assert not choosing & held


def test_copies_of_a_picture_lie_in_one_fold(turned):
    pairs, images, targets, captions = read_pairs(turned[0]._current().snapshot)
    assert len(captions) == len(pairs)
    np.testing.assert_array_equal(images.ids[targets], pairs.owners)
    folds = images.keys[targets] % np.uint64(FOLDS)
    assert np.bincount(folds.astype(int), minlength=FOLDS).min() > 30
    np.testing.assert_allclose(np.linalg.norm(pairs.images, axis=1), 1, atol=1e-2)


def test_ranks_among_the_nearest_are_those_among_all():
    rng = np.random.default_rng(4)
    xq, rows = unit(rng.standard_normal((30, 16))), unit(rng.standard_normal((500, 16)))
    targets = rng.integers(0, 500, 30)
    shown = rng.random((30, 500)) < 0.9
    shown[np.arange(30), targets] = True
    near = nearest(xq, rows, targets, lambda part: shown[part])
    scores = np.where(shown, xq @ rows.T, -np.inf)
    wanted = (scores >= scores[np.arange(30), targets][:, None]).sum(axis=1)
    np.testing.assert_array_equal(near.rank, wanted)
    np.testing.assert_array_equal(near.ranks(near.plain, np.ones(30, bool)), wanted)
    assert (near.target < 0).any() and (near.target >= 0).any()


def test_the_same_collection_gives_the_same_evidence(turned):
    before = turned[0].augment_evidence()
    assert fit(turned[0]._current().snapshot, before.created) == before


def test_a_search_keeps_scores_and_verdict_and_says_what_moved(turned):
    collection, _ = turned
    moved = 0
    for plain, after in zip(collection.search(asked(), augment=False), collection.search(asked()), strict=True):
        assert (after.verdict, after.p_value) == (plain.verdict, plain.p_value)
        assert plain.reordered == () and len(after.reordered) == len(after.ids) == 10
        known = dict(zip(plain.ids.tolist(), plain.scores.tolist(), strict=True))
        for id_, score, why in zip(after.ids.tolist(), after.scores.tolist(), after.reordered, strict=True):
            if id_ in known:
                assert score == known[id_] and plain.ids[why.plain_rank - 1] == id_
            else:
                assert why.plain_rank > 10
            assert set(why.terms) == {rung.name for rung in collection.augment_evidence().on}
        moved += list(after.ids) != list(plain.ids)
    assert moved > len(asked()) / 2


def test_the_order_of_a_search_is_plain_score_plus_weighted_terms(turned):
    collection, _ = turned
    result = collection.search(asked()[0], k=300)
    assert sorted(result.ids) == sorted(collection.search(asked()[0], k=300, augment=False).ids)
    total = result.scores + np.array([sum(why.terms.values()) for why in result.reordered])
    assert (np.diff(total[:200]) <= 1e-5).all()
    assert all(not why.terms and why.plain_rank == n + 1 for n, why in enumerate(result.reordered) if n >= 200)


def test_how_many_hits_are_asked_for_does_not_change_their_order(turned):
    collection, _ = turned
    np.testing.assert_array_equal(collection.search(asked()[1], k=5).ids, collection.search(asked()[1], k=50).ids[:5])


@pytest.mark.parametrize(
    "options",
    [{"where": "width = 8"}, {"add": ["concept03"]}, {"target": "text"}, {"augment": False}],
    ids=["filter", "sum", "captions", "asked not to"],
)
def test_what_was_not_measured_is_not_augmented(turned, options):
    result = turned[0].search(asked()[0], **options)
    assert len(result) and result.reordered == () and (np.diff(result.scores) <= 0).all()


def test_a_vector_and_a_language_that_the_model_does_not_cover_are_not_augmented(turned):
    collection, encoder = turned
    assert collection.search(vector=encoder.concept(1)).reordered == ()
    assert collection.search("concept01 größer").reordered == ()


def test_new_captions_put_rungs_out_of_use_until_the_next_fit(fresh):
    collection, encoder = fresh
    assert collection.search(asked()[0]).reordered
    add(collection, encoder, [11], 4)
    result = collection.search(asked()[0])
    assert result.reordered == () and "4 pictures were added" in result.notes[0] and "augment fit" in result.notes[0]
    assert "not used: 4 pictures were added" in collection.status().augment
    assert not collection.search(asked()[0], augment=False).notes
    collection.fit_augment()
    assert collection.search(asked()[0]).reordered


def test_other_weights_of_the_model_put_rungs_out_of_use(fresh):
    collection, _ = fresh
    kept = load_kept(collection.path)
    from dataclasses import replace

    save(collection.path, replace(kept, evidence=replace(kept.evidence, fingerprint="other")))
    assert "other weights" in collection.search(asked()[0]).notes[0]


def test_off_holds_until_the_next_fit_and_needs_no_refresh(fresh):
    collection, _ = fresh
    assert collection.augment_off() and not collection.augment_off()
    assert collection.search(asked()[0]).reordered == () and collection.status().augment == "switched off"
    assert collection.augment_evidence().off and collection.augment_evidence().trial.rungs
    collection.fit_augment()
    assert collection.search(asked()[0]).reordered


@pytest.mark.parametrize("ending", ["npz", "json"])
def test_a_damaged_file_leaves_searches_as_they_are_without(fresh, ending):
    collection, _ = fresh
    folder = os.path.join(collection.path, "augment")
    name = next(name for name in os.listdir(folder) if name.endswith(ending))
    with open(os.path.join(folder, name), "r+b") as file:
        file.seek(60)
        file.write(b"damaged")
    collection._current()._augmenter = None
    assert collection.search(asked()[0]).reordered == ()
    assert (load_evidence(collection.path) is None) == (ending == "json")


def test_a_new_fit_leaves_no_old_files(fresh):
    collection, _ = fresh
    collection.fit_augment()
    names = sorted(os.listdir(os.path.join(collection.path, "augment")))
    assert len(names) == 3 and names[0] == "CURRENT"
    with open(os.path.join(collection.path, "augment", names[1])) as file:
        assert json.load(file)["arrays"] in names


def test_a_collection_with_few_captions_for_its_pictures_is_not_measured(tmp_path):
    """What holds among pictures that were fitted on says nothing of those that could not be."""
    collection, encoder = planted(tmp_path / "mixed", Turned(), concepts=range(10), copies=12)
    add(collection, encoder, range(11, 14), 6, captions=False)
    with pytest.raises(InputError, match="120 of 138 pictures"):
        collection.fit_augment()


def test_a_rung_that_only_tells_fitted_pictures_from_others_gains_nothing(monkeypatch):
    """Pictures are noise, so nothing can help; a term that lowers all it was fitted on must not look like a gain."""

    class Sinks(Ridge):
        weights = (1.0,)

        @classmethod
        def fit(cls, pairs):
            made = super().fit(pairs)
            made.known = {row.tobytes() for row in pairs.images}
            return made

        def prior(self, xq, drawn=None):
            return None

        def row_term(self, rows):
            return np.array([-1.0 if row.tobytes() in self.known else 0.0 for row in rows], np.float32)

    rng = np.random.default_rng(1)
    texts, images = unit(rng.standard_normal((200, 16))), unit(rng.standard_normal((200, 16)))
    monkeypatch.setattr(augment_trial, "RUNGS", SimpleNamespace(load=lambda _: Sinks))
    folds = np.arange(200) % FOLDS
    trial = measure(Pairs(texts, images, np.arange(200)), folds, images, np.arange(200), folds, ["sinks"])
    assert trial.rungs[0].r10.value == 0 and not trial.rungs[0].on


def test_too_few_captions_are_refused_with_what_to_do(tmp_path):
    collection, _ = planted(tmp_path / "small", concepts=range(5), copies=4)
    with pytest.raises(InputError, match=r"20 of 20 pictures .* at least 100 [^$]*--captions"):
        collection.fit_augment()
    assert "augment fit" in collection.status().augment and collection.augment_evidence() is None
