"""What is known of every live picture, as arrays: what tells copies and bursts from other pictures."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.index.rows import RowStore
from clipsearch.store import NO_HASH, Snapshot
from clipsearch.types import Halves, Ints

NO_TIME = np.iinfo(np.int64).min
NO_LOOK = np.iinfo(np.int64).min
COLUMNS = ("id", "content_hash", "width", "height", "size", "taken", "camera", "phash")
_EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Facts:
    """Pictures (n), one at each position.

    Attributes:
        ids: (n,) row ids.
        content: (n,) number of the file's content, equal for equal bytes; -1 where nobody has seen the bytes.
        width: (n,) pixels, 0 where unknown; ``height`` likewise.
        size: (n,) bytes of the file.
        taken: (n,) seconds, ``NO_TIME`` where unknown.
        camera: (n,) number of the camera's name; -1 where unknown.
        phash: (n,) perceptual hash, 0 where it says nothing; ``NO_LOOK`` where nobody made one.
    """

    ids: Ints
    content: Ints
    width: Ints
    height: Ints
    size: Ints
    taken: Ints
    camera: Ints
    phash: Ints

    def best(self, at: Ints) -> int:
        """Return which of positions (m,) to keep: most pixels, then most bytes, then the smallest id."""
        order = np.lexsort((self.ids[at], -self.size[at], -self.width[at] * self.height[at]))
        return int(at[order[0]])


def facts_of(rows: Any, n: int) -> Facts:  # Any: an iterable of mappings, as the store gives rows
    """Return the facts in ``n`` rows that have at least ``COLUMNS``."""
    numbers = np.zeros((len(COLUMNS), n), np.int64)
    contents: dict[bytes, int] = {}
    cameras: dict[str, int] = {}
    for at, row in enumerate(rows):
        digest, camera, taken = row["content_hash"], row["camera"], row["taken"]
        numbers[:, at] = (
            row["id"],
            -1 if digest == NO_HASH else contents.setdefault(digest, len(contents)),
            row["width"] or 0,
            row["height"] or 0,
            row["size"],
            NO_TIME if taken is None else round((taken - _EPOCH).total_seconds()),
            -1 if camera is None else cameras.setdefault(camera, len(cameras)),
            NO_LOOK if row["phash"] is None else row["phash"],
        )
    return Facts(*numbers)


class Pictures:
    """The live pictures of a version, or some of them: their facts, and their embeddings by position."""

    def __init__(self, snapshot: Snapshot, allowed: Ints | None = None) -> None:
        """Read the facts; embeddings stay where they are, in memory maps.

        Args:
            snapshot: the version.
            allowed: (n,) ids, ascending, that count; None for all.
        """
        self._rows = RowStore(snapshot.manifest.dim)
        for block in snapshot.blocks("images"):
            self._rows.add(block.ids, block.embeddings)
        everything = facts_of(snapshot.live_rows("images", COLUMNS), snapshot.count("images"))
        keep = slice(None) if allowed is None else np.isin(everything.ids, allowed)
        self.facts = Facts(*(getattr(everything, name)[keep] for name in Facts.__slots__))
        self._places = self._rows.positions(self.facts.ids) if len(self.facts.ids) else self.facts.ids

    def __len__(self) -> int:
        return len(self._places)

    def embeddings(self, at: NDArray[np.int64]) -> Halves:
        """Return the embeddings (m, D) float16 at positions (m,)."""
        return self._rows.gather(self._places[at])
