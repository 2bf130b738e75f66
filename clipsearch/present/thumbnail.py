"""What a contact sheet and a preview are made of."""

from collections.abc import Sequence
from dataclasses import dataclass

from clipsearch.types import Pixels


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """One hit as a small picture.

    Attributes:
        title: rank and score.
        name: file name.
        pixels: (h, w, 3) uint8 RGB, upright; None where the file could not be read.
        reason: why there are no pixels.
        badge: word drawn over the picture, such as that it is generated; "" for a photo.
    """

    title: str
    name: str
    pixels: Pixels | None = None
    reason: str = ""
    badge: str = ""


def grid(thumbnails: Sequence[Thumbnail], columns: int) -> list[Sequence[Thumbnail]]:
    """Return the thumbnails in rows of at most ``columns``."""
    return [thumbnails[start : start + columns] for start in range(0, len(thumbnails), columns)]
