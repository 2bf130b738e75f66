"""Rows for the store's tests, and a look at what a collection's folder holds."""

import json
import os
from datetime import datetime
from pathlib import Path

import numpy as np

from clipsearch.store import ImageRow, Store, TextRow, Writer

DIM = 8
ENCODER = {"name": "hashing", "fingerprint": "f" * 64, "card": {"family": "hashing"}, "pixel_policy": 1}


def unit(seed: int, dim: int = DIM) -> np.ndarray:
    vector = np.random.default_rng(seed).standard_normal(dim).astype(np.float32)
    return vector / np.linalg.norm(vector)


def image(id_: int, root: int = 0, **changes) -> ImageRow:
    values = {
        "path": b"folder/%d.jpg" % id_,
        "member": None,
        "size": 1000 + id_,
        "mtime_ns": 1_700_000_000_000_000_001 + id_,
        "ctime_ns": 1_700_000_000_000_000_002 + id_,
        "content_hash": id_.to_bytes(32, "big"),
        "width": 640,
        "height": 480,
        "format": "jpeg",
        "taken": datetime(2024, 5, 17, 12, 30, 1, 250_000),
        "camera": "FUJIFILM X100V",
        "lens": None,
        "latitude": 47.3769,
        "longitude": -8.5417,
        "embedding": unit(id_),
    }
    return ImageRow(id=id_, root=root, **{**values, **changes})


def text(id_: int, image_id: int | None = None, **changes) -> TextRow:
    values = {"text": f"caption {id_}", "source": b"%d.jpg" % id_, "embedding": unit(abs(id_))}
    return TextRow(id=id_, image_id=image_id, **{**values, **changes})


def add_images(writer: Writer, n: int) -> range:
    root = writer.root_id(b"/photos")
    ids = writer.new_ids(n)
    writer.commit(images=[image(id_, root) for id_ in ids])
    return ids


def new_store(path: Path, n: int = 0) -> Store:
    store = Store.create(path, ENCODER, DIM)
    if n:
        with store.writer() as writer:
            add_images(writer, n)
    return store


def live_ids(store: Store) -> list[int]:
    return [row.id for row in store.snapshot().known_files()]


def files_on_disk(store: Store) -> set[str]:
    found = set()
    for folder, _, names in os.walk(store.path):
        found |= {os.path.relpath(os.path.join(folder, name), store.path) for name in names}
    return found


def expected_files(store: Store) -> set[str]:
    """All files that should lie there: what the version in force and the older ones name, and nothing else."""
    expected = {"CURRENT", ".lock"}
    for version in range(1, store.snapshot().version + 1):
        name = f"manifests/v{version:06d}.json"
        expected |= {name, *(entry["name"] for entry in json.loads(Path(store.path, name).read_bytes())["files"])}
    return expected
