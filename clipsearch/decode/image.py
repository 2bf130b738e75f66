"""Decode one image: its bytes to upright RGB pixels, or a DecodeFailure that says why not.

The order of steps matters:

1. Look at the first bytes; only formats of the allow-list go further, each to its own decoder.
2. Open: size and mode are known, no pixel is decoded. Too many pixels end it here; a WebP's canvas, which its
   decoder allocates when it is opened, is read from the bytes before.
3. Count a JPEG's scans: each costs a pass over the picture, and a small file holds thousands.
4. Let a JPEG decode small (``draft``): 12 megapixels cost 20 MB instead of 107.
5. Load. Whatever fails until here is the end of the file.
6. Read metadata. Whatever fails here costs nothing.
7. To 8-bit RGB, shrinking a large picture; turn it upright; hand it to the encoder's preprocessing.

This runs inside a worker that can be killed (``worker.py``): no decoder can be trusted to raise.
"""

import io
import warnings
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Protocol

from PIL import Image, ImageFile, UnidentifiedImageError

from clipsearch.decode.limits import DecodeFailure, DecodeLimits
from clipsearch.decode.marks import read_mark
from clipsearch.decode.metadata import read_exif, read_orientation
from clipsearch.decode.modes import to_rgb
from clipsearch.decode.sniff import ALLOWED, allowed_format, count_scans, is_cut_tiff, unsupported_format, webp_size
from clipsearch.types import ImageMetadata, Pixels, SkipReason

_PLUGINS = {"JPEG": "Jpeg", "PNG": "Png", "WEBP": "WebP", "GIF": "Gif", "BMP": "Bmp", "TIFF": "Tiff", "AVIF": "Avif"}
_SIDEWAYS = (
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_90,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
)
_LARGE = 8_000_000  # pixels; below, shrinking first saves less memory than the difference is worth


class Preprocess(Protocol):
    """What the encoder wants: an upright RGB picture in, uint8 (S, S, 3) out."""

    def __call__(self, image: Image.Image, /) -> Pixels:
        """Turn one picture into pixels."""
        ...


def decode_image(
    data: bytes, preprocess: Preprocess, limits: DecodeLimits, scaled: bool = True
) -> tuple[ImageMetadata, Pixels]:
    """Decode the bytes of one image file.

    Args:
        data: the whole file.
        preprocess: the encoder's preprocessing.
        limits: what the file may cost; time and memory are the worker's to watch.
        scaled: let large pictures decode or shrink to about twice the encoder's size first. Pixels then differ by
            a few grey levels from those of the full decode.

    Returns:
        what the file says of itself, and pixels (S, S, 3) uint8 RGB, upright.

    Raises:
        DecodeFailure: the image cannot be decoded, or may not by the limits.
    """
    target = 2 * int(getattr(preprocess, "size", 224)) if scaled else 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they tell of odd metadata; what matters raises
            with open_image(data, limits) as image:
                metadata, pixels = _read(image, preprocess, target)
            return replace(metadata, generated=read_mark(data)), pixels
    except DecodeFailure:
        raise
    except MemoryError:
        raise DecodeFailure(SkipReason.DECODE_MEMORY, "decoding needs more memory than a worker may take") from None
    except Exception as error:
        raise _failure(error) from error


def open_image(data: bytes, limits: DecodeLimits) -> ImageFile.ImageFile:
    """Open an image without decoding a pixel of it.

    Raises:
        DecodeFailure: it is none, of a format that is not allowed, or beyond the limits.
    """
    kind = _check_bytes(data, limits)
    try:
        image = _opener(kind)(data)
    except (UnidentifiedImageError, SyntaxError) as error:
        if kind == "TIFF" and is_cut_tiff(data):
            raise DecodeFailure(SkipReason.TRUNCATED, "the file ends before its directory") from error
        raise DecodeFailure(SkipReason.UNIDENTIFIED, f"begins as {kind} and cannot be opened as one") from error
    _check_size(image.size, limits)
    if kind == "JPEG" and (scans := count_scans(data, limits.max_scans)) > limits.max_scans:
        raise DecodeFailure(SkipReason.DECODE_TIMEOUT, f"{scans} scans; at most {limits.max_scans} are decoded")
    return image


