"""Variants of pictures that a generator makes of them, image to image; marked as generated like all that it makes."""

import os
from collections.abc import Mapping

import numpy as np

from clipsearch.embed.preprocess import Preprocess
from clipsearch.flows.augment_images import Row
from clipsearch.flows.generators import Chosen
from clipsearch.generate.base import Options
from clipsearch.generate.hardware import library_version
from clipsearch.generate.provenance import Origin, encode_png, prompt_digest
from clipsearch.generate.service import GeneratorService
from clipsearch.generate.weights import weights_digest
from clipsearch.types import Decoded, Pixels

STRENGTH = 0.5
SECONDS = 300.0  # for one picture, loading included


class VariantDrawer:
    """Draws variants; a picture's prompt is its caption, or the folder that it is in."""

    def __init__(
        self, chosen: Chosen, service: GeneratorService, strength: float, captions: Mapping[str, str] | None = None
    ) -> None:
        """Prepare; nothing is loaded yet.

        Args:
            chosen: the generator.
            service: runs it.
            strength: how far to go from the picture, above 0 to 1.
            captions: path below the folder, or a file's name, to what the picture shows.
        """
        self._chosen, self._service, self._strength = chosen, service, strength
        self._captions = captions or {}
        folder = chosen.setup.folder
        self._weights = weights_digest(folder, None) if folder else ""

    def recipe(self, picture: Decoded) -> Row:
        """Return what decides the variant of a picture; the prompt by its digest, for it may be private."""
        card = self._chosen.card
        return {
            "generator": card.name,
            "weights": self._weights,
            "licence": card.licence,
            "strength": self._strength,
            "prompt_sha256": prompt_digest(self._prompt(picture)),
        }

    def draw(self, picture: Decoded, seed: int) -> bytes:
        """Return the variant as a PNG that says it was generated of that picture.

        Raises:
            InputError: the generator cannot start from a picture.
            GenerationError: nothing was drawn; Refused: its safety check refused this one.
        """
        card, prompt, digest = self._chosen.card, self._prompt(picture), picture.content_hash.hex()
        options = Options(
            card.width, card.height, card.steps, card.guidance_scale, source=digest, strength=self._strength
        )
        source = _cropped(picture.pixels, card.width, card.height)
        drawn = self._service.draw(prompt, 1, seed, options, source, seconds=SECONDS)
        software = f"clipsearch {library_version('clipsearch')}".strip()
        origin = Origin(software, card.name, self._weights, card.licence, prompt, seed, digest)
        return encode_png(drawn.pixels[0], origin)

    def _prompt(self, picture: Decoded) -> str:
        path = os.fsdecode(picture.ref.path)
        caption = self._captions.get(path) or self._captions.get(os.path.basename(path))
        folder = os.path.basename(os.path.dirname(path)).replace("_", " ").replace("-", " ").strip()
        return caption or (f"a photo of {folder}" if folder else "a photo")


def _cropped(pixels: Pixels, width: int, height: int) -> Pixels:
    """Return the centre of a picture (H, W, 3), resized to (height, width, 3)."""
    from PIL import Image

    side = max(width, height)
    square = Preprocess(size=side)(Image.fromarray(pixels))
    y, x = (side - height) // 2, (side - width) // 2
    return np.ascontiguousarray(square[y : y + height, x : x + width])
