"""``clipsearch augment``: whether small additions to a text query find more on a collection."""

import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from clipsearch.cli import options
from clipsearch.cli.augment_images import command as images
from clipsearch.cli.console import Console, is_terminal, terminal_width

if TYPE_CHECKING:
    from clipsearch import AugmentEvidence, Collection
    from clipsearch.evaluation.paired import Change
    from clipsearch.flows.augment_files import Imagining

IMAGINED = "imagined"
LEGEND = """R@10, R@1, MRR: change on top of the rungs that are on above it; alone: change of R@10 of that rung alone
points of 100, 95 % intervals in brackets; a rung is on where the lower end of its R@10 is above zero"""


@click.group("augment", short_help="Measure what helps text queries here, and use it.", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Measure what helps text queries here, and use it.

    \b
    clipsearch augment fit
    clipsearch augment fit --rung imagined --generator mini
    clipsearch augment show
    clipsearch augment off
    clipsearch augment images SRC OUT
    """  # noqa: D301
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@command.command("fit", short_help="Measure all rungs and switch on those that help.")
@options.collection
@click.option("--rung", "rungs", metavar="NAME", multiple=True, help="Measure this one; repeatable.")
@click.option("--generator", metavar="NAME", help="What draws for imagined. [default: the best on this machine]")
@click.option("--samples", metavar="N", type=click.IntRange(50, 2_000), help="Captions to draw for. [default: 100]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@options.common
def fit(
    console: Console,
    index: str | None,
    indexes_dir: str,
    rungs: tuple[str, ...],
    generator: str | None,
    samples: int | None,
    as_json: bool,
) -> int:
    """Measure all rungs on held-back captions of the collection, and switch on those that help.

    At least 100 pictures are needed, nine in ten of them with captions; the model is not. The rung imagined, a picture
    drawn for each query, is measured only where it is named, and used by search --imagine.

    \b
    clipsearch augment fit -i photos
    clipsearch augment fit -i photos --rung imagined --generator mini --samples 100
    """  # noqa: D301
    from clipsearch.cli.progress import progress_bar

    if (generator or samples) and IMAGINED not in rungs:
        missing = "--generator and --samples go with --rung imagined."
        raise click.UsageError(missing, click.get_current_context())
    how: dict[str, Any] = {"generator": generator, **({"samples": samples} if samples else {})}
    with progress_bar(console) as show:
        return _answer(
            console,
            index,
            indexes_dir,
            as_json,
            lambda collection: collection.fit_augment(rungs or None, **how, progress=show, say=console.note),
        )


@command.command("show", short_help="Show what the last fit measured.")
@options.collection
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@options.common
def show(console: Console, index: str | None, indexes_dir: str, as_json: bool) -> int:
    """Show what the last fit measured, and what is on."""
    return _answer(console, index, indexes_dir, as_json, lambda collection: collection.augment_evidence())


@command.command("off", short_help="Switch all rungs off until the next fit.")
@options.collection
@options.common
def off(console: Console, index: str | None, indexes_dir: str) -> int:
    """Switch all rungs off until the next fit; what was measured is kept."""
    import clipsearch
    from clipsearch.cli.place import find

    with clipsearch.open(find(index, indexes_dir)) as collection:
        done = collection.augment_off()
        console.note(f"{collection.name}: {'all rungs are off now' if done else 'no rung was on'}")
    return 0


command.add_command(images)


def _answer(
    console: Console,
    index: str | None,
    indexes_dir: str,
    as_json: bool,
    get: "Callable[[Collection], AugmentEvidence | None]",
) -> int:
    import clipsearch
    from clipsearch.cli.place import find

    with clipsearch.open(find(index, indexes_dir)) as collection:
        evidence, name = get(collection), collection.name
        state = collection.status().augment
    if as_json:
        from clipsearch.present.json_lines import dump

        facts = {} if evidence is None else asdict(evidence)
        console.json([dump({"schema": "clipsearch.augment/1", "collection": name, "state": state, **facts})])
        return 0
    if evidence is None:
        console.note(f"{name}: {state}")
        return 0
    trial = evidence.trial
    console.note(
        f"{name}: {evidence.pairs:,} held-back captions of {evidence.pictures:,} pictures, among {evidence.among:,}; "
        f"without rungs R@1 {100 * trial.plain.r1:.1f}, R@10 {100 * trial.plain.r10:.1f}, MRR {trial.plain.mrr:.3f}"
    )
    console.results(_table(console, evidence))
    console.note(LEGEND)
    if evidence.imagined is not None:
        console.note(_drawn(evidence.imagined))
    console.note(f"searches: {state}")
    return 0


def _table(console: Console, evidence: "AugmentEvidence") -> list[str]:
    from clipsearch.present.table import Column, plain, render

    columns = [Column("rung"), Column("on"), *(Column(name, right=True) for name in _TITLES)]
    rows = [
        [
            rung.name,
            "yes" if rung.on and not evidence.off else "no",
            f"{rung.weight:g}",
            *(_points(change) for change in (rung.r10, rung.r1, rung.mrr, rung.alone)),
        ]
        for rung in (*evidence.trial.rungs, *(() if evidence.imagined is None else evidence.imagined.trial.rungs))
    ]
    if not is_terminal(sys.stdout):
        return list(plain(columns, rows))
    return list(render(columns, rows, terminal_width(sys.stdout), console.colour(sys.stdout)))


def _drawn(imagined: "Imagining") -> str:
    rest = imagined.asked - imagined.drawn - imagined.rejected
    failed = f", {rest:,} failed" if rest else ""
    return (
        f"imagined: {imagined.asked:,} captions; {imagined.generator} drew {imagined.drawn:,}, "
        f"{imagined.rejected:,} did not show the caption{failed}; used by search --imagine only"
    )


_TITLES = ("weight", "R@10", "R@1", "MRR", "alone")


def _points(change: "Change") -> str:
    return f"{100 * change.value:+.1f} ({100 * change.low:+.1f} to {100 * change.high:+.1f})"
