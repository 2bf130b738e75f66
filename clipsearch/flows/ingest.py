"""Bring a collection up to date with a source: scan, decode, embed, store.

The walk, one stage after the other:

1. *Scan* the source and compare each file with what the collection knows of it (path, size, mtime, ctime).
   The same: ``unchanged``, never opened. Known rows that a full scan did not meet are gone.
2. *Hash* only the files whose size some stored row has too: a renamed, moved, copied or touched file carries bytes
   that were embedded before, and its embedding is *reused*.
3. *Decode* the rest in supervised worker processes, ahead of the encoder, and *embed* them in batches.
4. *Commit* every ``commit_rows`` rows or ``commit_seconds`` seconds: at most that much work is lost by any kill.
5. Captions, then deletions and the list of skipped files, in one last commit.

Every file that was seen is counted once: scanned = embedded + reused + unchanged + skipped + ignored.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from clipsearch.decode import DecodePool, DecodeRequest, Hashed
from clipsearch.embed.base import Encoder
from clipsearch.flows.ahead import run_ahead
from clipsearch.flows.captions import ingest_captions, relink_captions
from clipsearch.flows.plan import KEEPS_ITS_ROW, Plan, make_plan, place_of
from clipsearch.flows.progress import Progress
from clipsearch.scan import Source, open_source
from clipsearch.store import ImageRow, KnownFile, Store, Writer
from clipsearch.types import Decoded, ImageRef, Skip, SkipReason


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What one run did; ``stages`` holds seconds per stage, ``version`` the manifest version afterwards."""

    scanned: int
    embedded: int
    reused: int
    unchanged: int
    ignored: int
    deleted: int
    skips: tuple[Skip, ...]
    texts: int
    texts_embedded: int
    images_total: int
    texts_total: int
    seconds: float
    stages: Mapping[str, float]
    version: int
    notes: tuple[str, ...] = ()


@dataclass
class _Run:
    """The state of one run: rows waiting for a commit, and what is counted."""

    writer: Writer
    encoder: Encoder
    root_id: int
    prefix: bytes  # from the collection's root to the source's root
    commit_rows: int
    commit_seconds: float
    pending: list[ImageRow] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)  # waiting for the next commit
    removed: set[int] = field(default_factory=set)  # all rows that this run took away
    moved: dict[int, int] = field(default_factory=dict)  # old row id → new row id, for captions
    stored: dict[bytes, int] = field(default_factory=dict)  # content hash → row id with that embedding
    fresh: dict[bytes, Any] = field(default_factory=dict)  # content hash → embedding (D,) not yet committed
    skips: list[Skip] = field(default_factory=list)
    embedded: int = 0
    reused: int = 0
    last_commit: float = field(default_factory=time.monotonic)
    stages: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time inside to a stage."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.stages[stage] = self.stages.get(stage, 0.0) + time.monotonic() - start


