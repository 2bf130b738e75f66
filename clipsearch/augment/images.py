"""Variants of pictures for people who train models: what a photo could as well have looked like.

Each kind changes one thing, by numbers that are drawn at random and written down; kinds can be put one after the other
(``crop+colour+jpeg``). The random numbers come from the seed, the picture's bytes, the kind and the variant's number,
so a variant is the same whenever it is made, whatever else is made beside it.
"""

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter
from PIL.PngImagePlugin import PngInfo

from clipsearch.errors import UnknownNameError
from clipsearch.registry import suggest
from clipsearch.types import Pixels

VERSION = 1  # of what the kinds do: another one makes variants anew
ENHANCED = "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicallyEnhanced"

Parameters = dict[str, Any]  # Any: JSON numbers
Operation = Callable[[Image.Image, np.random.Generator], tuple[Image.Image, Parameters]]


def make_variant(pixels: Pixels, kind: str, number: int, seed: int, digest: str) -> tuple[Pixels, list[Parameters]]:
    """Return a variant (h, w, 3) uint8 of a picture (H, W, 3) uint8, and what was done to it.

    Args:
        pixels: the picture.
        kind: a name of ``KINDS``, or several with + between them.
        number: of the variant; another number is another variant.
        seed: of all variants.
        digest: SHA-256 (hex) of the picture's file.

    Raises:
        UnknownNameError: there is no such kind.
    """
    steps = parse_kind(kind)
    key = hashlib.sha256(f"{VERSION}\0{seed}\0{digest}\0{kind}\0{number}".encode()).digest()
    random = np.random.default_rng(list(key))
    image, done = Image.fromarray(pixels), list[Parameters]()
    for step in steps:
        image, parameters = KINDS[step](image, random)
        done.append({"operation": step, **parameters})
    return np.asarray(image), done


def parse_kind(kind: str) -> Sequence[str]:
    """Return the steps of a kind such as ``crop+colour``.

    Raises:
        UnknownNameError: there is no such kind.
    """
    steps = kind.split("+")
    for step in steps:
        if step not in KINDS:
            raise UnknownNameError(suggest("kind of variant", step, KINDS))
    return steps


def encode_variant(pixels: Pixels, digest: str, operations: Sequence[Mapping[str, Any]]) -> bytes:
    """Return a variant (H, W, 3) uint8 as a PNG that says of which picture it was made, and how.

    It is no generated picture and is not marked as one: IPTC's word for it is ``algorithmicallyEnhanced``.
    """
    marks, file = PngInfo(), io.BytesIO()
    marks.add_itxt("XML:com.adobe.xmp", _XMP)
    marks.add_text("clipsearch:derived-from", digest)
    marks.add_text("clipsearch:operations", json.dumps(list(operations)))
    Image.fromarray(pixels).save(file, "PNG", pnginfo=marks)
    return file.getvalue()


_XMP = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
   <Iptc4xmpExt:DigitalSourceType>{ENHANCED}</Iptc4xmpExt:DigitalSourceType>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""


def _draw(random: np.random.Generator, low: float, high: float) -> float:
    return round(float(random.uniform(low, high)), 4)


def _flip(image: Image.Image, random: np.random.Generator) -> tuple[Image.Image, Parameters]:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), {}


def _crop(image: Image.Image, random: np.random.Generator) -> tuple[Image.Image, Parameters]:
    """Cut out a part of a like form, and bring it back to the size of the whole."""
    width, height = image.size
    area, stretch = _draw(random, 0.5, 0.95), _draw(random, 0.85, 1.18)
    w = int(np.clip(round(width * np.sqrt(area * stretch)), 1, width))
    h = int(np.clip(round(height * np.sqrt(area / stretch)), 1, height))
    x, y = int(random.integers(0, width - w + 1)), int(random.integers(0, height - h + 1))
    part = image.resize((width, height), Image.Resampling.BICUBIC, box=(x, y, x + w, y + h))
    return part, {"x": x, "y": y, "width": w, "height": h}


def _rotate(image: Image.Image, random: np.random.Generator) -> tuple[Image.Image, Parameters]:
    """Turn by a few degrees, and enlarge so that no empty corner shows."""
    angle = _draw(random, 3.0, 15.0) * (1 if random.random() < 0.5 else -1)
    width, height = image.size
    radians = np.deg2rad(abs(angle))
    long, short = max(width, height), min(width, height)
    scale = float(np.cos(radians) + np.sin(radians) * long / short)
    # the largest part of the same form without a corner, about the centre, and a little less: edges are blended
    inner = (max(1.0, width / scale - 4), max(1.0, height / scale - 4))
    turned = image.rotate(angle, Image.Resampling.BICUBIC)
    x, y = (width - inner[0]) / 2, (height - inner[1]) / 2
    part = turned.resize((width, height), Image.Resampling.BICUBIC, box=(x, y, x + inner[0], y + inner[1]))
    return part, {"degrees": angle}


def _colour(image: Image.Image, random: np.random.Generator) -> tuple[Image.Image, Parameters]:
    names = ("brightness", "contrast", "saturation")
    values = {name: _draw(random, 0.65, 1.35) for name in names}
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for enhancer, value in zip(enhancers, values.values(), strict=True):
        image = enhancer(image).enhance(value)
    return image, values


def _grey(image: Image.Image, random: np.random.Generator) -> tuple[Image.Image, Parameters]:
    return image.convert("L").convert("RGB"), {}


def _blur(image: Image.Image, random: np.random.Generator) -> tuple[Image.Image, Parameters]:
    radius = round(_draw(random, 0.003, 0.012) * min(image.size), 3)  # pixels; a share of the picture at any size
    return image.filter(ImageFilter.GaussianBlur(radius)), {"radius": radius}


def _noise(image: Image.Image, random: np.random.Generator) -> tuple[Image.Image, Parameters]:
    sigma = _draw(random, 4.0, 16.0)  # grey levels
    pixels = np.asarray(image, np.float32)
    noisy = pixels + sigma * random.standard_normal(pixels.shape, np.float32)
    return Image.fromarray(np.clip(noisy.round(), 0, 255).astype(np.uint8)), {"sigma": sigma}


def _jpeg(image: Image.Image, random: np.random.Generator) -> tuple[Image.Image, Parameters]:
    quality, file = int(random.integers(15, 60)), io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    with Image.open(file, formats=["JPEG"]) as again:
        return again.convert("RGB"), {"quality": quality}


KINDS: dict[str, Operation] = {
    "flip": _flip,
    "crop": _crop,
    "colour": _colour,
    "rotate": _rotate,
    "jpeg": _jpeg,
    "blur": _blur,
    "noise": _noise,
    "grey": _grey,
}
