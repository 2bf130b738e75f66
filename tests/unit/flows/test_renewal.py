"""Columns and pictures that come later: the values that the first run would have given, and nothing done twice."""

import os

import numpy as np
import pytest
from PIL import Image
from planted import PlantedEncoder, add, planted

from clipsearch.cli import run
from clipsearch.errors import LockedError
from clipsearch.flows import renewal
from clipsearch.flows.ask import Asker
from clipsearch.flows.renewal import renew_columns
from clipsearch.flows.tagger import Tagger, generic_words, widened
from clipsearch.store import Store, verify_files

LABELS = [f"concept{n:02d}" for n in range(8)]
QUESTION, CHOICES = "what is it?", LABELS[:3]


@pytest.fixture
def world(tmp_path):
    collection, _ = planted(tmp_path / "photos", PlantedEncoder(0.9), concepts=range(8), copies=30, captions=False)
    return collection


def truth_of(collection):
    rows = collection._current().snapshot.known_files()
    return [(row.path.decode(), f"concept{row.path[:2].decode()}") for row in rows]


def renew(collection):
    found = renew_columns(collection._store, lambda: collection.encoder)
    collection.refresh()
    return found


def column(collection, name="tags"):
    ids, values = collection._current().snapshot.added_column(name)
    return dict(zip(ids.tolist(), values.to_pylist(), strict=True))


def parts(collection, name="tags"):
    return [entry.rows for entry in collection._current().snapshot.manifest.files_of("added") if entry.of == name]


def test_new_rows_get_the_tags_that_a_run_over_everything_with_the_same_threshold_gives(world):
    world.tag(LABELS, truth=truth_of(world), level=0.6)
    before = column(world)
    new = add(world, world.encoder, range(8), 5, captions=False, start=30)
    found = renew(world)
    assert found.columns == {"tags": 40} and not found.notes
    snapshot = world._current().snapshot
    tagger = Tagger.from_bytes(snapshot.made_of("tags"))
    rows = widened(snapshot.embeddings("images", new))
    wanted = tagger.tags(rows, generic_words(snapshot.path, world.encoder))
    after = column(world)
    assert [after[id_] for id_ in new] == wanted and any(wanted)
    assert {id_: after[id_] for id_ in before} == before and not verify_files(world.path)


def test_the_kept_labels_and_threshold_give_the_first_rows_their_first_tags_again(world):
    world.tag(LABELS, truth=truth_of(world), level=0.6)
    before = column(world)
    snapshot = world._current().snapshot
    tagger = Tagger.from_bytes(snapshot.made_of("tags"))
    rows = widened(snapshot.embeddings("images", np.array(list(before))))
    assert tagger.tags(rows, generic_words(snapshot.path, world.encoder)) == list(before.values())


def test_rows_that_have_a_value_are_not_looked_at_again(world, monkeypatch):
    world.tag(LABELS, truth=truth_of(world))
    add(world, world.encoder, range(8), 1, captions=False, start=30)
    seen = []
    tags = Tagger.tags
    monkeypatch.setattr(Tagger, "tags", lambda self, rows, words: seen.append(len(rows)) or tags(self, rows, words))
    renew(world)
    assert seen == [8]
    renew(world)
    assert seen == [8]


def test_deleted_rows_leave_the_table_and_in_time_the_files(world):
    world.tag(LABELS, truth=truth_of(world))
    new = add(world, world.encoder, [0], 4, captions=False, start=30)
    renew(world)
    with Store.open(world.path).writer() as writer:
        writer.commit(deleted=[0, new[0]])
    world.refresh()
    assert not {0, new[0]} & set(world._current().snapshot.metadata_table().column("id").to_pylist())
    add(world, world.encoder, [1], 4, captions=False, start=30)
    renew(world)
    assert parts(world) == [240, 7] and new[0] not in column(world)  # the part was written anew, without it


def test_many_small_batches_leave_few_files_and_every_value_once(world):
    world.tag(LABELS, truth=truth_of(world))
    for batch in range(20):
        add(world, world.encoder, [batch % 8], 3, captions=False, start=30 + batch)
        renew(world)
    assert sum(parts(world)) == len(column(world)) == 300
    assert len(parts(world)) <= 6 and len(world._current().snapshot.added_columns()) == 1
    world.drop_column("tags")
    assert not parts(world) and not world._current().snapshot.manifest.files_of("made")


def test_a_column_that_is_made_again_replaces_all_its_parts(world):
    world.tag(LABELS, truth=truth_of(world))
    add(world, world.encoder, range(8), 1, captions=False, start=30)
    renew(world)
    world.tag(LABELS[:1], truth=truth_of(world))
    assert parts(world) == [248]


