"""``search --fill``: what is said and done about a picture that the collection does not have.

All of it comes after the answer, which it cannot change: neither what was printed nor the exit code.
"""

from typing import TYPE_CHECKING, Any

import click

from clipsearch.cli.console import Console

if TYPE_CHECKING:
    from clipsearch import Collection, GeneratedImage, SearchResult
    from clipsearch.cli.query import Asked

MODES = ("off", "offer", "auto", "always")  # as flows/fill.py has them; it is not imported to parse an option


def fill_options(function: Any) -> Any:  # Any: a command
    """Add --fill and --fill-model."""
    mode = click.option(
        "--fill",
        type=click.Choice(MODES),
        default="offer",
        show_default=True,
        help="Where nothing matches: say what could draw it, draw it (auto), or neither; always draws.",
    )
    model = click.option("--fill-model", metavar="NAME", help="What draws. [default: the best on this machine]")
    return mode(model(function))


def offer(
    console: Console,
    collection: "Collection",
    result: "SearchResult",
    asked: "Asked | None",
    mode: str,
    model: str | None,
) -> str:
    """Return what to say of drawing on the line that says that nothing matches; "" where there is nothing to say."""
    if result.verdict != "none" or mode != "offer" or result.target != "image" or not _words(asked):
        return ""
    from clipsearch.errors import ClipsearchError
    from clipsearch.flows.generators import choose_generator

    try:
        chosen = choose_generator(collection.path, model)
    except (ClipsearchError, OSError) as problem:
        console.detail(f"fill: {problem}")
        return ""
    if chosen is None:
        console.detail("fill: no generator is on this machine; clipsearch generate --list shows how to get one.")
        return ""
    card = chosen.card
    if chosen.scope is not None and chosen.scope.read(_words(asked)).why_not:
        return f" {card.name}, which would draw here, cannot draw that; clipsearch generate --list shows what could."
    took = "time not known yet" if chosen.seconds is None else f"about {chosen.seconds:.0f} s"
    verb = "sketch" if card.caveat else "draw"
    return (
        f" --fill auto would {verb} it with {card.name} on {chosen.setup.device} ({took}; licence: {card.licence}), "
        "a file *.generated.png marked as generated."
    )


def fill(
    console: Console,
    collection: "Collection",
    result: "SearchResult",
    asked: "Asked | None",
    mode: str,
    model: str | None,
    as_json: bool,
) -> "list[GeneratedImage]":
    """Draw where the mode and the verdict ask for it, now that the answer is out; returns what was drawn.

    Whatever goes wrong is said in a note: the answer was given, and the exit code is its own.
    """
    if mode in ("off", "offer"):
        return []
    from clipsearch.flows.fill import check_breaker, decide

    if decide(mode, result.verdict, result.target, bool(_words(asked))) != "draw":
        return []
    images: list[GeneratedImage] = []
    why = None
    try:
        check_breaker(collection.path)
        images.append(collection.generate(_words(asked), model=model))
    except Exception as problem:  # of any kind: a search does not fail because a generator does
        why = str(problem) or type(problem).__name__
        _say_failure(console, why)
    for image in images:
        _say(console, image)
    if as_json:
        from clipsearch.present.generated import fill_object
        from clipsearch.present.json_lines import dump

        console.json([dump(fill_object(_words(asked), str(result.verdict), mode, images, why))])
    return images


def _words(asked: "Asked | None") -> str:
    return (asked.text or "") if asked is not None else ""


def _say_failure(console: Console, why: str) -> None:
    if console.debug:
        from traceback import print_exc

        print_exc()
    console.note(f"nothing was generated: {why}")


def _say(console: Console, image: "GeneratedImage") -> None:
    from clipsearch.present.generated import describe

    for note in image.notes:
        console.note(f"note: {note}")
    console.note(describe(image))
