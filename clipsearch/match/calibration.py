"""Make the reference samples of one kind of query.

With captions: each is scored with its whole concept left out (the null), and with everything in place (answerable). A
third of them chooses how much of the hubs to subtract, by how well it separates the two; the rest are the samples, so
that the choice does not make the levels untrue. Sentences choose for phrases and keywords too: a sentence is a caption
as it stands, embedded when it was indexed; the others go through the text tower, which takes longest.

Without captions nobody knows which generic queries have an answer, and a person asks for things nearer to the
collection than a bank made for everybody. Measured: the whole bank, concepts left out, let through 30 to 45 % of absent
queries instead of 5 %. So the null is the quarter of the bank that comes nearest to something, with nothing left out:
some of it is really there, which raises the bar and errs on the safe side. The answerable sample is the bank's queries
whose best rows lie together in one concept, as those of a real answer do.

Rows come in blocks, as often as they are asked for, so memory does not grow with the collection: a query keeps its
``NEAREST`` best rows so far. Every row counts, for the best of a sample would be worse than the best of the whole; what
is bounded is the number of queries.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.match.concepts import owners
from clipsearch.match.scores import DEPTH, IMAGE_DEPTH, NEAREST, STRENGTHS, evidence
from clipsearch.match.verdict import KindNull
from clipsearch.types import Floats, Ints

MIN_ROWS = 100  # fewer rows do not make enough concepts to leave out
MIN_QUERIES = 150  # fewer captions, and the levels would be guesses; pictures need two thirds of that
# Two thirds of 387 are 258: 8 of the null may be as high as a match's, which is a p-value of 3.5 %; of 400 it is 3.7 %.
MAX_QUERIES, MAX_QUERIES_LARGE = 387, 300
MAX_WORDS = 184  # keywords, phrases: 5 of them, 3.2 %; the fewest for 5, since each has to be embedded
LARGE = 200_000  # rows
MIN_NULL = 100  # queries in the null of some of the rows
NEAR_SHARE = 4  # the nearest quarter of the bank

Blocks = Callable[[], Iterable["Block"]]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Some rows: ids (n,) ascending, embeddings (n, D) float32, hubs (n,) float32, concepts (n,).

    ``owners`` (n,) are the pictures that texts belong to, or -1; None where rows are pictures.
    """

    ids: Ints
    rows: Floats
    hubs: Floats
    concepts: Ints
    owners: Ints | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Queries:
    """Queries of one kind.

    Attributes:
        embeddings: (Q, D) float32, unit norm; float16 where they come from a file.
        concepts: (Q,) concept to leave out for the null, or -1.
        selves: (Q,) id of the row that is the query itself and no answer to it, or -1. Of a picture whose captions are
            searched: the picture's, all of whose captions are left out.
        homes: (Q,) id of the picture that the query is about, or -1.
        pictures: whether the queries are pictures.
    """

    embeddings: NDArray[Any]
    concepts: Ints
    selves: Ints
    homes: Ints
    pictures: bool = False

    @classmethod
    def generic(cls, embeddings: Floats) -> "Queries":
        """Return queries (Q, D) that come from no picture."""
        nothing = np.full(len(embeddings), -1, dtype=np.int64)
        return cls(embeddings, nothing, nothing, nothing)

    def part(self, keep: NDArray[Any]) -> "Queries":
        """Return some of them: a mask (Q,) or positions."""
        return Queries(self.embeddings[keep], self.concepts[keep], self.selves[keep], self.homes[keep], self.pictures)

    def __len__(self) -> int:
        return len(self.concepts)


def max_samples(n: int) -> int:
    """Return how many queries of a kind to calibrate with on ``n`` rows where none is needed to choose a strength."""
    return max_queries(n) * 2 // 3


def max_words(n: int) -> int:
    """Return how many keywords, or phrases, to calibrate with on ``n`` rows: fewer, as each has to be embedded."""
    return min(MAX_WORDS, max_samples(n))


def max_queries(n: int) -> int:
    """Return how many queries of a kind to calibrate with on ``n`` rows."""
    return MAX_QUERIES if n <= LARGE else MAX_QUERIES_LARGE


def from_captions(queries: Queries, blocks: Blocks, strength: float | None = None) -> tuple[KindNull, Queries]:
    """Return the samples of captions as queries, and the queries that they are of.

    Args:
        queries: captions.
        blocks: gives all rows, each time it is called.
        strength: of the hub correction, chosen on queries of another kind; None lets a third of these choose.
    """
    whole, null = find_both(queries, blocks)
    if strength is not None:
        return _samples(whole, null, queries, "captions", DEPTH, strength), queries
    chooses = np.arange(len(queries)) % 3 == 0
    strength = max(STRENGTHS, key=lambda s: separation(null.evidence(s)[chooses], whole.evidence(s)[chooses]))
    used = queries.part(~chooses)
    return _samples(whole.part(~chooses), null.part(~chooses), used, "captions", DEPTH, strength), used


