"""The facade: opening, threads, forks, refreshing, closing, mismatches, the web app of the documentation."""

import dataclasses
import importlib.util
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

import clipsearch
from clipsearch import (
    ClipsearchError,
    CollectionNotFoundError,
    InputError,
    ManifestMismatchError,
    SearchResult,
    UnknownNameError,
)
from clipsearch.collection import encoder_record

ROOT = Path(__file__).parents[2]


def names(result):
    return [os.path.basename(hit.path) for hit in result]


# opening and closing


def test_a_new_collection_is_empty_and_answers_nothing(tmp_path):
    with clipsearch.create(tmp_path / "new", model="hashing") as made:
        assert made.model == "hashing" and made.note is None and made.name == "new"
        assert len(made.search("red")) == 0 and list(made.search("red", target="text")) == []


def test_a_collection_is_not_made_twice(collection):
    with pytest.raises(InputError, match="already"):
        clipsearch.create(collection.path, model="hashing")


def test_a_model_that_does_not_exist_is_refused_and_leaves_nothing_behind(tmp_path):
    with pytest.raises(UnknownNameError):
        clipsearch.create(tmp_path / "new", model="hashin")
    assert not (tmp_path / "new").exists()


def test_opening_what_is_not_there_says_so(tmp_path):
    with pytest.raises(CollectionNotFoundError) as caught:
        clipsearch.open(tmp_path / "nothing")
    assert caught.value.exit_code == 10


def test_an_opened_collection_answers_as_the_one_that_made_it(collection):
    with clipsearch.open(collection.path) as opened:
        assert (opened.model, opened.name, opened.path) == ("hashing", "photos", collection.path)
        np.testing.assert_array_equal(opened.search("red").ids, collection.search("red").ids)


def test_opening_loads_no_encoder_before_it_is_needed(collection, monkeypatch):
    def never(*_, **__):
        raise AssertionError("the encoder was loaded")

    monkeypatch.setattr("clipsearch.collection.load_encoder", never)
    with clipsearch.open(collection.path) as opened:
        assert opened.status().images == 6
        assert len(opened.search(vector=np.ones(64), k=2)) == 2
        with pytest.raises(AssertionError, match="loaded"):
            opened.search("red")


def test_closing_twice_is_fine_and_using_it_later_is_refused(collection):
    collection.close()
    collection.close()
    for use in (
        lambda: collection.search("red"),
        collection.status,
        collection.refresh,
        lambda: collection.encoder,
        lambda: collection.index("anything"),
        collection.__enter__,
    ):
        with pytest.raises(InputError, match="closed"):
            use()
    assert "closed" in repr(collection)


def test_a_result_outlives_its_collection(collection):
    result = collection.search("red", k=1)
    collection.close()
    assert names(result) == ["red.png"]


def test_status_counts_what_is_there(collection, photos):
    status = collection.status()
    assert (status.name, status.model, status.dim) == ("photos", "hashing", 64)
    assert (status.images, status.texts, status.deleted, status.shards) == (6, 7, 0, 2)
    assert status.roots == ((str(photos), True, 6),)
    assert status.bytes_on_disk > 0 and status.index_type == "flat"
    assert status.created <= status.updated


def test_status_counts_each_root_and_says_when_one_is_gone(collection, photos, write_pictures, tmp_path):
    other = tmp_path / "other" / "red.png"
    other.parent.mkdir()
    other.write_bytes((photos / "red.png").read_bytes())
    write_pictures(collection, [other])
    collection.refresh()
    other.unlink()
    other.parent.rmdir()
    assert collection.status().roots == ((str(photos), True, 6), (str(other.parent), False, 1))


# the encoder must be the one the collection was made with


@pytest.mark.parametrize("what", ["fingerprint", "dim", "name"])
def test_another_encoder_is_refused_before_any_search(collection, monkeypatch, what):
    record = {**encoder_record(collection.encoder), what: "another" if what != "dim" else 65}
    opened = clipsearch.open(collection.path)
    snapshot = opened._current().snapshot
    snapshot.manifest = dataclasses.replace(snapshot.manifest, encoder=record)
    for use in (lambda: opened.search("red"), lambda: opened.encoder, lambda: opened.index(collection.path)):
        with pytest.raises(ManifestMismatchError, match=what) as caught:
            use()
        assert caught.value.exit_code == 12
        assert len(str(caught.value).splitlines()) <= 3


def test_the_manifest_keeps_what_is_needed_to_know_the_encoder_again(collection):
    record = clipsearch.open(collection.path)._current().snapshot.manifest.encoder
    assert {"name", "family", "fingerprint", "dim", "card", "preprocess", "pixels", "normalised"} == set(record)
    assert record["fingerprint"] == collection.encoder.fingerprint()
    assert record["pixels"] == "scaled" and record["normalised"] is True


