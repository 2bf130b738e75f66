"""Variants of a folder: the same each time, labelled, with provenance, and SRC untouched."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import make_photo

from clipsearch.augment.images import KINDS, make_variant
from clipsearch.cli import run
from clipsearch.decode.marks import read_mark
from clipsearch.errors import InputError, UnknownNameError
from clipsearch.flows.augment_images import Wanted, make_variants


@pytest.fixture
def photos(tmp_path):
    make_photo(tmp_path / "src" / "cats" / "a.png", (220, 20, 20), 1)
    make_photo(tmp_path / "src" / "dogs" / "b.png", (20, 40, 220), 2, size=(60, 90))
    make_photo(tmp_path / "src" / "dogs" / "c.jpg", (20, 180, 30), 3)
    return tmp_path / "src"


def files(folder):
    return {
        os.path.relpath(os.path.join(place, name), folder): Path(place, name).read_bytes()
        for place, _, names in os.walk(folder)
        for name in names
    }


def picture(seed=0, size=(40, 56)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)


@pytest.mark.parametrize("kind", [*KINDS, "crop+colour+jpeg"])
def test_a_kind_changes_the_picture_keeps_its_size_and_is_the_same_each_time(kind):
    pixels = picture()
    one, done = make_variant(pixels, kind, 0, 7, "ab" * 32)
    again, _ = make_variant(pixels, kind, 0, 7, "ab" * 32)
    assert one.shape == pixels.shape and one.dtype == np.uint8 and (one != pixels).any()
    np.testing.assert_array_equal(one, again)
    assert [step["operation"] for step in done] == kind.split("+") and json.dumps(done)
    if kind not in ("flip", "grey"):
        assert any((make_variant(pixels, kind, 0, seed, "ab" * 32)[0] != one).any() for seed in (8, 9))
        assert any((make_variant(pixels, kind, number, 7, "ab" * 32)[0] != one).any() for number in (1, 2))


def test_a_flip_mirrors_a_crop_cuts_out_and_a_rotation_shows_no_corner():
    pixels = picture()
    np.testing.assert_array_equal(make_variant(pixels, "flip", 0, 0, "")[0], pixels[:, ::-1])
    ramp = np.repeat(np.linspace(50, 200, 64).astype(np.uint8)[None, :, None], 64, axis=0).repeat(3, axis=2)
    cropped, (step,) = make_variant(ramp, "crop", 0, 0, "")
    low, high = ramp[0, step["x"], 0], ramp[0, step["x"] + step["width"] - 1, 0]
    assert low - 4 <= cropped.min() and cropped.max() <= high + 4
    for size in ((40, 90), (90, 40), (50, 50)):
        white = np.full((*size, 3), 250, np.uint8)
        assert all(make_variant(white, "rotate", n, 0, "")[0].min() >= 248 for n in range(6))


def test_a_kind_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(UnknownNameError, match="flip"):
        make_variant(picture(), "crop+flop", 0, 0, "")


def test_folders_are_kept_and_the_manifest_says_how_each_file_was_made(photos, tmp_path):
    before, out = files(photos), tmp_path / "out"
    report = make_variants(str(photos), str(out), Wanted(per_image=2, kinds=("flip", "crop+colour"), seed=3))
    assert (report.pictures, report.made, report.kept, report.skips) == (3, 6, 0, [])
    assert files(photos) == before
    rows = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    made = files(out)
    assert {row["file"] for row in rows} | {"manifest.jsonl"} == set(made)
    assert {row["file"] for row in rows if row["source"] == "cats/a.png"} == {
        "cats/a.png.flip-0.png", "cats/a.png.crop+colour-1.png"
    }  # fmt: skip
    for row in rows:
        assert row["seed"] == 3 and not row["generated"] and row["operations"]
        assert read_mark(made[row["file"]]) is None, "a variant of a photo is no generated picture"
        with Image.open(out / row["file"]) as image:
            assert image.text["clipsearch:derived-from"] == row["source_sha256"]
            assert "algorithmicallyEnhanced" in image.text["XML:com.adobe.xmp"]
    again = tmp_path / "again"
    make_variants(str(photos), str(again), Wanted(per_image=2, kinds=("flip", "crop+colour"), seed=3))
    assert files(again) == made


def test_a_second_run_makes_what_is_missing_damaged_or_wanted_otherwise(photos, tmp_path):
    out, wanted = tmp_path / "out", Wanted(per_image=2, kinds=("flip", "blur"))
    make_variants(str(photos), str(out), wanted)
    whole = files(out)
    (out / "cats" / "a.png.flip-0.png").unlink()
    (out / "dogs" / "b.png.blur-1.png").write_bytes(b"damaged")
    with open(out / "manifest.jsonl", "a") as manifest:
        manifest.write('{"schema": "clipsearch.var')  # as a kill leaves it
    report = make_variants(str(photos), str(out), wanted)
    assert (report.made, report.kept) == (2, 4) and files(out) == whole
    make_photo(photos / "cats" / "a.png", (240, 220, 20), 9)
    report = make_variants(str(photos), str(out), wanted)
    assert (report.made, report.kept) == (2, 4)
    assert make_variants(str(photos), str(out), Wanted(per_image=2, kinds=("flip", "blur"), seed=1)).made == 6


def test_labels_go_with_the_variants_and_a_mirrored_picture_is_not_called_left(photos, tmp_path):
    table, out = tmp_path / "labels.csv", tmp_path / "out"
    table.write_text("image,label,caption\ncats/a.png,1,a cat on the left\nb.png,2,a dog\nb.png,2,big dog\nz.png,3,x\n")
    report = make_variants(str(photos), str(out), Wanted(per_image=2, kinds=("flip", "grey")), labels=str(table))
    with open(out / "labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert report.labels == len(rows) == 5
    assert [(row["image"], row["label"]) for row in rows if row["label"] == "1"] == [("cats/a.png.grey-1.png", "1")]
    assert all((out / row["image"]).exists() for row in rows)
    assert any("1 rows of the table name no picture" in note for note in report.notes)
    assert any("left or right" in note for note in report.notes)


@pytest.mark.parametrize("inside", ["src/out", "src", "."])
def test_out_may_not_lie_in_the_source_nor_around_it(photos, tmp_path, inside):
    with pytest.raises(InputError, match="folder"):
        make_variants(str(photos), str(tmp_path / inside), Wanted())
    assert len(files(tmp_path)) == 3


def test_a_folder_with_something_else_is_refused(photos, tmp_path):
    make_photo(tmp_path / "mine" / "x.png", (1, 2, 3))
    with pytest.raises(InputError, match="something else"):
        make_variants(str(photos), str(tmp_path / "mine"), Wanted())


def test_broken_files_are_named_with_exit_code_3_and_large_ones_shrink(photos, tmp_path, capsys):
    (photos / "cats" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    make_photo(photos / "wide.png", (9, 99, 9), size=(400, 100))
    out = tmp_path / "out"
    assert run(["augment", "images", str(photos), str(out), "--kinds", "flip", "--per-image", "1", "--size", "64"]) == 3
    said = capsys.readouterr().err
    assert "cats/broken.jpg" in said and "4 variants of 4 pictures" in said and "1 skipped" in said
    with Image.open(out / "wide.png.flip-0.png") as image:
        assert image.size == (64, 16)
    assert run(["augment", "images", str(photos), str(photos / "out")]) == 2


def test_what_a_generator_drew_of_a_picture_is_marked_and_kept(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    out = tmp_path / "out"
    ask = ["augment", "images", str(photos), str(out), "--per-image", "0", "--generator", "gradient"]
    assert run([*ask, "--strength", "0.4"]) == 0
    rows = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert {row["file"] for row in rows} == {
        "cats/a.png.generated.png", "dogs/b.png.generated.png", "dogs/c.jpg.generated.png"
    }  # fmt: skip
    for row in rows:
        data = (out / row["file"]).read_bytes()
        assert row["generated"] and row["strength"] == 0.4 and row["generator"] == "gradient"
        assert b"compositeWithTrainedAlgorithmicMedia" in data and read_mark(data) is not None
        with Image.open(out / row["file"]) as image:
            assert image.text["clipsearch:parent"] == row["source_sha256"]
    assert run([*ask, "--strength", "0.4"]) == 0 and "3 kept" in capsys.readouterr().err
    assert run([*ask, "--strength", "0.9"]) == 0 and "3 made" in capsys.readouterr().err
    assert run(["augment", "images", str(photos), str(out), "--strength", "0.9"]) == 2
