"""Compare what a scan finds with what the collection knows: what is new, changed, the same, gone.

A file is the same when path, size, mtime and ctime are; it is never opened then, and neither is one that could not be
decoded before (``left_out.py``). A row that a full scan should have met and did not is gone, with three exceptions: a
root where no picture at all was found is taken for one that is not mounted, and so is a folder below it that stands
empty (``deserted.py``); and nothing is gone below a folder that could not be read. What somebody asks to leave out is
gone as well. Of a list or a table only what it names can be gone.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from clipsearch.flows.deserted import take_deserted
from clipsearch.flows.left_out import Remembered, elsewhere, remembered, still_broken
from clipsearch.flows.places import place_of
from clipsearch.flows.progress import Progress
from clipsearch.scan import Excluder, Ignored, Source
from clipsearch.scan.part import Part
from clipsearch.store import KnownFile, KnownSkip, Store
from clipsearch.types import ImageRef, Skip, SkipReason

# A file that could not be opened says nothing about its picture: its row stays. Any other skip means that the
# bytes on disk are no longer the picture that was embedded.
KEEPS_ITS_ROW = {SkipReason.UNREADABLE, SkipReason.IO_ERROR, SkipReason.CHANGED_WHILE_READING, SkipReason.DECODE_CRASH}


@dataclass
class Plan:
    """What the scan found, against what the collection knows."""

    to_hash: list[ImageRef] = field(default_factory=list)
    to_decode: list[ImageRef] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)
    still_broken: list[tuple[Skip, KnownSkip]] = field(default_factory=list)  # as found by an earlier run
    still_generated: list[KnownSkip] = field(default_factory=list)  # likewise, and to be kept out again
    elsewhere: list[KnownSkip] = field(default_factory=list)  # remembered of what is no part of the source
    replaced: dict[bytes, KnownFile] = field(default_factory=dict)  # place → the row that its new content replaces
    gone: dict[int, KnownFile] = field(default_factory=dict)
    deserted: dict[int, bytes] = field(default_factory=dict)  # row that is kept → the folder of it that stands empty
    scanned: int = 0
    unchanged: int = 0
    ignored: int = 0
    notes: list[str] = field(default_factory=list)


def make_plan(
    source: Source,
    store: Store,
    tell: Callable[[Progress], None],
    *,
    retry_skipped: bool = False,
    keep_generated: bool = False,
    prune_empty: bool = False,
) -> Plan:
    """Scan the source and sort every entry into unchanged, to hash, to decode, skipped, ignored, gone.

    With ``keep_generated`` a picture that was left out as generated is decoded again, to be taken in.
    """
    snapshot = store.snapshot()
    # Rows that came with ready embeddings are no files to this machine: no scan changes them or finds them gone.
    roots = {root.id: snapshot.root_path(root.id) for root in snapshot.manifest.roots if not root.is_given}
    known = {
        place_of(roots[row.root], row.path, row.member): row for row in snapshot.known_files() if row.root in roots
    }
    sizes = {row.size for row in known.values()}
    broken: Remembered = remembered(snapshot)
    plan = Plan()
    seen: set[bytes] = set()
    refused: set[bytes] = set()
    shielded: list[bytes] = []
    images = 0
    for entry in source.scan():
        if isinstance(entry, Ignored):
            plan.scanned += 1
            plan.ignored += 1
            continue
        place = place_of(source.root, entry.path, entry.member)
        if place in seen:
            continue
        seen.add(place)
        plan.scanned += 1
        if isinstance(entry, Skip):
            plan.skips.append(entry)
            if entry.reason in KEEPS_ITS_ROW:
                shielded.append(place)
            else:
                refused.add(place)
        else:
            images += 1
            skip = broken.get(place)
            if skip is None or retry_skipped or place in known or not still_broken(skip, entry):
                _sort_image(plan, entry, place, known.get(place), sizes)
            elif skip.reason != SkipReason.GENERATED:
                plan.still_broken.append((Skip(entry.path, skip.reason, skip.detail, entry.member), skip))
            elif keep_generated:
                _sort_image(plan, entry, place, None, sizes)
            else:
                plan.still_generated.append(skip)
                plan.ignored += 1
        if plan.scanned % 500 == 0:
            tell(Progress("scan", plan.scanned, None, len(plan.skips)))
    images += source.elsewhere if isinstance(source, Part) else 0  # those of other parts show that it is mounted
    plan.elsewhere = elsewhere(broken, source, seen)
    _note_still_broken(plan)
    _find_gone(plan, source, known, seen, refused, shielded, images, prune_empty)
    return plan


def _sort_image(plan: Plan, ref: ImageRef, place: bytes, row: KnownFile | None, sizes: set[int]) -> None:
    if row is not None:
        if (row.size, row.mtime_ns, row.ctime_ns) == (ref.size, ref.mtime_ns, ref.ctime_ns):
            plan.unchanged += 1
            return
        plan.replaced[place] = row
    # a size of 0 is one that the source leaves open: only the row that was there before can be the same
    known_size = ref.size in sizes if ref.size else row is not None
    (plan.to_hash if known_size else plan.to_decode).append(ref)


def _note_still_broken(plan: Plan) -> None:
    n = len(plan.still_broken)
    if n:
        what = "1 skipped file is" if n == 1 else f"{n:,} skipped files are"
        plan.notes.append(f"{what} unchanged since found broken; --retry-skipped tries again.")


def _find_gone(
    plan: Plan,
    source: Source,
    known: Mapping[bytes, KnownFile],
    seen: set[bytes],
    refused: set[bytes],
    shielded: Sequence[bytes],
    images: int,
    prune_empty: bool,
) -> None:
    """List the rows that a full scan should have met and did not, or met as no picture.

    A source without any picture deletes nothing, and neither does a folder that stands empty, unless ``prune_empty``
    says so. What is left out on request goes as well, as long as it is there or anything is.
    """
    below = source.root.rstrip(b"/") + b"/"
    excluded: dict[int, KnownFile] = {}
    for place, row in known.items():
        path = place.split(b"\0", 1)[0]
        if place in refused:
            plan.gone[row.id] = row
        elif place in seen or not path.startswith(below):
            continue
        elif _is_excluded(source, path[len(below) :], row.member):
            if images or os.path.lexists(path):
                excluded[row.id] = row
        elif source.covers(path[len(below) :], row.member) and not _is_below(path, shielded):
            plan.gone[row.id] = row
    if plan.gone and not images and not prune_empty:
        plan.notes.append(
            f"No picture was found in {os.fsdecode(source.root)}; is it mounted? "
            f"What is known from there was kept ({len(plan.gone):,}); --prune-empty takes it out."
        )
        plan.gone.clear()
    if plan.gone and not prune_empty:
        places = {row.id: place for place, row in known.items() if row.id in plan.gone}
        plan.deserted = take_deserted(plan.gone, places, source.root)
    if excluded:
        what = "1 picture that is excluded was" if len(excluded) == 1 else f"{len(excluded):,} excluded pictures were"
        plan.notes.append(f"{what} taken out of the collection, as deleted ones are.")
    plan.gone |= excluded


def _is_excluded(source: Source, path: bytes, member: bytes | None) -> bool:
    return member is None and isinstance(source, Excluder) and source.is_excluded(path)


def _is_below(path: bytes, folders: Sequence[bytes]) -> bool:
    return any(path == folder or path.startswith(folder + b"/") for folder in folders)