# newer versions


def test_a_newer_version_is_taken_up_by_refresh_only(collection, photos, write_pictures):
    opened = clipsearch.open(collection.path)
    assert len(opened.search("red", k=99)) == 6
    assert not opened.refresh()
    write_pictures(collection, [photos / "red.png"])
    assert len(opened.search("red", k=99)) == 6
    assert opened.refresh()
    assert len(opened.search("red", k=99)) == 7
    assert not opened.refresh()


def test_deleted_rows_are_not_found(collection):
    from clipsearch.store import Store

    first = collection.search("red", k=1).ids
    with Store.open(collection.path).writer() as writer:
        writer.commit(deleted=first.tolist())
    collection.refresh()
    for _ in range(3):  # cold, being warmed, warm
        assert first[0] not in collection.search("red", k=99).ids
    hits = {hit.text: hit.path for hit in collection.search("red", target="text", k=99)}
    assert hits["a red square"] == "" and hits["a blue square"] != ""


def test_the_first_and_the_warm_searches_answer_alike(collection):
    opened = clipsearch.open(collection.path)
    first, *later = [opened.search(["red", "blue"], k=6) for _ in range(4)]
    for results in later:
        for one, other in zip(first, results, strict=True):
            np.testing.assert_array_equal(one.ids, other.ids)
            np.testing.assert_array_equal(one.scores, other.scores)


def test_threads_search_while_another_refreshes(collection, photos, write_pictures):
    opened = clipsearch.open(collection.path)
    expected = {word: opened.search(word, k=1)[0].path for word in ("red", "blue", "green")}
    problems, stop = [], threading.Event()

    def work(word):
        while not stop.is_set():
            result = opened.search(word, k=1)
            if result[0].path != expected[word]:
                problems.append((word, result[0].path))

    def guarded(word):
        try:
            work(word)
        except Exception as problem:
            problems.append(problem)

    threads = [threading.Thread(target=guarded, args=(word,)) for word in (*expected, *expected)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            write_pictures(collection, [photos / "white.png"])
            assert opened.refresh()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not problems
    assert opened.status().images == 11


# forked workers


def run_script(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_workers_search_with_the_object_they_inherit(collection, photos):
    done = run_script(
        """
        import os, sys, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads about is what is tried here
        import clipsearch
        photos = clipsearch.open(sys.argv[1])
        expected = [hit.path for hit in photos.search("red")]
        photos.search(image=sys.argv[2])
        photos._lock.acquire()  # as if another thread of the parent held it
        for worker in range(2):
            if os.fork() == 0:
                photos.refresh()
                same = [hit.path for hit in photos.search("red")] == expected
                found = os.path.basename(photos.search(image=sys.argv[2], k=1)[0].path) == "blue.png"
                os._exit(0 if same and found else 1)
        codes = [os.waitstatus_to_exitcode(os.wait()[1]) for worker in range(2)]
        photos._lock.release()
        assert [hit.path for hit in photos.search("red")] == expected
        print(codes)
        """,
        collection.path,
        photos / "blue.png",
    )
    assert done.stdout.strip() == "[0, 0]", done.stderr


def test_a_script_without_a_main_guard_may_search_with_a_picture(collection, photos, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import clipsearch, sys\nprint(len(clipsearch.open(sys.argv[1]).search(image=sys.argv[2], k=3)))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script), collection.path, str(photos / "red.png")],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.stdout.strip(), done.returncode) == ("3", 0), done.stderr


def test_searching_loads_neither_pyarrow_nor_torch(collection):
    done = run_script(
        """
        import sys
        import clipsearch
        photos = clipsearch.open(sys.argv[1])
        assert photos.search("red")[0].path.endswith("red.png")
        print([name for name in ("torch", "pyarrow", "duckdb", "faiss", "open_clip", "click") if name in sys.modules])
        """,
        collection.path,
    )
    assert done.stdout.strip() == "[]", done.stderr


# evaluation


def test_evaluation_counts_both_directions(collection, photos):
    pairs = [(f"{word}.png", word) for word in ("red", "green", "blue")]
    report = collection.evaluate([*pairs, ("missing.png", "a thing"), (str(photos / "red.png"), "red red")])
    assert (report.images, report.captions, report.missing) == (3, 4, 1)
    assert report.missing_names == ("missing.png",)
    assert report.model == "hashing"
    assert report.text_to_image.queries == 4 and report.image_to_text.queries == 3
    assert report.text_to_image.recall[1] == 1.0 and report.text_to_image.median_rank == 1.0
    assert set(report.image_to_text.recall) == {1, 5, 10} and 0 < report.image_to_text.mrr <= 1


