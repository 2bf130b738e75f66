"""Use the rungs that are on: put the pictures nearest to a text query into a new order.

The plain query finds the pictures, and the verdict is given on what it found, as it was calibrated. Only then are the
``DEPTH`` nearest put into the order of plain score plus terms. So scores stay the cosines of the query as it was asked,
an approximate index is asked what its settings were measured for, and with rungs or without the same evidence decides
whether anything matches.

A picture drawn for the query is part of that order only where a search asks for it (``flows/imagine.py``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from clipsearch.augment import DRAWN, RUNGS
from clipsearch.augment.base import Rung, term
from clipsearch.evaluation.paired import Change
from clipsearch.flows.augment_files import AugmentEvidence, Imagining, Kept, load_kept
from clipsearch.flows.augment_trial import DEPTH
from clipsearch.flows.calibrate_rows import live_ids
from clipsearch.store import Snapshot
from clipsearch.types import Floats, Ints, Reordering

GONE = 0.05  # share of the rows that may go before what was measured is stale; rows that come make it so at once
AGAIN = "'clipsearch augment fit' renews it"
NOT_DRAWN = "imagined: not used: it was measured for one text in a language of the model, among all pictures."


class _Part(Protocol):
    @property
    def kind(self) -> str: ...
    @property
    def value(self) -> Any: ...  # Any: a text, a picture or a vector
    @property
    def weight(self) -> float: ...


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """The embedding (D,) of a picture drawn for a query, or None, and what there is to say of it."""

    embedding: Floats | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Augmenter:
    """The rungs in use.

    Attributes:
        rungs: with the weight of each.
        note: why they are not used although they are on.
        imagined: what was measured of pictures drawn for queries; ``unmeasured`` says why there is nothing.
        draw: draws a picture for a text, where the search asks for it.
        said: what there is to say of every answer.
    """

    rungs: Mapping[str, tuple[float, Rung]] = field(default_factory=dict)
    note: str | None = None
    imagined: Imagining | None = None
    unmeasured: str = "it was not measured here"
    draw: Callable[[str], Drawn] | None = None
    said: tuple[str, ...] = ()

    @property
    def nearest(self) -> int:
        """Rows that a new order is made of; 0 where none is made."""
        return DEPTH if self.rungs else 0

    def notes(self, terms: Sequence[_Part]) -> tuple[str, ...]:
        """Return what there is to say of the answer to a query, whether or not rungs were used for it."""
        return (self.note, *self.said) if self.note and len(terms) == 1 and terms[0].kind == "text" else self.said

    def without_rungs(self) -> "Augmenter":
        """Return what is used for queries of a kind that was not measured."""
        return Augmenter(said=(NOT_DRAWN,) if self.draw else self.said)

    def drawn(self, terms: Sequence[_Part], covered: bool) -> Drawn:
        """Return the picture drawn for a query, where one is asked for."""
        if self.draw is None:
            return Drawn()
        return self.draw(terms[0].value) if self.covers(terms, covered) else Drawn(note=NOT_DRAWN)

    def covers(self, terms: Sequence[_Part], covered: bool) -> bool:
        """Tell whether a query is of the kind that was measured: one text, in a language that the encoder knows."""
        return bool(self.rungs) and covered and len(terms) == 1 and terms[0].kind == "text" and terms[0].weight > 0

    def reorder(
        self, snapshot: Snapshot, query: Floats, ids: Ints, scores: Floats, drawn: Floats | None = None
    ) -> tuple[Ints, Floats, tuple[Reordering, ...]]:
        """Return ids and plain scores in the new order, and what changed.

        Args:
            snapshot: where the pictures are.
            query: (D,) float32, unit norm.
            ids: (m,) pictures nearest to it, best first, -1 where there is none; those beyond ``DEPTH`` stay.
            scores: (m,) their plain scores.
            drawn: (D,) a picture drawn for the query; None leaves the rungs in ``DRAWN`` out.
        """
        rungs = {name: part for name, part in self.rungs.items() if drawn is not None or name not in DRAWN}
        if not rungs:
            return ids, scores, ()
        there = int((ids >= 0).sum())
        m = min(there, DEPTH)
        rows = snapshot.embeddings("images", ids[:m]).astype(np.float32)
        terms = {name: np.float32(weight) * term(rung, query, rows, drawn) for name, (weight, rung) in rungs.items()}
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
    if kept is None:
        return Augmenter()
    if kept.evidence.off:
        return Augmenter(unmeasured="augmentation is switched off")
    why = staleness(kept, snapshot)
    if why:
        note = f"augmentation is not used: {why}; {AGAIN}."
        return Augmenter(note=note if kept.evidence.on else None, unmeasured=why)
    try:
        rungs = {rung.name: (rung.weight, _load(kept, rung.name)) for rung in kept.evidence.on}
    except (KeyError, ValueError) as problem:
        why = f"what was fitted cannot be read ({problem})"
        return Augmenter(note=f"augmentation is not used: {why}; {AGAIN}.", unmeasured=why)
    return Augmenter(rungs, imagined=kept.evidence.imagined)


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
    why = staleness(kept, snapshot)
    imagined = "" if why or evidence.imagined is None else f"; {_describe_imagined(evidence.imagined)}"
    if not evidence.on:
        return f"off: no rung helped{imagined}"
    return f"not used: {why}; {AGAIN}" if why else f"{summary(evidence)}{imagined}"


def _describe_imagined(known: Imagining) -> str:
    what = "with search --imagine" if known.rung.on else "off"
    return f"imagined ({known.generator}): {what}, R@10 {change_line(known.rung.r10)} on {known.asked:,} captions"


def summary(evidence: AugmentEvidence) -> str:
    """Return which rungs are on and what they change together, in one line."""
    names = " + ".join(rung.name for rung in evidence.on)
    return f"{names}: R@10 {change_line(evidence.trial.change)} on {evidence.pairs:,} held-back captions"


def change_line(change: Change) -> str:
    """Return a change and its interval in points."""
    return f"{100 * change.value:+.1f} points [{100 * change.low:+.1f}, {100 * change.high:+.1f}]"
