"""Pictures in a terminal, with nothing but characters and colours.

The half block "▀" is one cell with two colours: its own above, the background below. Cells are about twice as high as
wide, so a half is about square, and a block of W x H cells shows W x 2H pixels. It works in every terminal that knows
256 colours, also through ssh and inside tmux.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from clipsearch.present.text import cell_width, cut, pad, printable, shorten_path
from clipsearch.present.thumbnail import Thumbnail, grid
from clipsearch.types import Pixels

CELLS = 24  # width of a tile; it is half as many lines high
_GAP = 2


def preview(thumbnails: Sequence[Thumbnail], width: int, truecolour: bool) -> Iterator[str]:
    """Yield lines of at most ``width`` cells that show the thumbnails side by side, rank, score and name below each."""
    cells = min(CELLS, width)
    for row in grid(thumbnails, max(1, (width + _GAP) // (cells + _GAP))):
        blocks = [_block(thumbnail, cells, truecolour) for thumbnail in row]
        height = max(map(len, blocks))
        empty = " " * cells
        for line in range(height):
            yield (
                (" " * _GAP)
                .join(block[line - (height - len(block))] if line >= height - len(block) else empty for block in blocks)
                .rstrip(" ")
            )
        yield (" " * _GAP).join(_caption(thumbnail, cells) for thumbnail in row).rstrip()
        yield ""


def _caption(thumbnail: Thumbnail, cells: int) -> str:
    title = cut(thumbnail.title, cells)
    return pad(f"{title}  {shorten_path(printable(thumbnail.name), cells - cell_width(title) - 2)}", cells)


def _block(thumbnail: Thumbnail, cells: int, truecolour: bool) -> list[str]:
    if thumbnail.pixels is None:
        return [pad(cut(printable(thumbnail.reason), cells), cells)]
    return [line + " " * (cells - width) for line, width in half_blocks(thumbnail.pixels, cells, truecolour)]


def half_blocks(pixels: Pixels, cells: int, truecolour: bool) -> Iterator[tuple[str, int]]:
    """Yield lines, each with its width in cells; the longer side of the picture (h, w, 3) gets ``cells`` halves."""
    small = _shrink(pixels, cells)
    if len(small) % 2:  # an odd last line is doubled, for a cell has no half of no colour
        small = np.concatenate([small, small[-1:]])
    colour = _rgb if truecolour else _palette
    for top, bottom in zip(small[::2].tolist(), small[1::2].tolist(), strict=True):
        line = "".join(f"\x1b[38;{colour(a)};48;{colour(b)}m▀" for a, b in zip(top, bottom, strict=True))
        yield line + "\x1b[0m", small.shape[1]


def _shrink(pixels: Pixels, size: int) -> Pixels:
    """Return the picture with its longer side ``size``: each new pixel is the mean of those it covers."""
    height, width = pixels.shape[:2]
    scale = size / max(height, width)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    sums = _mean_runs(_mean_runs(pixels.astype(np.float32), rows, 0), columns, 1)
    return np.clip(sums.round(), 0, 255).astype(np.uint8)


def _mean_runs(x: np.ndarray, parts: int, axis: int) -> np.ndarray:
    """Return the means of ``parts`` about equal runs along an axis; fewer pixels than parts are repeated."""
    length = x.shape[axis]
    starts = np.arange(parts) * length // parts
    ends = np.maximum(starts + 1, np.arange(1, parts + 1) * length // parts)
    shape = [-1 if place == axis else 1 for place in range(x.ndim)]
    totals = np.concatenate([np.zeros_like(np.take(x, [0], axis)), np.cumsum(x, axis, dtype=np.float64)], axis)
    return (np.take(totals, ends, axis) - np.take(totals, starts, axis)) / (ends - starts).reshape(shape)


def _rgb(pixel: Sequence[int]) -> str:
    return f"2;{pixel[0]};{pixel[1]};{pixel[2]}"


def _palette(pixel: Sequence[int]) -> str:
    """Return the nearest of the 216 colours (6 levels a channel) that every 256-colour terminal has."""
    r, g, b = (0 if value < 48 else 1 if value < 115 else (value - 35) // 40 for value in pixel)
    return f"5;{16 + 36 * r + 6 * g + b}"
