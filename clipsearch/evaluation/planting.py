"""Copies of pictures as they come about: saved again, at another size, in another format, cropped, or a moment later.

A detector of duplicates is measured by planting these among pictures and counting which it finds. All of them are made
of pixels and carry no EXIF, as pictures do that went through a messenger; only the frames of a burst have a camera and
a time, which is what bursts go by.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from PIL import Image, ImageEnhance

BURST_SECONDS = 2  # between the two frames of a burst
BURST_SHIFT = 0.04  # of the sides, from one frame to the next
CAMERA = "clipsearch planted"
_FIRST = datetime(2000, 1, 1, 12)
_MODEL, _DATE_TIME = 0x0110, 0x0132


@dataclass(frozen=True, slots=True)
class Copy:
    """A way in which a copy comes about.

    Attributes:
        name: what people call it.
        change: returns what is saved of an RGB picture.
        format: Pillow's name of the format that it is saved in; ``suffix`` is that of such files.
        quality: what it is saved with, 1 to 100.
    """

    name: str
    change: Callable[[Image.Image], Image.Image] = lambda image: image
    format: str = "JPEG"
    quality: int = 90
    suffix: str = ".jpg"

    def made(self, image: Image.Image) -> bytes:
        """Return the file that is the copy of an RGB picture."""
        return _saved(self.change(image), self.format, quality=self.quality)


def scaled(image: Image.Image, factor: float) -> Image.Image:
    """Return a picture at another size, of at least 8 pixels a side."""
    width, height = (max(8, round(side * factor)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def cropped(image: Image.Image, share: float) -> Image.Image:
    """Return a picture without so much of its width and height on each side."""
    width, height = image.size
    x, y = round(width * share), round(height * share)
    return image.crop((x, y, max(x + 1, width - x), max(y + 1, height - y)))


COPIES = {
    copy.name: copy
    for copy in (
        Copy("JPEG, quality 90"),
        Copy("JPEG, quality 75", quality=75),
        Copy("JPEG, quality 50", quality=50),
        Copy("WebP, quality 80", format="WEBP", quality=80, suffix=".webp"),
        Copy("WebP, quality 60", format="WEBP", quality=60, suffix=".webp"),
        Copy("half the size", lambda image: scaled(image, 0.5)),
        Copy("twice the size", lambda image: scaled(image, 2), quality=50),
        Copy("cropped by 1 %", lambda image: cropped(image, 0.01)),
        Copy("cropped by 2 %", lambda image: cropped(image, 0.02)),
        Copy("cropped by 4 %", lambda image: cropped(image, 0.04)),
        Copy("10 % brighter", lambda image: ImageEnhance.Brightness(image).enhance(1.1)),
    )
}


def burst(image: Image.Image, number: int) -> tuple[bytes, bytes]:
    """Return two frames of a picture, JPEG: the second is shifted, and taken ``BURST_SECONDS`` after the first.

    Args:
        image: RGB.
        number: of the burst; each has a day of its own, so that no two of them meet.
    """
    width, height = image.size
    x, y = round(width * BURST_SHIFT), round(height * BURST_SHIFT)
    boxes = ((0, 0, max(1, width - x), max(1, height - y)), (x, y, width, height))
    start = _FIRST + timedelta(days=number)
    first, second = (
        _saved(image.crop(box), "JPEG", quality=92, exif=_exif(start + timedelta(seconds=n * BURST_SECONDS)))
        for n, box in enumerate(boxes)
    )
    return first, second


def _exif(taken: datetime) -> Image.Exif:
    exif = Image.Exif()
    exif[_MODEL], exif[_DATE_TIME] = CAMERA, taken.strftime("%Y:%m:%d %H:%M:%S")
    return exif


def _saved(image: Image.Image, kind: str, **how: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()
