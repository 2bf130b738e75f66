"""Write tags beside pictures, as ``photo.jpg.xmp``; never into a picture, and never over somebody else's sidecar."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from clipsearch.describe.xmp import is_ours, sidecar
from clipsearch.store import Snapshot
from clipsearch.types import Ints

_BATCH = 1_000


@dataclass(frozen=True, slots=True)
class XmpCounts:
    """Sidecars: written, unchanged, left alone because others wrote them, and pictures that cannot have one.

    ``failed`` are those that could not be written; ``why`` is the first reason.
    """

    written: int = 0
    unchanged: int = 0
    foreign: int = 0
    no_file: int = 0
    failed: int = 0
    why: str = ""


def write_sidecars(snapshot: Snapshot, ids: Ints, tags: Sequence[Sequence[str]]) -> XmpCounts:
    """Write the tags of pictures beside them; what cannot be written is counted, and the rest is."""
    counts: dict[str, int] = {name: 0 for name in ("written", "unchanged", "foreign", "no_file", "failed")}
    why = ""
    for start in range(0, len(ids), _BATCH):
        rows = snapshot.rows("images", ids[start : start + _BATCH])
        for row, given in zip(rows, tags[start : start + _BATCH], strict=True):
            picture = os.path.join(snapshot.root_path(row["root"]), row["path"])
            if row["member"] is not None or not os.path.isfile(picture):
                counts["no_file"] += 1
                continue
            try:
                counts[_write(picture + b".xmp", given)] += 1
            except OSError as problem:
                counts["failed"] += 1
                why = why or f"{os.fsdecode(picture)}.xmp: {problem.strerror}"
    return XmpCounts(**counts, why=why)


def _write(place: bytes, tags: Sequence[str]) -> str:
    """Write one sidecar, and say what was done."""
    wanted = sidecar(tags)
    try:
        with open(place, "rb") as file:
            there = file.read()
    except FileNotFoundError:
        there = None
    if there is None and not tags:
        return "unchanged"
    if there is not None and not is_ours(there):
        return "foreign"
    if there == wanted:
        return "unchanged"
    beside = place + b".%d.part" % os.getpid()
    try:
        with open(beside, "xb") as file:
            file.write(wanted)
        os.replace(beside, place)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(beside)
    return "written"
