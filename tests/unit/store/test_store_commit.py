import os
import stat
from datetime import UTC, datetime

import numpy as np
import pytest
from store_rows import DIM, ENCODER, add_images, expected_files, files_on_disk, image, live_ids, new_store, text, unit

from clipsearch.errors import CollectionNotFoundError, InputError
from clipsearch.store import Store
from clipsearch.types import Skip, SkipReason


def test_a_new_collection_is_empty_and_keeps_what_it_is_told_of_the_encoder(tmp_path):
    new_store(tmp_path / "deep" / "photos")
    snapshot = Store.open(tmp_path / "deep" / "photos").snapshot()
    assert snapshot.version == 1
    assert dict(snapshot.manifest.encoder) == ENCODER
    assert snapshot.manifest.dim == DIM
    assert [snapshot.count(kind) for kind in ("images", "texts", "deleted")] == [0, 0, 0]
    assert list(snapshot.blocks("images")) == list(snapshot.known_files()) == snapshot.skipped() == []
    assert snapshot.deleted_ids().dtype == np.int64
    assert snapshot.rows("images", []) == []
    assert snapshot.embeddings("images", []).shape == (0, DIM)


def test_create_refuses_a_collection_and_any_other_content(tmp_path):
    new_store(tmp_path / "a", n=1)
    with pytest.raises(InputError, match="already"):
        Store.create(tmp_path / "a", ENCODER, DIM)
    assert live_ids(Store.open(tmp_path / "a")) == [0]
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(InputError, match=r"holiday\.jpg"):
        Store.create(tmp_path / "b", ENCODER, DIM)
    (tmp_path / "c").write_bytes(b"a file")
    with pytest.raises(InputError, match="is a file"):
        Store.create(tmp_path / "c", ENCODER, DIM)
    (tmp_path / "empty").mkdir()
    assert live_ids(Store.create(tmp_path / "empty", ENCODER, DIM)) == []


def test_create_never_wipes_a_collection_that_lost_its_pointer(tmp_path):
    store = new_store(tmp_path / "a", n=1)
    os.unlink(tmp_path / "a" / "CURRENT")
    before = files_on_disk(store)
    with pytest.raises(InputError):
        Store.create(tmp_path / "a", ENCODER, DIM)
    assert files_on_disk(store) == before


def test_opening_nothing_says_what_to_run(tmp_path):
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(CollectionNotFoundError, match="clipsearch index"):
            Store.open(missing)
    with pytest.raises(CollectionNotFoundError), Store(str(tmp_path / "none")).writer():
        pass
    assert not (tmp_path / "none").exists()


def test_all_columns_come_back_as_they_were_given(tmp_path):
    store = new_store(tmp_path / "a")
    odd = {"path": b"\xff/\n\x00.jpg", "member": b"\xe9.png", "taken": None, "camera": None, "latitude": None}
    with store.writer() as writer:
        root = writer.root_id(b"/photos/\xff")
        ids = writer.new_ids(3)
        given = [image(ids[0], root), image(ids[1], root, **odd)]
        told = {"text": "ein Häuschen\n日本", "source": b"\xfe", "origins": b"/a\0\xff"}
        writer.commit(images=given[::-1], texts=[text(ids[2], ids[0], **told)])
    snapshot = Store.open(tmp_path / "a").snapshot()
    for row, stored in zip(given, snapshot.rows("images", [ids[0], ids[1]]), strict=True):
        assert stored == {name: getattr(row, name) for name in row.__slots__ if name != "embedding"}
    assert snapshot.rows("texts", [ids[2]]) == [{"id": ids[2], "image_id": ids[0], **told}]
    assert snapshot.root_path(root) == b"/photos/\xff"
    wanted = np.stack([given[1].embedding, given[0].embedding]).astype(np.float16)
    assert np.array_equal(snapshot.embeddings("images", [ids[1], ids[0]]), wanted)
    [known] = snapshot.captions()
    assert (known.id, known.image_id, known.source, known.text) == (ids[2], ids[0], b"\xfe", "ein Häuschen\n日本")


