"""The contract of every generator family, over the registry: a new family is found here and must keep it."""

import random

import numpy as np
import pytest

import clipsearch.embed
from clipsearch.generate import GENERATORS, Options, cards
from clipsearch.generate.cautious import check_pictures
from clipsearch.generate.weights import SHIPPED

OPTIONS = Options(width=64, height=48, steps=2, guidance_scale=1.5)


@pytest.fixture(scope="module", params=sorted(GENERATORS))
def generator(request):
    """A generator of each family."""
    folder = str(request.getfixturevalue("tiny_pipeline")) if request.param == "diffusers" else None
    extra = {"encoder": clipsearch.embed.load_encoder("mini", threads=1)} if request.param == "mini" else {}
    return GENERATORS.load(request.param)(folder, device="cpu", dtype="fp32", **extra)


def test_pictures_are_bytes_of_the_size_asked_for(generator):
    drawn = generator.generate("a red dog", 2, 7, OPTIONS)
    assert drawn.shape == (2, 48, 64, 3) and drawn.dtype == np.uint8
    check_pictures(drawn, 2, OPTIONS)


def test_the_same_seed_gives_the_same_picture(generator):
    np.testing.assert_array_equal(
        generator.generate("a red dog", 1, 7, OPTIONS), generator.generate("a red dog", 1, 7, OPTIONS)
    )


def test_another_seed_or_prompt_gives_another_picture(generator):
    one = generator.generate("a red dog", 1, 7, OPTIONS)
    assert (one != generator.generate("a red dog", 1, 8, OPTIONS)).any()
    assert (one != generator.generate("two cats", 1, 7, OPTIONS)).any()


def test_a_batch_is_equal_to_single_pictures(generator):
    batch = generator.generate("a red dog", 3, 7, OPTIONS)
    for i, picture in enumerate(batch):
        np.testing.assert_array_equal(generator.generate("a red dog", 1, 7 + i, OPTIONS)[0], picture)


def test_no_global_random_state_is_touched(generator):
    np.random.seed(3)
    random.seed(3)
    before = np.random.get_state()[1].tolist(), random.getstate()
    generator.generate("a red dog", 1, 7, OPTIONS)
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before


def test_a_source_decides_pixels_and_is_left_as_it_was(generator):
    source = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    source.flags.writeable = False
    drawn = [
        generator.generate(
            "a red dog", 1, 7, Options(width=64, height=48, steps=4, source="0" * 64, strength=strength), source
        )
        for strength in (0.25, 1.0)
    ]
    assert drawn[0].shape == (1, 48, 64, 3) and (drawn[0] != drawn[1]).any()


def test_every_card_names_a_family_and_says_its_licence():
    for card in cards().values():
        assert card.family in GENERATORS and card.licence and card.good_for
        assert (card.hub is None) == (card.family in SHIPPED)
