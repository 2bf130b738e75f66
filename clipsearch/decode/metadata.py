"""What a picture's EXIF says: when, with what, where.

All of it is optional and none of it is trusted: a field that cannot be read or makes no sense is None, and no field
costs the picture. Read it after the pixels are loaded, never before: reading the EXIF of a broken PNG first leaves a
half-decoded picture that then loads without an error.
"""

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from PIL import Image

_MAKE, _MODEL, _DATE_TIME, _ORIENTATION = 0x010F, 0x0110, 0x0132, 0x0112
_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_TAKEN, _DIGITIZED, _LENS = 0x9003, 0x9004, 0xA434
_LONGEST = 200  # characters of a name; the field may hold 64 KB

T = TypeVar("T")
_Tags = Mapping[int, Any]  # Any: EXIF values are text, bytes, numbers, rationals or tuples of them

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_orientation(image: Image.Image) -> Image.Transpose | None:
    """Return how to turn a loaded picture upright; None when it is, or when nothing sensible is said."""
    value = _quietly(lambda: image.getexif().get(_ORIENTATION))
    return _TRANSPOSE.get(value) if isinstance(value, int) else None


def read_exif(image: Image.Image) -> dict[str, Any]:  # Any: the fields of ImageMetadata
    """Return taken, camera, lens, latitude and longitude of a loaded picture, each None where unknown."""
    tags: _Tags = _quietly(image.getexif) or {}
    exif: _Tags = _quietly(lambda: image.getexif().get_ifd(_EXIF_IFD)) or {}
    gps: _Tags = _quietly(lambda: image.getexif().get_ifd(_GPS_IFD)) or {}
    latitude, longitude = _quietly(lambda: read_position(gps)) or (None, None)
    return {
        "taken": _quietly(lambda: read_taken(tags, exif)),
        "camera": _quietly(lambda: read_camera(tags.get(_MAKE), tags.get(_MODEL))),
        "lens": _quietly(lambda: clean_text(exif.get(_LENS))),
        "latitude": latitude,
        "longitude": longitude,
    }


def _quietly(read: Callable[[], T]) -> T | None:
    """Return what was read, or None: no list of what hostile metadata can raise is complete."""
    try:
        return read()
    except Exception:
        return None


def clean_text(value: object) -> str | None:
    """Return a text field on one line without padding; None where nothing is left."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return None
    text = value.split("\0", 1)[0].encode("utf-8", "replace").decode("utf-8")
    text = " ".join("".join(c if c.isprintable() else " " for c in text[:_LONGEST]).split())
    return text or None


def read_camera(make: object, model: object) -> str | None:
    """Return "Canon EOS 5D", whether the model repeats the maker or not."""
    maker, name = clean_text(make), clean_text(model)
    if maker is None or name is None:
        return name or maker
    # "NIKON CORPORATION" makes the "NIKON D90": the first word tells.
    if name.lower().startswith(maker.lower().split()[0]):
        return name
    return f"{maker} {name}"


def read_taken(tags: _Tags, exif: _Tags) -> datetime | None:
    """Return when the picture was taken, in the camera's local time (naive); fractions and offsets are left out."""
    for value in (exif.get(_TAKEN), exif.get(_DIGITIZED), tags.get(_DATE_TIME)):
        text = clean_text(value)
        if text is None:
            continue
        digits = text[:19].replace("/", ":").replace("-", ":").replace("T", " ")
        for pattern in ("%Y:%m:%d %H:%M:%S", "%Y:%m:%d %H:%M", "%Y:%m:%d"):
            try:
                return datetime.strptime(digits, pattern)
            except ValueError:
                continue
    return None


def read_position(gps: _Tags) -> tuple[float, float] | None:
    """Return latitude and longitude in degrees, north and east positive; None unless both make sense."""
    latitude = _degrees(gps.get(2), gps.get(1), "S", 90.0)
    longitude = _degrees(gps.get(4), gps.get(3), "W", 180.0)
    if latitude is None or longitude is None or (latitude == 0 and longitude == 0):
        return None  # 0, 0 is what a receiver without a fix writes
    return latitude, longitude


def _degrees(value: Any, reference: object, negative: str, largest: float) -> float | None:
    if value is None:
        return None
    parts = [float(part) for part in (value if isinstance(value, tuple | list) else (value,))][:3]
    degrees = sum(part / 60**place for place, part in enumerate(parts))
    side = clean_text(reference) or ""
    if side[:1].upper() == negative:
        degrees = -degrees
    return degrees if parts and math.isfinite(degrees) and abs(degrees) <= largest else None
