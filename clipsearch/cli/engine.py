"""The options of ``clipsearch index`` that say where pictures are decoded and embedded."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])  # Any: commands take what their options give


def engine_options(function: F) -> F:
    """Add --engine, --ray-address and --workers; they go to ``Collection.index``."""
    for option in reversed(
        (
            click.option(
                "--engine",
                metavar="NAME",
                shell_complete=_complete_engines,
                show_default="local",
                help="Where pictures are embedded: local, or ray for Ray Data over a cluster.",
            ),
            click.option(
                "--ray-address",
                metavar="ADDR",
                show_default="Ray on this machine, for this run",
                help="The Ray cluster, such as 10.0.0.1:6379 or auto.",
            ),
            click.option(
                "--workers",
                "ray_workers",
                metavar="N",
                type=click.IntRange(min=0),
                show_default="0, as many as fit",
                help="Copies of the model that the engine ray runs.",
            ),
        )
    ):
        function = option(function)
    return function


def check_engine(name: str | None) -> None:
    """Refuse a name that is not there before anything is made."""
    from clipsearch.flows.engines import ENGINES

    if name is not None:
        ENGINES[name]


def _complete_engines(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    from clipsearch.flows.engines import ENGINES

    return [name for name in ENGINES if name.startswith(incomplete)]
