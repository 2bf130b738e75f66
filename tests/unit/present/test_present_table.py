"""Tables for terminals and lines for pipes."""

import os

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from clipsearch.present.table import Column, ended, hits_plain, hits_table, plain, render, shortened, wrapped
from clipsearch.present.text import cell_width
from clipsearch.types import Hit, SearchResult


def result(*hits: Hit, target: str = "image") -> SearchResult:
    ids = np.array([hit.id for hit in hits], dtype=np.int64)
    scores = np.array([hit.score for hit in hits], dtype=np.float32)
    return SearchResult(ids, scores, hits, target=target)


def images(*paths: str) -> SearchResult:
    return result(*(Hit(rank, rank, path, 0.5 - rank / 100) for rank, path in enumerate(paths, 1)))


def test_a_table_shows_rank_score_and_path_from_here():
    lines = list(hits_table(images("/home/anna/photos/a.jpg", "/mnt/b.jpg"), "/home/anna"))
    assert lines == ["rank  score  path", "   1  0.490  photos/a.jpg", "   2  0.480  /mnt/b.jpg"]


@settings(max_examples=60)
@given(st.lists(st.text(min_size=1, max_size=200), min_size=1, max_size=5), st.integers(40, 120))
def test_no_line_is_wider_than_the_terminal(names, width):
    answer = images(*("/" + name for name in names))
    assert all(cell_width(line) <= width for line in hits_table(answer, "/", width))


@settings(max_examples=60)
@given(st.text(max_size=300), st.text(max_size=90), st.integers(50, 120))
def test_no_caption_is_wider_than_the_terminal(caption, name, width):
    answer = result(Hit(1, 1, "/" + name, 0.3, caption), target="text")
    assert all(cell_width(line) <= width for line in hits_table(answer, "/", width))


def test_a_long_path_fills_the_80_cells_and_keeps_its_name():
    lines = list(hits_table(images("/photos/" + "deep/" * 40 + "IMG_1.jpg"), "/elsewhere", 80))
    assert cell_width(lines[1]) == 80 and lines[1].endswith("IMG_1.jpg") and "…" in lines[1]


def test_a_long_caption_goes_on_below_and_loses_nothing():
    caption = "two dogs play in the deep snow while a man in a red coat watches them from the porch"
    lines = list(hits_table(result(Hit(1, 1, "/a/dogs.jpg", 0.31, caption), target="text"), "/", 60))
    body = " ".join(line[13:].replace("dogs.jpg", "").strip() for line in lines[1:])
    assert body == caption and lines[1].endswith("dogs.jpg") and len(lines) > 2


def test_colours_change_nothing_but_the_colours():
    answer = images("/a.jpg", "/b.jpg")
    coloured = "\n".join(hits_table(answer, "/", 80, colour=True))
    assert "\x1b[" in coloured
    bare = coloured.replace("\x1b[0m", "").replace("\x1b[1m", "").replace("\x1b[36m", "")
    assert bare == "\n".join(hits_table(answer, "/", 80))


def test_piped_rows_are_whole_and_stay_rows():
    long = "/p/" + "x" * 200 + ".jpg"
    odd = "/p/" + os.fsdecode(b"caf\xe9\n\t.jpg")
    lines = list(hits_plain(images(long, odd), "/"))
    assert lines[0] == b"1\t0.490\tp/" + b"x" * 200 + b".jpg"
    assert lines[1] == b"2\t0.480\tp/caf\xe9\\n\\t.jpg"


def test_piped_captions_have_their_own_field():
    lines = list(hits_plain(result(Hit(1, 1, "/a.jpg", 0.25, "a\tdog"), target="text"), "/"))
    assert lines == [b"1\t0.250\ta\\tdog\ta.jpg"]


def test_the_widest_column_gives_way_first():
    columns = (Column("a", fit=ended, least=4), Column("b", fit=shortened, least=4), Column("n", right=True))
    lines = list(render(columns, [["short", "x" * 60, "12"]], width=30))
    assert lines[1].startswith("short  xxx") and lines[1].endswith(" 12") and cell_width(lines[1]) == 30


def test_a_table_of_no_rows_is_its_heading():
    assert list(render((Column("name"), Column("n", right=True)), [])) == ["name  n"]
    assert list(plain((Column("name"), Column("n", right=True)), [["a\tb", "1"]])) == ["name\tn", "a\\tb\t1"]


def test_wrapped_cells_stand_below_each_other():
    lines = list(render((Column("k"), Column("words", fit=wrapped)), [["1", "one two three"]], width=11))
    assert lines == ["k  words", "1  one two", "   three"]
