"""Take ready embeddings into a collection: read, bring to unit norm, store; no picture is opened, no model is run.

The walk: each part of the source is read block by block; rows without a direction (NaN, infinity, all zeros) are
refused by name, as bad pictures are; the rest is committed as columns, some 65,536 rows at a time. With each commit
goes the *ledger*: how many rows of which file are in, and under which ids. It becomes real with the rows or not at all,
so a killed run goes on at the very row, a second run does nothing, and the rows of a file that changed (by size or
time) or went away leave.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.embed.card import load_card
from clipsearch.errors import InputError, ManifestMismatchError
from clipsearch.flows.identity import UNKNOWN
from clipsearch.flows.import_ledger import Entry, Ledger
from clipsearch.flows.progress import Progress
from clipsearch.flows.unit_rows import unit_rows
from clipsearch.scan.embeddings import EmbeddingSource, Part, Rows
from clipsearch.store import NO_HASH, Columns, Store, Writer
from clipsearch.types import Halves, Ints, Skip, SkipReason

COMMIT_ROWS = 65_536
COMMIT_BYTES = 256 * 2**20  # of embeddings, so that long ones take no more memory
_BLOCK = 16_384
_WHY = {SkipReason.NON_FINITE: "NaN or infinity, or no embedding", SkipReason.ZERO_EMBEDDING: "all zeros"}


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What one import did.

    Attributes:
        images: rows taken over as images; ``texts``: as captions.
        unchanged: rows of the source that were there already.
        deleted: images that left, their file having changed or gone.
        skips: rows that were refused, in this run or one before.
        images_total: live images of the collection afterwards; ``texts_total``: captions.
        stages: seconds by stage.
        version: the manifest version afterwards.
        columns: rows that got a value in each column that was added before, such as tags.
    """

    images: int
    texts: int
    unchanged: int
    deleted: int
    skips: tuple[Skip, ...]
    images_total: int
    texts_total: int
    seconds: float
    stages: Mapping[str, float]
    version: int
    notes: tuple[str, ...] = ()
    columns: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Piece:
    """Rows that wait for a commit; ``linked`` (m,) are the positions in ``images`` that ``texts`` belong to."""

    entry: Entry
    images: Halves
    columns: dict[str, list[Any]]
    texts: Halves
    captions: list[str]
    linked: Ints
    first: int = 0  # id of the first image, once it has one


@dataclass
class _Run:
    writer: Writer
    ledger: Ledger
    root: int
    commit_rows: int
    tell: Callable[[Progress], None]
    total: int
    pending: list[_Piece] = field(default_factory=list)
    images: int = 0
    texts: int = 0
    stages: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time inside to a stage."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.stages[stage] = self.stages.get(stage, 0.0) + time.monotonic() - start


