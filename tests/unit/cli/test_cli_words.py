"""``clipsearch tag``, ``describe``, ``ask`` and ``evaluate labels|tags|describe|answers`` at the front door."""

import json
import re
import subprocess
import sys
from threading import Timer

import numpy as np
import pytest
from support import COLOURS, make_photo

import clipsearch
from clipsearch.errors import StorageError

HOLDER = """
import json, sys
sys.path[:] = json.loads(sys.argv[2])
from clipsearch.store import Store
with Store.open(sys.argv[1]).writer():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    with clipsearch.create(home / "photos", model="hashing") as made:
        folder = home / "pictures"
        for n, (name, colour) in enumerate(list(COLOURS.items()) * 5):
            make_photo(folder / f"{name}{n}.png", colour, n)
        captions = home / "captions.csv"
        captions.write_text("image,caption\n" + "\n".join(f"{p.name},a {p.stem} square" for p in folder.iterdir()))
        made.index(folder, captions=captions)
    return home


@pytest.fixture
def ask(cli, home, monkeypatch):
    monkeypatch.chdir(home)
    return lambda *args, **more: cli(*args, "--indexes-dir", str(home), **more)


def test_tag_prints_a_row_a_label_and_what_the_level_stands_for(ask, home):
    (home / "labels.txt").write_text("red\ngreen\nblue\n")
    done = ask("tag", "--labels", "labels.txt")
    assert done.code == 0 and done.lines[0] == "label\tpictures" and len(done.lines) == 4
    assert "column tags" in done.err and "level 80%" in done.err
    assert ask("columns").lines[-1].startswith("tags")


def test_tag_with_truth_prints_precision_and_a_matrix(ask, home):
    (home / "labels.txt").write_text("red\ngreen\nblue\n")
    rows = [f"{p.name},{p.stem.rstrip('0123456789')}" for p in (home / "pictures").iterdir()]
    (home / "truth.csv").write_text("image,label\n" + "\n".join(rows))
    done = ask("tag", "--labels", "labels.txt", "--truth", "truth.csv", "--json")
    found = json.loads(done.out)
    assert found["schema"] == "clipsearch.tags/1" and found["source"] == "truth" and found["learnt_on"] == 30
    done = ask("tag", "--labels", "labels.txt", "--truth", "truth.csv")
    assert done.lines[0].split("\t") == ["label", "pictures", "precision %", "recall %"]
    assert "how often it was taken for which" in done.err
    assert ask("evaluate", "tags", "truth.csv").code == 0
    done = ask("evaluate", "labels", "truth.csv", "--json")
    assert json.loads(done.out)["schema"] == "clipsearch.labels_evaluation/1"
    assert ask("tag", "--drop").code == 0
    done = ask("evaluate", "tags", "truth.csv")
    assert done.code == 2 and "no column 'tags'" in done.err


def test_tag_of_a_folder_indexes_it_first(cli, home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.txt").write_text("red\n")
    done = cli("tag", str(home / "pictures"), "--labels", "labels.txt", "--indexes-dir", "idx")
    assert done.code == 0 and "30 pictures" in done.err and (tmp_path / "idx" / "pictures").is_dir()


@pytest.mark.parametrize(
    ("text", "message"), [("", "holds no label"), ("\x00\n", "no label"), ("!!\n", "line 1: '!!' is no label")]
)
def test_labels_that_are_none_are_an_error_of_three_lines_at_most(ask, home, text, message):
    (home / "bad.txt").write_text(text)
    done = ask("tag", "--labels", "bad.txt")
    assert done.code == 2 and message in done.err and len(done.err.splitlines()) <= 3


def test_describe_says_of_each_sentence_where_it_comes_from(ask, home):
    picture = str(next((home / "pictures").glob("red*.png")))
    done = ask("describe", picture, "-k", "2")
    assert done.code == 0 and [line.split("\t")[0] for line in done.lines[:2]] == ["caption", "caption"]
    done = ask("describe", picture, "--json")
    found = json.loads(done.out)
    assert found["schema"] == "clipsearch.description/1" and found["sentences"][0]["source"] == "caption"


def test_one_bad_picture_does_not_cost_the_others_their_description(ask, home):
    good = str(next((home / "pictures").glob("red*.png")))
    (home / "bad.jpg").write_text("no picture")
    done = ask("describe", "bad.jpg", good)
    assert done.code == 2 and "bad.jpg" in done.err and any("caption" in line for line in done.lines)


def test_a_model_that_is_not_here_is_not_fetched_unasked(ask, home):
    picture = str(next((home / "pictures").glob("red*.png")))
    done = ask("describe", picture, "--model", "smolvlm-256m")
    assert done.code == 2 and "nothing is downloaded unasked" in done.err


def test_ask_marks_the_answer_and_exits_1_where_none_fits(ask, home):
    picture = str(next((home / "pictures").glob("red*.png")))
    done = ask("ask", picture, "what colour is it?", "--choices", "red,green")
    assert done.code in (0, 1) and len(done.lines) == 2
    assert (done.code == 1) == ("none of these" in done.err)
    done = ask("ask", picture, "what colour is it?", "--choices", "red,green", "--json")
    assert json.loads(done.out)["schema"] == "clipsearch.answer/1"


def test_ask_says_what_it_did_not_find_where_it_was_to_tell_the_place(ask, home):
    picture = str(next((home / "pictures").glob("red*.png")))
    done = ask("ask", picture, "where is the green square?", "--choices", "red,green")
    assert done.code == 1 and "none of these: nothing like 'green square' seems to be there" in done.err
    done = ask("ask", picture, "where is the green square?", "--choices", "red,green", "--json")
    assert json.loads(done.out)["missing"] == "green square" and json.loads(done.out)["answer"] is None


def test_ask_all_gives_a_column(ask):
    done = ask("ask", "--all", "is there a red square?", "--column", "red_square")
    assert done.code == 0 and [line.split("\t")[0] for line in done.lines] == ["yes", "no", "(none)"]
    assert ask("search", "red", "--where", "red_square IS NOT NULL", "--all").code == 0


@pytest.mark.parametrize(
    "words",
    [
        ("ask", "--all", "is there a red square?", "--column", "waited"),
        ("tag", "--drop", "--column", "waited"),  # takes out what the one above made
    ],
    ids=["ask", "tag --drop"],
)
def test_what_gives_or_drops_a_column_waits_for_another_writer_where_it_is_told_to(ask, home, words):
    holder = [sys.executable, "-c", HOLDER, str(home / "photos"), json.dumps(sys.path)]
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None and other.stdout is not None and other.stdout.readline() == b"held\n"
        refused = ask(*words)
        assert refused.code == 11 and "--wait" in refused.err
        Timer(0.3, other.stdin.close).start()
        assert ask(*words, "--wait").code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x.png", "what is it?", "--choices", "a,A"], "stands there twice"),
        (["x.png", "what is it?"], "open question"),
        (["x.png", "y" * 5000, "--choices", "a,b"], "at most 500"),
        (["how", "many", "dogs"], "Put the question in quotes"),
        (["--all", "a", "b"], "Put the question in quotes"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused(ask, words, message):
    done = ask("ask", *words)
    assert done.code == 2 and message in done.err and not done.out


def test_captions_alone_make_a_collection_or_join_one(ask, home, tmp_path):
    (tmp_path / "bank.txt").write_text("a dog\na cat\n")
    done = ask("index", "--captions", str(tmp_path / "bank.txt"), "-i", "bank", "--model", "hashing")
    assert done.code == 0 and "2 texts added" in done.err
    done = ask("search", "a cat", "--target", "text", "-i", "bank", "-k", "1")
    assert done.code == 0 and "a cat" in done.lines[0]


def test_answers_and_descriptions_are_measured(ask, home, tmp_path):
    (tmp_path / "q.csv").write_text("image,answer\n")
    done = ask("evaluate", "answers", str(tmp_path / "q.csv"), "-i", "photos")
    assert done.code == 2 and "has no column choices, question" in done.err
    picture = next((home / "pictures").glob("red*.png")).name
    (tmp_path / "q.csv").write_text(f"image,question,choices,answer\n{picture},what colour is it?,red|green,red\n")
    done = ask("evaluate", "answers", str(tmp_path / "q.csv"), "-i", "photos")
    assert done.code == 0 and done.lines[1] == "questions\t1"
    (tmp_path / "r.csv").write_text(f"image,caption\n{picture},a red square\n")
    done = ask("evaluate", "describe", str(tmp_path / "r.csv"), "-i", "photos")
    assert done.code == 0 and [line.split("\t")[0] for line in done.lines[-2:]] == ["ROUGE-L", "CIDEr-D"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ask", "x.png", "is it red?", "--column", "red"], "--column goes with --all"),
        (["ask", "x.png", "is it red?", "--pull"], "--pull goes with --model"),
        (["ask", "x.png", "what is it?", "--choices", "a,b", "--model", "m"], "does not go with --choices"),
        (["ask", "--all", "is it red?", "--model", "m"], "does not go with --all"),
        (["ask", "is it red?", "labels.txt"], "The picture comes first"),
        (["describe", "x.png", "--pull"], "--pull goes with --model"),
        (["describe", "x.png", "--bank", "labels.txt", "--where", "width > 1"], "does not go with --bank"),
    ],
)
def test_an_option_that_would_have_no_effect_is_refused(ask, home, words, message):
    (home / "labels.txt").write_text("red\n")
    done = ask(*words)
    assert done.code == 2 and message in done.err and len(done.err.splitlines()) <= 3


def test_a_terminal_of_80_columns_breaks_sentences_and_choices_between_words(ask, home):
    picture = str(next((home / "pictures").glob("red*.png")))
    (home / "bank.txt").write_text("a rather long sentence about a red square " * 5 + "\n")
    for words in (("describe", picture, "--bank", "bank.txt"), ("ask", picture, "what is it?", "--choices", LONG)):
        done = ask(*words, "-i", "photos", terminal=True)
        lines = re.sub(r"\x1b\[[0-9;]*m", "", done.out.decode()).splitlines()
        assert len(lines) > 2, done.err
        assert all(len(line) <= 80 for line in lines)
        plain = ask(*words, "-i", "photos")
        told = {word for line in plain.lines for word in re.findall("[a-z]{3,}", line)}
        assert told <= set(re.findall("[a-z]{3,}", "\n".join(lines)))  # no word is broken, none is lost


LONG = "a rather long choice that speaks of a red square among many other red squares on a table,a green one"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--labels", "none.txt"], "There is no file of labels"),
        (["--labels", "labels.txt", "--level", "80"], "The level is 80"),
        (["--column", "My tags"], "cannot name a column"),
        (["--truth", "labels.txt"], "has no columns image and label"),
        (["--template", "a photo"], "has no {}"),
    ],
)
def test_what_cannot_work_is_refused_before_pictures_are_indexed(cli, home, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.txt").write_text("red\n")
    done = cli("tag", str(home / "pictures"), *words)
    assert done.code == 2 and message in done.err and not (tmp_path / "indexes").exists()


def test_a_column_of_another_command_is_refused_before_pictures_are_indexed(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_photo(tmp_path / "some" / "red.png", COLOURS["red"], 1)
    with clipsearch.create(tmp_path / "indexes" / "some", model="hashing") as made:
        made.index(tmp_path / "some")
        made.clusters(k=1, labels=[], column="place")
        version = made.status().version
    make_photo(tmp_path / "some" / "blue.png", COLOURS["blue"], 2)
    done = cli("tag", "some", "--column", "place")
    assert done.code == 2 and "There is a column 'place' already" in done.err and len(done.err.splitlines()) <= 3
    with clipsearch.open(tmp_path / "indexes" / "some") as made:
        assert made.status().version == version and made.status().images == 1


def test_a_matrix_wider_than_the_terminal_is_left_to_json(ask, home):
    pictures = sorted(picture.name for picture in (home / "pictures").iterdir())
    names = [f"a colour with a long name, number {n:02d}" for n in range(18)]
    (home / "many.txt").write_text("\n".join(names))
    rows = [f'{picture},"{names[n % 18]}"\n' for n, picture in enumerate(pictures)]
    (home / "many.csv").write_text("image,label\n" + "".join(rows))
    words = ("tag", "-i", "photos", "--labels", "many.txt", "--truth", "many.csv", "--column", "many")
    narrow, piped = ask(*words, terminal=True), ask(*words)
    assert "--json has the matrix" in narrow.err and "columns by number" not in narrow.err
    assert "columns by number" in piped.err


def test_tags_that_chance_alone_withholds_say_what_to_do(ask, home):
    (home / "odd.txt").write_text("zebra\n")
    done = ask("tag", "-i", "photos", "--labels", "odd.txt", "--level", "0.99", "--column", "odd")
    assert done.code == 0 and ("Ask for a lower" in done.err) == (" 0 tags on 0 of" in done.err)


def test_evaluate_alone_asks_what_to_measure_in_two_lines(cli):
    done = cli("evaluate")
    assert done.code == 2 and "Say what to measure" in done.err and len(done.err.splitlines()) == 2


def test_a_broken_line_of_a_bank_or_of_references_is_named_wherever_it_is_read(ask, home):
    picture = next((home / "pictures").glob("red*.png"))
    lines = [json.dumps({"image": picture.name, "caption": f"number {n}"}) for n in range(1, 401)]
    lines[316] = lines[316][:-3]
    (home / "broken.jsonl").write_text("\n".join(lines))
    for words in (
        ("describe", str(picture), str(picture), "--bank", "broken.jsonl"),
        ("evaluate", "broken.jsonl"),
        ("evaluate", "describe", "broken.jsonl", "--bank", "captions.csv"),
        ("evaluate", "describe", "captions.csv", "--bank", "broken.jsonl"),
    ):
        done = ask(*words, "-i", "photos")
        assert done.code == 0 and done.err.count("broken.jsonl: left out line 317 (broken JSON: ") == 1, words
        assert "line 1" not in done.err


@pytest.mark.parametrize(("place", "said"), [("none.jpg", "there is no such file"), ("pictures", "it is a folder")])
def test_a_picture_that_is_not_there_or_a_folder_is_said_to_be_that(ask, home, place, said):
    for words in (["describe", place], ["ask", place, "is it red?"]):
        done = ask(*words, "-i", "photos")
        assert done.code == 2 and said in done.err and len(done.err.splitlines()) == 2


def test_a_failure_of_ask_is_not_taken_for_none_of_these(ask, home, monkeypatch):
    def fail(*_, **__):
        raise StorageError("The disk is full.")

    monkeypatch.setattr(clipsearch.Collection, "ask", fail)
    assert ask("ask", "x.png", "is it red?", "-i", "photos").code == 2


def test_the_example_of_a_column_of_tags_has_some(ask, home):
    with clipsearch.open(home / "photos") as collection, collection._store.writer() as writer:
        ids = [row.id for row in collection._current().snapshot.known_files()]
        writer.commit_added("some", np.array(ids), [[] for _ in ids[1:]] + [["red"]])
    lines = [line.split("\t") for line in ask("columns", "-i", "photos").lines]
    assert next(line for line in lines if line[0] == "some")[-1] == "[red]"


def test_what_no_measurement_can_be_made_of_is_said(ask, home):
    picture = next((home / "pictures").glob("red*.png")).name
    rows = [f"{picture},what is it?,dog|cat,zebra", f"{picture},what is it?,dog|cat,none of these"]
    (home / "odd.csv").write_text("image,question,choices,answer\n" + "\n".join(rows) + "\n")
    done = ask("evaluate", "answers", "odd.csv", "-i", "photos")
    assert done.code == 0 and "1 true answer is no choice of the question" in done.err
    (home / "red.csv").write_text(f"image,label\n{picture},red\n")
    assert ask("ask", "--all", "is it red?", "-i", "photos", "--column", "answered").code == 0
    done = ask("evaluate", "tags", "red.csv", "-i", "photos", "--column", "answered")
    assert done.code == 2 and "holds no tags" in done.err
    done = ask("evaluate", "labels", "pictures", "-i", "photos")
    assert done.code == 2 and "No subfolder of pictures has a picture" in done.err
