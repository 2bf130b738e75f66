"""Measure the way from pictures to words: labels, tags and captions, each against what is true."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clipsearch.describe.labels import LabelSet, make_labels
from clipsearch.embed.base import Encoder
from clipsearch.errors import InputError
from clipsearch.evaluation.captioning import CaptionScores, caption_scores
from clipsearch.evaluation.intervals import Share, grouped_share
from clipsearch.evaluation.tags import TagScores, label_scores, ranks_of, tag_scores
from clipsearch.flows.captions import ImagePlaces, read_pairs
from clipsearch.flows.labelled import Pairs, find_labelled, read_labelled
from clipsearch.flows.tag_learn import embed_known
from clipsearch.flows.tagger import load_tagger, widened
from clipsearch.present.text import count
from clipsearch.scan.captions import Problems, read_texts
from clipsearch.store import Snapshot
from clipsearch.types import Floats

_CHUNK = 1_024


@dataclass(frozen=True, slots=True)
class LabelAccuracy:
    """Zero-shot classification: the share of pictures whose true label ranks first, or among the first five."""

    pictures: int
    labels: int
    top1: Share
    top5: Share
    by_label: tuple[tuple[str, Share], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TagAccuracy:
    """Stored tags against true labels; ``level`` is what was promised, by the word of ``source``; None if unknown."""

    column: str
    pictures: int
    level: float | None
    source: str | None
    scores: TagScores
    by_label: tuple[tuple[str, TagScores], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CaptionAccuracy:
    """Captions that retrieval gives, against references; ``candidates`` are the texts that it chose from.

    ``missing`` counts pictures of the references that the collection lacks; ``notes`` say what could not be read.
    """

    pictures: int
    candidates: int
    scores: CaptionScores
    missing: int
    notes: tuple[str, ...] = ()


def evaluate_labels(
    snapshot: Snapshot, encoder: Encoder, truth: "Pairs | str | os.PathLike[str]", labels: LabelSet | None = None
) -> LabelAccuracy:
    """Measure zero-shot classification on labelled pictures of the collection.

    Args:
        snapshot: the collection.
        encoder: its encoder.
        truth: (image, label) pairs, a CSV, or a folder of labelled folders.
        labels: what to choose from; None takes the labels of the truth.

    Raises:
        InputError: no pair can be used.
    """
    pairs = read_labelled(truth) if isinstance(truth, str | os.PathLike) else list(truth)
    asked = labels or make_labels(sorted({label for _, label in pairs}))
    known = find_labelled(snapshot, asked.names, truth)
    some = known.truth.any(axis=1)
    scores = widened(snapshot.embeddings("images", known.ids[some])) @ embed_known(asked, encoder).T
    ranks = ranks_of(scores, known.truth[some])
    by_label = [
        (name, _share(ranks[known.truth[some][:, n]] == 1))
        for n, name in enumerate(asked.names)
        if known.truth[some][:, n].any()
    ]
    return LabelAccuracy(
        len(ranks), len(asked.names), _share(ranks == 1), _share(ranks <= 5), tuple(by_label), known.notes
    )


def evaluate_tags(snapshot: Snapshot, truth: "Pairs | str | os.PathLike[str]", column: str) -> TagAccuracy:
    """Measure stored tags against true labels.

    Raises:
        InputError: there is no such column, or no pair can be used.
    """
    if column not in snapshot.added_columns():
        raise InputError(f"The collection has no column {column!r} of tags. Make one: clipsearch tag")
    pairs = read_labelled(truth) if isinstance(truth, str | os.PathLike) else list(truth)
    tagger = load_tagger(snapshot, column)
    names = list(tagger.names) if tagger is not None else sorted({label for _, label in pairs})
    known = find_labelled(snapshot, names, truth)
    table = snapshot.metadata_table("images").select(["id", column])
    if not str(table.schema.field(column).type).startswith(("list", "large_list")):
        raise InputError(f"The column {column!r} holds no tags. Give one that clipsearch tag made.")
    stored = dict(zip(*(values.to_pylist() for values in table.columns), strict=True))
    at = {name: n for n, name in enumerate(names)}
    given = np.zeros(known.truth.shape, dtype=bool)
    for row, id_ in enumerate(known.ids.tolist()):
        given[row, [at[tag] for tag in stored.get(id_) or () if tag in at]] = True
    untagged = sum(stored.get(id_) is None for id_ in known.ids.tolist())
    notes = known.notes
    if untagged:
        notes = (
            *notes,
            f"{count(untagged, 'of the pictures was', 'of the pictures were')} never tagged; run clipsearch tag again.",
        )
    return TagAccuracy(
        column=column,
        pictures=len(known.ids),
        level=None if tagger is None else tagger.level,
        source=None if tagger is None else tagger.source,
        scores=tag_scores(given, known.truth),
        by_label=tuple(zip(names, label_scores(given, known.truth), strict=True)),
        notes=notes,
    )


def evaluate_descriptions(
    snapshot: Snapshot, encoder: Encoder, references: str | os.PathLike[str], bank: str | os.PathLike[str] | None = None
) -> CaptionAccuracy:
    """Measure the caption that retrieval gives each picture of the references.

    The caption is chosen among the texts of a bank, or among those of the collection that belong to no picture of the
    references: else a picture would be given its own reference.

    Raises:
        InputError: no picture of the references is in the collection, or there is no text to choose from.
    """
    places = ImagePlaces.of(snapshot)
    beside = os.path.dirname(os.path.abspath(os.fsencode(references)))
    folders = [*(snapshot.root_path(root.id) for root in snapshot.manifest.roots), beside]
    wanted: dict[int, list[str]] = {}
    missing: set[str] = set()
    problems, others = Problems(), Problems()
    for image, caption in read_pairs(references, problems):
        id_ = places.find(os.fsencode(image), folders)
        if id_ is None:
            missing.add(image)
        else:
            wanted.setdefault(id_, []).append(caption)
    if not wanted:
        raise InputError(f"No picture of {references} is in the collection. Give paths relative to the indexed folder.")
    texts, rows = _candidates(snapshot, encoder, set(wanted), bank, others)
    pictures = widened(snapshot.embeddings("images", list(wanted)))
    said = [texts[int(n)] for n in _best(pictures, rows)]
    notes = (*problems.notes(os.fspath(references)), *others.notes("" if bank is None else os.fspath(bank)))
    return CaptionAccuracy(len(said), len(texts), caption_scores(said, list(wanted.values())), len(missing), notes)


def _candidates(
    snapshot: Snapshot, encoder: Encoder, own: set[int], bank: str | os.PathLike[str] | None, problems: Problems
) -> tuple[list[str], Floats]:
    """Return the texts to choose from and their embeddings (n, D)."""
    if bank is not None:
        texts = list(dict.fromkeys(said.text for said in read_texts(bank, problems)))
        if texts:
            return texts, np.concatenate([encoder.encode_texts(texts[n : n + 256]) for n in range(0, len(texts), 256)])
    else:
        kept = [text for text in snapshot.captions() if text.image_id not in own]
        if kept:
            return [text.text for text in kept], widened(snapshot.embeddings("texts", [text.id for text in kept]))
    raise InputError(
        "There is no text to choose from: every caption belongs to a picture of the references. Give --bank."
    )


def _best(pictures: Floats, rows: Floats) -> list[int]:
    parts = range(0, len(pictures), _CHUNK)
    return [int(n) for start in parts for n in (pictures[start : start + _CHUNK] @ rows.T).argmax(axis=1)]


def _share(hits: "Sequence[bool] | np.ndarray[tuple[int], np.dtype[np.bool_]]") -> Share:
    array = np.asarray(hits, dtype=bool)
    return grouped_share(array, np.arange(len(array)), len(array))
