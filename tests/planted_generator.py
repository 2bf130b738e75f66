"""A generator whose pictures hold an embedding, and an encoder that reads it: what is drawn is exact.

A planted embedding has as many numbers as an 8 x 8 board has fields; a field is 8 x 8 pixels of one grey.
"""

import io
import re

import numpy as np
from PIL import Image
from planted import DIM, PLACES, PlantedEncoder, noise, text_of, unit

from clipsearch.embed.preprocess import Preprocess
from clipsearch.generate.gradient import GradientGenerator
from clipsearch.types import GeneratedImage

SIDE, SCALE = 64, 200.0
TURN = np.linalg.qr(np.random.default_rng(3).standard_normal((DIM, DIM)))[0]
_CAPTION = re.compile(r"concept(\d\d) [a-z]+(\d+) ")


def caption(number, copy):
    return text_of("sentence", number, f"{PLACES[copy % len(PLACES)]}{copy}")


def board(embedding):
    """Return a picture uint8 (64, 64, 3) that holds an embedding (64,)."""
    fields = np.clip(128 + SCALE * embedding, 0, 255).round().astype(np.uint8).reshape(8, 8)
    return np.repeat(np.kron(fields, np.ones((8, 8), np.uint8))[..., None], 3, axis=2)


class SeeingEncoder(PlantedEncoder):
    """Pictures lie mostly elsewhere than their captions, so that captions alone find few of them."""

    def __init__(self):
        super().__init__()
        self._known = {}
        self.preprocess = Preprocess(size=SIDE)

    def _text(self, text):
        if text not in self._known:
            self._known[text] = super()._text(text)
        return self._known[text]

    def picture(self, number, copy):
        text = self._text(caption(number, copy))
        return unit(0.25 * text + TURN @ text + 0.6 * noise(f"picture {number} {copy}"))

    def encode_images(self, pixels):
        fields = pixels[..., 0].reshape(len(pixels), 8, 8, 8, 8).mean(axis=(2, 4)).reshape(len(pixels), DIM)
        return unit((fields - 128) / SCALE)


_SEEING = SeeingEncoder()


class _Drawing(GradientGenerator):
    weights = ""

    def generate(self, prompt, n, seed, options=None, source=None):
        return np.stack([board(self.embedding(prompt)) for _ in range(n)])


class Right(_Drawing):
    """Draws the very picture that a caption is of."""

    def embedding(self, prompt):
        number, copy = map(int, _CAPTION.match(prompt).groups())
        return _SEEING.picture(number, copy)


class Noise(_Drawing):
    """Draws nothing of the prompt."""

    def embedding(self, prompt):
        return unit(noise(f"drawn {prompt}"))


class Misleading(_Drawing):
    """Draws the prompt, and much more that is not asked for."""

    def embedding(self, prompt):
        return unit(_SEEING._text(prompt) + 2 * noise(f"invented {prompt}"))


class Failing(_Drawing):
    """Draws nothing."""

    def embedding(self, prompt):
        raise RuntimeError("the model is upset")


class Instant:
    """Stands in for ``Collection.generate``: the same pictures without a process; notes what it was asked."""

    def __init__(self, kind):
        self.kind, self.asked, self.weights = kind(), [], "w1"

    def __call__(self, prompt, *, model=None, seconds=None):
        self.asked.append(prompt)
        file = io.BytesIO()
        Image.fromarray(self.kind.generate(prompt, 1, 0)[0]).save(file, "PNG")
        facts = {"licence": "MIT", "sha256": "", "parent": None, "tried": 1, "fit": -0.1, "p_value": 0.01}
        return GeneratedImage(
            None,
            prompt,
            0,
            model or "best",
            weights=self.weights,
            cached=False,
            seconds=0.1,
            png=file.getvalue(),
            **facts,
        )