def test_blocks_hold_all_rows_as_stored_and_ids_find_rows_across_shards(tmp_path):
    store = new_store(tmp_path / "a")
    with store.writer() as writer:
        late = writer.new_ids(2)  # committed after younger ids: shards' ranges may overlap
        young = add_images(writer, 3)
        writer.commit(images=[image(id_, writer.root_id(b"/photos")) for id_ in late], deleted=[young[1]])
    snapshot = store.snapshot()
    blocks = list(snapshot.blocks("images"))
    assert [block.ids.tolist() for block in blocks] == [list(young), list(late)]
    assert all(block.embeddings.dtype == np.float16 and block.embeddings.shape[1] == DIM for block in blocks)
    ids = [4, 0, 3, 3, 1]
    assert [row["id"] for row in snapshot.rows("images", ids)] == ids
    assert np.array_equal(snapshot.embeddings("images", ids), np.stack([unit(id_) for id_ in ids]).astype(np.float16))
    with pytest.raises(KeyError):
        snapshot.rows("images", [0, 99])
    with pytest.raises(KeyError):
        snapshot.rows("texts", [0])


def test_deleted_rows_are_counted_out_but_can_still_be_read_by_id(tmp_path):
    store = new_store(tmp_path / "a", n=5)
    with store.writer() as writer:
        ids = writer.new_ids(3)
        writer.commit(texts=[text(ids[0], 1), text(ids[1], 2)], images=[image(ids[2])], deleted=[3, 1, 1, ids[0]])
        manifest = writer.commit(deleted=[1, 3])  # gone already: nothing to do
    assert manifest.version == 3
    snapshot = store.snapshot()
    assert dict(manifest.counts) == {"images": 4, "texts": 1, "deleted": 3}
    assert snapshot.deleted_ids().tolist() == [1, 3, ids[0]]
    assert live_ids(store) == [0, 2, 4, ids[2]]
    assert [row.id for row in snapshot.captions()] == [ids[1]]
    assert snapshot.rows("images", [3])[0]["path"] == b"folder/3.jpg"


def test_a_commit_of_nothing_makes_no_version(tmp_path):
    store = new_store(tmp_path / "a", n=1)
    with store.writer() as writer:
        assert writer.commit() == writer.commit(skipped=[]) == writer.commit(deleted=[0, 0][:0])
    assert store.snapshot().version == 2


def test_the_list_of_skipped_files_is_replaced_kept_or_emptied(tmp_path):
    store = new_store(tmp_path / "a")
    skips = [
        Skip(b"a\xff.jpg", SkipReason.TRUNCATED, "half a file\n\udcff", None),
        Skip(b"t.tar", SkipReason.EMPTY, "", b"\xe9"),
    ]
    with store.writer() as writer:
        writer.commit(skipped=skips)
        add_images(writer, 1)
        stored = store.snapshot().skipped()
        assert [(s.path, s.reason, s.member) for s in stored] == [(s.path, s.reason, s.member) for s in skips]
        assert stored[0].detail == "half a file\n\\udcff"
        assert [entry.rows for entry in writer.manifest.files_of("skipped")] == [2]
        writer.commit(skipped=[])
        assert store.snapshot().skipped() == writer.manifest.files_of("skipped") == []


def test_a_snapshot_goes_on_reading_its_own_version(tmp_path):
    store = new_store(tmp_path / "a", n=3)
    unread, read = store.snapshot(), store.snapshot()
    assert unread is read
    before = [block.ids.tolist() for block in read.blocks("images")]
    with store.writer() as writer:
        add_images(writer, 2)
        writer.commit(deleted=[0], skipped=[Skip(b"x", SkipReason.EMPTY)])
        writer.commit(skipped=[Skip(b"y", SkipReason.EMPTY)])
    assert [block.ids.tolist() for block in unread.blocks("images")] == before
    assert [row.id for row in unread.known_files()] == [0, 1, 2]
    assert (unread.version, store.snapshot().version) == (2, 5)
    assert live_ids(store) == [1, 2, 3, 4]


def test_a_closed_snapshot_reads_on_and_its_arrays_stay_valid(tmp_path):
    store = new_store(tmp_path / "a", n=3)
    snapshot = store.snapshot()
    [block] = snapshot.blocks("images")
    snapshot.close()
    assert np.array_equal(block.embeddings, np.stack([unit(n) for n in range(3)]).astype(np.float16))
    assert snapshot.rows("images", [2])[0]["id"] == 2


