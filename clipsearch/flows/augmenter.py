"""Use the rungs that are on: put the pictures nearest to a text query into a new order.

The plain query finds the pictures, and the verdict is given on what it found, as it was calibrated. Only then are the
``DEPTH`` nearest put into the order of plain score plus terms. So scores stay the cosines of the query as it was asked,
an approximate index is asked what its settings were measured for, and with rungs or without the same evidence decides
whether anything matches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from clipsearch.augment import RUNGS
from clipsearch.augment.base import Rung, term
from clipsearch.flows.augment_files import AugmentEvidence, Kept, load_kept
from clipsearch.flows.augment_trial import DEPTH
from clipsearch.flows.calibrate_rows import live_ids
from clipsearch.store import Snapshot
from clipsearch.types import Floats, Ints, Reordering

GONE = 0.05  # share of the rows that may go before what was measured is stale; rows that come make it so at once
AGAIN = "'clipsearch augment fit' renews it"


class _Part(Protocol):
    @property
    def kind(self) -> str: ...
    @property
    def weight(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Augmenter:
    """The rungs in use, with the weight of each; ``note`` says why they are not used although they are on."""

    rungs: Mapping[str, tuple[float, Rung]] = field(default_factory=dict)
    note: str | None = None

    @property
    def nearest(self) -> int:
        """Rows that a new order is made of; 0 where none is made."""
        return DEPTH if self.rungs else 0

    def notes(self, terms: Sequence[_Part]) -> tuple[str, ...]:
        """Return what there is to say of the answer to a query that rungs would have been used for."""
        return (self.note,) if self.note and len(terms) == 1 and terms[0].kind == "text" else ()

    def covers(self, terms: Sequence[_Part], covered: bool) -> bool:
        """Tell whether a query is of the kind that was measured: one text, in a language that the encoder knows."""
        return bool(self.rungs) and covered and len(terms) == 1 and terms[0].kind == "text" and terms[0].weight > 0

    def reorder(
        self, snapshot: Snapshot, query: Floats, ids: Ints, scores: Floats
    ) -> tuple[Ints, Floats, tuple[Reordering, ...]]:
        """Return ids and plain scores in the new order, and what changed.

        Args:
            snapshot: where the pictures are.
            query: (D,) float32, unit norm.
            ids: (m,) pictures nearest to it, best first, -1 where there is none; those beyond ``DEPTH`` stay.
            scores: (m,) their plain scores.
        """
        there = int((ids >= 0).sum())
        m = min(there, DEPTH)
        rows = snapshot.embeddings("images", ids[:m]).astype(np.float32)
        terms = {name: np.float32(weight) * term(rung, query, rows) for name, (weight, rung) in self.rungs.items()}
        total = np.sum([scores[:m], *terms.values()], axis=0, dtype=np.float64)
        order = np.concatenate([np.lexsort((ids[:m], -total)), np.arange(m, there)]).astype(np.int64)
        # what a term adds to all alike changes nothing, so it is told from its middle
        told = {name: added - np.median(added) for name, added in terms.items()} if m else {}
        why = tuple(
            Reordering(int(at) + 1, {name: float(added[at]) for name, added in told.items()} if at < m else {})
            for at in order
        )
        return ids[order], scores[order], why


def make_augmenter(snapshot: Snapshot) -> Augmenter:
    """Return the rungs that are on for this version of a collection."""
    kept = load_kept(snapshot.path)
    if kept is None or not kept.evidence.on:
        return Augmenter()
    why = staleness(kept, snapshot)
    if why:
        return Augmenter(note=f"augmentation is not used: {why}; {AGAIN}.")
    try:
        return Augmenter({rung.name: (rung.weight, _load(kept, rung.name)) for rung in kept.evidence.on})
    except (KeyError, ValueError) as problem:
        return Augmenter(note=f"augmentation is not used: what was fitted cannot be read ({problem}); {AGAIN}.")


def _load(kept: Kept, name: str) -> Rung:
    return RUNGS.load(name).load(kept.rungs[name])


def staleness(kept: Kept, snapshot: Snapshot) -> str | None:
    """Say why what was measured does not hold for a version, or None where it does."""
    if kept.evidence.fingerprint != str(snapshot.manifest.encoder.get("fingerprint")):
        return "it was measured with other weights of the model"
    if snapshot.manifest.has_rows_of(kept.evidence.version):
        return None
    for kind, what in (("images", "pictures"), ("texts", "captions")):
        live, known = live_ids(snapshot, kind), kept.rows[kind]
        same = int(np.isin(live, known, assume_unique=True).sum())
        new, gone = len(live) - same, len(known) - same
        if new or gone > GONE * len(known):
            return f"{new:,} {what} were added and {gone:,} removed since it was measured"
    return None


def describe(snapshot: Snapshot) -> str:
    """Return in one line which rungs searches use, or why none."""
    kept = load_kept(snapshot.path)
    if kept is None:
        return "not measured: 'clipsearch augment fit' does so"
    evidence = kept.evidence
    if evidence.off:
        return "switched off"
    if not evidence.on:
        return "off: no rung helped"
    why = staleness(kept, snapshot)
    return f"not used: {why}; {AGAIN}" if why else summary(evidence)


def summary(evidence: AugmentEvidence) -> str:
    """Return which rungs are on and what they change together, in one line."""
    names, change = " + ".join(rung.name for rung in evidence.on), evidence.trial.change
    return (
        f"{names}: R@10 {100 * change.value:+.1f} points [{100 * change.low:+.1f}, {100 * change.high:+.1f}] "
        f"on {evidence.pairs:,} held-back captions"
    )
