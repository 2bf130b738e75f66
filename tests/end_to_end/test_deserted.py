"""Folders that stand empty: what is known from a drive that is not mounted is kept; what was deleted goes."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from support import make_photo

import clipsearch
from clipsearch.cli import run
from clipsearch.flows.deserted import LEAST
from clipsearch.scan import folder as folder_scan


@pytest.fixture
def library(tmp_path):
    """Two pictures at home, as many as it takes on a drive, one of them in a folder of its own, a few in an album."""
    folder = tmp_path / "library"
    for number in range(2):
        make_photo(folder / f"home{number}.png", (200, 10 * number, 0), number, (16, 16))
    for number in range(LEAST):
        place = folder / "usb" / ("sub" if number == 0 else "") / f"{number}.png"
        make_photo(place, (0, 200, 10 * number), 10 + number, (16, 16))
    for number in range(3):
        make_photo(folder / "album" / f"{number}.png", (10 * number, 0, 200), 50 + number, (16, 16))
    return folder


@pytest.fixture
def collection(library, tmp_path):
    with clipsearch.create(tmp_path / "c", model="hashing") as collection:
        assert collection.index(library, workers=1).images_total == LEAST + 5
        yield collection


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def test_a_folder_that_stands_empty_keeps_its_pictures_and_is_named(library, collection):
    empty(library / "usb")
    report = collection.index(library, workers=1)
    assert (report.deleted, report.images_total) == (0, LEAST + 5)
    (note,) = report.notes
    assert note.startswith("usb stands empty; is it mounted?")
    assert f"kept ({LEAST})" in note and "--prune-empty" in note


def test_what_hidden_files_and_thumbnails_are_left_do_not_count(library, collection):
    empty(library / "usb")
    (library / "usb" / ".Trash-1000").mkdir()
    (library / "usb" / "@eaDir").mkdir()
    assert collection.index(library, workers=1).deleted == 0


def test_what_comes_back_is_as_it_was(library, collection, tmp_path):
    shutil.move(library / "usb", tmp_path / "away")
    (library / "usb").mkdir()
    collection.index(library, workers=1)
    (library / "usb").rmdir()
    shutil.move(tmp_path / "away", library / "usb")
    report = collection.index(library, workers=1)
    assert (report.unchanged, report.embedded, report.deleted, report.notes) == (LEAST + 5, 0, 0, ())


def test_a_folder_that_is_gone_takes_its_pictures_with_it(library, collection):
    shutil.rmtree(library / "usb")
    report = collection.index(library, workers=1)
    assert (report.deleted, report.notes) == (LEAST, ())


def test_a_folder_with_anything_left_in_it_is_no_empty_one(library, collection):
    empty(library / "usb")
    (library / "usb" / "notes.txt").write_text("all pictures deleted")
    assert collection.index(library, workers=1).deleted == LEAST


def test_a_small_album_that_was_emptied_goes(library, collection):
    empty(library / "album")
    report = collection.index(library, workers=1)
    assert (report.deleted, report.notes) == (3, ())


def test_pruning_takes_out_what_was_kept(library, collection):
    empty(library / "usb")
    assert collection.index(library, workers=1).deleted == 0
    report = collection.index(library, workers=1, prune_empty=True)
    assert (report.deleted, report.images_total, report.notes) == (LEAST, 5, ())


def test_pruning_an_empty_source_empties_the_collection(library, collection):
    empty(library)
    report = collection.index(library, workers=1)
    assert report.deleted == 0 and "--prune-empty" in report.notes[0]
    report = collection.index(library, workers=1, prune_empty=True)
    assert (report.deleted, report.images_total, report.notes) == (LEAST + 5, 0, ())


def test_pictures_that_were_moved_out_of_a_folder_are_recognised_and_nothing_stays_behind(library, collection):
    (library / "elsewhere").mkdir()
    for file in sorted(library.glob("usb/**/*.png")):
        file.rename(library / "elsewhere" / file.name)
    shutil.rmtree(library / "usb" / "sub")
    report = collection.index(library, workers=1)
    assert (report.reused, report.images_total, report.notes) == (LEAST, LEAST + 5, ())


def test_a_link_that_leads_nowhere_is_a_drive_that_is_not_mounted(library, collection, tmp_path):
    shutil.move(library / "usb", tmp_path / "drive")
    (library / "usb").symlink_to(tmp_path / "drive")
    assert collection.index(library, workers=1).deleted == 0
    (tmp_path / "drive").rename(tmp_path / "unplugged")
    report = collection.index(library, workers=1)
    assert (report.deleted, report.images_total) == (0, LEAST + 5)
    assert report.notes[0].startswith("usb stands empty")
    (library / "usb").unlink()
    assert collection.index(library, workers=1).deleted == LEAST


def test_a_link_to_a_drive_that_does_not_answer_takes_nothing_with_it(library, collection, tmp_path, monkeypatch):
    shutil.move(library / "usb", tmp_path / "drive")
    (library / "usb").symlink_to(tmp_path / "drive")
    real = os.scandir

    class Dead:
        """The entry of a link whose file system is gone under it."""

        def __init__(self, entry):
            self.name, self.path = entry.name, entry.path

        def is_symlink(self):
            return True

        def stat(self):
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

        is_dir = stat

    class Listing:
        def __init__(self, place):
            self.entries = real(place)

        def __enter__(self):
            return (Dead(entry) if entry.name == b"usb" else entry for entry in self.entries)

        def __exit__(self, *_):
            self.entries.close()

    monkeypatch.setattr(folder_scan.os, "scandir", Listing)
    report = collection.index(library, workers=1)
    assert [(skip.path, str(skip.reason)) for skip in report.skips] == [(b"usb", "io_error")]
    assert (report.deleted, report.images_total) == (0, LEAST + 5)


def test_several_folders_are_named_and_what_is_left_out_on_request_goes(library, collection):
    for number in range(LEAST):
        for name in ("card", "nas", "phone"):
            make_photo(library / name / f"{number}.png", (number, 90, len(name)), 100 + number, (16, 16))
    collection.index(library, workers=1)
    for name in ("usb", "card", "nas", "phone"):
        empty(library / name)
    report = collection.index(library, workers=1)
    assert report.deleted == 0
    assert report.notes[0].startswith("card, nas, phone and 1 more stand empty; are they mounted?")
    assert f"kept ({4 * LEAST})" in report.notes[0]
    report = collection.index(library, workers=1, excludes=["usb"])
    assert report.images_total == 3 * LEAST + 5


def test_the_command_says_what_to_do_and_does_it(library, tmp_path, capsys):
    line = ["index", str(library), "-i", str(tmp_path / "c"), "--model", "hashing", "--jobs", "1"]
    assert run(line) == 0
    empty(library / "usb")
    assert run(line) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "note: usb stands empty; is it mounted?" in said and "--prune-empty takes it out" in said
    assert run([*line, "--prune-empty"]) == 0
    assert "20 deleted" in capsys.readouterr().err
