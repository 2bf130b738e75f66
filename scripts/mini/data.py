"""What the mini encoder is trained on: pictures, captions, class names, and their variations.

Pictures are varied before the frozen part of the network (a random crop of any aspect, a mirror image, brightness, contrast and
saturation), captions by shortening them: people type "dog beach", not "a brown dog runs along the beach".
"""

from __future__ import annotations

import csv
import io
import random
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = 224
STOP_WORDS = frozenset(
    "a an the is are was be being been has have had of to in on at by with and or as it its his her their them he she they who which "
    "that this these those there while from into for over up down out off near through around across behind along some one two other "
    "another each very".split()
)
PROMPTS = ("a photo of {}", "a picture of {}", "{}", "{}", "{}", "an image with {}")
PREPOSITIONS = re.compile(r"\b(?:in|on|at|with|near|through|over|while|by|from|to|into|wearing|holding)\b")


def read_captions(csv_path: Path) -> dict[str, list[str]]:
    """Read an ``image,caption`` table: file name -> its captions, in the order of the file."""
    table: dict[str, list[str]] = {}
    with csv_path.open(newline="", encoding="utf-8") as handle:
        for row in csv.DictReader(handle):
            table.setdefault(row["image"], []).append(row["caption"].strip())
    return table


def read_images(tar_path: Path) -> dict[str, bytes]:
    """Read every file of a tar archive into memory: base name -> bytes."""
    with tarfile.open(tar_path) as archive:
        return {Path(m.name).name: _read(archive, m) for m in archive if m.isfile()}


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    handle = archive.extractfile(member)
    assert handle is not None
    return handle.read()


def open_rgb(raw: bytes) -> Image.Image:
    """Decode to RGB."""
    return Image.open(io.BytesIO(raw)).convert("RGB")


def squash(image: Image.Image, size: int = SIZE) -> Image.Image:
    """Resize to a square without keeping the aspect: the whole picture is seen."""
    return image if image.size == (size, size) else image.resize((size, size), Image.Resampling.BICUBIC)


def centre_crop(image: Image.Image, size: int = SIZE) -> Image.Image:
    """Resize the shorter edge to ``size`` and keep the centre square."""
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))


def random_view(image: Image.Image, rng: random.Random, size: int = SIZE) -> Image.Image:
    """Vary a picture: a crop of 50 to 100 % of its area, mirrored half of the time, with other light and colour."""
    box = _random_box(image.width, image.height, rng)
    view = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    if rng.random() < 0.5:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return _recolour(view, rng)


def _random_box(width: int, height: int, rng: random.Random) -> tuple[float, float, float, float]:
    area, ratio = rng.uniform(0.5, 1.0), float(np.exp(rng.uniform(np.log(0.65), np.log(1.5))))
    w, h = min(1.0, (area * ratio) ** 0.5) * width, min(1.0, (area / ratio) ** 0.5) * height
    left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
    return left, top, left + w, top + h


def _recolour(image: Image.Image, rng: random.Random) -> Image.Image:
    pixels = np.asarray(image, np.float32) * rng.uniform(0.75, 1.25)
    middle = pixels.mean()
    pixels = (pixels - middle) * rng.uniform(0.75, 1.25) + middle
    grey = pixels.mean(-1, keepdims=True)
    pixels = grey + (pixels - grey) * rng.uniform(0.6, 1.25)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def pixel_batches(raws: list[bytes], view: int, batch: int = 64) -> Iterator[NDArray[np.uint8]]:
    """Yield uint8 (B, S, S, 3): view 0 is the picture as it is, any other a random view seeded by picture and view."""
    for start in range(0, len(raws), batch):
        yield np.stack([_one(raw, view, start + i) for i, raw in enumerate(raws[start : start + batch])])


def _one(raw: bytes, view: int, position: int) -> NDArray[np.uint8]:
    image = open_rgb(raw)
    return np.asarray(squash(image) if view == 0 else random_view(image, random.Random(view * 1_000_003 + position)))


def keywords(caption: str) -> str:
    """Keep the content words of a caption: "A brown dog is running on the beach ." -> "brown dog running beach"."""
    words = [w for w in re.findall(r"[a-z][a-z'-]*", caption.lower()) if w not in STOP_WORDS]
    return " ".join(words) or caption


def shorten(caption: str, rng: random.Random) -> str:
    """Make one short query out of a caption: a stretch of its content words, or its first phrase, with or without a prompt."""
    if rng.random() < 0.5:
        phrase = PREPOSITIONS.split(caption.lower().rstrip(" ."))[0].strip() or caption
        return rng.choice(PROMPTS).format(phrase)
    words = keywords(caption).split()
    count = rng.randint(2, 5)
    start = rng.randint(0, max(0, len(words) - count))
    return rng.choice(PROMPTS).format(" ".join(words[start : start + count]))


def class_names() -> list[str]:
    """The 1,000 ImageNet class names in open_clip's wording."""
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    return list(IMAGENET_CLASSNAMES)
