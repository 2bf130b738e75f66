"""How hard each query of a batch is searched for: for the same recall, text and image queries need other settings."""

from collections.abc import Sequence

import numpy as np

from clipsearch.errors import InputError
from clipsearch.flows.query_terms import Query
from clipsearch.index.base import Effort, VectorIndex
from clipsearch.types import Floats, Ints, Neighbors


def query_kind(query: Query, target: str = "image") -> str:
    """Return the kind of a query, "text" or "image": that of the ``target`` where all its parts are, else the harder.

    The harder kind is the other one: text queries lie apart from images, and image queries from texts.
    """
    other = "text" if target == "image" else "image"
    return target if all(term.kind == target for term in query.terms) else other


def efforts_for(index: VectorIndex, kinds: Sequence[str], recall: float | None) -> dict[str, Effort | None]:
    """Return the settings for each kind of query.

    Raises:
        InputError: ``recall`` is not above 0 and at most 1.
    """
    if recall is not None and not 0 < recall <= 1:
        raise InputError(f"The recall asked for is {recall:g}; give a share above 0 and at most 1, such as 0.98.")
    return {kind: index.effort(recall, kind) for kind in dict.fromkeys(kinds)}


def effort_note(
    efforts: dict[str, Effort | None], kind: str, recall: float | None, target: str = "image"
) -> tuple[str, ...]:
    """Say that every row was compared because nothing less reaches the recall asked for."""
    effort = efforts[kind]
    if recall is None or recall == 1 or effort is None or not effort.exact:
        return ()
    rows = "picture" if target == "image" else "text"
    return (f"No measured setting reaches a recall of {recall:g} for {kind} queries: every {rows} was compared.",)


def search_by_kind(
    index: VectorIndex,
    xq: Floats,
    kinds: Sequence[str],
    k: int,
    allowed: Ints | None,
    efforts: dict[str, Effort | None],
) -> Neighbors:
    """Search for queries (Q, D), each with the settings of its kind: one call of the index a kind."""
    if len(efforts) == 1:
        return index.search(xq, k, allowed=allowed, effort=efforts[kinds[0]])
    found = Neighbors(np.empty((len(xq), k), np.int64), np.empty((len(xq), k), np.float32))
    for kind, effort in efforts.items():
        mine = np.array([other == kind for other in kinds])
        part = index.search(xq[mine], k, allowed=allowed, effort=effort)
        found.ids[mine], found.scores[mine] = part.ids, part.scores
    return found
