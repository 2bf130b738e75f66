"""Recall and precision of duplicates: computed by hand, with detectors that find nothing and that join everything."""

import json
import os
import shutil
import tempfile
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

import clipsearch
from clipsearch.cli import run
from clipsearch.embed import load_encoder
from clipsearch.errors import InputError, SourceNotFoundError
from clipsearch.evaluation.planting import COPIES, burst
from clipsearch.flows.alike import Alike, Limits
from clipsearch.flows.duplicates import DuplicateFile, DuplicateGroup, DuplicateReport
from clipsearch.flows.evaluate_duplicates import Finder, evaluate_duplicates
from clipsearch.flows.plant_duplicates import plant_duplicates
from clipsearch.flows.planted_copies import KINDS, write_copies
from clipsearch.store import Store

SCENES = 12
LOW = Limits(proposed=0.9, burst=0.8)  # the hashing encoder sees colours and little else


def scene(seed, size=(240, 160)):
    """Draw a picture of large soft shapes, unlike that of any other seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A collection of twelve different scenes."""
    folder = tmp_path_factory.mktemp("plain")
    for seed in range(SCENES):
        scene(seed).save(folder / f"scene{seed}.png")
    with clipsearch.create(folder / "indexes" / "plain", model="hashing") as made:
        made.index(folder, excludes=["indexes"], workers=1)
    return folder


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """The same scenes with copies of each class among them."""
    folder = tmp_path_factory.mktemp("album")
    for seed in range(SCENES):
        scene(seed).save(folder / f"scene{seed}.png")
    shutil.copy(folder / "scene0.png", folder / "copy0.png")
    (folder / "copy1.jpg").write_bytes(COPIES["JPEG, quality 75"].made(scene(1)))
    (folder / "small1.jpg").write_bytes(COPIES["half the size"].made(scene(1)))
    for name, frame in zip("ab", burst(scene(50), 0), strict=True):
        (folder / f"burst-{name}.jpg").write_bytes(frame)
    with clipsearch.create(folder / "indexes" / "album", model="hashing") as made:
        made.index(folder, excludes=["indexes"], workers=1)
    return folder


def opened(folder):
    return clipsearch.open(folder / "indexes" / folder.name.rstrip("0123456789"))


TRUTH = """image,duplicate_of,class
scene0.png,copy0.png,bytes
copy1.jpg,scene1.png,same picture
scene1.png,small1.jpg,Same Picture
burst-a.jpg,burst-b.jpg,burst
"""
WRONG = TRUTH + "scene2.png,scene3.png,same picture\nscene4.png,scene5.png,burst\n"


@pytest.fixture
def measured(album, tmp_path):
    def measure(text, **options):
        (tmp_path / "truth.csv").write_text(text)
        with opened(album) as collection:
            return collection.evaluate_duplicates(tmp_path / "truth.csv", **{"limits": LOW, **options})

    return measure


def counts(report):
    return {row.name: (row.planted, sum(row.proposed_as.values())) for row in (*report.rows, report.total)}


def test_all_pairs_of_a_true_file_are_found_in_their_class(measured):
    report = measured(TRUTH)
    assert counts(report) == {"same bytes": (1, 1), "same picture": (3, 3), "burst": (1, 1), "total": (5, 5)}
    assert [row.as_planted for row in report.rows] == [1, 3, 1] and report.total.as_planted == 5
    assert report.precision.value == 1.0 and report.precision.n == 5 and not any(report.wrong.values())
    assert (report.source, report.images, report.judged, report.missing) == ("truth", 17, 7, 0)


def test_a_broken_line_of_the_file_is_left_out_and_named(measured):
    first, *others = TRUTH.splitlines()
    report = measured("\n".join([first, 'copy0.png,"scene0.png', "a.png,b.png,burst,c", *others, "scene7.png"]))
    assert counts(report) == counts(measured(TRUTH))
    (note,) = report.notes
    assert "line 2 (a quote in it is not closed); line 3 (4 fields, where the first line has 3). Every" in note


def test_lines_that_are_wrong_lower_recall_by_what_they_are_and_precision_not_at_all(measured):
    report = measured(WRONG)
    assert counts(report) == {"same bytes": (1, 1), "same picture": (4, 3), "burst": (2, 1), "total": (7, 5)}
    assert report.total.found.value == pytest.approx(5 / 7) and report.precision.value == 1.0


