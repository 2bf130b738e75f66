"""Shared fixtures: where outside data lies, a tiny picture folder, a small collection with the hashing encoder."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COLOURS = {
    "red": (220, 20, 20),
    "green": (20, 180, 30),
    "blue": (20, 40, 220),
    "yellow": (240, 220, 20),
    "white": (250, 250, 250),
    "black": (10, 10, 10),
}


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of outside data (flickr8k, clothing, badimages); its tests skip by name where there is none."""
    folder = os.environ.get("CLIPSEARCH_TEST_DATA")
    if not folder:
        pytest.skip("CLIPSEARCH_TEST_DATA is not set")
    return Path(folder)


def make_photo(path: Path, colour: tuple[int, int, int], seed: int = 0, size: tuple[int, int] = (96, 64)) -> Path:
    """Write a picture of one colour with seeded noise; the format follows the suffix."""
    noise = np.random.default_rng(seed).integers(-8, 9, (size[1], size[0], 3))
    pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of six pictures, one a colour."""
    folder = tmp_path / "photos"
    for seed, (name, colour) in enumerate(COLOURS.items()):
        make_photo(folder / f"{name}.png", colour, seed)
    return folder