def test_evaluation_equals_brute_force(collection, photos):
    files = sorted(photos.iterdir())
    pairs = [(file.name, f"{word} {file.stem[:2]}") for file in files for word in ("picture", "black")]
    report = collection.evaluate(pairs, ks=(1, 3))
    ids = {os.path.basename(hit.path): hit.id for hit in collection.search("x", k=6)}
    snapshot = collection._current().snapshot
    xb = snapshot.embeddings("images", [ids[file.name] for file in files]).astype(np.float64)
    xt = collection.encoder.encode_texts([caption for _, caption in pairs]).astype(np.float64)
    scores = (xt @ xb.T).astype(np.float32)
    forward = [int((row >= row[t // 2]).sum()) for t, row in enumerate(scores)]
    backward = []
    for image, column in enumerate(scores.T):
        own = np.arange(len(pairs)) // 2 == image
        backward.append(1 + int((column[~own] >= column[own].max()).sum()))
    for direction, ranks in ((report.text_to_image, np.array(forward)), (report.image_to_text, np.array(backward))):
        assert direction.recall == {1: np.mean(ranks <= 1), 3: np.mean(ranks <= 3)}
        assert direction.median_rank == np.median(ranks)
        assert direction.mrr == pytest.approx(np.mean(1 / ranks))


def test_pairs_come_from_a_csv_too(collection, tmp_path):
    table = tmp_path / "pairs.csv"
    table.write_text('image,caption\nred.png,"red, very"\nblue.png,blue\n', encoding="utf-8")
    assert collection.evaluate(table).captions == 2
    table.write_text("file,words\nred.png,red\n")
    with pytest.raises(InputError, match="file, words"):
        collection.evaluate(table)
    with pytest.raises(InputError, match="Of 1 pair none names"):
        collection.evaluate([("missing.png", "a thing")])
    with pytest.raises(InputError):
        collection.evaluate([])


# the web app of the documentation


@pytest.fixture
def web_app(collection, monkeypatch):
    pytest.importorskip("flask")
    monkeypatch.setenv("PHOTOS", collection.path)
    spec = importlib.util.spec_from_file_location("web_app", ROOT / "docs" / "examples" / "web_app.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_web_app_answers_in_json(web_app, photos):
    client = web_app.app.test_client()
    answer = client.get("/search", query_string={"q": "red", "k": 2}).get_json()
    assert len(answer) == 2 and answer[0]["path"] == str(photos / "red.png")
    assert client.get("/search", query_string={"q": " "}).status_code == 400
    assert client.get("/search").status_code == 400


def test_the_web_app_serves_many_threads(web_app):
    words, answers = ["red", "green", "blue", "yellow"] * 4, {}

    def visit(number, word):
        with web_app.app.test_client() as client:
            answers[number] = client.get("/search", query_string={"q": word, "k": 1}).get_json()[0]["path"]

    threads = [threading.Thread(target=visit, args=pair) for pair in enumerate(words)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [os.path.basename(answers[number]) for number in range(16)] == [f"{word}.png" for word in words]


def test_the_documentation_shows_the_program_that_is_tested():
    program = (ROOT / "docs" / "examples" / "web_app.py").read_text(encoding="utf-8").split("\n\n", 1)[1].strip()
    page = (ROOT / "docs" / "web-app.md").read_text(encoding="utf-8")
    assert f"```python\n{program}\n```" in page
    assert len([line for line in program.splitlines() if line]) <= 15


# the public surface


def test_public_errors_are_one_family():
    errors = [getattr(clipsearch, name) for name in clipsearch.__all__ if name.endswith("Error")]
    assert errors and all(issubclass(error, ClipsearchError) for error in errors)


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="serach"):
        clipsearch.serach
    assert set(clipsearch.__all__) <= set(dir(clipsearch))


def test_a_single_answer_is_a_result_and_a_list_is_a_list(collection):
    assert isinstance(collection.search("red"), SearchResult)
    assert collection.search([]) == []


def test_an_answer_cannot_be_changed_and_its_scores_are_cosines(collection):
    result = collection.search("red", k=3)
    with pytest.raises(ValueError, match="read-only"):
        result.ids[0] = 7
    with pytest.raises(ValueError, match="read-only"):
        result.scores[0] = 7
    assert (np.abs(result.scores) <= 1).all()


@pytest.mark.parametrize("k", [0, -1, 1.5, "3", True])
def test_k_is_a_whole_number_of_answers(collection, k):
    with pytest.raises(InputError, match="whole number"):
        collection.search("red", k=k)
