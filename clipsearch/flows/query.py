"""Answer queries: embed, search, fetch rows, hits.

A query is a sum of parts. Each part, a text, a picture or a vector, becomes an embedding of unit norm; the parts are
added with their weights (negative to subtract), and the sum is brought to unit norm again, so that scores stay cosines:

    "a beach" + 0.5 * "sunset" - "people"   →   unit(e(beach) + 0.5 e(sunset) - e(people))

Many queries at once cost one call of each tower and one call of the index. Answers come as arrays; the rows behind
them (paths, sizes, dates) are read when somebody first looks at a hit, from the version that was searched.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from clipsearch.embed.base import Encoder
from clipsearch.errors import InputError, QueryImageError
from clipsearch.flows.augmenter import Augmenter
from clipsearch.flows.effort import effort_note, efforts_for, query_kind, search_by_kind
from clipsearch.flows.folding import Fetch, fold_hits
from clipsearch.flows.query_terms import Query, Term, Weighted, build_queries, is_pil_image
from clipsearch.flows.verdicts import Judge
from clipsearch.index.base import Effort, VectorIndex, check_k
from clipsearch.match.verdict import LEVELS
from clipsearch.store import Snapshot
from clipsearch.types import Floats, Hit, Ints, Pixels, Reordering, SearchResult

__all__ = ["KINDS", "LazyHits", "Query", "Term", "Weighted", "answer", "build_queries", "embed"]

KINDS = {"image": "images", "text": "texts"}  # target of a search → rows of the collection
METADATA = (
    *("width", "height", "format", "size", "taken", "camera", "lens", "latitude", "longitude"),
    "generated",  # True for what a generator made; a photo has no such entry
)
IMAGE_BATCH = 32
CANCELLED = 1e-4  # a sum this short, of parts of norm 1, is rounding error and points nowhere


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
    images = _read_images(queries)
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
            own = {_digest(images[id(term.value)]) for term in query.terms if term.kind == "image"}
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


def embed(
    queries: Sequence[Query],
    dim: int,
    encoder: Callable[[], Encoder],
    images: dict[int, Any] | None = None,  # Any: bytes, path or PIL image, by the id() of the term's value
) -> tuple[Floats, list[tuple[str, ...]]]:
    """Return the queries' embeddings (Q, D), float32 of unit norm, and the notes on each.

    Raises:
        InputError: a vector does not fit the collection, or the parts of a query cancel each other out.
    """
    images = _read_images(queries) if images is None else images
    terms = [term for query in queries for term in query.terms]
    texts = list(dict.fromkeys(term.value for term in terms if term.kind == "text"))
    by_text: dict[str, Floats] = {}
    by_image: dict[int, Floats] = {}
    if texts:
        by_text = dict(zip(texts, encoder().encode_texts(texts), strict=True))
    if images:
        by_image = dict(zip(images, _embed_images(encoder(), list(images.values())), strict=True))

    def embedding(term: Term) -> NDArray[np.float64]:
        if term.kind == "text":
            return _unit(by_text[term.value])
        if term.kind == "image":
            return _unit(by_image[id(term.value)])
        return _unit(_check_vector(term.value, dim))

    xq = np.empty((len(queries), dim), np.float32)
    for q, query in enumerate(queries):
        xq[q] = _combine([embedding(term) for term in query.terms], [term.weight for term in query.terms])
    uncovered = {text: note for text in texts if (note := _language_note(encoder(), text))}
    notes = [
        tuple(dict.fromkeys(uncovered[t.value] for t in query.terms if t.kind == "text" and t.value in uncovered))
        for query in queries
    ]
    return xq, notes


def _combine(parts: Sequence[NDArray[np.float64]], weights: Sequence[float]) -> NDArray[np.float64]:
    """Return the unit-norm weighted sum (D,) of unit-norm parts (D,)."""
    total = np.sum([weight * part for weight, part in zip(weights, parts, strict=True)], axis=0)
    if not np.isfinite(total).all():
        raise InputError("The model gave no finite embedding for a part of the query. Change that part.")
    scale = sum(abs(weight) for weight in weights)
    if float(np.linalg.norm(total)) <= CANCELLED * scale:
        raise InputError("The parts of the query cancel out: nothing is left to look for. Change parts or weights.")
    return _unit(total)


def _unit(x: Any) -> NDArray[np.float64]:
    vector = np.asarray(x, dtype=np.float64)
    return vector / max(float(np.linalg.norm(vector)), np.finfo(np.float64).tiny)


def _check_vector(vector: Any, dim: int) -> NDArray[np.float64]:
    array = np.asarray(vector, dtype=np.float64)
    if array.shape != (dim,):
        raise InputError(f"A query vector has shape {array.shape}; this collection's embeddings have {dim} numbers.")
    if not np.isfinite(array).all():
        raise InputError("A query vector holds NaN or infinity, which has no neighbours. Check the vector.")
    if not array.any():
        raise InputError("A query vector is all zeros, which has no direction. Check the vector.")
    return array


# Query pictures. Files go to a decode worker, which may die of them without harm; a PIL image is open already.


def _read_images(queries: Sequence[Query]) -> dict[int, Any]:
    """Return what to decode for each distinct picture, by the identity of the value; streams are read once."""
    images: dict[int, Any] = {}
    for term in (term for query in queries for term in query.terms if term.kind == "image"):
        if id(term.value) not in images:
            images[id(term.value)] = _read_stream(term.value) if hasattr(term.value, "read") else term.value
    return images


def _read_stream(stream: BinaryIO) -> bytes:
    from clipsearch.decode import DecodeLimits

    data = stream.read(DecodeLimits().max_bytes + 1)  # one more than is allowed is enough to be refused
    if not isinstance(data, bytes):
        raise InputError("A query image was opened as text. Open the file in binary mode: open(path, 'rb').")
    return data


def _embed_images(encoder: Encoder, sources: Sequence[Any]) -> Iterable[Floats]:
    for start in range(0, len(sources), IMAGE_BATCH):
        yield from encoder.encode_images(_pixels(sources[start : start + IMAGE_BATCH], encoder))


def _pixels(sources: Sequence[Any], encoder: Encoder) -> Pixels:
    """Return the pixels (B, S, S, 3) of query pictures; files go to one pool of workers."""
    from clipsearch.decode import DecodeLimits, decode_queries

    files = [source for source in sources if not is_pil_image(source)]
    decoded = iter(decode_queries(files, encoder.preprocess, DecodeLimits()) if files else ())
    return np.stack([_open_pixels(s, encoder) if is_pil_image(s) else next(decoded) for s in sources])


def _open_pixels(image: Any, encoder: Encoder) -> Pixels:
    """Return the pixels (S, S, 3) of a PIL image."""
    from clipsearch.decode.image import upright_rgb  # here: needs PIL, which the caller has loaded

    try:
        return encoder.preprocess(upright_rgb(image))
    except (OSError, SyntaxError, ValueError) as error:  # PIL decodes late: a damaged file shows only now
        raise QueryImageError(f"The query image cannot be decoded: {error}. Give another picture.") from error


def _digest(source: Any) -> bytes:
    """Return the SHA-256 of a query picture's file, as the collection has it of its files."""
    if isinstance(source, bytes):
        return hashlib.sha256(source).digest()
    if is_pil_image(source):
        raise InputError("leave_out_self compares files, and a PIL image has none. Give the path or the bytes.")
    try:
        with open(source, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise QueryImageError(f"The query image {source} cannot be read: {error.strerror}.") from error


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


def _language_note(encoder: Encoder, text: str) -> str | None:
    """Say that the model does not know the language of a text, and which model does."""
    if encoder.covers_text(text):
        return None
    from clipsearch.embed.card import cards

    several = [card for card in cards().values() if "multi" in card.languages]
    best = min(several, key=lambda card: card.size_mb, default=None)
    advice = f" For other languages make a collection with the model {best.name!r}." if best else ""
    return f"The model {encoder.name!r} may not understand {text!r}.{advice}"


class LazyHits(Sequence[Hit]):
    """Hits built on first use. Holds on to its snapshot, so a later refresh does not change an answer.

    Two threads that look at once may both read the rows; they read the same, so neither waits for the other.
    """

    def __init__(self, snapshot: Snapshot, kind: str, ids: Ints, scores: Floats) -> None:
        self._snapshot, self._kind, self._ids, self._scores = snapshot, kind, ids, scores
        self._hits: list[Hit] | None = None
        self._plain: list[Hit] | None = None

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: Any) -> Any:  # Any: int gives a Hit, slice a list, as Sequence says
        return self._fetched()[index]

    def __iter__(self) -> Iterator[Hit]:
        return iter(self._fetched())

    def __repr__(self) -> str:
        return f"<{len(self)} hits>"

    @property
    def plain(self) -> list[Hit]:
        """The hits without what columns that were added later say of them, which would take reading those."""
        if self._plain is None:
            self._plain = self._fetch()
        return self._plain

    def _fetched(self) -> list[Hit]:
        if self._hits is None:
            self._hits = [_with_added(hit, added) for hit, added in zip(self.plain, self._added(), strict=True)]
        return self._hits

    def _fetch(self) -> list[Hit]:
        fetch = _text_hits if self._kind == "texts" else _image_hits
        return fetch(self._snapshot, self._ids, self._scores)

    def _added(self) -> list[dict[str, Any]]:
        """Return for each hit what the added columns say of its picture."""
        if not self._snapshot.added_columns():
            return [{}] * len(self)
        if self._kind == "images":
            return self._snapshot.added_values(self._ids)
        images = [row["image_id"] for row in self._snapshot.rows("texts", self._ids.tolist())]
        known = self._snapshot.added_values([-1 if id_ is None else id_ for id_ in images])
        return [added if hit.path else {} for hit, added in zip(self.plain, known, strict=True)]


