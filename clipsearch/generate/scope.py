"""What a generator says of itself that it can draw: ``scope.json`` beside its weights, read before anything is drawn.

A large model draws anything, and only its pictures tell how well. A small one knows a few things by name, and knows
that of itself better than any encoder that looks at its pictures afterwards. Its statement lists

    things        by name, with other names of the same (``also``) and the colours that it draws them in (``colours``)
    backgrounds   colours of the plain background

A prompt lies within it that says nothing else: one thing, in a colour of its own if in any, before one background: "a
dog", "a photo of a red apple", "an owl on a blue background", "a green background with a key". A second thing, a word
too many, or a colour that the thing does not have lies outside. By words, not by the nearness of embeddings: to a text
tower "a green cat" is as near to "a cat on a green background" as the same thing said in other words.

What lies within is then said to the generator in the words that it was taught (``captions``): "a puppy" as "a dog", and
"a red apple" as "an apple", for else it would draw red behind the apple.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from clipsearch.errors import WeightsNotFoundError

FILE, SCHEMA = "scope.json", "clipsearch.scope/1"
# Words that ask for nothing that the picture of a single thing would not show anyway.
_FREE = {
    "a", "an", "the", "one", "some", "my", "draw", "me", "of", "photo", "photograph", "picture", "image", "drawing",
    "sketch", "illustration", "cartoon", "icon", "emoji", "small", "little", "big", "large", "cute", "nice", "simple",
    "plain", "single",
}  # fmt: skip
_SMALL = {"in", "on", "at", "by", "with", "and", "or", "to", "from", "for", "is", "are"}  # say little of why
_TOLD = 4  # words named in a refusal


@dataclass(frozen=True, slots=True)
class Reading:
    """How a generator reads a prompt.

    Attributes:
        words: what it is told; "" where it cannot draw the prompt.
        why_not: why it cannot, to stand behind a colon; None where it can.
    """

    words: str
    why_not: str | None = None


@dataclass(frozen=True)
class Scope:
    """What a generator draws.

    Attributes:
        things: every name of a thing, to the one that it goes by.
        said: that one, to how a caption says it: "an owl", "grapes".
        colours: that one, to the colours that the thing has.
        backgrounds: colours of the background.
        captions: of a thing {a}, and of a thing {a} before a {colour}.
    """

    things: Mapping[str, str]
    said: Mapping[str, str]
    colours: Mapping[str, frozenset[str]]
    backgrounds: tuple[str, ...]
    captions: tuple[str, str]

    def names(self) -> list[str]:
        """Return the things by the names that they go by."""
        return list(self.said)

    def read(self, prompt: str) -> Reading:
        """Return what to tell the generator, or why it cannot draw a prompt."""
        text = " ".join(re.findall(r"\w+(?:'\w+)*", prompt.lower())).replace("gray", "grey")
        grounds = [match["colour"] or match["last"] for match in self._background.finditer(text)]
        text = self._background.sub(" ", text)
        names = [match[0] for match in self._names.finditer(text)]
        things = list(dict.fromkeys(self.things[name] for name in names if name in self.things))
        strange = [word for word in self._names.sub(" ", text).split() if word not in _FREE]
        if len(things) > 1:
            return Reading("", f"it draws one thing at a time, not {_listed(things)} together")
        if strange:
            told = [word for word in strange if word not in _SMALL] or strange
            return Reading("", f"it does not know {_listed([repr(word) for word in dict.fromkeys(told)])}")
        if not things:
            return Reading("", "it names no thing")
        return self._of_one(things[0], [name for name in names if name not in self.things], grounds)

    def _of_one(self, thing: str, tints: list[str], grounds: list[str]) -> Reading:
        for tint in tints:
            if tint not in self.colours[thing]:
                behind = f"; behind it a colour can be asked for: 'on a {tint} background'"
                return Reading("", f"its {thing} is not {tint}{behind if tint in self.backgrounds else ''}")
        if len(grounds) > 1:
            return Reading("", "it draws one background")
        said = {"a": self.said[thing], "colour": grounds[0] if grounds else ""}
        return Reading(self.captions[len(grounds)].format(**said).replace(" a orange ", " an orange "))

    @cached_property
    def _background(self) -> "re.Pattern[str]":
        colour = _any(self.backgrounds)
        return re.compile(
            rf"\b(?:(?:on|against|with|in front of) )?(?:(?:a|an|the) )?(?:plain )?(?P<colour>{colour}) "
            rf"(?:background|backdrop)(?: with)?\b| on (?:plain )?(?P<last>{colour})$"
        )

    @cached_property
    def _tints(self) -> frozenset[str]:
        return frozenset[str]().union(*self.colours.values())

    @cached_property
    def _names(self) -> "re.Pattern[str]":
        """Match a thing or a colour, whichever name is the longest."""
        return re.compile(rf"(?<![\w'])(?:{_any({*self.things, *self.backgrounds, *self._tints})})(?![\w'])")


def read_scope(folder: str | None) -> Scope | None:
    """Return the statement beside a generator's weights; None where it makes none.

    Raises:
        WeightsNotFoundError: it cannot be read.
    """
    path = Path(folder or "", FILE)
    if not folder or not path.is_file():
        return None
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        if said["schema"] != SCHEMA:
            raise ValueError(f"its schema is {said['schema']!r}")
        rows = said["things"]
        things = {name: name for name in rows}
        for name, facts in rows.items():
            things |= dict.fromkeys(facts.get("also", ()), name)
        spoken = {name: facts.get("said", _with_article(name)) for name, facts in rows.items()}
        colours = {name: frozenset(facts.get("colours", ())) for name, facts in rows.items()}
        plain, before = said["captions"]
        return Scope(things, spoken, colours, tuple(said["backgrounds"]), (plain, before))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise WeightsNotFoundError(
            f"What the generator draws cannot be read from {path}: {problem}.\nInstall its weights again."
        ) from None


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _any(words: Iterable[str]) -> str:
    """Return the pattern of one of these words, the longest first."""
    return "|".join(re.escape(word) for word in sorted(words, key=lambda word: (-len(word), word)))


def _listed(words: list[str]) -> str:
    shown = words[:_TOLD]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
