"""The contract of every encoder family, over the registry: a new family is found here and must keep it."""

import importlib.util
import json
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from clipsearch.embed import ENCODERS, Encoder, load_card, load_encoder, weights_path

TEXTS = ["a red dog runs on the beach", "two children", "", "a", "ein Hund", "one two three four five six seven " * 30]
# How much the cosine of a row to itself may lose by what else is in its batch. Quantised activations have a scale that
# follows the batch; bfloat16 kernels round differently for other shapes. Elsewhere only last bits differ.
TOLERANCE = {"mini": 1e-3, "int8": 5e-3, "bf16": 1e-3}
OPEN_CLIP = [
    ("torch", "fp32"), ("torch", "bf16"), ("onnx", "fp32"), ("onnx", "int8"), ("openvino", "fp32"), ("openvino", "bf16")
]  # fmt: skip
CASES = [(family, "auto", "auto") for family in sorted(ENCODERS) if family != "open_clip"]
CASES += [("open_clip", runtime, precision) for runtime, precision in OPEN_CLIP]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(case))
def loaded(request: pytest.FixtureRequest) -> Iterator[tuple[Callable[[str], Encoder], Encoder, str]]:
    """How to load, the encoder of each family by each runtime, and what rounds its rows."""
    family, runtime, precision = request.param
    with pytest.MonkeyPatch.context() as patch:
        if family == "open_clip":
            if runtime == "openvino":
                pytest.importorskip("openvino", reason="openvino is not installed: pip install 'clipsearch[openvino]'")
            exported = request.getfixturevalue("_exported_clip")
            patch.setenv("HF_HUB_CACHE", str(exported.cache))
            name = exported.name
        elif weights_path(load_card(family)) is None:
            pytest.skip(f"the weights of {family} are not in this checkout")
        else:
            name = family
        load = partial(load_encoder, runtime=runtime, precision=precision)
        yield load, load(name), family if precision == "auto" else precision


def tiny_module() -> ModuleType:
    """The tiny models of the unit tests."""
    path = Path(__file__).parent.parent / "unit" / "embed" / "tiny_open_clip.py"
    spec = importlib.util.spec_from_file_location("tiny_models_of_the_contract", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tiny_open_clip_checkpoint(folder: Path, seed: int = 0) -> str:
    """Save a tiny CLIP with random weights; return its name."""
    pytest.importorskip("open_clip")
    tiny = tiny_module()
    tiny.register(folder, "contract-clip", tiny.CLIP)
    return f"contract-clip@{tiny.save(tiny.random_model('contract-clip', seed), folder / f'{seed}.pt')}"


@pytest.fixture(scope="module")
def encoder(loaded: tuple[Callable[[str], Encoder], Encoder, str]) -> Encoder:
    return loaded[1]


@pytest.fixture(scope="module")
def pixels(encoder: Encoder) -> Iterator[np.ndarray]:
    random = np.random.default_rng(0)
    sizes = [(64, 64), (100, 30), (30, 100), (8, 8), (300, 200)]
    pictures = [Image.fromarray(random.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes]
    pictures.append(Image.new("RGB", (50, 50), (220, 20, 20)))
    yield np.stack([encoder.preprocess(picture) for picture in pictures])


def cosine_gap(a: np.ndarray, b: np.ndarray) -> float:
    return float(1 - (a.astype(np.float64) * b).sum(axis=-1).min())


def test_pixels_are_squares_of_bytes(encoder, pixels):
    size = encoder.preprocess.size
    assert pixels.shape[1:] == (size, size, 3)
    assert pixels.dtype == np.uint8


def test_embeddings_are_float32_rows_of_unit_norm_in_one_space(encoder, pixels):
    for rows, n in ((encoder.encode_images(pixels), len(pixels)), (encoder.encode_texts(TEXTS), len(TEXTS))):
        assert rows.shape == (n, encoder.dim)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_an_empty_batch_gives_no_rows(encoder, pixels):
    for rows in (encoder.encode_images(pixels[:0]), encoder.encode_texts([])):
        assert rows.shape == (0, encoder.dim)
        assert rows.dtype == np.float32


def test_a_row_does_not_depend_on_its_batch(loaded, encoder, pixels):
    together = encoder.encode_images(pixels), encoder.encode_texts(TEXTS)
    alone = (
        np.concatenate([encoder.encode_images(row[None]) for row in pixels]),
        np.concatenate([encoder.encode_texts([text]) for text in TEXTS]),
    )
    for a, b in zip(together, alone, strict=True):
        if loaded[2] in TOLERANCE:
            assert cosine_gap(a, b) < TOLERANCE[loaded[2]]
        else:
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_the_same_input_gives_the_same_bits(encoder, pixels):
    np.testing.assert_array_equal(encoder.encode_images(pixels), encoder.encode_images(pixels))
    np.testing.assert_array_equal(encoder.encode_texts(TEXTS), encoder.encode_texts(TEXTS))


def test_different_inputs_give_different_rows(encoder, pixels):
    for rows in (encoder.encode_images(pixels), encoder.encode_texts([text for text in TEXTS if text])):
        scores = rows @ rows.T
        assert scores[~np.eye(len(rows), dtype=bool)].max() < 0.999999


def test_inputs_are_left_as_they_were(encoder, pixels):
    before, texts = pixels.copy(), list(TEXTS)
    read_only = pixels.copy()
    read_only.setflags(write=False)
    encoder.encode_images(read_only)
    encoder.encode_texts(texts)
    np.testing.assert_array_equal(read_only, before)
    assert texts == TEXTS


def test_loading_again_by_the_kept_name_gives_the_same_encoder(loaded, pixels):
    load, encoder, _ = loaded
    again = load(encoder.name)
    assert again.name == encoder.name
    assert again.fingerprint() == encoder.fingerprint()
    np.testing.assert_array_equal(again.encode_images(pixels), encoder.encode_images(pixels))
    np.testing.assert_array_equal(again.encode_texts(TEXTS), encoder.encode_texts(TEXTS))


def test_the_fingerprint_is_a_sha256(encoder):
    assert len(bytes.fromhex(encoder.fingerprint())) == 32
    assert encoder.fingerprint() == encoder.fingerprint()


def test_other_weights_have_another_fingerprint(encoder, tmp_path):
    if encoder.card.family != "open_clip":
        pytest.skip("this family has one set of weights")
    assert load_encoder(tiny_open_clip_checkpoint(tmp_path, seed=1)).fingerprint() != encoder.fingerprint()


def test_the_preprocess_survives_json_and_does_the_same(encoder):
    spec = json.loads(json.dumps(encoder.preprocess.spec()))
    module, _, attribute = spec["factory"].partition(":")
    again = getattr(import_module(module), attribute)(**spec["kwargs"])
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (90, 140, 3), dtype=np.uint8))
    np.testing.assert_array_equal(again(picture), encoder.preprocess(picture))
    assert again.spec() == encoder.preprocess.spec()


def test_the_card_and_the_encoder_agree(encoder):
    assert encoder.card.family in ENCODERS
    assert encoder.card.dim == encoder.dim
    assert encoder.card.image_size == encoder.preprocess.size


def test_the_encoder_says_what_runs_it(encoder):
    assert encoder.how


def test_english_is_covered(encoder):
    assert encoder.covers_text("a dog in the snow")
    assert encoder.logit_scale is None or encoder.logit_scale > 0
