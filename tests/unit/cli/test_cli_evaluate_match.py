"""``clipsearch evaluate match`` on planted concepts, and the usual measurement beside it."""

import json

import pytest
from planted import PlantedEncoder, planted

import clipsearch


@pytest.fixture
def place(tmp_path, monkeypatch):
    collection, _ = planted(tmp_path / "w", PlantedEncoder(0.5), concepts=range(12), copies=14)
    opened = clipsearch.open

    def open_it(path, **how):
        again = opened(path, **how)
        again._encoder = collection._encoder
        return again

    monkeypatch.setitem(vars(clipsearch), "open", open_it)
    return collection.path


def test_the_table_says_what_was_measured_within_80_columns(cli, place):
    done = cli("evaluate", "match", "-i", place, "--repetitions", "1", "--no-color", terminal=True)
    assert done.code == 0 and max(map(len, done.lines)) <= 80
    assert {"keyword", "phrase", "sentence"} == {line.split()[0] for line in done.lines[1:]}
    assert "note: not measured: pictures as queries; fewer than 20" in done.err
    assert "promised: at most 5%" in done.err and "168 pictures, 168 captions" in done.err
    assert max(map(len, done.err.splitlines())) <= 100


def test_a_pipe_gets_tabs_and_json_everything(cli, place):
    done = cli("evaluate", "match", "-i", place, "--repetitions", "1", "-q")
    assert done.err == "" and all(len(line.split("\t")) == 7 for line in done.lines)
    (whole,) = map(json.loads, cli("evaluate", "match", "-i", place, "--repetitions", "1", "--json").lines)
    assert whole["schema"] == "clipsearch.match_evaluation/1" and whole["repetitions"] == 1
    assert {"value", "low", "high", "n"} == set(whole["rows"][0]["false_accept"])


def test_a_collection_that_is_too_small_is_refused_in_plain_words(cli, collection):
    done = cli("evaluate", "match", "-i", collection.path)
    assert done.code == 2 and "has 6 pictures" in done.err and "160" in done.err and done.out == b""


def test_a_file_without_the_name_of_a_measurement_is_measured_as_ever(cli, collection, photos, tmp_path):
    table = tmp_path / "captions.csv"
    table.write_text("image,caption\nred.png,a red square\n")
    plain = cli("evaluate", str(table), "-i", collection.path)
    named = cli("evaluate", "retrieval", str(table), "-i", collection.path)
    first = cli("evaluate", "-i", collection.path, str(table))
    assert plain.code == 0 and plain.out == named.out == first.out and len(plain.lines) == 3


def test_help_names_both_measurements(cli):
    assert b"match" in cli("evaluate", "--help").out and b"retrieval" in cli("evaluate", "--help").out
