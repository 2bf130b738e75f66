"""Tags as a column: what the level stands for, how filters use it, what is never lost."""

import numpy as np
import pytest
from planted import PlantedEncoder, add, planted

from clipsearch.errors import FilterSyntaxError, InputError, LockedError
from clipsearch.store import Store, verify_files

LABELS = [f"concept{n:02d}" for n in range(8)]


def truth_of(collection, keep=lambda n: True):
    """True labels by path; a picture's concept is the beginning of its name."""
    rows = [row for row in collection._current().snapshot.known_files() if keep(row.id)]
    return [(row.path.decode(), f"concept{row.path[:2].decode()}") for row in rows]


@pytest.fixture
def world(tmp_path):
    collection, _ = planted(tmp_path / "photos", PlantedEncoder(0.9), concepts=range(8), copies=30, captions=False)
    return collection


def tags_of(collection, column="tags"):
    rows = collection.sql(f"SELECT path, {column} FROM images").batches
    return {row["path"]: row[column] for batch in rows for row in batch.to_pylist()}


def test_true_labels_give_tags_at_the_level_and_say_what_was_measured(world):
    report = world.tag(LABELS, truth=truth_of(world), level=0.8)
    assert (report.source, report.learnt_on, report.pictures) == ("truth", 240, 240)
    assert report.measured is not None and report.measured.precision is not None
    assert abs(report.measured.precision.value - 0.8) < 0.1
    assert report.confusion_names == tuple(LABELS) and sum(map(sum, report.confusion)) == 240
    assert report.tags == sum(len(tags) for tags in tags_of(world).values()) > 0


def test_tags_calibrated_on_some_pictures_keep_the_level_on_others(world):
    world.tag(LABELS, truth=truth_of(world, lambda n: n % 2 == 0))
    found = world.evaluate_tags(truth_of(world, lambda n: n % 2))
    assert found.level == 0.8 and found.source == "truth" and found.pictures == 120
    assert abs(found.scores.precision.value - 0.8) < 0.12 and found.scores.recall.value > 0.5


def test_filters_use_tags_as_one_would_write_it(world):
    world.tag(LABELS, truth=truth_of(world))
    tags = tags_of(world)
    wanted = {path for path, given in tags.items() if "concept03" in given}
    for where in ("'concept03' IN tags", "list_contains(tags, 'concept03')", "list_has_any(tags, ['concept03', 'x'])"):
        hits = world.search("concept03", k=240, where=where)
        assert {hit.path.rsplit("/", 1)[-1] for hit in hits} == wanted
    assert len(world.search("concept03", k=240, where="tags::VARCHAR LIKE '%concept03%'")) == len(wanted)
    assert len(world.search("concept03", k=240, where="tags IS NULL")) == 0
    with pytest.raises(FilterSyntaxError):
        world.search("concept03", where="tags")
    assert [column.name for column in world.columns()][-1] == "tags"


def test_captions_stand_in_for_true_labels(tmp_path):
    collection, _ = planted(tmp_path / "photos", PlantedEncoder(0.9), concepts=range(8), copies=30)
    report = collection.tag(LABELS)
    assert report.source == "captions" and not report.confusion
    assert report.measured is not None and abs(report.measured.precision.value - 0.8) < 0.1


def test_without_any_witness_no_precision_is_stated(world):
    report = world.tag(LABELS)
    assert report.source == "chance" and report.measured is None


def test_at_most_one_tag_a_picture_where_that_is_wanted(world):
    world.tag(LABELS, truth=truth_of(world), level=0.5, single=True)
    assert max(map(len, tags_of(world).values())) == 1


def test_a_picture_that_came_later_has_no_tags_yet_and_the_next_run_gives_them(world):
    world.tag(LABELS, truth=truth_of(world))
    add(world, world.encoder, range(8), 1, captions=False, start=30)
    assert list(tags_of(world).values()).count(None) == 8
    world.tag(LABELS, truth=truth_of(world))
    assert None not in tags_of(world).values()


