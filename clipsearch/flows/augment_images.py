"""Labelled variants of a folder of pictures, for people who train models.

    SRC/cats/tom.jpg  ->  OUT/cats/tom.jpg.flip-0.png, OUT/cats/tom.jpg.crop-1.png ...

Folders are kept, since they often are the labels; a table of labels or captions is written again with a row for each
variant. ``manifest.jsonl`` says of each file of which picture (by its SHA-256), how and by which seed it was made, and
a line is added as soon as its file is whole: what a stopped run left is not made again. SRC is only read.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol

from clipsearch.augment.images import KINDS, VERSION, encode_variant, make_variant, parse_kind
from clipsearch.decode import DecodeLimits, DecodePool, DecodeRequest
from clipsearch.decode.whole import Whole
from clipsearch.errors import InputError, StorageError
from clipsearch.flows.augment_labels import LABELS, write_labels
from clipsearch.flows.progress import Progress
from clipsearch.generate.base import Refused
from clipsearch.generate.cache import write_whole
from clipsearch.scan import open_source
from clipsearch.types import Decoded, ImageRef, Skip

MANIFEST, SCHEMA = "manifest.jsonl", "clipsearch.variant/1"
GENERATED = "generated"

Row = dict[str, Any]  # Any: JSON values


class Drawer(Protocol):
    """Makes variants with a generator."""

    def recipe(self, picture: Decoded) -> Row:
        """Return what decides the variant of a picture, in JSON."""
        ...

    def draw(self, picture: Decoded, seed: int) -> bytes:
        """Return the variant as a PNG that says it was generated.

        Raises:
            GenerationError: nothing was drawn; Refused: of this picture only.
        """
        ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to make.

    Attributes:
        per_image: variants of each picture; each is of the next kind.
        kinds: kinds of variants, see ``augment.images.KINDS``.
        seed: decides all that is drawn at random.
        size: pixels of the longer side, at most.
    """

    per_image: int = 4
    kinds: tuple[str, ...] = tuple(KINDS)
    seed: int = 0
    size: int = 512


@dataclass
class VariantReport:
    """What a run did; ``made`` and ``kept`` count files, ``labels`` rows of the table that was written."""

    pictures: int = 0
    made: int = 0
    kept: int = 0
    labels: int = 0
    skips: list[Skip] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def make_variants(
    source: str,
    out: str,
    wanted: Wanted,
    *,
    labels: str | None = None,
    drawer: Drawer | None = None,
    tell: Callable[[Progress], None] | None = None,
) -> VariantReport:
    """Make variants of all pictures of a folder; what is there already is kept.

    Args:
        source: the folder.
        out: where variants go; outside of ``source``.
        wanted: how many, and which.
        labels: CSV with a column image; it is written to ``out`` with a row a variant.
        drawer: makes one variant more of each picture, with a generator; None makes none of that kind.
        tell: called after each picture.

    Raises:
        InputError: the request makes no sense, or ``out`` holds something else.
        GenerationError: the generator failed; what was made is kept.
        StorageError: ``out`` cannot be written.
    """
    _check(source, out, wanted)
    opened = open_source(source)
    if opened.kind != "folder":
        raise InputError(f"{source} is no folder. Give the folder that the pictures are in.")
    report, before = VariantReport(), read_manifest(out)
    rows: list[Row] = []
    with ExitStack() as stack:
        pool = stack.enter_context(DecodePool(Whole(wanted.size), limits=DecodeLimits()))
        journal = stack.enter_context(_journal(out))
        found = list(opened.scan())
        report.skips += [entry for entry in found if isinstance(entry, Skip)]
        refs = [entry for entry in found if isinstance(entry, ImageRef)]
        for done, result in enumerate(pool.run(DecodeRequest(ref) for ref in refs), start=1):
            if isinstance(result, Decoded):
                report.pictures += 1
                rows += _of_one(out, result, wanted, before, report, drawer, journal)
            elif isinstance(result, Skip):
                report.skips.append(result)
            if tell is not None:
                tell(Progress("variants", done, len(refs), len(report.skips)))
    _publish(os.path.join(out, MANIFEST), rows)
    if labels is not None:
        report.labels, notes = write_labels(labels, os.path.join(out, LABELS), rows)
        report.notes += notes
    return report


