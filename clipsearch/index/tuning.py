"""Operating points: how hard to search for which recall, measured on this collection's own rows and queries.

An index has no recall; a *search* has one, for a kind of query. Text queries lie outside the distribution of the rows
(the modality gap) and need more lists than image queries do, so the two are measured apart, on queries with their own
row left out. Of all settings tried, those are kept that no other beats in both time and recall.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from clipsearch.index.base import EXACT, Effort, VectorIndex
from clipsearch.types import Floats, Ints, Neighbors

K = 10
NPROBES = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
REFINES = (5, 10, 20, 40, 80)
TIMED = 40  # queries asked one by one, for the clock
DEFAULT_RECALL = 0.97
ENOUGH = 0.0005  # a difference in recall not worth another search
BATCH = 8  # queries searched at once: each reads hundreds of scattered rows, pages that somebody must hand back
Tell = Callable[[int, int], None]
After = Callable[[], None]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Settings, the recall@10 they reached (0 to 1), and the milliseconds a query took, asked alone."""

    nprobe: int
    refine_factor: int
    recall: float
    ms: float

    @property
    def effort(self) -> Effort:
        """The settings, for a search."""
        return Effort(self.nprobe, self.refine_factor)


@dataclass(frozen=True, slots=True)
class Sample:
    """Held-back queries of one kind with their exact answers.

    Attributes:
        queries: (Q, D) float32.
        own: (Q,) id of the row that a query is itself, left out of its answers; -1 for none.
        scores: (Q, K) float32, the exact answers' scores, best first.
    """

    queries: Floats
    own: Ints
    scores: Floats


def recall_of(found: Neighbors, sample: Sample) -> float:
    """Return recall@10 (0 to 1): answers that score no less than the exact 10th are right, ties allowed."""
    if not len(sample.queries):
        return 1.0
    scores = without_own(found, sample.own).scores
    there = np.isfinite(sample.scores)
    last = np.where(there, sample.scores, np.inf).min(axis=1, keepdims=True)  # the worst right answer
    right = (np.isfinite(scores) & (scores >= last)).sum(axis=1)
    wanted = there.sum(axis=1)
    return float((np.minimum(right, wanted) / np.maximum(wanted, 1)).mean())


def measure(index: VectorIndex, sample: Sample, effort: Effort, after: After | None = None) -> OperatingPoint:
    """Measure one setting: recall on all queries, time on some, asked one by one.

    ``after`` is called after each batch: exact rows of a large index are pages that nobody needs again.
    """
    found = [_empty()]
    for start in range(0, len(sample.queries), BATCH):
        found.append(index.search(sample.queries[start : start + BATCH], K + 1, effort=effort))
        if after is not None:
            after()
    times = []
    for q in range(min(TIMED, len(sample.queries))):
        start = time.perf_counter()
        index.search(sample.queries[q : q + 1], K, effort=effort)
        times.append(time.perf_counter() - start)
        if after is not None and q % BATCH == 0:
            after()
    ms = round(statistics.median(times) * 1e3, 4) if times else 0.0
    return OperatingPoint(effort.nprobe, effort.refine_factor, round(recall_of(_stacked(found), sample), 4), ms)


def _empty() -> Neighbors:
    return Neighbors(np.empty((0, K + 1), np.int64), np.empty((0, K + 1), np.float32))


def _stacked(found: Sequence[Neighbors]) -> Neighbors:
    return Neighbors(np.concatenate([f.ids for f in found]), np.concatenate([f.scores for f in found]))


def tune(
    index: VectorIndex, nlist: int, sample: Sample, tell: Tell | None = None, after: After | None = None
) -> list[OperatingPoint]:
    """Measure a grid of settings and return the points worth having, cheapest first.

    More candidates are tried only as long as they find more, more lists only as long as something is missing.
    """
    points: list[OperatingPoint] = []
    nprobes = [nprobe for nprobe in NPROBES if nprobe < nlist] + ([nlist] if nlist <= NPROBES[-1] else [])
    for done, nprobe in enumerate(nprobes):
        if tell is not None:
            tell(done, len(nprobes))
        row: list[OperatingPoint] = []
        for refine in REFINES:
            row.append(measure(index, sample, Effort(nprobe, refine), after))
            if len(row) > 1 and row[-1].recall < row[-2].recall + ENOUGH:
                break
        points += row
        if max(point.recall for point in row) > 1 - ENOUGH:
            break
    return frontier(points)


def frontier(points: Sequence[OperatingPoint]) -> list[OperatingPoint]:
    """Return the points that no other beats in both time and recall, cheapest first."""
    kept: list[OperatingPoint] = []
    for point in sorted(points, key=lambda p: (p.ms, -p.recall)):
        if not kept or point.recall > kept[-1].recall:
            kept.append(point)
    return kept


def cheapest(points: Sequence[OperatingPoint], recall: float) -> OperatingPoint | None:
    """Return the cheapest point that reaches a recall, or None."""
    return min((point for point in points if point.recall >= recall), key=lambda p: p.ms, default=None)


def effort_for(points: Sequence[OperatingPoint], recall: float | None) -> Effort | None:
    """Return the settings for a recall: the cheapest that reach it, else comparing all rows, as 1 always does.

    Where no recall is asked (None) the default is a wish and not a demand: what reaches it, else the best there is;
    None comes back where nothing was measured.
    """
    if recall == 1 or (not points and recall is not None):
        return EXACT  # a sample that was answered without a miss promises nothing
    if not points:
        return None
    point = cheapest(points, DEFAULT_RECALL if recall is None else recall)
    if point is None and recall is None:
        point = max(points, key=lambda p: p.recall)
    return EXACT if point is None else point.effort


def without_own(found: Neighbors, own: Ints) -> Neighbors:
    """Take out each query's own row from its K + 1 answers; K are left."""
    ids, scores = found.ids.copy(), found.scores.copy()
    for q, id_ in enumerate(own):
        mine = np.flatnonzero(ids[q] == id_) if id_ >= 0 else np.empty(0, np.int64)
        if len(mine):
            ids[q, mine[0] : -1], scores[q, mine[0] : -1] = ids[q, mine[0] + 1 :], scores[q, mine[0] + 1 :]
    return Neighbors(ids[:, :K], scores[:, :K])
