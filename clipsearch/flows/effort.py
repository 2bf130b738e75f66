"""How hard each query of a batch is searched for: for the same recall, text and image queries need other settings."""

from collections.abc import Sequence

import numpy as np

from clipsearch.errors import InputError
from clipsearch.flows.query_terms import Query
from clipsearch.index.base import Effort, VectorIndex
from clipsearch.types import Floats, Ints, Neighbors


def query_kind(query: Query) -> str:
    """Return "image" for a query of pictures alone; anything else counts as "text", the harder kind."""
    return "image" if all(term.kind == "image" for term in query.terms) else "text"


def efforts_for(index: VectorIndex, kinds: Sequence[str], recall: float | None) -> dict[str, Effort | None]:
    """Return the settings for each kind of query.

    Raises:
        InputError: ``recall`` is not above 0 and at most 1.
    """
    if recall is not None and not 0 < recall <= 1:
        raise InputError(f"The recall asked for is {recall:g}; give a share above 0 and at most 1, such as 0.98.")
    return {kind: index.effort(recall, kind) for kind in dict.fromkeys(kinds)}


def effort_note(efforts: dict[str, Effort | None], kind: str, recall: float | None) -> tuple[str, ...]:
    """Say that every row was compared because nothing less reaches the recall asked for."""
    effort = efforts[kind]
    if recall is None or recall == 1 or effort is None or not effort.exact:
        return ()
    return (f"No measured setting reaches a recall of {recall:g} for {kind} queries: every picture was compared.",)


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
