"""A built index through its life: build, search, add, delete, extend, drift, retrain, damage."""

import hashlib
import json
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic import Synthetic

import clipsearch
from clipsearch.errors import InputError, LockedError, MissingExtraError, UnknownNameError
from clipsearch.flows import drift, extend, index_files, measuring
from clipsearch.store import ImageRow, Store, TextRow

pytest.importorskip("faiss", reason="faiss is not installed")

DIM = 64
DATA = Synthetic(100_000, DIM, clusters=300, topics=30)


def image_row(writer, root, embedding):
    row_id = writer.new_ids(1)[0]
    return ImageRow(
        id=row_id,
        root=root,
        path=f"{row_id}.jpg".encode(),
        member=None,
        size=1,
        mtime_ns=0,
        ctime_ns=0,
        content_hash=hashlib.sha256(str(row_id).encode()).digest(),
        width=1,
        height=1,
        format="JPEG",
        taken=None,
        camera=None,
        lens=None,
        latitude=None,
        longitude=None,
        embedding=embedding,
    )


class Model:
    """A collection, and the same rows in plain numpy."""

    def __init__(self, path, n, captions=0, commit=2000):
        self.collection = clipsearch.create(path, model="hashing")
        self.rows = {}
        self.made = 0
        for start in range(0, n, commit):
            self.add(min(commit, n - start))
        if captions:
            with Store.open(self.collection.path).writer() as writer:
                texts = DATA.text_queries(captions)
                rows = [TextRow(writer.new_ids(1)[0], None, "a caption", b"", row) for row in texts]
                writer.commit(texts=rows)
        self.collection.refresh()

    def add(self, n):
        new = DATA.base(self.made, self.made + n)
        self.made += n
        with Store.open(self.collection.path).writer() as writer:
            root = writer.root_id(b"/photos")
            rows = [image_row(writer, root, row) for row in new]
            writer.commit(images=rows)
        self.rows.update((row.id, new[i].astype(np.float16)) for i, row in enumerate(rows))
        self.collection.refresh()

    def delete(self, ids):
        with Store.open(self.collection.path).writer() as writer:
            writer.commit(deleted=[int(i) for i in ids])
        for id_ in ids:
            del self.rows[int(id_)]
        self.collection.refresh()

    def best(self, xq, k):
        ids = np.array(sorted(self.rows))
        x = np.stack([self.rows[int(i)] for i in ids]).astype(np.float64)
        scores = (xq.astype(np.float64) @ x.T).astype(np.float32)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return ids[order], np.take_along_axis(scores, order, axis=1)

    def recall(self, xq, k=10, **how):
        """Return recall@k; every answer must be a live row."""
        _, wanted = self.best(xq, k)
        right = 0
        for result, scores in zip(self.collection.search(vector=xq, k=k, **how), wanted, strict=True):
            assert len(result) == min(k, len(self.rows))
            for id_ in result.ids:
                assert int(id_) in self.rows, "a deleted row was answered"
            right += int((result.scores >= scores[-1] - 1e-6).sum())
        return right / wanted.size


@pytest.fixture(autouse=True)
def fewer_queries(monkeypatch):
    monkeypatch.setattr(measuring, "QUERIES", {"text": 120, "image": 60})


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """3,000 rows in two shards, with captions, and an ivfpq index over them."""
    model = Model(tmp_path_factory.mktemp("original") / "photos", 3000, captions=120)
    model.collection.build_index("ivfpq")
    return model


@pytest.fixture
def small(original, tmp_path):
    """A copy of it to do things to; the stamps of its files differ, so the digests are checked."""
    copy = shutil.copytree(original.collection.path, tmp_path / "photos")
    model = object.__new__(Model)
    model.collection, model.rows, model.made = clipsearch.open(copy), dict(original.rows), original.made
    yield model
    model.collection.close()


def index_folder(model):
    return Path(model.collection.path) / "index"


def record_of(model):
    return index_files.read_record(model.collection.path)


