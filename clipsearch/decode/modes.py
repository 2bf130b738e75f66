"""Bring any picture mode to 8-bit RGB as a viewer would show it.

Pillow's own ``convert("RGB")`` clips where it should scale: a 16-bit grey picture comes out blank, a float one nearly
black, and transparent pixels show the colour that lies hidden under them. None of this raises anything; the embedding
would simply be wrong.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_STRIP_PIXELS = 1 << 20
_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
# Cameras and scanners have 10, 12, 14 or 16 bits. A deep file with less than 8 in use has even its dark details there.
_DEPTH_WHITES = (1.0, 3.0, 7.0, 15.0, 31.0, 63.0, 127.0, 255.0, 1_023.0, 4_095.0, 16_383.0, 65_535.0)
_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")


def to_rgb(image: Image.Image, factor: int = 1) -> Image.Image:
    """Return a picture as RGB: deep pixels scaled to 8 bits, transparency on white.

    Args:
        image: the picture, of any mode, loaded.
        factor: shrink by this whole number on the way, in strips, so that a large picture is never held twice.
    """
    scale = _deep_range(image) if image.mode in _DEEP else None
    if factor == 1:
        return _convert(image, scale)
    width, height = -(-image.width // factor), -(-image.height // factor)
    small = Image.new("RGB", (width, height))
    for strip, top in _strips(image, factor):
        small.paste(_convert(strip, scale).reduce(factor), (0, top // factor))
    return small


def _strips(image: Image.Image, factor: int = 1) -> Iterator[tuple[Image.Image, int]]:
    """Cut a picture into strips of whole multiples of ``factor`` rows; yields each with its first row."""
    rows = max(1, _STRIP_PIXELS // (image.width * factor)) * factor
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        strip.info = image.info  # crop keeps it, some plugins' subclasses do not: transparency lies there
        yield strip, top


def _convert(image: Image.Image, scale: tuple[float, float] | None) -> Image.Image:
    if scale is not None:
        return _deep_to_grey(image, *scale).convert("RGB")
    if image.mode in _ALPHA or "transparency" in image.info:
        return _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(rgba, mask=rgba.getchannel("A"))
    return white


def _deep_range(image: Image.Image) -> tuple[float, float]:
    """Return the values that become black and white: those of the bit depth, which the largest value shows.

    A 12-bit scanner writes 16-bit files that hold 0 to 4,095, and no tag says so. Floats up to 1 are a fraction of
    white; anything that fits no depth is stretched.
    """
    low, high = np.inf, -np.inf
    for strip, _ in _strips(image):
        values = _finite(strip)
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    if low > high:
        return 0.0, 1.0
    whites = (1.0, 255.0, 65_535.0) if image.mode == "F" else _DEPTH_WHITES
    if low >= 0 and high <= whites[-1]:
        return 0.0, next(white for white in whites if high <= white)
    return low, high if high > low else low + 1.0


def _finite(strip: Image.Image) -> NDArray[np.float32]:
    values = np.asarray(strip, dtype=np.float32)
    return values[np.isfinite(values)]


def _deep_to_grey(image: Image.Image, low: float, high: float) -> Image.Image:
    values = np.nan_to_num(np.asarray(image, dtype=np.float32), nan=low, posinf=high, neginf=low)
    grey = np.clip((values - low) * (255.0 / (high - low)) + 0.5, 0, 255)
    return Image.fromarray(grey.astype(np.uint8))
