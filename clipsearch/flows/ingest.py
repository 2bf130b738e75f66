"""Bring a collection up to date with a source: scan, decode, embed, store.

The walk, one stage after the other:

1. *Scan* the source and compare each file with what the collection knows of it (path, size, mtime, ctime).
   The same: ``unchanged``, never opened. Known rows that a full scan did not meet are gone.
2. *Hash* only the files whose size some stored row has too: a renamed, moved, copied or touched file carries bytes
   that were embedded before, and its embedding is *reused*.
3. *Decode* the rest and *embed* them in batches; an engine does this, here or over a cluster (``flows.engines``).
4. *Commit* every ``commit_rows`` rows or ``commit_seconds`` seconds: at most that much work is lost by any kill. A new
   row, the row that it replaces and the captions that change hands go in one commit: a kill never parts them.
5. Deletions, then new captions and the list of skipped files.

Every file that was seen is counted once: scanned = embedded + reused + unchanged + skipped + ignored.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np

from clipsearch.decode import DecodePool
from clipsearch.embed.base import Encoder
from clipsearch.errors import InputError, StorageError
from clipsearch.flows.captions import CaptionCounts, Sources, check_captions, ingest_captions
from clipsearch.flows.deserted import notes_on
from clipsearch.flows.engines.base import Embedded, Engine, Work
from clipsearch.flows.engines.local import LocalEngine
from clipsearch.flows.left_out import in_order
from clipsearch.flows.places import place_of
from clipsearch.flows.plan import Plan, make_plan
from clipsearch.flows.progress import Progress
from clipsearch.flows.reuse import reuse
from clipsearch.flows.run import Run, commit, commit_if_due, image_row, leave_out, skip_file, skip_unopened
from clipsearch.flows.shield import Shield, check_mode, make_shield
from clipsearch.scan import Holder, Source, open_source
from clipsearch.scan.part import parse_part, part_of
from clipsearch.store import Store, Writer, update_packs
from clipsearch.types import Skip, SkipReason


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What one run did; ``stages`` holds seconds per stage, ``version`` the manifest version afterwards.

    ``columns`` says how many new pictures got a value in each column that was added before, such as tags.
    """

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
    columns: Mapping[str, int] = field(default_factory=dict)