def test_a_built_index_is_used_and_finds_what_exact_search_finds(small):
    view = small.collection._current()
    assert view.index("images", threading.RLock()).base.recipe.type == "ivfpq"
    assert small.recall(DATA.text_queries(100)) >= 0.95
    assert small.recall(DATA.image_queries(50)) >= 0.95
    assert small.recall(DATA.text_queries(100), recall=1.0) == 1.0


def test_the_record_says_what_the_index_is_made_of_and_what_was_measured(small):
    record = record_of(small)
    assert (record.rows, record.trained_rows, record.dim) == (3000, 3000, DIM)
    assert set(record.measured) == {"text", "image"}
    assert "120 captions" in record.measured["text"].queries
    assert "themselves left out" in record.measured["image"].queries
    for points in record.points.values():
        assert [p.ms for p in points] == sorted(p.ms for p in points)
        assert [p.recall for p in points] == sorted(p.recall for p in points)
    for file in record.files:
        data = (index_folder(small) / file.name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file.bytes, file.sha256)
    recipe = next(index_folder(small).glob("*.recipe.toml"))
    from clipsearch.index.recipe import load_recipe

    assert replace(load_recipe(str(recipe)), name="") == replace(record.recipe, name="")


@pytest.mark.parametrize("index_type", ["ivfflat", "ivfpq"])
def test_both_types_can_be_built_and_replaced(small, index_type):
    report = small.collection.build_index(index_type, retrain=True)
    assert (report.action, report.type, report.rows) == ("built", index_type, 3000)
    assert small.recall(DATA.text_queries(50)) >= 0.95
    assert len(list(index_folder(small).glob("*.faiss"))) == 1, "the old one is removed"


def test_without_captions_generic_prompts_measure_the_text_queries(tmp_path):
    model = Model(tmp_path / "photos", 1500)
    model.collection.build_index("ivfflat")
    assert "generic prompts" in record_of(model).measured["text"].queries


def test_rows_added_since_are_found_at_once_and_deleted_ones_are_gone(small):
    before = record_of(small)
    small.add(30)
    new = max(small.rows)
    result = small.collection.search(vector=small.rows[new].astype(np.float32), k=1)
    assert result.ids.tolist() == [new]
    small.delete([new, 5, 6])
    again = small.collection.search(vector=DATA.base(5, 6)[0], k=5)
    assert not {new, 5, 6} & set(again.ids.tolist())
    assert record_of(small) == before, "no rebuild"


def test_a_few_new_rows_stay_beside_the_index_and_many_are_put_into_it(small):
    small.add(40)
    assert small.collection.build_index().action == "kept"
    trained = record_of(small).trained
    small.delete(range(10, 40))
    small.add(200)
    report = small.collection.build_index()
    assert (report.action, report.rows) == ("extended", 240)
    record = record_of(small)
    assert record.rows == 3240 and record.trained == trained and record.trained_rows == 3000
    assert len(record.segments) == 1, "copied together: faiss re-ranks in one file alone"
    assert small.collection._current().index("images", threading.RLock()).tail.ntotal == 0
    assert small.recall(DATA.text_queries(100)) >= 0.95


def test_large_files_of_rows_are_not_copied_for_a_few_more(small, monkeypatch):
    monkeypatch.setattr("clipsearch.flows.extend.MERGED_BYTES", 0)
    small.add(240)
    assert small.collection.build_index().action == "extended"
    assert len(record_of(small).segments) == 2
    assert small.recall(DATA.text_queries(100)) >= 0.95


def test_many_segments_are_merged_into_one(small, monkeypatch):
    monkeypatch.setattr("clipsearch.flows.extend.MERGED_BYTES", 0)
    monkeypatch.setattr(extend, "MAX_SEGMENTS", 2)
    for _ in range(3):
        small.add(150)
        small.collection.build_index()
    record = record_of(small)
    assert len(record.segments) in (1, 2)
    assert sum(s.n for s in record.segments) == record.rows == 3450
    assert small.recall(DATA.text_queries(50)) >= 0.95


