"""Find pictures that are there more than once; nothing is ever deleted.

Three classes, each searched among what the one before leaves, so that a file is superfluous at most once:

1. *same bytes*: equal SHA-256, which the store knows of every file.
2. *same picture*: saved again, at another size or in another format. Pairs of embeddings that are near enough
   (``index/pairs.py``) or of perceptual hashes that are (``index/hashes.py``), the same ratio of the sides, and a look
   at 32 x 32 pixels of both files; a file that is not at hand must be nearer (``alike.Limits``). Groups have a centre,
   so they form no chains (``index/linkage.py``).
3. *burst*: taken within seconds by the same camera, and like the first of them.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from clipsearch.decode import DecodePool, DecodeRequest
from clipsearch.embed.preprocess import Preprocess
from clipsearch.errors import InputError
from clipsearch.flows.alike import Alike, Limits, aspects_fit, bursts, hashed_pairs, kept, looks_same, same_bytes, twins
from clipsearch.flows.facts import NO_LOOK, Facts, Pictures
from clipsearch.flows.hits import image_path
from clipsearch.flows.progress import Progress
from clipsearch.index.linkage import centre_groups
from clipsearch.index.pairs import Pairs, near_pairs, union
from clipsearch.store import Snapshot
from clipsearch.types import Decoded, Floats, ImageRef, Ints, Pixels

__all__ = ["Alike", "DuplicateFile", "DuplicateGroup", "DuplicateReport", "Limits", "find_duplicates", "group_pictures"]

_SIDE = 32
_SMALL = Preprocess(size=_SIDE, mode="squash", interpolation="bilinear", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
_CHUNK = 8192  # pairs compared at a time


@dataclass(frozen=True, slots=True)
class DuplicateFile:
    """A picture of a group.

    Attributes:
        id: row id.
        path: where it is.
        width: pixels, 0 where unknown; ``height`` likewise.
        size: bytes.
        score: cosine to the picture to keep.
        keep: whether it is the one that is worth keeping: most pixels, then most bytes, then the oldest row.
    """

    id: int
    path: str
    width: int
    height: int
    size: int
    score: float
    keep: bool


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Pictures that are alike, the one to keep first, then by id."""

    kind: Alike
    files: tuple[DuplicateFile, ...]


@dataclass(frozen=True, slots=True)
class DuplicateReport:
    """What was found.

    Attributes:
        groups: same bytes first, then same pictures, then bursts.
        images: pictures looked at.
        read: files that were opened for a look at their pixels; ``unread`` could not be.
        seconds: time it took.
        unhashed: pictures without a perceptual hash, indexed before there were any or imported: of those, copies at
            another size are found by embeddings alone.
    """

    groups: tuple[DuplicateGroup, ...]
    images: int
    read: int
    unread: int
    seconds: float
    unhashed: int = 0

    @property
    def superfluous(self) -> dict[Alike, int]:
        """Files that are not the one to keep, by class."""
        return {kind: sum(len(g.files) - 1 for g in self.groups if g.kind == kind) for kind in Alike}