def test_a_copy_that_the_file_calls_none_is_a_wrong_pair_with_each_of_its_group(measured):
    report = measured("image,duplicate_of,class\nscene1.png,copy1.jpg,picture\nsmall1.jpg,,\nscene7.png,,\n")
    assert counts(report) == {"same picture": (1, 1), "total": (1, 1)}
    assert report.wrong == {"same bytes": 0, "same picture": 2, "burst": 0} and report.total.wrong == 2
    assert report.precision.value == pytest.approx(1 / 3) and report.judged == 4
    ((a, b),) = report.wrong_examples
    assert "small1.jpg" in (a, b)


def test_pairs_with_a_picture_that_the_file_does_not_name_count_neither_way(measured):
    report = measured("image,duplicate_of\nscene1.png,copy1.jpg\nscene0.png,scene5.png\n")
    assert report.precision.n == 1 and report.precision.value == 1.0
    assert counts(report) == {"no class given": (2, 1), "total": (2, 1)}
    assert report.total.as_planted is None


def test_a_pair_that_was_found_in_another_class_is_found_but_not_as_planted(measured):
    report = measured("image,duplicate_of,class\nscene0.png,copy0.png,burst\n")
    (row,) = report.rows
    assert row.found.value == 1.0 and row.as_planted == 0
    assert row.proposed_as == {"same bytes": 1, "same picture": 0, "burst": 0}


def test_stated_pairs_are_closed_into_groups(measured):
    report = measured("image,duplicate_of,class\ncopy1.jpg,scene1.png,picture\nsmall1.jpg,scene1.png,picture\n")
    assert counts(report)["total"] == (3, 3)


def test_what_cannot_be_used_is_counted_and_named(measured):
    more = "gone.png,scene9.png,bytes\ngone.png,lost.png,\nscene6.png,scene6.png,bytes\n,,\n"
    report = measured(TRUTH + more)
    assert report.missing == 2 and counts(report)["total"] == (5, 5)
    assert report.notes == (
        "2 pictures that the file names are not in the collection: gone.png, lost.png.",
        "1 picture is called a duplicate of itself, which counts for nothing: scene6.png.",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("picture,copy\na.png,b.png\n", "has no column duplicate_of, image."),
        ("image,duplicate_of\ngone.png,lost.png\n", "the collection lacks gone.png, lost.png."),
        ("image,duplicate_of\nscene1.png,./scene1.png\n", "duplicates of themselves (scene1.png)"),
        ("image,duplicate_of\n", "has no pair. Write one a line"),
        ("image,duplicate_of\nscene1.png,\n", "has no pair. Write one a line"),
        ("image,duplicate_of,class\nscene1.png,scene2.png,twins\n", "line 2: no class of duplicates is called 'twins'"),
    ],
)
def test_a_file_without_use_is_refused_in_three_lines_at_most(measured, text, said):
    with pytest.raises(InputError) as refused:
        measured(text)
    assert said in str(refused.value) and str(refused.value).count("\n") <= 2


def test_a_file_that_is_not_there_is_said_so(album):
    with opened(album) as collection, pytest.raises(SourceNotFoundError, match="no file of duplicates"):
        collection.evaluate_duplicates(album / "none.csv")


@pytest.mark.parametrize("given", [{}, {"truth": "truth.csv", "plant": 3}])
def test_a_file_or_a_number_is_needed_and_not_both(album, given):
    with opened(album) as collection, pytest.raises(InputError, match="one of the two"):
        collection.evaluate_duplicates(**given)


# detectors whose figures are known


@dataclass(frozen=True)
class FindsNothing(Finder):
    def __call__(self, snapshot, allowed=None):
        return DuplicateReport((), snapshot.count("images"), 0, 0, 0.0)


@dataclass(frozen=True)
class JoinsEverything(Finder):
    """Calls all pictures one; what is known of the collection before comes from the usual detector."""

    def __call__(self, snapshot, allowed=None):
        ids = [row.id for row in snapshot.known_files() if allowed is None or row.id in allowed]
        files = tuple(DuplicateFile(id_, "", 0, 0, 0, 1.0, False) for id_ in ids)
        return DuplicateReport((DuplicateGroup(Alike.PICTURE, files),), len(ids), 0, 0, 0.0)

    def usual(self):
        return Finder(LOW)


def of_file(album, tmp_path, find, text=TRUTH):
    (tmp_path / "truth.csv").write_text(text)
    return evaluate_duplicates(Store.open(album / "indexes" / "album").snapshot(), tmp_path / "truth.csv", find)


def test_a_detector_that_finds_nothing_has_no_recall_and_no_precision(album, tmp_path):
    report = of_file(album, tmp_path, FindsNothing())
    assert [row.found.value for row in (*report.rows, report.total)] == [0.0] * 4
    assert report.total.found.low == 0.0 < report.total.found.high < 1.0
    assert report.precision is None and report.total.as_planted == 0