def test_an_older_version_keeps_its_tags_and_the_next_has_its_own(world):
    world.tag(LABELS, truth=truth_of(world), level=0.5)
    old = world._current().snapshot
    before = old.metadata_table().column("tags").to_pylist()
    world.tag(["concept01"], truth=truth_of(world), level=0.9)
    assert old.metadata_table().column("tags").to_pylist() == before
    assert {tag for tags in tags_of(world).values() for tag in tags} <= {"concept01"}
    assert not verify_files(world.path)
    assert len(world._current().snapshot.manifest.files_of("added")) == 1


def test_a_column_can_be_taken_out_and_only_an_added_one(world):
    world.tag(LABELS, truth=truth_of(world), column="things")
    world.drop_column("things")
    assert "things" not in [column.name for column in world.columns()]
    with pytest.raises(InputError, match="No column 'width' was added"):
        world.drop_column("width")
    for name in ("width", "Tags", "a b", "select;", "1st", "x" * 61):
        with pytest.raises(InputError, match="column"):
            world.tag(LABELS, column=name)


def test_deleted_pictures_cost_no_tags_of_others(world):
    world.tag(LABELS, truth=truth_of(world))
    before = tags_of(world)
    with Store.open(world.path).writer() as writer:
        writer.commit(deleted=[0, 5])
    world.refresh()
    after = tags_of(world)
    assert len(after) == 238 and all(before[path] == tags for path, tags in after.items())


def test_labels_of_another_script_are_withheld_and_named(world):
    report = world.tag([*LABELS, "собака"], truth=truth_of(world))
    assert report.withheld == ("собака",) and "does not understand собака" in report.notes[-1]
    assert report.tags > 0
    with pytest.raises(InputError, match="understands none of the labels"):
        world.tag(["собака"])


def test_ten_thousand_labels_are_taken(world):
    truth = truth_of(world, lambda n: n % 4 == 0)
    report = world.tag([*LABELS, *(f"word{n}" for n in range(9_992))], truth=truth, level=0.7)
    assert len(report.labels) == 10_000 and report.tags > 0


def test_a_truth_that_does_not_fit_is_refused_and_one_that_fits_in_part_is_used(world):
    with pytest.raises(InputError, match="Of 1 picture with a true label none is in"):
        world.tag(LABELS, truth=[("absent.png", "concept00")])
    with pytest.raises(InputError, match="No true label"):
        world.tag(LABELS, truth=[(path, "zebra") for path, _ in truth_of(world)])
    with pytest.raises(InputError, match="Only 3 pictures"):
        world.tag(LABELS, truth=truth_of(world)[:3])
    with pytest.raises(InputError, match="share of the tags above 0"):
        world.tag(LABELS, level=80)
    report = world.tag(LABELS, truth=[*truth_of(world), ("absent.png", "concept00"), (truth_of(world)[0][0], "zebra")])
    assert any("1 picture with a true label is not in the collection: absent.png" in note for note in report.notes)
    assert any("zebra" in note for note in report.notes)


def test_another_writer_is_not_disturbed(world):
    with Store.open(world.path).writer(), pytest.raises(LockedError):
        world.tag(LABELS)


def test_sidecars_are_written_only_when_asked_and_never_over_those_of_others(collection, photos):
    report = collection.tag(["red", "green", "blue"])
    assert not list(photos.glob("*.xmp")) and report.pictures == 6
    from clipsearch.flows.xmp_files import write_sidecars

    (photos / "red.png.xmp").write_text("<x>somebody's</x>")
    rows = list(collection._current().snapshot.known_files())
    ids = np.array([row.id for row in rows])
    given = [[] if row.path == b"black.png" else ["a", "b"] for row in rows]
    counts = write_sidecars(collection._current().snapshot, ids, given)
    assert (counts.written, counts.foreign, counts.unchanged) == (4, 1, 1)
    assert (photos / "red.png.xmp").read_text() == "<x>somebody's</x>"
    assert not (photos / "black.png.xmp").exists() and b"<rdf:li>a</rdf:li>" in (photos / "blue.png.xmp").read_bytes()
    again = write_sidecars(collection._current().snapshot, ids, given)
    assert (again.written, again.unchanged) == (0, 5)


def test_zero_shot_labels_are_measured(world):
    found = world.evaluate_labels(truth_of(world))
    assert found.pictures == 240 and found.labels == 8
    assert found.top5.value >= found.top1.value > 0.5
    assert len(found.by_label) == 8
