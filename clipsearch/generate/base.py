"""What every generator promises.

The contract, checked for every family by ``tests/contracts/test_generators.py``:

- ``generate(prompt, n, seed)`` gives uint8 RGB pictures (n, H, W, 3); picture i has the seed ``seed + i``;
- the same seed gives the same picture, whatever else is in the batch; another seed another one;
- no global random state is touched.

Everything else that decides pixels is in ``Options``, frozen, so that its JSON can be part of a cache's key. What
makes a picture of a sketch or a better picture of a poor one is a wrapper, not a flag.

A family is a class called as ``Family(folder, device=..., dtype=...)``; one without weights ignores all three. One that
reads the prompt with a text tower of the room ``embed`` is also handed that encoder, as ``encoder``.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from clipsearch.errors import GenerationError, InputError
from clipsearch.types import Pixels

MAX_SIDE, MAX_PICTURES, MAX_PROMPT = 4096, 16, 10_000


@dataclass(frozen=True, slots=True)
class Options:
    """What decides the pixels beside prompt, seed and weights; None leaves a choice to the model.

    Attributes:
        width: pixels, a multiple of 8.
        height: pixels, a multiple of 8.
        steps: denoising steps.
        guidance_scale: how strictly to follow the prompt.
        negative_prompt: what not to draw.
        source: SHA-256 (hex) of the picture to start from, or None.
        strength: how far to go from that picture, above 0 (not at all) to 1 (all the way).
        sampler: in which way to denoise, by a name of the family's own.
    """

    width: int = 512
    height: int = 512
    steps: int | None = None
    guidance_scale: float | None = None
    negative_prompt: str | None = None
    source: str | None = None
    strength: float | None = None
    sampler: str | None = None

    def as_dict(self) -> dict[str, Any]:  # Any: JSON values
        """Return the options that were given a value."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class Generator(Protocol):
    """Draws pictures; see the module's docstring.

    Attributes:
        library: name and version of the library that draws, which decides pixels too.
    """

    library: str

    def generate(self, prompt: str, n: int, seed: int, options: Options = ..., source: Pixels | None = None) -> Pixels:
        """Draw ``n`` pictures of the prompt with the seeds seed, seed + 1 ...: uint8 (n, height, width, 3) RGB.

        Args:
            prompt: what to draw.
            n: how many.
            seed: of the first picture.
            options: everything else that decides the pixels.
            source: (height, width, 3) uint8 RGB to start from, with ``options.strength``.

        Raises:
            GenerationError: nothing usable came out; OutOfMemory and UnusablePicture say why in a way that
                ``cautious`` acts on.
        """
        ...

    def offload(self) -> bool:
        """Move weights off the device as far as possible; False where nothing more can be moved."""
        ...

    def to_fp32(self) -> bool:
        """Go on in float32; False where it is so already."""
        ...


class OutOfMemory(GenerationError):
    """The device has too little memory for the request."""


class UnusablePicture(GenerationError):
    """NaN, or one colour all over: the numbers went wrong, not the request."""


class Refused(GenerationError):
    """The model's own safety check blocked the picture."""


def check_request(prompt: str, n: int, seed: int, options: Options) -> None:
    """Refuse at the door what no generator can do.

    Raises:
        InputError: prompt, counts or options make no sense.
    """
    if not prompt.strip():
        raise InputError("The prompt is empty. Say what to draw.")
    if len(prompt) > MAX_PROMPT:
        raise InputError(f"The prompt has {len(prompt):,} characters; at most {MAX_PROMPT:,} are taken. Shorten it.")
    if not 1 <= n <= MAX_PICTURES:
        raise InputError(f"{n} pictures were asked for; give 1 to {MAX_PICTURES}.")
    if not 0 <= seed < 2**63 - n:
        raise InputError(f"The seed is {seed}; give a number from 0 to 2^63.")
    for name, side in (("width", options.width), ("height", options.height)):
        if not 8 <= side <= MAX_SIDE or side % 8:
            raise InputError(f"The {name} is {side}; give a multiple of 8 up to {MAX_SIDE}.")
    if options.steps is not None and not 1 <= options.steps <= 1000:
        raise InputError(f"{options.steps} steps were asked for; give 1 to 1000.")
    if options.guidance_scale is not None and not 0 <= options.guidance_scale <= 100:
        raise InputError(f"The guidance is {options.guidance_scale}; give 0 to 100.")
    if options.strength is not None and not (math.isfinite(options.strength) and 0 < options.strength <= 1):
        raise InputError(f"The strength is {options.strength}; give a number above 0 and at most 1.")
    if options.strength is not None and options.source is None:
        raise InputError("A strength goes with a picture to start from. Give one, or leave the strength out.")
