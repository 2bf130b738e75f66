"""Who judges a picture: before it is drawn the generator, where it says what it can draw; else the encoder after."""

import numpy as np

from clipsearch.embed.base import Encoder
from clipsearch.errors import RejectedError
from clipsearch.flows.generators import Chosen
from clipsearch.generate.bestofn import LEVEL, Choice, choose, swapped, unrelated
from clipsearch.match.bank import STOP_WORDS, bank_queries, kind_of
from clipsearch.types import Floats, Pixels

OTHERS, NEAREST = 199, 24  # captions to test by, and the nearest of them to rank by
WITHIN_SCOPE = 1.0  # level of the test by the encoder where the generator itself says that it can draw the prompt


def read_by(chosen: Chosen, prompt: str) -> str:
    """Return the words that a generator is told for a prompt: its own where it says what it can draw.

    Raises:
        RejectedError: it says that it cannot draw this.
    """
    if chosen.scope is None:
        return prompt
    reading, name = chosen.scope.read(prompt), chosen.card.name
    if reading.why_not is None:
        return reading.words
    raise RejectedError(
        f"Rejected: {name!r} cannot draw {_short(prompt)!r}: {_short(reading.why_not)}.\n"
        f"It draws one of {len(chosen.scope.names())} things before a plain colour; "
        f"clipsearch generate --list --model {name} names them.\n"
        "Others draw more: clipsearch generate --list shows them and which are here."
    )


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:199]}\N{HORIZONTAL ELLIPSIS}"


def judge(encoder: Encoder, prompt: str, shown: Pixels, level: float = LEVEL) -> Choice:
    """Return which of the pictures (n, S, S, 3), as the encoder sees them, shows the prompt best, and if it does.

    Args:
        encoder: of the collection.
        prompt: what was to be drawn.
        shown: uint8.
        level: share of pictures with nothing of the prompt that may pass; 1 ranks only.
    """
    texts = unrelated(prompt, bank_queries(kind_of(prompt) or "phrase"), STOP_WORDS)[:OTHERS]
    swaps = swapped(prompt)
    encoded = encoder.encode_texts([prompt, *texts, *swaps])
    own, others, contrast = encoded[0], encoded[1 : 1 + len(texts)], encoded[1 + len(texts) :]
    nearest = others[np.argsort(-(others @ own), kind="stable")[:NEAREST]]
    images: Floats = encoder.encode_images(shown)
    return choose(images, own, np.concatenate([nearest, contrast]), others, encoder.logit_scale, level)
