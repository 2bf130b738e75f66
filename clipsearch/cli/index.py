"""``clipsearch index``: make a collection, or bring it up to date."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import click

from clipsearch.cli import options
from clipsearch.cli.build import NAMES, build, build_options
from clipsearch.cli.console import Console, binary, is_terminal, terminal_width
from clipsearch.cli.engine import check_engine, engine_options
from clipsearch.cli.writing import put_in_place

if TYPE_CHECKING:
    from clipsearch import Collection, ImportReport, IndexReport

FINISHED_WITH_SKIPS = 3


@click.command("index", short_help="Index pictures, or bring a collection up to date.")
@click.argument("source", required=False, shell_complete=options.complete_files)
@options.collection
@options.new_model
@click.option(
    "--captions",
    metavar="FILE",
    multiple=True,
    shell_complete=options.complete_files,
    help="Index the texts of FILE too: CSV, JSON, JSON Lines, Parquet, text; or `sidecars` (photo.txt, photo.json), or "
    "`embedded` (IPTC, XMP); repeatable.",
)
@options.exclude
@click.option("--shard", metavar="I/N", help="Index part I of N of SOURCE, into a collection of its own.")
@click.option(
    "--retry-skipped", is_flag=True, help="Decode broken and generated files again that have not changed since."
)
@click.option("--prune-empty", is_flag=True, help="Take out what is known from folders that stand empty now.")
@click.option("--column", metavar="NAME", help="The column of paths, pictures or embeddings, where SOURCE is a table.")
@click.option(
    "--embeddings",
    is_flag=True,
    help="SOURCE holds ready embeddings: .npy, Parquet, a folder of them, or clip-retrieval's embeddings folder.",
)
@click.option("--allow-gaps", is_flag=True, help="With --embeddings: take a folder although partitions are missing.")
@click.option(
    "--report",
    metavar="FILE",
    shell_complete=options.complete_files,
    help="Write every skipped file with its reason to FILE, as JSON Lines.",
)
@options.batch_size
@click.option(
    "--jobs",
    metavar="N",
    type=click.IntRange(min=0),
    show_default="0, one a core",
    help="Processes that decode pictures (of each worker under the engine ray), and, where given, build the index.",
)
@click.option(
    "--commit-every",
    metavar="N",
    type=click.IntRange(min=1),
    show_default="1000",
    help="Save after so many pictures; an interrupted run loses no more than that.",
)
@click.option(
    "--generated",
    type=click.Choice(["ignore", "mark"]),
    show_default="ignore",
    help="Pictures that a generator made: leave them out, or index them, marked in every view.",
)
@click.option("--wait", is_flag=True, help="Wait while another process writes to the collection or builds its index.")
@engine_options
@build_options
@options.encoder
@options.common
def command(
    console: Console,
    source: str | None,
    index: str | None,
    indexes_dir: str,
    model: str | None,
    report: str | None,
    how: dict[str, str],
    embeddings: bool,
    allow_gaps: bool,
    **settings: Any,  # Any: options that go to Collection.index
) -> int:
    """Index pictures, or bring a collection up to date.

    SOURCE is a folder, a picture, a tar, a CSV or Parquet table of paths, a Parquet table of pictures, or - for paths
    on stdin. Only what is new or changed is embedded; what is gone from SOURCE is taken out, but for that of
    folders that stand empty as if they were not mounted. Your pictures are never written to.

    With --embeddings nothing is opened or embedded: SOURCE holds what --model made elsewhere.

    Without -i the collection is called as the folder is: "clipsearch index ./photos" makes indexes/photos.
    Exit code 3: finished, and some files were skipped; each is named.

    \b
    clipsearch index ./photos
    clipsearch index ./photos --captions captions.csv --captions sidecars --captions embedded
    clipsearch index --captions bank.txt -i bank
    clipsearch index ./photos --model mini -i indexes/small --report skipped.jsonl
    find . -name '*.jpg' -newer mark -print0 | clipsearch index - -i recent
    clipsearch index --embeddings ./laion --model vit-b-32
    clipsearch index --retrain -i photos
    """  # noqa: D301
    wanted = {name: settings.pop(name) for name in NAMES}
    if source is None and settings["captions"]:
        return _texts_only(console, (index, indexes_dir), model, how, wanted, settings)
    if source is None:
        return _build_only(console, (index, indexes_dir), how, wanted, settings)
    _check_wanted(wanted)
    check_engine(settings["engine"])
    if embeddings:
        from clipsearch.cli.embeddings import run_import

        settings |= {"allow_gaps": allow_gaps, "report": report}
        skips = run_import(console, source, (index, indexes_dir), model, how, wanted, settings)
        return FINISHED_WITH_SKIPS if skips else 0
    if allow_gaps:
        raise click.UsageError("--allow-gaps goes with --embeddings.", click.get_current_context())
    _check_files(settings["captions"], report)
    path = place_of_run(source, index, indexes_dir, settings["column"], settings["shard"])
    with open_or_create(console, path, model, how) as collection:
        if index is None:
            _warn_of_another_root(console, collection, path, source)
        done = _run(console, collection, source, settings)
        if collection.how:
            console.detail(f"model {collection.model}: {collection.how}")
        _say(console, done, path, report)
        build(console, collection, wanted, settings["jobs"], wait=settings["wait"])
    return FINISHED_WITH_SKIPS if done.skips else 0


@contextmanager
def open_indexed(
    console: Console, source: str, index: str | None, home: str, how: dict[str, str]
) -> "Iterator[Collection]":
    """Bring the collection of a source up to date, as the command without options does, and yield it."""
    path = place_of_run(source, index, home, None, None)
    with open_or_create(console, path, None, how) as collection:
        if index is None:
            _warn_of_another_root(console, collection, path, source)
        _say(console, _run(console, collection, source, {}), path, None)
        yield collection


def _texts_only(
    console: Console,
    place: tuple[str | None, str],
    model: str | None,
    how: dict[str, str],
    wanted: dict[str, Any],
    settings: dict[str, Any],
) -> int:
    """Without SOURCE: add texts to a collection, which is made where -i names none."""
    from clipsearch.cli.place import find, to_make
    from clipsearch.cli.progress import progress_bar
    from clipsearch.present.text import count

    _check_wanted(wanted)
    _check_files(settings["captions"], None)
    index, home = place
    path = find(None, home) if index is None else to_make(index, home)
    with open_or_create(console, path, model, how) as collection:
        with progress_bar(console) as progress:
            done = collection.index_texts(settings["captions"], progress=progress)
        for note in done.notes:
            console.note(f"note: {note}")
        console.note(f"{count(done.rows, 'text')} added to {path}")
        build(console, collection, wanted, settings["jobs"], wait=settings["wait"])
    return 0


def _build_only(
    console: Console,
    place: tuple[str | None, str],
    how: dict[str, str],
    wanted: dict[str, Any],
    settings: dict[str, Any],
) -> int:
    """Without SOURCE: bring nothing but the approximate index up to date."""
    import clipsearch
    from clipsearch.cli.place import find

    if not any(wanted.values()):
        ctx = click.get_current_context()
        raise click.UsageError("Missing argument 'SOURCE': a folder, a picture, a tar, a table, or -.", ctx)
    with clipsearch.open(find(*place), **how) as collection:
        build(console, collection, wanted, settings["jobs"], wait=settings["wait"])
    return 0


def _check_wanted(wanted: dict[str, Any]) -> None:
    """Refuse a name that is not there before the pictures are embedded and not after."""
    from clipsearch.index import INDEX_TYPES

    if wanted["index_type"] not in (None, "auto"):
        INDEX_TYPES[wanted["index_type"]]
    if wanted["recipe"] is not None:
        from clipsearch.index.recipe import load_recipe

        load_recipe(wanted["recipe"])


def _say(console: Console, done: "IndexReport", path: str, report: str | None) -> None:
    from clipsearch.cli.summary import index_summary

    say_skips(console, done, report)
    width = terminal_width(sys.stderr) if is_terminal(sys.stderr) else None
    for line in index_summary(done, path, width):
        console.note(line)


def say_skips(console: Console, done: "IndexReport | ImportReport", report: str | None, noun: str = "file") -> None:
    """Say what there is to say of a run before its closing line, and write the report of what was left out."""
    from clipsearch.cli.summary import skip_listing

    for note in done.notes:
        console.note(f"note: {note}")
    for line in skip_listing(done.skips, report, noun):
        console.note(line)
    console.detail(_stages(done))
    if report is not None:
        write_report(report, done)


def _check_files(captions: Sequence[str], report: str | None) -> None:
    """Refuse at once what would otherwise fail after hours of work."""
    if captions:
        from clipsearch.flows.captions import check_captions

        check_captions(captions)
    check_report(report)


def check_report(report: str | None) -> None:
    """Refuse a report that could not be written at the end of the run."""
    from clipsearch.errors import InputError

    if report is not None:
        folder = os.path.dirname(report) or os.curdir
        if os.path.isdir(report) or not os.path.isdir(folder) or not os.access(folder, os.W_OK):
            raise InputError(f"The report {report} cannot be written. Give a file in a folder that you may write to.")


def place_of_run(source: str, index: str | None, home: str, column: str | None, shard: str | None) -> str:
    """Return where the collection is or will be; a source that is not there is refused before anything is made."""
    from clipsearch.cli.place import to_make
    from clipsearch.scan.part import parse_part

    suffix = "" if shard is None else "-{}-of-{}".format(*parse_part(shard))

    if source == "-":
        if is_terminal(sys.stdin):
            raise click.UsageError("SOURCE - reads paths from stdin, which is a terminal. Pipe them in.")
        return to_make(index or f"stdin{suffix}", home)
    from clipsearch.scan import open_source

    name = open_source(source, column=column).name
    return to_make(index, home) if index is not None else os.path.join(home, f"{name}{suffix}")


def open_or_create(
    console: Console, path: str, model: str | None, how: dict[str, str]
) -> "AbstractContextManager[Collection]":
    """Open the collection at a path, or make it; one that was made goes if the block fails with nothing stored."""
    import clipsearch
    from clipsearch.cli.place import opened_or_made

    def opened() -> "Collection":
        collection = clipsearch.open(path, **how)
        if model is not None:
            _check_model(collection, path, model)
        return collection

    return opened_or_made(path, opened, lambda: _create(console, path, model, how))


def _create(console: Console, path: str, model: str | None, how: dict[str, Any]) -> "tuple[Collection, bool]":
    """Make a collection, and say whether it was not another process that did."""
    import clipsearch
    from clipsearch.errors import InputError, LockedError

    try:
        collection = clipsearch.create(path, model, **how)
    except (InputError, LockedError) as problem:
        if not _is_made(path, seconds=5 if isinstance(problem, LockedError) else 0):
            raise
        return clipsearch.open(path, **how), False  # another process was quicker
    if collection.note:
        console.note(f"note: {collection.note}")
    return collection, True


def _is_made(path: str, seconds: float) -> bool:
    """Tell whether there is a collection now; waits so long for another process that is making it."""
    end = time.monotonic() + seconds
    while not os.path.isfile(os.path.join(path, "CURRENT")):
        if time.monotonic() >= end:
            return False
        time.sleep(0.05)
    return True


def _check_model(collection: "Collection", path: str, model: str) -> None:
    """Refuse a model other than the collection's; its embeddings could not be compared with the stored ones."""
    from clipsearch.embed.card import load_card
    from clipsearch.errors import ManifestMismatchError

    if load_card(model).name != collection.model:
        raise ManifestMismatchError(
            f"{path} was made with the model {collection.model!r}, not {model!r}; one collection has one model.\n"
            f"Leave out --model, or make another collection: -i NAME --model {model}"
        )


