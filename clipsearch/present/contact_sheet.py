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
_GAP, _LINE = 16, 18
_CELL = TILE + 2 * _LINE + 6
_INK, _PALE, _GREY, _WHITE = (30, 30, 30), (120, 120, 120), (222, 222, 222), (255, 255, 255)
_ALARM = (176, 0, 32)
_MARK = ("Software", "clipsearch")


def contact_sheet(thumbnails: Sequence[Thumbnail], heading: str, columns: int = 5) -> Image.Image:
    """Lay the thumbnails out on a page, rows from left to right, under a heading."""
    rows = grid(thumbnails, columns)
    wide = max(min(columns, len(thumbnails)), 2)
    width = _GAP + wide * (TILE + _GAP)
    top = 2 * _GAP + _LINE
    page = Image.new("RGB", (width, top + max(len(rows), 1) * (_CELL + _GAP)), _WHITE)
    draw = ImageDraw.Draw(page)
    large, small = _font(16), _font(13)
    draw.text((_GAP, _GAP), _fit(printable(heading), width - 2 * _GAP, large), _INK, large)
    for y, row in enumerate(rows):
        for x, thumbnail in enumerate(row):
            _draw_cell(page, draw, thumbnail, (_GAP + x * (TILE + _GAP), top + y * (_CELL + _GAP)), small)
    return page


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
    page: Image.Image, draw: ImageDraw.ImageDraw, thumbnail: Thumbnail, corner: tuple[int, int], font: "_Font"
) -> None:
    x, y = corner
    if thumbnail.pixels is None:
        draw.rectangle((x, y, x + TILE - 1, y + TILE - 1), _GREY)
        lines = wrap(printable(thumbnail.reason), 28)[:8]
        draw.multiline_text((x + 10, y + 10), "\n".join(lines), _INK, font, spacing=5)
    else:
        picture = Image.fromarray(thumbnail.pixels)
        picture.thumbnail((TILE, TILE))
        page.paste(picture, (x + (TILE - picture.width) // 2, y + (TILE - picture.height) // 2))
    if thumbnail.badge:
        _draw_badge(draw, thumbnail.badge, corner, font)
    draw.text((x, y + TILE + 4), thumbnail.title, _PALE, font)
    draw.text((x, y + TILE + 4 + _LINE), _fit(printable(thumbnail.name), TILE, font), _INK, font)


def _draw_badge(draw: ImageDraw.ImageDraw, badge: str, corner: tuple[int, int], font: "_Font") -> None:
    """Draw a word on a coloured bar across the top of a tile."""
    x, y = corner
    draw.rectangle((x, y, x + TILE - 1, y + _LINE + 5), _ALARM)
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
