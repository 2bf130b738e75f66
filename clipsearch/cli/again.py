"""A search as the sum of what was typed and what was kept: ``search --more``, ``--less``, ``--saved``, ``--new``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from clipsearch.cli.remembered import (
    LastSearch,
    Remembered,
    SavedSearch,
    ids_at,
    keep_last,
    load,
    load_last,
    read_ranks,
    save,
    with_feedback,
)
from clipsearch.errors import InputError

if TYPE_CHECKING:
    from clipsearch import Collection, SearchResult
    from clipsearch.cli.console import Console

_NAMES = {
    "count": "count",
    "target": "target",
    "where": "where",
    "recall": "recall",
    "leave_out_self": "leave_out_self",
}


def again_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets them as ``again``."""

    @wraps(function)
    def command(*args: Any, **given: Any) -> Any:
        names = ("more", "less", "saved", "save_as", "only_new")
        return function(*args, again=Again(**{name: given.pop(name) for name in names}), **given)

    for option in reversed(
        (
            click.option("--more", metavar="RANKS", help="Be more like these hits of the last search, such as 1,3."),
            click.option("--less", metavar="RANKS", help="Be less like these hits of the last search."),
            click.option("--save", "save_as", metavar="NAME", help="Save this search under a name."),
            click.option("--saved", metavar="NAME", help="Run a saved search."),
            click.option("--new", "only_new", is_flag=True, help="With --saved: only what came since its last run."),
        )
    ):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Again:
    """What the options say."""

    more: str | None
    less: str | None
    saved: str | None
    save_as: str | None
    only_new: bool

    @property
    def needs_place(self) -> bool:
        """Tell whether the collection must be found before the query is known."""
        return any(value is not None for value in (self.more, self.less, self.saved))

    def request(self, place: str, typed: Remembered) -> Remembered:
        """Return what is asked, all told.

        Args:
            place: path of the collection.
            typed: what the command line says.

        Raises:
            InputError: there is no last search, no such rank, one rank on both sides, no such saved search.
        """
        ctx = click.get_current_context()
        has_query = typed.query is not None or bool(typed.add)
        if self.only_new and self.saved is None:
            raise click.UsageError("--new goes with --saved NAME.", ctx)
        if self.saved is not None:
            if has_query:
                raise click.UsageError("--saved brings its own query. Leave QUERY and --add out.", ctx)
            typed = self._over(load(place, self.saved).asked, typed)
        if self.more is None and self.less is None:
            return typed
        last = load_last(place)
        more = () if self.more is None else ids_at(last, read_ranks(self.more, "--more"), "--more")
        less = () if self.less is None else ids_at(last, read_ranks(self.less, "--less"), "--less")
        if both := set(more) & set(less):
            rank = min(map(last.ids.index, both)) + 1
            raise InputError(f"Rank {rank} is named by --more and by --less. Name it once.")
        if not has_query and self.saved is None:
            if last.asked is None:
                raise click.UsageError("The last query was a picture on stdin, which is not kept. Give QUERY.", ctx)
            typed = self._over(last.asked, typed)
        return with_feedback(typed, more, less)

    @staticmethod
    def _over(kept: Remembered, typed: Remembered) -> Remembered:
        """Return a kept search with the options that were typed in place of its own."""
        source = click.get_current_context().get_parameter_source
        named = [name for name in _NAMES if source(name) == click.core.ParameterSource.COMMANDLINE]
        kept = replace(kept, **{name: getattr(typed, name) for name in named})
        return replace(kept, subtract=(*kept.subtract, *typed.subtract))

    def filter(self, place: str, where: str | None) -> str | None:
        """Return the filter of a search, and of what is new where only that is wanted."""
        if not self.only_new or self.saved is None:
            return where
        new = f"id > {load(place, self.saved).seen}"
        return new if where is None else f"({where}) AND {new}"

    def keep(
        self,
        console: "Console",
        collection: "Collection",
        asked: Remembered | None,
        shown: "SearchResult",
    ) -> None:
        """Keep a search as the last one, and under its name where it has one."""
        ids = tuple(int(id_) for id_ in shown.ids)
        problem = keep_last(collection.path, LastSearch(asked, ids, shown.target))
        if problem:
            console.detail(problem)
        for name in dict.fromkeys(name for name in (self.saved, self.save_as) if name is not None):
            if asked is None:
                raise click.UsageError(
                    "A picture on stdin cannot be saved. Give its file.", click.get_current_context()
                )
            kept = load(collection.path, name).asked if name == self.saved != self.save_as else asked
            save(collection.path, SavedSearch(name, kept, _newest(collection)))
            if name == self.save_as:
                console.note(f"saved: clipsearch search --saved {name!r} runs it again.")


def _newest(collection: "Collection") -> int:
    """Return the largest row id of the pictures; -1 where there is none."""
    rows: Sequence[Any] = list(collection.sql("SELECT max(id) AS newest FROM images"))
    return -1 if rows[0][0] is None else int(rows[0][0])
