"""Fit a collection's rungs: read its pairs, measure, keep those that help.

The pairs are the collection's own captions with the pictures that they belong to. Nothing is switched on without
evidence: a rung is kept only where the lower bound of the 95 % interval of its change in R@10 is above zero.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from clipsearch.augment import DRAWN, RUNGS
from clipsearch.augment.base import Pairs
from clipsearch.errors import InputError
from clipsearch.flows.augment_files import AugmentEvidence, Kept, load_kept, save
from clipsearch.flows.augment_trial import FOLDS, measure, row_folds_of
from clipsearch.flows.augmenter import staleness
from clipsearch.flows.calibrate_rows import Rows, live_ids, read_rows
from clipsearch.flows.progress import Progress
from clipsearch.store import Snapshot
from clipsearch.types import Ints

MIN_PICTURES = 100  # with a caption
MIN_SHARE = 0.9  # of the pictures: those without captions would be in another position than those that were fitted on
MAX_PAIRS = 50_000


def fit(
    snapshot: Snapshot,
    created: str | None = None,
    *,
    names: Sequence[str] | None = None,
    tell: Callable[[Progress], None] | None = None,
) -> AugmentEvidence:
    """Measure rungs on a version of a collection, fit those that help on all pairs, and keep them.

    What was measured of pictures drawn for queries (``flows/imagine.py``) is forgotten: it held on top of other rungs.

    Args:
        snapshot: the version.
        created: the time to note down, ISO 8601; None takes now.
        names: rungs to try; None takes all that need nothing drawn.
        tell: called after each rung.

    Raises:
        InputError: too few pictures have captions, or there are too many pictures.
        StorageError: the result cannot be written.
    """
    pairs, images, targets, _ = read_pairs(snapshot)
    folds, row_folds = row_folds_of(images.keys, targets)
    rows = images.at(np.arange(len(images.ids)))
    report = None if tell is None else lambda done, total: tell(Progress("augment", done, total))
    trial = measure(pairs, folds, rows, targets, row_folds, names, report)
    evidence = AugmentEvidence(
        version=snapshot.version,
        fingerprint=str(snapshot.manifest.encoder.get("fingerprint")),
        created=created or datetime.now(UTC).isoformat(timespec="seconds"),
        pairs=len(pairs),
        pictures=len(np.unique(pairs.owners)),
        among=_ranked_among(folds, row_folds),
        trial=trial,
    )
    rungs = {rung.name: RUNGS.load(rung.name).fit(pairs).arrays() for rung in evidence.on}
    live = {kind: live_ids(snapshot, kind) for kind in ("images", "texts")}
    save(snapshot.path, Kept(evidence, live, rungs))
    return evidence


def choose_rungs(names: Sequence[str] | None) -> tuple[list[str] | None, list[str]]:
    """Return which rungs to measure as they are, None for all of them, and which with pictures drawn.

    Raises:
        UnknownNameError: there is no such rung.
    """
    if names is None:
        return None, []
    for name in names:
        _ = RUNGS[name]  # says which there are
    return [name for name in RUNGS if name in names and name not in DRAWN], [name for name in DRAWN if name in names]


def is_current(snapshot: Snapshot) -> bool:
    """Tell whether what was measured holds for a version, and is not switched off."""
    kept = load_kept(snapshot.path)
    return kept is not None and not kept.evidence.off and staleness(kept, snapshot) is None


def switch_off(path: str) -> bool:
    """Switch all rungs of a collection off, what was measured is kept; False where none was on.

    Raises:
        StorageError: that cannot be written.
    """
    kept = load_kept(path)
    if kept is None or not (kept.evidence.on or kept.evidence.imagines):
        return False
    save(path, replace(kept, evidence=replace(kept.evidence, off=True), rungs={}))
    return True


def read_pairs(snapshot: Snapshot) -> tuple[Pairs, Rows, Ints, Ints]:
    """Return the pairs of a version, all its pictures, and for each pair where its picture is and its caption (P,).

    Of more than ``MAX_PAIRS`` captions each picture has its first few.

    Raises:
        InputError: too few pictures have captions, or there are too many pictures.
    """
    dim = snapshot.manifest.dim
    if snapshot.count("images") > MAX_PAIRS:
        raise InputError(
            f"Rungs are measured on collections of up to {MAX_PAIRS:,} pictures, and this one has "
            f"{snapshot.count('images'):,}.\nIts searches stay as they are."
        )
    images, texts = (read_rows(snapshot, kind, dim, None) for kind in ("images", "texts"))
    linked = [(text.id, text.image_id) for text in snapshot.captions() if text.image_id is not None]
    found = np.array(linked, dtype=np.int64).reshape(-1, 2)
    owners, captions = images.positions(found[:, 1]), texts.positions(found[:, 0])
    there = (owners >= 0) & (captions >= 0)
    owners, captions = owners[there], captions[there]
    captioned = len(np.unique(owners))
    if captioned < max(MIN_PICTURES, MIN_SHARE * len(images.ids)):
        raise InputError(
            f"{captioned:,} of {len(images.ids):,} pictures have a caption; at least {MIN_PICTURES} and "
            f"{MIN_SHARE:.0%} of all are needed to measure.\nAdd captions: clipsearch index ... --captions FILE"
        )
    first = _first_few(owners, max(1, MAX_PAIRS // captioned))
    owners, captions = owners[first], captions[first]
    embeddings = images.at(owners)
    return Pairs(texts.at(captions), embeddings, images.ids[owners]), images, owners, texts.ids[captions]


def _first_few(owners: Ints, most: int) -> Ints:
    """Return the positions, ascending, of the first ``most`` captions of each picture; owners (P,)."""
    order = np.argsort(owners, kind="stable")
    _, starts, counts = np.unique(owners[order], return_index=True, return_counts=True)
    within = np.arange(len(order)) - np.repeat(starts, counts)
    return np.sort(order[within < most])


def _ranked_among(folds: Ints, row_folds: Ints) -> int:
    """Return how many pictures a held-back caption is ranked among, on average."""
    sizes = np.bincount(row_folds[row_folds >= 0], minlength=FOLDS)
    return round(float((sizes + np.roll(sizes, -1))[folds].mean())) + int((row_folds < 0).sum())
