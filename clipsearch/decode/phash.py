"""A perceptual hash: 64 bits that stay the same when a picture is saved again or at another size.

The picture, as the encoder gets it, is brought to 32 x 32 grey values; of their cosine transform the 64 lowest
frequencies but the mean are taken, and each gives a bit: is it above the middle one? What re-encoding changes, high
frequencies and a little of everything, changes next to none of these bits. A flat picture (a white page) has no
frequencies but noise, so it has the hash 0, which says nothing; no other picture has it, half of whose bits are set.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.types import Ints, Pixels

FLAT = 0
SIDE = 32
_FLAT_SPREAD = 5.0  # standard deviation of the grey values, 0 to 255, below which a picture is flat
_GREY = np.array([0.299, 0.587, 0.114], np.float32)
_STEP = np.pi / (2 * SIDE)
_WAVES = np.cos(_STEP * np.arange(SIDE)[:, None] * (2 * np.arange(SIDE)[None] + 1)).astype(np.float32)
_LOWEST = sorted(((u, v) for u in range(SIDE) for v in range(SIDE)), key=lambda place: (sum(place), place))[1:65]
_U, _V = np.array(_LOWEST).T


def perceptual_hash(pixels: Pixels) -> int:
    """Return the hash of a picture (H, W, 3) as a signed 64-bit number; ``FLAT`` where it says nothing."""
    height, width = pixels.shape[:2]
    if min(height, width) < SIDE:
        return FLAT
    rows, columns = (np.arange(SIDE + 1) * side // SIDE for side in (height, width))
    sums = _summed(pixels.reshape(height, width * 3), rows).reshape(SIDE, width, 3)
    sums = _summed(sums.swapaxes(0, 1), columns).swapaxes(0, 1)
    grey = (sums.astype(np.float32) @ _GREY) / np.outer(np.diff(rows), np.diff(columns)).astype(np.float32)
    if grey.std() < _FLAT_SPREAD:
        return FLAT
    waves = (_WAVES @ grey @ _WAVES.T)[_U, _V]
    return int(np.packbits(waves > np.median(waves)).view(np.int64)[0])


def _summed(values: NDArray[Any], edges: Ints) -> NDArray[np.uint32]:
    """Return the sums of runs between edges along the first axis; ``np.add.reduceat`` takes many times as long."""
    starts, stops = edges[:-1], edges[1:]
    total = values[starts].astype(np.uint32)
    for step in range(1, int((stops - starts).max())):
        inside = starts + step < stops
        if inside.all():
            total += values[starts + step]
        else:
            total[inside] += values[starts[inside] + step]
    return total
