"""``mini``: the small dual encoder that ships with clipsearch, run by ONNX Runtime; neither torch nor a download.

An EfficientNet-lite2 and a MiniLM sentence encoder, joined by two heads that this project trained; what that is worth
is written in ``weights/mini/MODEL_CARD.md``. It is not CLIP and answers worse than CLIP.

Why it starts fast and stays small:

- Weights are stored as int8 with one scale a channel and become float32 when the session is made, so that a row never
  depends on its batch, as it would with activations quantised on the way.
- The word table, a third of all weights, stays outside the graph: it is memory-mapped, and a query reads its rows only.
- Either tower is loaded when it is first needed: a text query never touches the image tower.
"""

import hashlib
import json
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipsearch.embed.base import covers_text, unit_norm
from clipsearch.embed.card import EncoderCard, load_card
from clipsearch.embed.preprocess import Preprocess
from clipsearch.embed.runtime.memory import in_parts
from clipsearch.embed.runtime.onnx import Session
from clipsearch.npy import load_npy, map_npy
from clipsearch.types import Floats, Ints, Pixels

WEIGHTS = Path(__file__).parent / "weights" / "mini"
FILES = ("card.json", "image.onnx", "text.onnx", "vocab.txt", "word_embeddings.npy", "word_scales.npy")
IMAGE_BATCH = 32  # more pictures at once cost memory and gain nothing
TEXT_BATCH = 256
TEXT_TOKENS = 1_024  # of a batch of texts, padding included: fewer keep two cores less busy, more leave the cache
MAX_TOKENS = 128
MAX_WORD = 100  # a longer word is unknown, as in the reference tokenizer


@dataclass(slots=True)
class _Batches:
    """Most rows that go through a tower at once; it shrinks when memory runs out."""

    batch_size: int
    device: str = "cpu"


class MiniEncoder:
    """The shipped encoder; see ``base.Encoder`` for what it promises.

    Attributes:
        name: "mini".
        card: the facts of the checkpoint.
        dim: length of an embedding.
        preprocess: picture → pixels.
        logit_scale: factor of the cosine in training's own logit.
        logit_bias: None.
    """

    def __init__(
        self, card: EncoderCard | None = None, threads: int | None = None, weights: Path = WEIGHTS, **_: object
    ) -> None:
        """Read the small facts; towers are loaded on first use.

        Args:
            card: the row of cards.toml, or None to look it up.
            threads: CPU threads of ONNX Runtime; None leaves its own choice.
            weights: folder of the files, the shipped one if nothing else is said.
        """
        self._folder = weights
        facts = json.loads((weights / "card.json").read_text(encoding="utf-8"))
        self.card = card or load_card("mini")
        self.name = self.card.name
        self.dim: int = facts["dim"]
        self.preprocess = Preprocess(**facts["preprocess"])
        self.logit_scale: float | None = facts["logit_scale"]
        self.logit_bias: float | None = None
        # Without this the int8 weights would be widened again at every run.
        settings = {"session.disable_quant_qdq": "1"}
        self._image = Session(self._folder / "image.onnx", threads, settings)
        self._text = Session(self._folder / "text.onnx", threads, settings)
        self._pictures, self._texts = _Batches(IMAGE_BATCH), _Batches(TEXT_BATCH)

    @property
    def how(self) -> str:
        """What runs the towers."""
        return "ONNX Runtime"

    def encode_images(self, pixels: Pixels) -> Floats:
        """Embed pictures: uint8 (B, S, S, 3) RGB → float32 (B, D), unit norm."""
        side = self.preprocess.size
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (side, side, 3):
            raise ValueError(f"pixels are uint8 (B, {side}, {side}, 3), not {pixels.dtype} {pixels.shape}")
        if len(pixels) == 0:
            return np.empty((0, self.dim), np.float32)
        return unit_norm(in_parts(self._pictures, self._image.run, [pixels]))

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """Embed B texts → float32 (B, D), unit norm; what exceeds 128 tokens is not read."""
        tokens = [self.tokenizer.encode(text) for text in texts]
        found = np.empty((len(tokens), self.dim), np.float32)
        for rows in batches([len(row) for row in tokens]):
            found[rows] = in_parts(self._texts, self._text.run, self._words([tokens[i] for i in rows]))
        return unit_norm(found)

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) over all weight files, vocabulary and preprocessing included; computed once."""
        return self._fingerprint

    def covers_text(self, text: str) -> bool:
        """Say whether the text is in English, as far as one can tell."""
        return covers_text(self.card, text)

    @cached_property
    def tokenizer(self) -> "WordPiece":
        """The tokenizer, read on first use."""
        return WordPiece((self._folder / "vocab.txt").read_text(encoding="utf-8").split("\n"))

    @cached_property
    def _table(self) -> tuple[NDArray[np.int8], Floats]:
        return map_npy(self._folder / "word_embeddings.npy"), load_npy(self._folder / "word_scales.npy")

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for name in FILES:
            digest.update(f"{name}\0{(self._folder / name).stat().st_size}\0".encode())
            with (self._folder / name).open("rb") as handle:
                digest.update(hashlib.file_digest(handle, "sha256").digest())
        return digest.hexdigest()

    def _words(self, tokens: list[list[int]]) -> list[Floats]:
        """Look up word embeddings float32 (B, T, 384), with a mask (B, T): 1 where there is a token."""
        longest = max(map(len, tokens))
        ids: Ints = np.array([row + [0] * (longest - len(row)) for row in tokens], np.int64)
        table, scales = self._table
        mask = np.arange(longest)[None] < np.array([[len(row)] for row in tokens])
        return [table[ids] * scales[ids][..., None], mask.astype(np.float32)]


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield positions of texts to embed at once: like lengths together, which leaves little to pad."""
    rows: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if len(rows) == TEXT_BATCH or (rows and (len(rows) + 1) * lengths[i] > TEXT_TOKENS):
            yield rows
            rows = []
        rows.append(i)
    if rows:
        yield rows


