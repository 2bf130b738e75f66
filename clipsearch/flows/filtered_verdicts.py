"""Verdicts of searches with a filter: the same queries, asked of the allowed rows only.

The best of fewer rows is worse, so a null made on the whole collection would be too high for a part of it, and one made
on a part too low for another. The calibration keeps its queries; when a filter is first used with a kind of query, they
are asked again of the rows that pass, and the samples are remembered with the filter.

Who filters asks for things such as those that pass, which are nearer to each other than to the rest. So the null is
made of the queries about pictures that pass; where those are few, the nearest of the others make up the number, which
errs on the safe side.

The cost is bounded: fewer queries are asked of more rows, ``LEAST`` at least. Of more than ``MOST_ROWS`` none are. Then
the null of the whole collection is used, too high for a part of it and so on the safe side, and no verdict is ``none``,
because its answerable sample would be too high as well.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from clipsearch.flows.calibration_files import Target
from clipsearch.flows.verdicts import Judge
from clipsearch.index.flat import as_float32
from clipsearch.match.calibration import MIN_ROWS, Block, Part, Queries, asked_again
from clipsearch.match.verdict import KindNull
from clipsearch.store import Snapshot
from clipsearch.types import Ints

CHUNK = 8_192  # rows in memory at a time
SCORES = 6_000_000  # queries times rows
LEAST = 150  # queries at least
MOST_ROWS = 100_000


class FilteredKinds(Mapping[str, KindNull]):
    """The samples of each kind of query over some rows, each made when it is first asked for."""

    def __init__(self, whole: Target, blocks: Callable[[], Iterator[Block]], part: Part) -> None:
        self._whole, self._blocks, self._part = whole, blocks, part
        self._made: dict[str, KindNull] = {}

    def __getitem__(self, kind: str) -> KindNull:
        """Return the samples; two threads may both make them, and get the same."""
        made = self._made.get(kind)
        if made is None:
            made = self._made[kind] = self._make(self._whole.kinds[kind], self._whole.queries[kind])
        return made

    def _make(self, whole: KindNull, queries: Queries) -> KindNull:
        n = int(self._part.sizes.sum())
        if n > MOST_ROWS:
            return replace(whole, answerable=whole.answerable[:0])
        return asked_again(whole, queries, self._blocks, self._part, max(LEAST, SCORES // n))

    def __contains__(self, kind: object) -> bool:
        return kind in self._whole.kinds

    def __iter__(self) -> Iterator[str]:
        return iter(self._whole.kinds)

    def __len__(self) -> int:
        return len(self._whole.kinds)


def filtered(judge: Judge, snapshot: Snapshot, kind: str, allowed: Ints, images: Ints) -> Judge:
    """Return who judges answers among the rows that a filter lets pass.

    Args:
        judge: who judges answers among all rows.
        snapshot: the version searched.
        kind: "images" or "texts".
        allowed: (n,) ids of the rows that pass, ascending.
        images: (m,) ids of the pictures that pass, ascending.
    """
    if judge.target is None:
        return judge
    if len(allowed) < MIN_ROWS:
        what = "pictures" if kind == "images" else "captions"
        return Judge(None, f"the filter leaves {len(allowed):,} {what}; at least {MIN_ROWS} are needed for a verdict")
    whole = judge.target

    def blocks() -> Iterator[Block]:
        for ids, rows in _rows(snapshot, kind, allowed):
            at = np.searchsorted(whole.ids, ids)
            owners = None if whole.owners is None else whole.owners[at]
            yield Block(ids, rows, whole.hubs[at], whole.concepts[at], owners)

    concepts = whole.concepts[np.searchsorted(whole.ids, allowed)]
    part = Part(images, np.bincount(concepts, minlength=int(whole.concepts.max()) + 1))
    return Judge(replace(whole, kinds=FilteredKinds(whole, blocks, part)), None)


def _rows(snapshot: Snapshot, kind: str, allowed: Ints) -> Iterator[tuple[Ints, Any]]:
    """Yield ids, ascending, and embeddings (b, D) float32 of the allowed rows, some at a time."""
    for block in snapshot.blocks(kind):
        if not len(block.ids):
            continue
        here = allowed[slice(*np.searchsorted(allowed, (block.ids[0], block.ids[-1] + 1)))]
        at = np.searchsorted(block.ids, here)
        keep = at[block.ids[at] == here]
        for start in range(0, len(keep), CHUNK):
            some = keep[start : start + CHUNK]
            yield block.ids[some], as_float32(block.embeddings[some])
