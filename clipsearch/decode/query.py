"""Decode the picture that somebody searches with: the same worker, the same limits, an error instead of a Skip."""

import os
from typing import BinaryIO

from clipsearch.decode.limits import DecodeLimits
from clipsearch.decode.workers import DecodePool, DecodeRequest, PreprocessSpec
from clipsearch.errors import QueryImageError
from clipsearch.types import Decoded, ImageRef, Pixels, Skip, display_path

_ADVICE = "Give a picture that a viewer opens: JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC."


def decode_query(
    source: bytes | str | os.PathLike[str] | BinaryIO,
    preprocess: PreprocessSpec,
    limits: DecodeLimits = DecodeLimits(),  # noqa: B008 (frozen)
) -> Pixels:
    """Decode one picture.

    Args:
        source: a path, the bytes of an image file, or a binary stream of them.
        preprocess: the encoder's preprocessing.
        limits: what the picture may cost.

    Returns:
        pixels (S, S, 3) uint8 RGB, upright.

    Raises:
        QueryImageError: it cannot be read; names the file and says why.
    """
    name, request = _request(source)
    with DecodePool(preprocess, workers=1, limits=limits) as pool:
        result = next(iter(pool.run([request])))
    if isinstance(result, Decoded):
        return result.pixels
    reason = f"{result.detail} ({result.reason})" if isinstance(result, Skip) else "it was not decoded"
    raise QueryImageError(f"The query image {name} cannot be read: {' '.join(reason.split())}.\n{_ADVICE}")


def _request(source: bytes | str | os.PathLike[str] | BinaryIO) -> tuple[str, DecodeRequest]:
    """Return how to name a picture in a message, and the request for it."""
    if isinstance(source, str | os.PathLike):
        place = os.path.abspath(os.fsencode(source))
        shown = display_path(os.fsencode(source)).replace("\n", "\\n")
        return repr(shown), DecodeRequest(ImageRef(b"/", place.lstrip(b"/"), None, 0, 0, 0))
    name = getattr(source, "name", None)
    data = source if isinstance(source, bytes) else source.read()
    shown = repr(name) if isinstance(name, str) else f"of {len(data):,} bytes"
    return shown, DecodeRequest(ImageRef(b"/", b"query", None, len(data), 0, 0), data=bytes(data))
