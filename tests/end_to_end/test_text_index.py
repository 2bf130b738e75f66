"""A built index of the texts through its life, beside that of the images, against exact search in plain numpy."""

import hashlib
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from care import unit_rows
from synthetic import Synthetic

import clipsearch
from clipsearch.cli import run
from clipsearch.errors import InputError, LockedError
from clipsearch.flows import index_files, measuring
from clipsearch.flows.repair import repair
from clipsearch.flows.verify import verify
from clipsearch.store import Columns, Store
from clipsearch.store.files import WriterLock

pytest.importorskip("faiss", reason="faiss is not installed")

DIM = 64
IMAGES, EACH = 400, 8
DATA = Synthetic(20_000, DIM, clusters=60, topics=12)
TEXTS = DATA.base(0, IMAGES * EACH)  # as an index sees them, rows are rows
PICTURES = DATA.text_queries(IMAGES)  # the other kind lies apart from them


def image_columns(writer, rows, start=0):
    ids = np.asarray(writer.new_ids(len(rows)))
    values = {
        "path": [b"%d.jpg" % n for n in range(start, start + len(rows))],
        "content_hash": [hashlib.sha256(b"%d" % n).digest() for n in ids],
        "width": list(range(start, start + len(rows))),
    }
    constants = {"root": writer.root_id(b"/photos"), "size": 1, "mtime_ns": 0, "ctime_ns": 0, "format": "jpeg"}
    return Columns(ids, rows.astype(np.float16), values, constants)


def text_columns(writer, rows, links):
    ids = np.asarray(writer.new_ids(len(rows)))
    values = {"text": [f"caption {n}" for n in ids], "image_id": list(links)}
    return Columns(ids, rows.astype(np.float16), values, {"source": b""})


class Model:
    """A collection, and its texts in plain numpy: ids, rows, and the image that each is of."""

    def __init__(self, path):
        self.collection = clipsearch.open(path)
        snapshot = Store.open(path).snapshot()
        blocks = list(snapshot.blocks("texts"))
        self.ids = np.concatenate([block.ids for block in blocks])
        self.rows = np.concatenate([block.embeddings for block in blocks])
        links = dict(zip(*map(np.ndarray.tolist, snapshot.caption_links()[::-1]), strict=True))
        self.links = np.array([links.get(int(id_), -1) for id_ in self.ids])

    def best(self, xq, k, among=None):
        keep = np.ones(len(self.ids), bool) if among is None else among
        scores = xq.astype(np.float64) @ self.rows[keep].astype(np.float64).T
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return self.ids[keep][order], np.take_along_axis(scores, order, axis=1)

    def recall(self, xq, k=10, among=None, **how):
        _, wanted = self.best(xq, k, among)
        live = set(self.ids.tolist() if among is None else self.ids[among].tolist())
        right = 0
        for result, scores in zip(self.collection.search(vector=xq, target="text", k=k, **how), wanted, strict=True):
            assert set(result.ids.tolist()) <= live, "a text that is gone, or filtered out, was answered"
            right += int((result.scores >= scores[-1] - 1e-5).sum())
        return right / wanted.size

    def add(self, rows, links):
        with Store.open(self.collection.path).writer() as writer:
            made = text_columns(writer, rows, links)
            writer.commit_columns(texts=made)
        self.__init__(self.collection.path)
        return made.ids

    def record(self, kind="texts"):
        return index_files.read_record(self.collection.path, kind)


@pytest.fixture(autouse=True)
def fewer_queries(monkeypatch):
    monkeypatch.setattr(measuring, "QUERIES", {"text": 100, "image": 100})


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "photos"
    clipsearch.create(path, model=None, dim=DIM).close()
    with Store.open(path).writer() as writer:
        images = image_columns(writer, PICTURES)
        writer.commit_columns(images=images)
        writer.commit_columns(texts=text_columns(writer, TEXTS, np.repeat(images.ids, EACH).tolist()))
    return path


