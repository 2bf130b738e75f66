"""Generic queries, and what kind of query a text is.

The bank stands for what people ask of pictures in general. It measures which rows are near to everything (their hubs),
and it stands in for the collection's captions where there are none. Never both at once: a query that helped to make a
row's hub would score lower against it than one from outside.

Words and templates lie in ``bank.toml``. The choice among them is a hash of the running number, so the bank is the same
on every machine and Python version, and its own hash says which bank a calibration was made with.
"""

import hashlib
import re
import tomllib
from functools import cache
from importlib.resources import files

KINDS = ("keyword", "phrase", "sentence")
MAX_KEYWORDS, MIN_SENTENCE, MAX_WORDS = 3, 7, 40
STOP_WORDS = frozenset(
    [
        "a",
        "about",
        "above",
        "across",
        "after",
        "against",
        "all",
        "along",
        "also",
        "am",
        "among",
        "an",
        "and",
        "another",
        "any",
        "are",
        "around",
        "as",
        "at",
        "away",
        "back",
        "be",
        "been",
        "before",
        "behind",
        "being",
        "below",
        "beneath",
        "beside",
        "between",
        "both",
        "but",
        "by",
        "can",
        "do",
        "does",
        "down",
        "during",
        "each",
        "few",
        "for",
        "from",
        "front",
        "full",
        "had",
        "has",
        "have",
        "he",
        "her",
        "hers",
        "him",
        "his",
        "i",
        "in",
        "inside",
        "into",
        "is",
        "it",
        "its",
        "itself",
        "just",
        "like",
        "lots",
        "many",
        "may",
        "more",
        "most",
        "my",
        "near",
        "next",
        "no",
        "not",
        "of",
        "off",
        "on",
        "one",
        "onto",
        "or",
        "other",
        "our",
        "out",
        "outside",
        "over",
        "own",
        "past",
        "several",
        "she",
        "so",
        "some",
        "something",
        "such",
        "than",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "those",
        "through",
        "to",
        "together",
        "toward",
        "towards",
        "two",
        "three",
        "under",
        "up",
        "upon",
        "very",
        "was",
        "we",
        "were",
        "what",
        "when",
        "where",
        "which",
        "while",
        "who",
        "with",
        "within",
        "without",
        "you",
        "your",
    ]
)
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_SLOT = re.compile(r"\{(\w+)\}")


def words_of(text: str) -> list[str]:
    """Return the words of a text, as written."""
    return _WORD.findall(text)


def kind_of(text: str) -> str | None:
    """Return the kind of a query: "keyword", "phrase" or "sentence"; None where no bin fits.

    Up to three words without function words are keywords; seven words or more a sentence; the rest are phrases. A text
    without words, or of more than forty, is of no kind: nothing like it is ever calibrated.
    """
    words = [word.lower() for word in words_of(text)]
    if not words or len(words) > MAX_WORDS:
        return None
    if len(words) >= MIN_SENTENCE:
        return "sentence"
    return "keyword" if len(words) <= MAX_KEYWORDS and STOP_WORDS.isdisjoint(words) else "phrase"


def as_kind(caption: str, kind: str) -> str | None:
    """Return what a caption would be as a query of another kind, or None where it does not yield one.

    A phrase is its beginning, up to six words; keywords are one to three of its first words that are no function words.
    """
    words = words_of(caption)
    if kind == "sentence":
        made = caption
    elif kind == "phrase":
        kept = words[: MIN_SENTENCE - 1]
        while kept and kept[-1].lower() in STOP_WORDS:
            kept.pop()
        made = " ".join(kept)
    else:
        content = [word.lower() for word in words if word.lower() not in STOP_WORDS]
        made = " ".join(content[: (1, 2, 3, 3)[_number(caption) % 4]])
    return made if kind_of(made) == kind else None


@cache
def _source() -> bytes:
    return files("clipsearch.match").joinpath("bank.toml").read_bytes()


@cache
def _bank() -> dict[str, tuple[str, ...]]:
    table = tomllib.loads(_source().decode())
    return {kind: _expand(kind, table["templates"][kind], table["words"], table["counts"][kind]) for kind in KINDS}


def bank_queries(kind: str) -> tuple[str, ...]:
    """Return the bank's queries of one kind."""
    return _bank()[kind]


def all_queries() -> tuple[str, ...]:
    """Return the whole bank."""
    return tuple(text for kind in KINDS for text in _bank()[kind])


def hub_queries() -> tuple[str, ...]:
    """Return the third of the bank that hubs are measured with: all kinds alike, and no worse than the whole."""
    return all_queries()[::3]


def bank_hash() -> str:
    """Return the SHA-256 (hex) of everything that decides the bank."""
    return hashlib.sha256(_source() + repr(_bank()).encode()).hexdigest()


def _expand(kind: str, templates: list[str], words: dict[str, list[str]], count: int) -> tuple[str, ...]:
    """Return ``count`` different texts of a kind, templates in turn."""
    made: dict[str, None] = {}
    turn = 0
    while len(made) < count:
        template = templates[turn % len(templates)]
        text = _SLOT.sub(lambda slot: _choose(words[slot[1]], f"{kind} {turn} {slot[1]}"), template)  # noqa: B023
        turn += 1
        if kind_of(text) == kind:
            made[text] = None
        if turn > 50 * count:
            raise ValueError(f"bank.toml yields only {len(made)} different texts of the kind {kind}.")
    return tuple(made)


def _choose(words: list[str], key: str) -> str:
    return words[_number(key) % len(words)]


def _number(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8], "big")
