"""``clipsearch generate``: draw a picture of words."""

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from clipsearch.cli import options
from clipsearch.cli.console import Console, is_terminal, terminal_width

if TYPE_CHECKING:
    from clipsearch import GeneratedImage
    from clipsearch.generate import GeneratorCard


@click.command("generate", short_help="Draw a picture of words; it never becomes a hit.")
@click.argument("prompt", metavar="PROMPT", required=False)
@options.collection
@click.option(
    "--list",
    "show_list",
    is_flag=True,
    help="List the generators and say which are on this machine; with --model, what that one draws.",
)
@click.option("--model", metavar="NAME", help="What draws, or local-dir:FOLDER. [default: the best on this machine]")
@click.option("-n", "--best-of", metavar="N", type=click.IntRange(1, 16), help="Draw N, keep the best.")
@click.option("--seed", metavar="N", type=click.IntRange(min=0), default=0, show_default=True, help="The first seed.")
@click.option("--size", metavar="WxH", help="Pixels, multiples of 8, such as 512x512.")
@click.option("--steps", metavar="N", type=click.IntRange(min=1), help="Denoising steps.")
@click.option("--guidance", metavar="X", type=click.FloatRange(0, 100), help="How strictly to follow PROMPT.")
@click.option("--negative", metavar="TEXT", help="What not to draw.")
@click.option("--like", metavar="FILE", shell_complete=options.complete_files, help="A picture to start from.")
@click.option("--strength", metavar="X", type=click.FloatRange(0, 1, min_open=True), help="How far to go from it.")
@click.option("--sampler", metavar="NAME", help="How mini fills in: confidence or random.")
@click.option("--device", metavar="NAME", default="auto", show_default=True, help="Draw on cpu, cuda, cuda:1.")
@click.option(
    "--dtype",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    show_default=True,
    help="Numbers to draw in.",
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=300.0,
    show_default=True,
    help="Stop after so long.",
)
@click.option("--with-prompt", is_flag=True, help="Write PROMPT itself into the file; else only its digest.")
@click.option(
    "--sign-with",
    metavar="CERT KEY",
    nargs=2,
    help="Sign the picture by C2PA: PEM files of a certificate chain and its private key.",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    shell_complete=options.complete_files,
    help="Write it here too; the name ends in .generated.png.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON Lines.")
@options.common
def command(
    console: Console,
    prompt: str | None,
    index: str | None,
    indexes_dir: str,
    show_list: bool,
    size: str | None,
    timeout: float,
    output: str | None,
    as_json: bool,
    **wanted: Any,  # Any: options that go to Collection.generate
) -> int:
    """Draw a picture of words; it never becomes a hit.

    The picture lies in the collection's folder generated/, is marked as generated, and stays out of searches and index
    runs. It prints where. The collection's model chooses the best of N, or rejects them all (exit code 1).

    \b
    clipsearch generate "a red bicycle in the snow"
    clipsearch generate --list
    clipsearch generate "the same in winter" --like ./garden.jpg --strength 0.6
    """  # noqa: D301
    if show_list:
        return _list(console, as_json) if wanted["model"] is None else _list_things(console, wanted["model"], as_json)
    if prompt is None:
        raise click.UsageError("Missing argument 'PROMPT': what to draw, in quotes.", click.get_current_context())
    if output is not None:
        _check_output(output)
    import clipsearch
    from clipsearch.cli.place import find

    renamed = {"guidance": "guidance_scale", "negative": "negative_prompt"}
    given = {renamed.get(name, name): value for name, value in wanted.items() if value is not None}
    with clipsearch.open(find(index, indexes_dir)) as collection:
        image = collection.generate(prompt, seconds=timeout, **_size(size), **given)
    _say(console, image, output, as_json)
    return 0


def _size(size: str | None) -> dict[str, int]:
    if size is None:
        return {}
    width, x, height = size.lower().partition("x")
    if not (x and width.isdecimal() and height.isdecimal()):
        raise click.UsageError(f"--size is WxH, such as 512x512, not {size!r}.", click.get_current_context())
    return {"width": int(width), "height": int(height)}


def _check_output(path: str) -> None:
    """Refuse a name that would pass for a photo's, and one that is taken, before anything is drawn."""
    from clipsearch.errors import InputError

    if not path.endswith(".generated.png"):
        raise InputError(
            f"A generated picture's name says so: {path} does not end in .generated.png.\n"
            f"Call it {os.path.splitext(path)[0]}.generated.png"
        )
    if os.path.lexists(path):
        raise InputError(f"{path} is there already. Give another name, or remove it.")


def _say(console: Console, image: "GeneratedImage", output: str | None, as_json: bool) -> None:
    from clipsearch.present.generated import describe, generated_object

    for note in image.notes:
        console.note(f"note: {note}")
    if output is not None:
        _write(output, image.png)
    if as_json:
        from clipsearch.present.json_lines import dump

        console.json([dump(generated_object(image))])
    elif image.path or output:
        console.results([os.fsencode(image.path or str(output))])
    console.note(describe(image))


def _write(path: str, data: bytes) -> None:
    from clipsearch.errors import InputError

    try:
        with open(path, "xb") as file:
            file.write(data)
    except OSError as problem:
        raise InputError(f"{path} cannot be written: {problem.strerror}. The collection has the picture.") from None


def _list(console: Console, as_json: bool) -> int:
    from clipsearch.flows.generators import weights_folder
    from clipsearch.generate import cards

    found = [(card, weights_folder(card)) for card in cards().values() if card.automatic]
    if as_json:
        from dataclasses import asdict

        from clipsearch.present.json_lines import dump

        console.json(dump({"schema": "clipsearch.generator/1", **asdict(card), "path": path}) for card, path in found)
    else:
        console.results(_table(console, found))
    return 0


def _list_things(console: Console, model: str, as_json: bool) -> int:
    """Print what a generator says that it draws, one thing a line."""
    from clipsearch.flows.generators import weights_folder
    from clipsearch.generate import load_card
    from clipsearch.generate.scope import read_scope

    card = load_card(model)
    scope = read_scope(weights_folder(card))
    things = [] if scope is None else scope.names()
    grounds = [] if scope is None else list(scope.backgrounds)
    if as_json:
        from clipsearch.present.json_lines import dump

        said = {"things": None} if scope is None else {"things": things, "backgrounds": grounds}
        console.json([dump({"schema": "clipsearch.scope/1", "name": card.name, **said})])
        return 0
    console.results(things)
    if scope is None:
        console.note(f"{card.name} does not say what it draws: give it any words.")
    else:
        console.note(f"{card.name} draws one of these {len(things)} at a time, on a background: {', '.join(grounds)}.")
    return 0


def _table(console: Console, found: "list[tuple[GeneratorCard, str | None]]") -> Iterator[str]:
    from clipsearch.present.table import Column, plain, render, wrapped

    columns = (
        Column("name"),
        Column("here"),
        Column("disk", right=True),
        Column("good for", fit=wrapped, least=16),
        Column("licence", fit=wrapped, least=12),
    )
    rows = [
        [
            card.name,
            "yes" if path else "no",
            f"{card.disk_gb:g} GB" if card.disk_gb else "-",
            card.good_for,
            card.licence,
        ]
        for card, path in found
    ]
    if not is_terminal(sys.stdout):
        yield from plain(
            (*columns, Column("repository")), [[*r, c.hub or ""] for r, (c, _) in zip(rows, found, strict=True)]
        )
        return
    yield from render(columns, rows, terminal_width(sys.stdout), console.colour(sys.stdout))
    yield "Get one: hf download REPOSITORY (--list | cat shows repositories); nothing is downloaded unasked."
