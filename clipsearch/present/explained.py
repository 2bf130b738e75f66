"""Why a hit stands where it stands, as lines and as JSON fields."""

from collections.abc import Iterator
from typing import Any

from clipsearch.types import SearchResult


def lines(result: SearchResult) -> Iterator[str]:
    """Yield a line a hit: rank, rank by score alone, score, and what each rung added."""
    if not len(result):
        return
    if not result.reordered:
        yield "explain: hits stand in the order of their scores; no rung was used"
        return
    for rank, (score, why) in enumerate(zip(result.scores, result.reordered, strict=True), start=1):
        terms = ", ".join(f"{name} {added:+.4f}" for name, added in why.terms.items()) or "beyond the reach of rungs"
        yield f"explain: {rank} (by score alone {why.plain_rank}): score {score:.4f}, {terms}"


def fields(result: SearchResult) -> Iterator[dict[str, Any]]:  # Any: JSON values
    """Yield for each hit what ``clipsearch.hit/1`` has more: ``plain_rank`` and ``terms``."""
    for n in range(len(result)):
        why = result.reordered[n] if result.reordered else None
        terms = {} if why is None else {name: round(added, 6) for name, added in why.terms.items()}
        yield {"plain_rank": n + 1 if why is None else why.plain_rank, "terms": terms}
