"""``clipsearch search``: what each verdict prints, and its exit code."""

import json

import pytest

from clipsearch.types import Hit, Verdict


@pytest.fixture
def answers(fake):
    fake.hits = [Hit(1, 11, "/p/dog.jpg", 0.31234), Hit(2, 12, "/p/cat.jpg", 0.25)]
    return fake


def say(fake, verdict, p_value=None):
    fake.verdict, fake.p_value = Verdict(verdict), p_value


def test_a_match_prints_its_hits_and_nothing_else(cli, answers):
    say(answers, "match", 0.004)
    done = cli("search", "dog")
    assert (done.code, done.err, len(done.lines)) == (0, "", 2)
    assert "match: p = 0.004" in cli("search", "dog", "-v").err


def test_a_weak_answer_prints_its_hits_and_says_so(cli, answers):
    say(answers, "weak", 0.31)
    done = cli("search", "dog")
    assert done.code == 0 and len(done.lines) == 2 and "weak" in done.err and "p = 0.31" in done.err


def test_an_uncalibrated_answer_prints_its_hits_and_gives_its_reason_when_asked(cli, answers):
    done = cli("search", "dog")
    assert (done.code, done.err, len(done.lines)) == (0, "", 2)
    assert "uncalibrated: it is small" in cli("search", "dog", "-v").err


def test_none_prints_a_plain_sentence_and_no_hits(cli, answers):
    say(answers, "none", 0.8)
    for options in ((), ("-f",), ("-0",)):
        done = cli("search", "a rocket", *options)
        assert (done.code, done.out) == (1, b"")
        assert done.err.startswith("nothing in photos matches 'a rocket'. --all shows the nearest. --fill auto would ")
        assert done.err.count("\n") == 1
    assert cli("search", "a rocket", terminal=True).out == b""
    assert cli("search", "a rocket", "-q").err == ""


def test_all_shows_the_nearest_marked_and_the_exit_code_stays(cli, answers):
    say(answers, "none", 0.8)
    done = cli("search", "a rocket", "--all")
    assert done.code == 1 and done.lines == ["(1)\t0.312\t/p/dog.jpg", "(2)\t0.250\t/p/cat.jpg"]
    assert "These are the nearest pictures." in done.err
    table = cli("search", "a rocket", "--all", "--no-color", terminal=True).lines
    assert table[1].split()[0] == "(1)"
    assert cli("search", "a rocket", "--all", "-f").out == b"/p/dog.jpg\n/p/cat.jpg\n"


def test_all_changes_nothing_where_something_matches(cli, answers):
    say(answers, "match", 0.004)
    plain, everything = cli("search", "dog"), cli("search", "dog", "--all")
    assert (plain.code, plain.out) == (everything.code, everything.out)


def test_json_has_verdict_p_value_and_levels(cli, answers):
    say(answers, "none", 0.8)
    (whole,) = map(json.loads, cli("search", "dog", "--json").lines)
    assert (whole["verdict"], whole["p_value"], whole["hits"]) == ("none", 0.8, 0)
    assert whole["levels"] == {"match": 0.05, "none": 0.1} and whole["why"] is None
    first, _, whole = map(json.loads, cli("search", "dog", "--json", "--all").lines)
    assert first["verdict"] == "none" and whole["hits"] == 2
    say(answers, "match", 0.01)
    first, *_ = map(json.loads, cli("search", "dog", "--json").lines)
    assert "verdict" not in first
    say(answers, "uncalibrated")
    *_, whole = map(json.loads, cli("search", "dog", "--json").lines)
    assert (whole["p_value"], whole["levels"], whole["why"]) == (None, {}, "it is small")
