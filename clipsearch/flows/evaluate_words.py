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
from clipsearch.flows.folding import words_of
from clipsearch.flows.labelled import Pairs, find_labelled, read_labelled
from clipsearch.flows.tag_learn import embed_known
from clipsearch.flows.tagger import load_tagger, widened
from clipsearch.present.text import count
from clipsearch.scan.captions import Problems, read_texts
from clipsearch.store import Snapshot
from clipsearch.types import Floats, Ints

_CHUNK = 1_024  # pictures in memory at a time, where texts are few
_CELLS = 2**26  # scores in memory at a time, where texts are many
_FEW = 10  # texts to choose from, below which a choice says little


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

    Pictures choose from fewer where some of the candidates are their own. ``missing`` counts pictures of the references
    that the collection lacks; ``notes`` say what could not be read, and who had little to choose from.
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

    The caption is chosen among the texts of a bank, all of them; or among those of the collection, without the
    picture's own and those of the same words as one of its references: else it would be given its own reference.
    Pictures that no text is left for are left out.

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
    texts, rows, owners = _candidates(snapshot, encoder, bank, others)
    barred = [np.empty(0, np.int64)] * len(wanted) if owners is None else _barred(texts, owners, wanted)
    some = [n for n, theirs in enumerate(barred) if len(theirs) < len(texts)]
    if not some:
        raise InputError(
            "There is no text to choose from: a picture cannot be given its own captions. Give --bank captions.txt."
        )
    ids, captions = list(wanted), list(wanted.values())
    pictures = widened(snapshot.embeddings("images", [ids[n] for n in some]))
    said = [texts[n] for n in _best(pictures, rows, [barred[n] for n in some])]
    notes = (
        *problems.notes(os.fspath(references)),
        *others.notes("" if bank is None else os.fspath(bank)),
        *_few_notes([len(texts) - len(theirs) for theirs in barred]),
    )
    return CaptionAccuracy(
        len(said), len(texts), caption_scores(said, [captions[n] for n in some]), len(missing), notes
    )


def _candidates(
    snapshot: Snapshot, encoder: Encoder, bank: str | os.PathLike[str] | None, problems: Problems
) -> tuple[list[str], Floats, list[int | None] | None]:
    """Return the texts to choose from, their embeddings (n, D), and whose they are; None where they are of a bank."""
    if bank is not None:
        texts = list(dict.fromkeys(said.text for said in read_texts(bank, problems)))
        if not texts:
            raise InputError(f"{os.fspath(bank)} holds no text, so there is nothing to choose from.")
        rows = np.concatenate([encoder.encode_texts(texts[n : n + 256]) for n in range(0, len(texts), 256)])
        return texts, rows, None
    known = list(snapshot.captions())
    if not known:
        raise InputError("There is no text to choose from: the collection holds no captions. Give --bank captions.txt.")
    rows = widened(snapshot.embeddings("texts", [text.id for text in known]))
    return [text.text for text in known], rows, [text.image_id for text in known]


def _barred(texts: list[str], owners: Sequence[int | None], wanted: dict[int, list[str]]) -> list[Ints]:
    """Return for each picture with references the places of texts that it is not given."""
    references = {words_of(caption) for captions in wanted.values() for caption in captions}
    own: dict[int, list[int]] = {}
    same: dict[str, list[int]] = {}
    for place, (text, owner) in enumerate(zip(texts, owners, strict=True)):
        if owner is not None and owner in wanted:
            own.setdefault(owner, []).append(place)
        if (words := words_of(text)) in references:
            same.setdefault(words, []).append(place)
    return [
        np.unique(
            np.array(
                [*own.get(id_, ()), *(n for said in {*map(words_of, captions)} for n in same.get(said, ()))], np.int64
            )
        )
        for id_, captions in wanted.items()
    ]


def _few_notes(left: list[int]) -> tuple[str, ...]:
    """Say which pictures had few texts to choose from, or none; ``left`` counts those of each."""
    notes = []
    if none := sum(n == 0 for n in left):
        pictures = count(none, "picture is", "pictures are")
        notes.append(f"{pictures} left out, because all texts of the collection are their own. Give --bank.")
    if few := sum(0 < n < _FEW for n in left):
        pictures = count(few, "picture", "pictures")
        notes.append(f"{pictures} had fewer than {_FEW} texts to choose from, so the scores say little.")
    return tuple(notes)


def _best(pictures: Floats, rows: Floats, barred: list[Ints]) -> list[int]:
    """Return the place of the text (n, D) nearest to each picture (m, D), of those that it may be given."""
    best, step = [], max(1, min(_CHUNK, _CELLS // len(rows)))
    for start in range(0, len(pictures), step):
        scores = pictures[start : start + step] @ rows.T
        for row, places in zip(scores, barred[start:], strict=False):
            row[places] = -np.inf
        best += scores.argmax(axis=1).tolist()
    return best


def _share(hits: "Sequence[bool] | np.ndarray[tuple[int], np.dtype[np.bool_]]") -> Share:
    array = np.asarray(hits, dtype=bool)
    return grouped_share(array, np.arange(len(array)), len(array))
