"""Index a folder, change it, index again: what is embedded, what is found."""

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import COLOURS, make_photo

import clipsearch


def make(photos: Path, where: Path, **options):
    collection = clipsearch.create(where / "collection", model="hashing")
    return collection, collection.index(photos, workers=1, **options)


def names(collection, **query):
    collection.refresh()
    return sorted(Path(hit.path).name for hit in collection.search(k=100, **(query or {"text": "anything"})))


def balance(report):
    counted = report.embedded + report.reused + report.unchanged + len(report.skips) + report.ignored
    assert report.scanned == counted
    return report.embedded, report.reused, report.unchanged, len(report.skips), report.deleted


def test_the_first_run_embeds_all_and_the_second_none(photos, tmp_path):
    collection, report = make(photos, tmp_path)
    assert balance(report) == (6, 0, 0, 0, 0)
    again = collection.index(photos)
    assert balance(again) == (0, 0, 6, 0, 0)
    assert again.version == report.version


def test_of_an_add_a_delete_an_edit_a_rename_and_a_copy_two_are_embedded(photos, tmp_path):
    collection, _ = make(photos, tmp_path)
    make_photo(photos / "added.png", (120, 60, 20), seed=50)
    (photos / "white.png").unlink()
    make_photo(photos / "black.png", (90, 90, 90), seed=51)
    (photos / "green.png").rename(photos / "meadow.png")
    shutil.copy(photos / "blue.png", photos / "blue copy.png")
    report = collection.index(photos, workers=1)
    assert report.embedded == 2
    assert report.reused == 2
    assert report.deleted == 1
    found = names(collection)
    assert found == sorted(
        ["red.png", "meadow.png", "blue.png", "blue copy.png", "yellow.png", "black.png", "added.png"]
    )


def test_an_edited_picture_is_found_by_its_new_content(photos, tmp_path):
    collection, _ = make(photos, tmp_path)
    shutil.copy(photos / "red.png", tmp_path / "query.png")
    make_photo(photos / "red.png", (200, 0, 230), seed=77)
    collection.index(photos, workers=1)
    collection.refresh()
    best = collection.search(image=photos / "red.png", k=1)[0]
    assert Path(best.path).name == "red.png"
    assert best.score == pytest.approx(1, abs=2e-3)
    assert collection.search(image=tmp_path / "query.png", k=1)[0].score < 0.999


def test_a_touched_file_is_not_embedded_again(photos, tmp_path):
    collection, _ = make(photos, tmp_path)
    os.utime(photos / "red.png", ns=(1, 1))
    report = collection.index(photos, workers=1)
    assert balance(report) == (0, 1, 5, 0, 0)
    assert names(collection) == sorted(f"{name}.png" for name in COLOURS)
    assert balance(collection.index(photos)) == (0, 0, 6, 0, 0)


def test_copies_in_one_run_are_embedded_once(photos, tmp_path):
    for number in range(3):
        shutil.copy(photos / "red.png", photos / f"copy{number}.png")
    _, report = make(photos, tmp_path, batch_size=2)
    assert balance(report) == (6, 3, 0, 0, 0)


def test_a_moved_folder_is_recognised(photos, tmp_path):
    collection, _ = make(photos, tmp_path)
    (photos / "holiday").mkdir()
    for name in ("red", "green", "blue"):
        (photos / f"{name}.png").rename(photos / "holiday" / f"{name}.png")
    report = collection.index(photos, workers=1)
    assert balance(report) == (0, 3, 3, 0, 0)
    assert len(names(collection)) == 6


def test_folder_and_collection_can_move_together(photos, tmp_path):
    collection, _ = make(photos, tmp_path)
    collection.close()
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    shutil.move(photos, moved / "photos")
    shutil.move(tmp_path / "collection", moved / "collection")
    with clipsearch.open(moved / "collection") as collection:
        for hit in collection.search("red", k=10):
            assert Path(hit.path).is_file()
        assert balance(collection.index(moved / "photos"))[0] == 0


