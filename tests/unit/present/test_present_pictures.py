"""Contact sheet and preview."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from clipsearch.present.contact_sheet import TILE, contact_sheet, encode_png, is_contact_sheet
from clipsearch.present.preview import half_blocks, preview
from clipsearch.present.text import cell_width
from clipsearch.present.thumbnail import Thumbnail

RED, BLUE = (200, 30, 40), (20, 60, 210)


def picture(colour, height=40, width=60):
    return np.full((height, width, 3), colour, dtype=np.uint8)


def thumbnail(rank=1, pixels=None, name="a.jpg", reason=""):
    return Thumbnail(f"{rank}  0.300", name, pixels, reason)


def has_colour(page, colour, box):
    return bool((np.asarray(page.crop(box)).reshape(-1, 3) == colour).all(axis=1).any())


def test_hits_stand_from_left_to_right_in_their_order():
    page = contact_sheet([thumbnail(1, picture(RED)), thumbnail(2, picture(BLUE))], "beach", columns=2)
    half = page.width // 2
    assert has_colour(page, RED, (0, 0, half, page.height)) and not has_colour(page, RED, (half, 0, *page.size))
    assert has_colour(page, BLUE, (half, 0, *page.size)) and not has_colour(page, BLUE, (0, 0, half, page.height))


def test_a_picture_keeps_its_shape():
    page = np.asarray(contact_sheet([thumbnail(1, picture(RED, 300, 600))], "x"))
    rows, columns = np.nonzero((page == RED).all(axis=2))
    assert (np.ptp(columns) + 1, np.ptp(rows) + 1) == (TILE, TILE // 2)


def test_a_picture_that_cannot_be_read_keeps_its_place_as_a_grey_tile():
    page = contact_sheet([thumbnail(1, reason="the file is gone"), thumbnail(2, picture(BLUE))], "x", columns=2)
    grey = np.asarray(page)[:, : page.width // 2].reshape(-1, 3)
    assert (grey == 222).all(axis=1).sum() > TILE * TILE * 0.8
    assert has_colour(page, BLUE, (page.width // 2, 0, *page.size))


@pytest.mark.parametrize("number", [0, 1, 5, 6, 23])
def test_the_page_grows_with_the_hits_and_never_past_five_columns(number):
    page = contact_sheet([thumbnail(n, picture(RED)) for n in range(number)], "x")
    assert page.width <= 5 * (TILE + 16) + 16
    assert page.height >= -(-number // 5) * TILE


def test_odd_names_and_headings_do_no_harm():
    page = contact_sheet([thumbnail(1, picture(RED), name="x\n\x1b" + "y" * 500)], "日本 " + "z" * 1000)
    assert page.width < 1000


def test_only_a_contact_sheet_is_known_as_one(tmp_path):
    sheet, photo = tmp_path / "sheet.png", tmp_path / "photo.png"
    sheet.write_bytes(encode_png(contact_sheet([thumbnail(1, picture(RED))], "x")))
    Image.fromarray(picture(RED)).save(photo)
    assert is_contact_sheet(str(sheet))
    assert not is_contact_sheet(str(photo)) and not is_contact_sheet(str(tmp_path / "none.png"))
    assert Image.open(io.BytesIO(sheet.read_bytes())).format == "PNG"


CELL = re.compile(r"\x1b\[38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m▀")


def decode(line):
    return [tuple(map(int, cell)) for cell in CELL.findall(line)]


def test_a_half_block_holds_the_pixel_above_and_the_pixel_below():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    lines = [line for line, _ in half_blocks(pixels, 6, truecolour=True)]
    shown = [(*pixels[2 * y, x].tolist(), *pixels[2 * y + 1, x].tolist()) for y in range(3) for x in range(6)]
    assert [cell for line in lines for cell in decode(line)] == shown


def test_a_larger_picture_is_averaged_and_a_smaller_one_repeated():
    pixels = np.random.default_rng(1).integers(0, 256, (40, 80, 3), dtype=np.uint8)
    means = pixels.reshape(4, 10, 8, 10, 3).mean(axis=(1, 3)).round().astype(int)
    lines = [decode(line) for line, _ in half_blocks(pixels, 8, truecolour=True)]
    assert [[cell[:3] for cell in line] for line in lines] == [list(map(tuple, row.tolist())) for row in means[::2]]
    assert [width for _, width in half_blocks(picture(RED, 2, 2), 10, truecolour=True)] == [10] * 5


def test_256_colours_are_the_nearest_of_the_cube():
    ((line, width),) = half_blocks(np.array([[[255, 0, 95]]], dtype=np.uint8), 1, truecolour=False)
    assert "38;5;197" in line and width == 1  # 16 + 36*5 + 6*0 + 1


@pytest.mark.parametrize("width", [30, 80, 120])
def test_a_preview_fits_the_terminal_and_names_every_hit(width):
    tiles = [thumbnail(n, picture(RED, 60, 40), name=f"holiday-{n}.jpg") for n in range(1, 6)]
    lines = list(preview([*tiles, thumbnail(6, reason="the file is gone")], width, truecolour=True))
    bare = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    assert all(cell_width(line) <= width for line in bare)
    assert all(f"holiday-{n}.jpg" in "\n".join(bare) for n in range(1, 6))
    assert "the file is gone" in "\n".join(bare)
