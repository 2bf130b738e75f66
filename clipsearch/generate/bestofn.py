"""Choose among n pictures by how well the collection's own encoder finds the prompt in them, or reject them all.

Two questions, two answers:

- *Which is best?* A raw cosine favours pictures that score high with any words. So the score is normalised: the
  log-probability of the prompt against contrasting captions, as in TextNorm (https://arxiv.org/abs/2404.01863):
  ``log softmax(tau * cos(picture, [prompt, caption_1 .. caption_m]))[0]``. Ties go to the lower seed.
- *Does it show the prompt at all?* Against captions of other things, drawn without regard to the prompt, the prompt
  is one among equals if the picture has nothing of it. Its p-value is then ``(1 + #{captions that score as high}) /
  (m + 1)``; of n attempts the best is looked at, so the level is divided by n. Rejected otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clipsearch.types import Floats

LEVEL = 0.10  # share of pictures with nothing of the prompt that pass all the same, at most
DEFAULT_SCALE = 100.0  # of the cosine, where the encoder has none of its own: CLIP's


@dataclass(frozen=True, slots=True)
class Choice:
    """Which picture was chosen, and whether it shows the prompt.

    Attributes:
        picked: its place among the n.
        scores: normalised score of each, at most 0; higher is better.
        p_value: chance that a picture with nothing of the prompt does as well.
        rejected: whether that chance is too large.
    """

    picked: int
    scores: tuple[float, ...]
    p_value: float
    rejected: bool


def choose(
    images: Floats,
    prompt: Floats,
    contrast: Floats,
    others: Floats,
    scale: float | None = None,
    level: float = LEVEL,
) -> Choice:
    """Choose a picture.

    Args:
        images: (n, D) embeddings of the pictures, unit norm.
        prompt: (D,) embedding of the prompt.
        contrast: (m, D) captions near the prompt that say something else, to rank by.
        others: (k, D) captions of other things, drawn without regard to the prompt, to test by.
        scale: the encoder's factor of the cosine, or None.
        level: share of pictures with nothing of the prompt that may pass; 1 rejects only what is not finite.
    """
    scores = normalised(images, prompt, contrast, DEFAULT_SCALE if scale is None else scale)
    picked = int(np.argmax(scores))  # the first of equals: the lower seed
    own, rest = float(images[picked] @ prompt), others @ images[picked]
    p_value = (1 + int((rest >= own).sum())) / (len(rest) + 1)
    passed = np.isfinite(own) and (level >= 1 or p_value <= level / len(images))
    return Choice(picked, tuple(float(score) for score in scores), p_value, not passed)


def normalised(images: Floats, prompt: Floats, contrast: Floats, scale: float) -> Floats:
    """Return the log-probability (n,) of the prompt against the contrasting captions, for each picture."""
    logits = scale * (images @ np.concatenate([prompt[None], contrast]).T).astype(np.float64)
    top = logits.max(axis=1, keepdims=True)
    logits -= top
    return (logits[:, 0] - np.log(np.exp(logits).sum(axis=1))).astype(np.float32)


_SWAPS = (
    ("red", "blue", "green", "yellow", "black", "white", "orange", "purple", "pink", "brown", "grey"),
    ("one", "two", "three", "four", "five"),
    ("man", "woman", "boy", "girl"),
    ("left", "right"),
    ("big", "small"),
    ("day", "night"),
    ("summer", "winter"),
    ("above", "below"),
)


def swapped(prompt: str, most: int = 8) -> list[str]:
    """Return the prompt with one attribute exchanged for another of its kind: what it must not pass for."""
    words = prompt.split()
    made: list[str] = []
    for place, word in enumerate(words):
        for group in _SWAPS:
            if word.lower() in group:
                made += [
                    " ".join([*words[:place], other, *words[place + 1 :]]) for other in group if other != word.lower()
                ]
    return made[:most]


def unrelated(prompt: str, captions: Sequence[str], common: frozenset[str]) -> list[str]:
    """Return the captions that share no word of meaning with the prompt."""
    own = {word.strip(".,;:!?").lower() for word in prompt.split()} - common
    return [text for text in captions if not own & {word.lower() for word in text.split()}]
