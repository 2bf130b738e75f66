"""From evidence to a p-value and a verdict.

A conformal p-value at or below 5 % keeps the level on average over all calibrations that one might have drawn. A
collection has one calibration only, its queries come from few concepts, and the user meets the same threshold every
time. So a match asks for more: so few of the null as high that the level holds with 90 % confidence (Clopper and
Pearson's bound): 8 of 258, not 11.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from clipsearch.types import Floats, Verdict


@dataclass(frozen=True, slots=True)
class Levels:
    """The error levels: share of absent queries that may get ``match``, of answerable ones that may get ``none``."""

    match: float = 0.05
    none: float = 0.10

    def as_dict(self) -> dict[str, float]:
        """Return them by verdict."""
        return {"match": self.match, "none": self.none}


LEVELS = Levels()
CONFIDENCE = 0.90


@dataclass(frozen=True, slots=True, eq=False)
class KindNull:
    """The two reference samples of one kind of query, each ascending float32.

    Attributes:
        null: (n,) evidence of queries that have nothing to find.
        answerable: (m,) evidence of queries that have something to find, or may have.
        source: what the queries were: "captions", "images" or "bank".
        concepts: concepts that they came from.
        depth: the best scores that evidence is the mean of.
        hub: how much of a row's hub is taken from its score: 0, a half or 1.
    """

    null: Floats
    answerable: Floats
    source: str
    concepts: int
    depth: int
    hub: float


def p_value(evidence: float, null: Floats) -> float:
    """Return the conformal p-value (1 + #{null >= evidence}) / (n + 1); ``null`` (n,) is ascending.

    Ties count against a match, so that the p-value of a query from the null is never too small.
    """
    at_least = len(null) - int(np.searchsorted(null, np.float32(evidence), side="left"))
    return (1 + at_least) / (len(null) + 1)


def lower_p_value(evidence: float, answerable: Floats) -> float:
    """Return (1 + #{answerable <= evidence}) / (m + 1); ``answerable`` (m,) is ascending."""
    at_most = int(np.searchsorted(answerable, np.float32(evidence), side="right"))
    return (1 + at_most) / (len(answerable) + 1)


@cache
def most_as_high(n: int, level: float, confidence: float = CONFIDENCE) -> int:
    """Return how many of ``n`` null scores may be as high as a match's; -1 where ``n`` is too small for any match.

    The largest c with P(Binomial(n, level) <= c) <= 1 - confidence. A match's p-value is then below ``level`` too.
    """
    total, c = 0.0, -1
    while c + 1 < n:
        log = math.lgamma(n + 1) - math.lgamma(c + 2) - math.lgamma(n - c)
        total += math.exp(log + (c + 1) * math.log(level) + (n - c - 1) * math.log1p(-level))
        if total > 1 - confidence:
            break
        c += 1
    return c


def judge(evidence: float, reference: KindNull, levels: Levels = LEVELS) -> tuple[Verdict, float]:
    """Return the verdict on a query, and its p-value."""
    p = p_value(evidence, reference.null)
    as_high = len(reference.null) - int(np.searchsorted(reference.null, np.float32(evidence), side="left"))
    if as_high <= most_as_high(len(reference.null), levels.match):
        return Verdict.MATCH, p
    if lower_p_value(evidence, reference.answerable) <= levels.none:
        return Verdict.NONE, p
    return Verdict.WEAK, p
