"""Tags, answers and clusters are worked out without the writer's lock, and are right for the rows of the commit."""

import json
from contextlib import ExitStack
from threading import Timer

import numpy as np
import pytest
from planted import PlantedEncoder, add, planted

from clipsearch.errors import InputError, LockedError
from clipsearch.flows import cluster, given
from clipsearch.flows.ask import ask_giver
from clipsearch.flows.cluster import cluster_giver
from clipsearch.flows.renewal import column_advice, renew_columns
from clipsearch.flows.tag import tag_giver
from clipsearch.flows.tagger import widened
from clipsearch.store import Store, verify_files

LABELS = [f"concept{n:02d}" for n in range(4)]
MAKERS = {"tags": tag_giver, "asked": ask_giver, "cluster": cluster_giver, "cluster_name": cluster_giver}


@pytest.fixture
def world(tmp_path):
    collection, _ = planted(tmp_path / "photos", PlantedEncoder(0.9), concepts=range(4), copies=30, captions=False)
    return collection


def tag(world, meanwhile, **options):
    return world.tag(LABELS, progress=lambda progress: progress.stage == "tags" and meanwhile(), **options)


def ask_all(world, meanwhile, **options):
    told = {"column": "asked", "progress": lambda progress: progress.stage == "answers" and meanwhile()}
    return world.ask_all("what is it?", LABELS, **told, **options)


def clusters(world, meanwhile, **options):
    find = cluster.find_clusters

    def found(*arguments, **more):
        report = find(*arguments, **more)
        meanwhile()
        return report

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "find_clusters", found)
        return world.clusters(k=4, labels=LABELS, **options)


RUNS = {"tags": tag, "asked": ask_all, "cluster": clusters}


def column(world, name):
    ids, values = world._current().snapshot.added_column(name)
    return dict(zip(ids.tolist(), values.to_pylist(), strict=True))


@pytest.mark.parametrize("name", RUNS)
def test_rows_that_come_and_go_meanwhile_have_their_value_and_none(world, name):
    came = []

    def meanwhile():  # takes the lock, which therefore is free
        if not came:
            came.extend(add(world, world.encoder, range(4), 3, captions=False, start=30))
            with Store.open(world.path).writer() as writer:
                writer.commit(deleted=[0, 1, came[0]])

    report = RUNS[name](world, meanwhile)
    snapshot = world._current().snapshot
    live = {row.id for row in snapshot.known_files()}
    for added in snapshot.added_columns():
        found = column(world, added)
        assert set(found) == live and len(live) == 120 + 12 - 3
        giver = MAKERS[added](snapshot.made_of(added), snapshot, lambda: world.encoder)
        rows = widened(snapshot.embeddings("images", came[1:]))
        assert [found[id_] for id_ in came[1:]] == list(giver.give(rows))
    if name != "cluster":
        assert report.pictures == len(live) and report.version == snapshot.version
    assert not renew_columns(world._store, lambda: world.encoder).columns  # nothing is left to do
    assert not column_advice(snapshot) and not verify_files(world.path)


@pytest.mark.parametrize("name", RUNS)
def test_the_values_of_older_rows_do_not_depend_on_what_came_meanwhile(world, name):
    RUNS[name](world, lambda: None)
    alone = column(world, name)
    RUNS[name](
        world, lambda: add(world, world.encoder, [0], 2, captions=False, start=40) if len(alone) == 120 else None
    )
    assert {id_: value for id_, value in column(world, name).items() if id_ in alone} == alone


@pytest.mark.parametrize("name", RUNS)
def test_a_writer_that_came_meanwhile_is_waited_for_as_long_as_the_work_took(world, name, monkeypatch):
    def hold(stack, seconds):
        held = stack.enter_context(ExitStack())
        held.enter_context(Store.open(world.path).writer())
        if seconds is not None:
            Timer(seconds, held.close).start()

    with ExitStack() as stack:
        RUNS[name](world, lambda: hold(stack, 0.3))
    before = column(world, name)
    monkeypatch.setattr(given, "PATIENCE", 0.1)
    with ExitStack() as stack, pytest.raises(LockedError):
        RUNS[name](world, lambda: hold(stack, None))
    world.refresh()
    assert column(world, name) == before


def test_a_name_that_no_column_can_have_is_refused_before_the_work(world, monkeypatch):
    monkeypatch.setattr(PlantedEncoder, "encode_texts", lambda *_: np.empty((0, 0)))  # nothing could be embedded
    with pytest.raises(InputError, match="cannot name a column"):
        world.tag(LABELS, column="My tags")
    with pytest.raises(InputError, match="cannot name a column"):
        world.ask_all("what is it?", LABELS, column="What?")


def test_a_question_never_takes_the_column_of_another_one(world):
    long = "what is it that one can see in the middle of the picture"  # the same first 40 characters
    names = [
        world.ask_all("что это?", LABELS).column,
        world.ask_all("где это?", LABELS).column,
        world.ask_all("что это?", LABELS).column,
        world.ask_all("что это?", LABELS[:2]).column,
        world.ask_all(f"{long} now?", LABELS).column,
        world.ask_all(f"{long} then?", LABELS).column,
    ]
    assert names[:4] == ["ask", "ask_2", "ask", "ask_3"]
    assert names[5] == f"{names[4]}_2" and len(names[5]) <= 60


def test_no_command_writes_over_a_column_that_another_one_made(world):
    world.tag(LABELS)
    world.ask_all("what is it?", LABELS, column="asked")
    world.clusters(k=4, labels=[])
    world.clusters(k=4, labels=[], where="width > 0", column="some")
    runs = {
        "tags": lambda name: world.tag(LABELS, column=name),
        "asked": lambda name: world.ask_all("what is it?", LABELS, column=name),
        "cluster": lambda name: world.clusters(k=4, labels=[], column=name),
        "some": lambda name: world.clusters(k=4, labels=[], where="width > 0", column=name),
    }
    for own, again in runs.items():
        again(own)
        kept = {name: column(world, name) for name in world._current().snapshot.added_columns()}
        for other in set(runs) - {own, *(("cluster", "some") if own in ("cluster", "some") else ())}:
            with pytest.raises(InputError, match=f"There is a column '{other}' already"):
                again(other)
        assert {name: column(world, name) for name in kept} == kept
    with pytest.raises(InputError, match="There is a column 'cluster_name' already"):
        world.tag(LABELS, column="cluster_name")


@pytest.mark.parametrize("name", [*RUNS, "cluster_name"])
def test_a_column_that_another_command_made_meanwhile_is_kept(world, name):
    def other():
        if name.startswith("cluster"):
            world.ask_all("what is it?", LABELS, column=name)
        else:
            world.clusters(k=4, labels=LABELS, column=name)

    run = RUNS["cluster" if name == "cluster_name" else name]
    with pytest.raises(InputError, match=f"There is a column '{name}' already"):
        run(world, other)
    world.refresh()
    kept = world._current().snapshot
    assert set(kept.added_columns()) == {name} if name.startswith("cluster") else {name, f"{name}_name"}
    assert len(column(world, name)) == 120


def test_another_question_that_took_the_chosen_name_meanwhile_keeps_it(world):
    def other(progress):
        if progress.stage == "answers" and not world._current().snapshot.added_columns():
            world.ask_all("где это?", LABELS)

    with pytest.raises(InputError, match="There is a column 'ask' already"):
        world.ask_all("что это?", LABELS, progress=other)
    assert "где" in json.loads(world._current().snapshot.made_of("ask"))["question"]
