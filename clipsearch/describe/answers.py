"""Rank the choices of a question for pictures, and know when none of them fits.

A statement's score is taken in standard deviations over the collection, so that statements that are near to every
picture gain nothing by it; a choice has the mean of its statements. Whether the best choice fits is a test against
fillers: the same form of statement with arbitrary words. Groups of as many fillers as there are choices are drawn, and

    p = (1 + groups whose best filler scores at least as high) / (groups + 1)

is the chance that arbitrary words would do as well. Above 5 % the answer is *none of these*.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.describe.tagging import Standard
from clipsearch.types import Floats

ALPHA = 0.05  # share of pictures of which arbitrary words would pass for an answer
NO = 0.5  # of a question for yes or no: words that fit no better than half of all are not there
GROUPS = 999


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """Choices for n pictures: scores (n, C), p-values (n,) of the best one, and probabilities (n, C) among them."""

    scores: Floats
    p_values: NDArray[np.float64]
    shares: NDArray[np.float64]


def choice_scores(rows: Floats, statements: Floats, owners: NDArray[np.int64], standard: Standard) -> Floats:
    """Return the score (n, C) of each choice for pictures (n, D): the mean over its statements (S, D).

    ``owners`` (S,) says which choice a statement belongs to, ascending; ``standard`` are the statements' scores over
    the collection.
    """
    z = standard.z(rows @ statements.T)
    starts = np.flatnonzero(np.r_[True, owners[1:] != owners[:-1]])
    return (np.add.reduceat(z, starts, axis=1) / np.bincount(owners)).astype(np.float32)


def rank(scores: Floats, fillers: Floats, seed: int = 0) -> Ranked:
    """Compare the choices (n, C) with fillers (n, F) for each picture."""
    drawn = np.random.default_rng(seed).integers(0, fillers.shape[1], (GROUPS, scores.shape[1]))
    best = scores.max(axis=1)
    if scores.shape[1] == 1:  # one statement: every filler is a group of its own
        as_good, groups = (fillers >= best[:, None]).sum(axis=1), fillers.shape[1]
    else:
        as_good = np.array([(row[drawn].max(axis=1) >= top).sum() for row, top in zip(fillers, best, strict=True)])
        groups = GROUPS
    weights = np.exp(scores.astype(np.float64) - best[:, None])
    return Ranked(scores, (1 + as_good) / (groups + 1), weights / weights.sum(axis=1, keepdims=True))


def yes_or_no(p_value: float) -> str | None:
    """Return "yes", "no", or None where it cannot be told."""
    return "yes" if p_value <= ALPHA else "no" if p_value > NO else None


def answer_of(ranked: Ranked, at: int, choices: Any) -> str | None:
    """Return the choice for a picture, or None where none of these fits."""
    return choices[int(ranked.scores[at].argmax())] if ranked.p_values[at] <= ALPHA else None
