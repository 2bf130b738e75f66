"""Rank the choices of a question for pictures, and know when none of them fits.

A choice has the mean cosine of its statements with the picture, and the best one ranks first. Whether it fits is a test
against *fillers*: the same form of statement with arbitrary words. Groups of as many fillers as there are choices are
drawn, and

    p = (1 + groups whose best filler scores at least as high) / (groups + 1)

is the chance that arbitrary words would do as well. Two scores are tested in that way:

- the cosine as it is, which does not ask how often a thing is met;
- standard deviations above what the statement scores on pictures *where it does not hold*. What a third of the pictures
  show (a dog, in a collection of dogs) lies hardly above the mean of all, so mean and deviation are taken from the low
  end of its scores, where the others are (``Standard.of_absent``).

The smaller p counts, doubled (Bonferroni), for there were two chances. Above 5 % the answer is *none of these*.

That test takes a statement as a whole, and a part of it may do for the rest: "a dog swimming" and "at the beach" fit
water and sand better than arbitrary words do, whether or not a dog is there. So what a question takes for granted is
tested by itself, as if one asked "is there a dog?", and where that fails the answer is *none of these* too (``TAKEN``).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.describe.tagging import Background
from clipsearch.types import Floats

ALPHA = 0.05  # share of pictures of which arbitrary words would pass for an answer
NO = 0.5  # of a question for yes or no: words that fit no better than half of all are not there
GROUPS = 999
# What a question takes for granted is there up to this p of "is there ...?". Chosen on one half of Flickr8k dev: of
# pictures without the thing about one in twenty passes (without people, who have many words, one in ten), and of those
# not all get an answer. Of pictures with people half have a p above 0.05, but only one in ten has one above 0.2.
TAKEN = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """Choices for n pictures: scores (n, C), p-values (n,) of the best one, and shares (n, C) among them.

    Scores are in standard deviations above what arbitrary words score on the picture.
    """

    scores: Floats
    p_values: NDArray[np.float64]
    shares: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """What the choices (n, C) and the fillers (n, F) score for n pictures, to be compared."""

    choices: Floats
    fillers: Floats


def by_choice(scores: Floats, owners: NDArray[np.int64]) -> Floats:
    """Return the mean score (n, C) of each choice over its statements (n, S).

    ``owners`` (S,) says which choice a statement belongs to, ascending.
    """
    starts = np.flatnonzero(np.r_[True, owners[1:] != owners[:-1]])
    return (np.add.reduceat(scores, starts, axis=1) / np.bincount(owners)).astype(np.float32)


def rank(plain: Compared, above: Compared, seed: int = 0) -> Ranked:
    """Rank the choices of each picture by their cosines, and test the best one in both ways.

    Args:
        plain: cosines.
        above: standard deviations above what statements score where they do not hold.
        seed: of the groups of fillers.
    """
    best = plain.choices.argmax(axis=1)
    p = 2 * np.minimum(_p_values(plain, best, seed), _p_values(above, best, seed))
    scores = Background.of(plain.fillers).r(plain.choices)
    weights = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    return Ranked(scores, np.minimum(p, 1.0), weights / weights.sum(axis=1, keepdims=True))


def smallest_alone(plain: Compared, above: Compared) -> NDArray[np.float64]:
    """Return for each picture the smallest p (n,) of its choices, each tested as if it were the only one."""
    each = [
        rank(Compared(plain.choices[:, [n]], plain.fillers), Compared(above.choices[:, [n]], above.fillers)).p_values
        for n in range(plain.choices.shape[1])
    ]
    return np.min(each, axis=0)


def _p_values(test: Compared, best: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Return for each picture the chance (n,) that arbitrary words would score as its best choice does."""
    reached = np.take_along_axis(test.choices, best[:, None], axis=1)
    if test.choices.shape[1] == 1:  # one statement: every filler is a group of its own
        return (1 + (test.fillers >= reached).sum(axis=1)) / (test.fillers.shape[1] + 1)
    drawn = np.random.default_rng(seed).integers(0, test.fillers.shape[1], (GROUPS, test.choices.shape[1]))
    as_good = [(row[drawn].max(axis=1) >= top).sum() for row, top in zip(test.fillers, reached, strict=True)]
    return (1 + np.array(as_good)) / (GROUPS + 1)


def yes_or_no(p_value: float) -> str | None:
    """Return "yes", "no", or None where it cannot be told."""
    return "yes" if p_value <= ALPHA else "no" if p_value > NO else None


def answer_of(ranked: Ranked, at: int, choices: Any) -> str | None:
    """Return the choice for a picture, or None where none of these fits."""
    return choices[int(ranked.scores[at].argmax())] if ranked.p_values[at] <= ALPHA else None
