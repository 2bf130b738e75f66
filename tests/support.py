"""Pictures that tests make, and marks that several files of tests bear."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

LANGUAGE_MODEL = [
    pytest.mark.slow,  # importing torch and transformers takes most of it
    pytest.mark.skipif(
        importlib.util.find_spec("transformers") is None or importlib.util.find_spec("torch") is None,
        reason="torch and transformers are not installed: pip install 'clipsearch[describe]'",
    ),
    pytest.mark.filterwarnings("ignore"),  # of libraries that are not ours
]

COLOURS = {
    "red": (220, 20, 20),
    "green": (20, 180, 30),
    "blue": (20, 40, 220),
    "yellow": (240, 220, 20),
    "white": (250, 250, 250),
    "black": (10, 10, 10),
}


def make_photo(path: Path, colour: tuple[int, int, int], seed: int = 0, size: tuple[int, int] = (96, 64)) -> Path:
    """Write a picture of one colour with seeded noise; the format follows the suffix."""
    noise = np.random.default_rng(seed).integers(-8, 9, (size[1], size[0], 3))
    pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path
