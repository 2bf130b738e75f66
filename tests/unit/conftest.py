"""A small collection with the hashing encoder, its rows written without scanning or decoding."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import clipsearch
from clipsearch.store import ImageRow, Store, TextRow


def add_pictures(collection, files, captions=()):
    """Write picture files into a collection, and (file or None, caption) pairs; returns path → row id."""
    encoder, ids = collection.encoder, {}
    with Store.open(collection.path).writer() as writer:
        images = []
        for file in files:
            picture = Image.open(file).convert("RGB")
            stat, row_id = file.stat(), writer.new_ids(1)[0]
            ids[file] = row_id
            images.append(
                ImageRow(
                    id=row_id,
                    root=writer.root_id(os.fsencode(file.parent)),
                    path=os.fsencode(file.name),
                    member=None,
                    size=stat.st_size,
                    mtime_ns=stat.st_mtime_ns,
                    ctime_ns=stat.st_ctime_ns,
                    content_hash=hashlib.sha256(file.read_bytes()).digest(),
                    width=picture.width,
                    height=picture.height,
                    format="png",
                    taken=None,
                    camera="Box Camera",
                    lens=None,
                    latitude=None,
                    longitude=None,
                    embedding=encoder.encode_images(encoder.preprocess(picture)[None])[0],
                )
            )
        texts = [
            TextRow(
                id=writer.new_ids(1)[0],
                image_id=ids.get(file),
                text=caption,
                source=os.fsencode(file.name) if file else b"",
                embedding=encoder.encode_texts([caption])[0],
            )
            for file, caption in captions
        ]
        writer.commit(images=images, texts=texts)
    return ids


@pytest.fixture
def write_pictures():
    return add_pictures


@pytest.fixture
def collection(photos: Path, tmp_path: Path):
    """Six pictures, one a colour, each with a caption, and a caption without a picture."""
    files = sorted(photos.iterdir())
    with clipsearch.create(tmp_path / "indexes" / "photos", model="hashing") as made:
        captions = [(file, f"a {file.stem} square") for file in files]
        add_pictures(made, files, [*captions, (None, "a red thought")])
        made.refresh()
        yield made


@pytest.fixture
def unit_rows():
    """Make (n, D) float32 rows of unit norm from anything."""
    return lambda x: (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)
