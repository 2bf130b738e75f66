"""Answer queries: embed, search, judge, order, fold.

Many queries at once cost one call of each tower and one call of the index. Answers come as arrays; the rows behind
them (paths, sizes, dates) are read when somebody first looks at a hit (``hits.py``).
"""

from collections.abc import Callable, Sequence

import numpy as np

from clipsearch.embed.base import Encoder
from clipsearch.flows.augmenter import Augmenter
from clipsearch.flows.effort import effort_note, efforts_for, query_kind, search_by_kind
from clipsearch.flows.folding import Fetch, fold_hits
from clipsearch.flows.hits import LazyHits
from clipsearch.flows.query_embedding import embed, file_digest, read_images
from clipsearch.flows.query_terms import Query
from clipsearch.flows.verdicts import Judge
from clipsearch.index.base import Effort, VectorIndex, check_k
from clipsearch.match.verdict import LEVELS
from clipsearch.store import Snapshot
from clipsearch.types import Floats, Ints, Reordering, SearchResult

KINDS = {"image": "images", "text": "texts"}  # target of a search → rows of the collection


def answer(
    snapshot: Snapshot,
    index: VectorIndex,
    queries: Sequence[Query],
    encoder: Callable[[], Encoder],
    *,
    k: int = 10,
    target: str = "image",
    leave_out_self: bool = False,
    allowed: Ints | None = None,
    recall: float | None = None,
    notes: tuple[str, ...] = (),
    judge: Judge | None = None,
    augmenter: Augmenter | None = None,
    fold: bool = False,
    feedback: Callable[[Floats], Floats] | None = None,
) -> list[SearchResult]:
    """Answer each query with its ``k`` best rows.

    Args:
        snapshot: the version of the collection that ``index`` was made from.
        index: the rows of ``target``.
        queries: what is asked, see ``build_queries``.
        encoder: gives the encoder; called only where there is a text or an image to embed.
        k: hits wanted for each query.
        target: "image" for pictures, "text" for captions.
        leave_out_self: leave out pictures whose file has the very bytes of a query picture.
        allowed: (n,) ids of ``target`` that may be answered, ascending; None allows all.
        recall: share of the true best rows wanted from an approximate index; None takes the usual.
        notes: what there is to say of every answer.
        judge: gives the verdicts; None leaves all answers uncalibrated.
        augmenter: puts the nearest pictures of a text into a new order; None leaves the order of the scores. Verdicts
            are given before.
        fold: fold pictures that show the same thing, or texts of the same words, into one hit; after the verdict.
        feedback: moves the queries (Q, D) towards pictures and away from others; then no verdict is given.

    Raises:
        InputError: the request is wrong; QueryImageError: a query picture cannot be read.
    """
    if not queries:
        return []
    check_k(k)
    images = read_images(queries)
    xq, own_notes = embed(queries, index.dim, encoder, images)
    judge = judge or Judge()
    if feedback is not None:
        xq, judge = feedback(xq), Judge(None, "queries moved by more and less are not calibrated")
    kinds = [query_kind(query, target) for query in queries]
    efforts = efforts_for(index, kinds, recall)
    usable = target == "image" and allowed is None and feedback is None  # what rungs were measured on
    augmenter = augmenter or Augmenter()
    augmenter = augmenter if usable else augmenter.without_rungs()
    wanted = max(k, judge.nearest, augmenter.nearest)  # verdict and rungs look at as many rows whatever k is
    found = search_by_kind(index, xq, kinds, wanted, allowed, efforts)
    general = (*_filter_note(snapshot, target, allowed), *notes)
    results = []
    for q, query in enumerate(queries):
        ids, scores = found.ids[q], found.scores[q]
        own: set[bytes] = set()
        if leave_out_self and target == "image":
            own = {file_digest(images[id(term.value)]) for term in query.terms if term.kind == "image"}
            ids, scores = _without(own, snapshot, index, xq[q : q + 1], wanted, allowed, efforts[kinds[q]])
        judged = judge.judge(query.terms, not own_notes[q], ids, scores)
        why: tuple[Reordering, ...] = ()
        drawn = augmenter.drawn(query.terms, not own_notes[q])
        if augmenter.covers(query.terms, not own_notes[q]):
            ids, scores, why = augmenter.reorder(snapshot, xq[q], ids, scores, drawn.embedding)
        others: tuple[tuple[int, ...], ...] = ()
        if fold:
            fetch = _more(index, xq[q : q + 1], allowed, efforts[kinds[q]], own, snapshot)
            left = fold_hits(snapshot, KINDS[target], ids, scores, k, fetch)
            ids, scores, others = left.ids, left.scores, left.others
            why = tuple(why[at] for at in left.at.tolist()) if why else ()
        ids, scores = _final(ids[:k], scores[:k])
        rows = LazyHits(snapshot, KINDS[target], ids, scores)
        added = (*augmenter.notes(query.terms), *((drawn.note,) if drawn.note else ()))
        said = (*own_notes[q], *effort_note(efforts, kinds[q], recall, target), *added, *general)
        levels = {} if judged.p_value is None else LEVELS.as_dict()
        results.append(
            SearchResult(
                ids,
                scores,
                rows,
                judged.verdict,
                judged.p_value,
                target,
                said,
                levels,
                judged.why,
                reordered=why[:k],
                folded=others,
            )
        )
    return results


def _more(
    index: VectorIndex, xq: Floats, allowed: Ints | None, effort: Effort | None, own: set[bytes], snapshot: Snapshot
) -> Fetch:
    """Return what finds more rows for a query (1, D) as it was asked."""

    def fetch(n: int) -> tuple[Ints, Floats]:
        if own:
            return _without(own, snapshot, index, xq, n, allowed, effort)
        found = index.search(xq, n, allowed=allowed, effort=effort)
        return found.ids[0], found.scores[0]

    return fetch


def _final(ids: Ints, scores: Floats) -> tuple[Ints, Floats]:
    """Return what was found without its padding, read-only; float16 rows are of unit norm but for rounding."""
    n = int((ids >= 0).sum())
    ids, scores = ids[:n].copy(), np.clip(scores[:n], -1.0, 1.0)
    ids.flags.writeable = scores.flags.writeable = False
    return ids, scores


def _filter_note(snapshot: Snapshot, target: str, allowed: Ints | None) -> tuple[str, ...]:
    """Say that a filter is why there is no answer."""
    if allowed is None or len(allowed):
        return ()
    total, name = snapshot.count(KINDS[target]), "image" if target == "image" else "caption"
    return (f"The filter leaves 0 of {total:,} {name}{'' if total == 1 else 's'}.",)


def _without(
    own: set[bytes],
    snapshot: Snapshot,
    index: VectorIndex,
    xq: Floats,
    k: int,
    allowed: Ints | None,
    effort: Effort | None,
) -> tuple[Ints, Floats]:
    """Return ids and scores of the ``k`` best rows whose content is not among ``own``; looks no further than needed."""
    wanted = k + 4
    while True:
        found = index.search(xq, wanted, allowed=allowed, effort=effort)
        ids, scores = found.ids[0], found.scores[0]
        ids = ids[ids >= 0]
        rows = snapshot.rows("images", ids.tolist())
        keep = np.array([row["content_hash"] not in own for row in rows], dtype=np.bool_)
        if keep.sum() >= k or len(ids) < wanted:
            return ids[keep][:k], scores[: len(ids)][keep][:k]
        wanted *= 2
