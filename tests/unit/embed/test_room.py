"""The room's door, the norm, and the hashing encoder."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import clipsearch.embed as embed
from clipsearch.embed import load_encoder, unit_norm
from clipsearch.embed.hashing import COLOURS, HashingEncoder
from clipsearch.errors import MissingExtraError, UnknownNameError


def test_importing_the_room_loads_nothing_heavy():
    code = (
        "import sys, clipsearch.embed\n"
        "print([m for m in ('torch', 'PIL', 'onnxruntime', 'open_clip', 'huggingface_hub') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(embed, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"clipsearch\[cpu\]") as caught:
        load_encoder("vit-b-32")
    assert "torch and open_clip" in str(caught.value)


def test_an_unknown_runtime_is_noticed_before_anything_is_loaded():
    with pytest.raises(UnknownNameError, match="Did you mean 'torch'"):
        load_encoder("hashing", runtime="torhc")


def test_unit_norm_keeps_directions_and_says_when_there_is_none():
    rows = unit_norm([[3, 4], [0, 0], [np.inf, 1], [np.nan, 1], [1e30, 1e30], [1e-30, 0]])
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows[0], [0.6, 0.8], rtol=1e-6)
    assert np.isnan(rows[1:4]).all()
    np.testing.assert_allclose(np.linalg.norm(rows[4:], axis=1), 1, rtol=1e-6)
    assert unit_norm(np.empty((0, 5))).shape == (0, 5)


def test_hashing_finds_colours_by_name():
    encoder = load_encoder("hashing")
    pixels = np.stack([encoder.preprocess(Image.new("RGB", (60, 40), colour)) for colour in COLOURS.values()])
    scores = encoder.encode_texts([f"a {name} square" for name in COLOURS]) @ encoder.encode_images(pixels).T
    np.testing.assert_array_equal(scores.argmax(axis=1), range(len(COLOURS)))


def test_hashing_tells_texts_and_pictures_apart_and_takes_any_dim():
    encoder = HashingEncoder(dim=33)
    random = np.random.default_rng(0)
    images = encoder.encode_images(random.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8))
    texts = encoder.encode_texts([f"word{n}" for n in range(20)])
    assert images.shape == texts.shape == (20, 33)
    for rows in (images, texts):
        assert (rows @ rows.T - np.eye(20)).max() < 0.9999
    with pytest.raises(ValueError, match="above"):
        HashingEncoder(dim=3)
    assert HashingEncoder(dim=40).fingerprint() != encoder.fingerprint()
