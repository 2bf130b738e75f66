"""Text on a grid of cells."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipsearch.present.text import (
    cell_width,
    count,
    cut,
    duration,
    file_size,
    pad,
    printable,
    shorten_path,
    wrap,
)

texts = st.text(st.characters(codec="utf-8"), max_size=80)


@given(texts, st.integers(1, 60))
def test_a_shortened_path_fits_whatever_its_characters(path, width):
    path = printable(path)
    assert cell_width(shorten_path(path, width)) <= width
    assert cell_width(cut(path, width)) <= width


@given(texts, st.integers(2, 40))
def test_wrapped_lines_fit_and_lose_no_letter(text, width):
    text = printable(text)
    lines = wrap(text, width)
    assert all(cell_width(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


@given(st.binary(max_size=40))
def test_no_name_can_send_control_characters_to_a_terminal(raw):
    shown = printable(os.fsdecode(raw))
    assert shown.encode() is not None  # it can be encoded: no lone surrogates
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in shown)


def test_escapes_say_what_was_there():
    assert printable("a\nb\x1b[31m\tc") == "a\\nb\\x1b[31m\\tc"
    assert printable(os.fsdecode(b"caf\xe9.jpg")) == "caf\\xe9.jpg"
    assert printable("x\u202egpj.exe") == "x\\u202egpj.exe"
    assert printable("été 日本.jpg") == "été 日本.jpg"


def test_a_shortened_path_keeps_its_file_name_whole_where_it_can():
    path = "/home/anna/Pictures/2019/summer holidays/beach/IMG_0042.jpg"
    assert shorten_path(path, 60) == path
    for width in range(16, 59):
        assert shorten_path(path, width).endswith("IMG_0042.jpg")
        assert cell_width(shorten_path(path, width)) == width


def test_a_long_file_name_loses_its_own_middle_but_not_its_extension():
    short = shorten_path("photos/" + "x" * 100 + ".jpeg", 24)
    assert short.endswith(".jpeg") and short.startswith("photos/") and cell_width(short) == 24


def test_wide_characters_count_twice_and_accents_on_letters_not():
    assert cell_width("日本") == 4
    assert cell_width("e\u0301") == 1
    assert pad("日本", 6) == "日本  "
    assert pad("7", 3, right=True) == "  7"


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (9_949, "9.9 kB"),
        (9_960, "10 kB"),
        (999_499, "999 kB"),
        (999_600, "1.0 MB"),
        (605_000_000, "605 MB"),
        (1_500_000_000, "1.5 GB"),
        (3 * 10**15, "3.0 PB"),
    ],
)
def test_sizes_are_said_in_three_digits_at_most(size, said):
    assert file_size(size) == said


def test_counts_and_durations_read_as_people_say_them():
    assert [count(n, "image") for n in (0, 1, 1000)] == ["0 images", "1 image", "1,000 images"]
    assert [duration(s) for s in (0.04, 21.44, 125, 7325)] == ["0.0 s", "21.4 s", "2 min 5 s", "2 h 2 min"]
