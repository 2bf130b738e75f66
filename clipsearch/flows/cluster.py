"""Part a collection's pictures into clusters, name them by words through the text tower, and keep them as columns.

A name is the word that tells a cluster best from the other clusters, not the one that fits it best: in a folder of
beaches every cluster fits "beach". The words are the tags that the pictures have; where there are none, or too few, the
vocabulary that ships; or the caller's own.
"""

import io
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from clipsearch.describe.labels import LabelSet, default_labels, embed_labels, shipped_embeddings
from clipsearch.embed.base import Encoder
from clipsearch.errors import InputError
from clipsearch.flows.facts import Pictures
from clipsearch.flows.given import check_replaces, commit_given
from clipsearch.flows.hits import LazyHits
from clipsearch.flows.tagger import COLUMN as TAGS
from clipsearch.flows.tagger import load_tagger
from clipsearch.index.kmeans import Clusters, distinct_labels, spherical_kmeans
from clipsearch.npy import load_npz
from clipsearch.present.text import count
from clipsearch.store import AddedColumn, Snapshot, Store
from clipsearch.store.writer import check_column_name
from clipsearch.types import Floats, Hit, Ints

COLUMN = "cluster"
SHOWN = 8
PROMPT = "a photo of {}"
VOCABULARY_PROMPT = (
    "a photo of {a}{}"  # where no embeddings of the vocabulary ship: one wording each will do for a name
)
STATIC = b"clipsearch cluster: of some pictures only"
"""What is kept of a column that later pictures get no value in."""
_MADE_BY = "clipsearch cluster 1"


