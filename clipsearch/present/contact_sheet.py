"""A contact sheet: the hits as a grid of small pictures on one white page, rank, score and file name under each.

The page says what was asked, so that it can be passed on. A hit whose file cannot be read keeps its place as a grey
tile with the reason: ranks do not shift, nothing is left out in silence.
"""

import io
import os
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from clipsearch.present.text import printable, wrap
from clipsearch.present.thumbnail import Thumbnail, grid

TILE = 220  # pixels, the longer side of a picture
SMALL_TILE = 150
_GAP, _LINE = 16, 18
_INK, _PALE, _GREY, _WHITE = (30, 30, 30), (120, 120, 120), (222, 222, 222), (255, 255, 255)
_ALARM = (176, 0, 32)
_MARK = ("Software", "clipsearch")


def contact_sheet(thumbnails: Sequence[Thumbnail], heading: str, columns: int = 5) -> Image.Image:
    """Lay the thumbnails out on a page, rows from left to right, under a heading."""
    return _page([("", thumbnails)], heading, columns, TILE)


def grouped_sheet(groups: Sequence[tuple[str, Sequence[Thumbnail]]], heading: str, columns: int = 8) -> Image.Image:
    """Lay groups of thumbnails out on a page, each under a title of its own."""
    return _page(groups, heading, columns, SMALL_TILE)


def _page(groups: Sequence[tuple[str, Sequence[Thumbnail]]], heading: str, columns: int, tile: int) -> Image.Image:
    cell = tile + 2 * _LINE + 6 + _GAP
    wide = max(min(columns, max((len(some) for _, some in groups), default=0)), 2)
    width = _GAP + wide * (tile + _GAP)
    grids = [(title, grid(some, columns)) for title, some in groups]
    height = 2 * _GAP + _LINE + sum(_title_height(title) + max(len(rows), 1) * cell for title, rows in grids)
    page = Image.new("RGB", (width, height), _WHITE)
    draw = ImageDraw.Draw(page)
    large, small = _font(16), _font(13)
    draw.text((_GAP, _GAP), _fit(printable(heading), width - 2 * _GAP, large), _INK, large)
    top = 2 * _GAP + _LINE
    for title, rows in grids:
        if title:
            draw.text((_GAP, top), _fit(printable(title), width - 2 * _GAP, large), _INK, large)
        top += _title_height(title)
        for row in rows:
            for x, thumbnail in enumerate(row):
                _draw_cell(page, draw, thumbnail, (_GAP + x * (tile + _GAP), top), small, tile)
            top += cell
    return page


def _title_height(title: str) -> int:
    return _LINE + 8 if title else 0


def encode_png(page: Image.Image) -> bytes:
    """Return the page as a PNG that ``is_contact_sheet`` knows again."""
    marks, file = PngInfo(), io.BytesIO()
    marks.add_text(*_MARK)
    page.save(file, "PNG", pnginfo=marks)
    return file.getvalue()


def is_contact_sheet(path: str) -> bool:
    """Tell whether a file is a contact sheet of clipsearch, which may be written over."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        start = file.read(4096)
    return start.startswith(b"\x89PNG\r\n\x1a\n") and "\0".join(_MARK).encode() in start


def _draw_cell(
    page: Image.Image,
    draw: ImageDraw.ImageDraw,
    thumbnail: Thumbnail,
    corner: tuple[int, int],
    font: "_Font",
    tile: int,
) -> None:
    x, y = corner
    if thumbnail.pixels is None:
        draw.rectangle((x, y, x + tile - 1, y + tile - 1), _GREY)
        lines = wrap(printable(thumbnail.reason), tile // 8)[:8]
        draw.multiline_text((x + 10, y + 10), "\n".join(lines), _INK, font, spacing=5)
    else:
        picture = Image.fromarray(thumbnail.pixels)
        picture.thumbnail((tile, tile))
        page.paste(picture, (x + (tile - picture.width) // 2, y + (tile - picture.height) // 2))
    if thumbnail.badge:
        _draw_badge(draw, thumbnail.badge, corner, font, tile)
    draw.text((x, y + tile + 4), thumbnail.title, _PALE, font)
    draw.text((x, y + tile + 4 + _LINE), _fit(printable(thumbnail.name), tile, font), _INK, font)


def _draw_badge(draw: ImageDraw.ImageDraw, badge: str, corner: tuple[int, int], font: "_Font", tile: int) -> None:
    """Draw a word on a coloured bar across the top of a tile."""
    x, y = corner
    draw.rectangle((x, y, x + tile - 1, y + _LINE + 5), _ALARM)
    draw.text((x + 8, y + 4), badge, _WHITE, font)


_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def _font(size: int) -> _Font:
    """Return a font with many scripts where the system has one, else the one inside Pillow."""
    try:
        return ImageFont.truetype("DejaVuSans.ttf", size)
    except OSError:
        return ImageFont.load_default(size)


def _fit(text: str, width: int, font: _Font) -> str:
    """Leave out the middle of a text until it is at most ``width`` pixels wide."""
    if font.getlength(text) <= width:
        return text
    keep = len(text) - 1
    while keep > 2 and font.getlength(_middle(text, keep)) > width:
        keep -= 1
    return _middle(text, keep)


def _middle(text: str, keep: int) -> str:
    return text[: keep - keep // 2] + "…" + text[-(keep // 2) :]
