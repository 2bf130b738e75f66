"""The generator that ships: colours, seeds, samplers, guidance, and what it refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import clipsearch.embed
from clipsearch.errors import GenerationError, InputError, WeightsNotFoundError
from clipsearch.flows.generators import choose_generator
from clipsearch.generate import Options, load_card
from clipsearch.generate.mini import WEIGHTS, MiniGenerator
from clipsearch.generate.sampling import keep_of_source, sample
from clipsearch.generate.service import GeneratorService

SMALL = Options(width=64, height=64)


@pytest.fixture(scope="module")
def encoder():
    return clipsearch.embed.load_encoder("mini", threads=1)


@pytest.fixture(scope="module")
def generator(encoder):
    return MiniGenerator(encoder=encoder)


def border(picture) -> np.ndarray:
    """The outermost four pixels: (N, 3)."""
    inner = np.zeros(picture.shape[:2], bool)
    inner[4:-4, 4:-4] = True
    return picture[~inner].astype(int)


@pytest.mark.parametrize(
    ("prompt", "colour"),
    [
        ("a dog on a red background", (214, 40, 40)),
        ("a banana on a blue background", (40, 95, 205)),
        ("a photo of a car on a green background", (60, 165, 75)),
        ("a cat", (255, 255, 255)),
    ],
)
def test_the_background_has_the_colour_that_was_asked_for(generator, prompt, colour):
    drawn = generator.generate(prompt, 1, 0, SMALL)[0]
    near = np.abs(border(drawn) - colour).max(axis=1) < 48
    assert near.mean() > 0.8


def test_the_thing_is_that_of_the_prompt(generator):
    prompts = [f"{thing} on a blue background" for thing in ("a dog", "a banana", "a car", "an apple")]
    drawn = [generator.generate(prompt, 1, 0, SMALL)[0].astype(float) for prompt in prompts]
    again = [generator.generate(prompt, 1, 9, SMALL)[0].astype(float) for prompt in prompts]
    distance = [
        [min(np.abs(a - b).mean(), np.abs(a - b[:, ::-1]).mean()) for b in drawn] for a in again
    ]  # mirrored or not is the seed's choice
    assert (np.argmin(distance, axis=1) == np.arange(len(prompts))).all()


def test_steps_guidance_and_sampler_decide_pixels(generator):
    plain = generator.generate("a dog", 1, 0, SMALL)
    for other in (
        Options(64, 64, steps=1),
        Options(64, 64, guidance_scale=1.0),
        Options(64, 64, sampler="random"),
        Options(64, 64, negative_prompt="a cat on a black background"),
    ):
        assert (generator.generate("a dog", 1, 0, other) != plain).any()


def test_what_it_cannot_do_is_refused_in_words(generator, encoder):
    with pytest.raises(InputError, match="confidence, random"):
        generator.generate("a dog", 1, 0, Options(64, 64, sampler="euler"))
    with pytest.raises(InputError, match="1 to 200"):
        generator.generate("a dog", 1, 0, Options(64, 64, steps=201))
    with pytest.raises(InputError, match="not on cuda"):
        MiniGenerator(device="cuda", encoder=encoder)


def test_another_text_tower_is_refused(encoder, tmp_path):
    shutil.copytree(WEIGHTS, tmp_path / "mini")
    card = tmp_path / "mini" / "card.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "text_tower": "0" * 64}))
    with pytest.raises(GenerationError, match="another text tower"):
        MiniGenerator(str(tmp_path / "mini"), encoder=encoder)
    with pytest.raises(GenerationError, match="no text tower"):
        MiniGenerator()


def test_missing_weights_are_said(encoder, tmp_path):
    with pytest.raises(WeightsNotFoundError, match="Install"):
        MiniGenerator(str(tmp_path), encoder=encoder)
    shutil.copy(WEIGHTS / "card.json", tmp_path)
    with pytest.raises(WeightsNotFoundError, match=r"transformer\.onnx"):
        MiniGenerator(str(tmp_path), encoder=encoder).generate("a dog", 1, 0, SMALL)


@pytest.mark.parametrize("prompt", ["quarterly tax report", "\U0001f984", "x" * 9000, "ein Hund", "."])
def test_any_prompt_gives_a_picture_and_no_crash(generator, prompt):
    assert generator.generate(prompt, 1, 0, Options(128, 64, steps=2)).shape == (1, 64, 128, 3)


def test_guidance_zero_draws_without_the_words(generator):
    none = Options(64, 64, guidance_scale=0.0)
    np.testing.assert_array_equal(generator.generate("a dog", 1, 4, none), generator.generate("a castle", 1, 4, none))


def test_it_draws_in_its_process_and_is_the_default_without_other_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    chosen = choose_generator(str(tmp_path))
    assert chosen is not None and chosen.card == load_card("mini") and chosen.setup.device == "cpu"
    with GeneratorService(chosen.setup) as service:
        drawn = service.draw("a dog on a red background", 2, 0, Options(64, 64), seconds=120)
    assert drawn.pixels.shape == (2, 64, 64, 3) and drawn.done == ()


def test_what_ships_is_small():
    assert sum(file.stat().st_size for file in Path(WEIGHTS).iterdir()) < 10_000_000


@pytest.mark.parametrize("sampler", ["confidence", "random"])
@pytest.mark.parametrize("steps", [1, 3, 200])
def test_a_sampler_decides_every_digit_once_and_keeps_what_is_known(sampler, steps):
    target = np.random.default_rng(1).integers(16, size=(16, 64))
    seen = []

    def odds(levels, masked):
        seen.append(masked.copy())
        assert (levels[masked == 0] == target[masked == 0]).all()
        return np.where(np.arange(16) == target[..., None], 50.0, 0.0).astype(np.float32)

    known = keep_of_source(target.astype(np.float32), 0.5, np.random.default_rng(2))
    assert known is not None and 0.4 < known[1].mean() < 0.6
    for start in (None, known):
        seen.clear()
        np.testing.assert_array_equal(sample(odds, np.random.default_rng(0), steps, sampler, start), target)
        open_ = [int(mask.sum()) for mask in seen]
        assert len(open_) == steps and open_ == sorted(open_, reverse=True)
        assert open_[0] == (1024 if start is None else int((~known[1]).sum()))


def test_random_order_follows_the_odds():
    odds = np.log(np.array([0.7, 0.3, *[1e-9] * 14]))
    drawn = sample(lambda *_: np.broadcast_to(odds, (16, 64, 16)), np.random.default_rng(3), 4, "random", None)
    assert abs((drawn == 0).mean() - 0.7) < 0.06  # 4 standard deviations of 1,024 draws