@pytest.fixture(scope="module")
def built(plain, tmp_path_factory):
    path = shutil.copytree(plain, tmp_path_factory.mktemp("built") / "photos")
    with clipsearch.open(path) as collection:
        collection.build_index("ivfpq", target="text")
    return path


@pytest.fixture
def model(built, tmp_path):
    made = Model(shutil.copytree(built, tmp_path / "photos"))
    yield made
    made.collection.close()


@pytest.mark.parametrize("index_type", ["ivfflat", "ivfpq"])
def test_every_type_of_index_finds_texts_for_texts_and_for_pictures(plain, tmp_path, index_type):
    made = Model(shutil.copytree(plain, tmp_path / "photos"))
    report = made.collection.build_index(index_type, target="text")
    assert (report.action, report.type, report.rows) == ("built", index_type, len(TEXTS))
    assert f"{len(TEXTS):,} texts" in report.line
    assert made.recall(DATA.image_queries(80)) >= 0.95, "queries like the rows"
    assert made.recall(PICTURES[:80]) >= 0.95, "queries of the other kind"
    assert made.recall(PICTURES[:80], recall=1.0) == 1.0


def test_the_index_is_what_searches_use_and_that_of_the_images_is_none_of_its_business(model):
    view = model.collection._current()
    assert view.index("texts", threading.RLock()).base.recipe.type == "ivfpq"
    assert model.record("images") is None and not os.path.exists(Path(model.collection.path) / "index")
    model.collection.build_index("ivfflat")
    assert (model.record("images").recipe.type, model.record("images").rows) == ("ivfflat", IMAGES)
    assert model.record().recipe.type == "ivfpq", "each index has its own type"
    assert model.collection.build_index("flat").action == "removed"
    assert model.record("images") is None and model.record().rows == len(TEXTS)


def test_text_and_picture_queries_are_measured_apart_each_on_rows_of_its_kind(model):
    measured = model.record().measured
    assert measured["text"].queries == "300 texts of the collection, themselves left out"
    assert measured["image"].queries == "200 images"
    assert min(one.recall for one in measured.values()) >= 0.95


def test_a_mixed_query_is_searched_with_the_settings_of_the_harder_kind(model):
    from clipsearch.flows.effort import query_kind
    from clipsearch.flows.query_terms import Query, Term

    text, image = Term("text", "a", 1.0), Term("image", "b", 1.0)
    assert [query_kind(Query((term,)), "text") for term in (text, image)] == ["text", "image"]
    assert query_kind(Query((text, image)), "text") == "image"
    assert query_kind(Query((text, image)), "image") == "text"


def test_texts_added_since_are_found_at_once_and_those_of_deleted_pictures_are_gone(model):
    before = model.record()
    new = model.add(unit_rows(3, DIM, 5), [None, None, None])
    found = model.collection.search(vector=model.rows[-1].astype(np.float32), target="text", k=1)
    assert found.ids.tolist() == [int(new[-1])]
    gone = [int(new[0]), *model.ids[10:20].tolist()]
    with Store.open(model.collection.path).writer() as writer:
        writer.commit(deleted=gone)
    model.collection.refresh()
    keep = ~np.isin(model.ids, gone)
    assert model.recall(TEXTS[10:20], among=keep) >= 0.95
    assert model.record() == before, "no rebuild"


def test_many_new_texts_are_put_into_the_lists_without_training(model):
    trained = model.record().trained
    model.add(DATA.base(4_000, 4_300), [None] * 300)
    report = model.collection.build_index(target="text")
    assert (report.action, report.rows) == ("extended", 300)
    assert model.record().rows == len(TEXTS) + 300 and model.record().trained == trained
    assert model.collection._current().index("texts", threading.RLock()).tail.ntotal == 0
    assert model.recall(DATA.base(4_000, 4_050)) >= 0.95


@pytest.mark.parametrize("share", [3, 40, 300])
def test_filters_leave_the_texts_of_the_pictures_that_pass(model, share):
    passing = np.unique(model.links)[:share]
    among = np.isin(model.links, passing)
    where = f"width < {share}"
    assert model.recall(PICTURES[:60], among=among, where=where) >= 0.95