def _check(source: str, out: str, wanted: Wanted) -> None:
    place, inside = (os.path.realpath(path) for path in (source, out))
    if inside == place or inside.startswith(place.rstrip("/") + "/"):
        raise InputError(
            f"{out} lies in {source}, whose pictures are only read; the next run would take variants for pictures.\n"
            "Give a folder outside of it."
        )
    if place.startswith(inside.rstrip("/") + "/"):
        raise InputError(f"{out} holds {source}, and variants must not mix with pictures. Give another folder.")
    if wanted.per_image < 0 or not 8 <= wanted.size <= 4096:
        raise InputError("Give 0 or more variants a picture, and a size of 8 to 4,096 pixels.")
    if not wanted.kinds:
        raise InputError("No kind of variant was given. Name one or more.")
    for kind in wanted.kinds:
        parse_kind(kind)
    if os.path.isdir(out) and os.listdir(out) and not os.path.exists(os.path.join(out, MANIFEST)):
        raise InputError(f"{out} holds something else: it is not empty and has no {MANIFEST}. Give another folder.")


def _of_one(
    out: str,
    picture: Decoded,
    wanted: Wanted,
    before: Mapping[str, Row],
    report: VariantReport,
    drawer: Drawer | None,
    journal: Any,  # Any: a file
) -> Iterator[Row]:
    """Make the variants of one picture and yield their rows of the manifest."""
    digest, name = picture.content_hash.hex(), os.fsdecode(picture.ref.path)
    kinds = [wanted.kinds[number % len(wanted.kinds)] for number in range(wanted.per_image)]
    plans = [(kind, number, f"{name}.{kind}-{number}.png") for number, kind in enumerate(kinds)]
    if drawer is not None:
        plans.append((GENERATED, 0, f"{name}.{GENERATED}.png"))
    for kind, number, file in plans:
        recipe: Row = {
            "kind": kind,
            "number": number,
            "seed": wanted.seed,
            "size": wanted.size,
            "version": VERSION,
            "source": name,
            "source_sha256": digest,
            **(drawer.recipe(picture) if drawer is not None and kind == GENERATED else {}),
        }
        old = before.get(file)
        if old is not None and _is_there(out, file, old, recipe):
            report.kept += 1
            yield old
            continue
        if drawer is not None and kind == GENERATED:
            try:
                data, more = drawer.draw(picture, wanted.seed), {"generated": True}
            except Refused as problem:
                report.notes.append(
                    f"no variant of {picture.ref.display} was generated: {str(problem).splitlines()[0]}"
                )
                continue
        else:
            pixels, operations = make_variant(picture.pixels, kind, number, wanted.seed, digest)
            data, more = encode_variant(pixels, digest, operations), {"generated": False, "operations": operations}
        row = {"schema": SCHEMA, "file": file, **recipe, **more, "sha256": hashlib.sha256(data).hexdigest()}
        _write(out, file, data)
        journal.write(_line(row))
        journal.flush()
        report.made += 1
        yield row


def read_manifest(out: str) -> dict[str, Row]:
    """Return the rows of a folder's manifest by file; none where there is no manifest."""
    rows: dict[str, Row] = {}
    try:
        with open(os.path.join(out, MANIFEST), encoding="utf-8", errors="surrogateescape") as file:
            lines = file.readlines()
    except FileNotFoundError:
        return rows
    for line in lines:
        try:
            row = json.loads(line)
            if row["schema"] == SCHEMA:
                rows[str(row["file"])] = row
        except (ValueError, KeyError, TypeError):
            continue  # a line that a kill cut short: its variant is made again
    return rows


def _is_there(out: str, file: str, old: Mapping[str, Any], recipe: Mapping[str, Any]) -> bool:
    """Tell whether a file was made in the very same way, and is still what it was."""
    if any(old.get(name) != value for name, value in recipe.items()):
        return False
    try:
        with open(os.path.join(out, file), "rb") as stored:
            return hashlib.file_digest(stored, "sha256").hexdigest() == old.get("sha256")
    except OSError:
        return False


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=True) + "\n"  # ASCII: names that are no UTF-8 stand as escapes


def _journal(out: str) -> Any:  # Any: a file
    try:
        os.makedirs(out, exist_ok=True)
        file = open(os.path.join(out, MANIFEST), "a+b")  # noqa: SIM115 (the caller closes it)
        if file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
            file.write(b"\n")  # a kill cut the last line short
        file.close()
        return open(os.path.join(out, MANIFEST), "a", encoding="ascii")
    except OSError as problem:
        raise StorageError(f"{out} cannot be written: {problem.strerror or problem}. Give another folder.") from problem


def _write(out: str, file: str, data: bytes) -> None:
    place = os.path.join(out, file)
    try:
        os.makedirs(os.path.dirname(place), exist_ok=True)
        write_whole(place, data)
    except OSError as problem:
        raise StorageError(
            f"{place} cannot be written: {problem.strerror or problem}.\nThe same command goes on from there."
        ) from problem


def _publish(place: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Put the manifest in order: the files of this run, one line each."""
    try:
        write_whole(place, "".join(map(_line, rows)).encode("ascii"))
    except OSError as problem:
        raise StorageError(f"{place} cannot be written: {problem.strerror or problem}.") from problem
