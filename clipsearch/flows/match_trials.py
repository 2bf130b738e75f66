"""One repetition of measuring verdicts: take concepts out, calibrate the rest, ask; see ``evaluate_match``."""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from clipsearch.evaluation.intervals import Share, grouped_share
from clipsearch.flows.calibrate import make_calibration
from clipsearch.flows.calibrate_queries import Texts
from clipsearch.flows.calibration_files import Target
from clipsearch.flows.memory import MemoryRows, MemoryVersion
from clipsearch.match import bank
from clipsearch.match.calibration import MIN_ROWS, Block, Nearest, asked_again, find_nearest, separation
from clipsearch.match.verdict import KindNull, judge
from clipsearch.types import Floats, Ints, Verdict

ASKED = 400  # queries of a kind in a repetition, absent and answerable each
HELD_SHARE = 0.10  # pictures taken out one by one
MIN_ASKED = 20
SIZES = {"all": 1.0, "10/11": 10 / 11, "1/4": 1 / 4}
Found = tuple["Asked", Nearest]
NO_ROWS: Floats = np.empty((0, 0), np.float32)


@dataclass(frozen=True)
class Asked:
    """Queries of one kind: names (Q), embeddings (Q, D), concepts (Q,)."""

    names: list[str]
    embeddings: Floats
    concepts: Ints


@dataclass(frozen=True)
class Made:
    """A part of the collection, its calibration, the references of the best plain cosine, and its rows."""

    version: MemoryVersion
    target: Target
    plain: dict[str, KindNull]
    block: Block

    def blocks(self) -> list[Block]:
        """Return all rows."""
        return [self.block]


@dataclass
class Answers:
    """What became of the queries of one kind in one setting: arrays (m,), one entry a query asked.

    ``queries`` and ``concepts`` say which; ``verdicts``, and ``accepted`` by the plain cosine, what came of them.
    """

    queries: list[str] = field(default_factory=list)
    concepts: list[Ints] = field(default_factory=list)
    verdicts: list[NDArray[np.str_]] = field(default_factory=list)
    accepted: list[NDArray[np.bool_]] = field(default_factory=list)
    p: list[NDArray[np.float64]] = field(default_factory=list)

    def add(self, asked: Asked, nearest: Nearest, reference: KindNull, plain: KindNull) -> tuple[Floats, Floats]:
        """Note what became of queries, and return the evidence (Q,) and the best plain cosine (Q,)."""
        evidence, cosine = nearest.evidence(reference.hub, reference.depth), nearest.evidence(0.0, 1)
        judged = [judge(float(e), reference) for e in evidence]
        self.queries += asked.names
        self.concepts.append(asked.concepts)
        self.verdicts.append(np.array([str(verdict) for verdict, _ in judged]))
        self.accepted.append(np.array([judge(float(c), plain)[0] == Verdict.MATCH for c in cosine]))
        self.p.append(np.array([p for _, p in judged]))
        return evidence, cosine

    def share(self, verdict: Verdict) -> Share:
        """Return the share that got a verdict."""
        return self._share(np.concatenate(self.verdicts) == str(verdict))

    def share_accepted(self) -> Share:
        """Return the share that the plain cosine accepted."""
        return self._share(np.concatenate(self.accepted))

    def _share(self, hits: NDArray[np.bool_]) -> Share:
        return grouped_share(hits, np.concatenate(self.concepts), len(set(self.queries)))

    def worst(self) -> tuple[Share, str] | None:
        """Return the share of ``match`` in the concept with the most, and one of its queries."""
        concepts, hits = np.concatenate(self.concepts), np.concatenate(self.verdicts) == str(Verdict.MATCH)
        found: list[tuple[Share, str]] = []
        for concept in np.unique(concepts):
            at = np.flatnonzero(concepts == concept)
            asked = [self.queries[i] for i in at]
            if len(set(asked)) >= MIN_ASKED:
                found.append((grouped_share(hits[at], np.array(asked), len(set(asked))), asked[0]))
        return max(found, key=lambda one: one[0].value, default=None)


@dataclass
class Cell:
    """All repetitions of one kind of query in one setting."""

    source: str = ""
    calibrated: list[int] = field(default_factory=list)
    searched: list[int] = field(default_factory=list)
    absent: Answers = field(default_factory=Answers)
    answerable: Answers = field(default_factory=Answers)
    auroc: list[float] = field(default_factory=list)
    plain_auroc: list[float] = field(default_factory=list)

    def add(self, kind: str, old: Made, now: Made, absent: Found, there: Found) -> None:
        """Judge what ``now`` found with the reference samples of ``old``; hubs are those of the rows searched."""
        reference, plain = old.target.kinds[kind], old.plain[kind]
        self.source = reference.source
        self.calibrated.append(old.version.count("images"))
        self.searched.append(now.version.count("images"))
        wrong, wrong_cosine = self.absent.add(*absent, reference, plain)
        right, right_cosine = self.answerable.add(*there, reference, plain)
        self.auroc.append(separation(wrong, right))
        self.plain_auroc.append(separation(wrong_cosine, right_cosine))


