"""``clipsearch search``: what is asked of the collection, and what is printed."""

import json
import os
from pathlib import Path

import pytest

from clipsearch import Weighted
from clipsearch.cli.query import read_part, read_query
from clipsearch.errors import InputError, QueryImageError
from clipsearch.types import Hit


@pytest.fixture
def answers(fake, home):
    here = str(home.parent)
    fake.hits = [
        Hit(1, 11, f"{here}/photos/dog.jpg", 0.31234, None, {"width": 640, "height": 480}),
        Hit(2, 12, f"{here}/photos/{os.fsdecode(b'caf')}\udce9.jpg", 0.25, None, {}),
        Hit(3, 13, f"{here}/photos/two\nlines.jpg", 0.125, None, {}),
    ]
    return fake


def test_a_pipe_gets_rank_score_and_path_between_tabs(cli, answers):
    done = cli("search", "dog")
    assert done.code == 0 and done.err == ""
    assert done.out.splitlines() == [
        b"1\t0.312\tphotos/dog.jpg",
        b"2\t0.250\tphotos/caf\xe9.jpg",
        b"3\t0.125\tphotos/two\\nlines.jpg",
    ]


def test_a_terminal_gets_a_table_in_which_no_name_does_harm(cli, answers):
    done = cli("search", "dog", "--no-color", terminal=True)
    assert done.lines == [
        "rank  score  path",
        "   1  0.312  photos/dog.jpg",
        "   2  0.250  photos/caf\\xe9.jpg",
        "   3  0.125  photos/two\\nlines.jpg",
    ]
    assert b"\x1b[" in cli("search", "dog", terminal=True).out


def test_paths_are_absolute_and_exact(cli, answers, home):
    paths = [os.fsencode(hit.path) for hit in answers.hits]
    assert cli("search", "dog", "-f").out == b"".join(path + b"\n" for path in paths)
    for options in (["-0"], ["-f", "-0"], ["-0", "-f"]):
        assert cli("search", "dog", *options).out == b"".join(path + b"\0" for path in paths)


def test_json_lines_are_the_hits_and_then_the_answer(cli, answers):
    answers.notes = ("careful",)
    done = cli("search", "dog", "--add", "2:snow", "--subtract", "people", "-k", "2", "--json")
    *hits, whole = map(json.loads, done.lines)
    assert [hit["schema"] for hit in hits] == ["clipsearch.hit/1"] * 2
    assert hits[0]["query"] == "dog" and hits[0]["score"] == 0.31234 and hits[0]["width"] == 640
    assert hits[1]["path"].endswith("caf\\xe9.jpg") and "path_b64" in hits[1]
    assert whole["schema"] == "clipsearch.result/1" and whole["hits"] == 2 and whole["version"] == 3
    assert (whole["add"], whole["subtract"], whole["notes"]) == (["2:snow"], ["people"], ["careful"])
    assert done.err == "note: careful\n"


def test_quiet_is_quiet(cli, answers):
    answers.notes = ("careful",)
    assert cli("search", "dog", "-q").err == ""


def test_nothing_found_is_exit_code_1_and_no_output(cli, fake):
    done = cli("search", "dog")
    assert (done.code, done.out) == (1, b"") and "holds no images" in done.err
    done = cli("search", "dog", "--target", "text", terminal=True)
    assert (done.code, done.out) == (1, b"") and "--captions" in done.err
    *hits, whole = map(json.loads, cli("search", "dog", "--json").lines)
    assert hits == [] and whole["hits"] == 0


def test_captions_are_shown_with_their_pictures(cli, fake):
    fake.hits = [Hit(1, 1, "/p/a.jpg", 0.5, "a dog in the snow"), Hit(2, 2, "", 0.4, "no picture")]
    query = ("search", "x", "--target", "text")
    assert cli(*query).lines == ["1\t0.500\ta dog in the snow\t/p/a.jpg", "2\t0.400\tno picture\t"]
    table = cli(*query, "--no-color", terminal=True).lines
    assert table[0].split() == ["rank", "score", "caption", "image"]
    assert table[1].split() == ["1", "0.500", "a", "dog", "in", "the", "snow", "a.jpg"]
    assert cli(*query, "-f").out == b"/p/a.jpg\n"