def from_images(queries: Queries, blocks: Blocks) -> KindNull:
    """Return the samples of pictures as queries: their best plain score, among all other rows."""
    whole, null = find_both(queries, blocks)
    return _samples(whole, null, queries, "images", IMAGE_DEPTH, 0.0)


def from_bank(queries: Queries, blocks: Blocks, depth: int = DEPTH) -> KindNull:
    """Return the samples of generic queries, where the collection has no captions to ask."""
    whole = find_nearest(queries.embeddings, blocks)
    scores = whole.evidence(0.0, depth)
    owned = owners(np.take_along_axis(whole.concepts, np.argsort(-whole.scores, axis=1)[:, :DEPTH], axis=1))
    answerable = scores[owned >= 0]
    return KindNull(
        null=np.sort(scores)[-max(len(scores) // NEAR_SHARE, 1) :],
        answerable=np.sort(answerable if len(answerable) >= MIN_QUERIES else scores),
        source="bank",
        concepts=len(np.unique(owned[owned >= 0])),
        depth=depth,
        hub=0.0,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some of the rows: the pictures (m,) that they are about, ascending, and how many each concept has (k,)."""

    homes: Ints
    sizes: Ints


def asked_again(
    reference: KindNull, queries: Queries, blocks: Blocks, part: Part | None = None, most: int | None = None
) -> KindNull:
    """Return the samples of the same queries over other rows, or with another strength or depth.

    Args:
        reference: says how evidence is made.
        queries: those of the reference.
        blocks: gives the rows.
        part: where the rows are some of those that the reference is of.
        most: queries to ask; None asks all.
    """
    some = queries if most is None or most >= len(queries) else queries.part(_spread(len(queries), most))
    if reference.source == "bank":
        return from_bank(some, blocks, reference.depth)
    whole, null = find_both(some, blocks)
    made = _samples(whole, null, some, reference.source, reference.depth, reference.hub)
    return made if part is None else _of_part(made, whole, null, some, part)


def _of_part(made: KindNull, whole: "Nearest", null: "Nearest", queries: Queries, part: Part) -> KindNull:
    """Return the samples over some of the rows.

    Only queries about pictures among them are answerable. They also make the null, as what is asked of a part is nearer
    to it than what is asked of the whole; where they are few, the nearest of the others make up ``MIN_NULL``. A query
    whose concept is most of the part says nothing: without it hardly anything would be left.
    """
    there = np.isin(queries.homes, part.homes)
    usable = 2 * part.sizes[queries.concepts] <= part.sizes.sum()
    absent = null.evidence(made.hub, made.depth)
    own, others = absent[there & usable], np.sort(absent[~there & usable])
    wanted = min(max(MIN_NULL - len(own), 0), len(others))
    answerable = whole.part(there).evidence(made.hub, made.depth)
    filled = np.concatenate((own, others[len(others) - wanted :]))
    return replace(made, null=np.sort(filled), answerable=np.sort(answerable))


def _spread(n: int, most: int) -> Ints:
    return np.linspace(0, n - 1, most).round().astype(np.int64)


def _samples(whole: "Nearest", null: "Nearest", queries: Queries, source: str, depth: int, hub: float) -> KindNull:
    return KindNull(
        null=np.sort(null.evidence(hub, depth)),
        answerable=np.sort(whole.evidence(hub, depth)),
        source=source,
        concepts=len(np.unique(queries.concepts)),
        depth=depth,
        hub=hub,
    )


def separation(null: Floats, answerable: Floats) -> float:
    """Return the chance that an answerable query has more evidence than an absent one (AUROC); ties count half."""
    order = np.sort(null)
    below = np.searchsorted(order, answerable, "left") + np.searchsorted(order, answerable, "right")
    return float(below.mean() / (2 * len(order)))


@dataclass(frozen=True, slots=True, eq=False)
class Nearest:
    """The best rows of each query, in no order: scores, hubs and concepts (Q, m)."""

    scores: Floats
    hubs: Floats
    concepts: Ints

    def evidence(self, strength: float, depth: int = DEPTH) -> Floats:
        """Return the evidence for each query (Q,)."""
        return evidence(self.scores, self.hubs, strength, depth)

    def part(self, keep: NDArray[Any]) -> "Nearest":
        """Return those of some queries: a mask (Q,) or positions."""
        return Nearest(self.scores[keep], self.hubs[keep], self.concepts[keep])

    def with_block(self, scores: Floats, block: Block) -> "Nearest":
        """Return the ``NEAREST`` best of these and of a block, whose scores are (Q, n)."""
        at = _promising(scores, self._bar())
        outside = at < 0
        at = np.where(outside, 0, at)
        found = np.take_along_axis(scores, at, axis=1)
        found[outside] = -np.inf
        joined = Nearest(
            np.concatenate((self.scores, found), axis=1),
            np.concatenate((self.hubs, block.hubs[at]), axis=1),
            np.concatenate((self.concepts, block.concepts[at]), axis=1),
        )
        return joined if joined.scores.shape[1] <= NEAREST else joined._best()

    def _best(self) -> "Nearest":
        best = np.argpartition(self.scores, -NEAREST, axis=1)[:, -NEAREST:]
        return Nearest(
            np.take_along_axis(self.scores, best, axis=1),
            np.take_along_axis(self.hubs, best, axis=1),
            np.take_along_axis(self.concepts, best, axis=1),
        )

    def _bar(self) -> Floats:
        """Return the score (Q,) below which a row cannot be among the best."""
        if self.scores.shape[1] < NEAREST:
            return np.full(len(self.scores), -np.inf, np.float32)
        return self.scores.min(axis=1)


def find_nearest(
    embeddings: NDArray[Any], blocks: Blocks, selves: Ints | None = None, hidden: Ints | None = None
) -> Nearest:
    """Return each query's best rows.

    Args:
        embeddings: (Q, D) queries.
        blocks: gives all rows.
        selves: (Q,) id of a row to leave out, or -1.
        hidden: (Q,) concept whose rows to leave out, or -1.
    """
    found, xq = _nothing(len(embeddings)), embeddings.astype(np.float32, copy=False)
    for block in blocks():
        scores = _scores(xq, block, selves)
        if hidden is not None:
            np.copyto(scores, -np.inf, where=hidden[:, None] == block.concepts)
        found = found.with_block(scores, block)
    return found


def find_both(queries: Queries, blocks: Blocks) -> tuple[Nearest, Nearest]:
    """Return each query's best rows, and its best rows once its concept is left out, in one walk over the rows."""
    whole = null = _nothing(len(queries))
    xq = queries.embeddings.astype(np.float32, copy=False)
    for block in blocks():
        scores = _scores(xq, block, None if queries.pictures and block.owners is not None else queries.selves)
        if queries.pictures and block.owners is not None:
            np.copyto(scores, -np.inf, where=queries.selves[:, None] == block.owners)
        whole = whole.with_block(scores, block)
        np.copyto(scores, -np.inf, where=queries.concepts[:, None] == block.concepts)
        null = null.with_block(scores, block)
    return whole, null


def _nothing(q: int) -> Nearest:
    return Nearest(np.empty((q, 0), np.float32), np.empty((q, 0), np.float32), np.empty((q, 0), np.int64))


def _scores(xq: Floats, block: Block, selves: Ints | None) -> Floats:
    """Return the scores (Q, n) of a block's rows, -inf for the queries themselves."""
    scores = xq @ block.rows.T
    if selves is not None:
        at = np.minimum(np.searchsorted(block.ids, selves), len(block.ids) - 1)
        here = np.flatnonzero(block.ids[at] == selves)
        scores[here, at[here]] = -np.inf
    return scores


def _promising(scores: Floats, bar: Floats) -> Ints:
    """Return the columns (Q, m) of scores (Q, n) among which the ``NEAREST`` best are, padded with -1.

    The best of each small group of columns is quick to find; as many of them as rows are wanted are as good as the
    worst of those, so whatever is below cannot be among the best. Selecting in full takes three times as long.
    """
    q, n = scores.shape
    width = n // (2 * NEAREST + NEAREST // 2)
    if width >= 2:
        tops = scores[:, : n // width * width].reshape(q, width, -1).max(axis=1)  # whole vectors at a time
        bar = np.maximum(bar, np.partition(tops, -NEAREST, axis=1)[:, -NEAREST])
    rows, columns = np.divmod(np.flatnonzero(scores >= bar[:, None]), n)
    counts = np.bincount(rows, minlength=q)
    starts = np.cumsum(counts) - counts
    found = np.full((q, int(counts.max(initial=0))), -1, dtype=np.int64)
    found[rows, np.arange(len(rows)) - starts[rows]] = columns
    return found
