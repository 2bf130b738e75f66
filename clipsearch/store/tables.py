"""The metadata of one version as Arrow tables: which packs and which shards it is put together from."""

import os
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from clipsearch.store.manifest import Manifest
from clipsearch.store.packs import FOLDER, Pack, read_packs
from clipsearch.store.schema import VISIBLE
from clipsearch.store.stamps import Stamps
from clipsearch.types import Ints


class Tables:
    """The rows of a version, kept once read. Any stands for Arrow tables: this module needs no pyarrow until asked."""

    def __init__(
        self,
        path: str,
        manifest: Manifest,
        opened: MutableMapping[str, Any],
        shard: Callable[[str], Any],
        stamps: Stamps,
        added: Callable[[str], Mapping[str, Any]] = lambda kind: {},
    ) -> None:
        """Use the packs that ``opened`` holds already, and leave new ones there.

        ``shard`` reads one by its name, ``added`` the columns that were added to a kind of rows later.
        """
        self._path, self._manifest = path, manifest
        self._opened, self._shard, self._stamps, self._added = opened, shard, stamps, added
        self._stored: dict[str, Any] = {}
        self._live: dict[str, Any] = {}

    def stored(self, kind: str) -> Any:
        """Return all rows of a kind, dead ones too.

        Raises:
            CorruptShardError: a shard cannot be read.
        """
        table = self._stored.get(kind)
        if table is None:
            from clipsearch.store import metadata

            joined = metadata.joined(self._pieces(kind), kind)
            table = self._stored[kind] = metadata.with_added(joined, self._added(kind))
        return table

    def live(self, kind: str, deleted: Ints) -> Any:
        """Return the rows of a kind but for ``deleted`` (n,), which are the same at every call.

        Raises:
            CorruptShardError: a shard cannot be read.
        """
        table = self._live.get(kind)
        if table is None:
            from clipsearch.store import metadata

            table = self._live[kind] = metadata.without(self.stored(kind), deleted)
        return table

    def close(self) -> None:
        """Forget all of it."""
        self._stored, self._live = {}, {}

    def _pieces(self, kind: str) -> list[Any]:
        """Return tables that hold each row once: from the packs, and from the shards that none covers."""
        left = {entry.name: entry for entry in self._manifest.files_of(kind)}
        pieces: list[Any] = []
        for pack, table in self._open(kind):
            known = [shard for shard in pack.shards if shard.name in left]
            if known == list(pack.shards[: len(known)]):  # an older version has only the first of them
                pieces.append(table.slice(0, sum(shard.rows for shard in known)))
                for shard in known:
                    del left[shard.name]
        return pieces + [self._shard(name) for name in left]

    def _open(self, kind: str) -> list[tuple[Pack, Any]]:
        """Return the packs of a kind that can be read."""
        found: list[tuple[Pack, Any]] = []
        for _ in (1, 2):  # between the reading of the record and of its files new packs may be put in force
            every = read_packs(self._path)
            wanted = [pack for pack in every if pack.kind == kind and pack.columns == VISIBLE[kind]]
            found = [(pack, table) for pack in wanted if (table := self._table(pack)) is not None]
            if len(found) == len(wanted):
                self._drop_others({_key(pack) for pack in every})
                break
        return found

    def _table(self, pack: Pack) -> Any:
        """Return a pack's rows, or None where it is missing or damaged: the shards still have it all."""
        if _key(pack) not in self._opened and pack.is_whole(self._stamps):
            from clipsearch.store import metadata

            try:
                table = metadata.read_pack(pack.where(self._path))
            except (OSError, ValueError):
                return None
            if len(table) == pack.rows:
                self._opened[_key(pack)] = table
        return self._opened.get(_key(pack))

    def _drop_others(self, keys: set[str]) -> None:
        """Let go of packs that were replaced: their room on the disk is free when the last version does so too."""
        for name in [name for name in self._opened if name.startswith(_key_start) and name not in keys]:
            self._opened.pop(name, None)


_key_start = FOLDER + os.sep


def _key(pack: Pack) -> str:
    return _key_start + pack.name