def ingest(
    store: Store,
    encoder: Encoder,
    source: str | os.PathLike[str],
    *,
    captions: str | os.PathLike[str] | None = None,
    column: str | None = None,
    excludes: Sequence[str] = (),
    batch_size: int = 32,
    workers: int = 0,
    commit_rows: int = 1000,
    commit_seconds: float = 30.0,
    wait: bool = False,
    stdin: BinaryIO | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> IndexReport:
    """Index a source into a collection; only what is new or changed is embedded.

    Args:
        store: the collection.
        encoder: the encoder the collection was made with; the caller has checked it against the manifest.
        source: folder, image, tar, CSV or Parquet file, or "-" for paths on ``stdin``.
        captions: CSV with the columns image and caption.
        column: the column of paths, where the source is a table.
        excludes: glob patterns of names to leave out.
        batch_size: images per forward pass.
        workers: decode processes; 0 means one a core.
        commit_rows: rows after which work is committed.
        commit_seconds: seconds after which work is committed.
        wait: wait for another writer instead of raising LockedError.
        stdin: byte stream of paths for the source "-".
        progress: called now and then with how far the run is.

    Raises:
        SourceNotFoundError: there is nothing of that name.
        LockedError: another process is writing to the collection.
    """
    start = time.monotonic()
    tell = progress or (lambda _: None)
    opened = open_source(source, column=column, stdin=stdin, excludes=excludes, exclude_dirs=(os.fsencode(store.path),))
    with store.writer(wait=wait) as writer:
        run = _start(writer, encoder, store, opened, commit_rows, commit_seconds)
        with run.timed("scan"):
            plan = make_plan(opened, store, tell)
        run.skips.extend(plan.skips)
        with _interruptible(run), DecodePool(encoder.preprocess, workers=workers) as pool:
            _reuse(run, plan, store, pool, tell)
            _embed(run, plan, store, pool, batch_size, tell)
        run.dropped.extend(plan.gone)
        _commit(run)
        texts = relink_captions(store, writer, run.moved, run.removed)
        if captions is not None:
            texts += ingest_captions(store, writer, encoder, captions, opened.root, tell)
        _record_skips(run)
        manifest = writer.manifest
    return IndexReport(
        scanned=plan.scanned,
        embedded=run.embedded,
        reused=run.reused,
        unchanged=plan.unchanged,
        ignored=plan.ignored,
        deleted=len(plan.gone) - sum(old in plan.gone for old in run.moved),
        skips=tuple(run.skips),
        texts=texts.rows,
        texts_embedded=texts.embedded,
        images_total=manifest.counts["images"],
        texts_total=manifest.counts["texts"],
        seconds=time.monotonic() - start,
        stages=dict(run.stages),
        version=manifest.version,
        notes=(*plan.notes, *texts.notes),
    )


def _start(
    writer: Writer, encoder: Encoder, store: Store, source: Source, commit_rows: int, commit_seconds: float
) -> _Run:
    """Find the collection's root that holds the source, or make it one."""
    snapshot = store.snapshot()
    for root in snapshot.manifest.roots:
        place = snapshot.root_path(root.id)
        if source.root == place or source.root.startswith(place.rstrip(b"/") + b"/"):
            prefix = os.path.relpath(source.root, place) if source.root != place else b""
            return _Run(writer, encoder, root.id, prefix, commit_rows, commit_seconds)
    return _Run(writer, encoder, writer.root_id(source.root), b"", commit_rows, commit_seconds)


def _reuse(run: _Run, plan: Plan, store: Store, pool: DecodePool, tell: Callable[[Progress], None]) -> None:
    """Hash the files whose size is known; those whose bytes are known take over the stored embedding."""
    if not plan.to_hash:
        return
    wanted = {ref.size for ref in plan.to_hash}
    by_hash: dict[bytes, list[KnownFile]] = {}
    for row in store.snapshot().known_files():
        if row.size in wanted:
            by_hash.setdefault(row.content_hash, []).append(row)
    requests = (DecodeRequest(ref, hash_only=True) for ref in plan.to_hash)
    with run.timed("hash"):
        for done, result in enumerate(pool.run(requests), start=1):
            if isinstance(result, Skip):
                _skip(run, plan, result)
            elif isinstance(result, Hashed):
                rows = by_hash.get(result.content_hash)
                if rows:
                    _take_over(run, plan, store, result.ref, rows)
                else:
                    plan.to_decode.append(result.ref)
            tell(Progress("hash", done, len(plan.to_hash), len(run.skips)))
            _commit_if_due(run)


def _take_over(run: _Run, plan: Plan, store: Store, ref: ImageRef, rows: list[KnownFile]) -> None:
    """Add a row for bytes that were embedded before; a row that it replaces (rename, touch) hands on its captions."""
    place = place_of(ref.root, ref.path, ref.member)
    replaced = plan.replaced.get(place)
    donor = rows[0]
    snapshot = store.snapshot()
    stored = snapshot.rows("images", [donor.id])[0]
    embedding = snapshot.embeddings("images", [donor.id])[0]
    row = _image_row(run, ref, donor.content_hash, stored, embedding)
    origin = (
        replaced if replaced in rows else next((r for r in rows if r.id in plan.gone and r.id not in run.moved), None)
    )
    if origin is not None:
        run.moved[origin.id] = row.id
    _drop_replaced(run, plan, place, row.id)
    run.pending.append(row)
    run.reused += 1


def _drop_replaced(run: _Run, plan: Plan, place: bytes, new_id: int) -> None:
    """Mark the row that stood at this place as gone; its captions go over to the new row."""
    replaced = plan.replaced.pop(place, None)
    if replaced is not None:
        run.dropped.append(replaced.id)
        run.moved.setdefault(replaced.id, new_id)


def _skip(run: _Run, plan: Plan, skip: Skip) -> None:
    """Note a file that could not be decoded; the row of its former content goes, unless the file was unreadable."""
    run.skips.append(skip)
    if skip.reason in KEEPS_ITS_ROW:
        return
    for place, row in plan.replaced.items():
        if row.path == os.path.join(run.prefix, skip.path) and row.member == skip.member and row.root == run.root_id:
            run.dropped.append(row.id)
            del plan.replaced[place]
            return


def _embed(
    run: _Run, plan: Plan, store: Store, pool: DecodePool, batch_size: int, tell: Callable[[Progress], None]
) -> None:
    """Decode ahead of the encoder, embed in batches, commit now and then."""
    if not plan.to_decode:
        return
    requests = (DecodeRequest(ref) for ref in plan.to_decode)
    total, done = len(plan.to_decode), 0
    batch: list[Decoded] = []
    with run_ahead(pool.run(requests), 3 * batch_size) as results:
        for result in _timed_iteration(run, "decode", results):
            done += 1
            if isinstance(result, Skip):
                _skip(run, plan, result)
            elif isinstance(result, Decoded):
                batch.append(result)
            if len(batch) >= batch_size:
                _embed_batch(run, plan, store, batch)
                batch = []
                _commit_if_due(run)
                tell(Progress("embed", done, total, len(run.skips)))
    _embed_batch(run, plan, store, batch)
    tell(Progress("embed", done, total, len(run.skips)))


def _timed_iteration(run: _Run, stage: str, items: Iterable[Any]) -> Iterator[Any]:
    """Iterate and add the time spent waiting for each item to a stage."""
    iterator = iter(items)
    while True:
        with run.timed(stage):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item


def _embed_batch(run: _Run, plan: Plan, store: Store, batch: Sequence[Decoded]) -> None:
    """Embed the pictures of a batch that are new to this run; copies share the embedding of the first."""
    new: dict[bytes, Decoded] = {}
    for image in batch:
        if image.content_hash not in run.fresh and image.content_hash not in run.stored:
            new.setdefault(image.content_hash, image)
    if new:
        with run.timed("embed"):
            embeddings = run.encoder.encode_images(np.stack([image.pixels for image in new.values()]))
        run.fresh.update((key, row) for key, row in zip(new, embeddings, strict=True) if np.isfinite(row).all())
    for image in batch:
        _add_decoded(run, plan, store, image, is_first=new.get(image.content_hash) is image)


def _add_decoded(run: _Run, plan: Plan, store: Store, image: Decoded, is_first: bool) -> None:
    embedding = run.fresh.get(image.content_hash)
    if embedding is None and image.content_hash in run.stored:
        embedding = store.snapshot().embeddings("images", [run.stored[image.content_hash]])[0]
    if embedding is None:
        _skip(
            run,
            plan,
            Skip(image.ref.path, SkipReason.NON_FINITE, "the model gave no finite embedding", image.ref.member),
        )
        return
    metadata = {name: getattr(image.metadata, name) for name in image.metadata.__slots__}
    row = _image_row(run, image.ref, image.content_hash, metadata, embedding)
    _drop_replaced(run, plan, place_of(image.ref.root, image.ref.path, image.ref.member), row.id)
    run.pending.append(row)
    if is_first:
        run.embedded += 1
    else:
        run.reused += 1


def _image_row(run: _Run, ref: ImageRef, content_hash: bytes, metadata: Mapping[str, Any], embedding: Any) -> ImageRow:
    return ImageRow(
        id=run.writer.new_ids(1)[0],
        root=run.root_id,
        path=os.path.join(run.prefix, ref.path),
        member=ref.member,
        size=ref.size,
        mtime_ns=ref.mtime_ns,
        ctime_ns=ref.ctime_ns,
        content_hash=content_hash,
        width=metadata["width"],
        height=metadata["height"],
        format=metadata["format"],
        taken=metadata.get("taken"),
        camera=metadata.get("camera"),
        lens=metadata.get("lens"),
        latitude=metadata.get("latitude"),
        longitude=metadata.get("longitude"),
        embedding=embedding,
    )


def _commit_if_due(run: _Run) -> None:
    if run.pending and (
        len(run.pending) >= run.commit_rows or time.monotonic() - run.last_commit >= run.commit_seconds
    ):
        _commit(run)


def _commit(run: _Run) -> None:
    """Commit what waits; only after this returns is it counted on."""
    with run.timed("write"):
        if run.pending or run.dropped:
            run.writer.commit(images=run.pending, deleted=run.dropped)
    run.stored.update((row.content_hash, row.id) for row in run.pending)
    run.fresh.clear()
    run.removed.update(run.dropped)
    run.pending, run.dropped = [], []
    run.last_commit = time.monotonic()


@contextmanager
def _interruptible(run: _Run) -> Iterator[None]:
    """Commit what is finished when a person stops the run, then let the interrupt go on its way."""
    try:
        yield
    except KeyboardInterrupt:
        _commit(run)
        raise


def _record_skips(run: _Run) -> None:
    had_skips = any(entry.kind == "skipped" and entry.rows for entry in run.writer.manifest.files)
    if run.skips or had_skips:
        run.writer.commit(skipped=run.skips)
