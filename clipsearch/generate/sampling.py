"""How a masked picture is filled in: at each step the model tells the odds of all digits, and some are decided.

How many is known after step t of T follows a cosine (MaskGIT, https://arxiv.org/abs/2202.04200): few at first, while
little is known, many at the end. Which ones is the sampler's choice:

- ``confidence``: those that the model is most sure of, with a little noise at first, so that seeds differ;
- ``random``: any, in an order drawn beforehand, each by its odds: ancestral sampling of the model's own distribution.
  More varied, less clean.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from clipsearch.types import Floats

TOKENS, DIGITS, LEVELS = 16, 64, 16
NOISE = 1.0  # of the confidence at the first step; falls to nothing
TEMPERATURE = 0.7  # of the digits under "confidence"; "random" takes the odds as they are
SAMPLERS = ("confidence", "random")
Odds = Callable[[Floats, Floats], Floats]


def sample(
    odds: Odds, random: np.random.Generator, steps: int, sampler: str, known: tuple[Floats, NDArray[np.bool_]] | None
) -> Floats:
    """Return levels float32 (16, 64), 0..15.

    Args:
        odds: levels and mask, float32 (16, 64) → logits (16, 64, 16).
        random: where chance comes from.
        steps: 1 or more.
        sampler: one of ``SAMPLERS``.
        known: levels and which of them stay, or None to start from nothing.
    """
    levels = np.zeros((TOKENS, DIGITS), np.float32) if known is None else known[0].copy()
    open_ = np.ones((TOKENS, DIGITS), bool) if known is None else ~known[1]
    order = random.random(levels.shape)
    total = int(open_.sum())
    for step in range(steps):
        left = int(total * np.cos((step + 1) / steps * np.pi / 2)) if step + 1 < steps else 0
        logits = odds(levels, open_.astype(np.float32)).astype(np.float64)
        drawn, sure = _draw(logits, random, 1.0 if sampler == "random" else TEMPERATURE)
        if sampler == "confidence":
            order = sure + NOISE * (1 - (step + 1) / steps) * random.gumbel(size=sure.shape)
        decide = _highest(np.where(open_, order, -np.inf), int(open_.sum()) - left)
        levels[decide] = drawn[decide]
        open_ &= ~decide
    return levels


def keep_of_source(
    levels: Floats, strength: float, random: np.random.Generator
) -> tuple[Floats, NDArray[np.bool_]] | None:
    """Return a picture's levels with a share ``1 - strength`` of the digits to keep; None to keep nothing."""
    kept = random.random(levels.shape) >= strength
    return (levels, kept) if kept.any() else None


def _draw(
    logits: NDArray[np.float64], random: np.random.Generator, temperature: float
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Draw a level for each digit (16, 64), and return with it the log-probability of what was drawn."""
    logits = logits / temperature
    logits -= logits.max(axis=-1, keepdims=True)
    chances = np.exp(logits)
    chances /= chances.sum(axis=-1, keepdims=True)
    drawn = (chances.cumsum(axis=-1) < random.random((*logits.shape[:2], 1))).sum(axis=-1)
    drawn = np.minimum(drawn, LEVELS - 1)
    sure = np.log(np.take_along_axis(chances, drawn[..., None], axis=-1)[..., 0] + 1e-12)
    return drawn, sure


def _highest(values: NDArray[np.float64], n: int) -> NDArray[np.bool_]:
    """Return where the ``n`` highest values are; of equals the first."""
    chosen = np.zeros(values.size, bool)
    chosen[np.argsort(-values, axis=None, kind="stable")[:n]] = True
    return chosen.reshape(values.shape)
