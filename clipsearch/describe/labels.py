"""Labels and the prompts that stand for them.

A label goes through the text tower in several wordings (prompt templates), and the mean of their embeddings stands for
it: the ensembling of CLIP's paper (https://arxiv.org/abs/2103.00020, section 3.1.4). A file of labels has one a line:

    # a comment
    dog
    longsleeve = long-sleeved top, long-sleeved shirt

What stands before ``=`` is the tag, what stands behind it are the words that are asked for.
"""

import hashlib
import os
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import InputError, SourceNotFoundError
from clipsearch.npy import load_npy
from clipsearch.types import Floats

GROUPS = ("things", "scenes", "activities", "styles")
MAX_LABELS = 100_000
MAX_LENGTH = 200  # characters of a label
_BATCH = 512  # prompts given to the text tower at once
_NO_ARTICLE = ("a", "an", "the", "some", "two", "three", "someone", "people")
# fmt: off
_MASS = frozenset(
    [
        "bacon", "bamboo", "beer", "bread", "broccoli", "butter", "calligraphy", "cauliflower", "cereal",
        "champagne", "cheese", "cherry", "chocolate", "christmas", "coffee", "confetti", "cream",
        "embroidery", "flour", "fog", "garlic", "glue", "graffiti", "grass", "halloween", "ham",
        "handwriting", "honey", "ivy", "jam", "juice", "knitting", "lace", "lemonade", "lettuce", "lightning",
        "maize", "milk", "moss", "mud", "music", "origami", "paint", "paper", "pasta", "perfume", "popcorn",
        "pottery", "rain", "rice", "sand", "seaweed", "smoke", "snow", "snowfall", "soap", "spinach", "text",
        "toast", "toothpaste", "underwear", "water", "wheat", "whisky", "wine", "wool", "yoghurt",
    ]
)  # words without an article
# fmt: on
_PLURAL = ("s",)
_PLURALS = ("people", "men", "women", "children")
_SINGULAR = ("ss", "us", "is", "gas", "lens")


@dataclass(frozen=True, slots=True)
class Label:
    """A label: the tag that is given, its group, and the words that are asked for (the tag itself, if nothing else)."""

    name: str
    group: str = "things"
    words: tuple[str, ...] = ()

    def prompts(self, templates: Sequence[str]) -> list[str]:
        """Return the label in every wording."""
        return [fill(template, words) for words in (self.words or (self.name,)) for template in templates]


