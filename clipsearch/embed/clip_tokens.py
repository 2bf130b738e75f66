"""CLIP's byte-pair tokenizer without torch: the ids that open_clip's ``SimpleTokenizer`` gives, for every text.

It is here because open_clip's own lives in a module that imports torch, and a search need not wait two seconds for
that. Its vocabulary comes with an exported tower (``exporting``). A word begins as its bytes, each written as one
character, the last with ``</w>`` behind it; then the pair of neighbours that stands first in the vocabulary is joined,
again and again, until no pair is in it.

Most queries are plain ASCII. For those Unicode repair (``ftfy``) changes nothing and ``re`` finds the same words as
``regex``, so neither package is loaded.
"""

import html
import re
import string
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from clipsearch.types import Ints

_SPECIAL = ("<start_of_text>", "<end_of_text>")
_ENDINGS = "'s|'t|'re|'ve|'m|'ll|'d"
_PLAIN_WORDS = re.compile("|".join((*_SPECIAL, _ENDINGS, "[a-z]+|[0-9]|[^\\sa-z0-9]+")), re.IGNORECASE)
_WORDS = "|".join((*_SPECIAL, _ENDINGS, "[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"))
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_MOST_KEPT = 1 << 16  # words whose ids are remembered


def _lower(text: str) -> str:
    return " ".join(text.split()).lower()


def _whitespace(text: str) -> str:
    return " ".join(text.split())


def _canonical(text: str) -> str:
    return " ".join(text.replace("_", " ").translate(_NO_PUNCTUATION).lower().split())


CLEANERS: dict[str, Callable[[str], str]] = {"lower": _lower, "whitespace": _whitespace, "canonicalize": _canonical}


class ClipTokens:
    """Texts to token ids."""

    def __init__(self, vocabulary: str, context_length: int, clean: str = "lower") -> None:
        """Read the vocabulary.

        Args:
            vocabulary: pairs to join, a line each, two symbols with a space between; the most important first.
            context_length: most tokens of a text, start and end marks included.
            clean: key of ``CLEANERS``.
        """
        pairs = vocabulary.split("\n")
        self._ranks = dict(zip(pairs, range(len(pairs)), strict=True))
        joined = vocabulary.replace(" ", "").split("\n")
        self._letters = _byte_letters()
        letters = list(self._letters.values())
        singles = (*letters, *(letter + "</w>" for letter in letters))
        self._ids = dict(zip((*singles, *joined, *_SPECIAL), range(len(singles) + len(joined) + 2), strict=True))
        self.start, self.end = (self._ids[mark] for mark in _SPECIAL)
        self.context_length = context_length
        self._clean = CLEANERS[clean]
        self._kept: dict[str, list[int]] = {}

    def __call__(self, texts: Sequence[str]) -> Ints:
        """Return ids (B, T), as many positions as the longest text has; shorter ones end in zeros."""
        rows = [self._row(text) for text in texts]
        ids = np.zeros((len(rows), max(map(len, rows), default=0)), np.int64)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
        return ids

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text without marks, however long it is."""
        ids: list[int] = []
        for word in _split(self._clean(_repaired(text))):
            found = self._kept.get(word)
            if found is None:
                if len(self._kept) >= _MOST_KEPT:
                    self._kept.clear()
                found = self._kept[word] = self._pieces(word)
            ids += found
        return ids

    def _row(self, text: str) -> list[int]:
        ids = [self.start, *self.encode(text), self.end]
        if len(ids) > self.context_length:
            ids = [*ids[: self.context_length - 1], self.end]
        return ids

    def _pieces(self, word: str) -> list[int]:
        if word in _SPECIAL:
            return [self._ids[word]]
        symbols = [self._letters[byte] for byte in word.encode("utf-8")]
        symbols[-1] += "</w>"
        while len(symbols) > 1:
            pairs = [f"{a} {b}" for a, b in pairwise(symbols)]
            best = min(pairs, key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if best not in self._ranks:
                break
            symbols = _joined(symbols, *best.split(" "))
        return [self._ids[symbol] for symbol in symbols]


def _joined(symbols: list[str], first: str, second: str) -> list[str]:
    """Join every place where the two stand side by side, from the left."""
    found: list[str] = []
    i = 0
    while i < len(symbols):
        if symbols[i] == first and i + 1 < len(symbols) and symbols[i + 1] == second:
            found.append(first + second)
            i += 2
        else:
            found.append(symbols[i])
            i += 1
    return found


def _repaired(text: str) -> str:
    """Undo broken encodings and HTML entities, as open_clip does first."""
    if not (text.isascii() and text.replace("\n", " ").isprintable() and "&" not in text):
        import ftfy

        text = ftfy.fix_text(text)
        text = html.unescape(html.unescape(text))
    return text.strip()


def _split(text: str) -> list[str]:
    if text.isascii():
        return _PLAIN_WORDS.findall(text)
    return _any_words().findall(text)


def _any_words() -> Any:  # Any: a pattern of the package regex
    import regex  # it keeps compiled patterns itself

    return regex.compile(_WORDS, regex.IGNORECASE)


def _byte_letters() -> dict[int, str]:
    """Return the character that stands for each byte, in the order of the ids: printable ones for themselves."""
    printable = (*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1))
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
