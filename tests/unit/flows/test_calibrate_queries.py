"""The texts that a calibration is made with, and what need not be embedded again."""

import numpy as np
from planted import PlantedEncoder, planted

from clipsearch.embed import load_encoder
from clipsearch.flows.calibrate import make_calibration
from clipsearch.flows.calibrate_queries import Caption, Texts, captions_by_kind, shipped_bank
from clipsearch.match import bank


def test_the_bank_that_ships_is_that_of_the_shipped_model():
    encoder = load_encoder("mini")
    shipped = shipped_bank(encoder.fingerprint())
    assert shipped is not None, "mini or the bank changed: run scripts/embed_bank.py"
    assert shipped.shape == (len(bank.all_queries()), encoder.dim) and shipped.dtype == np.float16
    at = list(range(0, 1620, 97))
    fresh = encoder.encode_texts([bank.all_queries()[i] for i in at])
    np.testing.assert_allclose(shipped[at].astype(np.float32), fresh, atol=2e-3)


def test_the_shipped_bank_is_not_embedded_again_and_other_models_have_none():
    encoder = load_encoder("mini")

    class Refusing:
        fingerprint = staticmethod(encoder.fingerprint)

        def encode_texts(self, texts):
            raise AssertionError(f"{texts[0]!r} was embedded")

    assert Texts(Refusing(), {}).embed(bank.all_queries()).shape == (1620, encoder.dim)
    assert shipped_bank(PlantedEncoder().fingerprint()) is None


def test_a_text_is_embedded_once_and_not_at_all_where_it_is_known():
    encoder = PlantedEncoder()
    known = encoder.encode_texts(["known"]).astype(np.float16)
    tower = Texts(encoder, {"known": known[0]})
    encoder.encoded = 0
    first = tower.embed(["new", "known", "new"])
    tower.learn(["learnt"], known)
    again = tower.embed(["learnt", "known", "new"])
    assert encoder.encoded == 1
    np.testing.assert_array_equal(again[[2, 1]], first[[0, 1]])
    np.testing.assert_array_equal(again[0], again[1])


def test_captions_yield_different_queries_of_each_kind_up_to_a_limit():
    captions = [Caption(n, 100 + n, f"a man number {n} walks in the big green park") for n in range(30)]
    captions.append(Caption(30, 130, captions[0].text))
    made = captions_by_kind(captions, lambda _: 20, lambda text: "7" not in text)
    assert set(made) == set(bank.KINDS)
    for kind, found in made.items():
        assert 0 < len(found) <= 20 and {bank.kind_of(text) for text in found} == {kind}
        assert not any("7" in text for text in found)


def test_captions_are_looked_at_no_further_than_needed():
    names = ("".join(chr(97 + int(digit)) for digit in str(n)) for n in range(1_000))
    captions = (Caption(n, 100 + n, f"a man in the big {name} park near {name}") for n, name in enumerate(names))
    made = captions_by_kind(captions, lambda _: 20, lambda _: True)
    assert all(len(found) == 20 for found in made.values())
    assert next(captions).id < 40


def test_sentences_choose_the_hubs_strength_for_words_which_need_no_more_texts_than_the_sample(tmp_path):
    collection, encoder = planted(tmp_path / "c", concepts=range(10), copies=24)
    tower = Texts(encoder, {})
    tower.learn(bank.all_queries(), encoder.encode_texts(bank.all_queries()).astype(np.float16))
    encoder.encoded = 0
    made = make_calibration(collection._current().snapshot, tower)
    for target in made.targets.values():
        assert len(target.queries["sentence"]) == 160, "a third chose"
        assert len({target.kinds[kind].hub for kind in bank.KINDS}) == 1
        for kind in ("keyword", "phrase"):
            assert target.kinds[kind].source == "captions"
            assert 160 < len(target.kinds[kind].null) == len(target.queries[kind]) <= 240
    assert encoder.encoded <= 2 * 240
