"""Whatever rows are stored, in whatever commits: they come back as they were, and deleted ones do not."""

import math
import os
import tempfile
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from clipsearch.store import ImageRow, Store, TextRow

DIM = 3
INT64 = st.integers(-(2**63), 2**63 - 1)
PATHS = st.binary(min_size=1, max_size=40)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
VECTORS = st.lists(st.floats(-60_000, 60_000, width=16), min_size=DIM, max_size=DIM).map(
    lambda values: np.array(values, np.float32)
)
IMAGES = st.fixed_dictionaries(
    {
        "path": PATHS,
        "member": st.none() | PATHS,
        "size": INT64,
        "mtime_ns": INT64,
        "ctime_ns": INT64,
        "content_hash": st.binary(min_size=32, max_size=32),
        "width": st.integers(1, 2**31 - 1),
        "height": st.integers(1, 2**31 - 1),
        "format": st.sampled_from(["jpeg", "png"]),
        "taken": st.none() | st.datetimes(),
        "camera": st.none() | TEXTS,
        "lens": st.none() | TEXTS,
        "latitude": st.none() | st.floats(),
        "longitude": st.none() | st.floats(),
        "generated": st.none() | st.just(True),
        "embedding": VECTORS,
    }
)
CAPTIONS = st.fixed_dictionaries({"text": TEXTS, "source": PATHS, "embedding": VECTORS})
COMMITS = st.lists(
    st.tuples(st.lists(IMAGES, max_size=4), st.lists(CAPTIONS, max_size=3), st.lists(st.integers(0, 30), max_size=3)),
    min_size=1,
    max_size=3,
)


def same(left: Any, right: Any) -> bool:
    """Equal, where NaN equals itself and -0.0 is not 0.0."""
    if isinstance(left, float) and isinstance(right, float):
        return (math.isnan(left) and math.isnan(right)) or (
            left == right and math.copysign(1, left) == math.copysign(1, right)
        )
    return type(left) is type(right) and left == right


def check(stored: list[dict[str, Any]], given_rows: list[Any]) -> None:
    for values, row in zip(stored, given_rows, strict=True):
        for name, value in values.items():
            assert same(value, getattr(row, name)), (name, value, getattr(row, name))
        assert set(values) | {"embedding"} == set(row.__slots__)


@given(commits=COMMITS, root=PATHS, sidecars=st.booleans())
@settings(max_examples=25, deadline=None)
def test_rows_come_back_as_given_and_deleted_ones_do_not(commits, root, sidecars):
    with tempfile.TemporaryDirectory() as folder:
        store = Store.create(os.path.join(folder, "a"), {"name": "hashing"}, DIM)
        images: dict[int, ImageRow] = {}
        texts: dict[int, TextRow] = {}
        gone: set[int] = set()
        with store.writer() as writer:
            root_id = writer.root_id(b"/" + root.replace(b"\0", b"_"))
            for new_images, new_texts, deleted in commits:
                new = {
                    id_: ImageRow(id=id_, root=root_id, **v)
                    for id_, v in zip(writer.new_ids(99), new_images, strict=False)
                }
                images |= new
                said = {
                    id_: TextRow(id=id_, image_id=next(iter(new), None), **values)
                    for id_, values in zip(writer.new_ids(99), new_texts, strict=False)
                }
                texts |= said
                gone |= set(deleted) & {*images, *texts}
                writer.commit(images=list(new.values()), texts=list(said.values()), deleted=deleted)
        if not sidecars:
            for entry in store.snapshot().manifest.files_of("sidecar"):
                os.unlink(os.path.join(store.path, entry.name))
        snapshot = Store.open(store.path).snapshot()
        check(snapshot.rows("images", list(images)), list(images.values()))
        check(snapshot.rows("texts", list(texts)), list(texts.values()))
        for kind, rows in (("images", images), ("texts", texts)):
            wanted = np.array([row.embedding for row in rows.values()], np.float16).reshape(-1, DIM)
            assert np.array_equal(snapshot.embeddings(kind, list(rows)), wanted)
            blocks = list(snapshot.blocks(kind))
            assert [id_ for block in blocks for id_ in block.ids.tolist()] == list(rows)
        assert set(snapshot.deleted_ids().tolist()) == gone
        live = [row for id_, row in images.items() if id_ not in gone]
        known = list(snapshot.known_files())
        assert snapshot.count("images") == len(known) == len(live)
        for stored, row in zip(known, live, strict=True):
            assert all(getattr(stored, name) == getattr(row, name) for name in stored.__slots__)
        captions = [row for id_, row in texts.items() if id_ not in gone]
        assert [(c.id, c.image_id, c.source, c.text) for c in snapshot.captions()] == [
            (c.id, c.image_id, c.source, c.text) for c in captions
        ]
        assert snapshot.count("texts") == len(captions)
