"""A generator without weights, for tests: a seeded gradient, in the colour that the prompt names.

"red" gives a mostly red picture, so that an encoder which knows colours can tell a good picture from a bad one; a
prompt without a colour gives a colour of its own, which shows nothing of what was asked.
"""

import hashlib
import re

import numpy as np

from clipsearch.generate.base import Options
from clipsearch.types import Pixels

_COLOURS = {
    "red": (220, 20, 20),
    "orange": (250, 140, 20),
    "yellow": (240, 220, 20),
    "green": (20, 180, 30),
    "blue": (20, 40, 220),
    "purple": (130, 30, 160),
    "pink": (250, 150, 190),
    "brown": (120, 70, 30),
}
_DEPTH = 24  # grey levels from dark to light; little, so that the colour stays what it is
_WORDS = re.compile(r"\w+")


class GradientGenerator:
    """Draws a plane of brightness, tilted by the seed."""

    library = "gradient 1"

    def __init__(self, folder: str | None = None, *, device: str = "cpu", dtype: str = "fp32") -> None:
        pass

    def generate(
        self,
        prompt: str,
        n: int,
        seed: int,
        options: Options = Options(),  # noqa: B008 (frozen)
        source: Pixels | None = None,
    ) -> Pixels:
        """Draw ``n`` gradients: uint8 (n, height, width, 3)."""
        return np.stack([_draw(prompt, seed + i, options, source) for i in range(n)])

    def offload(self) -> bool:
        """There is nothing to move."""
        return False

    def to_fp32(self) -> bool:
        """There are no other numbers."""
        return False


def _draw(prompt: str, seed: int, options: Options, source: Pixels | None) -> Pixels:
    words = [word for word in _WORDS.findall(prompt.lower()) if word in _COLOURS]
    key = f"{prompt}\0{seed}\0{options.negative_prompt}\0{options.steps}\0{options.guidance_scale}"
    random = np.random.default_rng(list(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()))
    colour = np.array(_COLOURS[words[0]] if words else random.integers(0, 256, 3), dtype=np.float64)
    y = np.linspace(-0.5, 0.5, options.height)[:, None, None]
    x = np.linspace(-0.5, 0.5, options.width)[None, :, None]
    angle = random.uniform(0, 2 * np.pi)
    drawn = colour + _DEPTH * (np.cos(angle) * x + np.sin(angle) * y)
    if source is not None:
        drawn = source + (options.strength or 1.0) * (drawn - source)
    return np.clip(drawn.round(), 0, 255).astype(np.uint8)
