"""Columns that were added to the images later, such as tags: what an index run adds to them, and how they are read.

A column is one file or several (*parts*), each with ids and values. The first has the rows that were there when the
column was made; rows that came later have a part of their own, so that a batch of ten pictures does not write the
values of a million anew. Parts are joined as digits carry: a new one takes in those before it that are not larger. So
there are log N of them at most, and a value is written log N times at most.
"""

import os
from collections.abc import Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipsearch.errors import CorruptShardError
from clipsearch.store.manifest import FileEntry
from clipsearch.store.stamps import Stamps
from clipsearch.types import Ints


@dataclass(frozen=True, slots=True, eq=False)
class AddedColumn:
    """Values of a column for some images.

    Attributes:
        name: of the column.
        ids: (n,) row ids; all other images have no value.
        values: one for each id, None included.
        type_: "text", "texts" (a list of texts) or "number".
        made: any bytes that ``Snapshot.made_of`` is to give back, or None.
    """

    name: str
    ids: Ints
    values: Sequence[Any]
    type_: str = "texts"
    made: bytes | None = None

    def ascending(self) -> "AddedColumn":
        """Return the same in the order of the ids."""
        ids = np.asarray(self.ids, np.int64)
        order = np.argsort(ids, kind="stable")
        return AddedColumn(self.name, ids[order], [self.values[n] for n in order.tolist()], self.type_, self.made)


def taken_in(parts: Sequence[FileEntry], n: int) -> list[FileEntry]:
    """Return the parts of a column, oldest first, that a new part of ``n`` rows takes in."""
    left, taken = list(parts), []
    while left and left[-1].rows <= n:
        taken.append(left.pop())
        n += taken[-1].rows
    return taken[::-1]


class Part:
    """A file of ids and values, read once."""

    def __init__(self, path: str, entry: FileEntry, stamps: Stamps) -> None:
        self._path, self._entry, self._stamps = path, entry, stamps
        self._read: tuple[Ints, Any] | None = None

    def read(self) -> tuple[Ints, Any]:  # Any: an Arrow array
        """Return ids (n,), ascending, and values.

        Raises:
            CorruptShardError: it is not what was written.
        """
        found = self._read
        if found is None:
            from clipsearch.store import metadata

            entry, name = self._entry, str(self._entry.of)
            try:
                if not self._stamps.is_whole(entry.name, entry.bytes, entry.sha256, entry.stamp):
                    raise ValueError("its bytes are not those that were written")
                found = self._read = metadata.read_added(os.path.join(self._path, entry.name), name)
            except ValueError as problem:
                raise CorruptShardError(
                    f"{entry.name} cannot be read: {problem}.\n"
                    f"Make the column {name!r} again, or take it out: clipsearch tag --drop --column {name}"
                ) from problem
        return found


class AddedColumns:
    """The added columns of one version. Parts stay in ``opened``, which versions share. Needs no pyarrow until asked.

    Two threads may both read a column; they read the same, and one of the results is kept.
    """

    def __init__(
        self, path: str, entries: Iterable[FileEntry], opened: MutableMapping[str, Any], stamps: Stamps
    ) -> None:
        self._parts: dict[str, list[Part]] = {}
        self._joined: dict[str, tuple[Ints, Any]] = {}
        self.names: tuple[str, ...] = ()
        known = {entry.name: entry for entry in entries}
        for entry in known.values():
            part = opened.setdefault(entry.name, Part(path, entry, stamps))
            self._parts.setdefault(str(entry.of), []).append(part)
        self.names = tuple(self._parts)
        for name in [name for name, one in opened.items() if isinstance(one, Part) and name not in known]:
            opened.pop(name, None)

    def column(self, name: str) -> tuple[Ints, Any]:  # Any: an Arrow array
        """Return ids (n,), ascending, and values of a column.

        Raises:
            CorruptShardError: a part cannot be read.
            KeyError: there is no such column.
        """
        found = self._joined.get(name)
        if found is None:
            from clipsearch.store import metadata

            found = self._joined[name] = metadata.joined_added([part.read() for part in self._parts[name]])
        return found

    def of_rows(self, ids: Ints) -> list[dict[str, Any]]:
        """Return for each image (n,) the values that it has, by name of the column; None is left out.

        Raises:
            CorruptShardError: a part cannot be read.
        """
        rows: list[dict[str, Any]] = [{} for _ in range(len(ids))]
        for name in self.names if len(ids) else ():
            from clipsearch.store import metadata

            for row, value in zip(rows, metadata.taken(*self.column(name), ids).to_pylist(), strict=True):
                if value is not None:
                    row[name] = value
        return rows

    def close(self) -> None:
        """Forget what was joined."""
        self._joined = {}