def rounds(model, n, seed):
    """Add, delete and search in random order; returns the recall of each search."""
    rng = np.random.default_rng(seed)
    xq = np.concatenate([DATA.text_queries(20), DATA.image_queries(20)])
    found = []
    for _ in range(n):
        what = rng.choice(["add", "delete", "search", "index"], p=[0.35, 0.2, 0.35, 0.1])
        if what == "add":
            model.add(int(rng.integers(1, 60)))
        elif what == "delete":
            model.delete(rng.choice(sorted(model.rows), int(rng.integers(1, 60)), replace=False))
        elif what == "index":
            model.collection.build_index()
        else:
            found.append(model.recall(xq))
    found.append(model.recall(xq))
    return found


def test_thirty_rounds_of_changes_against_plain_numpy(small):
    trained = record_of(small).trained
    found = rounds(small, 30, seed=1)
    assert np.mean(found) >= 0.95 and min(found) >= 0.9
    assert record_of(small).trained == trained, "never trained again"


def test_flat_answers_are_equal_through_all_changes(tmp_path):
    model = Model(tmp_path / "photos", 600)
    assert set(rounds(model, 30, seed=2)) == {1.0}


@pytest.mark.slow
def test_three_hundred_rounds_of_changes_against_plain_numpy(small):
    found = rounds(small, 300, seed=3)
    assert np.mean(found) >= 0.95 and min(found) >= 0.9


def test_growth_to_four_times_is_seen_proposed_and_repaired(small):
    assert small.collection.status().index.advice is None
    small.add(9000)
    report = small.collection.build_index()
    assert report.action == "extended" and "--retrain" in report.line
    status = small.collection.status().index
    assert "more than twice" in status.advice and "--retrain" in status.advice
    assert small.collection.build_index(retrain=True).action == "built"
    record = record_of(small)
    assert record.trained_rows == record.rows == 12_000
    assert record.recipe.nlist > 64
    assert small.collection.status().index.advice is None
    assert small.recall(DATA.text_queries(100)) >= 0.95


def test_recall_that_fell_is_proposed_for_retraining(small):
    record = record_of(small)
    fell = {**record.measured, "text": replace(record.measured["text"], trained=0.98, recall=0.93)}
    assert "fell from 0.980 to 0.930" in drift.advice(
        small.collection._current().snapshot, replace(record, measured=fell)
    )


def test_many_deletions_are_proposed_for_retraining(small):
    small.delete(range(0, 900))
    assert "deleted" in small.collection.status().index.advice
    assert small.recall(DATA.text_queries(50)) >= 0.95
    small.collection.build_index(retrain=True)
    assert record_of(small).rows == 2100
    assert small.recall(DATA.text_queries(50)) >= 0.95