def ingest(
    store: Store,
    encoder: Encoder,
    source: str | os.PathLike[str],
    *,
    engine: Engine | None = None,
    captions: Sources | None = None,
    column: str | None = None,
    excludes: Sequence[str] = (),
    shard: str | None = None,
    retry_skipped: bool = False,
    prune_empty: bool = False,
    batch_size: int = 32,
    workers: int = 0,
    commit_rows: int = 1000,
    commit_seconds: float = 30.0,
    wait: bool = False,
    stdin: BinaryIO | None = None,
    progress: Callable[[Progress], None] | None = None,
    generated: str = "ignore",
) -> IndexReport:
    """Index a source into a collection; only what is new or changed is embedded.

    Args:
        store: the collection.
        encoder: the encoder the collection was made with; the caller has checked it against the manifest.
        source: folder, image, tar, CSV or Parquet file (of paths, or of the pictures' bytes), or "-" for paths on
            ``stdin``.
        engine: where pictures are decoded and embedded; None means here, with ``encoder``.
        captions: files of captions, one or several; also "sidecars" for texts beside pictures and "embedded" for those
            inside them.
        column: the column of paths or pictures, where the source is a table.
        excludes: glob patterns of names to leave out; what is indexed already of them goes.
        shard: "i/n": only part i, from 1, of n parts of the source; a file's path alone decides which part it is in.
        retry_skipped: decode files again that could not be decoded before, or were generated, and have not changed.
        prune_empty: take out the rows of folders that stand empty, the source itself among them; else they are kept,
            as those of a drive that is not mounted.
        batch_size: images per forward pass.
        workers: decode processes on this machine; 0 means one a core.
        commit_rows: rows after which work is committed.
        commit_seconds: seconds after which work is committed.
        wait: wait for another writer instead of raising LockedError.
        stdin: byte stream of paths for the source "-".
        progress: called now and then with how far the run is.
        generated: what becomes of pictures that a generator made: "ignore" leaves them out, "mark" indexes them.

    Raises:
        SourceNotFoundError: there is nothing of that name.
        LockedError: another process is writing to the collection.
    """
    start = time.monotonic()
    _check_settings(batch_size, workers, commit_rows)
    check_mode(generated)
    if captions is not None:
        check_captions(captions)  # now, not after hours of work
    tell = progress or (lambda _: None)
    opened = open_source(source, column=column, stdin=stdin, excludes=excludes, exclude_dirs=(os.fsencode(store.path),))
    if shard is not None:
        opened = part_of(opened, parse_part(shard))
    with store.writer(wait=wait) as writer:
        run = _start(writer, encoder, store, opened, commit_rows, commit_seconds)
        run.holder = opened if isinstance(opened, Holder) else None
        with run.timed("scan"):
            plan = make_plan(
                opened,
                store,
                tell,
                retry_skipped=retry_skipped,
                keep_generated=generated == "mark",
                prune_empty=prune_empty,
            )
        skip_unopened(run, plan)
        with _interruptible(run), DecodePool(encoder.preprocess, workers=workers) as pool:
            reuse(run, plan, pool, tell)
            shield = make_shield(store.path, generated)
            shield.remember(known.detail for known in plan.still_generated)
            work = Work(
                plan.to_decode, pool, batch_size, run.is_known, run.timed, looks=shield.wants_looks, holder=run.holder
            )
            _embed(run, plan, engine or LocalEngine(encoder), work, tell, shield)
        run.dropped.extend(plan.gone)
        commit(run)
        texts = CaptionCounts()
        if captions is not None:
            texts = ingest_captions(
                store, writer, encoder, captions, opened.root, tell, with_pictures_only=shard is not None
            )
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
        notes=(*plan.notes, *notes_on(plan.deserted, opened.root), *shield.notes(), *texts.notes, *packing),
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
        if root.is_given:
            continue
        place = snapshot.root_path(root.id)
        if source.root == place or source.root.startswith(place.rstrip(b"/") + b"/"):
            prefix = os.path.relpath(source.root, place) if source.root != place else b""
            return Run(writer, encoder, store, source.root, root.id, prefix, commit_rows, commit_seconds)
    root_id = writer.root_id(source.root)
    return Run(writer, encoder, store, source.root, root_id, b"", commit_rows, commit_seconds)


def _embed(run: Run, plan: Plan, engine: Engine, work: Work, tell: Callable[[Progress], None], shield: Shield) -> None:
    """Take over what the engine has embedded, commit now and then."""
    if not work.refs:
        return
    total, done = len(work.refs), 0
    refs = iter(work.refs)  # an engine answers in their order
    # The inner guard: on an interrupt the commit comes first, and only then the end of an engine, which may take long.
    with closing(engine.embed(work)) as batches, _interruptible(run):
        for batch in batches:
            for result in batch:
                done, ref = done + 1, next(refs)
                if isinstance(result, Skip):
                    skip_file(run, plan, result, ref)
                    continue
                how = shield.recognise(result)
                if how is not None and shield.mode == "ignore":
                    leave_out(run, plan, result.ref, how)
                else:
                    _add_embedded(run, plan, result, how is not None)
            commit_if_due(run)
            tell(Progress("embed", done, total, len(run.skips)))


def _add_embedded(run: Run, plan: Plan, image: Embedded, is_generated: bool) -> None:
    """Add the row of a picture; copies of a picture share the embedding of the first."""
    key = image.content_hash
    is_first = image.embedding is not None and not run.is_known(key) and bool(np.isfinite(image.embedding).all())
    if is_first:
        run.fresh[key] = image.embedding
    embedding = run.fresh.get(key)
    if embedding is None and key in run.stored:
        embedding = run.store.snapshot().embeddings("images", [run.stored[key]])[0]
    if embedding is None:
        skip_file(
            run,
            plan,
            Skip(image.ref.path, SkipReason.NON_FINITE, "the model gave no finite embedding", image.ref.member),
            image.ref,
        )
        return
    metadata = {name: getattr(image.metadata, name) for name in image.metadata.__slots__}
    metadata["generated"] = is_generated
    row = image_row(run, image.ref, key, metadata, embedding)
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
    left_out = in_order(run.left_out)
    if left_out != run.store.snapshot().skipped():  # the same files as last time are no news
        run.writer.commit(skipped=left_out)