def test_a_detector_that_joins_everything_has_all_the_recall_and_the_precision_of_chance(album, tmp_path):
    report = of_file(album, tmp_path, JoinsEverything())
    assert report.total.found.value == 1.0
    assert report.precision.value == pytest.approx(5 / 21)  # 7 pictures are named: 21 pairs, of which 5 are true
    assert report.wrong == {"same bytes": 0, "same picture": 16, "burst": 0}
    assert report.total.as_planted == 3


def planted(folder, find, n, seed=0):
    store = Store.open(folder / "indexes" / folder.name.rstrip("0123456789"))
    return plant_duplicates(store.snapshot(), load_encoder("hashing"), n, find, seed=seed)


def state(folder):
    """Every file below a folder with its bytes and times, but for reading."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            stat = os.lstat(os.path.join(place, name))
            found[place, name] = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
    return found


def test_planted_copies_are_found_and_everything_is_removed(plain, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = state(plain)
    with opened(plain) as collection:
        report = collection.evaluate_duplicates(plant=6, limits=LOW, seed=1)
        assert len(collection.duplicates(limits=LOW).groups) == 0
    assert state(plain) == before and list(tmp_path.iterdir()) == []
    assert [row.name for row in report.rows] == list(KINDS) and report.total.planted == 6 * len(KINDS)
    found = {row.name: row for row in report.rows}
    assert found["byte copy"].proposed_as == {"same bytes": 6, "same picture": 0, "burst": 0}
    for name in ("JPEG, quality 50", "WebP, quality 60", "half the size"):
        assert found[name].proposed_as == {"same bytes": 0, "same picture": 6, "burst": 0} and found[name].wrong == 0
    assert sum(found["burst"].proposed_as.values()) == 6
    assert report.total.wrong == 0 and report.precision.value == 1.0
    assert (report.source, report.images, report.judged, report.seed) == ("planted", SCENES, 6, 1)


def test_what_is_planted_and_not_found_is_counted(plain):
    report = planted(plain, FindsNothing(), 4)
    assert [sum(row.proposed_as.values()) for row in report.rows] == [0] * len(KINDS)
    assert report.total.found.value == 0.0 and report.total.planted == 24 and report.precision is None


def test_copies_that_are_joined_with_all_pictures_are_right_once_and_wrong_otherwise(plain):
    report = planted(plain, JoinsEverything(), 3)
    assert report.total.found.value == 1.0 and report.total.proposed_as["same picture"] == 18
    # of 3 copies and 12 pictures the pairs that have a copy: 36 + 3, of which 3 are right
    assert {row.wrong for row in report.rows if row.name != "burst"} == {36}
    # 6 frames take the place of 3 pictures: 6 * 9 + 15 pairs that have a frame, of which 3 are right
    assert {row.wrong for row in report.rows if row.name == "burst"} == {66}
    assert report.precision.value == pytest.approx(18 / (18 + 5 * 36 + 66))
    assert report.wrong == {"same bytes": 0, "same picture": 246, "burst": 0}
    ((a, b),) = report.wrong_examples  # of one group one
    assert a != b and {os.path.dirname(a), os.path.dirname(b)} == {str(plain)}


def test_copies_that_were_there_before_are_no_error(album):
    # everything is planted: each copy of scene1 is joined with the three files of it, and rightly
    report = planted(album, Finder(LOW), 17)
    assert report.total.wrong == 0 and report.precision.value == 1.0
    assert report.notes == (
        "7 pictures of the collection are alike already; joining those again is neither right nor wrong.",
    )


def test_each_kind_is_measured_by_itself(plain):
    """No detector sees copies of two kinds at once, so none is found through another one."""
    seen = []

    @dataclass(frozen=True)
    class Looks(Finder):
        def __call__(self, snapshot, allowed=None):
            seen.append(len(allowed))
            return super().__call__(snapshot, allowed)

        def usual(self):
            return self

    planted(plain, Looks(LOW), 5)
    assert seen == [SCENES, *[SCENES + 5] * 5, SCENES - 5 + 10]


def test_the_seed_decides_what_is_planted(plain, tmp_path):
    snapshot = Store.open(plain / "indexes" / "plain").snapshot()

    def drawn(name, seed):
        ids = write_copies(snapshot, str(tmp_path / name), 3, seed, lambda _: None)
        files = sorted(file for file in (tmp_path / name).rglob("*") if file.is_file())
        assert len(files) == 3 * (len(KINDS) + 1)
        return ids, [file.read_bytes() for file in files]

    once, again, other = drawn("once", 4), drawn("again", 4), drawn("other", 5)
    assert once == again and once[0] != other[0] and len(set(once[0])) == 3


@pytest.mark.parametrize(("n", "said"), [(0, "give 1 or more"), (13, "fewer than the 13 to be planted. Give 12.")])
def test_a_number_that_makes_no_sense_is_refused(plain, n, said):
    with opened(plain) as collection, pytest.raises(InputError, match=said):
        collection.evaluate_duplicates(plant=n)


def test_a_collection_without_pictures_has_none_to_plant(tmp_path):
    empty = clipsearch.create(tmp_path / "empty", model="hashing")
    with empty, pytest.raises(InputError, match="holds no pictures"):
        empty.evaluate_duplicates(plant=2)


def test_pictures_that_are_gone_or_changed_are_not_planted(plain, tmp_path):
    folder = tmp_path / "plain"
    shutil.copytree(plain, folder)
    for seed in range(0, 10):
        (folder / f"scene{seed}.png").unlink()
    scene(99).save(folder / "scene10.png")
    report = planted(folder, Finder(LOW), 5)
    assert report.judged == 1 and report.total.planted == 6
    assert report.notes[0] == "only 1 of the 5 pictures were planted: files of others are gone or have changed."
    (folder / "scene11.png").unlink()
    with pytest.raises(InputError, match="No copy can be planted") as refused:
        planted(folder, Finder(LOW), 5)
    assert str(refused.value).count("\n") <= 2


def test_pictures_of_a_tar_are_planted_too(plain, tmp_path):
    shutil.make_archive(str(tmp_path / "scenes"), "tar", plain, ".")
    with clipsearch.create(tmp_path / "indexes" / "tarred", model="hashing") as made:
        made.index(tmp_path / "scenes.tar", workers=1)
        report = made.evaluate_duplicates(plant=4, limits=LOW)
    found = {row.name: sum(row.proposed_as.values()) for row in report.rows}
    assert report.judged == 4 and found["byte copy"] == 4


# the command


def command(folder, capsysbinary, *args):
    place = folder / "indexes" / folder.name.rstrip("0123456789")
    code = run(["evaluate", "duplicates", "-i", str(place), *args])
    out, err = capsysbinary.readouterr()
    return code, out.decode(), err.decode()


def test_the_command_prints_a_row_a_class(album, tmp_path, capsysbinary):
    (tmp_path / "truth.csv").write_text(WRONG)
    code, out, err = command(album, capsysbinary, str(tmp_path / "truth.csv"), "--near", "0.9")
    rows = [line.split("\t") for line in out.splitlines()]
    assert code == 0 and rows[0] == ["class", "pairs", "found %", "bytes", "picture", "burst", "wrong"]
    assert [row[:2] for row in rows[1:]] == [["same bytes", "1"], ["same picture", "4"], ["burst", "2"], ["total", "7"]]
    assert rows[2][2].startswith("75.0 (") and rows[2][3:] == ["0", "3", "0", ""]
    assert "17 pictures, of which the file names 11" in err and "precision 100.0" in err


def test_the_command_plants_and_prints_json(plain, capsysbinary):
    code, out, _ = command(plain, capsysbinary, "--plant", "2", "--near", "0.9", "--seed", "3", "--json")
    found = json.loads(out)
    assert code == 0 and found["schema"] == "clipsearch.duplicates_evaluation/1" and found["collection"] == "plain"
    assert found["source"] == "planted" and found["seed"] == 3 and [row["planted"] for row in found["rows"]] == [2] * 6
    assert found["total"]["found"].keys() == {"value", "low", "high", "n"}


@pytest.mark.parametrize(
    ("args", "said"),
    [((), "one of the two"), (("truth.csv", "--plant", "2"), "one of the two"), (("--plant", "0"), "x>=1")],
)
def test_the_command_refuses_what_makes_no_sense(plain, capsysbinary, args, said):
    code, out, err = command(plain, capsysbinary, *args)
    assert code == 2 and not out and said in err and "Traceback" not in err


def test_the_table_fits_eighty_cells(plain, capsysbinary, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("clipsearch.cli.evaluate_duplicates.is_terminal", lambda stream: True)
    code, out, err = command(plain, capsysbinary, "--plant", "3")
    assert code == 0 and all(len(line) <= 80 for line in (*out.splitlines(), *err.splitlines()))
    assert len(out.splitlines()) == 2 + len(KINDS)
