"""Bring a collection up to date with a source: scan, decode, embed, store.

The walk, one stage after the other:

1. *Scan* the source and compare each file with what the collection knows of it (path, size, mtime, ctime).
   The same: ``unchanged``, never opened. Known rows that a full scan did not meet are gone.
2. *Hash* only the files whose size some stored row has too: a renamed, moved, copied or touched file carries bytes
   that were embedded before, and its embedding is *reused*.
3. *Decode* the rest in supervised worker processes, ahead of the encoder, and *embed* them in batches.
4. *Commit* every ``commit_rows`` rows or ``commit_seconds`` seconds: at most that much work is lost by any kill. A new
   row, the row that it replaces and the captions that change hands go in one commit: a kill never parts them.
5. Deletions, then new captions and the list of skipped files.

Every file that was seen is counted once: scanned = embedded + reused + unchanged + skipped + ignored.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from clipsearch.decode import DecodePool, DecodeRequest
from clipsearch.embed.base import Encoder
from clipsearch.errors import InputError, StorageError
from clipsearch.flows.ahead import run_ahead
from clipsearch.flows.captions import CaptionCounts, check_captions, ingest_captions
from clipsearch.flows.plan import Plan, make_plan, place_of
from clipsearch.flows.progress import Progress
from clipsearch.flows.reuse import reuse
from clipsearch.flows.run import Run, commit, commit_if_due, image_row, skip_file
from clipsearch.scan import Source, open_source
from clipsearch.store import Store, Writer, update_packs
from clipsearch.types import Decoded, Skip, SkipReason


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
    _check_settings(batch_size, workers, commit_rows)
    if captions is not None:
        check_captions(captions)  # now, not after hours of work
    tell = progress or (lambda _: None)
    opened = open_source(source, column=column, stdin=stdin, excludes=excludes, exclude_dirs=(os.fsencode(store.path),))
    with store.writer(wait=wait) as writer:
        run = _start(writer, encoder, store, opened, commit_rows, commit_seconds)
        with run.timed("scan"):
            plan = make_plan(opened, store, tell)
        run.skips.extend(plan.skips)
        with _interruptible(run), DecodePool(encoder.preprocess, workers=workers) as pool:
            reuse(run, plan, pool, tell)
            _embed(run, plan, pool, batch_size, tell)
        run.dropped.extend(plan.gone)
        commit(run)
        texts = CaptionCounts()
        if captions is not None:
            texts = ingest_captions(store, writer, encoder, captions, opened.root, tell)
        _record_skips(run)
        manifest = writer.manifest
    packing = _pack(run)
    return IndexReport(
        scanned=plan.scanned,
        embedded=run.embedded,
        reused=run.reused,
        unchanged=plan.unchanged,
        ignored=plan.ignored,
        deleted=len(plan.gone),
        skips=tuple(run.skips),
        texts=texts.rows,
        texts_embedded=texts.embedded,
        images_total=manifest.counts["images"],
        texts_total=manifest.counts["texts"],
        seconds=time.monotonic() - start,
        stages=dict(run.stages),
        version=manifest.version,
        notes=(*plan.notes, *texts.notes, *packing),
    )


def _check_settings(batch_size: int, workers: int, commit_rows: int) -> None:
    for name, value, least in (("batch_size", batch_size, 1), ("commit_rows", commit_rows, 1), ("workers", workers, 0)):
        if value < least:
            raise InputError(f"{name} is {value}; give {least} or more.")


def _start(
    writer: Writer, encoder: Encoder, store: Store, source: Source, commit_rows: int, commit_seconds: float
) -> Run:
    """Find the collection's root that holds the source, or make it one."""
    snapshot = store.snapshot()
    for root in snapshot.manifest.roots:
        place = snapshot.root_path(root.id)
        if source.root == place or source.root.startswith(place.rstrip(b"/") + b"/"):
            prefix = os.path.relpath(source.root, place) if source.root != place else b""
            return Run(writer, encoder, store, source.root, root.id, prefix, commit_rows, commit_seconds)
    root_id = writer.root_id(source.root)
    return Run(writer, encoder, store, source.root, root_id, b"", commit_rows, commit_seconds)


def _embed(run: Run, plan: Plan, pool: DecodePool, batch_size: int, tell: Callable[[Progress], None]) -> None:
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
                skip_file(run, plan, result)
            elif isinstance(result, Decoded):
                batch.append(result)
            if len(batch) >= batch_size:
                _embed_batch(run, plan, batch)
                batch = []
                commit_if_due(run)
                tell(Progress("embed", done, total, len(run.skips)))
    _embed_batch(run, plan, batch)
    tell(Progress("embed", done, total, len(run.skips)))


def _timed_iteration(run: Run, stage: str, items: Iterable[Any]) -> Iterator[Any]:
    """Iterate and add the time spent waiting for each item to a stage."""
    iterator = iter(items)
    while True:
        with run.timed(stage):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item


def _embed_batch(run: Run, plan: Plan, batch: Sequence[Decoded]) -> None:
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
        _add_decoded(run, plan, image, is_first=new.get(image.content_hash) is image)


def _add_decoded(run: Run, plan: Plan, image: Decoded, is_first: bool) -> None:
    embedding = run.fresh.get(image.content_hash)
    if embedding is None and image.content_hash in run.stored:
        embedding = run.store.snapshot().embeddings("images", [run.stored[image.content_hash]])[0]
    if embedding is None:
        skip_file(
            run,
            plan,
            Skip(image.ref.path, SkipReason.NON_FINITE, "the model gave no finite embedding", image.ref.member),
        )
        return
    metadata = {name: getattr(image.metadata, name) for name in image.metadata.__slots__}
    row = image_row(run, image.ref, image.content_hash, metadata, embedding)
    replaced = plan.replaced.pop(place_of(image.ref.root, image.ref.path, image.ref.member), None)
    run.pending.append((row, () if replaced is None else (replaced.id,)))
    if is_first:
        run.embedded += 1
    else:
        run.reused += 1


@contextmanager
def _interruptible(run: Run) -> Iterator[None]:
    """Commit what is finished when a person stops the run, then let the interrupt go on its way."""
    try:
        yield
    except KeyboardInterrupt:
        commit(run)
        raise


def _pack(run: Run) -> tuple[str, ...]:
    """Make filters quick again; the rows are safe whatever happens here."""
    try:
        with run.timed("pack"):
            update_packs(run.store.snapshot())
    except StorageError as problem:
        return (f"The columns were not packed, so filters are slow until the next run: {problem}",)
    return ()


def _record_skips(run: Run) -> None:
    if run.skips != run.store.snapshot().skipped():  # the same files as last time are no news
        run.writer.commit(skipped=run.skips)