def find_duplicates(
    snapshot: Snapshot,
    *,
    allowed: Ints | None = None,
    limits: Limits | None = None,
    look: bool = True,
    thorough: bool = False,
    exact: bool | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> DuplicateReport:
    """Find the pictures of a version that are there more than once.

    Args:
        snapshot: the version.
        allowed: (n,) ids, ascending, that count; None for all.
        limits: what counts as alike.
        look: open the files of pairs that may be the same picture; False goes by embeddings alone.
        thorough: open every file, and propose pairs by their pixels too: finds copies that are smaller than what the
            encoder sees, whose embeddings differ.
        exact: compare every pair of embeddings; None does so where there are few enough.
        progress: called now and then while files are opened.

    Raises:
        InputError: a limit makes no sense, or too many pairs are that much alike.
    """
    start = time.monotonic()
    limits = _checked(limits or Limits())
    pictures = Pictures(snapshot, allowed)
    reader = Reader(snapshot, pictures.facts, progress or (lambda _: None)) if look or thorough else None
    found = group_pictures(pictures, limits, reader, thorough=thorough, exact=exact)
    groups = tuple(_group(snapshot, pictures, kind, at) for kind, at in found)
    read, unread = (reader.read, reader.unread) if reader else (0, 0)
    unhashed = int((pictures.facts.phash == NO_LOOK).sum())
    return DuplicateReport(groups, len(pictures), read, unread, time.monotonic() - start, unhashed)


def _checked(limits: Limits) -> Limits:
    for name in ("proposed", "unseen", "burst", "hashed", "unseen_hashed"):
        value = getattr(limits, name)
        if not 0 < value <= 1:
            raise InputError(f"The limit {name} is {value}; a cosine above 0 and at most 1 is wanted.")
    if limits.burst_seconds < 0:
        raise InputError(f"burst_seconds is {limits.burst_seconds}; give 0 or more.")
    return limits


def group_pictures(
    pictures: Pictures,
    limits: Limits,
    reader: "Reader | None" = None,
    *,
    thorough: bool = False,
    exact: bool | None = None,
) -> list[tuple[Alike, Ints]]:
    """Return groups of positions; of a group's pictures only the one to keep goes on to the next class."""
    facts, n = pictures.facts, len(pictures)
    groups: list[tuple[Alike, Ints]] = [(Alike.BYTES, group) for group in same_bytes(facts)]
    units = _without_superfluous(facts, np.arange(n), groups)
    pairs = near_pairs(
        lambda at: pictures.embeddings(units[at]),
        len(units),
        max(limits.unseen, limits.proposed) if reader is None else limits.proposed,
        exact=exact,
    )
    pairs = union(pairs, hashed_pairs(facts, units, pictures.embeddings, limits, exact), len(units))
    pairs = kept(pairs, aspects_fit(facts, units[pairs.first], units[pairs.second], limits))
    if reader is None:
        pairs = kept(pairs, twins(facts, units[pairs.first], units[pairs.second], pairs.scores, limits))
    if reader is not None:
        reader.look(units if thorough else units[np.unique(np.concatenate([pairs.first, pairs.second]))])
        if thorough:
            more = reader.proposed(units, limits, exact)
            more = kept(more, aspects_fit(facts, units[more.first], units[more.second], limits))
            pairs = union(pairs, more, len(units))
    if reader is not None:
        pairs = reader.confirmed(pairs, units, limits)
    same = [(Alike.PICTURE, units[group]) for group in centre_groups(pairs, len(units))]
    units = _without_superfluous(facts, units, same)
    in_time = [(Alike.BURST, group) for group in bursts(facts, units, pictures.embeddings, limits)]
    return [*groups, *same, *in_time]


def _without_superfluous(facts: Facts, units: Ints, groups: list[tuple[Alike, Ints]]) -> Ints:
    gone = [at for _, group in groups for at in group.tolist() if at != facts.best(group)]
    return units[~np.isin(units, np.array(gone, np.int64))]


def _group(snapshot: Snapshot, pictures: Pictures, kind: Alike, at: Ints) -> DuplicateGroup:
    facts, best = pictures.facts, pictures.facts.best(at)
    at = np.array([best, *sorted((p for p in at.tolist() if p != best), key=lambda p: facts.ids[p])])
    rows = pictures.embeddings(at).astype(np.float32)
    scores = np.clip(rows @ rows[0], -1.0, 1.0)
    return DuplicateGroup(
        kind,
        tuple(
            DuplicateFile(
                int(facts.ids[p]),
                image_path(snapshot, row),
                int(facts.width[p]),
                int(facts.height[p]),
                int(facts.size[p]),
                round(float(score), 6),
                bool(p == best),
            )
            for p, row, score in zip(at, snapshot.rows("images", facts.ids[at]), scores, strict=True)
        ),
    )


class Reader:
    """Looks at the files of pictures: each once, small, in the supervised decode workers."""

    def __init__(self, snapshot: Snapshot, facts: Facts, tell: Callable[[Progress], None]) -> None:
        self._snapshot, self._facts, self._tell = snapshot, facts, tell
        self.read = self.unread = 0

    def look(self, at: Ints) -> None:
        """Open the files of pictures at positions (m,) of the facts."""
        self._at = np.sort(at)
        self._small = np.zeros((len(at), _SIDE * _SIDE * 3), np.uint8)
        self._seen = np.zeros(len(at), np.bool_)
        for place, pixels in enumerate(self._pixels(self._facts.ids[self._at])):
            if pixels is not None:
                self._small[place], self._seen[place] = pixels.ravel(), True
        self.read, self.unread = int(self._seen.sum()), int((~self._seen).sum())

    def proposed(self, units: Ints, limits: Limits, exact: bool | None) -> Pairs:
        """Return the pairs of ``units``, all of them looked at, whose pixels go up and down together."""
        places = np.flatnonzero(self._seen[np.searchsorted(self._at, units)])

        def patterns(at: Ints) -> Floats:
            pixels = self._small[np.searchsorted(self._at, units[places[at]])]
            grey = pixels.reshape(len(at), _SIDE // 2, 2, _SIDE // 2, 2, 3).mean(axis=(2, 4, 5), dtype=np.float32)
            grey = grey.reshape(len(at), -1)
            grey -= grey.mean(axis=1, keepdims=True)
            return grey / np.maximum(np.linalg.norm(grey, axis=1, keepdims=True), 1e-3)

        found = near_pairs(patterns, len(places), limits.correlation, exact=exact)
        return Pairs(places[found.first], places[found.second], np.zeros(len(found.first), np.float32))

    def confirmed(self, pairs: Pairs, units: Ints, limits: Limits) -> Pairs:
        """Return the pairs of positions in ``units`` that show the same, as far as can be seen."""
        keep = twins(self._facts, units[pairs.first], units[pairs.second], pairs.scores, limits)
        for start in range(0, len(keep), _CHUNK):
            part = slice(start, start + _CHUNK)
            one, two = (np.searchsorted(self._at, units[side[part]]) for side in (pairs.first, pairs.second))
            both = np.flatnonzero(self._seen[one] & self._seen[two])
            a, b = self._small[one[both]].astype(np.float32), self._small[two[both]].astype(np.float32)
            keep[both + start] = looks_same(a, b, limits)
        return kept(pairs, keep)

    def _pixels(self, ids: Ints) -> Iterator[Pixels | None]:
        """Yield 32 x 32 pixels of each picture; None of a file that is gone, changed, or inside a tar."""
        refs = list(map(self._ref, self._snapshot.rows("images", ids)))
        hashes = [row["content_hash"] for row in self._snapshot.rows("images", ids)]
        if not any(refs):
            yield from (None for _ in refs)
            return
        with DecodePool(_SMALL) as pool:
            decoded = pool.run(DecodeRequest(ref) for ref in refs if ref is not None)
            for done, (ref, digest) in enumerate(zip(refs, hashes, strict=True)):
                found = None if ref is None else next(decoded)
                is_same = isinstance(found, Decoded) and found.content_hash == digest
                self._tell(Progress("look", done + 1, len(refs)))
                yield found.pixels if isinstance(found, Decoded) and is_same else None

    def _ref(self, row: "dict[str, object]") -> ImageRef | None:
        if row["member"] is not None:
            return None
        root = self._snapshot.root_path(row["root"])  # pyright: ignore[reportArgumentType]
        times = (row["size"], row["mtime_ns"], row["ctime_ns"])
        return ImageRef(root, row["path"], None, *times) if root else None  # pyright: ignore[reportArgumentType]
