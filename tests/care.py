"""A small collection that holds every kind of file there is, for tests of verify, repair and compact."""

import hashlib
import importlib.util
import os
from pathlib import Path

import numpy as np

import clipsearch
from clipsearch.generate.cache import GeneratedFolder
from clipsearch.store import Columns, Store, update_packs
from clipsearch.types import Skip, SkipReason

HAS_FAISS = importlib.util.find_spec("faiss") is not None


def unit_rows(n: int, dim: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def columns(writer, kind: str, embeddings: np.ndarray, linked: range | None = None) -> Columns:
    ids = np.array(writer.new_ids(len(embeddings)), np.int64)
    if kind == "texts":
        values = {"text": [f"caption {n}" for n in ids], "image_id": list(linked)}
        return Columns(ids, embeddings, values, {"source": b""})
    values = {"path": [b"f/%d.jpg" % n for n in ids], "content_hash": [hashlib.sha256(b"%d" % n).digest() for n in ids]}
    constants = {"root": writer.root_id(b"/photos"), "size": 1, "mtime_ns": 0, "ctime_ns": 0, "format": "jpeg"}
    return Columns(ids, embeddings, values, constants)


def whole_collection(path: Path, n: int = 240) -> clipsearch.Collection:
    """Make a collection with shards, captions, deletions, skips, packs, indexes, calibration, fit and ledger."""
    from clipsearch.flows.build import update_index
    from clipsearch.index.recipe import Recipe

    collection = clipsearch.create(path, model="hashing")
    with Store.open(path).writer() as writer:
        for part in range(3):
            rows = unit_rows(n // 3, collection.encoder.dim, part)
            writer.commit_columns(images=columns(writer, "images", rows))
        texts = unit_rows(n, collection.encoder.dim, 9)
        writer.commit_columns(texts=columns(writer, "texts", texts, range(n)), imports=[{"place": "x"}])
        writer.commit(deleted=[3, 5, n + 2], skipped=[Skip(b"x.jpg", SkipReason.EMPTY)])
    update_packs(Store.open(path).snapshot())
    collection.refresh()
    from clipsearch.flows.calibrate import renew

    renew(Store.open(path), collection.encoder)
    collection.fit_augment()
    if HAS_FAISS:
        recipe = Recipe("ivfflat", nlist=2, name="two lists")
        for kind in ("images", "texts"):
            update_index(Store.open(path), lambda: collection.encoder, kind=kind, recipe=recipe)
    folder = GeneratedFolder(str(path), floor=0)
    for key in ("a", "b"):
        data = f"picture {key}".encode() * 50
        row = {"key": key, "file": f"{key}.generated.png", "sha256": hashlib.sha256(data).hexdigest(), "prompt": "p"}
        folder.keep(row, data)
    collection.refresh()
    return collection


def add_rows(store: Store, rows: np.ndarray, deleted=()) -> range:
    with store.writer() as writer:
        made = columns(writer, "images", rows)
        writer.commit_columns(images=made, deleted=deleted)
    return range(int(made.ids[0]), int(made.ids[-1]) + 1)


def persistent_files(path: str | os.PathLike[str]) -> list[str]:
    """Return all files of a collection but locks, relative to it."""
    found = []
    for folder, _, names in os.walk(path):
        found += [os.path.relpath(os.path.join(folder, name), path) for name in names if not name.startswith(".lock")]
    return sorted(found)