def repetition(
    whole: MemoryVersion,
    labels: Ints,
    taken: Ints,
    tower: Texts,
    target: str,
    rng: np.random.Generator,
    cells: dict[tuple[str, str, str], Cell],
) -> None:
    """Take concepts out, calibrate the rest in all sizes, ask, and add what came of it to the cells."""
    out = np.isin(labels, taken)
    left = rng.permutation(np.flatnonzero(~out))
    held, stay = np.split(left, [min(int(HELD_SHARE * len(left)), ASKED)])
    captions = Captions.of(whole, rng)
    asked = captions.to_ask(stay)
    made: dict[str, Made] = {}
    for name, share in SIZES.items():
        members = np.zeros(len(labels), bool)
        members[stay[: round(share * len(stay))]] = True
        part = whole.part(members, captions.ids[asked])
        if part.count("images") >= MIN_ROWS and part.count(f"{target}s") >= MIN_ROWS:
            made[name] = _make(part, tower, f"{target}s")
    for kind in (*bank.KINDS, "image"):
        for new, now in made.items():
            if kind == "image":
                absent, there = _pictures(whole, np.flatnonzero(out), labels), _pictures(whole, held, labels)
            else:
                here = asked[np.isin(captions.owners[asked], now.version.kinds["images"].ids)]
                absent = captions.as_kind(captions.of_pictures(np.flatnonzero(out)), kind, labels, tower)
                there = captions.as_kind(here, kind, labels, tower)
            if not (absent.names and there.names):
                continue
            found = [(asked, find_nearest(asked.embeddings, now.blocks)) for asked in (absent, there)]
            for old in made if new == "all" else (new,):
                if kind in made[old].target.kinds:
                    cells.setdefault((kind, old, new), Cell()).add(kind, made[old], now, *found)


@dataclass(frozen=True)
class Captions:
    """The captions of a collection: ids and pictures' ids (n,), positions of the pictures (n,), and an order."""

    ids: Ints
    owners: Ints
    at: Ints
    order: Ints
    rows: MemoryRows

    @classmethod
    def of(cls, whole: MemoryVersion, rng: np.random.Generator) -> "Captions":
        """Return those of a collection, shuffled."""
        rows = whole.kinds["texts"]
        at = np.searchsorted(whole.kinds["images"].ids, rows.owners)
        return cls(rows.ids, rows.owners, at, rng.permutation(len(rows.ids)), rows)

    def of_pictures(self, pictures: Ints) -> Ints:
        """Return one caption (m,) of each picture, given by position, that has any; at most ``ASKED``, by chance."""
        chosen = self.order[np.isin(self.at[self.order], pictures)]
        _, first = np.unique(self.at[chosen], return_index=True)
        return chosen[np.sort(first)][:ASKED]

    def to_ask(self, pictures: Ints) -> Ints:
        """Return captions to take out and ask: of a picture's only ones no more than a quarter."""
        chosen = self.of_pictures(pictures)
        only = np.bincount(self.at, minlength=1)[self.at[chosen]] == 1
        return np.sort(np.concatenate((chosen[~only], chosen[only][: only.sum() // 4])))

    def as_kind(self, chosen: Ints, kind: str, labels: Ints, tower: Texts) -> "Asked":
        """Return captions as different queries of a kind."""
        found: dict[str, int] = {}
        for i in chosen.tolist():
            text = bank.as_kind(self.rows.texts[i], kind)
            if text is not None and tower.covers(text):
                found.setdefault(text, i)
        names, at = list(found), np.array(list(found.values()), dtype=np.int64)
        if kind == "sentence":  # as it stands, so it was embedded already
            tower.learn(names, self.rows.embeddings[at])
        return Asked(names, tower.embed(names), labels[self.at[at]]) if names else Asked([], NO_ROWS, at)


def _pictures(whole: MemoryVersion, at: Ints, labels: Ints) -> Asked:
    images, at = whole.kinds["images"], at[:ASKED]
    return Asked([str(i) for i in images.ids[at]], images.embeddings[at].astype(np.float32), labels[at])


def _make(version: MemoryVersion, tower: Texts, kind: str) -> Made:
    target = make_calibration(version, tower, only=kind).targets[kind]
    rows = version.kinds[kind]
    block = Block(rows.ids, rows.embeddings.astype(np.float32), target.hubs, target.concepts, target.owners)
    plain = {
        name: asked_again(replace(known, hub=0.0, depth=1), target.queries[name], lambda: [block])
        for name, known in target.kinds.items()
    }
    return Made(version, target, plain, block)
