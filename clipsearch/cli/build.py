"""The options of ``clipsearch index`` that concern the approximate index, and what is said of it."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from clipsearch.cli.console import Console

if TYPE_CHECKING:
    from clipsearch import Collection

F = TypeVar("F", bound=Callable[..., Any])  # Any: commands take what their options give
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)
NAMES = ("index_type", "recipe", "memory", "retrain", "index_of")
_TARGETS = {"images": "image", "texts": "text"}


def build_options(function: F) -> F:
    """Add --index-type, --recipe, --memory, --retrain and --index-of."""
    for option in reversed(
        (
            click.option(
                "--index-type",
                metavar="TYPE",
                shell_complete=_complete_types,
                show_default="auto: flat up to 200,000, then ivfpq",
                help="How they are searched: auto, flat (all compared, exact), ivfflat, ivfpq.",
            ),
            click.option(
                "--recipe",
                metavar="FILE|NAME",
                shell_complete=_complete_recipes,
                help="Build the index by a recipe: a TOML file, or one that comes with the package.",
            ),
            click.option(
                "--memory",
                metavar="SIZE",
                callback=lambda _, __, text: None if text is None else read_size(text),
                show_default="70 % of what is free",
                help="Memory that building may take, such as 4GB.",
            ),
            click.option("--retrain", is_flag=True, help="Build the index anew; without SOURCE do only that."),
            click.option(
                "--index-of",
                type=click.Choice(list(_TARGETS)),
                show_default="images and, from 200,000 on, texts",
                help="Whose index the options above are for.",
            ),
        )
    ):
        function = option(function)
    return function


def read_size(text: str) -> int:
    """Return the bytes that "4GB", "512MB" or "2GiB" stand for."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise click.BadParameter(f"{text!r} is no size. Give a number and a unit, such as 4GB or 512MB.")
    power = " kmgt".index(match[2].lower() or " ")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


def build(
    console: Console, collection: "Collection", wanted: dict[str, Any], jobs: int | None = None, *, wait: bool = False
) -> None:
    """Bring the indexes up to date and say in a line each what they are; nothing where nothing was to be done or asked.

    What is asked of an index is asked of that of the images, unless the texts are named or there are texts alone; the
    other is kept as it is.
    """
    named = wanted["index_of"]
    if named is None and not collection.count("image") and collection.count("text"):
        named = "texts"
    for kind, target in _TARGETS.items():
        asked = {**wanted, "index_of": kind if kind == wanted["index_of"] else None}
        if kind != (named or "images"):
            asked |= {"index_type": None, "recipe": None, "retrain": wanted["retrain"] and named is None}
        if asked["index_type"] or asked["recipe"] or asked["index_of"] or collection.count(target):
            _build(console, collection, kind, asked, jobs, wait)


def _build(
    console: Console, collection: "Collection", kind: str, wanted: dict[str, Any], jobs: int | None, wait: bool
) -> None:
    from clipsearch.cli.progress import progress_bar
    from clipsearch.errors import InputError, LockedError

    asked = any(wanted.values())
    try:
        with progress_bar(console) as progress:
            done = collection.build_index(
                wanted["index_type"] or "auto",
                target=_TARGETS[kind],
                recipe=wanted["recipe"],
                memory_bytes=wanted["memory"],
                jobs=jobs or 1,
                retrain=wanted["retrain"],
                wait=wait,
                progress=progress,
                say=lambda line: console.note(f"index: {line}"),
            )
    except (InputError, LockedError) as problem:
        if asked:
            raise
        console.note(f"note: {problem}")  # the rows are in, and every search finds them
        return
    except KeyboardInterrupt:
        raise click.Abort(
            f"the {kind} are saved, searches use the index as it was, and what is built is kept. "
            "The same command goes on from there."
        ) from None
    say = console.note if asked or done.action in ("built", "extended", "removed") else console.detail
    say(f"index: {done.line}")


def _complete_types(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    from clipsearch.index import INDEX_TYPES

    return [name for name in ("auto", *INDEX_TYPES) if name.startswith(incomplete)]


def _complete_recipes(_: click.Context, __: click.Parameter, incomplete: str) -> Any:
    from click.shell_completion import CompletionItem

    from clipsearch.index.recipe import recipe_names

    names = [CompletionItem(name) for name in recipe_names() if name.startswith(incomplete)]
    return names or [CompletionItem(incomplete, type="file")]