@dataclass(frozen=True, slots=True)
class LabelSet:
    """Labels with the templates of each group, and what a person should know of how they were read."""

    labels: tuple[Label, ...]
    templates: dict[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()
    is_default: bool = False

    @property
    def names(self) -> list[str]:
        """Return the tags, in order."""
        return [label.name for label in self.labels]

    def prompts(self) -> list[list[str]]:
        """Return the prompts of each label."""
        return [label.prompts(self.templates[label.group]) for label in self.labels]

    def with_templates(self, templates: Sequence[str]) -> "LabelSet":
        """Return the same labels asked in other words.

        Raises:
            InputError: a template has no place for the label.
        """
        for template in templates:
            if "{}" not in template:
                raise InputError(f"The template {template!r} has no {{}} where the label goes: 'a photo of {{}}'.")
        return LabelSet(self.labels, dict.fromkeys(GROUPS, tuple(templates)), self.notes)


def fill(template: str, words: str) -> str:
    """Put words into a template: ``{}`` becomes the words, ``{a}`` their article with a blank, or nothing."""
    return template.replace("{a}", article(words)).replace("{}", words)


def article(words: str) -> str:
    """Return "a ", "an " or nothing, as an English speaker would most often put it."""
    parts = words.lower().split()
    if not parts or parts[0] in _NO_ARTICLE or not parts[0].isascii():
        return ""
    if parts[-1] in _MASS:
        return ""
    if parts[-1].endswith(_PLURAL) and not parts[-1].endswith(_SINGULAR):
        return ""
    if parts[-1] in _PLURALS and "of" not in parts:
        return ""
    spoken = parts[0][0] in "aeio" or (parts[0].startswith(("um", "un", "up", "x-")) and not parts[0].startswith("uni"))
    return "an " if spoken and not parts[0].startswith("one") else "a "


@cache
def _vocabulary() -> dict[str, Any]:  # Any: TOML
    return tomllib.loads(files("clipsearch.describe").joinpath("vocabulary.toml").read_text(encoding="utf-8"))


def default_labels() -> LabelSet:
    """Return the vocabulary that ships: everyday things, scenes, activities and styles."""
    table = _vocabulary()
    labels = [Label(name, group) for group in GROUPS for names in table[group].values() for name in names]
    return LabelSet(tuple(labels), _templates(), is_default=True)


def _templates() -> dict[str, tuple[str, ...]]:
    return {group: tuple(_vocabulary()["templates"][group]) for group in GROUPS}


def subgroups() -> dict[str, str]:
    """Return the subgroup of each label of the vocabulary that ships: "dog" → "animals"."""
    table = _vocabulary()
    return {name: part for group in GROUPS for part, names in table[group].items() for name in names}


def prompts_hash(labels: LabelSet) -> str:
    """Return the SHA-256 (hex) of everything that decides the labels' embeddings, but for the encoder."""
    return hashlib.sha256(repr(labels.prompts()).encode("utf-8", "backslashreplace")).hexdigest()


def shipped_file(labels: LabelSet, fingerprint: str) -> str:
    """Return the name of the file with the embeddings of labels by an encoder, should it ship."""
    return f"{prompts_hash(labels)[:12]}-{fingerprint[:12]}.npy"


def shipped_embeddings(labels: LabelSet, fingerprint: str) -> Floats | None:
    """Return the embeddings (L, D) that ship for these labels and weights (``scripts/embed_bank.py``), or None."""
    if not labels.is_default:
        return None
    file = files("clipsearch.describe").joinpath("embedded", shipped_file(labels, fingerprint))
    if not file.is_file():
        return None
    with file.open("rb") as handle:
        return unit(load_npy(handle.read()).astype(np.float32))


def embed_labels(
    labels: LabelSet,
    encode: Callable[[list[str]], NDArray[Any]],
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Floats:
    """Return the embedding of each label: the mean over its prompts, of unit norm, (L, D) float32.

    Args:
        labels: what to embed.
        encode: the text tower: B texts → (B, D).
        tell: called with how many prompts are embedded, of how many.
    """
    prompts = labels.prompts()
    flat = [text for texts in prompts for text in texts]
    parts = []
    for start in range(0, len(flat), _BATCH):
        parts.append(encode(flat[start : start + _BATCH]))
        tell(min(start + _BATCH, len(flat)), len(flat))
    starts = np.cumsum([0, *(len(texts) for texts in prompts)])[:-1]
    return unit(np.add.reduceat(np.concatenate(parts).astype(np.float64), starts, axis=0))


def unit(rows: NDArray[Any]) -> Floats:
    """Return rows (n, D) of unit norm, float32."""
    norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return (rows / np.maximum(norms, np.finfo(np.float64).tiny)).astype(np.float32)


def read_labels(path: str | os.PathLike[str]) -> LabelSet:
    """Read a file of labels, one a line.

    Raises:
        SourceNotFoundError: there is no such file.
        InputError: it holds no label, too many, or a line that is none.
    """
    found: dict[str, Label] = {}  # by the name without capitals: Dog and dog are one tag
    twice: list[str] = []
    for number, line in enumerate(_lines(path), start=1):
        text = line.split("#", 1)[0].strip() if line.lstrip().startswith("#") else line.strip()
        if not text:
            continue
        name, _, words = (part.strip() for part in text.partition("="))
        if not name or len(text) > MAX_LENGTH or not any(char.isalnum() for char in name):
            shown = text if len(text) <= 40 else f"{text[:40]} ..."
            raise InputError(
                f"{path}, line {number}: {shown!r} is no label.\n"
                f"A label is a word or a few, {MAX_LENGTH} characters at most, one a line; a line of # is a comment."
            )
        if name.casefold() in found:
            twice.append(name)
        found.setdefault(name.casefold(), Label(name, words=tuple(w.strip() for w in words.split(",") if w.strip())))
    if not found:
        raise InputError(f"{path} holds no label. Write one a line, or leave out --labels for the vocabulary inside.")
    if len(found) > MAX_LABELS:
        raise InputError(f"{path} holds {len(found):,} labels; at most {MAX_LABELS:,} are read.")
    notes = (f"More than once among the labels, and counted once: {_named(twice)}.",) if twice else ()
    return LabelSet(tuple(found.values()), _templates(), notes)


def make_labels(names: Sequence[str]) -> LabelSet:
    """Return labels given by their names.

    Raises:
        InputError: there is none, or one has no letter.
    """
    for name in names:
        if not any(char.isalnum() for char in name) or len(name) > MAX_LENGTH:
            raise InputError(f"{name[:40]!r} is no label: a word or a few, {MAX_LENGTH} characters at most.")
    if not names:
        raise InputError("There is no label. Give at least one.")
    once = {name.casefold(): name for name in reversed(names)}
    return LabelSet(tuple(Label(name) for name in reversed(once.values())), _templates())


def _named(names: Sequence[str]) -> str:
    several = list(dict.fromkeys(names))
    shown = ", ".join(map(repr, several[:3]))
    return shown if len(several) <= 3 else f"{shown} and {len(several) - 3:,} more"


def _lines(path: str | os.PathLike[str]) -> list[str]:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError as problem:
        raise SourceNotFoundError(f"There is no file of labels {path}. Give one with a label a line.") from problem
    except OSError as problem:
        raise InputError(f"The file of labels {path} cannot be read: {problem.strerror}.") from problem
    try:
        return data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as problem:
        line = data.count(b"\n", 0, problem.start) + 1
        raise InputError(f"{path}, line {line}: that is no text in UTF-8. Save the file as UTF-8.") from problem
