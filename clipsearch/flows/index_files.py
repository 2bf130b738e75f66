"""A built index on the disk: what belongs to it, what it covers, and how it is opened again.

In the collection's folder ``index/`` (of the images; ``text-index/`` of the texts) lie, under names that are never
used twice:

- ``ivfpq-000012-1f2e3d4c.faiss``   lists and codes, as faiss writes them
- ``rerank-...f16``, ``.ids.npy``   the exact rows, float16 one after the other, and their ids ascending
- ``....recipe.toml``               what it was made by: ``clipsearch index --recipe`` takes it
- ``....json``                      the *record*: all of these with size and SHA-256, what is covered, what was measured

The file ``CURRENT`` beside them names the record in force and is replaced in one step. Everything here is derived: with
any of it missing, damaged or made for another model, searches compare every row, and say so. A file is read by faiss
only after its digest was checked; a stamp of the file system (inode, times), taken when it was written, spares a second
look.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from clipsearch.errors import ClipsearchError, CorruptShardError
from clipsearch.flows.index_folders import INDEX_FOLDERS, read_index_pointer
from clipsearch.flows.saved_files import SavedFile, Segment, is_whole, saved_file, saved_segment
from clipsearch.index import INDEX_TYPES
from clipsearch.index.faiss_library import faiss_is_installed
from clipsearch.index.ivf import IvfIndex
from clipsearch.index.layered import LayeredIndex
from clipsearch.index.recipe import Recipe, from_mapping
from clipsearch.index.tuning import OperatingPoint
from clipsearch.npy import map_npy
from clipsearch.store import Snapshot
from clipsearch.store.files import CURRENT, HOLDER, LOCK, put_in_force, read_bytes, sha256
from clipsearch.types import EmbeddingBlock

FORMAT = 2
REBUILD = "It is derived from the collection: rebuild it with 'clipsearch index --retrain'."
_POINTER = re.compile(rb"(\S+\.json) sha256:([0-9a-f]{64})\n")


@dataclass(frozen=True, slots=True)
class Measured:
    """Recall@10 (0 to 1) at the default settings, for one kind of query.

    Attributes:
        recall: when it was last looked at.
        trained: when the index was trained.
        queries: how many, and of what.
        at: ISO 8601.
    """

    recall: float
    trained: float
    queries: str
    at: str


@dataclass(frozen=True, slots=True)
class IndexRecord:
    """What is known of a built index.

    Attributes:
        version: manifest version that it was made from.
        fingerprint: of the encoder.
        shards: names of the shards all of whose live rows it covers.
        rows: rows in it, rows deleted since too.
        trained_rows: rows in it when lists and codes were learned.
        imbalance: of the lists, now; 1 is even.
        imbalance_trained: the same when they were learned.
        points: operating points worth having, by kind of query.
        kind: of its rows, "images" or "texts".
    """

    recipe: Recipe
    version: int
    fingerprint: str
    dim: int
    shards: tuple[str, ...]
    rows: int
    max_id: int
    trained_rows: int
    trained: str
    built: str
    imbalance: float
    imbalance_trained: float
    lists: SavedFile
    segments: tuple[Segment, ...]
    points: Mapping[str, tuple[OperatingPoint, ...]] = field(default_factory=dict)
    measured: Mapping[str, Measured] = field(default_factory=dict)
    format: int = FORMAT
    kind: str = "images"

    @property
    def folder(self) -> str:
        """Where its files lie in the collection."""
        return INDEX_FOLDERS[self.kind]

    @property
    def files(self) -> list[SavedFile]:
        """All files but the record and the recipe."""
        return [self.lists, *(file for s in self.segments for file in (s.ids, s.rows))]

    @property
    def hot_bytes(self) -> float:
        """Bytes a row that a search keeps in memory or maps: lists, codes, ids."""
        return self.lists.bytes / max(self.rows, 1)

    @property
    def disk_bytes(self) -> int:
        """Bytes of it on the disk."""
        return sum(file.bytes for file in self.files)


def read_record(path: str, kind: str = "images") -> IndexRecord | None:
    """Return the record in force, or None where there is no index.

    Raises:
        CorruptShardError: the record is missing or damaged.
    """
    pointer = read_index_pointer(path, kind)
    if pointer is None:
        return None
    match = _POINTER.fullmatch(pointer)
    try:
        if match is None:
            raise ValueError("CURRENT names no record")
        data = read_bytes(os.path.join(path, INDEX_FOLDERS[kind], match[1].decode()))
        if sha256(data) != match[2].decode():
            raise ValueError("its digest differs")
        record = _from_json(json.loads(data))
        if record.kind != kind:
            raise ValueError(f"it is of the {record.kind}")
        return record
    except (OSError, ValueError, TypeError, KeyError, ClipsearchError) as problem:
        raise CorruptShardError(
            f"The index record of the {kind} of {path} is damaged: {problem}.\n{REBUILD}"
        ) from problem


def publish_record(path: str, stem: str, record: IndexRecord) -> None:
    """Put an index in force, and remove the files of the one before; who has those open keeps them."""
    folder = os.path.join(path, record.folder)
    data = json.dumps(asdict(record), indent=1).encode() + b"\n"
    put_in_force(folder, f"{stem}.json", data)
    remove_others(folder, {f"{stem}.json", f"{stem}.recipe.toml", *(file.name for file in record.files)})


def withdraw(path: str, kind: str = "images") -> bool:
    """Remove an index of a collection; True where there was one."""
    there, folder = read_index_pointer(path, kind) is not None, os.path.join(path, INDEX_FOLDERS[kind])
    if there:
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, CURRENT))
        remove_others(folder, set())
    return there


def remove_others(folder: str, kept: Iterable[str]) -> None:
    """Remove the files in an index's folder that are not kept: what was replaced, and what a killed build left."""
    keep = {*kept, CURRENT, LOCK, HOLDER}
    for name in os.listdir(folder):
        if name not in keep:
            with suppress(OSError):
                os.unlink(os.path.join(folder, name))


