"""An open_clip model whose towers were exported: embeds without importing torch.

Each tower has a runtime of its own, and is loaded when it is first needed: a text query never touches the image
tower. A tower may also be left to torch, where that is faster or where it cannot be exported; torch is then imported
at that tower's first use and not before.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from clipsearch.embed.base import Encoder, covers_text, unit_norm
from clipsearch.embed.card import EncoderCard, card_of
from clipsearch.embed.clip_tokens import ClipTokens
from clipsearch.embed.export import TOWER, VOCABULARY, WORDS, Export, find_export
from clipsearch.embed.lengths import by_length, end_marks
from clipsearch.embed.pick_runtime import Chosen
from clipsearch.embed.preprocess import Preprocess
from clipsearch.embed.runtime.base import Runtime
from clipsearch.errors import WeightsNotFoundError
from clipsearch.npy import map_npy
from clipsearch.types import Floats, Pixels

_TEXTS_AT_ONCE = 4096
Embed = Callable[[Any], Floats]  # Any: pixels or texts


class ExportedEncoder:
    """A model of open_clip by its exports; see ``base.Encoder``."""

    def __init__(
        self,
        card: EncoderCard,
        facts: dict[str, Any],  # Any: JSON
        *,
        runtime: Chosen,
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
    ) -> None:
        """Read the small facts.

        Args:
            card: which model.
            facts: what an export says of the encoder, see ``export.Export``.
            runtime: what runs which tower.
            device: as for ``load_encoder``.
            precision: as for ``load_encoder``.
            threads: as for ``load_encoder``.
        """
        row = {key: value for key, value in facts["card"].items() if key != "name"}
        self.card = replace(card_of(card.name, row), checkpoint=card.checkpoint)
        self.name = card.name
        self.dim = self.card.dim
        self.preprocess = Preprocess(**facts["preprocess"])
        self.logit_scale: float | None = facts["logit_scale"]
        self.logit_bias: float | None = facts["logit_bias"]
        self._fingerprint: str = facts["fingerprint"]
        self._asked = card
        self._runtime = runtime
        self._options = {"device": device, "precision": precision, "threads": threads}
        self._lock = threading.RLock()
        self._towers: dict[str, Embed] = {}
        self._module: Encoder | None = None

    @property
    def how(self) -> str:
        """What runs the towers."""
        return self._runtime.words

    def encode_images(self, pixels: Pixels) -> Floats:
        """Embed pictures: uint8 (B, S, S, 3) → float32 (B, D), unit norm."""
        if len(pixels) == 0:
            return np.empty((0, self.dim), np.float32)
        return self._tower("image", self._runtime.image)(pixels)

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """Embed B texts → float32 (B, D), unit norm. A text longer than the model's context is cut."""
        parts = [np.empty((0, self.dim), np.float32)]
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            parts.append(self._tower("text", self._runtime.text)(texts[start : start + _TEXTS_AT_ONCE]))
        return np.concatenate(parts)

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of weights, preprocessing and tokenisation, as it was when they were exported."""
        return self._fingerprint

    def covers_text(self, text: str) -> bool:
        """Say whether the model was trained on the language of the text, as far as one can tell."""
        return covers_text(self.card, text)

    def _tower(self, tower: str, runtime: str) -> Embed:
        with self._lock:
            if tower not in self._towers:
                self._towers[tower] = self._load(tower, runtime)
            return self._towers[tower]

    def _load(self, tower: str, runtime: str) -> Embed:
        if runtime == "torch":
            if self._module is None:
                from clipsearch.embed.open_clip import OpenClipEncoder

                self._module = OpenClipEncoder(self._asked, **self._options)
            return self._module.encode_images if tower == "image" else self._module.encode_texts
        from clipsearch.embed import RUNTIMES

        made: Runtime = RUNTIMES.load(runtime)(**self._options)
        export = find_export(self._asked, tower, "int8" if made.precision == "int8" else "fp32")
        if export is None:
            raise WeightsNotFoundError(
                f"The exported {tower} tower of {self.name!r} is gone or damaged.\n"
                f"Export it again: clipsearch models export {self.name}"
            )
        return _images(made, export) if tower == "image" else _texts(made, export, self.dim)


def _images(runtime: Runtime, export: Export) -> Embed:
    tower = runtime.prepare(export.path(TOWER))
    return lambda pixels: unit_norm(runtime.run(tower, pixels))


def _texts(runtime: Runtime, export: Export, dim: int) -> Embed:
    facts = export.facts["text"]
    with open(export.path(VOCABULARY), encoding="utf-8", newline="") as file:
        tokenize = ClipTokens(file.read(), facts["context_length"], facts["clean"])
    table: Floats = map_npy(export.path(WORDS))
    tower = runtime.prepare(export.path(TOWER))

    def embed(texts: Sequence[str]) -> Floats:
        # A lone surrogate, as in a file name with bytes that are not UTF-8, cannot be tokenised.
        tokens = tokenize([text.encode("utf-8", "replace").decode("utf-8") for text in texts])
        last = end_marks(tokens, facts["pool"], facts["eos"])
        found = np.empty((len(tokens), dim), np.float32)
        for rows in by_length(last, runtime.batch_size):
            words = table[tokens[rows, : last[rows].max() + 1]]
            found[rows] = runtime.run(tower, words, last[rows])
        return unit_norm(found)

    return embed
