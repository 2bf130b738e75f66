"""What the mini encoder is trained on: pictures, captions, class names, and their variations.

Pictures are varied before the frozen part of the network (a random crop of any aspect, a mirror image, brightness,
contrast and saturation), captions by shortening them: people type "dog beach", not "a brown dog runs on the beach".
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
    """
    a an the is are was be being been has have had of to in on at by with and or as it its his her their
    them he she they who which that this these those there while from into for over up down out off near
    through around across behind along some one two other another each very
    """.split()  # noqa: SIM905  readable so
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


def random_view(image: Image.Image, rng: random.Random) -> Image.Image:
    """Vary a picture: a crop of 45 to 100 % of its area, mirrored half of the time, with other light and colour."""
    view = image.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=_random_box(image.width, image.height, rng))
    if rng.random() < 0.5:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return _recolour(view, rng)


def _random_box(width: int, height: int, rng: random.Random) -> tuple[int, int, int, int]:
    w, h = width, height
    for _ in range(10):
        area, ratio = width * height * rng.uniform(0.45, 1), np.exp(rng.uniform(np.log(0.7), np.log(1.4)))
        w, h = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if w <= width and h <= height:
            break
    else:
        w, h = width, height
    left, top = rng.randint(0, width - w), rng.randint(0, height - h)
    return left, top, left + w, top + h


def _recolour(image: Image.Image, rng: random.Random) -> Image.Image:
    pixels = np.asarray(image).astype(np.float32) * rng.uniform(0.8, 1.2)
    middle = pixels.mean()
    pixels = (pixels - middle) * rng.uniform(0.8, 1.2) + middle
    grey = pixels.mean(-1, keepdims=True)
    pixels = grey + (pixels - grey) * rng.uniform(0.7, 1.2)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def view_of(image: Image.Image, view: int, position: int) -> Image.Image:
    """View 0 is the picture squashed to a square, 1 its mirror image, any other random, seeded by view and position."""
    square = squash(image)
    if view == 0:
        return square
    if view == 1:
        return square.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return random_view(square, random.Random(view * 100_000 + position))


def pixel_batches(raws: list[bytes], view: int, batch: int = 64) -> Iterator[NDArray[np.uint8]]:
    """Yield uint8 (B, S, S, 3) of one view."""
    for start in range(0, len(raws), batch):
        chosen = raws[start : start + batch]
        yield np.stack([np.asarray(view_of(open_rgb(raw), view, start + i)) for i, raw in enumerate(chosen)])


def keywords(caption: str) -> str:
    """Keep the content words of a caption: "A brown dog is running on the beach ." -> "brown dog running beach"."""
    words = [w for w in re.findall(r"[a-z][a-z'-]*", caption.lower()) if w not in STOP_WORDS]
    return " ".join(words) or caption


def shorten(caption: str, rng: random.Random) -> str:
    """Make a short query out of a caption: some of its content words or its first phrase, with or without a prompt."""
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
