"""``clipsearch models``: which models there are, where they lie, and how to get one."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from clipsearch.cli import options
from clipsearch.cli.console import Console, is_terminal, terminal_width

if TYPE_CHECKING:
    from clipsearch.embed import EncoderCard


@click.group("models", short_help="List the models, locate, download or export one.", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List the models, locate, download or export one.

    \b
    clipsearch models list
    clipsearch models path vit-b-32-256
    clipsearch models pull vit-b-32-256
    clipsearch models export vit-b-32-256
    """  # noqa: D301
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@command.command("list", short_help="List the models and say which are on this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON Lines: one object a model.")
@options.common
def list_models(console: Console, as_json: bool) -> int:
    """List the models and say which are on this machine.

    Any other open_clip model works too: --model ARCH/TAG, ARCH@CHECKPOINT or local-dir:FOLDER.
    """
    from clipsearch.embed import cards, weights_path

    found = [(card, weights_path(card)) for card in cards().values()]
    if as_json:
        from clipsearch.present.json_lines import dump

        console.json(dump({"schema": "clipsearch.model/1", **asdict(card), "path": path}) for card, path in found)
    else:
        console.results(_table(console, found))
    return 0


@command.command("path", short_help="Print where a model lies, or would lie.")
@click.argument("name", shell_complete=options.complete_models)
@options.common
def show_path(console: Console, name: str) -> int:
    """Print where a model lies, or would lie.

    Exit code 2: it is not on this machine.
    """
    from clipsearch.embed import expected_path, load_card, weights_path
    from clipsearch.errors import WeightsNotFoundError

    card = load_card(name)
    path = weights_path(card)
    console.results([path or expected_path(card)])
    if path is None:
        get = "" if card.checkpoint else f" Get it: clipsearch models pull {name}"
        raise WeightsNotFoundError(f"The model {name!r} is not on this machine.{get}")
    return 0


@command.command("pull", short_help="Download a model; the only command that uses the network.")
@click.argument("name", shell_complete=options.complete_models)
@options.common
def pull_model(console: Console, name: str) -> int:
    """Download a model; the only command that uses the network.

    It goes into the Hugging Face cache, which other programs share (HF_HOME). Prints where it lies.
    """
    from clipsearch.embed import load_card, pull

    console.results([pull(load_card(name), console.note)])
    return 0


@command.command("export", short_help="Export a model, so that it runs faster and without torch.")
@click.argument("name", shell_complete=options.complete_models)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "int8"]),
    default="fp32",
    show_default=True,
    help="Numbers of the exported weights; int8 is faster and less exact.",
)
@options.common
def export_towers(console: Console, name: str, precision: str) -> int:
    """Export a model's towers, so that it runs faster and without torch.

    Done once for its weights, beside the Hugging Face cache; --runtime auto then uses them. Prints where they lie.
    """
    from clipsearch.embed import export_model

    console.results(export_model(name, precision, console.note))
    return 0


def _table(console: Console, found: "list[tuple[EncoderCard, str | None]]") -> Iterator[str]:
    from clipsearch.present.table import Column, plain, render_groups, wrapped
    from clipsearch.present.text import wrap

    columns = (
        Column("name"),
        Column("dim", right=True),
        Column("size", right=True),
        Column("on disk"),
        Column("languages"),
        Column("licence", fit=wrapped, least=12),
    )
    rows = [_row(card, path) for card, path in found]
    if not is_terminal(sys.stdout):
        columns = (*columns, Column("good for"))
        yield from plain(columns, [[*row, card.good_for] for row, (card, _) in zip(rows, found, strict=True)])
        return
    width = terminal_width(sys.stdout)
    groups = render_groups(columns, rows, width, console.colour(sys.stdout))
    yield from next(groups)
    for lines, (card, _) in zip(groups, found, strict=True):
        yield from lines
        yield from (f"    {line}" for line in wrap(card.good_for, width - 4))


def _row(card: "EncoderCard", path: str | None) -> list[str]:
    from clipsearch.present.text import file_size

    size = file_size(card.size_mb * 1_000_000) if card.size_mb else "-"
    return [card.name, str(card.dim or "-"), size, "yes" if path else "no", _languages(card), card.licence]


def _languages(card: Any) -> str:
    return "many" if "multi" in card.languages else ", ".join(card.languages) or "unknown"
