"""Calibrate a collection: what do scores look like where there is nothing to find?

Generic queries of the bank and, where there are any, the collection's own captions go through the text tower once; the
rest is arithmetic on stored embeddings (see ``clipsearch.match``). ``renew`` does so after an index run where the
calibration on disk is no longer that of the rows. Samples are chosen by content, so the same pictures give the same
calibration however they lie on the disk.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.embed.base import Encoder
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
from clipsearch.match.calibration import MIN_QUERIES, MIN_ROWS, Block, Queries, max_queries
from clipsearch.match.concepts import TRAINED_ON, Concepts, concept_count, find_concepts
from clipsearch.match.scores import content_keys, hubs, sample
from clipsearch.match.verdict import KindNull
from clipsearch.store import Snapshot, Store
from clipsearch.types import Floats, Ints

CHUNK = 8_192  # rows in memory at a time, and rows that concepts are learnt on
MAX_CAPTIONS = 100_000  # above it, concepts are found in the pictures alone
_BATCH = 256
_SPARE = 6  # captions looked at for each query wanted: some are the same picture's, some yield none of a kind


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
    cache = load_texts(store.path, encoder.fingerprint())
    made, used = make_calibration(snapshot, encoder, cache, tell or (lambda _: None))
    save_calibration(store.path, made, used, datetime.now(UTC).isoformat(timespec="seconds"))
    return True


def make_calibration(
    snapshot: Snapshot,
    encoder: Encoder,
    cache: TextCache | None = None,
    tell: Callable[[Progress], None] = lambda _: None,
) -> tuple[Calibration, TextCache]:
    """Return the calibration of a version, and the embeddings of the texts it took."""
    texts = _Texts(encoder, cache or TextCache(), tell)
    # without captions nothing is corrected, so hubs need not be known
    hub_bank = texts.embed(bank.all_queries()) if snapshot.count("texts") >= MIN_QUERIES else None
    rows = {kind: _read_rows(snapshot, kind, hub_bank) for kind in ("images", "texts")}
    captions = _sample_captions(snapshot, rows)
    _find_concepts(snapshot, rows)
    targets = {
        kind: Target(rows[kind].ids, rows[kind].hubs, _calibrate_kinds(snapshot, rows, kind, captions, texts))
        for kind in rows
        if len(rows[kind].ids) >= MIN_ROWS
    }
    made = Calibration(
        version=snapshot.version,
        fingerprint=encoder.fingerprint(),
        bank=bank.bank_hash(),
        targets={
            kind: Target(target.ids[order], target.hubs[order], target.kinds)
            for kind, target in targets.items()
            for order in [np.argsort(target.ids, kind="stable")]
        },
    )
    return made, TextCache(texts.used)


def _is_exact(known: Calibration, snapshot: Snapshot) -> bool:
    """Tell whether a calibration is of these very rows, none added and none gone."""
    if known.version == snapshot.version:
        return staleness(known, snapshot, "images") is None or snapshot.count("images") < MIN_ROWS
    return known.fingerprint == snapshot.manifest.encoder.get("fingerprint") and all(
        np.array_equal(_live_ids(snapshot, kind), known.targets[kind].ids if kind in known.targets else ())
        for kind in ("images", "texts")
        if kind in known.targets or snapshot.count(kind) >= MIN_ROWS
    )


def _live_ids(snapshot: Snapshot, kind: str) -> Ints:
    ids = [block.ids for block in snapshot.blocks(kind)]
    joined = np.concatenate([np.empty(0, np.int64), *ids])
    return np.sort(joined[~np.isin(joined, snapshot.deleted_ids())])


class _Texts:
    """The text tower with a memory: a text is embedded once in a collection's life."""

    def __init__(self, encoder: Encoder, cache: TextCache, tell: Callable[[Progress], None]) -> None:
        self._encoder, self._cache, self._tell = encoder, cache, tell
        self.used: dict[str, NDArray[Any]] = {}

    def covers(self, text: str) -> bool:
        return self._encoder.covers_text(text)

    def embed(self, texts: Sequence[str]) -> Floats:
        """Return embeddings (n, D) float32, as they come back from a float16 cache."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._cache.known]
        for start in range(0, len(missing), _BATCH):
            part = missing[start : start + _BATCH]
            self._cache.known.update(zip(part, self._encoder.encode_texts(part).astype(np.float16), strict=True))
            self._tell(Progress("calibrate", start + len(part), len(missing)))
        self.used.update((text, self._cache.known[text]) for text in texts)
        return np.array([self.used[text] for text in texts], dtype=np.float32)


@dataclass
class _Rows:
    """All live rows of a kind, in the order of the shards: ids, hubs, keys and concepts (n,)."""

    ids: Ints
    hubs: Floats
    keys: NDArray[np.uint64]
    concepts: Ints

    def positions(self, ids: Ints) -> Ints:
        """Return where rows (m,) are, -1 for those that are not there."""
        if not len(self.ids):
            return np.full(len(ids), -1, dtype=np.int64)
        order = np.argsort(self.ids, kind="stable")
        at = order[np.minimum(np.searchsorted(self.ids, ids, sorter=order), len(self.ids) - 1)]
        return np.where(self.ids[at] == ids, at, -1)


def _chunks(snapshot: Snapshot, kind: str) -> Iterator[tuple[Ints, NDArray[Any]]]:
    """Yield ids and float16 embeddings of live rows, ascending ids, about ``CHUNK`` of them at a time."""
    deleted = snapshot.deleted_ids()
    pieces: list[tuple[Ints, NDArray[Any]]] = []
    gathered = 0
    for block in snapshot.blocks(kind):
        for start in range(0, len(block.ids), CHUNK):
            ids, rows = block.ids[start : start + CHUNK], block.embeddings[start : start + CHUNK]
            keep = ~np.isin(ids, deleted)
            pieces.append((ids[keep], rows[keep]))
            gathered += len(pieces[-1][0])
            if gathered >= CHUNK:
                yield _joined(pieces)
                pieces, gathered = [], 0
    if gathered:
        yield _joined(pieces)


def _joined(pieces: list[tuple[Ints, NDArray[Any]]]) -> tuple[Ints, NDArray[Any]]:
    ids = np.concatenate([ids for ids, _ in pieces])
    order = np.argsort(ids, kind="stable")
    return ids[order], np.concatenate([rows for _, rows in pieces])[order]


def _read_rows(snapshot: Snapshot, kind: str, hub_bank: Floats | None) -> _Rows:
    """Walk over all rows once: ids, hubs and content keys; concepts are not known yet."""
    ids, found, keys = [np.empty(0, np.int64)], [np.empty(0, np.float32)], [np.empty(0, np.uint64)]
    for chunk_ids, rows in _chunks(snapshot, kind):
        ids.append(chunk_ids)
        nothing = np.zeros(len(rows), np.float32)
        found.append(nothing if hub_bank is None else hubs(rows.astype(np.float32), hub_bank))
        keys.append(content_keys(rows))
    n = sum(map(len, ids))
    return _Rows(np.concatenate(ids), np.concatenate(found), np.concatenate(keys), np.full(n, -1, np.int64))


@dataclass(frozen=True)
class _Caption:
    id: int
    image_id: int
    text: str


def _sample_captions(snapshot: Snapshot, rows: dict[str, _Rows]) -> list[_Caption]:
    """Return captions of live pictures to make queries of, one a picture, in an order that only contents decide."""
    texts = rows["texts"]
    wanted = max_queries(len(rows["images"].ids))
    at = sample(texts.keys, _SPARE * wanted)
    found: dict[int, _Caption] = {}
    stored = snapshot.rows("texts", texts.ids[at])
    linked = np.array([-1 if row["image_id"] is None else row["image_id"] for row in stored], dtype=np.int64)
    live = rows["images"].positions(linked) >= 0
    for row, there in zip(stored, live, strict=True):
        if there:
            found.setdefault(row["image_id"], _Caption(row["id"], row["image_id"], row["text"]))
    return list(found.values())


# Concepts: by pictures and captions where most pictures have some, else by the pictures alone.


def _find_concepts(snapshot: Snapshot, rows: dict[str, _Rows]) -> None:
    """Fill in the concept of every row."""
    images, texts = rows["images"], rows["texts"]
    owners = _owners_of_texts(snapshot, texts, images) if 0 < len(texts.ids) <= MAX_CAPTIONS else None
    captioned = 0 if owners is None else len(np.unique(owners[owners >= 0]))
    if owners is not None and 2 * captioned >= len(images.ids) > 0:
        _concepts_by_captions(snapshot, images, texts, owners)
        return
    for kind in ("images", "texts"):
        if len(rows[kind].ids):
            concepts = _learn(snapshot, kind, rows[kind])
            parts = [concepts.assign(block.astype(np.float32)) for _, block in _chunks(snapshot, kind)]
            rows[kind].concepts = np.concatenate(parts)


def _owners_of_texts(snapshot: Snapshot, texts: _Rows, images: _Rows) -> Ints:
    """Return for each text the position of its picture among the images, or -1 (n,)."""
    owners = np.full(len(texts.ids), -1, dtype=np.int64)
    linked = [(text.id, text.image_id) for text in snapshot.captions() if text.image_id is not None]
    if linked:
        pairs = np.array(linked, dtype=np.int64)
        owners[texts.positions(pairs[:, 0])] = images.positions(pairs[:, 1])
    return owners


def _learn(snapshot: Snapshot, kind: str, rows: _Rows) -> Concepts:
    at = sample(rows.keys, TRAINED_ON)
    points = snapshot.embeddings(kind, rows.ids[at]).astype(np.float32)
    return find_concepts(points, concept_count(len(rows.ids)))


def _concepts_by_captions(snapshot: Snapshot, images: _Rows, texts: _Rows, owners: Ints) -> None:
    """Group pictures by picture and captions together; what lacks one of the two goes by the other."""
    embeddings = np.concatenate([rows for _, rows in _chunks(snapshot, "texts")]).astype(np.float32)
    linked = np.flatnonzero(owners >= 0)
    linked = linked[np.argsort(owners[linked], kind="stable")]
    captioned, starts = np.unique(owners[linked], return_index=True)
    means = _unit(np.add.reduceat(embeddings[linked], starts, axis=0))
    pictures = snapshot.embeddings("images", images.ids[captioned]).astype(np.float32)
    both = _unit(np.concatenate((pictures, means), axis=1))
    order = np.argsort(images.keys[captioned], kind="stable")[:TRAINED_ON]
    concepts = find_concepts(both[order], concept_count(len(images.ids)))
    of_picture, of_text = np.split(concepts.centres, 2, axis=1)
    parts = [
        Concepts(of_picture, concepts.groups).assign(rows.astype(np.float32)) for _, rows in _chunks(snapshot, "images")
    ]
    images.concepts = np.concatenate(parts)
    images.concepts[captioned] = concepts.assign(both)
    alone = Concepts(of_text, concepts.groups).assign(embeddings)
    texts.concepts = np.where(owners >= 0, images.concepts[owners], alone)


def _unit(x: Floats) -> Floats:
    return (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)).astype(np.float32)


# Queries


def _calibrate_kinds(
    snapshot: Snapshot, rows: dict[str, _Rows], target: str, captions: list[_Caption], texts: _Texts
) -> dict[str, KindNull]:
    """Return the reference samples by kind of query for one kind of rows."""
    own = rows[target]

    def blocks() -> Iterator[Block]:
        start = 0
        for ids, embeddings in _chunks(snapshot, target):
            part = slice(start, start + len(ids))
            yield Block(ids, embeddings.astype(np.float32), own.hubs[part], own.concepts[part])
            start += len(ids)

    kinds: dict[str, KindNull] = {}
    for kind in bank.KINDS:
        queries = _caption_queries(kind, rows, target, captions, texts)
        if queries is None:
            kinds[kind] = match.from_bank(texts.embed(bank.bank_queries(kind)), blocks)
        else:
            kinds[kind] = match.from_captions(queries, blocks)
    if len(rows["images"].ids) >= MIN_ROWS:
        kinds["image"] = match.from_images(_image_queries(snapshot, rows, target), blocks)
    return kinds


def _caption_queries(
    kind: str, rows: dict[str, _Rows], target: str, captions: list[_Caption], texts: _Texts
) -> Queries | None:
    """Return the collection's captions as queries of a kind; None where there are too few."""
    made: dict[str, _Caption] = {}
    for caption in captions:
        text = bank.as_kind(caption.text, kind)
        if text is not None and texts.covers(text):
            made.setdefault(text, caption)
    if len(made) < MIN_QUERIES:
        return None
    used = dict(list(made.items())[: max_queries(len(rows[target].ids))])
    images = np.array([caption.image_id for caption in used.values()], dtype=np.int64)
    selves = np.array([caption.id if target == "texts" else -1 for caption in used.values()], dtype=np.int64)
    concepts = rows["images"].concepts[rows["images"].positions(images)]
    return Queries(texts.embed(list(used)), concepts, selves)


def _image_queries(snapshot: Snapshot, rows: dict[str, _Rows], target: str) -> Queries:
    """Return pictures of the collection as queries."""
    images = rows["images"]
    at = sample(images.keys, max_queries(len(rows[target].ids)))
    embeddings = snapshot.embeddings("images", images.ids[at]).astype(np.float32)
    selves = images.ids[at] if target == "images" else np.full(len(at), -1, dtype=np.int64)
    return Queries(embeddings, images.concepts[at], selves)
