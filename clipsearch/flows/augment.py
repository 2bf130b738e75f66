"""Fit a collection's rungs: read its pairs, measure, keep those that help.

The pairs are the collection's own captions with the pictures that they belong to. Nothing is switched on without
evidence: a rung is kept only where the lower bound of the 95 % interval of its change in R@10 is above zero.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from clipsearch.augment import RUNGS
from clipsearch.augment.base import Pairs
from clipsearch.errors import InputError
from clipsearch.flows.augment_files import AugmentEvidence, Kept, load_kept, save
from clipsearch.flows.augment_trial import FOLDS, measure
from clipsearch.flows.calibrate_rows import Rows, live_ids, read_rows
from clipsearch.flows.progress import Progress
from clipsearch.match.scores import sample
from clipsearch.store import Snapshot
from clipsearch.types import Ints

MIN_PICTURES = 100  # with a caption
MAX_PAIRS = 20_000
MAX_ROWS = 50_000  # pictures to rank among


def fit(
    snapshot: Snapshot,
    created: str | None = None,
    *,
    names: Sequence[str] | None = None,
    tell: Callable[[Progress], None] | None = None,
) -> AugmentEvidence:
    """Measure all rungs on a version of a collection, fit those that help on all pairs, and keep them.

    Args:
        snapshot: the version.
        created: the time to note down, ISO 8601; None takes now.
        names: rungs to try; None takes all.
        tell: called after each rung.

    Raises:
        InputError: too few pictures have captions.
        StorageError: the result cannot be written.
    """
    pairs, images, targets = read_pairs(snapshot)
    folds = (images.keys[targets] % np.uint64(FOLDS)).astype(np.int64)  # keys are hashes; equal pictures share one
    rows = images.at(np.arange(len(images.ids)))
    report = None if tell is None else lambda done, total: tell(Progress("augment", done, total))
    trial = measure(pairs, folds, rows, targets, names, report)
    evidence = AugmentEvidence(
        version=snapshot.version,
        fingerprint=str(snapshot.manifest.encoder.get("fingerprint")),
        created=created or datetime.now(UTC).isoformat(timespec="seconds"),
        pairs=len(pairs),
        pictures=len(np.unique(pairs.owners)),
        among=len(images.ids),
        trial=trial,
    )
    rungs = {rung.name: RUNGS.load(rung.name).fit(pairs).arrays() for rung in evidence.on}
    live = {kind: live_ids(snapshot, kind) for kind in ("images", "texts")}
    save(snapshot.path, Kept(evidence, live, rungs))
    return evidence


def switch_off(path: str) -> bool:
    """Switch all rungs of a collection off, what was measured is kept; False where none was on.

    Raises:
        StorageError: that cannot be written.
    """
    kept = load_kept(path)
    if kept is None or not kept.evidence.on:
        return False
    save(path, replace(kept, evidence=replace(kept.evidence, off=True), rungs={}))
    return True


def read_pairs(snapshot: Snapshot) -> tuple[Pairs, Rows, Ints]:
    """Return the pairs of a version, the pictures to rank among, and where each pair's picture is among them (P,).

    Of large collections a sample by content is taken, the same however the rows lie on the disk.

    Raises:
        InputError: too few pictures have captions.
    """
    dim = snapshot.manifest.dim
    images, texts = (read_rows(snapshot, kind, dim, None) for kind in ("images", "texts"))
    linked = [(text.id, text.image_id) for text in snapshot.captions() if text.image_id is not None]
    found = np.array(linked, dtype=np.int64).reshape(-1, 2)
    owners, captions = images.positions(found[:, 1]), texts.positions(found[:, 0])
    there = (owners >= 0) & (captions >= 0)
    owners, captions = owners[there], captions[there]
    captioned = np.unique(owners)
    if len(captioned) < MIN_PICTURES:
        raise InputError(
            f"{len(captioned):,} pictures of this collection have a caption; at least {MIN_PICTURES} are needed to "
            "measure.\nAdd captions: clipsearch index ... --captions FILE"
        )
    kept = captioned[_sample(images, captioned, owners)]
    mine = np.isin(owners, kept)
    owners, captions = owners[mine], captions[mine]
    others = np.setdiff1d(np.arange(len(images.ids)), kept)
    others = others[sample(images.keys[others], max(0, MAX_ROWS - len(kept)))]
    among = _part(images, np.sort(np.concatenate([kept, others])))
    targets = among.positions(images.ids[owners])
    return Pairs(texts.at(captions), among.at(targets), images.ids[owners]), among, targets


def _sample(images: Rows, captioned: Ints, owners: Ints) -> Ints:
    """Return positions among the captioned pictures (c,) of as many as have ``MAX_PAIRS`` captions together."""
    order = sample(images.keys[captioned], len(captioned))
    counts = np.bincount(np.searchsorted(captioned, owners), minlength=len(captioned))[order]
    return order[: max(MIN_PICTURES, int((np.cumsum(counts) <= MAX_PAIRS).sum()))]


def _part(rows: Rows, positions: Ints) -> Rows:
    """Return some of the rows, in memory."""
    return replace(
        rows,
        ids=rows.ids[positions],
        hubs=rows.hubs[positions],
        keys=rows.keys[positions],
        concepts=rows.concepts[positions],
        kept=rows.at(positions),
    )