def _with_added(hit: Hit, added: Mapping[str, Any]) -> Hit:
    return replace(hit, metadata={**hit.metadata, **added}) if added else hit


def _image_hits(snapshot: Snapshot, ids: Ints, scores: Floats) -> list[Hit]:
    rows = snapshot.rows("images", ids.tolist())
    return [
        Hit(rank, int(id_), image_path(snapshot, row), float(score), metadata=_metadata(row))
        for rank, (id_, score, row) in enumerate(zip(ids, scores, rows, strict=True), start=1)
    ]


def _text_hits(snapshot: Snapshot, ids: Ints, scores: Floats) -> list[Hit]:
    texts = snapshot.rows("texts", ids.tolist())
    linked = np.array(list({row["image_id"] for row in texts} - {None}), dtype=np.int64)
    image_ids = linked[~np.isin(linked, snapshot.deleted_ids())].tolist()
    images = dict(zip(image_ids, snapshot.rows("images", image_ids), strict=True))
    hits = []
    for rank, (id_, score, row) in enumerate(zip(ids, scores, texts, strict=True), start=1):
        image = images.get(row["image_id"])
        path = "" if image is None else image_path(snapshot, image)
        metadata = {} if image is None else _metadata(image)
        hits.append(Hit(rank, int(id_), path, float(score), text=row["text"], metadata=metadata))
    return hits


def image_path(snapshot: Snapshot, row: Mapping[str, Any]) -> str:
    """Return where an image row's file is on this machine, ``os.fsdecode``d; a tar member behind ``::``."""
    path = os.path.join(snapshot.root_path(row["root"]), row["path"])
    member = row.get("member")
    return os.fsdecode(path if member is None else path + b"::" + member)


def _metadata(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a person asks of a picture; where the row lies is not part of it."""
    return {name: row[name] for name in METADATA if row.get(name) is not None}
