"""The whole picture, no larger than wanted: for those who go on with the picture and not with an embedding."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from clipsearch.types import Pixels

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True)
class Whole:
    """Shrinks a picture so that its longer side has at most ``size`` pixels; a smaller one stays as it is."""

    size: int

    def __call__(self, image: "Image") -> Pixels:
        """Return the pixels (H, W, 3) uint8 of an upright RGB picture."""
        from PIL.Image import Resampling

        if max(image.size) > self.size:
            scale = self.size / max(image.size)
            width, height = (max(1, round(side * scale)) for side in image.size)
            image = image.resize((width, height), Resampling.LANCZOS, reducing_gap=3.0)
        return np.asarray(image)

    def spec(self) -> dict[str, Any]:  # Any: JSON
        """Return how a worker makes it again."""
        return {"factory": f"{__name__}:Whole", "kwargs": asdict(self)}
