"""Where the pictures of rows lie now, so that they can be decoded again."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from clipsearch.errors import ClipsearchError
from clipsearch.scan import ScanOptions
from clipsearch.scan.tar import TarSource
from clipsearch.store import Snapshot
from clipsearch.types import ImageRef

Row = Mapping[str, Any]  # Any: a row's values, as the store gives them


class Originals:
    """Finds the pictures of rows: files, and members of tars, whose headers are read once for each tar."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._roots = {root.id: snapshot.root_path(root.id) for root in snapshot.manifest.roots}
        self._tars: dict[bytes, dict[bytes | None, ImageRef]] = {}

    def refs(self, rows: Sequence[Row]) -> list[ImageRef | None]:
        """Return where the picture of each row is to be read; None where it is no file, and no member of a tar."""
        return [self._ref(self._roots[row["root"]], row) for row in rows]

    def _ref(self, root: bytes, row: Row) -> ImageRef | None:
        if not root:  # its path stands as it was given
            return None
        if row["member"] is None:
            return ImageRef(root, row["path"], None, row["size"], row["mtime_ns"], row["ctime_ns"])
        place = os.path.join(root, row["path"])
        if place not in self._tars:  # rows do not keep where in the tar a member lies
            self._tars[place] = _members(place)
        return self._tars[place].get(row["member"])


def _members(tar: bytes) -> dict[bytes | None, ImageRef]:
    try:
        found = TarSource.open(tar, ScanOptions()).scan()
        return {entry.member: entry for entry in found if isinstance(entry, ImageRef)}
    except ClipsearchError:  # it is gone
        return {}