@dataclass(frozen=True, slots=True)
class Cluster:
    """Pictures that are like each other.

    Attributes:
        name: the word that tells it from the others; "" where words have run out.
        contrast: how much better the word fits than it fits clusters on the whole; below 0.01 it says little, and of a
            cluster alone nothing.
        size: pictures.
        ids: (size,) row ids, the nearest to the centre first.
        scores: (size,) cosines to the centre.
        nearest: the first few, as hits.
    """

    name: str
    contrast: float
    size: int
    ids: Ints
    scores: Floats
    nearest: tuple[Hit, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """Where the first few are."""
        return tuple(hit.path for hit in self.nearest)


@dataclass(frozen=True, slots=True)
class ClusterReport:
    """The clusters, largest first.

    Attributes:
        clusters: the clusters; number 1 is the first.
        images: pictures parted.
        seconds: time it took.
        words: where names were taken from: "tags", "vocabulary", "labels" or "none".
        centres: (k, D) float32 of unit norm.
        columns: the columns that were written; empty where none was wanted.
    """

    clusters: tuple[Cluster, ...]
    images: int
    seconds: float
    words: str
    centres: Floats
    columns: tuple[str, ...] = ()


def find_clusters(
    snapshot: Snapshot,
    encoder: Callable[[], Encoder],
    *,
    k: int | None = None,
    labels: LabelSet | Sequence[str] | None = None,
    allowed: Ints | None = None,
    seed: int = 0,
) -> ClusterReport:
    """Part the pictures of a version.

    Args:
        snapshot: the version.
        encoder: gives the encoder; called where there are words to embed.
        k: clusters; None takes the square root of half the pictures, from 2 to 50.
        labels: words to take names from; None takes tags or the vocabulary, none leave the clusters without a name.
        allowed: (n,) ids, ascending, that count; None for all.
        seed: the same one gives the same clusters.

    Raises:
        InputError: there are fewer pictures than clusters, or ``k`` is no number of clusters.
    """
    start = time.monotonic()
    pictures = Pictures(snapshot, allowed)
    n = len(pictures)
    k = min(50, max(2, math.isqrt(n // 2)), max(n, 1)) if k is None else k
    if k < 1 or n < k:
        if not n:
            raise InputError("There are no pictures to part. Index some first, or choose more with --where.")
        raise InputError(
            f"{count(n, 'picture')} cannot be parted into {count(k, 'cluster')}. "
            + (f"Give --k from 1 to {n:,}." if n > 1 else "Give --k 1.")
        )
    found = spherical_kmeans(pictures.embeddings, n, k, seed=seed)
    source, words, towards = _words(snapshot, pictures.facts.ids, len(found.centres), labels, encoder)
    names, contrasts = _names(found, words, towards)
    clusters = (
        _cluster(snapshot, pictures, found, place, name, contrast)
        for place, (name, contrast) in enumerate(zip(names, contrasts, strict=True))
    )
    return ClusterReport(tuple(clusters), n, time.monotonic() - start, source, found.centres)


def check_columns(column: str, snapshot: Snapshot | None = None) -> tuple[str, str]:
    """Return the names of the two columns that hold clusters: numbers, and the clusters' names.

    Raises:
        InputError: pictures have such a column, which is not of clusters, or it is no name.
    """
    names = (column, f"{column}_name")
    for name in names:
        check_column_name(name)
        if snapshot is not None:
            check_replaces(snapshot, name, _is_clusters)
    return names


def write_clusters(
    store: Store,
    snapshot: Snapshot,
    report: ClusterReport,
    column: str = COLUMN,
    *,
    partial: bool = False,
    wait: bool = False,
) -> ClusterReport:
    """Keep clusters as two columns: each picture's number, from 1 as in the report, and the name of its cluster.

    Args:
        store: the collection.
        snapshot: the version that was parted.
        report: the clusters.
        column: name of the first column; that of the second ends in ``_name``.
        partial: not all pictures were parted, so those that come later get no value.
        wait: wait for another writer instead of raising LockedError.

    Raises:
        InputError: pictures have such a column, or it is no name.
        LockedError: another process is writing to the collection.
    """
    columns = check_columns(column)
    numbers = list(range(1, len(report.clusters) + 1))
    names = [cluster.name or None for cluster in report.clusters]
    ids = np.concatenate([cluster.ids for cluster in report.clusters])
    at = np.repeat(np.arange(len(numbers)), [cluster.size for cluster in report.clusters]).tolist()
    given: list[tuple[str, str, Sequence[Any]]] = [(columns[0], "number", numbers), (columns[1], "text", names)]
    made = []
    for name, type_, each in given:
        how = STATIC if partial else _made(type_, each, report.centres)
        later = None if partial else ClusterGiver(report.centres, each, type_).give
        made.append((AddedColumn(name, ids, [each[n] for n in at], type_, how), later))
    commit_given(store, snapshot, made, is_own=_is_clusters, wait=wait, since=time.monotonic() - report.seconds)
    return replace(report, columns=columns)


@dataclass(frozen=True, slots=True, eq=False)
class ClusterGiver:
    """Puts pictures that came later into the nearest cluster."""

    centres: Floats
    each: Sequence[Any]
    type_: str

    def give(self, rows: Floats) -> list[Any]:
        """Return the value of the cluster of each picture (n, D)."""
        return [self.each[place] for place in (rows @ self.centres.T).argmax(axis=1).tolist()]


def _made(type_: str, each: Sequence[Any], centres: Floats) -> bytes:
    facts = json.dumps({"made_by": _MADE_BY, "type": type_, "each": list(each)})
    file = io.BytesIO()
    np.savez(file, clusters=np.frombuffer(facts.encode(), np.uint8), centres=centres)
    return file.getvalue()


def _is_clusters(made: bytes) -> bool:
    """Tell whether a column was made of clusters."""
    try:
        return made == STATIC or "clusters" in load_npz(made)
    except (ValueError, KeyError, TypeError, OSError, EOFError):
        return False


def cluster_giver(made: bytes, snapshot: Snapshot, encoder: Callable[[], Encoder]) -> ClusterGiver | None:
    """Return what puts pictures into the clusters of a column; None where something else made the column."""
    try:
        file = load_npz(made)
        facts = json.loads(file["clusters"].tobytes())
        if facts["made_by"] != _MADE_BY:
            return None
        return ClusterGiver(file["centres"].astype(np.float32), facts["each"], facts["type"])
    except (ValueError, KeyError, TypeError, OSError, EOFError):
        return None


def _words(
    snapshot: Snapshot, ids: Ints, k: int, labels: LabelSet | Sequence[str] | None, encoder: Callable[[], Encoder]
) -> tuple[str, list[str], Floats]:
    """Return what names ``k`` clusters: where the words are from, the words, and their embeddings (m, D)."""
    if isinstance(labels, LabelSet):
        return "labels", labels.names, embed_labels(labels.with_templates([PROMPT]), encoder().encode_texts)
    if labels is not None:
        words = list(dict.fromkeys(word for label in labels if (word := " ".join(label.split()))))
        if not words:
            return "none", [], np.empty((0, snapshot.manifest.dim), np.float32)
        embedded = encoder().encode_texts([PROMPT.format(word) for word in words])
        return "labels", words, np.asarray(embedded, np.float32)
    names, embeddings = _tags(snapshot, ids)
    if len(names) >= k:
        return "tags", names, embeddings
    vocabulary = default_labels()
    shipped = shipped_embeddings(vocabulary, str(snapshot.manifest.encoder.get("fingerprint")))
    if shipped is None:
        shipped = embed_labels(vocabulary.with_templates([VOCABULARY_PROMPT]), encoder().encode_texts)
    return "vocabulary", vocabulary.names, shipped


def _tags(snapshot: Snapshot, ids: Ints) -> tuple[list[str], Floats]:
    """Return the tags that pictures have, and their embeddings; none where there is no such column."""
    tagger = load_tagger(snapshot) if TAGS in snapshot.added_columns() else None
    if tagger is None:
        return [], np.empty((0, snapshot.manifest.dim), np.float32)
    used = {tag for row in snapshot.added_values(ids) for tag in row.get(TAGS, ())}
    at = [place for place, name in enumerate(tagger.names) if name in used]
    return [tagger.names[place] for place in at], tagger.embeddings[at]


def _names(found: Clusters, words: list[str], towards: Floats) -> tuple[list[str], list[float]]:
    if not words:
        return [""] * len(found.centres), [0.0] * len(found.centres)
    at, contrasts = distinct_labels(found.centres, towards)
    return [words[place] if place >= 0 else "" for place in at.tolist()], contrasts.tolist()


def _cluster(
    snapshot: Snapshot, pictures: Pictures, found: Clusters, place: int, name: str, contrast: float
) -> Cluster:
    at = np.flatnonzero(found.cluster == place)
    ids, scores = pictures.facts.ids[at], found.scores[at]
    order = np.lexsort((ids, -scores))
    ids, scores = ids[order], scores[order]
    nearest = LazyHits(snapshot, "images", ids[:SHOWN], scores[:SHOWN]).plain
    return Cluster(name, round(contrast, 4), len(ids), ids, scores, tuple(nearest))
