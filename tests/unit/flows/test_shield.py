"""Generated pictures do not come back as photographs."""

import shutil

import pytest
from PIL import Image
from support import make_photo

import clipsearch


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """A folder of two photos, its collection, and a generated picture of the collection."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = tmp_path / "mine"
    make_photo(folder / "a.png", (220, 20, 20), 1)
    make_photo(folder / "b.png", (20, 40, 220), 2)
    with clipsearch.create(tmp_path / "indexes" / "mine", model="hashing") as made:
        made.index(folder)
        yield folder, made, made.generate("a red rocket", model="gradient")


def paths(collection):
    return {hit.path.rsplit("/", 1)[-1] for hit in collection.search("red", k=50)}


def test_a_copy_is_left_out_by_mark_and_by_ledger_and_by_its_look(drawn):
    folder, collection, image = drawn
    shutil.copy(image.path, folder / "renamed.png")
    with Image.open(image.path) as picture:
        picture.save(folder / "again.jpg", quality=85)  # no marks, other bytes
        picture.resize((300, 300)).save(folder / "large.webp", quality=80)
    report = collection.index(folder)
    assert report.ignored == 3 and report.skips == () and report.embedded == 0 and report.images_total == 2
    assert report.scanned == report.embedded + report.reused + report.unchanged + len(report.skips) + report.ignored
    assert any("3 generated pictures left out" in note for note in report.notes)
    assert paths(collection) == {"a.png", "b.png"}


def test_another_generators_picture_is_left_out_by_its_mark(drawn):
    from PIL.PngImagePlugin import PngInfo

    folder, collection, _ = drawn
    marks = PngInfo()
    marks.add_text("parameters", "a castle\nSteps: 20, Sampler: Euler a, Seed: 1")
    with Image.open(folder / "a.png") as picture:
        picture.resize((70, 70)).save(folder / "castle.png", pnginfo=marks)
    report = collection.index(folder)
    assert report.ignored == 1 and "marked in the file" in report.notes[0] and paths(collection) == {"a.png", "b.png"}


def test_it_is_known_after_it_was_removed(drawn):
    from clipsearch.generate.cache import GeneratedFolder

    folder, collection, image = drawn
    with Image.open(image.path) as picture:
        picture.save(folder / "again.jpg", quality=90)
    shelf = GeneratedFolder(collection.path)
    (row,) = shelf.ledger.made().values()
    shelf.remove(row)
    assert collection.index(folder).ignored == 1


def test_photographs_that_resemble_it_only_in_colour_are_kept(drawn):
    folder, collection, _ = drawn
    for seed in range(5):
        make_photo(folder / f"red{seed}.png", (220, 20, 20), 10 + seed)
    assert collection.index(folder).ignored == 0 and len(paths(collection)) == 7


def test_a_photo_that_was_replaced_by_a_generated_picture_leaves_the_collection(drawn):
    folder, collection, image = drawn
    shutil.copy(image.path, folder / "a.png")
    report = collection.index(folder)
    assert report.ignored == 1 and report.images_total == 1 and paths(collection) == {"b.png"}


def test_the_generated_folder_inside_the_source_is_never_walked(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = tmp_path / "all"
    make_photo(folder / "a.png", (220, 20, 20), 1)
    with clipsearch.create(folder / "collection", model="hashing") as made:
        made.index(folder)
        made.generate("a red rocket", model="gradient")
        report = made.index(folder)
        assert (report.scanned, report.images_total) == (1, 1)