def test_an_empty_root_deletes_nothing_and_says_so(photos, tmp_path):
    collection, _ = make(photos, tmp_path)
    for file in photos.iterdir():
        file.unlink()
    report = collection.index(photos)
    assert report.deleted == 0
    assert "mounted" in report.notes[0]
    assert len(names(collection)) == 6


def test_a_part_of_the_folder_can_be_indexed_again(photos, tmp_path):
    make_photo(photos / "sub" / "inner.png", (1, 200, 200), seed=9)
    collection, _ = make(photos, tmp_path)
    make_photo(photos / "sub" / "later.png", (100, 0, 200), seed=10)
    (photos / "red.png").unlink()
    report = collection.index(photos / "sub", workers=1)
    assert balance(report) == (1, 0, 1, 0, 0)
    assert len(names(collection)) == 8
    assert balance(collection.index(photos, workers=1)) == (0, 0, 7, 0, 1)


def test_bad_files_are_named_and_the_rest_is_indexed(photos, tmp_path):
    (photos / "empty.jpg").touch()
    (photos / "noise.jpg").write_bytes(b"this is no picture" * 10)
    whole = (photos / "red.png").read_bytes()
    (photos / "half.png").write_bytes(whole[: len(whole) // 2])
    (photos / "notes.txt").write_text("ignored")
    collection, report = make(photos, tmp_path)
    assert balance(report) == (6, 0, 0, 3, 0)
    reasons = {skip.display: skip.reason.value for skip in report.skips}
    assert reasons["empty.jpg"] == "empty"
    assert reasons["noise.jpg"] == "unidentified"
    assert reasons["half.png"] in ("truncated", "corrupt")
    assert report.ignored == 1
    assert len(names(collection)) == 6


def test_a_picture_that_became_damaged_leaves_the_results(photos, tmp_path):
    collection, _ = make(photos, tmp_path)
    (photos / "red.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    report = collection.index(photos, workers=1)
    assert balance(report) == (0, 0, 5, 1, 0)
    assert "red.png" not in names(collection)


@pytest.mark.parametrize(
    "name", [b"caf\xe9.png", b"new\nline.png", "\u732b.png".encode(), b"-rf.png", b"a'b\"c.png", b"x" * 251 + b".png"]
)
def test_any_file_name_is_indexed_and_found(tmp_path, name):
    folder = tmp_path / "photos"
    folder.mkdir()
    plain = make_photo(tmp_path / "plain.png", (10, 200, 30))
    os.rename(os.fsencode(plain), os.path.join(os.fsencode(folder), name))
    collection, report = make(folder, tmp_path)
    assert report.embedded == 1
    hit = collection.search("green", k=1)[0]
    assert os.fsencode(os.path.basename(hit.path)) == name
    assert os.path.exists(hit.path)


def test_captions_follow_their_pictures(photos, tmp_path):
    captions = tmp_path / "captions.csv"
    captions.write_text("image,caption\n" + "".join(f"{name}.png,a {name} square\n" for name in COLOURS))
    collection, report = make(photos, tmp_path, captions=captions)
    assert (report.texts, report.texts_embedded, report.texts_total) == (6, 6, 6)
    again = collection.index(photos, captions=captions)
    assert (again.texts, again.texts_embedded) == (0, 0)
    (photos / "red.png").rename(photos / "rose.png")
    (photos / "blue.png").unlink()
    report = collection.index(photos, workers=1)
    assert report.texts_embedded == 0
    assert report.texts_total == 5
    collection.refresh()
    hits = collection.search("a red square", target="text", k=1)
    assert hits[0].text == "a red square"
    assert Path(hits[0].path).name == "rose.png"
    assert "a blue square" not in [hit.text for hit in collection.search("a blue square", target="text", k=9)]


def test_captions_without_a_picture_are_kept_and_named(photos, tmp_path):
    captions = tmp_path / "captions.csv"
    captions.write_text("image,caption\nred.png,a red square\nghost.png,a ghost\n")
    collection, report = make(photos, tmp_path, captions=captions)
    assert report.texts == 2
    assert "ghost.png" in report.notes[0]
    assert collection.search("a ghost", target="text", k=1)[0].path == ""


def test_commits_come_every_so_many_rows(photos, tmp_path):
    for number in range(20):
        make_photo(photos / f"extra{number}.png", (number * 10, 5, 99), seed=number)
    collection, report = make(photos, tmp_path, batch_size=4, commit_rows=5)
    assert report.embedded == 26
    assert report.version >= 4
    assert len(names(collection)) == 26


def test_an_interrupted_run_keeps_its_work_and_the_next_goes_on(photos, tmp_path, monkeypatch):
    collection = clipsearch.create(tmp_path / "collection", model="hashing")

    def stop(progress):
        if progress.stage == "embed" and progress.done >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collection.index(photos, workers=1, batch_size=2, progress=stop)
    report = collection.index(photos, workers=1)
    assert report.unchanged >= 2
    assert report.embedded + report.unchanged == 6


def test_rows_hold_what_the_encoder_says(photos, tmp_path):
    collection, _ = make(photos, tmp_path)
    with Image.open(photos / "red.png", formats=["PNG"]) as image:
        expected = collection.encoder.encode_images(collection.encoder.preprocess(image.convert("RGB"))[None])[0]
    best = collection.search(vector=expected, k=1)[0]
    assert Path(best.path).name == "red.png"
    assert best.score == pytest.approx(1, abs=1e-3)


def test_a_script_without_a_main_guard_can_index(photos, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import clipsearch\n"
        f"c = clipsearch.create({str(tmp_path / 'collection')!r}, model='hashing')\n"
        f"print(c.index({str(photos)!r}).embedded)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "6", done.stderr


def test_deleted_rows_and_order_do_not_change_scores(photos, tmp_path):
    collection, _ = make(photos, tmp_path)
    before = {hit.path: hit.score for hit in collection.search("red", k=10)}
    (photos / "white.png").unlink()
    collection.index(photos)
    collection.refresh()
    after = {hit.path: hit.score for hit in collection.search("red", k=10)}
    assert set(before) - set(after) == {str(photos / "white.png")}
    np.testing.assert_array_equal([before[path] for path in after], list(after.values()))


def test_a_caption_in_no_encoding_is_embedded_once(photos, tmp_path):
    captions = tmp_path / "captions.csv"
    captions.write_bytes(b"image,caption\nred.png,caf\xe9 at night\n")
    collection, report = make(photos, tmp_path, captions=captions)
    assert report.texts_embedded == 1
    assert collection.index(photos, captions=captions).texts_embedded == 0


def test_a_renamed_root_leaves_no_ghost_and_no_duplicate(photos, tmp_path):
    captions = tmp_path / "captions.csv"
    captions.write_text("image,caption\nred.png,a red square\n")
    collection, _ = make(photos, tmp_path, captions=captions)
    pictures = photos.rename(tmp_path / "pictures")
    report = collection.index(pictures, workers=1)
    assert balance(report) == (0, 6, 0, 0, 0)
    assert (report.images_total, report.texts_total) == (6, 1)
    hits = collection.search("anything", k=100)
    assert sorted(Path(hit.path) for hit in hits) == sorted(pictures.iterdir())
    assert Path(collection.search("a red square", target="text")[0].path) == pictures / "red.png"
    assert [root for root, _, _ in collection.status().roots] == [str(pictures)]


def test_a_copy_in_another_folder_leaves_the_first_where_it_is(photos, tmp_path):
    collection, _ = make(photos, tmp_path)
    shutil.copytree(photos, tmp_path / "copy")
    assert balance(collection.index(tmp_path / "copy", workers=1)) == (0, 6, 0, 0, 0)
    assert len(names(collection)) == 12


def test_identical_pictures_that_move_together_stay_as_many(photos, tmp_path):
    for number in range(5):
        shutil.copy(photos / "red.png", photos / f"red{number}.png")
    collection, _ = make(photos, tmp_path)
    (photos / "sub").mkdir()
    for file in photos.glob("red*.png"):
        file.rename(photos / "sub" / file.name)
    assert balance(collection.index(photos, workers=1)) == (0, 6, 5, 0, 0)
    assert len(names(collection)) == 11


@pytest.mark.parametrize("stage", ["hash", "embed"])
def test_captions_follow_their_pictures_through_an_interrupted_run(photos, tmp_path, stage):
    captions = tmp_path / "captions.csv"
    captions.write_text("image,caption\n" + "".join(f"{name}.png,a {name} square\n" for name in COLOURS))
    collection, _ = make(photos, tmp_path, captions=captions)
    (photos / "red.png").rename(photos / "rose.png")
    make_photo(photos / "blue.png", (200, 0, 230), seed=77)
    make_photo(photos / "new.png", (20, 90, 230), seed=78)

    def stop(progress):
        if progress.stage == stage and progress.done >= 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collection.index(photos, workers=1, batch_size=1, progress=stop)
    assert collection.index(photos, workers=1).texts_total == 6
    pairs = {hit.text: Path(hit.path).name for hit in collection.search("a square", target="text", k=9)}
    assert pairs == {f"a {name} square": f"{name}.png" for name in COLOURS} | {"a red square": "rose.png"}


def test_a_broken_caption_file_stops_the_run_before_any_work(photos, tmp_path):
    captions = tmp_path / "captions.csv"
    captions.write_text("picture,words\nred.png,a red square\n")
    collection = clipsearch.create(tmp_path / "collection", model="hashing")
    with pytest.raises(clipsearch.InputError, match="no columns image and caption"):
        collection.index(photos, captions=captions)
    assert collection.status().images == 0


def test_captions_of_another_folder_are_not_given_to_a_namesake(photos, tmp_path):
    (photos / "2020").mkdir()
    (photos / "red.png").rename(photos / "2020" / "red.png")
    captions = tmp_path / "captions.csv"
    rows = {
        "2019/red.png": "",
        "2020/red.png": "red.png",
        "elsewhere/photos/blue.png": "blue.png",
        "green.png": "green.png",
    }
    captions.write_text("image,caption\n" + "".join(f"{name},of {name}\n" for name in rows))
    collection, _ = make(photos, tmp_path, captions=captions)
    found = {hit.text: Path(hit.path).name for hit in collection.search("of", target="text", k=9)}
    assert found == {f"of {name}": file for name, file in rows.items()}


def test_a_picture_that_a_list_names_in_vain_leaves_the_results(photos, tmp_path):
    listed = [photos / "red.png", photos / "blue.png"]
    collection = clipsearch.create(tmp_path / "collection", model="hashing")
    for deleted in (0, 1):
        report = collection.index("-", stdin=io.BytesIO("\n".join(map(str, listed)).encode()), workers=1)
        assert report.deleted == deleted
        listed[0].unlink(missing_ok=True)
    assert names(collection) == ["blue.png"]


def test_the_same_skips_make_no_new_version(photos, tmp_path):
    (photos / "empty.jpg").touch()
    collection, report = make(photos, tmp_path)
    assert collection.index(photos, workers=1).version == report.version
    (photos / "empty.jpg").unlink()
    assert collection.index(photos, workers=1).version == report.version + 1


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"commit_rows": 0}, {"workers": -1}])
def test_settings_that_make_no_sense_are_refused(photos, tmp_path, wrong):
    collection = clipsearch.create(tmp_path / "collection", model="hashing")
    with pytest.raises(clipsearch.InputError, match=next(iter(wrong))):
        collection.index(photos, **wrong)