class WordPiece:
    """BERT's uncased tokenizer: lower case, no accents, punctuation apart, then the longest known pieces of a word."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self._ids = {piece: i for i, piece in enumerate(vocabulary) if piece}
        self._unknown = self._ids["[UNK]"]
        self._first, self._last = self._ids["[CLS]"], self._ids["[SEP]"]

    def encode(self, text: str, limit: int = MAX_TOKENS) -> list[int]:
        """Return token ids, [CLS] and [SEP] included, ``limit`` at most."""
        ids: list[int] = []
        for word in _split(_plain(text)):
            ids += self._pieces(word)
            if len(ids) >= limit - 2:
                break
        return [self._first, *ids[: limit - 2], self._last]

    def _pieces(self, word: str) -> list[int]:
        if len(word) > MAX_WORD:
            return [self._unknown]
        ids: list[int] = []
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((end for end in ends if prefix + word[start:end] in self._ids), None)
            if end is None:
                return [self._unknown]
            ids.append(self._ids[prefix + word[start:end]])
            start = end
        return ids


def _plain(text: str) -> str:
    """Drop control characters and accents, lower the case, set CJK characters apart."""
    kept = "".join(_clean(char) for char in text)
    return "".join(char for char in unicodedata.normalize("NFD", kept) if unicodedata.category(char) != "Mn").lower()


def _clean(char: str) -> str:
    if char in "\t\n\r" or unicodedata.category(char) == "Zs":
        return " "
    if char == "\ufffd" or unicodedata.category(char).startswith("C"):
        return ""
    return f" {char} " if _is_cjk(ord(char)) else char


def _is_cjk(code: int) -> bool:
    return (
        0x4E00 <= code <= 0x9FFF or 0x3400 <= code <= 0x4DBF or 0xF900 <= code <= 0xFAFF or 0x20000 <= code <= 0x2FA1F
    )


def _split(text: str) -> Iterator[str]:
    """Yield words and single punctuation characters."""
    for chunk in text.split():
        word = ""
        for char in chunk:
            if _is_punctuation(char):
                yield from (word, char) if word else (char,)
                word = ""
            else:
                word += char
        if word:
            yield word


def _is_punctuation(char: str) -> bool:
    ascii_sign = char.isascii() and not char.isalnum() and char.isprintable() and char != " "
    return ascii_sign or unicodedata.category(char).startswith("P")
