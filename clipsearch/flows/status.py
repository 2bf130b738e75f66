"""What a collection holds, for a person to read."""

import os
from dataclasses import dataclass

from clipsearch.flows.calibration_files import load_calibration
from clipsearch.flows.verdicts import staleness
from clipsearch.flows.view import INDEX_TYPE
from clipsearch.store import Snapshot


@dataclass(frozen=True, slots=True)
class CollectionStatus:
    """What a collection holds now.

    Attributes:
        version: number of the manifest version.
        deleted: rows that are gone but still lie in a shard.
        bytes_on_disk: size of all its files that are in force.
        shards: Parquet files of embeddings.
        roots: (folder, whether it is there now, live images below it).
        created: when the collection was made, ISO 8601; ``updated``: when this version was.
        calibrated: whether searches for pictures get a verdict; ``calibration``: for which kinds of query, made from
            what, or why not.
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
    calibrated: bool = False
    calibration: str = ""


def read_status(snapshot: Snapshot) -> CollectionStatus:
    """Return what a version of a collection holds."""
    manifest = snapshot.manifest
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
        calibrated=calibrated,
        calibration=calibration,
    )


def _calibration(snapshot: Snapshot) -> tuple[bool, str]:
    """Return whether verdicts on pictures can be given, and for which kinds of query or why not."""
    known = load_calibration(snapshot.path)
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
    return tuple((os.fsdecode(place), os.path.isdir(place), counts[root]) for root, place in places)
