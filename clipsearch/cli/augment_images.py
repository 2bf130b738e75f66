"""``clipsearch augment images``: labelled variants of a folder, for people who train models."""

from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from clipsearch.cli import options
from clipsearch.cli.console import Console

if TYPE_CHECKING:
    from clipsearch.flows.augment_drawer import VariantDrawer

FINISHED_WITH_SKIPS = 3


@click.command("images", short_help="Make labelled variants of a folder, to train models on.")
@click.argument("source", metavar="SRC", shell_complete=options.complete_files)
@click.argument("out", metavar="OUT", shell_complete=options.complete_files)
@click.option(
    "--per-image", metavar="N", type=click.IntRange(min=0), default=4, show_default=True, help="Variants of a picture."
)
@click.option(
    "--kinds",
    metavar="LIST",
    help="Kinds with commas between, + to do one after the other: flip,crop+colour. [default: all, one by one]",
)
@click.option("--seed", metavar="N", type=click.IntRange(min=0), default=0, show_default=True, help="Decides numbers.")
@click.option(
    "--size",
    metavar="PIXELS",
    type=click.IntRange(8, 4096),
    default=512,
    show_default=True,
    help="The longer side, at most.",
)
@click.option(
    "--labels",
    metavar="FILE",
    shell_complete=options.complete_files,
    help="CSV with a column image, such as labels or captions: OUT gets it with a row a variant.",
)
@click.option("--generator", metavar="NAME", help="Make one variant more of each picture with this generator.")
@click.option(
    "--strength",
    metavar="X",
    type=click.FloatRange(0, 1, min_open=True),
    help="How far the generator goes from the picture. [default: 0.5]",
)
@options.common
def command(
    console: Console,
    source: str,
    out: str,
    per_image: int,
    kinds: str | None,
    seed: int,
    size: int,
    labels: str | None,
    generator: str | None,
    strength: float | None,
) -> int:
    """Make labelled variants of all pictures in the folder SRC, in the folder OUT.

    The same seed makes the same files; what is there already is kept. SRC is only read, and subfolders, which often are
    the labels, are kept. OUT/manifest.jsonl says how each file was made. No collection is needed. Exit code 3:
    finished, and some pictures were skipped; each is named.

    \b
    clipsearch augment images ./photos ./variants
    clipsearch augment images ./photos ./variants --labels captions.csv --kinds flip,crop+colour,rotate --per-image 3
    """  # noqa: D301
    from clipsearch.cli.progress import progress_bar
    from clipsearch.cli.summary import skip_listing
    from clipsearch.flows.augment_images import Wanted, make_variants

    if strength is not None and generator is None:
        raise click.UsageError("--strength goes with --generator.", click.get_current_context())
    given = {} if kinds is None else {"kinds": tuple(kind.strip() for kind in kinds.split(",") if kind.strip())}
    wanted = Wanted(per_image=per_image, seed=seed, size=size, **given)
    with ExitStack() as stack:
        drawer = None if generator is None else _drawer(stack, out, generator, strength, labels)
        show = stack.enter_context(progress_bar(console))
        report = make_variants(source, out, wanted, labels=labels, drawer=drawer, tell=show)
    for note in report.notes:
        console.note(f"note: {note}")
    for line in skip_listing(report.skips, None):
        console.note(line)
    rows = "" if labels is None else f", {report.labels:,} rows of labels"
    console.note(
        f"{out}: {report.made + report.kept:,} variants of {report.pictures:,} pictures ({report.made:,} made, "
        f"{report.kept:,} kept){rows}, {len(report.skips):,} skipped"
    )
    return FINISHED_WITH_SKIPS if report.skips else 0


def _drawer(stack: ExitStack, out: str, generator: str, strength: float | None, labels: str | None) -> "VariantDrawer":
    from clipsearch.flows.augment_drawer import STRENGTH, VariantDrawer
    from clipsearch.flows.augment_labels import captions_of
    from clipsearch.flows.generators import choose_generator
    from clipsearch.generate.service import GeneratorService

    chosen = choose_generator(out, generator)
    assert chosen is not None  # a name was given
    service = stack.enter_context(GeneratorService(chosen.setup))
    captions = {} if labels is None else captions_of(labels)
    return VariantDrawer(chosen, service, STRENGTH if strength is None else strength, captions)
