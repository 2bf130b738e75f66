"""Learn what gives tags: labels, how their evidence is made, and the threshold that keeps a stated level."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clipsearch.describe.labels import Label, LabelSet, embed_labels, shipped_embeddings
from clipsearch.describe.mentions import mentioned
from clipsearch.describe.tagging import (
    Standard,
    Weighing,
    chance_threshold,
    fit,
    mirror,
    only_best,
    threshold,
)
from clipsearch.embed.base import Encoder
from clipsearch.errors import InputError
from clipsearch.evaluation.tags import TagScores, confusion, label_scores, tag_scores
from clipsearch.flows.captions import captions_by_image
from clipsearch.flows.evaluate import live_blocks
from clipsearch.flows.labelled import Labelled, Pairs, find_labelled
from clipsearch.flows.progress import Progress
from clipsearch.flows.sampling import ids_and_keys
from clipsearch.flows.tagger import COLUMN, LEVEL, Tagger, generic_words, widened
from clipsearch.match.scores import content_keys
from clipsearch.present.text import count
from clipsearch.store import Snapshot
from clipsearch.types import Floats

PAIRS = 8_000_000  # pictures times labels that are looked at to learn; all are looked at to give
MIN_WITNESSES = 100  # captioned pictures
MIN_MENTIONS = 50  # of labels, by their captions
MIN_TRUTH = 20  # pictures with a true label


@dataclass(frozen=True, slots=True)
class TagOptions:
    """How tags are given.

    Attributes:
        level: the share of the tags that is to be right, above 0 and below 1.
        single: at most one tag a picture.
        column: name of the column.
        file: where the labels were read from, "" where from none.
    """

    level: float = LEVEL
    single: bool = False
    column: str = COLUMN
    file: str = ""

    def check(self) -> None:
        """Raise InputError where an option makes no sense."""
        if not 0 < self.level < 1:
            raise InputError(
                f"The level is {self.level:g}; it is a share of the tags above 0 and below 1, such as 0.8."
            )


@dataclass(frozen=True, slots=True, eq=False)
class Learnt:
    """A tagger, and what is known of how well it does."""

    tagger: Tagger
    learnt_on: int = 0
    measured: TagScores | None = None
    by_label: tuple[TagScores, ...] = ()
    confusion: NDArray[np.int64] | None = None
    notes: tuple[str, ...] = ()


def learn(
    snapshot: Snapshot,
    encoder: Encoder,
    labels: LabelSet,
    options: TagOptions,
    truth: "Pairs | str | os.PathLike[str] | None" = None,
    tell: Callable[[Progress], None] = lambda _: None,
) -> tuple[Learnt, tuple[str, ...]]:
    """Return what gives tags at the level asked for, and the labels that the model does not understand."""
    known, withheld = _understood(labels, encoder)
    witnesses = find_labelled(snapshot, known.names, truth) if truth is not None else None
    # as they are kept beside the column, so that pictures that come later get the very same tags
    embeddings = embed_known(known, encoder, tell).astype(np.float16).astype(np.float32)
    ids, keys = ids_and_keys(snapshot)
    background = generic_words(snapshot.path, encoder)
    most = max(PAIRS // max(len(known.labels), 1), 200)
    some = np.sort(ids[np.argsort(keys, kind="stable")[:most]])
    rows = widened(snapshot.embeddings("images", some))
    draft = Tagger(
        names=tuple(known.names),
        embeddings=embeddings,
        standard=Standard.of(rows @ embeddings.T),
        weighing=Weighing.by_chance(len(known.labels)),
        threshold=float("inf"),
        single=options.single,
        level=options.level,
        source="chance",
        fingerprint=encoder.fingerprint(),
        version=snapshot.version,
        pictures=snapshot.count("images"),
        file=options.file,
    )
    if witnesses is not None:
        if len(witnesses.ids) < MIN_TRUTH:
            few = count(len(witnesses.ids), "picture has", "pictures have")
            raise InputError(
                f"Only {few} a true label; at least {MIN_TRUTH} are needed.\n"
                "Label more pictures, or leave out the truth."
            )
        return _by_witnesses(snapshot, draft, background, witnesses, "truth", most), withheld
    witnesses = _captioned(snapshot, known.labels, most)
    if witnesses is not None:
        return _by_witnesses(snapshot, draft, background, witnesses, "captions", most), withheld
    return Learnt(_by_chance(draft, rows, background)), withheld


def embed_known(labels: LabelSet, encoder: Encoder, tell: Callable[[Progress], None] = lambda _: None) -> Floats:
    """Return the embeddings (L, D) of labels, shipped ones where there are any."""
    shipped = shipped_embeddings(labels, encoder.fingerprint())
    if shipped is not None:
        return shipped
    return embed_labels(labels, encoder.encode_texts, lambda done, total: tell(Progress("labels", done, total)))


def _understood(labels: LabelSet, encoder: Encoder) -> tuple[LabelSet, tuple[str, ...]]:
    """Part the labels in those that the model understands and the names of the others."""
    if labels.is_default:
        return labels, ()
    good = tuple(label for label in labels.labels if all(map(encoder.covers_text, label.words or (label.name,))))
    if not good:
        raise InputError(
            f"The model {encoder.name!r} understands none of the labels ({labels.names[0]!r} ...).\n"
            "Write them in a language it knows; or make a collection with a multilingual model: clipsearch models list"
        )
    kept = {label.name for label in good}
    withheld = tuple(label.name for label in labels.labels if label.name not in kept)
    return replace(labels, labels=good), withheld


def _captioned(snapshot: Snapshot, labels: Sequence[Label], most: int) -> Labelled | None:
    """Return the pictures that have captions with the labels these mention; None where they are too few to learn."""
    by_image = captions_by_image(snapshot)
    if len(by_image) < MIN_WITNESSES:
        return None
    live = np.concatenate([block.ids for block in live_blocks(snapshot)])
    ids = np.intersect1d(np.array(list(by_image), dtype=np.int64), live)[:most]
    texts = [by_image[id_] for id_ in ids.tolist()]
    said = iter(snapshot.rows("texts", [id_ for group in texts for id_ in group]))
    captions = [[next(said)["text"] for _ in group] for group in texts]
    found = mentioned([(label.name, *label.words) for label in labels], captions)
    if len(ids) < MIN_WITNESSES or found.sum() < MIN_MENTIONS:
        return None
    return Labelled(ids, found)


def _by_witnesses(
    snapshot: Snapshot, draft: Tagger, background: Floats, known: Labelled, source: str, most: int
) -> Learnt:
    """Choose weights and threshold on labelled pictures, each half measured by what the other one chose."""
    ids, truth = known.ids[:most], known.truth[:most]
    embeddings = snapshot.embeddings("images", ids)
    half = content_keys(embeddings) % np.uint64(2) == 0
    made = draft.features(widened(embeddings), background)
    evidence = np.zeros(truth.shape, np.float32)
    given = np.zeros(truth.shape, dtype=bool)
    if half.any() and not half.all():
        for chooses in (half, ~half):
            weighing, value = _choose(made[chooses], truth[chooses], draft)
            found = _shaped(weighing.evidence(made[~chooses]), draft)
            evidence[~chooses] = weighing.evidence(made[~chooses])
            given[~chooses] = found >= value
    weighing, value = _choose(made, truth, draft)
    tagger = replace(draft, weighing=weighing, threshold=value, source=source)
    notes = list(known.notes)
    if np.isinf(value):
        notes.append(
            f"No threshold keeps {draft.level:.0%} of the tags right here, so none is given. "
            "Ask for a lower level, or for other labels."
        )
    one = truth.sum(axis=1) == 1
    matrix = None
    if source == "truth" and one.any():
        matrix = confusion(evidence[one].argmax(axis=1), truth[one].argmax(axis=1), truth.shape[1])
    return Learnt(tagger, len(ids), tag_scores(given, truth), tuple(label_scores(given, truth)), matrix, tuple(notes))


def _choose(made: Floats, truth: NDArray[np.bool_], draft: Tagger) -> tuple[Weighing, float]:
    if not truth.any() or truth.all():
        return Weighing.by_chance(truth.shape[1]), float("inf")
    weighing = fit(made, truth)
    return weighing, threshold(_shaped(weighing.evidence(made), draft), truth, draft.level).value


def _shaped(evidence: Floats, draft: Tagger) -> Floats:
    return only_best(evidence) if draft.single else evidence


def _by_chance(draft: Tagger, rows: Floats, background: Floats) -> Tagger:
    """Choose the threshold by what chance would give."""
    made = draft.features(rows, background)
    found, other = draft.weighing.evidence(made), mirror(made)
    if draft.single:
        found, other = only_best(found), only_best(other)
    return replace(draft, threshold=chance_threshold(found, other, draft.level))
