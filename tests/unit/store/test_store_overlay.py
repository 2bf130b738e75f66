"""A collection on top of another one has its pictures under their ids, and nothing is ever written into that one."""

import os
import shutil

import numpy as np
from store_rows import add_images, image, new_store, text

from clipsearch.store import Store, overlay, verify_files


def state(path):
    """Every file below a folder: name, bytes, and what the file system says of it."""
    found = {}
    for folder, _, names in os.walk(path):
        for name in names:
            place = os.path.join(folder, name)
            stat = os.lstat(place)
            with open(place, "rb") as file:
                found[place] = (file.read(), stat.st_ino, stat.st_nlink, stat.st_mtime_ns, stat.st_ctime_ns)
    return found


def filled(path):
    store = new_store(path, 6)
    with store.writer() as writer:
        add_images(writer, 3)
        writer.commit(texts=[text(writer.new_ids(1)[0], 2)], deleted=[1, 7])
        writer.commit_added("tags", np.array([0, 2]), [["a"], ["b"]])
    return store


def test_pictures_are_there_and_deleted_ones_are_not_and_texts_stay_behind(tmp_path):
    below = filled(tmp_path / "below").snapshot()
    upon = Store.open(overlay(str(tmp_path / "upon"), below).path).snapshot()
    assert [row.id for row in upon.known_files()] == [0, 2, 3, 4, 5, 6, 8]
    ids = [0, 5, 8]
    assert upon.rows("images", ids) == below.rows("images", ids)
    assert np.array_equal(upon.embeddings("images", ids), below.embeddings("images", ids))
    assert upon.root_path(0) == below.root_path(0) == b"/photos"
    assert upon.count("texts") == 0 and not list(upon.captions())
    assert verify_files(upon) == []


def test_what_is_written_on_top_changes_nothing_below(tmp_path):
    below = filled(tmp_path / "below")
    before = state(tmp_path / "below")
    upon = overlay(str(tmp_path / "upon"), below.snapshot())
    with upon.writer() as writer:
        id_ = writer.new_ids(1)[0]
        writer.commit(images=[image(id_, writer.root_id(b"/elsewhere"))], deleted=[0])
    assert id_ == below.snapshot().manifest.next_id
    assert [row.id for row in upon.snapshot().known_files()] == [2, 3, 4, 5, 6, 8, id_]
    assert upon.snapshot().root_path(1) == b"/elsewhere"
    shutil.rmtree(tmp_path / "upon")
    assert state(tmp_path / "below") == before
    assert verify_files(below.snapshot()) == []


def test_a_folder_that_moved_with_the_collection_is_where_the_collection_says(tmp_path):
    home = tmp_path / "home"
    (home / "photos").mkdir(parents=True)
    with new_store(home / "index").writer() as writer:
        root = writer.root_id(os.fsencode(home / "photos"))
        writer.commit(images=[image(id_, root) for id_ in writer.new_ids(2)])
    home.rename(tmp_path / "moved")
    upon = overlay(str(tmp_path / "far" / "upon"), Store.open(tmp_path / "moved" / "index").snapshot())
    assert upon.snapshot().root_path(0) == os.fsencode(tmp_path / "moved" / "photos")


def test_a_look_through_links_leaves_no_note_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    filled(tmp_path / "below")
    shutil.copytree(tmp_path / "below", tmp_path / "copied")  # no stamp fits: all files are looked at
    upon = overlay(str(tmp_path / "upon"), Store.open(tmp_path / "copied").snapshot())
    assert len(list(upon.snapshot().known_files())) == 7
    shutil.rmtree(tmp_path / "upon")
    upon._stamps._notes.save()  # as at the end of the process
    assert not (tmp_path / "cache").exists()