@pytest.mark.parametrize("what", ["faiss", "f16", "npy", "json"])
@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_a_damaged_index_never_gives_wrong_neighbours(small, what, how):
    xq = DATA.text_queries(10)
    file = next(f for f in index_folder(small).iterdir() if f.name.endswith(what))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0x10
    file.unlink()  # open readers keep theirs: a file is never changed in place
    if how != "gone":
        file.write_bytes(data if how == "flipped" else data[: len(data) // 2])
    with clipsearch.open(small.collection.path) as fresh:
        results = fresh.search(vector=xq, k=10)
        wanted = small.best(xq, 10)
        for result, scores in zip(results, wanted[1], strict=True):
            np.testing.assert_allclose(result.scores, scores, atol=1e-6)
            assert any("--retrain" in note for note in result.notes)
        if how == "flipped" and what == "json":
            fresh.build_index("ivfpq")
            assert fresh._current().index("images", threading.RLock()).base.recipe.type == "ivfpq"
            assert not fresh.search(vector=xq[0], k=10).notes


def test_a_damaged_index_is_made_again_by_the_next_run(small):
    file = next(index_folder(small).glob("*.f16"))
    file.unlink()
    report = small.collection.build_index()
    assert (report.action, report.type) == ("built", "ivfpq")
    assert not clipsearch.open(small.collection.path).search(vector=DATA.text_queries(1)[0]).notes


def test_an_index_whose_record_is_lost_is_made_again_by_its_recipe_and_without_one_removed(small):
    next(index_folder(small).glob("*.json")).unlink()
    assert small.collection.build_index().action == "built"
    assert record_of(small).recipe.type == "ivfpq"
    for name in ("*.json", "*.recipe.toml"):
        next(index_folder(small).glob(name)).unlink()
    assert small.collection.build_index().action == "removed"
    assert small.recall(DATA.text_queries(20)) == 1.0


def test_an_open_collection_goes_on_with_the_old_index_while_a_new_one_is_put_in_force(small):
    xq = DATA.text_queries(5)
    with clipsearch.open(small.collection.path) as reader:
        before = [r.ids.tolist() for r in reader.search(vector=xq, k=10)]
        small.collection.build_index("ivfflat", retrain=True)
        assert [r.ids.tolist() for r in reader.search(vector=xq, k=10)] == before
        assert reader.refresh()
        assert reader._current().index("images", threading.RLock()).base.recipe.type == "ivfflat"


def test_flat_removes_the_index_and_auto_builds_none_below_two_hundred_thousand(small):
    report = small.collection.build_index("flat")
    assert (report.action, report.type) == ("removed", "flat")
    assert record_of(small) is None and not list(index_folder(small).glob("*.faiss"))
    assert small.recall(DATA.text_queries(20)) == 1.0
    report = small.collection.build_index()
    assert report.action == "none" and "costs less than encoding a query" in report.line


def test_too_few_rows_too_little_memory_and_typos_are_refused_with_figures(tmp_path):
    model = Model(tmp_path / "photos", 100)
    with pytest.raises(InputError, match=r"there are 100"):
        model.collection.build_index("ivfpq")
    with pytest.raises(InputError, match=r"memory budget is 1 MB"):
        Model(tmp_path / "more", 1000).collection.build_index("ivfflat", memory_bytes=10**6)
    with pytest.raises(UnknownNameError, match="Did you mean 'ivfpq'"):
        model.collection.build_index("ivf-pq")
    with pytest.raises(UnknownNameError, match="Did you mean 'ivfpq-1m'"):
        model.collection.build_index(recipe="ivfpq-1")
    assert not (Path(model.collection.path) / "index" / "CURRENT").exists()


def test_empty_and_tiny_collections_are_searched_exactly(tmp_path):
    model = Model(tmp_path / "photos", 0)
    assert model.collection.build_index().action == "none"
    assert len(model.collection.search(vector=np.ones(DIM))) == 0
    model.add(1)
    assert len(model.collection.search(vector=np.ones(DIM), k=5)) == 1


def test_a_second_builder_is_turned_away(small):
    from clipsearch.store.files import WriterLock

    lock = WriterLock(str(index_folder(small)))
    lock.acquire(wait=False)
    try:
        with pytest.raises(LockedError):
            small.collection.build_index("ivfflat")
    finally:
        lock.release()


def test_what_a_killed_build_left_is_removed_by_the_next(small):
    for name in ("rerank-000001-dead.f16", ".ivfpq-000001-dead.faiss.tmp-99"):
        (index_folder(small) / name).write_bytes(b"left")
    small.collection.build_index(retrain=True)
    assert not [f for f in os.listdir(index_folder(small)) if "dead" in f]


def test_an_interrupted_build_leaves_the_old_index_in_force(small):
    before = record_of(small)

    def stop(progress):
        if progress.stage == "add":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small.collection.build_index("ivfflat", progress=stop)
    assert record_of(small) == before
    assert small.recall(DATA.text_queries(20)) >= 0.95


def test_recall_asked_for_chooses_the_settings(small):
    index = small.collection._current().index("images", threading.RLock())
    low, high = index.effort(0.5, "text"), index.effort(0.99, "text")
    assert low.nprobe * low.refine_factor < high.nprobe * max(high.refine_factor, 1) or high.exact
    assert index.effort(0.99999, "text").exact or index.effort(0.99999, "text").nprobe
    for bad in (0, -1, 1.5):
        with pytest.raises(InputError, match="recall"):
            small.collection.search(vector=np.ones(DIM), recall=bad)


def test_a_filter_reaches_into_the_index(small):
    xq = DATA.text_queries(3)
    found = small.collection.search(vector=xq, k=10, where="path LIKE '1%.jpg'")
    allowed = [i for i in small.rows if str(i).startswith("1")]
    x = np.stack([small.rows[i] for i in allowed]).astype(np.float32)
    for result, q in zip(found, xq, strict=True):
        assert len(result) == 10 and set(result.ids.tolist()) <= set(allowed)
        np.testing.assert_allclose(result.scores, np.sort(x @ q)[::-1][:10], atol=1e-5)


def test_without_faiss_every_picture_is_compared_and_the_answer_says_so(small, monkeypatch):
    monkeypatch.setattr(index_files, "faiss_is_installed", lambda: False)
    with clipsearch.open(small.collection.path) as fresh:
        result = fresh.search(vector=DATA.text_queries(1)[0], k=10)
        np.testing.assert_allclose(result.scores, small.best(DATA.text_queries(1), 10)[1][0], atol=1e-6)
        assert any("clipsearch[cpu]" in note for note in result.notes)


def test_without_faiss_building_says_what_to_install(tmp_path, monkeypatch):
    from clipsearch.index import faiss_library

    faiss_library.load_faiss.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    model = Model(tmp_path / "photos", 1500)
    with pytest.raises(MissingExtraError, match=r"pip install 'clipsearch\[cpu\]'"):
        model.collection.build_index("ivfflat")


def test_status_is_one_json_object(small):
    from dataclasses import asdict

    status = asdict(small.collection.status())
    index = json.loads(json.dumps(status))["index"]
    assert index["type"] == "ivfpq" and index["rows"] == 3000
    assert 20 < index["bytes_per_vector"] < 200
    assert 0.9 < index["recall"]["text"] <= 1 and index["measured"]


def cli(capsys, *args):
    from clipsearch.cli import run

    code = run(args)
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_line_builds_searches_and_reports(small, capsys):
    place = small.collection.path
    code, _, err = cli(capsys, "index", "--index-type", "ivfflat", "-i", place, "--memory", "4GB")
    assert code == 0
    assert "index: ivfflat for 3,000 images: 64 memory-mapped lists" in err and "recall@10" in err
    code, out, _ = cli(capsys, "status", "-i", place)
    assert "ivfflat: 3,000 rows" in out and "bytes a vector" in out and "recall@10" in out
    code, out, _ = cli(capsys, "search", "red", "-i", place, "--recall", "0.9", "--json")
    assert code == 0 and len(out.splitlines()) == 11
    code, _, err = cli(capsys, "search", "red", "-i", place, "--recall", "2")
    assert code == 2 and "recall" in err
    code, _, err = cli(capsys, "index", "--index-type", "flat", "-i", place)
    assert code == 0 and "exact search over 3,000 images (as asked)" in err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--index-type", "ivf-pq"], "Did you mean 'ivfpq'"),
        (["--memory", "lots"], "is no size"),
        (["--recipe", "ivfpq-1"], "Did you mean 'ivfpq-1m'"),
        (["--index-type", "ivfpq", "--memory", "1MB"], "memory budget is 1 MB"),
        ([], "Missing argument 'SOURCE'"),
    ],
)
def test_the_command_line_refuses_what_cannot_work(small, capsys, args, said):
    code, _, err = cli(capsys, "index", "-i", small.collection.path, *args)
    assert code == 2 and said in err


def test_a_recipe_file_is_followed(small, capsys, tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text("type = 'ivfflat'\ndim = 64\nnlist = 20\nstorage = 'float16'\nnprobe = 5\n")
    code, _, err = cli(capsys, "index", "--recipe", str(recipe), "-i", small.collection.path)
    assert code == 0, err
    assert (record_of(small).recipe.nlist, record_of(small).recipe.storage) == (20, "float16")
    recipe.write_text("type = 'ivfflat'\nnlits = 20\n")
    code, _, err = cli(capsys, "index", "--recipe", str(recipe), "-i", small.collection.path)
    assert code == 2 and "Did you mean 'nlist'" in err
