"""The perceptual hash: against a plain cosine transform, and what changes it."""

import io

import numpy as np
import pytest
from PIL import Image

from clipsearch.decode.phash import FLAT, perceptual_hash


def scene(seed, size=(240, 160)):
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 9, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def seen(image, side=224):
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))


def saved(image, kind, **how):
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return Image.open(buffer).convert("RGB")


def bits(number):
    return np.unpackbits(np.array([number], np.int64).view(np.uint8))


def differing(one, two):
    return int((bits(one) != bits(two)).sum())


def test_it_is_the_sign_of_the_lowest_frequencies_about_their_middle():
    pixels = seen(scene(3), 64)
    grey = pixels.astype(np.float64) @ [0.299, 0.587, 0.114]
    grey = grey.reshape(32, 2, 32, 2).mean(axis=(1, 3))
    x = np.arange(32)

    def wave(u, v):
        return sum(
            grey[i, j] * np.cos(np.pi * u * (2 * i + 1) / 64) * np.cos(np.pi * v * (2 * j + 1) / 64)
            for i in x
            for j in x
        )

    places = sorted(((u, v) for u in range(11) for v in range(11)), key=lambda p: (sum(p), p))[1:65]
    waves = np.array([wave(u, v) for u, v in places])
    assert bits(perceptual_hash(pixels)).tolist() == (waves > np.median(waves)).astype(int).tolist()


@pytest.mark.parametrize("seed", range(4))
def test_saving_again_and_resizing_change_next_to_no_bit_and_another_picture_many(seed):
    image = scene(seed)
    own = perceptual_hash(seen(image))
    copies = [
        saved(image, "JPEG", quality=50),
        saved(image, "WEBP", quality=60),
        image.resize((120, 80), Image.Resampling.LANCZOS),
        image.resize((60, 40), Image.Resampling.LANCZOS),
    ]
    assert max(differing(own, perceptual_hash(seen(copy))) for copy in copies) <= 4
    assert min(differing(own, perceptual_hash(seen(scene(other)))) for other in range(10, 30)) > 10
    assert bits(own).sum() == 32 and own != FLAT


def test_a_flat_or_tiny_picture_has_the_hash_that_says_nothing():
    rng = np.random.default_rng(0)
    page = np.clip(rng.normal(250, 4, (224, 224, 3)), 0, 255).astype(np.uint8)
    assert perceptual_hash(page) == perceptual_hash(np.zeros((224, 224, 3), np.uint8)) == FLAT
    assert perceptual_hash(seen(scene(1), 16)) == FLAT


@pytest.mark.parametrize("side", [32, 100, 224, 336, 384])
def test_any_size_that_encoders_ask_for_will_do(side):
    assert differing(perceptual_hash(seen(scene(2), side)), perceptual_hash(seen(scene(2), 448))) <= 4
