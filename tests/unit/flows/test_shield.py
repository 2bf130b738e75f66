"""Generated pictures do not come back as photographs."""

import json
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


def decodes(report):
    """Whether any file was opened: hashed or decoded."""
    return "decode" in report.stages or "hash" in report.stages


@pytest.fixture
def kept_out(drawn):
    """Three pictures beside the photos, one for each way to be recognised, and a first run that kept them out."""
    from PIL.PngImagePlugin import PngInfo

    folder, collection, image = drawn
    shutil.copy(image.path, folder / "renamed.png")
    marks = PngInfo()
    marks.add_text("parameters", "a castle\nSteps: 20, Sampler: Euler a, Seed: 1")
    with Image.open(image.path) as picture:
        picture.save(folder / "again.jpg", quality=85)
    with Image.open(folder / "a.png") as picture:
        picture.resize((70, 70)).save(folder / "castle.png", pnginfo=marks)
    first = collection.index(folder)
    assert first.ignored == 3 and decodes(first)
    return folder, collection, first


def test_a_second_run_keeps_them_out_without_opening_them_and_says_the_same(kept_out):
    folder, collection, first = kept_out
    second = collection.index(folder)
    assert not decodes(second) and second.version == first.version
    assert (second.ignored, second.skips, second.unchanged, second.scanned) == (3, (), 2, 5)
    assert second.notes == first.notes and "3 generated pictures left out" in second.notes[0]
    assert paths(collection) == {"a.png", "b.png"}


def test_one_that_changed_is_looked_at_again_and_kept_out_or_taken_in_for_what_it_is_now(kept_out):
    folder, collection, _ = kept_out
    with Image.open(folder / "castle.png") as picture:
        text, half = picture.info["parameters"], picture.resize((35, 35))
    from PIL.PngImagePlugin import PngInfo

    marks = PngInfo()
    marks.add_text("parameters", text)
    half.save(folder / "castle.png", pnginfo=marks)
    make_photo(folder / "again.jpg", (10, 200, 30), 8)
    report = collection.index(folder)
    assert decodes(report) and (report.ignored, report.embedded, report.skips) == (2, 1, ())
    assert "1 in the ledger" in report.notes[0] and "1 marked in the file" in report.notes[0]
    assert paths(collection) == {"a.png", "b.png", "again.jpg"} and not decodes(collection.index(folder))


def test_retry_skipped_looks_again_and_another_mode_takes_them_in(kept_out):
    folder, collection, first = kept_out
    again = collection.index(folder, retry_skipped=True)
    assert decodes(again) and again.ignored == 3 and again.notes == first.notes
    marked = collection.index(folder, generated="mark")
    assert (marked.ignored, marked.embedded + marked.reused, marked.images_total) == (0, 3, 5)
    assert not decodes(collection.index(folder, generated="mark"))


def test_a_run_of_another_folder_does_not_forget_them_and_one_that_is_gone_is_forgotten(kept_out, tmp_path):
    folder, collection, _ = kept_out
    collection.index(make_photo(tmp_path / "other" / "one.png", (7, 8, 9), 9).parent)
    assert not decodes(collection.index(folder))
    (folder / "castle.png").unlink()
    assert collection.index(folder).ignored == 2 and len(collection._store.snapshot().skipped()) == 2


def test_they_never_make_the_command_exit_with_3(kept_out, capsys):
    from clipsearch.cli import run

    folder, collection, _ = kept_out
    path = collection.path
    collection.close()
    for more in ((), (), ("--retry-skipped",)):
        assert run(["index", str(folder), "-i", path, "--jobs", "1", *more]) == 0
        said = capsys.readouterr()
        assert "3 generated pictures left out" in said.err and "0 skipped, 3 ignored" in said.err + said.out


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


def test_marked_it_is_a_hit_that_says_so_everywhere(drawn, tmp_path, capsys):
    from clipsearch.cli import run
    from clipsearch.present.contact_sheet import is_contact_sheet
    from clipsearch.present.table import hits_plain, hits_table

    folder, collection, image = drawn
    shutil.copy(image.path, folder / "drawn.png")
    report = collection.index(folder, generated="mark")
    assert (report.ignored, report.embedded, report.images_total, report.skips) == (0, 1, 3, ())
    assert any("1 generated picture indexed and marked as generated" in note for note in report.notes)
    result = collection.search("red", k=50)
    marked = [hit.path.rsplit("/", 1)[-1] for hit in result if hit.metadata.get("generated")]
    assert marked == ["drawn.png"]
    badged = [line for line in hits_table(result, "/") if "GENERATED" in line]
    assert len(badged) == 1 and "drawn.png" in badged[0]
    assert [line.split(b"\t")[3:] for line in hits_plain(result, "/") if b"drawn.png" in line] == [[b"GENERATED"]]
    home, sheet = str(tmp_path / "indexes"), tmp_path / "sheet.png"
    run(["search", "red", "--all", "--json", "--indexes-dir", home, "--contact-sheet", str(sheet)])
    hits = [json.loads(line) for line in capsys.readouterr().out.splitlines()][:-1]
    assert [hit["path"].endswith("drawn.png") for hit in hits] == [hit.get("generated", False) for hit in hits]
    with Image.open(sheet) as page:
        assert is_contact_sheet(str(sheet)) and (176, 0, 32) in {colour for _, colour in page.getcolors(1 << 24)}


def test_marked_pictures_can_be_filtered_for_and_are_marked_in_exports(drawn, tmp_path):
    folder, collection, image = drawn
    shutil.copy(image.path, folder / "drawn.png")
    collection.index(folder, generated="mark")
    names = {
        where: {hit.path.rsplit("/", 1)[-1] for hit in collection.search("red", k=50, where=where)}
        for where in ("generated", "NOT generated", "generated = true", "width > 0")
    }
    assert names["generated"] == names["generated = true"] == {"drawn.png"}
    assert names["NOT generated"] == {"a.png", "b.png"} and len(names["width > 0"]) == 3
    assert {column.name: column.type for column in collection.columns()}["generated"] == "boolean"
    collection.export("parquet", tmp_path / "out.parquet")
    import pyarrow.parquet as pq

    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert {row["path"].rsplit("/", 1)[-1]: row["generated"] for row in rows} == {
        "a.png": False, "b.png": False, "drawn.png": True
    }  # fmt: skip


def test_a_marked_picture_stays_marked_when_it_is_renamed_and_copied(drawn):
    folder, collection, image = drawn
    shutil.copy(image.path, folder / "drawn.png")
    collection.index(folder, generated="mark")
    (folder / "drawn.png").rename(folder / "holiday.png")
    shutil.copy(folder / "holiday.png", folder / "copy.png")
    assert collection.index(folder).reused == 2
    marked = {hit.path.rsplit("/", 1)[-1] for hit in collection.search("red", k=50) if hit.metadata.get("generated")}
    assert marked == {"holiday.png", "copy.png"}


def test_another_mode_is_refused_with_those_that_there_are(drawn):
    from clipsearch.errors import InputError

    folder, collection, _ = drawn
    with pytest.raises(InputError, match="ignore, mark"):
        collection.index(folder, generated="hide")
