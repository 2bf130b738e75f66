"""Give each answer its verdict, from the calibration beside the collection; cheap enough for every search.

What is looked at does not depend on how many hits were asked for: always the ``NEAREST`` best rows. Whatever stands in
the way of an honest answer makes the verdict ``uncalibrated``, and says what it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from clipsearch.flows.calibration_files import Calibration, Target
from clipsearch.match.bank import MAX_WORDS, kind_of
from clipsearch.match.calibration import MIN_ROWS
from clipsearch.match.scores import NEAREST, evidence
from clipsearch.match.verdict import LEVELS, judge
from clipsearch.present.text import count
from clipsearch.store import Snapshot
from clipsearch.types import Floats, Ints, Verdict

GONE = 0.05  # share of the rows that may go before a calibration is stale; rows that come make it so at once


class _Part(Protocol):
    @property
    def kind(self) -> str: ...
    @property
    def value(self) -> object: ...
    @property
    def weight(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, its p-value, and why there is none where there is none."""

    verdict: Verdict = Verdict.UNCALIBRATED
    p_value: float | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges answers from one kind of rows; ``why`` says why it cannot."""

    target: Target | None = None
    why: str | None = "the verdict was not asked for"

    @property
    def nearest(self) -> int:
        """Rows that a judgement looks at; 0 where it cannot be made anyway."""
        return 0 if self.target is None else NEAREST

    def judge(self, terms: Sequence[_Part], covered: bool, ids: Ints, scores: Floats) -> Judgement:
        """Judge one answer.

        Args:
            terms: the parts of the query.
            covered: whether the encoder knows the language of its texts.
            ids: (m,) nearest rows, best first, -1 where there is none.
            scores: (m,) their cosines.
        """
        if self.target is None:
            return Judgement(why=self.why)
        kind, why = kind_of_query(terms, covered)
        if kind is None or kind not in self.target.kinds:
            return Judgement(why=why or f"queries of the kind {kind!r} are not calibrated here")
        ids, scores = ids[:NEAREST], scores[:NEAREST]
        there = ids >= 0
        found = evidence_for(self.target, kind, ids[there], scores[there])
        if found is None:
            return Judgement(why="rows were added since the calibration")
        return Judgement(*judge(found, self.target.kinds[kind], LEVELS))


def kind_of_query(terms: Sequence[_Part], covered: bool) -> tuple[str | None, str | None]:
    """Return the kind that a query is calibrated as, or None and why there is none."""
    if len(terms) != 1 or terms[0].weight <= 0:
        return None, "sums of several parts are not calibrated"
    term = terms[0]
    if term.kind == "vector":
        return None, "vectors are not calibrated"
    if term.kind == "image":
        return "image", None
    if not covered:
        return None, "the model does not cover the language of the query"
    kind = kind_of(str(term.value))
    return kind, None if kind else f"queries without words, or of more than {MAX_WORDS}, are not calibrated"


def evidence_for(target: Target, kind: str, ids: Ints, scores: Floats) -> float | None:
    """Return the evidence for one query from its nearest rows (m,), or None where a row is not calibrated."""
    if not len(ids):
        return None
    at = np.minimum(np.searchsorted(target.ids, ids), len(target.ids) - 1)
    if not np.array_equal(target.ids[at], ids):
        return None
    reference = target.kinds[kind]
    return float(evidence(scores[None], target.hubs[at][None], reference.hub, reference.depth)[0])


def make_judge(calibration: Calibration | None, snapshot: Snapshot, kind: str) -> Judge:
    """Return who judges answers among the rows of a kind, "images" or "texts", of this version."""
    why = staleness(calibration, snapshot, kind)
    return Judge(None, why) if why or calibration is None else Judge(calibration.targets[kind], None)


def staleness(calibration: Calibration | None, snapshot: Snapshot, kind: str) -> str | None:
    """Say why a calibration cannot be used for the rows of a version, or None where it can."""
    n = snapshot.count(kind)
    if n < MIN_ROWS:
        what = "picture" if kind == "images" else "caption"
        return f"the collection has {count(n, what)}; at least {MIN_ROWS} are needed to calibrate"
    if calibration is None or kind not in calibration.targets:
        return "the collection is not calibrated; the next run of 'clipsearch index' does so"
    if calibration.fingerprint != snapshot.manifest.encoder.get("fingerprint"):
        return "the calibration was made with other weights; the next run of 'clipsearch index' renews it"
    if snapshot.manifest.has_rows_of(calibration.version):
        return None
    return _changes(calibration.targets[kind].ids, snapshot, kind)


def _changes(known: Ints, snapshot: Snapshot, kind: str) -> str | None:
    joined = np.concatenate([np.empty(0, np.int64), *(block.ids for block in snapshot.blocks(kind))])
    live = joined[~np.isin(joined, snapshot.deleted_ids())]
    kept = int(np.isin(live, known).sum())
    new, gone = len(live) - kept, len(known) - kept
    if new == 0 and gone <= GONE * len(known):
        return None
    return (
        f"{count(new, 'row was', 'rows were')} added and {gone:,} removed since the calibration; "
        "the next run of 'clipsearch index' renews it"
    )