def import_embeddings(
    store: Store,
    source: EmbeddingSource,
    *,
    model: str | None = None,
    commit_rows: int = COMMIT_ROWS,
    wait: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> ImportReport:
    """Bring a collection up to date with a source of ready embeddings.

    Args:
        store: the collection.
        source: from ``open_embeddings``.
        model: name of the encoder that made the embeddings; may be left out for one that nobody knows, and for a
            source that was imported before.
        commit_rows: rows after which work is committed.
        wait: wait for another writer instead of raising LockedError.
        progress: called now and then with how far the run is.

    Raises:
        ManifestMismatchError: the embeddings have another dimension than the collection's, or are of another model.
        InputError: a file of the source changed or is damaged.
        LockedError: another process is writing to the collection.
    """
    start = time.monotonic()
    if commit_rows < 1:
        raise InputError(f"commit_rows is {commit_rows}; give 1 or more.")
    _check_fits(store, source, model)
    rows = max(1, min(commit_rows, COMMIT_BYTES // (2 * source.dim)))
    with store.writer(wait=wait) as writer:
        ledger = Ledger.read(store.snapshot().imports(), source.place)
        run = _Run(writer, ledger, writer.given_root(), rows, progress or (lambda _: None), source.rows)
        dropped, deleted = ledger.keep_only(source.parts)
        if dropped:
            writer.commit_columns(deleted=_ids_in(dropped), imports=ledger.to_json())
        unchanged = ledger.taken
        for part in source.parts:
            _import_part(run, part)
        _commit(run)
        skips = ledger.skips()
        if skips != store.snapshot().skipped():
            writer.commit_columns(skipped=skips)
        counts, version = writer.manifest.counts, writer.manifest.version
    return ImportReport(
        images=run.images,
        texts=run.texts,
        unchanged=unchanged,
        deleted=deleted,
        skips=tuple(skips),
        images_total=counts["images"],
        texts_total=counts["texts"],
        seconds=time.monotonic() - start,
        stages=dict(run.stages),
        version=version,
        notes=source.notes,
    )


def _check_fits(store: Store, source: EmbeddingSource, model: str | None) -> None:
    """Refuse embeddings whose scores could not be compared with the stored ones."""
    snapshot = store.snapshot()
    dim, known = snapshot.manifest.dim, str(snapshot.manifest.encoder["name"])
    if source.dim != dim:
        raise ManifestMismatchError(
            f"The embeddings of {os.fsdecode(source.place)} have {source.dim} numbers, those of {store.path} {dim}.\n"
            "They are of different models, and their scores could not be compared. Import them into another collection."
        )
    if model is None and Ledger.read(snapshot.imports(), source.place).entries:
        return  # the same source again
    said = UNKNOWN if model is None else load_card(model).name
    if said != known:
        raise ManifestMismatchError(
            f"The embeddings of {store.path} are of the model {known!r}, and these are said to be of {said!r}.\n"
            f"If they are of that model, say --model {known}; else import them into another collection: -i NAME"
        )


def _ids_in(spans: list[tuple[int, int]]) -> Ints:
    return np.concatenate([np.arange(first, stop, dtype=np.int64) for first, stop in spans])


def _import_part(run: _Run, part: Part) -> None:
    entry = run.ledger.entry(part)
    if entry.taken >= part.rows:
        return
    blocks = part.read(entry.taken, min(_BLOCK, run.commit_rows))
    while True:
        with run.timed("read"):
            rows = next(blocks, None)
        if rows is None:
            return
        with run.timed("norm"):
            run.pending.append(_piece(entry, rows))
        if sum(len(piece.images) for piece in run.pending) >= run.commit_rows:
            _commit(run)
        run.tell(Progress("import", run.ledger.taken, run.total, run.ledger.refused))


def _piece(entry: Entry, rows: Rows) -> _Piece:
    """Bring rows to unit norm and leave out those that are refused, with the captions of those."""
    images, refused = unit_rows(rows.images)
    kept = _all_but(len(images), refused)
    for position, reason in refused.items():
        entry.refuse(entry.files[0].name, rows.start + position, reason, _WHY[reason])
    captions = rows.columns.get("caption")
    texts, said, linked = np.empty((0, images.shape[1]), np.float16), [], np.empty(0, np.int64)
    if rows.texts is not None and captions is not None:
        texts, wrong = unit_rows(rows.texts)
        there = np.array([caption is not None for caption in captions], dtype=np.bool_)
        for position in sorted(set(wrong) & set(np.flatnonzero(there).tolist())):  # no caption needs no embedding
            entry.refuse(entry.files[1].name, rows.start + position, wrong[position], _WHY[wrong[position]])
        there &= kept & _all_but(len(texts), wrong)
        texts, said = texts[there], [captions[at] for at in np.flatnonzero(there).tolist()]
        linked = (np.cumsum(kept) - 1)[there]
    columns = {name: _chosen(values, kept) for name, values in rows.columns.items() if name != "caption"}
    entry.taken = rows.start + len(rows.images)
    return _Piece(entry, images if not refused else images[kept], columns, texts, said, linked)


def _all_but(n: int, positions: Mapping[int, Any]) -> NDArray[np.bool_]:
    kept = np.ones(n, dtype=np.bool_)
    kept[list(positions)] = False
    return kept


def _chosen(values: Any, kept: NDArray[np.bool_]) -> list[Any]:
    return list(values) if kept.all() else [value for value, keep in zip(values, kept, strict=True) if keep]


def _commit(run: _Run) -> None:
    """Commit what waits: images, their captions, and the ledger that says so."""
    if not run.pending:
        return
    with run.timed("write"):
        images, texts = _image_columns(run), _text_columns(run)
        run.writer.commit_columns(images, texts, imports=run.ledger.to_json())
    run.images += len(images.ids)
    run.texts += 0 if texts is None else len(texts.ids)
    run.pending = []


def _image_columns(run: _Run) -> Columns:
    """Join the waiting images, and note under which ids they go."""
    n = sum(len(piece.images) for piece in run.pending)
    first = run.writer.new_ids(n).start
    ids, values = np.arange(first, first + n, dtype=np.int64), {}
    for name in sorted({name for piece in run.pending for name in piece.columns}):
        spare = NO_HASH if name == "content_hash" else None
        values[name] = [v for piece in run.pending for v in piece.columns.get(name, [spare] * len(piece.images))]
    for piece in run.pending:
        piece.entry.images.append((first, first + len(piece.images)))
        piece.first = first
        first += len(piece.images)
    unknown = {"root": run.root, "size": 0, "mtime_ns": 0, "ctime_ns": 0}
    constants = unknown if "content_hash" in values else {**unknown, "content_hash": NO_HASH}
    return Columns(ids, np.concatenate([piece.images for piece in run.pending]), values, constants)


def _text_columns(run: _Run) -> Columns | None:
    """Join the waiting captions; after ``_image_columns``, which gave their images' ids."""
    n = sum(len(piece.texts) for piece in run.pending)
    if not n:
        return None
    first = run.writer.new_ids(n).start
    ids = np.arange(first, first + n, dtype=np.int64)
    values = {
        "image_id": [id_ for piece in run.pending for id_ in (piece.linked + piece.first).tolist()],
        "text": [caption for piece in run.pending for caption in piece.captions],
        "source": [piece.columns["path"][at] for piece in run.pending for at in piece.linked.tolist()],
    }
    for piece in run.pending:
        piece.entry.texts.append((first, first + len(piece.texts)))
        first += len(piece.texts)
    return Columns(ids, np.concatenate([piece.texts for piece in run.pending]), values)