def test_status_shows_the_index_of_the_texts_in_a_paragraph_of_its_own(model, capsys):
    status = model.collection.status()
    assert status.index is None and status.text_index.type == "ivfpq"
    assert (status.text_index.rows, status.text_index.uncovered) == (len(TEXTS), 0)
    assert run(["status", "-i", model.collection.path]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("text index  ivfpq: 3,200 rows") for line in lines)
    assert any(line.startswith("index       flat (exact)") for line in lines)


def test_a_damaged_index_is_never_read_said_found_by_verify_and_made_again_by_repair(model):
    file = Path(model.collection.path) / "text-index" / model.record().lists.name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    fresh = Model(model.collection.path)
    (result,) = fresh.collection.search(vector=PICTURES[:1], target="text", k=10)
    assert any("all texts are compared" in note for note in result.notes)
    assert fresh.recall(PICTURES[:20]) == 1.0
    found = verify(model.collection.path)
    assert [one.name for one in found.damages] == [f"text-index/{file.name}"]
    assert not fresh.collection.search(vector=PICTURES[0], k=1).notes, (
        "searches for pictures have nothing to do with it"
    )
    assert repair(model.collection.path, lambda: None).left.whole
    assert Model(model.collection.path).recall(PICTURES[:60]) >= 0.95


def test_compacting_leaves_the_index_valid_and_its_deleted_texts_hidden(model):
    model.add(DATA.base(5_000, 5_040), [None] * 40)
    gone = model.ids[50:90].tolist()
    with Store.open(model.collection.path).writer() as writer:
        writer.commit(deleted=gone)
    model.collection.compact()
    among = ~np.isin(model.ids, gone)
    assert model.recall(PICTURES[:60], among=among) >= 0.95
    index = model.collection._current().index("texts", threading.RLock())
    assert index.base.ntotal == len(TEXTS) - 40 and index.tail.ntotal == 40
    shards = {entry.name for entry in Store.open(model.collection.path).snapshot().manifest.files_of("texts")}
    assert len(shards & set(model.record().shards)) == 1, "it covers what it covered, under its new name"
    assert verify(model.collection.path).whole


def test_a_caption_bank_without_pictures_has_an_index_too(tmp_path):
    path = tmp_path / "bank"
    clipsearch.create(path, model=None, dim=DIM).close()
    with Store.open(path).writer() as writer:
        writer.commit_columns(texts=text_columns(writer, TEXTS[:2_000], [None] * 2_000))
    bank = Model(path)
    assert bank.collection.build_index("ivfflat", target="text").recall.keys() == {"text"}
    assert bank.recall(PICTURES[:60]) >= 0.9, "by the settings of the recipe, for nothing was there to measure with"
    with Store.open(path).writer() as writer:
        writer.commit_columns(images=image_columns(writer, PICTURES))
    bank.add(TEXTS[2_000:2_200], [None] * 200)
    assert bank.collection.build_index(target="text").recall.keys() == {"text", "image"}


def test_the_command_builds_what_it_is_asked_for_and_keeps_the_other_index_as_it_is(model, capsys):
    place = ["-i", model.collection.path]
    assert run(["index", "--index-type", "ivfflat", *place]) == 0
    said = capsys.readouterr().err
    assert "ivfflat built over 400 images" in said and "built over 3,200" not in said
    assert run(["index", "--retrain", *place]) == 0
    said = capsys.readouterr().err
    assert "ivfflat built over 400 images" in said and "ivfpq built over 3,200 texts" in said
    assert run(["index", "--index-of", "texts", "--index-type", "flat", *place]) == 0
    assert "exact search over 3,200 texts" in capsys.readouterr().err
    assert model.record() is None and model.record("images").rows == IMAGES


