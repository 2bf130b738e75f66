"""EXIF fields: what a person wants to read, and nothing else."""

from datetime import datetime

import pytest

from clipsearch.decode.metadata import clean_text, read_camera, read_position, read_taken


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("Canon", "Canon EOS 5D", "Canon EOS 5D"),
        ("NIKON CORPORATION", "NIKON D90", "NIKON D90"),
        ("FUJIFILM", "X100V", "FUJIFILM X100V"),
        ("Apple\0", " iPhone 12 \0junk", "Apple iPhone 12"),
        ("SONY", None, "SONY"),
        (None, "ILCE-7M3", "ILCE-7M3"),
        ("", "  ", None),
        (5, (1, 2), None),
    ],
)
def test_the_camera_names_its_maker_once(make, model, camera):
    assert read_camera(make, model) == camera


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("2024:01:02 03:04:05", datetime(2024, 1, 2, 3, 4, 5)),
        ("2024-01-02T03:04:05.678+02:00", datetime(2024, 1, 2, 3, 4, 5)),
        ("2024:01:02", datetime(2024, 1, 2)),
        ("0000:00:00 00:00:00", None),
        ("    :  :     :  :  ", None),
        ("yesterday", None),
        (b"2024:01:02 03:04:05\0", datetime(2024, 1, 2, 3, 4, 5)),
        (None, None),
    ],
)
def test_the_time_is_the_cameras_own(text, taken):
    assert read_taken({}, {0x9003: text}) == taken


def test_a_time_that_makes_no_sense_leaves_the_next_best():
    assert read_taken({0x0132: "2020:05:06 07:08:09"}, {0x9003: "0000:00:00 00:00:00"}) == datetime(2020, 5, 6, 7, 8, 9)


@pytest.mark.parametrize(
    ("gps", "position"),
    [
        ({1: "N", 2: (48, 51, 29.6), 3: "E", 4: (2, 17, 40.2)}, (48.858222, 2.2945)),
        ({1: "S", 2: (33.5,), 3: "W", 4: (70.25,)}, (-33.5, -70.25)),
        ({1: "N", 2: (91, 0, 0), 3: "E", 4: (2, 0, 0)}, None),
        ({1: "N", 2: (48, 0, 0), 3: "E", 4: (181, 0, 0)}, None),
        ({1: "N", 2: (float("nan"), 0, 0), 3: "E", 4: (2, 0, 0)}, None),
        ({1: "N", 2: (48, 0, 0)}, None),
        ({1: "N", 2: (0, 0, 0), 3: "E", 4: (0, 0, 0)}, None),
        ({}, None),
    ],
)
def test_a_position_is_in_degrees_or_not_at_all(gps, position):
    assert read_position(gps) == (None if position is None else pytest.approx(position, abs=1e-5))


def test_text_is_one_printable_line():
    assert clean_text("  a\tb\n\x1b[31mc\ud800 ") == "a b [31mc?"
    assert clean_text("x" * 60_000) == "x" * 200