def test_options_reach_the_collection(cli, answers, home):
    (home.parent / "dog.jpg").write_bytes(b"x")
    cli("search", "./dog.jpg", "--add", "0.5:sea side", "--add", "dog.jpg", "--subtract", "people", "-k", "7")
    assert answers.asked == {
        "text": None,
        "image": Path("./dog.jpg"),
        "add": [Weighted("sea side", 0.5), Path("dog.jpg")],
        "subtract": ["people"],
        "k": 7,
        "target": "image",
        "leave_out_self": False,
        "fold": False,
    }
    cli("search", "--add", "sea", "--leave-out-self")
    assert (answers.asked["text"], answers.asked["add"], answers.asked["leave_out_self"]) == (None, ["sea"], True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing argument"),
        (["two", "dogs"], 'quotes: "two dogs"'),
        (["x", "-k", "0"], "'-k'"),
        (["x", "--json", "-f"], "exclude each other"),
        (["x", "--preview", "-0"], "--preview"),
        (["x", "--target", "sound"], "sound"),
        (["./none.jpg"], "no file ./none.jpg"),
        (["none.JPEG"], "--text"),
        (["x", "--add", "0:people"], "weight"),
        (["none", "--image"], "no picture none"),
        (["indexes", "--image"], "a folder"),
        (["-"], "empty"),
        (["x", "--contact-sheet", "a.jpg"], "a.jpg.png"),
        (["x", "--contact-sheet", "none/a.png"], "cannot be written"),
    ],
)
def test_a_wrong_request_is_exit_code_2_with_a_word_on_what_to_do(cli, fake, arguments, said):
    done = cli("search", *arguments)
    assert done.code == 2 and said in done.err and done.out == b"" and "Traceback" not in done.err
    assert len(done.err.splitlines()) <= 3


def test_words_that_are_a_files_name_count_as_a_picture_unless_text_is_asked(cli, fake, home):
    (home.parent / "dogs").write_text("no picture")
    fake.failure = QueryImageError("dogs is no picture.")
    assert "--text" in cli("search", "dogs").err
    assert "--text" not in cli("search", "dogs", "--image").err
    fake.failure = None
    cli("search", "dogs", "--text")
    assert fake.asked["text"] == "dogs" and fake.asked["image"] is None


def test_a_picture_can_come_through_stdin_or_a_pipe(cli, fake, home):
    cli("search", "-", stdin=b"\x89PNG...")
    assert fake.asked["image"] == b"\x89PNG..." and fake.asked["text"] is None
    reading, writing = os.pipe()
    os.write(writing, b"GIF89a")
    os.close(writing)
    assert read_query(f"/dev/fd/{reading}").image == b"GIF89a"
    os.close(reading)


def test_stdin_at_a_terminal_is_not_waited_for(cli, fake, monkeypatch):
    import sys

    monkeypatch.setattr(sys, "stdin", type("Terminal", (), {"isatty": lambda self: True})())
    with pytest.raises(Exception, match="terminal"):
        read_query("-")


@pytest.mark.parametrize(
    ("argument", "text", "weight"),
    [
        ("sunset", "sunset", 1.0),
        ("2:sunset", "sunset", 2.0),
        (".5:sea side", "sea side", 0.5),
        ("3:10 to Yuma", "10 to Yuma", 3.0),
        ("at 10:30", "at 10:30", 1.0),
        ("-1:x", "-1:x", 1.0),
        ("2:", "2:", 1.0),
    ],
)
def test_a_number_and_a_colon_in_front_of_a_part_is_its_weight(home, argument, text, weight):
    part = read_part(argument)
    assert (part.text, part.weight) == (text, weight)


def test_a_file_whose_name_looks_like_a_weight_is_a_file(home, monkeypatch):
    monkeypatch.chdir(home)
    (home / "2:sunset").write_bytes(b"x")
    (home / "a.jpg").write_bytes(b"x")
    assert read_part("2:sunset").image == Path("2:sunset")
    assert read_part("2:a.jpg").part() == Weighted(Path("a.jpg"), 2.0)
    with pytest.raises(InputError):
        read_part("2:b.jpg")


def test_a_preview_without_a_terminal_is_left_out_with_a_note(cli, answers):
    done = cli("search", "dog", "--preview")
    assert done.code == 0 and "needs a terminal" in done.err and b"\x1b" not in done.out


def test_somebodys_picture_is_not_written_over(cli, answers, home):
    (home.parent / "mine.png").write_bytes(b"my picture")
    done = cli("search", "dog", "--contact-sheet", "mine.png")
    assert done.code == 2 and "--force" in done.err and (home.parent / "mine.png").read_bytes() == b"my picture"
