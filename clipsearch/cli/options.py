"""Options that several commands share."""

import os
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from clipsearch.cli.console import Console

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

F = TypeVar("F", bound=Callable[..., Any])  # Any: commands take what their options give


def common(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add -q, -v, --no-color and --debug; the command gets a ``Console`` as its first argument."""

    @click.option("-q", "--quiet", is_flag=True, help="Say nothing on stderr but errors.")
    @click.option("-v", "--verbose", is_flag=True, help="Say more on stderr.")
    @click.option("--no-color", is_flag=True, help="Use no colours; so does the environment variable NO_COLOR.")
    @click.option("--debug", is_flag=True, help="Show the traceback of an error.")
    @wraps(function)
    def command(*args: Any, quiet: bool, verbose: bool, no_color: bool, debug: bool, **options: Any) -> Any:
        console = click.get_current_context().ensure_object(Console)
        console.quiet, console.verbose, console.no_color, console.debug = quiet, verbose, no_color, debug
        return function(console, *args, **options)

    return command


def collection(function: F) -> F:
    """Add -i and --indexes-dir."""
    for option in reversed(
        (
            click.option(
                "-i",
                "--index",
                metavar="NAME|PATH",
                shell_complete=_complete_names,
                help="The collection: its name in the home of collections, or a path with a slash.",
            ),
            click.option(
                "--indexes-dir",
                metavar="DIR",
                envvar="CLIPSEARCH_INDEXES",
                default="indexes",
                show_default=True,
                show_envvar=True,
                help="The home of collections.",
            ),
        )
    ):
        function = option(function)
    return function


def encoder(function: F) -> F:
    """Add --device, --runtime and --precision; the command gets them as ``how``, for ``clipsearch.open``."""

    @wraps(function)
    def gathering(*args: Any, device: str, runtime: str, precision: str, **kwargs: Any) -> Any:  # Any: click's values
        return function(*args, how={"device": device, "runtime": runtime, "precision": precision}, **kwargs)

    command = cast(F, gathering)
    for option in reversed(
        (
            click.option(
                "--device",
                metavar="NAME",
                default="auto",
                show_default=True,
                help="Run the model on cpu, cuda, cuda:1; index on several too: cuda:0,cuda:1 or all.",
            ),
            click.option(
                "--runtime",
                metavar="NAME",
                default="auto",
                show_default=True,
                shell_complete=_complete_runtimes,
                help="What runs the model.",
            ),
            click.option(
                "--precision",
                type=click.Choice(["auto", "fp32", "bf16", "fp16", "int8"]),
                default="auto",
                show_default=True,
                help="Numbers the model computes in.",
            ),
        )
    ):
        command = option(command)
    return command


def new_model(function: F) -> F:
    """Add --model, for commands that may make a collection."""
    return click.option(
        "--model",
        metavar="NAME",
        shell_complete=complete_models,
        help="The model of a new collection. [default: the best one on this machine]",
    )(function)


def exclude(function: F) -> F:
    """Add --exclude."""
    return click.option(
        "--exclude", metavar="GLOB", multiple=True, help="Leave out files and folders of this name; repeatable."
    )(function)


def batch_size(function: F) -> F:
    """Add --batch-size."""
    return click.option(
        "--batch-size",
        metavar="N",
        type=click.IntRange(min=1),
        show_default="32",
        help="Pictures the model takes at once.",
    )(function)


def complete_models(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Complete names of models."""
    from clipsearch.embed.card import cards

    return [name for name in cards() if name.startswith(incomplete)]


def complete_files(_: click.Context, __: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """Leave it to the shell to complete files."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def _complete_names(ctx: click.Context, _: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    from click.shell_completion import CompletionItem

    from clipsearch.cli.place import collections_in

    if os.sep in incomplete:
        return [CompletionItem(incomplete, type="dir")]
    home = ctx.params.get("indexes_dir") or os.environ.get("CLIPSEARCH_INDEXES") or "indexes"
    return [CompletionItem(name) for name in collections_in(home) if name.startswith(incomplete)]


def _complete_runtimes(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    from clipsearch.embed import RUNTIMES

    return [name for name in ("auto", *RUNTIMES) if name.startswith(incomplete)]
