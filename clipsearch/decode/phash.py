"""A perceptual hash: 64 bits that stay the same when a picture is saved again or at another size.

The picture, as the encoder gets it, is brought to 32 x 32 grey values; of their cosine transform the 64 lowest
frequencies but the mean are taken, and each gives a bit: is it above the middle one? What re-encoding changes, high
frequencies and a little of everything, changes next to none of these bits. A flat picture (a white page) has no
frequencies but noise, so it has the hash 0, which says nothing; no other picture has it, half of whose bits are set.
"""

import numpy as np

from clipsearch.types import Pixels

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
    rows, columns = np.arange(SIDE) * height // SIDE, np.arange(SIDE) * width // SIDE
    sums = np.add.reduceat(pixels.reshape(height, width * 3), rows, axis=0, dtype=np.uint32).reshape(SIDE, width, 3)
    sums = np.add.reduceat(sums, columns, axis=1)
    areas = np.outer(np.diff(rows, append=height), np.diff(columns, append=width)).astype(np.float32)
    grey = (sums.astype(np.float32) @ _GREY) / areas
    if grey.std() < _FLAT_SPREAD:
        return FLAT
    waves = (_WAVES @ grey @ _WAVES.T)[_U, _V]
    return int(np.packbits(waves > np.median(waves)).view(np.int64)[0])
