"""Searching again: more and less of the last hits, saved searches."""

import json
import os
import stat

import pytest

from clipsearch.types import Hit


@pytest.fixture
def answers(fake, home, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(home.parent / "state"))
    fake.hits = [Hit(rank, 10 + rank, f"/p/{rank}.jpg", 0.5, None, {}) for rank in range(1, 6)]
    monkeypatch.setattr(type(fake), "sql", lambda *_: [(15,)], raising=False)
    return fake


def last_file(home):
    (name,) = os.listdir(home.parent / "state" / "clipsearch" / "last")
    return home.parent / "state" / "clipsearch" / "last" / name


def test_more_and_less_ask_the_last_query_again_with_the_ids_at_those_ranks(cli, answers):
    cli("search", "dog", "--add", "snow", "--where", "width > 1", "-k", "4")
    assert cli("search", "--more", "1,3", "--less", "4").code == 0
    asked = answers.asked
    assert (asked["text"], asked["add"], asked["where"], asked["k"]) == ("dog", ["snow"], "width > 1", 4)
    assert (asked["more"], asked["less"]) == ([11, 13], [14])


def test_feedback_adds_up_and_the_newest_word_on_a_picture_holds(cli, answers):
    cli("search", "dog")
    cli("search", "--more", "1,2")
    cli("search", "--less", "2", "-k", "3")
    assert (answers.asked["more"], answers.asked["less"], answers.asked["k"]) == ([11], [12], 3)


def test_a_new_query_may_use_the_last_hits(cli, answers):
    cli("search", "dog", "--where", "width > 1")
    cli("search", "cat", "--more", "2")
    assert (answers.asked["text"], answers.asked["more"]) == ("cat", [12]) and "where" not in answers.asked


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--more", "9"], "had 5 hits"),
        (["--less", "0"], "rank 0"),
        (["--more", "3,2", "--less", "1,2"], "Rank 2 is named by --more and by --less"),
        (["--more", "one"], "such as 1,3"),
        (["--new"], "--saved"),
        (["--saved", "nothing"], "--save nothing"),
        (["dog", "--save", "../x"], "cannot be called"),
    ],
)
def test_what_makes_no_sense_is_refused(cli, answers, options, said):
    cli("search", "dog")
    done = cli("search", *options)
    assert done.code == 2 and said in done.err and "Traceback" not in done.err


def test_without_a_last_search_there_are_no_ranks(cli, answers):
    done = cli("search", "dog", "--more", "1")
    assert done.code == 2 and "no last search" in done.err


def test_captions_have_no_ranks_to_name(cli, answers):
    cli("search", "dog", "--target", "text")
    done = cli("search", "dog", "--more", "1")
    assert done.code == 2 and "captions" in done.err


def test_the_last_search_is_the_users_alone_and_names_no_hit(cli, answers, home):
    cli("search", "dog")
    assert stat.S_IMODE(last_file(home).stat().st_mode) == 0o600
    document = json.loads(last_file(home).read_text())
    assert document["ids"] == [11, 12, 13, 14, 15] and "/p/" not in last_file(home).read_text()


def test_a_search_that_cannot_be_kept_is_answered_all_the_same(cli, answers, home, monkeypatch):
    (home.parent / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(home.parent / "file"))
    done = cli("search", "dog")
    assert done.code == 0 and done.err == "" and len(done.lines) == 5


def test_a_saved_search_runs_again_from_any_folder(cli, answers, home, monkeypatch):
    (home.parent / "dog.jpg").write_bytes(b"x")
    done = cli("search", "dog.jpg", "--subtract", "people", "-k", "2", "--save", "my dogs")
    assert done.code == 0 and "saved" in done.err
    first = dict(answers.asked)
    monkeypatch.setenv("CLIPSEARCH_INDEXES", str(home))
    (home.parent / "elsewhere").mkdir()
    monkeypatch.chdir(home.parent / "elsewhere")
    assert cli("search", "--saved", "my dogs").code == 0
    again = dict(answers.asked)
    assert str(again.pop("image")) == str(home.parent / "dog.jpg")
    first.pop("image")
    assert again == first
    cli("search", "--saved", "my dogs", "-k", "5")
    assert answers.asked["k"] == 5


def test_new_looks_only_at_what_came_since_the_last_run(cli, answers):
    cli("search", "dog", "--where", "width > 1", "--save", "dogs")
    cli("search", "--saved", "dogs", "--new")
    assert answers.asked["where"] == "(width > 1) AND id > 15"
    cli("search", "--saved", "dogs")
    assert answers.asked["where"] == "width > 1"


def test_saved_searches_are_listed_and_forgotten(cli, answers):
    cli("search", "dog", "--add", "snow", "--save", "b")
    cli("search", "cat", "--save", "a")
    assert cli("searches", "list").lines == ["name\tsearch", "a\tcat", "b\tdog + snow"]
    rows = list(map(json.loads, cli("searches", "list", "--json").lines))
    assert [row["name"] for row in rows] == ["a", "b"] and rows[1]["add"] == ["snow"]
    assert cli("searches", "rm", "a").code == 0 and cli("searches", "rm", "a").code == 2
    assert cli("searches", "list").lines == ["name\tsearch", "b\tdog + snow"]
