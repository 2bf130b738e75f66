"""Tag a collection: embed the labels, learn from which evidence on a tag is right, give the tags as a column.

What the level stands for depends on what there is to learn from, and the report says which it was:

- ``truth``: true labels of some pictures. Half of them choose the threshold and the other half measure it, then the
  other way round; the threshold in force is chosen on all.
- ``captions``: a label counts as right where a caption of the picture mentions it. Captions leave things out, so more
  tags are right than are counted.
- ``chance``: neither. At most 1 - level of the tags are such as chance gives; no precision can be stated.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from clipsearch.describe.labels import LabelSet
from clipsearch.embed.base import Encoder
from clipsearch.errors import InputError
from clipsearch.evaluation.tags import TagScores
from clipsearch.flows.evaluate import live_blocks
from clipsearch.flows.given import CHUNK, check_replaces, commit_given, not_busy
from clipsearch.flows.labelled import Pairs
from clipsearch.flows.progress import Progress
from clipsearch.flows.tag_learn import Learnt, TagOptions, learn
from clipsearch.flows.tagger import Tagger, generic_words, widened
from clipsearch.flows.xmp_files import XmpCounts, write_sidecars
from clipsearch.present.text import count
from clipsearch.store import AddedColumn, Snapshot, Store
from clipsearch.store.writer import check_column_name
from clipsearch.types import Floats, Ints


@dataclass(frozen=True, slots=True)
class LabelReport:
    """One label: how many pictures got it; with true labels, precision and recall measured on pictures held back."""

    name: str
    tagged: int
    measured: TagScores | None = None


@dataclass(frozen=True, slots=True)
class TagReport:
    """What a run did.

    Attributes:
        column: the column written.
        pictures: pictures looked at; ``tagged``: those with a tag; ``tags``: tags given.
        labels: each label, the most frequent first.
        level: what was asked for; ``source`` what it stands for: "truth", "captions" or "chance".
        learnt_on: pictures with true labels or captions that the threshold was chosen on.
        measured: precision and recall on pictures held back; against captions where the source is "captions".
        confusion: with one true label a picture: how often the label of a row was taken for that of a column, in the
            order of ``confusion_names``, when one must be chosen; empty otherwise.
        withheld: labels that the model does not understand; no picture gets them.
        notes: sentences a person should read.
        version: of the collection afterwards.
    """

    column: str
    pictures: int
    tagged: int
    tags: int
    labels: tuple[LabelReport, ...]
    level: float
    source: str
    learnt_on: int
    measured: TagScores | None
    confusion_names: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    withheld: tuple[str, ...]
    notes: tuple[str, ...]
    version: int


def tag(
    store: Store,
    encoder: Encoder,
    labels: LabelSet,
    options: TagOptions = TagOptions(),  # noqa: B008 (frozen)
    *,
    truth: "Pairs | str | os.PathLike[str] | None" = None,
    xmp: bool = False,
    wait: bool = False,
    tell: Callable[[Progress], None] | None = None,
) -> TagReport:
    """Tag all pictures of a collection; others may write to it while labels are embedded and scores compared.

    Args:
        store: the collection.
        encoder: its encoder.
        labels: what to look for.
        options: how.
        truth: true labels of some pictures: (image, label) pairs, a CSV, or a folder of labelled folders.
        xmp: write the tags beside the pictures too.
        wait: wait for another writer instead of raising LockedError.
        tell: called with how far it is.

    Raises:
        InputError: there is no picture, or the truth fits neither pictures nor labels.
        LockedError: another process is writing to the collection when this begins, or for long when this is done.
    """
    options.check()
    check_column_name(options.column)
    snapshot, start = not_busy(store, wait), time.monotonic()
    check_replaces(snapshot, options.column, Tagger.is_file)
    if not snapshot.count("images"):
        raise InputError("The collection holds no pictures, so there is nothing to tag. Index some first.")
    learnt, withheld = learn(snapshot, encoder, labels, options, truth, tell or (lambda _: None))
    giver = TagGiver(learnt.tagger, generic_words(snapshot.path, encoder))
    ids, given = give(snapshot, giver, tell)
    column = AddedColumn(options.column, ids, given, made=learnt.tagger.to_bytes())
    done = commit_given(store, snapshot, [(column, giver.give)], is_own=Tagger.is_file, wait=wait, since=start)
    column = done.columns[0]
    beside = _sidecar_notes(write_sidecars(done.snapshot, column.ids, column.values)) if xmp else ()
    notes = (*labels.notes, *learnt.notes, *beside)
    return _report(learnt, column.values, options, notes, withheld, done.version)


def _sidecar_notes(counts: XmpCounts) -> tuple[str, ...]:
    """Say what became of the sidecars."""
    notes = [f"XMP sidecars: {counts.written:,} written, {counts.unchanged:,} unchanged."]
    if counts.foreign:
        notes.append(f"Left alone, because other programs wrote them: {count(counts.foreign, 'sidecar')}.")
    if counts.no_file:
        notes.append(f"No file to write beside: {count(counts.no_file, 'picture')} (in tars or tables, or moved).")
    if counts.failed:
        notes.append(f"{count(counts.failed, 'sidecar')} could not be written: {counts.why}.")
    return tuple(notes)


def give(
    snapshot: Snapshot, giver: "TagGiver", tell: Callable[[Progress], None] | None = None
) -> tuple[Ints, list[list[str]]]:
    """Return ids (n,) of all live pictures and the tags of each, the surest first."""
    ids: list[Ints] = []
    tags: list[list[str]] = []
    for some, rows in picture_chunks(snapshot):
        ids.append(some)
        tags += giver.give(rows)
        if tell is not None:
            tell(Progress("tags", len(tags), snapshot.count("images")))
    return np.concatenate(ids), tags


@dataclass(frozen=True, slots=True, eq=False)
class TagGiver:
    """Gives pictures that came later the tags of a column that is there."""

    tagger: Tagger
    background: Floats
    type_: str = "texts"

    def give(self, rows: Floats) -> list[list[str]]:
        """Return the tags of pictures (n, D)."""
        return self.tagger.tags(rows, self.background)


def tag_giver(made: bytes, snapshot: Snapshot, encoder: Callable[[], Encoder]) -> TagGiver | None:
    """Return what gave a column of tags, with the threshold of then; None where something else made the column.

    Raises:
        InputError: it was made with other weights.
    """
    tagger = Tagger.from_bytes(made)
    if tagger is None:
        return None
    if tagger.fingerprint != encoder().fingerprint():
        raise InputError("its labels were embedded with other weights.")
    return TagGiver(tagger, generic_words(snapshot.path, encoder()))


def picture_chunks(snapshot: Snapshot) -> Iterator[tuple[Ints, Floats]]:
    """Yield ids and embeddings (b, D) float32 of unit norm of the live pictures, some at a time."""
    for block in live_blocks(snapshot):
        for start in range(0, len(block.ids), CHUNK):
            part = slice(start, start + CHUNK)
            yield block.ids[part], widened(block.embeddings[part])


def _report(
    learnt: Learnt,
    given: Sequence[Sequence[str]],
    options: TagOptions,
    notes: tuple[str, ...],
    withheld: tuple[str, ...],
    version: int,
) -> TagReport:
    counts = dict.fromkeys(learnt.tagger.names, 0)
    for tags in given:
        for name in tags:
            counts[name] += 1
    measured = dict(zip(learnt.tagger.names, learnt.by_label, strict=False))
    labels = [LabelReport(name, n, measured.get(name)) for name, n in counts.items()]
    if withheld:
        shown = ", ".join(withheld[:3]) + (f" and {len(withheld) - 3:,} more" if len(withheld) > 3 else "")
        notes = (*notes, f"The model does not understand {shown}; no picture gets such a tag.")
    return TagReport(
        column=options.column,
        pictures=len(given),
        tagged=sum(bool(tags) for tags in given),
        tags=sum(map(len, given)),
        labels=tuple(sorted(labels, key=lambda label: -label.tagged)),
        level=options.level,
        source=learnt.tagger.source,
        learnt_on=learnt.learnt_on,
        measured=learnt.measured,
        confusion_names=() if learnt.confusion is None else learnt.tagger.names,
        confusion=() if learnt.confusion is None else tuple(tuple(row) for row in learnt.confusion.tolist()),
        withheld=withheld,
        notes=notes,
        version=version,
    )
