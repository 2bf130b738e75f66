"""A real pipeline of diffusers with random weights: from disk, offline, in its process, and damaged in every way."""

import inspect
import json
import shutil
import socket

import numpy as np
import pytest

from clipsearch.errors import GenerationError, InputError, WeightsNotFoundError
from clipsearch.generate import GENERATORS, Options
from clipsearch.generate.base import OutOfMemory, Refused, UnusablePicture
from clipsearch.generate.cautious import Cautious
from clipsearch.generate.process import Setup, WorkerEnded
from clipsearch.generate.service import GeneratorService
from clipsearch.generate.weights import weights_digest

OPTIONS = Options(width=64, height=64, steps=2, guidance_scale=1.5)
FACTORY = GENERATORS["diffusers"]


@pytest.fixture
def load(tiny_pipeline):
    return lambda folder=tiny_pipeline, **how: GENERATORS.load("diffusers")(str(folder), **how)


@pytest.fixture
def copy(tiny_pipeline, tmp_path):
    return shutil.copytree(tiny_pipeline, tmp_path / "copy")


def test_a_pipeline_loads_and_draws_with_the_network_blocked(load, monkeypatch):
    def refuse(*_):
        raise AssertionError("the network was used")

    expected = load().generate("a red dog", 1, 7, OPTIONS)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    np.testing.assert_array_equal(load().generate("a red dog", 1, 7, OPTIONS), expected)


def test_the_process_draws_what_the_pipeline_draws_and_dies_at_its_deadline(load, tiny_pipeline):
    with GeneratorService(Setup(FACTORY, str(tiny_pipeline))) as service:
        drawn = service.draw("a red dog", 2, 7, OPTIONS, seconds=120)
        assert np.abs(drawn.pixels.astype(int) - load().generate("a red dog", 2, 7, OPTIONS)).max() <= 1
        with pytest.raises(WorkerEnded, match="within 1 s"):
            service.draw("a red dog", 4, 7, Options(width=512, height=512, steps=1000), seconds=1)
        assert len(service.draw("a red dog", 1, 7, OPTIONS, seconds=120).pixels) == 1


@pytest.mark.parametrize("damage", ["no folder", "no index", "no weights", "cut weights", "no configuration"])
def test_missing_or_damaged_weights_are_said_in_three_lines(load, copy, damage):
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    if damage == "no folder":
        shutil.rmtree(copy)
    elif damage == "no index":
        (copy / "model_index.json").unlink()
    elif damage == "no weights":
        weights.unlink()
    elif damage == "cut weights":
        weights.write_bytes(weights.read_bytes()[:1000])
    else:
        (copy / "unet" / "config.json").unlink()
    with pytest.raises((WeightsNotFoundError, GenerationError)) as caught:
        load(copy)
    assert str(caught.value).count("\n") < 3 and str(copy) in str(caught.value)


def test_nan_is_seen_and_not_rounded_to_black(load):
    import torch

    generator = load()
    with torch.no_grad():
        next(iter(generator._pipe.unet.parameters())).fill_(float("nan"))
    with pytest.raises(UnusablePicture, match="NaN"):
        Cautious(generator).generate("a red dog", 1, 7, OPTIONS)


def test_a_black_picture_is_no_picture(load, monkeypatch):
    from types import SimpleNamespace

    generator = load()
    monkeypatch.setattr(
        type(generator._pipe), "__call__", lambda *_, **__: SimpleNamespace(images=np.zeros((1, 64, 64, 3)))
    )
    with pytest.raises(UnusablePicture):
        Cautious(generator).generate("a red dog", 1, 7, Options(width=64, height=64))


def test_what_the_safety_check_blocks_is_a_refusal(load, monkeypatch):
    from types import SimpleNamespace

    generator = load()
    blocked = SimpleNamespace(images=np.zeros((1, 64, 64, 3)), nsfw_content_detected=[True])
    monkeypatch.setattr(type(generator._pipe), "__call__", lambda *_, **__: blocked)
    with pytest.raises(Refused):
        generator.generate("a red dog", 1, 7, Options(width=64, height=64))


def test_out_of_memory_is_told_as_such_and_a_smaller_size_is_tried(load, monkeypatch):
    import torch

    generator = load()
    inner = type(generator._pipe).__call__
    calls = []

    def crowded(self, **given):
        calls.append(given["width"])
        if given["width"] > 256:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return inner(self, **given)

    crowded.__signature__ = inspect.signature(inner)
    monkeypatch.setattr(type(generator._pipe), "__call__", crowded)
    large = Options(width=512, height=512, steps=1, guidance_scale=1.0)
    with pytest.raises(OutOfMemory):
        generator.generate("a red dog", 1, 7, large)
    cautious = Cautious(generator)
    assert cautious.generate("a red dog", 1, 7, large).shape == (1, 256, 256, 3)
    assert cautious.done == ["256 x 256"] and calls == [512, 512, 256]


def test_bf16_draws_nearly_the_same_and_goes_on_in_float32(load):
    generator = load(dtype="bf16")
    rough = generator.generate("a red dog", 1, 7, OPTIONS)
    assert generator.to_fp32() and not generator.to_fp32()
    fine = generator.generate("a red dog", 1, 7, OPTIONS)
    assert fine.shape == rough.shape and np.abs(fine.astype(int) - rough).mean() < 30
    assert not generator.offload(), "on a CPU there is nothing to move"


def test_options_decide_the_picture(load):
    generator = load()
    plain = generator.generate("a red dog", 1, 7, OPTIONS)
    for changed in (
        Options(width=64, height=64, steps=3, guidance_scale=1.5),
        Options(width=64, height=64, steps=2, guidance_scale=7.5),
        Options(width=64, height=64, steps=2, guidance_scale=1.5, negative_prompt="cats"),
    ):
        assert (generator.generate("a red dog", 1, 7, changed) != plain).any()


def test_the_weaker_the_strength_the_nearer_to_the_source_and_no_steps_are_too_few(load):
    source = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    generator = load()
    options = [
        Options(width=64, height=64, steps=steps, guidance_scale=1.5, source="0" * 64, strength=strength)
        for steps, strength in ((1, 0.1), (10, 1.0))
    ]
    weak, strong = (generator.generate("a red dog", 1, 7, option, source) for option in options)
    assert weak.shape == strong.shape == (1, 64, 64, 3) and (weak != strong).any()


def test_what_a_pipeline_does_not_know_is_refused_by_name(load, monkeypatch):
    generator = load()

    def narrow(self, prompt, generator, output_type, num_inference_steps=1):
        raise AssertionError("it was called")

    monkeypatch.setattr(type(generator._pipe), "__call__", narrow)
    with pytest.raises(InputError, match="guidance_scale, negative_prompt"):
        generator.generate("a red dog", 1, 7, Options(guidance_scale=2.0, negative_prompt="cats"))


def test_the_digest_follows_the_weights(copy, tmp_path):
    memory = str(tmp_path / "generated" / "digests.json")
    first = weights_digest(str(copy), memory)
    assert weights_digest(str(copy), memory) == first == weights_digest(str(copy))
    assert json.loads((tmp_path / "generated" / "digests.json").read_text())
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert weights_digest(str(copy), memory) != first


def test_weights_of_half_precision_alone_load_too(tiny_pipeline, copy, load):
    for weights in copy.rglob("*.safetensors"):
        weights.rename(weights.with_name(weights.name.replace(".safetensors", ".fp16.safetensors")))
    np.testing.assert_array_equal(
        load(copy).generate("a red dog", 1, 7, OPTIONS), load().generate("a red dog", 1, 7, OPTIONS)
    )
