"""Tables of names: ``"name": "module:attribute"``, loaded on demand.

A registry is one dictionary in one place, so a grep finds a name and importing a room loads none of its plugs:

    ENCODERS = Registry("encoder family", {"mini": "clipsearch.embed.mini:MiniEncoder"})
    ENCODERS.load("mini")  # imports clipsearch.embed.mini now, not before
"""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from clipsearch.errors import UnknownNameError


def suggest(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the message for an unknown name: what was asked, the nearest name, all known names."""
    names = list(known)
    near = get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"No {kind} is called {name!r}.{hint} Known: {', '.join(names)}."


class Registry(Mapping[str, str]):
    """A read-only table of names and where each one's code lives."""

    def __init__(self, kind: str, table: Mapping[str, str]) -> None:
        self.kind = kind
        self._table = dict(table)

    def __getitem__(self, name: str) -> str:
        if name not in self._table:
            raise UnknownNameError(suggest(self.kind, name, self._table))
        return self._table[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def load(self, name: str) -> Any:  # Any: a table may hold classes or functions
        """Import and return what the name stands for.

        Raises:
            UnknownNameError: the name is not in the table; near names are offered.
        """
        module, _, attribute = self[name].partition(":")
        return getattr(import_module(module), attribute)
