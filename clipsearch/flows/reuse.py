"""Recognise bytes that were embedded before: files that were renamed, moved, copied or touched.

Only files whose size some stored row has too are hashed. One whose bytes are stored takes over the embedding; where
the file that had them has left its place, that row makes room for the new one.
"""

import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from clipsearch.decode import DecodePool, Hashed
from clipsearch.flows.places import place_of
from clipsearch.flows.plan import Plan
from clipsearch.flows.progress import Progress
from clipsearch.flows.run import Run, commit_if_due, hashes, image_row, skip_file
from clipsearch.store import KnownFile, Snapshot
from clipsearch.types import ImageRef, Skip

_TAKEN_AT_ONCE = 256  # rows looked up together; one by one, each would walk all shards


@dataclass
class _Donor:
    """Stored bytes: the first row that has them, and all rows that may turn out to have moved."""

    row: KnownFile
    origins: deque[KnownFile]


def reuse(run: Run, plan: Plan, pool: DecodePool, tell: Callable[[Progress], None]) -> None:
    """Hash the files whose size is known; those whose bytes are known take over the stored embedding."""
    if not plan.to_hash:
        return
    donors = _donors(run.store.snapshot(), {ref.size for ref in plan.to_hash})
    known: list[tuple[ImageRef, _Donor]] = []
    with run.timed("hash"):
        for done, (ref, result) in enumerate(zip(plan.to_hash, hashes(run, plan.to_hash, pool), strict=True), start=1):
            if isinstance(result, Skip):
                skip_file(run, plan, result, ref)
            elif isinstance(result, Hashed):
                donor = donors.get(result.content_hash)
                if donor is None:
                    plan.to_decode.append(result.ref)
                else:
                    known.append((result.ref, donor))
            if len(known) >= _TAKEN_AT_ONCE or done == len(plan.to_hash):
                _take_over(run, plan, known)
                known = []
            tell(Progress("hash", done, len(plan.to_hash), len(run.skips)))
            commit_if_due(run)


def _donors(snapshot: Snapshot, sizes: set[int]) -> dict[bytes, _Donor]:
    """Return the stored rows of these sizes by the hash of their content."""
    donors: dict[bytes, _Donor] = {}
    given = {root.id for root in snapshot.manifest.roots if root.is_given}  # their embeddings are not of our making
    for row in snapshot.known_files():
        if row.size in sizes and row.root not in given:
            donors.setdefault(row.content_hash, _Donor(row, deque())).origins.append(row)
    return donors


def _take_over(run: Run, plan: Plan, known: Sequence[tuple[ImageRef, _Donor]]) -> None:
    """Add rows for bytes that were embedded before."""
    snapshot = run.store.snapshot()
    ids = [donor.row.id for _, donor in known]
    roots = {root.id: snapshot.root_path(root.id) for root in snapshot.manifest.roots}
    stored, embeddings = snapshot.rows("images", ids), snapshot.embeddings("images", ids)
    for (ref, donor), metadata, embedding in zip(known, stored, embeddings, strict=True):
        row = image_row(run, ref, donor.row.content_hash, metadata, embedding)
        replaced = plan.replaced.pop(place_of(ref.root, ref.path, ref.member), None)
        olds = [] if replaced is None else [replaced]
        if replaced is None or replaced.content_hash != donor.row.content_hash:
            olds += _moved_from(plan, roots, donor)
        run.pending.append((row, tuple(old.id for old in olds)))
        run.reused += 1


def _moved_from(plan: Plan, roots: Mapping[int, bytes], donor: _Donor) -> list[KnownFile]:
    """Return the row, if any, whose file has left its place: this one is it, renamed or moved. Each serves once.

    Outside the source too: an indexed folder that was itself renamed is met under its new name only.
    """
    while donor.origins:
        row = donor.origins.popleft()
        if plan.gone.pop(row.id, None) is not None or _has_left(os.path.join(roots[row.root], row.path)):
            plan.deserted.pop(row.id, None)
            return [row]
    return []


def _has_left(file: bytes) -> bool:
    try:
        os.lstat(file)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # may not be looked at: it says nothing
        return False
    return False
