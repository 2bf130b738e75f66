"""Preprocessing against open_clip's own transform, bit for bit."""

import json

import numpy as np
import pytest
from PIL import Image

from clipsearch.embed.preprocess import Preprocess

MODES = ("shortest", "squash", "longest")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [32, 63])
def test_pixels_and_normalisation_equal_open_clips_transform(pictures, mode, interpolation, size):
    transform = pytest.importorskip("open_clip.transform")
    mean, std = (0.48, 0.45, 0.40), (0.26, 0.26, 0.27)
    cfg = transform.PreprocessCfg(
        size=size, mean=mean, std=std, interpolation=interpolation, resize_mode=mode, fill_color=90
    )
    theirs = transform.image_transform_v2(cfg, is_train=False)
    ours = Preprocess(size, mode, interpolation, mean, std, fill=90)
    if mode == "longest":  # open_clip itself fails where a side would shrink to nothing
        pictures = [picture for picture in pictures if max(picture.size) < size * min(picture.size)]
    for picture in pictures:
        np.testing.assert_array_equal(ours.normalise(ours(picture)[None])[0], theirs(picture).numpy())


def test_a_picture_of_the_right_size_is_left_alone():
    pixels = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for mode in MODES:
        np.testing.assert_array_equal(Preprocess(32, mode)(Image.fromarray(pixels)), pixels)


@pytest.mark.parametrize("size", [(20000, 1), (1, 20000), (3, 2000)])
@pytest.mark.parametrize("mode", MODES)
def test_an_extreme_strip_gives_a_square_without_gigabytes(size, mode, monkeypatch):
    sizes = []
    resize = Image.Image.resize

    def spy(self, new, *args, **kwargs):
        sizes.append(new)
        return resize(self, new, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "resize", spy)
    assert Preprocess(224, mode)(Image.new("RGB", size, (10, 20, 30))).shape == (224, 224, 3)
    assert max(width * height for width, height in sizes) <= 224 * 224 * 16


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_other_modes_become_rgb(mode):
    assert Preprocess(16)(Image.new("RGB", (20, 30), (200, 10, 10)).convert(mode)).shape == (16, 16, 3)


def test_the_spec_survives_json_and_makes_an_equal_object():
    ours = Preprocess(40, "crop", "bilinear", (0.1, 0.2, 0.3), (1, 1, 1), fill=7)
    spec = json.loads(json.dumps(ours.spec()))
    assert spec["factory"] == "clipsearch.embed.preprocess:Preprocess"
    assert Preprocess(**spec["kwargs"]) == ours
    assert ours.mode == "shortest"


@pytest.mark.parametrize("wrong", [{"mode": "stretch"}, {"interpolation": "lanczos"}])
def test_unknown_words_are_refused(wrong):
    with pytest.raises(ValueError, match="not '"):
        Preprocess(32, **wrong)
