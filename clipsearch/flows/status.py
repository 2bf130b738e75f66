"""What a collection holds, for a person to read."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from clipsearch.errors import CorruptShardError
from clipsearch.flows.augmenter import describe
from clipsearch.flows.calibration_files import load_calibration
from clipsearch.flows.index_folders import read_index_pointer
from clipsearch.flows.verdicts import staleness
from clipsearch.flows.view import INDEX_TYPE
from clipsearch.store import Snapshot


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """A built index, of the images or of the texts.

    Attributes:
        type: "ivfflat", "ivfpq", or "flat" where there is none and one would pay.
        rows: rows in it, deleted ones too; ``uncovered`` lie beside it and are compared one by one.
        bytes_per_vector: what a search keeps in memory or maps, by row; ``bytes_on_disk`` has the exact rows too.
        recall: recall@10 (0 to 1) at the default settings, by kind of query; ``measured`` when, ISO 8601.
        trained: when lists and codes were learned, and with how many rows.
        imbalance: of the lists; 1 is even.
        advice: what to do, or None.
    """

    type: str
    rows: int = 0
    uncovered: int = 0
    bytes_per_vector: float = 0.0
    bytes_on_disk: int = 0
    recall: Mapping[str, float] = field(default_factory=dict)
    measured: str = ""
    trained: str = ""
    trained_rows: int = 0
    imbalance: float = 1.0
    advice: str | None = None


@dataclass(frozen=True, slots=True)
class CollectionStatus:
    """What a collection holds now.

    Attributes:
        version: number of the manifest version.
        deleted: rows that are gone but still lie in a shard, or in the index.
        bytes_on_disk: size of all its files that are in force.
        shards: Parquet files of embeddings.
        roots: (folder, whether it is there now, live images below it); "" stands for imported rows with given paths.
        created: when the collection was made, ISO 8601; ``updated``: when this version was.
        index_type: what searches of images use.
        index: the built index, or None where every image is compared; ``text_index``: that of the texts.
        calibrated: whether searches for pictures get a verdict; ``calibration``: for which kinds of query, made from
            what, or why not.
        augment: which rungs searches for texts use and what they change, or why none.
        compaction: why compacting it pays, or None.
        columns: the columns that were added to the pictures, such as tags; ``columns_advice``: what to do about them.
    """

    name: str
    path: str
    model: str
    dim: int
    version: int
    images: int
    texts: int
    deleted: int
    bytes_on_disk: int
    shards: int
    roots: tuple[tuple[str, bool, int], ...]
    created: str
    updated: str
    index_type: str = INDEX_TYPE
    index: IndexStatus | None = None
    text_index: IndexStatus | None = None
    calibrated: bool = False
    calibration: str = ""
    augment: str = ""
    compaction: str | None = None
    columns: tuple[str, ...] = ()
    columns_advice: tuple[str, ...] = ()


def read_status(snapshot: Snapshot) -> CollectionStatus:
    """Return what a version of a collection holds."""
    from clipsearch.flows.compact import advice

    manifest = snapshot.manifest
    index = _index(snapshot, "images")
    calibrated, calibration = _calibration(snapshot)
    return CollectionStatus(
        name=os.path.basename(snapshot.path),
        path=snapshot.path,
        model=str(manifest.encoder["name"]),
        dim=manifest.dim,
        version=manifest.version,
        images=snapshot.count("images"),
        texts=snapshot.count("texts"),
        deleted=len(snapshot.deleted_ids()),
        bytes_on_disk=sum(entry.bytes for entry in manifest.files),
        shards=sum(entry.kind in ("images", "texts") for entry in manifest.files),
        roots=_roots(snapshot),
        created=manifest.created,
        updated=manifest.committed,
        index_type=INDEX_TYPE if index is None else index.type,
        index=index,
        text_index=_index(snapshot, "texts"),
        calibrated=calibrated,
        calibration=calibration,
        augment=describe(snapshot),
        compaction=advice(snapshot),
        columns=snapshot.added_columns(),
        columns_advice=_columns_advice(snapshot),
    )


def _index(snapshot: Snapshot, kind: str) -> IndexStatus | None:
    from clipsearch.index.choose import FLAT_ROWS

    pointer = read_index_pointer(snapshot.path, kind)
    if pointer is None and snapshot.count(kind) < FLAT_ROWS:
        return None
    from clipsearch.flows.drift import advice
    from clipsearch.flows.index_files import read_record

    try:
        record = read_record(snapshot.path, kind)
    except CorruptShardError as problem:
        return IndexStatus(INDEX_TYPE, advice=str(problem).replace("\n", " "))
    if record is None:
        return IndexStatus(INDEX_TYPE, advice=advice(snapshot, None, kind))
    known = frozenset(record.shards)
    later = [entry.rows for entry in snapshot.manifest.files_of(kind) if entry.name not in known]
    return IndexStatus(
        type=record.recipe.type,
        rows=record.rows,
        uncovered=sum(later),
        bytes_per_vector=round(record.hot_bytes, 1),
        bytes_on_disk=record.disk_bytes,
        recall={kind: found.recall for kind, found in record.measured.items()},
        measured=max((found.at for found in record.measured.values()), default=""),
        trained=record.trained,
        trained_rows=record.trained_rows,
        imbalance=record.imbalance,
        advice=advice(snapshot, record, kind),
    )


def _columns_advice(snapshot: Snapshot) -> tuple[str, ...]:
    if not snapshot.added_columns():
        return ()
    from clipsearch.flows.renewal import column_advice

    return column_advice(snapshot)


def _calibration(snapshot: Snapshot) -> tuple[bool, str]:
    """Return whether verdicts on pictures can be given, and for which kinds of query or why not."""
    known = load_calibration(snapshot.path, snapshot.stamps)
    why = staleness(known, snapshot, "images")
    if why or known is None:
        return False, why or ""
    return True, ", ".join(f"{kind} ({null.source})" for kind, null in known.targets["images"].kinds.items())


def _roots(snapshot: Snapshot) -> tuple[tuple[str, bool, int], ...]:
    counts = dict.fromkeys((root.id for root in snapshot.manifest.roots), 0)
    if len(counts) == 1:  # the usual case, spared a walk over all rows
        counts[next(iter(counts))] = snapshot.count("images")
    else:
        for row in snapshot.known_files():
            counts[row.root] += 1
    places = [(root.id, snapshot.root_path(root.id)) for root in snapshot.manifest.roots]
    found = tuple((os.fsdecode(place), os.path.isdir(place), counts[root]) for root, place in places)
    return tuple(root for root in found if root[1] or root[2])  # not a renamed folder whose pictures all moved along
