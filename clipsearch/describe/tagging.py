"""From scores to tags: which labels a picture gets, at a stated level.

The cosine of a picture and a label says little by itself: some labels are near to every picture, some pictures to every
label. Three numbers say more (``features``):

- z: how far the score stands above the label's scores over the collection, in standard deviations;
- m: how far it stands above (or below) the best other label of the picture, times 20;
- r: how far it stands above what generic words score on this picture, in standard deviations.

*With witnesses* (true labels, or captions that mention labels) a logistic regression weighs the three, with a bias for
each label drawn towards the common one, so that rare labels borrow from the others. The tag is given where the evidence
(log odds) reaches the lowest threshold above which at least the stated share of the tags was right.

*Without witnesses* nobody can know how often a tag is right. What can be told is how often chance alone would give one:
evidence is then min(z, r), and as scores of absent labels scatter to both sides alike, those as far *below* the middle
count what chance puts above it. The threshold is the lowest at which they are at most 1 - level of the tags given.
Labels that are taken for each other (wolf and dog) are not chance, so the share that is right is lower than the level.
"""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.types import Floats

Bools = NDArray[np.bool_]
Doubles = NDArray[np.float64]
N_FEATURES = 3
RIDGE = 0.5  # pull of a label's bias towards the common one
LEAST_GIVEN = 10  # tags below which a share says nothing
MARGIN = 20.0
LOW_END = (0.05, 0.30)  # quantiles of scores, below which there are only pictures without the label
_NORMAL = tuple(NormalDist().inv_cdf(share) for share in LOW_END)
_STEPS = 60
_TINY = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Standard:
    """A label's scores over a collection: mean and standard deviation (L,)."""

    center: Floats
    scale: Floats

    @classmethod
    def of(cls, scores: NDArray[Any]) -> "Standard":
        """Measure scores (n, L)."""
        wide = scores.astype(np.float64)
        return cls(wide.mean(axis=0).astype(np.float32), np.maximum(wide.std(axis=0), _TINY).astype(np.float32))

    @classmethod
    def of_absent(cls, scores: NDArray[Any]) -> "Standard":
        """Measure scores (n, L) where a label is not: of the normal distribution that fits their low end.

        Two quantiles at the low end tell mean and deviation of the pictures without it, however far above them the
        others are; with a third of the pictures above, the deviation comes out a seventh too wide.
        """
        low, high = np.quantile(scores.astype(np.float64), LOW_END, axis=0)
        scale = np.maximum((high - low) / (_NORMAL[1] - _NORMAL[0]), _TINY)
        return cls((high - _NORMAL[1] * scale).astype(np.float32), scale.astype(np.float32))

    def z(self, scores: NDArray[Any]) -> Floats:
        """Return scores (n, L) in standard deviations from the mean."""
        return ((scores - self.center) / self.scale).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """What generic words score on each picture: mean and standard deviation (n, 1)."""

    center: Floats
    scale: Floats

    @classmethod
    def of(cls, scores: NDArray[Any]) -> "Background":
        """Measure scores (n, B) of generic words."""
        wide = scores.astype(np.float64)
        spread = np.maximum(wide.std(axis=1, keepdims=True), _TINY)
        return cls(wide.mean(axis=1, keepdims=True).astype(np.float32), spread.astype(np.float32))

    def r(self, scores: NDArray[Any]) -> Floats:
        """Return scores (n, L) in standard deviations from the mean of generic words."""
        return ((scores - self.center) / self.scale).astype(np.float32)


def features(scores: Floats, standard: Standard, background: Background) -> Floats:
    """Return z, m and r of scores (n, L): (n, L, 3) float32."""
    made = np.zeros((*scores.shape, N_FEATURES), np.float32)
    made[..., 0] = standard.z(scores)
    if scores.shape[1] > 1:
        two = np.partition(scores, -2, axis=1)[:, -2:]
        best, second = two.max(axis=1, keepdims=True), two.min(axis=1, keepdims=True)
        made[..., 1] = MARGIN * (scores - np.where(scores == best, second, best))
    made[..., 2] = background.r(scores)
    return made


