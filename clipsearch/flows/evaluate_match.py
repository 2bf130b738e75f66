"""Measure the verdicts on a collection: how often they are wrong, by kind of query, before and after growth.

The truth comes from the collection itself. In each repetition whole concepts (about a seventh of the pictures) are
taken out, and the rest is calibrated as ``index`` does. Then queries are asked that the rest has not seen:

- *absent*: captions and pictures of the concepts taken out. A ``match`` is a false accept.
- *answerable*: captions of pictures that are there, taken out of the collection before it was calibrated; and pictures
  taken out one by one, whose concept is still there. A ``none`` is a false reject.

Each repetition takes other concepts, until all had their turn; then they are shuffled and it starts again. The same is
measured at a quarter and at ten elevenths of the pictures, each calibrated anew, and with the old calibration kept
through the growth from there to all of them. Searches refuse that last one; its figures say why.

Beside the verdict stands the best plain cosine, with a null made of the same queries and concepts in the same way.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from clipsearch.embed.base import Encoder
from clipsearch.errors import InputError
from clipsearch.evaluation.intervals import Share
from clipsearch.flows.calibrate_queries import Texts
from clipsearch.flows.calibrate_rows import fill_concepts, read_rows
from clipsearch.flows.match_trials import MIN_ASKED, Cell, repetition
from clipsearch.flows.memory import MemoryVersion
from clipsearch.flows.progress import Progress
from clipsearch.match import bank
from clipsearch.match.verdict import LEVELS
from clipsearch.present.text import count
from clipsearch.store import Snapshot
from clipsearch.types import Ints, Verdict

MIN_PICTURES = 160  # with fewer, what is left would be too few to calibrate
LARGEST = 10_000  # pictures measured on; of more a sample is taken
CONCEPTS = 40
TAKEN_OUT, MOST_TAKEN = 0.15, 0.4  # share of the pictures in a repetition; a concept with more stays


@dataclass(frozen=True, slots=True)
class MatchRow:
    """What was measured for one kind of query on one size of the collection.

    Attributes:
        kind: "keyword", "phrase", "sentence" or "image".
        calibrated: pictures that the calibration was made on; ``searched``: pictures in the collection by then.
        refused: whether searches refuse this calibration, as rows were added since.
        source: what the calibration's queries were.
        false_accept: share of absent queries that got ``match``.
        false_reject: share of answerable queries that got ``none``.
        found: share of answerable queries that got ``match``; ``told``: of absent ones that got ``none``.
        cosine_false_accept: the same as ``false_accept``, for the best plain cosine; ``cosine_found`` likewise.
        auroc: chance that an answerable query has more evidence than an absent one; ``cosine_auroc``: more cosine.
        worst: of the concept with the most false accepts, where one had at least 20 queries.
        worst_example: a query of it.
        ks: largest distance of absent queries' p-values from uniform on the unsafe side; 0 is perfect.
    """

    kind: str
    calibrated: int
    searched: int
    refused: bool
    source: str
    false_accept: Share
    false_reject: Share
    found: Share
    told: Share
    cosine_false_accept: Share
    cosine_found: Share
    auroc: Share
    cosine_auroc: Share
    worst: Share | None
    worst_example: str | None
    ks: float


@dataclass(frozen=True, slots=True)
class MatchReport:
    """How often verdicts are wrong on a collection.

    Attributes:
        images: pictures measured on; ``captions``: captions of them.
        target: "image" or "text", what was searched.
        levels: what the verdicts promise.
        rows: the figures.
        notes: what could not be measured, and why.
    """

    model: str
    target: str
    images: int
    captions: int
    repetitions: int
    seed: int
    levels: dict[str, float]
    rows: tuple[MatchRow, ...]
    notes: tuple[str, ...] = ()


def evaluate_match(
    snapshot: Snapshot,
    encoder: Encoder,
    *,
    target: str = "image",
    repetitions: int = 8,
    seed: int = 0,
    tell: Callable[[Progress], None] | None = None,
) -> MatchReport:
    """Measure the verdicts of searches for pictures (``target`` "image") or captions ("text").

    Raises:
        InputError: the collection is too small, or has no captions where they are searched.
    """
    _check(snapshot.count("images"), snapshot.count("texts"), target)
    whole = MemoryVersion.read(snapshot, LARGEST)
    rows = measure(whole, encoder, target=target, repetitions=repetitions, seed=seed, tell=tell)
    return MatchReport(
        model=encoder.name,
        target=target,
        images=whole.count("images"),
        captions=whole.count("texts"),
        repetitions=repetitions,
        seed=seed,
        levels=LEVELS.as_dict(),
        rows=rows,
        notes=_notes(snapshot, whole, rows),
    )


def _check(images: int, texts: int, target: str) -> None:
    if images < MIN_PICTURES:
        raise InputError(
            f"The collection has {count(images, 'picture')}; measuring verdicts takes whole concepts out and needs at "
            f"least {MIN_PICTURES}.\nIndex more pictures."
        )
    if target == "text" and texts < MIN_PICTURES:
        held = count(texts, "caption")
        raise InputError(
            f"The collection has {held}; measuring searches for captions needs at least {MIN_PICTURES}.\n"
            "Add some: clipsearch index FOLDER --captions captions.csv"
        )


def _notes(snapshot: Snapshot, whole: MemoryVersion, rows: tuple[MatchRow, ...]) -> tuple[str, ...]:
    notes = []
    if whole.count("images") < snapshot.count("images"):
        notes.append(f"measured on {whole.count('images'):,} of the {snapshot.count('images'):,} pictures")
    measured = {row.kind for row in rows}
    if not whole.count("texts"):
        notes.append("not measured: words; without captions nobody knows which words have an answer here")
    elif missing := [kind for kind in bank.KINDS if kind not in measured]:
        notes.append(f"not measured: {', '.join(missing)}; fewer than {MIN_ASKED} queries of them; add captions")
    if "image" not in measured:
        notes.append(f"not measured: pictures as queries; fewer than {MIN_ASKED}; take more repetitions")
    return tuple(notes)


def measure(
    whole: MemoryVersion,
    encoder: Encoder,
    *,
    target: str = "image",
    repetitions: int = 8,
    seed: int = 0,
    tell: Callable[[Progress], None] | None = None,
    tower: Texts | None = None,
) -> tuple[MatchRow, ...]:
    """Return the figures of a collection in memory; ``tower`` remembers texts beyond the call."""
    tower = tower or Texts(encoder, {})
    labels = concepts_of(whole, encoder)
    cells: dict[tuple[str, str, str], Cell] = {}
    for number, taken in enumerate(_turns(labels, repetitions, seed)):
        rng = np.random.default_rng((seed, number))
        repetition(whole, labels, taken, tower, target, rng, cells)
        if tell is not None:
            tell(Progress("measure", number + 1, repetitions))
    order = {kind: n for n, kind in enumerate((*bank.KINDS, "image"))}
    keys = sorted(cells, key=lambda key: order[key[0]])  # stable: settings stay in their order
    return tuple(
        _row(kind, old != new, cell)
        for kind, old, new in keys
        for cell in [cells[kind, old, new]]
        if min(len(set(cell.absent.queries)), len(set(cell.answerable.queries))) >= MIN_ASKED
    )


def concepts_of(version: MemoryVersion, encoder: Encoder) -> Ints:
    """Return the concept (n,) of each picture, about ``CONCEPTS`` of them."""
    images, texts = (read_rows(version, kind, encoder.dim, None) for kind in ("images", "texts"))
    fill_concepts(version, images, texts, CONCEPTS)
    return images.concepts


def _turns(labels: Ints, repetitions: int, seed: int) -> Iterator[Ints]:
    """Yield the concepts that each repetition takes out: all in turn, then shuffled anew."""
    rng = np.random.default_rng(seed)
    concepts, sizes = np.unique(labels, return_counts=True)
    usual = np.flatnonzero(sizes <= MOST_TAKEN * len(labels))
    waiting: list[int] = []
    for _ in range(repetitions):
        taken: list[int] = []
        while len(taken) < len(usual) and sizes[taken].sum() < TAKEN_OUT * len(labels):
            waiting = waiting or rng.permutation(usual).tolist()
            taken += [waiting.pop()]
        yield concepts[np.unique(taken)] if taken else concepts[:0]


def _row(kind: str, refused: bool, cell: Cell) -> MatchRow:
    worst = cell.absent.worst()
    p = np.sort(np.concatenate(cell.absent.p))
    return MatchRow(
        kind=kind,
        calibrated=round(np.mean(cell.calibrated)),
        searched=round(np.mean(cell.searched)),
        refused=refused,
        source=cell.source,
        false_accept=cell.absent.share(Verdict.MATCH),
        false_reject=cell.answerable.share(Verdict.NONE),
        found=cell.answerable.share(Verdict.MATCH),
        told=cell.absent.share(Verdict.NONE),
        cosine_false_accept=cell.absent.share_accepted(),
        cosine_found=cell.answerable.share_accepted(),
        auroc=_mean(cell.auroc),
        cosine_auroc=_mean(cell.plain_auroc),
        worst=None if worst is None else worst[0],
        worst_example=None if worst is None else worst[1],
        ks=max(float((np.arange(1, len(p) + 1) / len(p) - p).max()), 0.0),
    )


def _mean(values: list[float]) -> Share:
    """Return the mean over repetitions, with 1.96 standard errors on both sides."""
    half = 1.96 * float(np.std(values, ddof=1)) / np.sqrt(len(values)) if len(values) > 1 else 1.0
    mean = float(np.mean(values))
    return Share(mean, max(mean - half, 0.0), min(mean + half, 1.0), len(values))
