"""Calibrate a collection: what do scores look like where there is nothing to find?

Generic queries of the bank and, where there are any, the collection's own captions go through the text tower once; the
rest is arithmetic on stored embeddings (see ``clipsearch.match``). ``renew`` does so after an index run where the
calibration on disk is no longer that of the rows.
"""

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np

from clipsearch.embed.base import Encoder
from clipsearch.flows.calibrate_queries import (
    ByKind,
    Texts,
    caption_queries,
    captions_by_kind,
    image_queries,
    most_queries,
    sample_captions,
)
from clipsearch.flows.calibrate_rows import Rows, Version, fill_concepts, live_ids, read_rows
from clipsearch.flows.calibration_files import (
    Calibration,
    Target,
    TextCache,
    load_calibration,
    load_texts,
    save_calibration,
)
from clipsearch.flows.progress import Progress
from clipsearch.flows.verdicts import staleness
from clipsearch.match import bank
from clipsearch.match import calibration as match
from clipsearch.match.calibration import MIN_QUERIES, MIN_ROWS, Queries
from clipsearch.match.verdict import KindNull
from clipsearch.store import Snapshot, Store
from clipsearch.types import Floats, Ints


def renew(
    store: Store, encoder: Encoder, tell: Callable[[Progress], None] | None = None, *, force: bool = False
) -> bool:
    """Calibrate the newest version of a collection unless its calibration still holds; True where it was done.

    Args:
        store: the collection.
        encoder: its encoder.
        tell: called with how far the embedding of texts is.
        force: calibrate in any case.

    Raises:
        StorageError: the calibration cannot be written.
    """
    snapshot = store.snapshot()
    if snapshot.count("images") < MIN_ROWS and snapshot.count("texts") < MIN_ROWS:
        return False
    known = load_calibration(store.path)
    if not force and known is not None and known.bank == bank.bank_hash() and _is_exact(known, snapshot):
        return False
    tower = Texts(encoder, load_texts(store.path, encoder.fingerprint()).known, tell or (lambda _: None))
    made = make_calibration(snapshot, tower, known)
    save_calibration(store.path, made, TextCache(tower.used), datetime.now(UTC).isoformat(timespec="seconds"))
    return True


def make_calibration(
    version: Version, tower: Texts, known: Calibration | None = None, only: str | None = None
) -> Calibration:
    """Return the calibration of a version.

    Args:
        version: the rows to calibrate.
        tower: embeds texts.
        known: an older calibration, whose hubs are taken over where they hold.
        only: "images" or "texts", where the other is of no interest.
    """
    encoder = tower.encoder
    # without captions nothing is corrected, so hubs need not be known
    hub_bank = tower.embed(bank.hub_queries()) if version.count("texts") >= MIN_QUERIES else None
    images, texts = (
        read_rows(version, kind, encoder.dim, hub_bank, _known_hubs(known, kind, encoder))
        for kind in ("images", "texts")
    )
    asked = [rows for rows in (images, texts) if len(rows.ids) >= MIN_ROWS and only in (None, rows.kind)]
    fewest = min((len(rows.ids) for rows in asked), default=0)
    captions = captions_by_kind(
        sample_captions(version, images, texts), lambda kind: most_queries(kind, fewest), tower.covers
    )
    fill_concepts(version, images, texts)
    targets = {rows.kind: _target(rows, captions, images, texts, tower) for rows in asked}
    return Calibration(
        version=version.version,
        fingerprint=encoder.fingerprint(),
        bank=bank.bank_hash(),
        targets=targets,
        corrected=hub_bank is not None,
    )


def _known_hubs(known: Calibration | None, kind: str, encoder: Encoder) -> tuple[Ints, Floats] | None:
    """Return ids and hubs of an older calibration where they were measured with this bank and these weights."""
    if known is None or not known.corrected or kind not in known.targets:
        return None
    if (known.bank, known.fingerprint) != (bank.bank_hash(), encoder.fingerprint()):
        return None
    return known.targets[kind].ids, known.targets[kind].hubs


def _is_exact(known: Calibration, snapshot: Snapshot) -> bool:
    """Tell whether a calibration is of these very rows, none added and none gone."""
    if snapshot.manifest.has_rows_of(known.version):
        return staleness(known, snapshot, "images") is None or snapshot.count("images") < MIN_ROWS
    return known.fingerprint == snapshot.manifest.encoder.get("fingerprint") and all(
        np.array_equal(live_ids(snapshot, kind), known.targets[kind].ids if kind in known.targets else ())
        for kind in ("images", "texts")
        if kind in known.targets or snapshot.count(kind) >= MIN_ROWS
    )


def _target(rows: Rows, captions: ByKind, images: Rows, texts: Rows, tower: Texts) -> Target:
    """Calibrate every kind of query on one kind of rows."""
    kinds: dict[str, KindNull] = {}
    asked: dict[str, Queries] = {}
    strength: float | None = None  # of the hub correction
    for kind in reversed(bank.KINDS):  # sentences first: they cost nothing, so they choose it for the others
        queries = caption_queries(captions[kind], kind, images, texts, rows, tower, strength is not None)
        if queries is None:
            asked[kind] = Queries.generic(tower.embed(bank.bank_queries(kind)))
            kinds[kind] = match.from_bank(asked[kind], rows.blocks)
        else:
            kinds[kind], asked[kind] = match.from_captions(queries, rows.blocks, strength)
            strength = kinds[kind].hub
    if len(images.ids) >= MIN_ROWS:
        asked["image"] = image_queries(images, rows)
        kinds["image"] = match.from_images(asked["image"], rows.blocks)
    order = np.argsort(rows.ids, kind="stable")
    owners = None if rows.owners is None else rows.owners[order]
    kinds = {kind: kinds[kind] for kind in (*bank.KINDS, "image") if kind in kinds}
    return Target(rows.ids[order], rows.hubs[order], kinds, rows.concepts[order], asked, owners)
