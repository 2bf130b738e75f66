"""Files left out: broken ones are not decoded again, excluded ones leave the collection."""

import io
import os
from pathlib import Path

import pytest
from support import make_photo

import clipsearch
from clipsearch.flows import left_out
from clipsearch.store import KnownSkip


@pytest.fixture
def broken(photos):
    """Six pictures and three broken files."""
    whole = (photos / "red.png").read_bytes()
    (photos / "empty.jpg").touch()
    (photos / "noise.jpg").write_bytes(b"this is no picture" * 10)
    (photos / "half.png").write_bytes(whole[: len(whole) // 2])
    return photos


@pytest.fixture
def collection(tmp_path):
    return clipsearch.create(tmp_path / "collection", model="hashing")


def tries(report):
    """How many files went to the decode workers or were hashed, told by the time it took: none, none was started."""
    return "decode" in report.stages or "hash" in report.stages


def names(collection):
    return sorted(Path(hit.path).name for hit in collection.search("x", k=100))


def test_an_unchanged_broken_file_is_skipped_for_the_same_reason_without_being_opened(broken, collection):
    first = collection.index(broken, workers=1)
    second = collection.index(broken, workers=1)
    assert len(second.skips) == 3 and sorted(second.skips, key=str) == sorted(first.skips, key=str)
    assert tries(first) and not tries(second)
    assert second.scanned == second.unchanged + len(second.skips) == 9
    assert second.version == first.version
    assert second.notes == ("3 skipped files are unchanged since found broken; --retry-skipped tries again.",)


def test_a_broken_file_that_changed_is_tried_again_and_only_that_one(broken, collection):
    collection.index(broken, workers=1)
    make_photo(broken / "half.png", (90, 10, 90), 5)
    report = collection.index(broken, workers=1)
    assert (report.embedded, len(report.skips), report.images_total) == (1, 2, 7)
    assert "2 skipped files" in report.notes[0]
    os.utime(broken / "noise.jpg", ns=(1, 1))  # touched: it may be another one
    assert tries(collection.index(broken, workers=1)) and not tries(collection.index(broken, workers=1))


def test_retry_skipped_tries_all_of_them(broken, collection):
    first = collection.index(broken, workers=1)
    again = collection.index(broken, workers=1, retry_skipped=True)
    assert tries(again) and again.notes == () and again.skips == first.skips
    assert again.version == first.version


def test_another_decoder_tries_again(broken, collection, monkeypatch):
    collection.index(broken, workers=1)
    monkeypatch.setattr(left_out, "decoder_name", lambda: "clipsearch 99")
    assert tries(collection.index(broken, workers=1))
    assert not tries(collection.index(broken, workers=1))


def test_other_sources_do_not_make_it_forget(broken, collection, tmp_path):
    other = make_photo(tmp_path / "other" / "one.png", (7, 8, 9), 9).parent
    (other / "bad.png").write_bytes(b"bad")
    collection.index(broken, workers=1)
    report = collection.index(other, workers=1)
    assert len(report.skips) == 1  # of this source only
    assert not tries(collection.index(broken, workers=1)) and not tries(collection.index(other, workers=1))
    listed = f"{broken / 'noise.jpg'}\n".encode()
    assert not tries(collection.index("-", stdin=io.BytesIO(listed)))
    assert not tries(collection.index(broken, workers=1))


def test_a_part_of_the_folder_and_the_whole_remember_for_each_other(broken, collection):
    (broken / "sub").mkdir()
    for name in ("noise.jpg", "half.png"):
        (broken / name).rename(broken / "sub" / name)
    collection.index(broken, workers=1)
    part = collection.index(broken / "sub", workers=1)
    assert len(part.skips) == 2 and not tries(part)
    assert not tries(collection.index(broken, workers=1))


def test_what_is_gone_is_forgotten(broken, collection):
    collection.index(broken, workers=1)
    for name in ("noise.jpg", "half.png", "empty.jpg"):
        (broken / name).unlink()
    assert collection.index(broken, workers=1).skips == ()
    assert collection._store.snapshot().skipped() == []


def test_what_could_not_be_read_is_tried_every_time(photos, collection):
    (photos / "gone.png").symlink_to("nowhere")
    collection.index(photos, workers=1)
    (kept,) = collection._store.snapshot().skipped()
    assert isinstance(kept, KnownSkip) and kept.stamp is None
    make_photo(photos / "nowhere.png", (4, 5, 6))
    (photos / "gone.png").unlink()
    (photos / "gone.png").symlink_to("nowhere.png")
    assert collection.index(photos, workers=1).skips == ()


def test_a_picture_that_became_broken_leaves_and_stays_away(photos, collection):
    collection.index(photos, workers=1)
    (photos / "red.png").write_bytes(b"no picture any more")
    assert collection.index(photos, workers=1).images_total == 5
    report = collection.index(photos, workers=1)
    assert report.images_total == 5 and len(report.skips) == 1 and not tries(report)
    make_photo(photos / "red.png", (200, 3, 3), 5)
    assert collection.index(photos, workers=1).images_total == 6


@pytest.mark.parametrize("patterns", [["r*", "sub"], ["red.png", "sub/*"], ["r??.png", "sub/inner.png"]])
def test_what_is_excluded_leaves_the_collection_and_comes_back_without_the_pattern(photos, collection, patterns):
    make_photo(photos / "sub" / "inner.png", (40, 50, 60), 7)
    collection.index(photos, workers=1)
    report = collection.index(photos, workers=1, excludes=patterns)
    assert (report.deleted, report.unchanged, report.images_total) == (2, 5, 5)
    assert report.notes == ("2 excluded pictures were taken out of the collection, as deleted ones are.",)
    assert {"red.png", "inner.png"}.isdisjoint(names(collection))
    assert collection.index(photos, workers=1, excludes=patterns).notes == ()
    assert collection.index(photos, workers=1).images_total == 7


def test_exclusion_reaches_no_further_than_the_source(photos, collection, tmp_path):
    make_photo(tmp_path / "other" / "red.png", (7, 8, 9), 9)
    collection.index(photos, workers=1)
    collection.index(tmp_path / "other", workers=1)
    report = collection.index(photos, workers=1, excludes=["red.png"])
    assert (report.deleted, report.images_total) == (1, 6)


def test_excluding_all_there_is_deletes_it_and_an_unmounted_root_nothing(photos, collection, tmp_path):
    collection.index(photos, workers=1)
    disk = photos.rename(tmp_path / "disk")
    photos.mkdir()
    report = collection.index(photos, excludes=["r*"])
    assert (report.deleted, report.images_total) == (0, 6) and "mounted" in report.notes[0]
    photos.rmdir()
    disk.rename(photos)
    report = collection.index(photos, excludes=["*.png"])
    assert (report.deleted, report.images_total) == (6, 0)


@pytest.mark.parametrize("reason", ["decode_timeout", "decode_memory", "decode_crash"])
def test_what_may_have_been_the_machines_doing_is_tried_every_time(photos, collection, monkeypatch, reason):
    from clipsearch.flows.engines.local import LocalEngine
    from clipsearch.types import Skip, SkipReason

    def failing(_, work):
        yield [Skip(ref.path, SkipReason(reason), "a busy machine") for ref in work.refs]

    with monkeypatch.context() as patch:
        patch.setattr(LocalEngine, "embed", failing)
        assert len(collection.index(photos, workers=1).skips) == 6
    assert collection.index(photos, workers=1).embedded == 6