def test_answers_of_new_rows_are_those_that_the_first_question_gives(world):
    world.ask_all(QUESTION, CHOICES, column="what")
    before = column(world, "what")
    snapshot = world._current().snapshot
    asker = Asker(snapshot, world.encoder, QUESTION, CHOICES)
    new = add(world, world.encoder, range(3), 8, captions=False, start=30)
    assert renew(world).columns == {"what": 24}
    after = column(world, "what")
    rows = widened(world._current().snapshot.embeddings("images", new))
    assert [after[id_] for id_ in new] == asker.answers(rows) and set(map(after.get, new)) & set(CHOICES)
    assert {id_: after[id_] for id_ in before} == before


def test_what_cannot_be_renewed_is_said_in_one_line_and_the_rest_is_done(world):
    world.tag(LABELS, truth=truth_of(world))
    with world._store.writer() as writer:
        writer.commit_added("ask_older", np.arange(240), ["yes"] * 240, type_="text", made=b"clipsearch ask: is it?")
    add(world, world.encoder, range(8), 1, captions=False, start=30)
    found = renew(world)
    assert found.columns == {"tags": 8}
    (note,) = found.notes
    assert note.startswith("New pictures have no value in the column ask_older: nothing is known") and "\n" not in note
    assert world.status().columns_advice == (
        "8 pictures have no value in the column ask_older: 'clipsearch index' gives it",
    )


def test_other_weights_do_not_give_tags(world):
    world.tag(LABELS, truth=truth_of(world))
    add(world, world.encoder, range(8), 1, captions=False, start=30)
    found = renew_columns(world._store, lambda: PlantedEncoder(0.5))
    assert not found.columns and "other weights" in found.notes[0]


def test_another_writer_is_waited_for_only_where_that_was_asked(world):
    world.tag(LABELS, truth=truth_of(world))
    renew(world)  # nothing to do takes no lock
    add(world, world.encoder, range(8), 1, captions=False, start=30)
    with Store.open(world.path).writer(), pytest.raises(LockedError):
        renew(world)


def test_status_proposes_to_calibrate_again_once_much_has_come(world):
    world.tag(LABELS, truth=truth_of(world), level=0.6)
    add(world, world.encoder, range(8), 15, captions=False, start=30)
    renew(world)
    assert world.status().columns == ("tags",) and world.status().columns_advice == ()
    add(world, world.encoder, [0], 1, captions=False, start=45)
    renew(world)
    assert world.status().columns_advice == (
        "the column tags was calibrated on 240 pictures, and 121 have come since: "
        "calibrate it again with 'clipsearch tag --level 0.6'",
    )
    world.tag(LABELS, truth=truth_of(world))
    assert world.status().columns_advice == ()


def test_a_damaged_part_stops_no_index_run(world):
    world.tag(LABELS, truth=truth_of(world))
    (entry,) = world._current().snapshot.manifest.files_of("added")
    with open(os.path.join(world.path, entry.name), "r+b") as file:
        file.seek(40)
        file.write(b"XXXX")
    add(world, world.encoder, range(8), 1, captions=False, start=30)
    found = renew_columns(Store.open(world.path), lambda: world.encoder)
    assert not found.columns and entry.name in found.notes[0]


# the runs that users make


def test_an_index_run_renews_the_columns_and_says_so(collection, photos, capsysbinary):
    collection.tag(["red", "green", "blue"])
    with collection._store.writer() as writer:  # every picture one tag, whatever the encoder makes of it
        snapshot = collection._store.snapshot()
        tagger = Tagger.from_bytes(snapshot.made_of("tags"))
        ids = np.array([row.id for row in snapshot.known_files()])
        always = renewal.Tagger(**{**{n: getattr(tagger, n) for n in Tagger.__slots__}, "threshold": -9.0})
        writer.commit_added("tags", ids, [["old"]] * len(ids), made=always.to_bytes())
    assert run(["index", str(photos), "-i", collection.path]) == 0
    assert b"new pictures" not in capsysbinary.readouterr().err
    Image.new("RGB", (32, 32), (200, 10, 10)).save(photos / "later.png")
    assert run(["index", str(photos), "-i", collection.path]) == 0
    assert b"new pictures have values in tags (1)" in capsysbinary.readouterr().err
    collection.refresh()
    found = {hit.path.rsplit("/", 1)[-1] for hit in collection.search("x", k=50, where="'old' NOT IN tags")}
    assert found == {"later.png"}
    report = collection.index(photos)
    assert report.columns == {} and "columns" not in report.stages
