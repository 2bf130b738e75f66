"""Make the reference samples of one kind of query.

With captions: each is scored with its whole concept left out (the null), and with everything in place (answerable). A
third of them chooses how much of the hubs to subtract, by how well it separates the two; the rest are the samples, so
that the choice does not make the levels untrue.

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
from dataclasses import dataclass

import numpy as np

from clipsearch.match.concepts import owners
from clipsearch.match.scores import DEPTH, IMAGE_DEPTH, NEAREST, STRENGTHS, evidence
from clipsearch.match.verdict import KindNull
from clipsearch.types import Floats, Ints

MIN_ROWS = 100  # fewer rows do not make enough concepts to leave out
MIN_QUERIES = 150  # fewer captions, and the levels would be guesses; pictures need two thirds of that
MAX_QUERIES, MAX_QUERIES_LARGE = 600, 300
LARGE = 200_000  # rows
NEAR_SHARE = 4  # the nearest quarter of the bank

Blocks = Callable[[], Iterable["Block"]]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Some rows: ids (n,) ascending, embeddings (n, D) float32, hubs (n,) float32, concepts (n,)."""

    ids: Ints
    rows: Floats
    hubs: Floats
    concepts: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Queries:
    """Queries of one kind, taken from the collection.

    Attributes:
        embeddings: (Q, D) float32, unit norm.
        concepts: (Q,) concept to leave out for the null.
        selves: (Q,) id of the row that is the query itself and no answer to it, or -1.
    """

    embeddings: Floats
    concepts: Ints
    selves: Ints


def max_queries(n: int) -> int:
    """Return how many queries of a kind to calibrate with on ``n`` rows."""
    return MAX_QUERIES if n <= LARGE else MAX_QUERIES_LARGE


def from_captions(queries: Queries, blocks: Blocks) -> KindNull:
    """Return the samples of captions as queries; ``blocks`` gives all rows, each time it is called."""
    whole = find_nearest(queries.embeddings, blocks, queries.selves)
    null = find_nearest(queries.embeddings, blocks, queries.selves, queries.concepts)
    chooses = np.arange(len(queries.embeddings)) % 3 == 0
    strength = max(STRENGTHS, key=lambda s: separation(null.evidence(s)[chooses], whole.evidence(s)[chooses]))
    return KindNull(
        null=np.sort(null.evidence(strength)[~chooses]),
        answerable=np.sort(whole.evidence(strength)[~chooses]),
        source="captions",
        concepts=len(np.unique(queries.concepts)),
        depth=DEPTH,
        hub=strength,
    )


def from_images(queries: Queries, blocks: Blocks) -> KindNull:
    """Return the samples of pictures as queries: their best plain score, among all other rows."""
    whole = find_nearest(queries.embeddings, blocks, queries.selves)
    null = find_nearest(queries.embeddings, blocks, queries.selves, queries.concepts)
    return KindNull(
        null=np.sort(null.evidence(0.0, IMAGE_DEPTH)),
        answerable=np.sort(whole.evidence(0.0, IMAGE_DEPTH)),
        source="images",
        concepts=len(np.unique(queries.concepts)),
        depth=IMAGE_DEPTH,
        hub=0.0,
    )


def from_bank(embeddings: Floats, blocks: Blocks) -> KindNull:
    """Return the samples of generic queries (Q, D), where the collection has no captions to ask."""
    whole = find_nearest(embeddings, blocks)
    scores = whole.evidence(0.0)
    owned = owners(np.take_along_axis(whole.concepts, np.argsort(-whole.scores, axis=1)[:, :DEPTH], axis=1))
    answerable = scores[owned >= 0]
    return KindNull(
        null=np.sort(scores)[-max(len(scores) // NEAR_SHARE, 1) :],
        answerable=np.sort(answerable if len(answerable) >= MIN_QUERIES else scores),
        source="bank",
        concepts=len(np.unique(owned[owned >= 0])),
        depth=DEPTH,
        hub=0.0,
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

    def best(self) -> "Nearest":
        """Keep the ``NEAREST`` best rows."""
        surplus = self.scores.shape[1] - NEAREST
        if surplus <= 0:
            return self
        at = np.argpartition(self.scores, surplus, axis=1)[:, -NEAREST:]
        return Nearest(
            np.take_along_axis(self.scores, at, axis=1),
            np.take_along_axis(self.hubs, at, axis=1),
            np.take_along_axis(self.concepts, at, axis=1),
        )


def find_nearest(embeddings: Floats, blocks: Blocks, selves: Ints | None = None, hidden: Ints | None = None) -> Nearest:
    """Return each query's best rows.

    Args:
        embeddings: (Q, D) queries.
        blocks: gives all rows.
        selves: (Q,) id of a row to leave out, or -1.
        hidden: (Q,) concept whose rows to leave out, or -1.
    """
    q = len(embeddings)
    found = Nearest(np.empty((q, 0), np.float32), np.empty((q, 0), np.float32), np.empty((q, 0), np.int64))
    for block in blocks():
        scores = embeddings @ block.rows.T
        if hidden is not None:
            scores[hidden[:, None] == block.concepts[None, :]] = -np.inf
        if selves is not None:
            at = np.minimum(np.searchsorted(block.ids, selves), len(block.ids) - 1)
            here = np.flatnonzero(block.ids[at] == selves)
            scores[here, at[here]] = -np.inf
        hubs = np.broadcast_to(block.hubs, scores.shape)
        concepts = np.broadcast_to(block.concepts, scores.shape)
        found = _joined(found, Nearest(scores, hubs, concepts).best()).best()
    return found


def _joined(a: Nearest, b: Nearest) -> Nearest:
    if not a.scores.shape[1]:
        return b
    return Nearest(
        np.concatenate((a.scores, b.scores), axis=1),
        np.concatenate((a.hubs, b.hubs), axis=1),
        np.concatenate((a.concepts, b.concepts), axis=1),
    )
