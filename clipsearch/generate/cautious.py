"""A generator that tries again with less: a wrapper, so that no family needs to know of it.

Out of memory: one picture at a time, then half the size (down to 256 pixels), then weights moved off the device, then
the error. NaN or one colour all over: once more in float32, then the error. What was done is told in words and noted
in the ledger.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from clipsearch.errors import GenerationError
from clipsearch.generate.base import Generator, Options, OutOfMemory, UnusablePicture
from clipsearch.types import Pixels

_SMALLEST = 256
_LASTING = ("float32", "offloaded")  # the generator stays so, which the next request must tell too


@dataclass
class Cautious:
    """Wraps a generator; ``done`` says what was tried for the last request."""

    inner: Generator
    done: list[str] = field(default_factory=list)

    def generate(self, prompt: str, n: int, seed: int, options: Options, source: Pixels | None = None) -> Pixels:
        """Draw ``n`` pictures (n, H, W, 3), smaller than asked where memory is short.

        Raises:
            GenerationError: nothing helped.
        """
        self.done = [step for step in self.done if step in _LASTING]
        singly = False
        while True:
            try:
                return self._draw(prompt, n, seed, options, source, singly)
            except UnusablePicture:
                if "float32" in self.done or not self.inner.to_fp32():
                    raise
                self.done.append("float32")
            except OutOfMemory:
                smaller = _half(options)
                if n > 1 and not singly:
                    singly = True
                    self.done.append("one at a time")
                elif smaller is not None:
                    options, source = smaller, None if source is None else _shrink(source, smaller)
                    self.done.append(f"{options.width} x {options.height}")
                elif "offloaded" not in self.done and self.inner.offload():
                    self.done.append("offloaded")
                else:
                    raise

    def _draw(self, prompt: str, n: int, seed: int, options: Options, source: Pixels | None, singly: bool) -> Pixels:
        calls = [(1, seed + i) for i in range(n)] if singly else [(n, seed)]
        parts = []
        for m, first in calls:
            parts.append(self.inner.generate(prompt, m, first, options, source))
            check_pictures(parts[-1], m, options)  # before it is copied: it may be of any size
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def check_pictures(drawn: Pixels, n: int, options: Options) -> None:
    """Refuse what is no picture.

    Raises:
        GenerationError: the wrong form; UnusablePicture: one colour all over.
    """
    wanted = (n, options.height, options.width, 3)
    if drawn.dtype != np.uint8 or drawn.shape != wanted:
        raise GenerationError(
            f"The generator gave {drawn.dtype} {drawn.shape} and not uint8 {wanted}.\nChoose another model or size."
        )
    if (np.ptp(drawn.reshape(n, -1, 3), axis=1).max(axis=1) == 0).any():
        raise UnusablePicture(
            "The model gave a picture of one colour: its numbers went wrong, or it blanks what it "
            "refuses.\nTry --dtype fp32, another seed or another prompt."
        )


def _half(options: Options) -> Options | None:
    """Return the options with sides of half the length, multiples of 8 and not below 256; None where they are small."""
    if max(options.width, options.height) <= _SMALLEST:
        return None
    scale = max(0.5, _SMALLEST / max(options.width, options.height))
    return replace(
        options,
        width=max(8, int(options.width * scale) // 8 * 8),
        height=max(8, int(options.height * scale) // 8 * 8),
    )


def _shrink(source: Pixels, options: Options) -> Pixels:
    rows = np.arange(options.height) * source.shape[0] // options.height
    columns = np.arange(options.width) * source.shape[1] // options.width
    return source[rows][:, columns]
