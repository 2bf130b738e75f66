"""A small set of pictures, good and bad, made on the spot."""

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from clipsearch.types import ImageRef


def scene(width=96, height=64):
    """A picture without symmetry: its eight orientations all differ."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    red = 255 * x / width
    green = 255 * (y / height) ** 2
    blue = 255 * np.exp(-(((x - width / 4) / 12) ** 2) - ((y - height / 4) / 9) ** 2)
    return Image.fromarray(np.stack([red, green, blue], -1).astype(np.uint8))


def encoded(image, kind, **options):
    if kind in ("HEIF",):
        import pillow_heif

        pillow_heif.register_heif_opener()
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width, height, bits=1, colour=0):
    """A PNG that claims a size and holds one line of data."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def scan_bomb(scans=2000):
    """A progressive JPEG with its last scan repeated."""
    data = encoded(scene(), "JPEG", progressive=True)
    at = data.rindex(b"\xff\xda")
    return data[:at] + data[at:-2] * scans + b"\xff\xd9"


def correlation(a, b):
    return np.corrcoef(np.asarray(a, float).ravel(), np.asarray(b, float).ravel())[0, 1]


def ref_of(path: Path) -> ImageRef:
    status = path.stat()
    root, name = str(path.parent).encode(), path.name.encode()
    return ImageRef(root, name, None, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def bad_images(test_data):
    folder = test_data / "badimages"
    for line in (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        yield row, folder / "files" / row["file"]


def make_photo(path: Path, colour, seed=0, size=(96, 64)) -> Path:
    """Write a picture of one colour with seeded noise."""
    noise = np.random.default_rng(seed).integers(-8, 9, (size[1], size[0], 3))
    Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(path)
    return path