def test_jobs_and_one_process_fill_the_same_lists(plain, tmp_path, monkeypatch):
    monkeypatch.setattr("clipsearch.index.costs.PART_ROWS", 1_000)
    digests = []
    for jobs in (1, 2):
        path = shutil.copytree(plain, tmp_path / f"photos{jobs}")
        with clipsearch.open(path) as collection:
            collection.build_index("ivfflat", target="text", jobs=jobs)
        digests.append(index_files.read_record(str(path), "texts").lists.sha256)
    assert digests[0] == digests[1]


def test_a_target_that_is_none_is_refused_with_those_there_are(model):
    with pytest.raises(InputError, match="Known: image, text"):
        model.collection.build_index(target="words")


def test_nobody_takes_away_what_another_process_is_building(model, capsys):
    place = ["-i", model.collection.path]
    lock = WriterLock(os.path.join(model.collection.path, "text-index"))
    lock.acquire(wait=False)
    try:
        before = model.record()
        for how in (["--index-type", "flat"], ["--index-type", "ivfflat"], ["--retrain"]):
            assert run(["index", "--index-of", "texts", *how, *place]) == 11
        with pytest.raises(LockedError):
            model.collection.compact()
        assert model.record() == before and verify(model.collection.path).whole
        model.add(DATA.base(6_000, 6_300), [None] * 300)
        assert run(["index", "--index-type", "flat", *place]) == 0, (
            "the rows are in, and nothing was asked of the texts"
        )
        assert "note: " in capsys.readouterr().err
    finally:
        lock.release()


def test_waiting_lasts_until_the_other_builder_has_finished(model):
    lock = WriterLock(os.path.join(model.collection.path, "text-index"))
    lock.acquire(wait=False)
    waiting = threading.Thread(target=lambda: model.collection.build_index("flat", target="text", wait=True))
    waiting.start()
    waiting.join(timeout=0.3)
    assert waiting.is_alive() and model.record() is not None
    lock.release()
    waiting.join(timeout=60)
    assert not waiting.is_alive() and model.record() is None


def test_an_index_that_another_process_replaced_meanwhile_is_the_one_that_is_extended(model, monkeypatch):
    from clipsearch.flows import extend

    plain = extend.locked

    def late(job):
        monkeypatch.setattr(extend, "locked", plain)
        clipsearch.open(model.collection.path).build_index("ivfflat", target="text")
        return plain(job)

    model.add(DATA.base(6_000, 6_300), [None] * 300)
    monkeypatch.setattr(extend, "locked", late)
    report = model.collection.build_index(target="text")
    assert (report.action, model.record().recipe.type, model.record().rows) == ("kept", "ivfflat", len(TEXTS) + 300)
    assert verify(model.collection.path).whole


@pytest.mark.parametrize("mend", ["index", "repair"])
def test_an_index_whose_record_is_damaged_is_made_again_as_the_type_it_was(model, mend):
    folder = Path(model.collection.path) / "text-index"
    (record,) = folder.glob("ivfpq-*.json")
    record.write_bytes(record.read_bytes()[:-9])
    if mend == "index":
        assert model.collection.build_index(target="text").action == "built"
    else:
        assert repair(model.collection.path, lambda: None).left.whole
    assert model.record().recipe.type == "ivfpq" and verify(model.collection.path).whole


def test_what_is_asked_of_a_bank_without_pictures_is_asked_of_its_texts(tmp_path, capsys):
    path = tmp_path / "bank"
    clipsearch.create(path, model=None, dim=DIM).close()
    with Store.open(path).writer() as writer:
        writer.commit_columns(texts=text_columns(writer, TEXTS[:1_000], [None] * 1_000))
    assert run(["index", "--index-type", "ivfflat", "-i", str(path)]) == 0
    assert "ivfflat built over 1,000 texts" in capsys.readouterr().err
    assert run(["index", "--index-of", "texts", "-i", str(path)]) == 0
    assert "ivfflat over 1,000 texts" in capsys.readouterr().err
    assert run(["index", "--index-of", "images", "--index-type", "ivfflat", "-i", str(path)]) == 2
    assert "there are 0" in capsys.readouterr().err
