"""Confidence intervals of shares: Clopper and Pearson's, and Korn and Graubard's where answers come in groups.

Clopper and Pearson's interval holds every share p that would not make the count at hand improbable: it covers at least
as often as it says, also near 0 and 1, where a normal approximation does not. Its ends are quantiles of the Beta
distribution, which a bisection on the incomplete beta function finds.

Queries of one concept stand or fall together, and one query may have been asked in several repetitions; counting each
as a trial of its own would make the interval too narrow. So the number of trials is replaced by the number of
independent ones that would scatter as much as the groups do (Korn and Graubard 1998), never more than there are
different queries.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Share:
    """A measured share: value, low and high end of its 95 % interval (0 to 1), and how many queries it is of."""

    value: float
    low: float
    high: float
    n: int


def clopper_pearson(successes: float, n: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the interval of a share of which ``successes`` among ``n`` were seen; neither need be whole."""
    tail = (1 - confidence) / 2
    low = 0.0 if successes <= 0 else _beta_quantile(tail, successes, n - successes + 1)
    high = 1.0 if successes >= n else _beta_quantile(1 - tail, successes + 1, n - successes)
    return low, high


def grouped_share(hits: NDArray[np.bool_], groups: NDArray[Any], different: int) -> Share:
    """Return the share of ``hits`` (m,) with its interval.

    Args:
        hits: whether each answer counts.
        groups: (m,) what answers stand or fall with, such as a concept.
        different: how many different queries there are among the m.
    """
    _, group = np.unique(groups, return_inverse=True)
    trials = np.bincount(group.reshape(-1))
    return _share(np.bincount(group.reshape(-1), weights=hits), trials, different)


def counted_share(hits: NDArray[Any], trials: NDArray[Any]) -> Share | None:
    """Return the share of hits among trials, both counted by group (g,); None without a trial.

    Where all is a hit or nothing, or there is one group, nothing shows how answers of a group go together; there each
    group counts once.
    """
    hits, trials = hits[trials > 0], trials[trials > 0]
    if not len(trials):
        return None
    m, is_mixed = int(trials.sum()), 0 < hits.sum() < trials.sum() and len(trials) > 1
    return replace(_share(hits, trials, m if is_mixed else len(trials)), n=m)


def _share(hits: NDArray[Any], trials: NDArray[Any], different: int) -> Share:
    m, count = int(trials.sum()), len(trials)
    p, n = float(hits.sum() / m), float(min(different, m))
    if 0 < p < 1 and count > 1:
        variance = float(((hits - p * trials) ** 2).sum()) / m**2 * count / (count - 1)
        n = min(n, p * (1 - p) / variance) if variance > 0 else n
    low, high = clopper_pearson(p * n, n)
    return Share(p, low, high, different)


def _beta_quantile(q: float, a: float, b: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if incomplete_beta(a, b, middle) < q else (low, middle)
    return (low + high) / 2


def incomplete_beta(a: float, b: float, x: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b), by its continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast on the other side only
        return 1.0 - incomplete_beta(b, a, 1 - x)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(front) / a / _fraction(a, b, x)


def _fraction(a: float, b: float, x: float) -> float:
    """Return 1 + d1 / (1 + d2 / (1 + ...)) by Lentz's method."""
    value, c, d = 1.0, 1.0, 0.0
    for step in range(1, 2000):
        m = step // 2
        if step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1.0 / (1.0 + term * d)
        c = 1.0 + term / c
        value *= c * d
        if abs(c * d - 1.0) < 1e-13:
            break
    return value
