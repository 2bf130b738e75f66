"""An encoder without weights, for tests: deterministic, quick, and it knows colours by name.

The first numbers of an embedding say how much of each named colour a picture has, or which colours a text names, so
"red" finds a red square. The rest is noise with a meaning only to itself: hashed words for a text, coarse pixel
statistics through a fixed random matrix for a picture. They tell two texts or two pictures of one colour apart.
"""

import hashlib
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clipsearch.embed.base import covers_text, unit_norm
from clipsearch.embed.card import EncoderCard, load_card
from clipsearch.embed.preprocess import Preprocess
from clipsearch.types import Floats, Pixels

COLOURS = {
    "red": (220, 20, 20),
    "orange": (250, 140, 20),
    "yellow": (240, 220, 20),
    "green": (20, 180, 30),
    "blue": (20, 40, 220),
    "purple": (130, 30, 160),
    "pink": (250, 150, 190),
    "brown": (120, 70, 30),
    "black": (10, 10, 10),
    "grey": (128, 128, 128),
    "white": (250, 250, 250),
}
_ALIASES = {"gray": "grey", "violet": "purple"}
_WORDS = re.compile(r"\w+")
_GRID = 4  # the picture is seen as 4 x 4 patches
_OWN = 0.25  # weight of what is not colour; small, so that colour decides between the towers
_SEED = 20240117


class HashingEncoder:
    """Colour names in common, everything else hashed. Needs at least ``len(COLOURS) + 1`` dimensions."""

    def __init__(
        self,
        card: EncoderCard | None = None,
        *,
        dim: int = 64,
        runtime: str = "auto",
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
    ) -> None:
        if dim <= len(COLOURS):
            raise ValueError(f"dim must be above {len(COLOURS)}, not {dim}")
        self.card = card or load_card("hashing")
        self.name = self.card.name
        self.dim = dim
        self.preprocess = Preprocess(size=32, mode="squash", interpolation="bilinear", mean=(0, 0, 0), std=(1, 1, 1))
        self.logit_scale: float | None = None
        self.logit_bias: float | None = None
        own = dim - len(COLOURS)
        self._matrix = np.random.default_rng(_SEED).standard_normal((_GRID * _GRID * 3, own)) / np.sqrt(own)

    @property
    def how(self) -> str:
        """What runs the towers."""
        return "numpy"

    def encode_images(self, pixels: Pixels) -> Floats:
        """Embed pictures: uint8 (B, S, S, 3) → float32 (B, D), unit norm."""
        rows = [self._image(picture) for picture in pixels]  # one by one: a row is the same in every batch
        return unit_norm(np.array(rows).reshape(len(rows), self.dim))

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """Embed B texts → float32 (B, D), unit norm."""
        rows = [self._text(text) for text in texts]
        return unit_norm(np.array(rows).reshape(len(rows), self.dim))

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of everything that decides an embedding."""
        policy = repr((sorted(COLOURS.items()), _GRID, _OWN, _SEED, self.dim, self.preprocess.spec()))
        return hashlib.sha256(policy.encode()).hexdigest()

    def covers_text(self, text: str) -> bool:
        """Say whether the text looks English."""
        return covers_text(self.card, text)

    def _image(self, picture: Pixels) -> NDArray[np.float64]:
        side = picture.shape[0] // _GRID
        patches = picture[: side * _GRID, : side * _GRID].reshape(_GRID, side, _GRID, side, 3).mean(axis=(1, 3))
        patches = patches.reshape(-1, 3)
        names = np.array(list(COLOURS.values()), dtype=np.float64)
        distance = np.linalg.norm(patches[:, None] - names[None], axis=-1)
        colours = np.exp(-((distance / 60.0) ** 2)).mean(axis=0) + 1e-3
        own = (patches.reshape(-1) / 255.0 - 0.5) @ self._matrix + 1e-3
        return np.concatenate([colours / np.linalg.norm(colours), _OWN * own])

    def _text(self, text: str) -> NDArray[np.float64]:
        found: list[str] = _WORDS.findall(text.lower())
        words = [_ALIASES.get(word, word) for word in found]
        colours = np.array([float(words.count(name)) for name in COLOURS])
        own = np.full(self.dim - len(COLOURS), 1e-3)
        for word in words:
            seed = int.from_bytes(hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()[:8], "little")
            own += np.random.default_rng(seed).standard_normal(len(own)) / np.sqrt(len(own))
        total = np.linalg.norm(colours)
        return np.concatenate([colours / total if total else colours, _OWN * own])
