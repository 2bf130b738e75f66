"""Decode the picture that somebody searches with: the same worker, the same limits, an error instead of a Skip."""

import os
from collections.abc import Sequence
from typing import BinaryIO

from clipsearch.decode.limits import DecodeLimits
from clipsearch.decode.workers import DecodePool, DecodeRequest, PreprocessSpec
from clipsearch.errors import QueryImageError
from clipsearch.types import Decoded, ImageRef, Pixels, Skip, SkipReason, display_path

_ADVICE = "Give a picture that a viewer opens: JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC."


def decode_query(
    source: bytes | str | os.PathLike[str] | BinaryIO,
    preprocess: PreprocessSpec,
    limits: DecodeLimits = DecodeLimits(),  # noqa: B008 (frozen)
) -> Pixels:
    """Decode one picture; see ``decode_queries``."""
    return decode_queries([source], preprocess, limits)[0]


def decode_queries(
    sources: Sequence[bytes | str | os.PathLike[str] | BinaryIO],
    preprocess: PreprocessSpec,
    limits: DecodeLimits = DecodeLimits(),  # noqa: B008 (frozen)
) -> list[Pixels]:
    """Decode pictures, in one pool of workers.

    Args:
        sources: for each, a path, the bytes of an image file, or a binary stream of them.
        preprocess: the encoder's preprocessing.
        limits: what a picture may cost.

    Returns:
        pixels (S, S, 3) uint8 RGB, upright, for each.

    Raises:
        QueryImageError: one of them cannot be read; names the file and says why.
    """
    named = [_request(source) for source in sources]
    pixels = []
    with DecodePool(preprocess, workers=min(len(named), 4), limits=limits) as pool:
        for (name, _), result in zip(named, pool.run([request for _, request in named]), strict=True):
            if not isinstance(result, Decoded):
                raise QueryImageError(f"The query image {name} cannot be read: {_reason(result)}")
            pixels.append(result.pixels)
    return pixels


def _reason(result: object) -> str:
    """Return why a picture could not be decoded, and what to do."""
    if not isinstance(result, Skip):
        return f"it was not decoded.\n{_ADVICE}"
    if result.reason == SkipReason.VANISHED:
        return "there is no such file.\nGive the path of a picture."
    if result.reason == SkipReason.NOT_REGULAR_FILE:
        return "it is a folder, or no file of data.\nGive the path of a picture."
    return f"{' '.join(f'{result.detail} ({result.reason})'.split())}.\n{_ADVICE}"


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
