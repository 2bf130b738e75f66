"""Messages agree with their counts: of one thing they speak as of one."""

import re

import pytest
from planted import add, planted
from support import make_photo

import clipsearch

SLIP = re.compile(r"(?<![\d,.])1 [a-z]+s\b(?! (has|is|was)\b)|\b1 [a-z -]*\b(are|have|were)\b")


@pytest.fixture
def one(tmp_path, monkeypatch):
    """A place with a collection of one picture that has one caption, and files that name it."""
    monkeypatch.chdir(tmp_path)
    make_photo(tmp_path / "photos" / "a.png", (200, 30, 30))
    (tmp_path / "captions.csv").write_text("image,caption\na.png,a red thing\n")
    (tmp_path / "others.csv").write_text("image,caption\nz.png,a red thing\n")
    (tmp_path / "labels.csv").write_text("image,label\na.png,red\n")
    (tmp_path / "lost.csv").write_text("image,label\nz.png,red\n")
    (tmp_path / "bank.txt").write_text("a dog\n")
    (tmp_path / "answers.csv").write_text("image,question,choices,answer\na.png,what is it?,a|b,a\n")
    with clipsearch.create(tmp_path / "indexes" / "photos", "hashing") as collection:
        collection.index("photos", captions="captions.csv")
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "captions.csv"),
        ("evaluate", "others.csv"),
        ("evaluate", "match"),
        ("evaluate", "match", "--target", "text"),
        ("evaluate", "labels", "labels.csv"),
        ("evaluate", "labels", "lost.csv"),
        ("evaluate", "tags", "labels.csv"),
        ("evaluate", "describe", "captions.csv", "--bank", "bank.txt"),
        ("evaluate", "answers", "answers.csv"),
        ("tag", "--labels", "bank.txt"),
        ("tag", "--labels", "bank.txt", "--truth", "labels.csv"),
        ("cluster",),
        ("cluster", "--k", "5"),
        ("duplicates",),
        ("ask", "photos/a.png", "is there a dog in it?"),
        ("ask", "--all", "is there a dog in it?"),
        ("describe", "photos/a.png", "--bank", "bank.txt"),
        ("search", "a dog", "--explain"),
        ("index", "--captions", "bank.txt"),
        ("status",),
        ("index", "photos"),
    ],
    ids=" ".join,
)
def test_of_one_thing_every_message_speaks_as_of_one(cli, one, words):
    done = cli(*words)
    said = done.err + done.out.decode()
    assert said and "Traceback" not in said
    assert not SLIP.search(said), said


def test_one_picture_without_a_value_is_one(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    collection, encoder = planted(tmp_path / "indexes" / "photos", concepts=range(4), copies=10, captions=False)
    collection.tag([f"concept{n:02d}" for n in range(4)])
    add(collection, encoder, [0], 1, captions=False, start=50)
    assert "1 picture has no value in the column tags" in cli("status").out.decode()