def upright_rgb(image: Image.Image) -> Image.Image:
    """Return a picture that somebody opened as 8-bit RGB: turned upright, depth scaled, transparency on white."""
    image.load()
    turn = read_orientation(image)
    rgb = to_rgb(image)
    return rgb if turn is None else rgb.transpose(turn)


def _check_bytes(data: bytes, limits: DecodeLimits) -> str:
    """Return Pillow's name of the format, or raise what can be known without a decoder."""
    if not data:
        raise DecodeFailure(SkipReason.EMPTY, "the file has no bytes")
    kind = allowed_format(data)
    if kind is None:
        other = unsupported_format(data)
        if other is not None:
            raise DecodeFailure(SkipReason.UNSUPPORTED_FORMAT, f"{other} is not among {', '.join(ALLOWED)}")
        raise DecodeFailure(SkipReason.UNIDENTIFIED, "the content is not that of a known picture format")
    if kind == "WEBP" and (size := webp_size(data)) is not None:
        _check_size(size, limits)
    return kind


def _check_size(size: tuple[int, int], limits: DecodeLimits) -> None:
    width, height = size
    if width * height > limits.max_pixels:
        raise DecodeFailure(
            SkipReason.TOO_MANY_PIXELS, f"{width} x {height} pixels; at most {limits.max_pixels:,} are decoded"
        )


def _opener(kind: str) -> Callable[[bytes], ImageFile.ImageFile]:
    """Import the one plugin that is needed; Pillow would import all forty."""
    if kind == "HEIF":
        if "HEIF" not in Image.OPEN:
            import pillow_heif  # a large library, and most folders need it never

            pillow_heif.register_heif_opener(thumbnails=False)
    else:
        import_module(f"PIL.{_PLUGINS[kind]}ImagePlugin")
    return lambda data: Image.open(io.BytesIO(data), formats=[kind])


def _read(image: ImageFile.ImageFile, preprocess: Preprocess, target: int) -> tuple[ImageMetadata, Pixels]:
    """Load an opened image, then read what it says of itself, then shape it."""
    kind = "jpeg" if image.format == "MPO" else str(image.format).lower()
    width, height = image.size
    if target and kind == "jpeg":
        image.draft("RGB", (target, target))
    image.load()  # first frame only, of an animation
    turn = read_orientation(image)
    if turn in _SIDEWAYS:
        width, height = height, width
    metadata = ImageMetadata(width=width, height=height, format=kind, **read_exif(image))
    rgb = to_rgb(image, _shrink_factor(image.size, target))
    return metadata, preprocess(rgb if turn is None else rgb.transpose(turn))


def _shrink_factor(size: tuple[int, int], target: int) -> int:
    """Return the whole number to shrink by so that the shorter side keeps ``target`` pixels; 1 for small pictures."""
    if not target or size[0] * size[1] <= _LARGE:
        return 1
    return max(1, min(size) // target)


_MEMORY_WORDS = ("out of memory", "cannot allocate")


def _failure(error: Exception) -> DecodeFailure:
    """Return the failure that a decoder's exception stands for."""
    detail = " ".join(str(error).split())[:300] or type(error).__name__
    lower = detail.lower()
    if isinstance(error, Image.DecompressionBombError):
        return DecodeFailure(SkipReason.TOO_MANY_PIXELS, detail)
    if any(words in lower for words in _MEMORY_WORDS):
        return DecodeFailure(SkipReason.DECODE_MEMORY, detail)
    if "file is truncated" in lower:  # other messages of missing data also come from wrong sizes in a header
        return DecodeFailure(SkipReason.TRUNCATED, detail)
    return DecodeFailure(SkipReason.CORRUPT, detail)
