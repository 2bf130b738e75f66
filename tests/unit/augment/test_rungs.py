"""Every rung keeps the contract; what each adds is what its formula says."""

import numpy as np
import pytest

from clipsearch.augment import DRAWN, RUNGS
from clipsearch.augment.base import Pairs, term, unit

DIM = 24


def make_pairs(n=240, seed=0):
    rng = np.random.default_rng(seed)
    texts = unit(rng.standard_normal((n, DIM)))
    images = unit(texts @ rng.standard_normal((DIM, DIM)) + 0.3 * rng.standard_normal((n, DIM)))
    return Pairs(texts, images, np.arange(n, dtype=np.int64))


@pytest.fixture(scope="module", params=list(RUNGS))
def rung(request):
    return RUNGS.load(request.param)


@pytest.fixture(scope="module")
def asked():
    rng = np.random.default_rng(1)
    return unit(rng.standard_normal((300, DIM))), unit(rng.standard_normal((50, DIM)))


@pytest.fixture(scope="module")
def drawn():
    return unit(np.random.default_rng(6).standard_normal((300, DIM)))


def test_a_rung_adds_to_queries_or_to_rows_and_says_what_weights_it_may_have(rung, asked, drawn):
    fitted, (xq, rows) = rung.fit(make_pairs()), asked
    prior, own = fitted.prior(xq, drawn), fitted.row_term(rows)
    assert (prior is None) != (own is None)
    if prior is not None:
        assert prior.shape == xq.shape and prior.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(prior, axis=1), 1, atol=1e-5)
    else:
        assert own.shape == (50,) and own.dtype == np.float32
    assert rung.weights and all(0 < weight <= 1 for weight in rung.weights)


def test_the_same_pairs_make_the_same_rung(rung, asked, drawn):
    xq, rows = asked
    one, two = rung.fit(make_pairs()), rung.fit(make_pairs())
    np.testing.assert_array_equal(term(one, xq[0], rows, drawn[0]), term(two, xq[0], rows, drawn[0]))


def test_a_rung_read_back_is_the_one_that_was_kept(rung, asked, drawn, tmp_path):
    xq, rows = asked
    fitted = rung.fit(make_pairs())
    np.savez(tmp_path / "rung.npz", **fitted.arrays())
    with np.load(tmp_path / "rung.npz", allow_pickle=False) as arrays:
        again = rung.load(arrays)
    np.testing.assert_array_equal(term(fitted, xq[0], rows, drawn[0]), term(again, xq[0], rows, drawn[0]))


def test_a_term_does_not_depend_on_what_else_is_asked(rung, asked, drawn):
    xq, rows = asked
    fitted = rung.fit(make_pairs())
    prior = fitted.prior(xq, drawn)
    for q in (0, 150, 299):
        alone = term(fitted, xq[q], rows, drawn[q])
        together = fitted.row_term(rows) if prior is None else rows @ prior[q]
        np.testing.assert_allclose(alone, together, atol=1e-5)


def test_a_rung_needs_no_more_than_one_pair(rung, asked, drawn):
    xq, rows = asked
    assert np.isfinite(term(rung.fit(make_pairs(1)), xq[0], rows, drawn[0])).all()


def test_a_picture_is_looked_at_by_rungs_that_need_one_and_by_no_other(asked, drawn):
    xq, rows = asked
    for name in RUNGS:
        fitted = RUNGS.load(name).fit(make_pairs())
        same = np.array_equal(term(fitted, xq[0], rows, drawn[0]), term(fitted, xq[0], rows))
        assert same == (name not in DRAWN), name


def test_a_drawn_picture_is_added_as_it_is_and_none_adds_nothing(asked, drawn):
    xq, rows = asked
    imagined = RUNGS.load("imagined").fit(make_pairs())
    np.testing.assert_array_equal(term(imagined, xq[4], rows, drawn[4]), rows @ drawn[4])
    assert not term(imagined, xq[4], rows).any() and not term(imagined, xq[4], rows, np.zeros(DIM)).any()


