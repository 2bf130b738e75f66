"""Write the live rows of a collection as other tools expect them: store → (filter) → layout."""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from clipsearch.errors import InputError
from clipsearch.flows.progress import Progress
from clipsearch.index.faiss_library import load_faiss
from clipsearch.index.flat_file import write_flat_file
from clipsearch.npy import map_npy
from clipsearch.store import Snapshot
from clipsearch.store.layouts import LAYOUTS, Block, Options, Rows
from clipsearch.types import Halves, Ints

_BLOCK = 16_384


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was exported: rows, where to, in how many seconds."""

    layout: str
    rows: int
    place: str
    seconds: float
    notes: tuple[str, ...] = ()


def export(
    snapshot: Snapshot,
    layout: str,
    place: str,
    *,
    allowed: Ints | None = None,
    options: Options | None = None,
    with_index: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> ExportReport:
    """Write the live images of a version, or some of them.

    Args:
        snapshot: the version.
        layout: a name of ``LAYOUTS``.
        place: file, folder or, for a server, name of the collection.
        allowed: (n,) ids, ascending, that are exported; None for all.
        options: what the layout may be asked for.
        with_index: clip-retrieval: also write ``image.index`` and ``text.index``.
        progress: called now and then with how far it is.

    Raises:
        UnknownNameError: no layout has that name.
        InputError: there is nothing to export, or something in the way.
        MissingExtraError: the layout needs a package that is not installed.
        StorageError: the disk is full or cannot be written.
    """
    start = time.monotonic()
    write = LAYOUTS.load(layout)
    options = options or Options()
    if options.partition_rows < 1:
        raise InputError(f"partition_rows is {options.partition_rows}; give 1 or more.")
    if _inside(place, snapshot.path) and options.url is None:
        raise InputError(f"{place} lies inside the collection {snapshot.path}. Give a place outside of it.")
    if with_index:
        load_faiss()  # now, not after the rows are written
        options = replace(options, finish=_write_indexes)
    rows = _rows(snapshot, allowed, progress or (lambda _: None))
    notes = write(rows, place, options)
    return ExportReport(layout, rows.n, place, time.monotonic() - start, notes)


def _inside(place: str, folder: str) -> bool:
    real, folder = os.path.realpath(place), os.path.realpath(folder)
    return real == folder or real.startswith(folder.rstrip("/") + "/")


def _rows(snapshot: Snapshot, allowed: Ints | None, tell: Callable[[Progress], None]) -> Rows:
    n = snapshot.count("images") if allowed is None else len(allowed)
    if not n:
        why = "The filter leaves nothing" if snapshot.count("images") else f"{snapshot.path} has no images"
        raise InputError(f"{why}, so there is nothing to export.")
    images, texts = snapshot.caption_links()
    linked = len(images) > 0 and (allowed is None or bool(np.isin(images, allowed).any()))
    return Rows(
        n=n,
        dim=snapshot.manifest.dim,
        name=os.path.basename(snapshot.path),
        model=str(snapshot.manifest.encoder["name"]),
        has_captions=linked,
        blocks=lambda with_texts: _blocks(snapshot, allowed, (images, texts), with_texts),
        wrote=lambda done: tell(Progress("export", done, n)),
        added=snapshot.added_types(),
    )


def _blocks(snapshot: Snapshot, allowed: Ints | None, links: tuple[Ints, Ints], with_texts: bool) -> Iterator[Block]:
    for block, table in snapshot.live_blocks(allowed):
        for start in range(0, len(block.ids), _BLOCK):
            ids = block.ids[start : start + _BLOCK]
            captions, first = _captions(snapshot, ids, links)
            texts = _first_embeddings(snapshot, first) if with_texts else None
            rows = table.slice(start, _BLOCK)
            yield Block(ids, block.embeddings[start : start + _BLOCK], rows, captions, texts)


def _captions(snapshot: Snapshot, ids: Ints, links: tuple[Ints, Ints]) -> tuple[list[Sequence[str]], Ints]:
    """Return the captions of images, and the id of the first of each, -1 where there is none."""
    images, texts = links
    starts, stops = np.searchsorted(images, ids), np.searchsorted(images, ids, side="right")
    counts = stops - starts
    first = np.full(len(ids), -1, dtype=np.int64)
    if not counts.any():
        return [()] * len(ids), first
    first[counts > 0] = texts[starts[counts > 0]]
    wanted = np.concatenate([texts[a:b] for a, b in zip(starts, stops, strict=True) if b > a])
    said = iter([row["text"] for row in snapshot.rows("texts", wanted)])
    return [[next(said) for _ in range(n)] for n in counts.tolist()], first


def _first_embeddings(snapshot: Snapshot, first: Ints) -> Halves:
    found = np.zeros((len(first), snapshot.manifest.dim), dtype=np.float16)
    found[first >= 0] = snapshot.embeddings("texts", first[first >= 0])
    return found


def _write_indexes(folder: str) -> None:
    """Write ``image.index`` and ``text.index`` beside the embeddings: ids are positions in the order of the files."""
    for kind, name in (("img_emb", "image"), ("text_emb", "text")):
        place = os.path.join(folder, kind)
        if not os.path.isdir(place):
            continue
        arrays = [map_npy(os.path.join(place, file)) for file in sorted(os.listdir(place))]
        blocks = (array[at : at + _BLOCK] for array in arrays for at in range(0, len(array), _BLOCK))
        path = os.path.join(folder, f"{name}.index")
        told = write_flat_file(blocks, arrays[0].shape[1], path, f"{name}.index")
        with open(os.path.join(folder, f"{name}.json"), "x", encoding="utf-8") as file:
            json.dump(told, file)
