"""``mini``: the small generator that ships with clipsearch, run by ONNX Runtime; neither torch nor a download.

It draws a *sketch* of 64 x 64 pixels, enlarged to the size asked for, and knows about a hundred single things on plain
backgrounds; ``shipped/mini/MODEL_CARD.md`` says which, and how well. A picture is 16 tokens of 64 digits; a transformer
tells the odds of every digit that is not known yet, and a sampler (``sampling.py``) decides some at each step.

The transformer reads the words as the embedding of one text tower, pinned by its fingerprint: with another tower the
same numbers mean other things. The tower is handed over, as rooms do not know each other.
"""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from clipsearch.errors import GenerationError, InputError, WeightsNotFoundError
from clipsearch.generate.base import Options
from clipsearch.generate.sampling import DIGITS, SAMPLERS, TOKENS, keep_of_source, sample
from clipsearch.types import Floats, Pixels

WEIGHTS = Path(__file__).parent / "shipped" / "mini"
MAX_STEPS = 200  # there are 1,024 digits; beyond this nothing is gained


class TextTower(Protocol):
    """What reads the words: the part of an encoder that is needed here."""

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """Embed B texts: float32 (B, D), unit norm."""
        ...

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of its weights."""
        ...


class MiniGenerator:
    """Draws sketches; see ``base.Generator`` for what it promises."""

    def __init__(
        self, folder: str | None = None, *, device: str = "cpu", dtype: str = "fp32", encoder: TextTower | None = None
    ) -> None:
        """Read the small facts; the graphs are loaded on first use.

        Args:
            folder: of the weights; None or "" for those that ship.
            device: "cpu"; there is no other.
            dtype: "fp32"; there is no other.
            encoder: the text tower that it was trained with.

        Raises:
            InputError: another device or dtype.
            WeightsNotFoundError: a weight file is missing.
            GenerationError: it is not the text tower that it was trained with.
        """
        import onnxruntime

        self.library = f"onnxruntime {onnxruntime.__version__}"
        self._folder = Path(folder or WEIGHTS)
        if device != "cpu" or dtype != "fp32":
            raise InputError(f"The generator 'mini' draws on cpu in fp32, not on {device} in {dtype}.")
        try:
            self.facts: dict[str, Any] = json.loads((self._folder / "card.json").read_text(encoding="utf-8"))
        except OSError as problem:
            raise WeightsNotFoundError(
                f"The weights of 'mini' cannot be read: {problem}.\nInstall clipsearch again."
            ) from None
        if encoder is None:
            raise GenerationError("The generator 'mini' was given no text tower, so it cannot read the prompt.")
        self._encoder = encoder
        _check_tower(encoder.fingerprint(), self.facts["text_tower"])

    def generate(
        self,
        prompt: str,
        n: int,
        seed: int,
        options: Options = Options(),  # noqa: B008 (frozen)
        source: Pixels | None = None,
    ) -> Pixels:
        """Draw ``n`` sketches: uint8 (n, height, width, 3).

        Raises:
            InputError: no such sampler, or too many steps.
        """
        steps = self.facts["steps"] if options.steps is None else options.steps
        scale = self.facts["guidance_scale"] if options.guidance_scale is None else options.guidance_scale
        sampler = options.sampler or self.facts["sampler"]
        if sampler not in SAMPLERS:
            raise InputError(f"'mini' has no sampler {sampler!r}. Known: {', '.join(SAMPLERS)}.")
        if steps > MAX_STEPS:
            raise InputError(f"{steps} steps were asked for; 'mini' takes 1 to {MAX_STEPS}.")
        odds = self._odds(prompt, options.negative_prompt, scale)
        levels = None if source is None else self._levels(source)
        drawn = []
        for i in range(n):  # one at a time: a batch would round its sums in another order
            random = np.random.default_rng(seed + i)
            known = None if levels is None else keep_of_source(levels, options.strength or 0.6, random)
            drawn.append(self._picture(sample(odds, random, steps, sampler, known)))
        return np.stack([_to_size(picture, options) for picture in drawn])

    def offload(self) -> bool:
        """There is nothing to move."""
        return False

    def to_fp32(self) -> bool:
        """There are no other numbers."""
        return False

    @cached_property
    def _transformer(self) -> Any:  # Any: onnxruntime has no types
        return _session(self._folder / "transformer.onnx")

    @cached_property
    def _decoder(self) -> Any:
        return _session(self._folder / "decoder.onnx")

    def _odds(self, prompt: str, negative: str | None, scale: float) -> Any:
        """Return the function from levels and mask (16, 64) to guided logits (16, 64, 16).

        Guidance as in https://arxiv.org/abs/2207.12598: ``other + scale * (prompt - other)``, where other is the
        model without words, or with those of the negative prompt.
        """
        words = [prompt] if scale == 1 else [prompt, negative or prompt]
        texts = self._encoder.encode_texts(words)
        present = np.array([[1.0], [1.0 if negative else 0.0]], np.float32)[: len(words)]

        def odds(levels: Floats, masked: Floats) -> Floats:
            inputs = {"levels": levels, "masked": masked}
            both = {name: np.broadcast_to(value, (len(words), *value.shape)) for name, value in inputs.items()}
            logits = self._transformer.run(None, {**both, "text": texts, "present": present})[0]
            return logits[0] if len(words) == 1 else logits[1] + np.float32(scale) * (logits[0] - logits[1])

        return odds

    def _picture(self, levels: Floats) -> Pixels:
        """Decode levels (16, 64) to a picture uint8 (64, 64, 3)."""
        return self._decoder.run(None, {"levels": levels[None]})[0][0]

    def _levels(self, source: Pixels) -> Floats:
        """Encode a picture of any size to levels (16, 64)."""
        side = self.facts["side"]
        small = Image.fromarray(source).resize((side, side), Image.Resampling.BICUBIC)
        graph = _session(self._folder / "encoder.onnx")
        return graph.run(None, {"pixels": np.asarray(small)[None]})[0][0].reshape(TOKENS, DIGITS)


def _check_tower(found: str, pinned: str) -> None:
    if found != pinned:
        raise GenerationError(
            f"The generator 'mini' was trained with another text tower ({pinned[:12]}) than the one here "
            f"({found[:12]}), so it would draw other things than asked for.\n"
            "Install clipsearch again, or train it anew."
        )


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Without this the int8 weights would be widened again at every run.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    if not path.is_file():
        raise WeightsNotFoundError(f"There is no {path}.\nInstall clipsearch again.")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _to_size(picture: Pixels, options: Options) -> Pixels:
    """Enlarge a square picture to (height, width, 3); what it has too little of is filled with its border."""
    side = min(options.width, options.height)
    square = np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))
    y, x = options.height - side, options.width - side
    return np.pad(square, ((y // 2, y - y // 2), (x // 2, x - x // 2), (0, 0)), mode="edge")
