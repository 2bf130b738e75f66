"""Compact a collection: fewer and larger shards, and no rows in them that are deleted.

A collection grows by a shard a commit, and a deleted row stays in its shard. So from time to time consecutive small
shards are merged, and shards that hold deleted rows are written again without them. Row ids stay as they are, and the
live rows and their order too; only the files are others.

``plan_groups`` says which shards become one, ``merged`` makes that one, in memory, from bytes that were held against
their digests: a damaged byte must not get a fresh digest. ``Writer.rewrite`` puts the result in force as any commit is.
Columns are carried over by Arrow as they are stored, those that this version of the package does not know too.
"""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from clipsearch.errors import CorruptShardError
from clipsearch.store import plan, sidecar
from clipsearch.store.files import read_bytes, sha256
from clipsearch.store.manifest import FileEntry
from clipsearch.store.schema import RESTORE
from clipsearch.store.shard import read_checked
from clipsearch.types import Ints

TARGET_ROWS = 65_536
TARGET_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Group:
    """Shards of a kind that become one: in the manifest's order, with the rows that stay."""

    entries: tuple[FileEntry, ...]
    rows: int

    @property
    def kind(self) -> str:
        """Of the shards: "images" or "texts"."""
        return self.entries[0].kind


def plan_groups(shards: Sequence[FileEntry], dead: Mapping[str, int], apart: Collection[str] = ()) -> list[Group]:
    """Plan which shards of one kind are written again; those that stay as they are come in no group.

    Args:
        shards: in the manifest's order.
        dead: name → deleted rows in it; none where it is missing.
        apart: names of shards that are not to be merged with others than these.
    """
    groups: list[list[FileEntry]] = []
    rows, size = 0, 0.0
    for entry in shards:
        live = entry.rows - dead.get(entry.name, 0)
        share = entry.bytes * live / max(entry.rows, 1)
        fits = rows + live <= TARGET_ROWS and size + share <= TARGET_BYTES
        if groups and fits and (entry.name in apart) == (groups[-1][-1].name in apart):
            groups[-1].append(entry)
            rows, size = rows + live, size + share
        else:
            groups.append([entry])
            rows, size = live, share
    return [
        Group(tuple(group), sum(entry.rows - dead.get(entry.name, 0) for entry in group))
        for group in groups
        if len(group) > 1 or dead.get(group[0].name, 0)
    ]


def merged(
    path: str, group: Group, gone: Ints, naming: plan.Naming, sidecars: Iterable[FileEntry]
) -> list[plan.NewFile]:
    """Return the shard that a group becomes, and its sidecars; nothing where no row is left.

    Args:
        path: the collection.
        group: what is merged.
        gone: ids (n,) to leave out.
        naming: of the new files.
        sidecars: of all shards.

    Raises:
        CorruptShardError: a shard is not what was written, or cannot be read.
    """
    if not group.rows:
        return []
    from clipsearch.store import parquet  # loads Arrow, which a search has no use for

    lines_of = {entry.of: entry for entry in sidecars if entry.name.endswith(".rows")}
    datas, lines = [], []
    for entry in group.entries:
        data = read_checked(path, entry)
        datas.append(data)
        lines += _lines(path, entry, lines_of.get(entry.name), data)
    try:
        data, ids, embeddings, order = parquet.merge(datas, gone)
    except ValueError as problem:
        raise CorruptShardError(f"{group.entries[0].name} cannot be merged: {problem}.\n{RESTORE}") from problem
    if len(ids) != group.rows:
        raise ValueError(f"{len(ids)} rows are left of {group.entries[0].name} and others instead of {group.rows}.")
    parts = sidecar.assembled(ids, [lines[at] for at in order.tolist()], embeddings)
    return plan.shard_files(group.kind, naming, len(ids), data, parts)


def _lines(path: str, entry: FileEntry, beside: FileEntry | None, data: bytes) -> list[bytes]:
    """Return the JSON lines of a shard, from the sidecar where that is whole."""
    if beside is not None:
        try:
            raw = read_bytes(os.path.join(path, beside.name))
        except OSError:
            raw = b""
        if sha256(raw) == beside.sha256:
            return [line + b"\n" for line in raw.split(b"\n")[:-1]]
    from clipsearch.store import parquet

    return sidecar.lines(entry.kind, parquet.decode(entry.kind, data)[0])
