"""Which captions mention a label: a word-by-word comparison that forgives the plural.

A caption is a witness that something is there, never that it is not: who writes "a dog in the snow" may leave out the
tree. So precision counted against captions errs on the low side.
"""

import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_ENDINGS = (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("sses", "ss"), ("xes", "x"))


def stem(word: str) -> str:
    """Return a word in lower case, without the ending of the plural."""
    word = word.lower()
    for ending, instead in _ENDINGS:
        if word.endswith(ending) and len(word) > len(ending) + 1:
            return word[: -len(ending)] + instead
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us")) else word


def stems(text: str) -> list[str]:
    """Return the stems of the words of a text."""
    return [stem(word) for word in _WORD.findall(text)]


def mentioned(labels: Sequence[Iterable[str]], captions: Sequence[Sequence[str]]) -> NDArray[np.bool_]:
    """Tell for each picture (by its captions) and label (by its wordings) whether a caption mentions it: (n, L)."""
    found = np.zeros((len(captions), len(labels)), dtype=bool)
    by_first: dict[str, list[tuple[list[str], int]]] = {}
    for at, wordings in enumerate(labels):
        for wording in wordings:
            words = stems(wording)
            if words:
                by_first.setdefault(words[0], []).append((words, at))
    for n, texts in enumerate(captions):
        for text in texts:
            said = stems(text)
            for start, word in enumerate(said):
                for words, at in by_first.get(word, ()):
                    if said[start : start + len(words)] == words:
                        found[n, at] = True
    return found
