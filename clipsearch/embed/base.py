"""What every encoder promises, and the helpers they share.

An encoder has two towers that end in one space: pictures and words about them come out near each other, so the dot
product of two embeddings of unit norm, their cosine, is the score. The contract, checked for every family by
``tests/contracts/test_encoders.py``:

- ``encode_images`` takes uint8 pixels (B, S, S, 3) as ``preprocess`` makes them, ``encode_texts`` takes B texts;
  both give float32 (B, D) of unit L2 norm, with (0, D) for an empty batch;
- a row does not depend on what else is in its batch, but for rounding (coarse in bf16, coarser in int8);
- ``fingerprint`` is the same for the same weights and policy, whatever the device, the runtime and the precision, and
  another one otherwise: these round an embedding and leave it in its space.

A family is a class called as ``Family(card, runtime=..., device=..., precision=..., threads=...)``, the last four
strings or None as ``load_encoder`` gets them; a family that has no use for one ignores it.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from clipsearch.embed.card import EncoderCard
from clipsearch.embed.language import covers_text
from clipsearch.embed.preprocess import Preprocess
from clipsearch.types import Floats, Pixels

__all__ = ["Encoder", "covers_text", "unit_norm"]


class Encoder(Protocol):
    """An image tower and a text tower that share a space.

    Attributes:
        name: what ``load_encoder`` was asked for; loading that name again gives the same encoder.
        card: the facts of the checkpoint.
        dim: length D of an embedding.
        preprocess: picture → pixels of the size and crop that the image tower wants.
        logit_scale: factor of the cosine in the model's own logit (already out of the logarithm), or None.
        logit_bias: what is added to it (SigLIP), or None.
    """

    name: str
    card: EncoderCard
    dim: int
    preprocess: Preprocess
    logit_scale: float | None
    logit_bias: float | None

    @property
    def how(self) -> str:
        """What runs the towers, in a few words for people."""
        ...

    def encode_images(self, pixels: Pixels) -> Floats:
        """Embed pictures: uint8 (B, S, S, 3) RGB → float32 (B, D), unit norm."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """Embed B texts → float32 (B, D), unit norm."""
        ...

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of weights, preprocessing and normalisation policy; computed once."""
        ...

    def covers_text(self, text: str) -> bool:
        """Say whether the model was trained on the language of the text, as far as one can tell."""
        ...


def unit_norm(x: ArrayLike) -> Floats:
    """Return rows of unit L2 norm, float32 (B, D).

    A row without a direction (all zeros) or with a value that is not finite becomes NaN throughout: it would
    otherwise score 0 against everything and pass for a bad match. Ingest leaves such rows out and says so.
    """
    rows = np.asarray(x, dtype=np.float32)
    norm = np.linalg.norm(rows.astype(np.float64), axis=-1, keepdims=True)
    norm = np.where(np.isfinite(norm) & (norm > 0), norm, np.nan)
    return (rows / norm).astype(np.float32)