def test_ids_are_never_used_twice(tmp_path):
    store = new_store(tmp_path / "a", n=3)
    with store.writer() as writer:
        writer.commit(deleted=[0, 1, 2])
    with Store.open(tmp_path / "a").writer() as writer:
        assert writer.new_ids(2) == range(3, 5)
        assert writer.new_ids(1) == range(5, 6)
        for wrong, why in (([0], "stored already"), ([3, 3], "same id"), ([6], "never given out"), ([-1], "never")):
            with pytest.raises(ValueError, match=why):
                writer.commit(texts=[text(id_, embedding=unit(0)) for id_ in wrong])
        with pytest.raises(ValueError, match="root"):
            writer.commit(images=[image(3, root=7)])
        with pytest.raises(ValueError, match="never given out"):
            writer.commit(deleted=[6])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"embedding": np.full(DIM, np.nan, np.float32)}, "NaN"),
        ({"embedding": np.full(DIM, 70_000, np.float32)}, "infinity"),
        ({"embedding": unit(0, DIM + 1)}, "shape"),
        ({"embedding": unit(0)[None]}, "shape"),
        ({"content_hash": b"short"}, "cannot be stored"),
        ({"width": 2**31}, "cannot be stored"),
        ({"taken": datetime(2024, 1, 1, tzinfo=UTC)}, "time zone"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_with_nothing_written(tmp_path, changes, why):
    store = new_store(tmp_path / "a", n=1)
    before = files_on_disk(store)
    with store.writer() as writer:
        ids = writer.new_ids(2)
        with pytest.raises(ValueError, match=why):
            writer.commit(images=[image(ids[0]), image(ids[1], **changes)])
        assert files_on_disk(store) - {".lock-holder"} == before
        writer.commit(images=[image(ids[0])])
    assert live_ids(store) == [0, 1]


def test_numpy_numbers_in_rows_are_welcome_and_odd_texts_are_made_storable(tmp_path):
    store = new_store(tmp_path / "a")
    with store.writer() as writer:
        writer.root_id(b"/photos")
        [id_] = writer.new_ids(1)
        row = image(id_, width=np.int64(7), latitude=np.float32(0.5), camera="A\ud800\0", embedding=unit(1).tolist())
        writer.commit(images=[row])
    [stored] = store.snapshot().rows("images", np.array([id_]))
    assert (stored["width"], stored["latitude"], stored["camera"]) == (7, 0.5, "A\\ud800\0")


def test_encoders_that_are_not_json_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not JSON"):
        Store.create(tmp_path / "a", {"name": b"bytes"}, DIM)
    with pytest.raises(ValueError, match="dim"):
        Store.create(tmp_path / "a", ENCODER, 0)


def test_nothing_but_the_named_files_lies_in_the_folder_and_only_its_owner_may_read(tmp_path):
    old = os.umask(0)
    try:
        store = new_store(tmp_path / "a", n=2)
        with store.writer() as writer:
            writer.commit(
                texts=[text(id_) for id_ in writer.new_ids(1)], deleted=[1], skipped=[Skip(b"x", SkipReason.EMPTY)]
            )
    finally:
        os.umask(old)
    assert files_on_disk(store) == expected_files(store)
    for folder, _, names in os.walk(store.path):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        for name in names:
            assert stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) == 0o600, name


def test_roots_are_found_again_and_follow_a_move_of_collection_and_pictures(tmp_path):
    photos = os.fsencode(tmp_path / "one" / "photos")
    os.makedirs(photos)
    store = new_store(tmp_path / "one" / "indexes" / "a")
    with store.writer() as writer:
        assert writer.root_id(photos) == writer.root_id(photos + b"/") == 0
        assert writer.root_id(b"/elsewhere") == 1
        writer.commit(images=[image(id_) for id_ in writer.new_ids(1)])
        with pytest.raises(ValueError, match="absolute"):
            writer.root_id(b"photos")
    os.rename(tmp_path / "one", tmp_path / "two")
    moved = Store.open(tmp_path / "two" / "indexes" / "a")
    now = os.fsencode(tmp_path / "two" / "photos")
    assert moved.snapshot().root_path(0) == now
    assert moved.snapshot().root_path(1) == b"/elsewhere"
    with pytest.raises(KeyError):
        moved.snapshot().root_path(2)
    with moved.writer() as writer:
        assert writer.root_id(now) == 0
        writer.commit(images=[image(id_) for id_ in writer.new_ids(1)])
    os.rename(tmp_path / "two" / "indexes", tmp_path / "indexes")  # the collection alone
    alone = Store.open(tmp_path / "indexes" / "a")
    assert alone.snapshot().root_path(0) == now
    os.rename(tmp_path / "two", tmp_path / "lost")
    assert Store.open(tmp_path / "indexes" / "a").snapshot().root_path(0) == now