@dataclass(frozen=True, slots=True, eq=False)
class Weighing:
    """How evidence is made: weights (3,) of the features, and a bias (L,) for each label; no weights: min(z, r)."""

    weights: Doubles | None
    biases: Doubles

    def evidence(self, made: Floats) -> Floats:
        """Return the evidence (n, L) of features (n, L, 3)."""
        if self.weights is None:
            return np.minimum(made[..., 0], made[..., 2])
        return (made @ self.weights.astype(np.float32) + self.biases.astype(np.float32)).astype(np.float32)

    @classmethod
    def by_chance(cls, n_labels: int) -> "Weighing":
        """Return the weighing that needs no witness."""
        return cls(None, np.zeros(n_labels))


def fit(made: Floats, truth: Bools) -> Weighing:
    """Return the weighing that explains which labels are there.

    Newton's method on the penalised likelihood. The Hessian is an arrow (three weights and a diagonal of biases), so a
    step costs no more than a look at the data.

    Args:
        made: (n, L, 3) features.
        truth: (n, L) whether the label is there; some are and some are not.
    """
    x, y = made.astype(np.float64), truth.astype(np.float64)
    share = min(max(float(y.mean()), _TINY), 1 - _TINY)
    common = float(np.log(share / (1 - share)))
    w, b = np.zeros(N_FEATURES), np.full(y.shape[1], common)
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(x @ w + b, -50, 50)))
        error, v = y - p, p * (1 - p)
        slope_w = np.einsum("nl,nlf->f", error, x) - 1e-3 * w
        slope_b = error.sum(axis=0) - RIDGE * (b - common)
        vx = v[..., None] * x
        cross = vx.sum(axis=0).T  # (3, L)
        diagonal = v.sum(axis=0) + RIDGE
        square = np.tensordot(vx, x, axes=((0, 1), (0, 1))) + 1e-3 * np.eye(N_FEATURES)
        step_w = np.linalg.solve(square - (cross / diagonal) @ cross.T, slope_w - (cross / diagonal) @ slope_b)
        step_b = (slope_b - cross.T @ step_w) / diagonal
        largest = max(np.abs(step_w).max(), np.abs(step_b).max() / 2)
        scale = min(1.0, 1.0 / largest) if largest > 0 else 1.0  # far from the top a full step may fall over it
        w, b = w + scale * step_w, b + scale * step_b
        if largest < 1e-5:
            break
    return Weighing(w, b)


def only_best(evidence: Floats) -> Floats:
    """Return evidence (n, L) with all but the best label of each picture at -inf: at most one tag a picture."""
    kept = np.full_like(evidence, -np.inf)
    best = evidence.argmax(axis=1)
    rows = np.arange(len(evidence))
    kept[rows, best] = evidence[rows, best]
    return kept


@dataclass(frozen=True, slots=True)
class Threshold:
    """From which evidence on a tag is given; how many were given and right where it was chosen."""

    value: float
    given: int
    right: int


NEVER = Threshold(float("inf"), 0, 0)


def threshold(evidence: Floats, truth: Bools, level: float) -> Threshold:
    """Return the lowest threshold above which at least ``level`` of the tags are right; infinite where none is."""
    flat, right = evidence.ravel(), truth.ravel()
    order = np.argsort(-flat, kind="stable")
    order = order[np.isfinite(flat[order])]
    hits = np.cumsum(right[order])
    enough = hits >= level * np.arange(1, len(order) + 1)
    enough[:-1] &= flat[order][:-1] > flat[order][1:]  # a threshold cannot part equals
    at = np.flatnonzero(enough)
    if not len(at) or at[-1] + 1 < LEAST_GIVEN:
        return NEVER
    last = int(at[-1])
    return Threshold(float(flat[order][last]), last + 1, int(hits[last]))


def chance_threshold(evidence: Floats, mirrored: Floats, level: float) -> float:
    """Return the lowest threshold at which chance gives at most 1 - level of the tags.

    Args:
        evidence: (n, L) min(z, r).
        mirrored: (n, L) how far each lies on the other side of the middle, by z or by r (``mirror``).
        level: share of the tags that chance is not to have given.
    """
    above = np.sort(evidence[evidence > 0].ravel())[::-1]
    below = np.sort(mirrored[mirrored > 0].ravel())[::-1]
    if not len(above):
        return float("inf")
    by_chance = np.searchsorted(-below, -above, side="right")
    good = np.flatnonzero(1 + by_chance <= (1 - level) * np.arange(1, len(above) + 1))
    return float(above[good[-1]]) if len(good) else float("inf")


def mirror(made: Floats) -> Floats:
    """Return how far features (n, L, 3) lie on the other side of the middle, by z or by r: max(-z, -r), (n, L)."""
    return np.maximum(-made[..., 0], -made[..., 2])
