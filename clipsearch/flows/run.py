"""The state of one index run: rows that wait, and the commit that makes them last."""

import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from clipsearch.decode import DecodePool, DecodeRequest, Hashed
from clipsearch.embed.base import Encoder
from clipsearch.flows.captions import captions_by_image, hand_over
from clipsearch.flows.left_out import known_skip
from clipsearch.flows.places import place_of
from clipsearch.flows.plan import KEEPS_ITS_ROW, Plan
from clipsearch.scan import Holder
from clipsearch.store import ImageRow, KnownSkip, Store, TextRow, Writer
from clipsearch.types import Decoded, ImageRef, Skip, SkipReason


@dataclass
class Run:
    """The state of one run: rows waiting for a commit, and what is counted."""

    writer: Writer
    encoder: Encoder
    store: Store
    source_root: bytes
    root_id: int
    prefix: bytes  # from the collection's root to the source's root
    commit_rows: int
    commit_seconds: float
    # Rows waiting for the next commit, each with the ids of the rows that it replaces. One list of pairs, so that an
    # interrupt cannot come between a row and what it replaces.
    pending: list[tuple[ImageRow, tuple[int, ...]]] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)  # rows without a successor, waiting too
    captions: dict[int, list[int]] | None = None  # image id → caption ids, read when the first row goes
    handed: tuple[list[TextRow], list[int]] | None = None  # captions that go with what is pending, old ids that leave
    stored: dict[bytes, int] = field(default_factory=dict)  # content hash → row id with that embedding
    fresh: dict[bytes, Any] = field(default_factory=dict)  # content hash → embedding (D,) not yet committed
    holder: Holder | None = None  # the source, where it alone can read its pictures
    skips: list[Skip] = field(default_factory=list)
    left_out: list[KnownSkip] = field(default_factory=list)  # the same files, as the next run is to know them
    embedded: int = 0
    reused: int = 0
    last_commit: float = field(default_factory=time.monotonic)
    stages: dict[str, float] = field(default_factory=dict)

    def is_known(self, content_hash: bytes) -> bool:
        """Tell whether these bytes have been embedded in this run."""
        return content_hash in self.fresh or content_hash in self.stored

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time inside to a stage."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.stages[stage] = self.stages.get(stage, 0.0) + time.monotonic() - start


def hashes(run: Run, refs: Sequence[ImageRef], pool: DecodePool) -> Iterator[Decoded | Hashed | Skip]:
    """Yield the SHA-256 of each picture's bytes, or why it cannot be had."""
    if run.holder is None:
        yield from pool.run(DecodeRequest(ref, hash_only=True) for ref in refs)
        return
    for ref, data in zip(refs, run.holder.load(refs), strict=True):
        yield Hashed(ref, hashlib.sha256(data).digest())


def skip_unopened(run: Run, plan: Plan) -> None:
    """Note the files that need not be opened to be left out: by the scan, and what is as it was before."""
    run.skips += [*plan.skips, *(skip for skip, _ in plan.still_broken)]
    run.left_out += [known_skip(skip, run.root_id, run.prefix, None) for skip in plan.skips]
    run.left_out += [*(known for _, known in plan.still_broken), *plan.still_generated, *plan.elsewhere]


def skip_file(run: Run, plan: Plan, skip: Skip, ref: ImageRef) -> None:
    """Note a file that could not be decoded; the row of its former content goes, unless the file was unreadable."""
    run.skips.append(skip)
    run.left_out.append(known_skip(skip, run.root_id, run.prefix, ref))
    if skip.reason not in KEEPS_ITS_ROW:
        row = plan.replaced.pop(place_of(run.source_root, skip.path, skip.member), None)
        if row is not None:
            run.dropped.append(row.id)


def leave_out(run: Run, plan: Plan, ref: ImageRef, how: str) -> None:
    """Count a picture as ignored that was recognised as generated; the row of its former content goes."""
    plan.ignored += 1
    skip = Skip(ref.path, SkipReason.GENERATED, how, ref.member)
    run.left_out.append(known_skip(skip, run.root_id, run.prefix, ref))
    row = plan.replaced.pop(place_of(run.source_root, ref.path, ref.member), None)
    if row is not None:
        run.dropped.append(row.id)


def image_row(run: Run, ref: ImageRef, content_hash: bytes, metadata: Mapping[str, Any], embedding: Any) -> ImageRow:
    """Make the row of a picture; ``metadata`` holds the columns of that name, ``generated`` as the shield decided."""
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
        generated=True if metadata.get("generated") else None,
        phash=metadata.get("phash"),
    )


def commit_if_due(run: Run) -> None:
    """Commit when enough rows wait, or when the last commit is long ago."""
    if run.pending and (
        len(run.pending) >= run.commit_rows or time.monotonic() - run.last_commit >= run.commit_seconds
    ):
        commit(run)


def commit(run: Run) -> None:
    """Commit what waits, with the captions of the rows that go; only after this returns is it counted on."""
    rows = [row for row, _ in run.pending]
    moved = {old: row.id for row, olds in run.pending for old in olds}
    gone = [*run.dropped, *moved]
    with run.timed("write"):
        if gone and run.captions is None:
            run.captions = captions_by_image(run.store.snapshot())
        if run.handed is None:  # else a commit was interrupted: given again it must be the same, down to the ids
            run.handed = hand_over(run.store.snapshot(), run.writer, run.captions or {}, moved, gone)
        texts, left = run.handed
        if rows or gone:
            run.writer.commit(images=rows, texts=texts, deleted=[*gone, *left])
    run.pending, run.dropped, run.handed = [], [], None
    run.stored.update((row.content_hash, row.id) for row in rows)
    run.fresh.clear()
    run.last_commit = time.monotonic()
