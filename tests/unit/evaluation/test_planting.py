"""Copies are what their names say."""

import io
from datetime import datetime

import numpy as np
import pytest
from PIL import Image

from clipsearch.decode.metadata import read_exif
from clipsearch.evaluation.planting import BURST_SECONDS, CAMERA, COPIES, burst

SIZE = (200, 120)


@pytest.fixture(scope="module")
def picture():
    coarse = np.random.default_rng(3).integers(0, 256, (6, 10, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    ("name", "kind", "size"),
    [
        ("JPEG, quality 50", "JPEG", SIZE),
        ("WebP, quality 60", "WEBP", SIZE),
        ("half the size", "JPEG", (100, 60)),
        ("twice the size", "JPEG", (400, 240)),
        ("cropped by 2 %", "JPEG", (192, 116)),
    ],
)
def test_a_copy_has_its_format_and_size_and_no_exif(picture, name, kind, size):
    copy = COPIES[name]
    with Image.open(io.BytesIO(copy.made(picture))) as made:
        assert (made.format, made.size) == (kind, size)
        assert made.format == {".jpg": "JPEG", ".webp": "WEBP"}[copy.suffix]
        assert not made.getexif()
        again = np.asarray(made.convert("RGB").resize(SIZE)).astype(float)
    assert abs(again - np.asarray(picture)).mean() < 12


def test_a_lower_quality_makes_a_smaller_file(picture):
    assert len(COPIES["JPEG, quality 50"].made(picture)) < len(COPIES["JPEG, quality 90"].made(picture))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (9, 2)])
def test_the_smallest_pictures_have_copies_too(size):
    tiny = Image.new("RGB", size, (200, 30, 30))
    for made in (*(copy.made(tiny) for copy in COPIES.values()), *burst(tiny, 0)):
        with Image.open(io.BytesIO(made)) as copy:
            assert min(copy.size) >= 1


def test_the_frames_of_a_burst_are_shifted_and_seconds_apart_and_bursts_are_days_apart(picture):
    told = []
    for number in (0, 1, 100_000):
        frames = [Image.open(io.BytesIO(data)) for data in burst(picture, number)]
        for frame in frames:
            frame.load()
        told.append([read_exif(frame) for frame in frames])
    assert {one["camera"] for frames in told for one in frames} == {CAMERA}
    for first, second in told:
        assert (second["taken"] - first["taken"]).total_seconds() == BURST_SECONDS
    assert (told[1][0]["taken"] - told[0][1]["taken"]).total_seconds() > 80_000
    assert told[2][0]["taken"] > datetime(2270, 1, 1)
    a, b = (np.asarray(frame).astype(float) for frame in frames)
    assert a.shape == b.shape == (115, 192, 3)
    assert abs(a[5:, 8:] - b[:-5, :-8]).mean() < 3 < abs(a - b).mean()