def _warn_of_another_root(console: Console, collection: "Collection", path: str, source: str) -> None:
    """Say so when a folder joins a collection only because both have the same name."""
    if not os.path.isdir(source):
        return
    place = os.path.abspath(source)
    roots = [root for root, _, _ in collection.status().roots if root]
    if roots and not any(_inside(place, root) or _inside(root, place) for root in roots):
        console.note(f"note: {path} already holds {roots[0]}; {place} is added to it. -i NAME keeps them apart.")


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _run(console: Console, collection: "Collection", source: str, settings: dict[str, Any]) -> "IndexReport":
    from clipsearch.cli.progress import progress_bar

    names = {"jobs": "workers", "commit_every": "commit_rows", "exclude": "excludes"}
    given = {names.get(name, name): value for name, value in settings.items() if value not in (None, ())}
    stdin = binary(sys.stdin) if source == "-" else None
    try:
        with stopping_politely(), progress_bar(console) as progress:
            return collection.index(source, stdin=stdin, progress=progress, **given)
    except KeyboardInterrupt:
        raise click.Abort("what is finished is saved. The same command goes on from there.") from None


@contextmanager
def stopping_politely() -> Iterator[None]:
    """Let SIGTERM, as a shutdown sends it, end a run as Ctrl-C does: what is finished is saved."""
    if threading.current_thread() is not threading.main_thread():  # where signals cannot be set
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stages(done: "IndexReport | ImportReport") -> str:
    from clipsearch.present.text import duration

    return "time: " + ", ".join(f"{stage} {duration(seconds)}" for stage, seconds in done.stages.items())


def write_report(path: str, done: "IndexReport | ImportReport") -> None:
    """Write the skipped files."""
    from clipsearch.errors import InputError
    from clipsearch.present.json_lines import skip_lines

    lines = "".join(line + "\n" for line in skip_lines(done.skips))
    try:
        put_in_place(path, lines.encode())
    except OSError as problem:
        raise InputError(
            f"The report {path} cannot be written: {problem.strerror}. The collection is up to date."
        ) from None
