"""Picture → the square of pixels that an image tower wants: resize and crop, as the model was trained.

The result is uint8; scaling to 0..1 and subtracting the mean happen where the tower runs (``normalise`` here in
numpy, or on the device), because uint8 crosses a pipe or the bus to a GPU at a quarter of the cost of float32.

Three ways to make a picture square, with open_clip's names:

- ``shortest``: the short side becomes S, then the centre is cropped (CLIP). ``crop`` is another word for it.
- ``squash``: both sides become S and the aspect ratio is lost (SigLIP).
- ``longest``: the long side becomes S, then the rest is filled.

The pixels are equal, bit for bit, to those of open_clip's own transform; a model answers worse when they are not.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from clipsearch.types import Floats, Pixels

if TYPE_CHECKING:
    from PIL.Image import Image

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

_MODES = ("shortest", "squash", "longest")
# A strip of 1 x 20,000 pixels would grow to 224 x 4,480,000 (3 GB) before its centre is cropped. From this ratio of
# the sides on, only the part that survives the crop is resized.
_STRIP_RATIO = 16


@dataclass(frozen=True, slots=True)
class Preprocess:
    """Resize and crop to S x S, and the numbers of the normalisation that follows.

    Attributes:
        size: side S of the square, in pixels.
        mode: "shortest", "squash" or "longest".
        interpolation: "bicubic" or "bilinear", both with anti-aliasing.
        mean: per channel, on a scale of 0 to 1.
        std: per channel, on a scale of 0 to 1.
        fill: grey value (0-255) of the border that "longest" leaves.
    """

    size: int
    mode: str = "shortest"
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    fill: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "mode", "shortest" if self.mode == "crop" else self.mode)
        object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))  # lists, when it comes from JSON
        object.__setattr__(self, "std", tuple(float(value) for value in self.std))
        if self.mode not in _MODES:
            raise ValueError(f"mode is one of {', '.join(_MODES)}, not {self.mode!r}")
        if self.interpolation not in ("bicubic", "bilinear"):
            raise ValueError(f"interpolation is bicubic or bilinear, not {self.interpolation!r}")

    def __call__(self, image: "Image") -> Pixels:
        """Return the pixels (S, S, 3) uint8 of an upright picture."""
        image = image if image.mode == "RGB" else image.convert("RGB")
        square = {"shortest": self._shortest, "squash": self._squash, "longest": self._longest}[self.mode](image)
        return np.array(square, dtype=np.uint8)

    def spec(self) -> dict[str, Any]:  # Any: JSON values
        """Return what makes this object again, JSON-safe: {"factory": "module:name", "kwargs": {...}}."""
        kwargs = {
            "size": self.size,
            "mode": self.mode,
            "interpolation": self.interpolation,
            "mean": list(self.mean),
            "std": list(self.std),
            "fill": self.fill,
        }
        return {"factory": "clipsearch.embed.preprocess:Preprocess", "kwargs": kwargs}

    def normalise(self, pixels: Pixels) -> Floats:
        """Return what the tower sees: uint8 (B, S, S, 3) → float32 (B, 3, S, S), (x / 255 - mean) / std."""
        scaled = pixels.astype(np.float32) / np.float32(255)
        scaled -= np.array(self.mean, np.float32)
        scaled /= np.array(self.std, np.float32)
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))

    def _filter(self) -> Any:  # Any: PIL.Image.Resampling, and PIL is imported in the call only
        from PIL.Image import Resampling

        return Resampling.BILINEAR if self.interpolation == "bilinear" else Resampling.BICUBIC

    def _shortest(self, image: "Image") -> "Image":
        width, height = image.size
        short, long = min(width, height), max(width, height)
        if long > _STRIP_RATIO * short:
            return self._squash(_centre_square(image))
        grown = int(self.size * long / short)
        new = (self.size, grown) if width <= height else (grown, self.size)
        resized = image if image.size == new else image.resize(new, self._filter())
        left, top = (round((side - self.size) / 2.0) for side in new)
        return resized.crop((left, top, left + self.size, top + self.size))

    def _squash(self, image: "Image") -> "Image":
        new = (self.size, self.size)
        return image if image.size == new else image.resize(new, self._filter())

    def _longest(self, image: "Image") -> "Image":
        from PIL import Image

        ratio = max(image.size) / self.size
        width, height = (max(1, round(side / ratio)) for side in image.size)
        resized = image if image.size == (width, height) else image.resize((width, height), self._filter())
        if (width, height) == (self.size, self.size):
            return resized
        square = Image.new("RGB", (self.size, self.size), (self.fill,) * 3)
        square.paste(resized, ((self.size - width) // 2, (self.size - height) // 2))
        return square


def _centre_square(image: "Image") -> "Image":
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return image.crop((left, top, left + side, top + side))