def open_index(snapshot: Snapshot, kind: str = "images") -> tuple[LayeredIndex | None, tuple[str, ...]]:
    """Open the built index of a kind of rows, with the rows added since beside it and the deleted ones hidden.

    Returns:
        The index, or None where there is none that can be used; and notes for the person who searches.
    """
    for attempt in (1, 2):  # between the reading of the record and of its files a new index may be put in force
        try:
            record = read_record(snapshot.path, kind)
            if record is None:
                return None, ()
            if not faiss_is_installed():
                needs = "The index needs faiss (pip install 'clipsearch[cpu]'); all {} were compared."
                return None, (needs.format(kind),)
            base = load_base(snapshot, record)
            return _with_changes(base, record, snapshot), ()
        except CorruptShardError as problem:
            if attempt == 2:
                return None, (f"{problem} Until then all {kind} are compared.".replace("\n", " "),)
    raise AssertionError("unreachable")


def load_base(snapshot: Snapshot, record: IndexRecord) -> IvfIndex:
    """Open the files of an index after a check of each.

    Raises:
        CorruptShardError: a file is missing or damaged, or the index was made for other embeddings.
    """
    if record.dim != snapshot.manifest.dim or record.fingerprint != fingerprint_of(snapshot):
        raise CorruptShardError(f"The index of {snapshot.path} was made for another model.\n{REBUILD}")
    folder = os.path.join(snapshot.path, record.folder)
    for file in record.files:
        _check(snapshot, record.folder, file)
    base: IvfIndex = INDEX_TYPES.load(record.recipe.type)(record.dim, record.recipe)
    base.load(os.path.join(folder, record.lists.name))
    for segment in record.segments:
        ids = map_npy(os.path.join(folder, segment.ids.name))
        rows = np.memmap(os.path.join(folder, segment.rows.name), np.float16, mode="r", shape=(segment.n, record.dim))
        base.attach(np.asarray(ids), np.asarray(rows))
    base.points = record.points
    return base


def fingerprint_of(snapshot: Snapshot) -> str:
    """Return what tells one encoder from another."""
    encoder = snapshot.manifest.encoder
    return str(encoder.get("fingerprint", encoder.get("name", "")))


def uncovered(base: IvfIndex, record: IndexRecord, snapshot: Snapshot) -> Iterable[EmbeddingBlock]:
    """Yield the rows of a version that an index does not cover; the shards that it does are not even opened."""
    known = frozenset(record.shards)
    for block in snapshot.blocks(record.kind, without=known):
        new = base.rows.positions(block.ids) < 0
        if new.all():
            yield block
        elif new.any():
            yield EmbeddingBlock(block.ids[new], block.embeddings[new])


def _with_changes(base: IvfIndex, record: IndexRecord, snapshot: Snapshot) -> LayeredIndex:
    index = LayeredIndex(base)
    for block in uncovered(base, record, snapshot):
        index.add(block)
    index.remove(snapshot.deleted_ids())
    return index


def files_in_force(path: str, kind: str = "images") -> set[str]:
    """Return the names of the files that belong to the index in force; none where its record cannot be read."""
    pointer = _POINTER.fullmatch(read_index_pointer(path, kind) or b"")
    try:
        record = read_record(path, kind)
    except CorruptShardError:
        return set()
    if pointer is None or record is None:
        return set()
    name = pointer[1].decode()
    return {name, f"{name.removesuffix('.json')}.recipe.toml", *(file.name for file in record.files)}


def _check(snapshot: Snapshot, folder: str, file: SavedFile) -> None:
    if not is_whole(snapshot.stamps, folder, file):
        where = os.path.join(snapshot.path, folder, file.name)
        raise CorruptShardError(f"The index file {where} is missing or damaged.\n{REBUILD}")


def _from_json(document: Any) -> IndexRecord:  # Any: JSON
    if document["format"] != FORMAT:
        raise ValueError(f"it has format {document['format']}, and this clipsearch knows {FORMAT}")
    return IndexRecord(
        **{
            **document,
            "recipe": from_mapping(document["recipe"]),
            "shards": tuple(document["shards"]),
            "lists": saved_file(document["lists"]),
            "segments": tuple(saved_segment(segment) for segment in document["segments"]),
            "points": {
                kind: tuple(OperatingPoint(**point) for point in some) for kind, some in document["points"].items()
            },
            "measured": {kind: Measured(**one) for kind, one in document["measured"].items()},
        }
    )