def test_a_hub_is_the_mean_of_the_nearest_captions_taken_away():
    pairs, rows = make_pairs(40), make_pairs(10, seed=5).images
    found = RUNGS.load("hubs").fit(pairs).row_term(rows)
    bank = pairs.texts.astype(np.float16).astype(np.float64)
    wanted = [-np.sort(bank @ row.astype(np.float64))[-15:].mean() for row in rows]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_the_nearest_captions_lend_their_pictures_by_a_softmax_of_how_near_they_are():
    pairs = make_pairs(100)
    query = unit(pairs.texts[3:4] + 0.1)
    texts, images = (x.astype(np.float16).astype(np.float64) for x in (pairs.texts, pairs.images))
    scores = texts @ query[0]
    nearest = np.argsort(-scores)[:32]
    shares = np.exp(40 * scores[nearest])
    wanted = unit((shares[:, None] * images[nearest]).sum(axis=0)[None])
    np.testing.assert_allclose(RUNGS.load("knn").fit(pairs).prior(query), wanted, atol=1e-4)


def test_ridge_finds_a_linear_map_that_is_there():
    rng = np.random.default_rng(2)
    texts = unit(rng.standard_normal((5_000, DIM)))
    turn = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0]
    ridge = RUNGS.load("ridge").fit(Pairs(texts, (texts @ turn).astype(np.float32), np.arange(5_000)))
    other = unit(rng.standard_normal((20, DIM)))
    assert np.einsum("qd,qd->q", ridge.prior(other), other @ turn).min() > 0.99


def test_the_slopes_of_the_prior_are_those_of_its_loss():
    """Against finite differences, in float64."""
    from clipsearch.augment.prior import WAVES, _new_network, loss_and_slopes

    rng = np.random.default_rng(3)
    network = {name: x.astype(np.float64) for name, x in _new_network(rng, 6).items()}
    network["w3"] = rng.standard_normal(network["w3"].shape)
    x, z = rng.standard_normal((5, 12 + 2 * WAVES)), rng.standard_normal((5, 6))
    _, slopes = loss_and_slopes(network, x, z)
    for name, weights in network.items():
        at = tuple(rng.integers(0, n) for n in weights.shape)
        before, step = weights[at], 1e-5
        losses = []
        for moved in (before + step, before - step):
            weights[at] = moved
            losses.append(loss_and_slopes(network, x, z)[0])
        weights[at] = before
        np.testing.assert_allclose((losses[0] - losses[1]) / (2 * step), slopes[name][at], rtol=1e-5, atol=1e-9)


def test_a_prior_draws_nearer_to_the_pictures_than_the_captions_are():
    """Where pictures lie somewhere else than captions, though a caption says where."""
    rng = np.random.default_rng(4)
    texts = unit(rng.standard_normal((3_000, DIM)))
    turn = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0]
    images = unit(texts @ turn + 0.05 * rng.standard_normal((3_000, DIM)))
    prior = RUNGS.load("prior").fit(Pairs(texts[:2_800], images[:2_800], np.arange(2_800)))
    asked, wanted = texts[2_800:], images[2_800:]
    own = np.einsum("qd,qd->q", prior.prior(asked), wanted).mean()
    assert own > 0.6 > np.einsum("qd,qd->q", asked, wanted).mean() + 0.4
    before = [((asked @ wanted.T)[n] >= (asked[n] @ wanted[n])).sum() for n in range(200)]
    after = [((prior.prior(asked) @ wanted.T)[n] >= (prior.prior(asked)[n] @ wanted[n])).sum() for n in range(200)]
    assert np.median(after) <= 3 < np.median(before)


def test_a_prior_of_other_embeddings_is_refused():
    arrays = dict(RUNGS.load("prior").fit(make_pairs()).arrays())
    arrays["image_mean"] = arrays["image_mean"][:-1]
    with pytest.raises(ValueError, match="fit its embeddings"):
        RUNGS.load("prior").load(arrays)
