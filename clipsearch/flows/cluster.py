"""Part a collection's pictures into clusters, and name them by words through the text tower.

A name is the word that tells a cluster best from the other clusters, not the one that fits it best: in a folder of
beaches every cluster fits "beach". Which words there are is the caller's to say; ``WORDS`` are some everyday ones.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from clipsearch.embed.base import Encoder
from clipsearch.errors import InputError
from clipsearch.flows.facts import Pictures
from clipsearch.flows.query import image_path
from clipsearch.index.kmeans import Clusters, distinct_labels, spherical_kmeans
from clipsearch.store import Snapshot
from clipsearch.types import Ints

SHOWN = 5
PROMPT = "a photo of {}"
WORDS = tuple(
    """
    people, a face, a baby, a child, a crowd, a wedding, a party, a concert, a dance, a portrait, a team, a group photo,
    a dog, a cat, a horse, a bird, a fish, a cow, a sheep, an insect, a butterfly, a wild animal, a zoo,
    a beach, the sea, a lake, a river, a waterfall, a mountain, a forest, a field, a garden, a flower, a tree, snow,
    a desert,
    a sunset, the night sky, clouds, rain, a city, a street, a building, a house, a church, a castle, a bridge, a tower,
    a room, a kitchen, a bedroom, an office, a classroom, a shop, a restaurant, a museum, a stadium,
    a playground, a pool,
    a car, a bus, a train, a bicycle, a motorcycle, an aeroplane, a boat, a road, a station, an airport,
    food, a cake, fruit, vegetables, bread, a drink, coffee, a meal on a plate, ice cream,
    football, basketball, tennis, skiing, surfing, swimming, climbing, running, cycling, skateboarding, a game,
    a book, a document, a screenshot, a map, a drawing, a painting, a sculpture, a sign, a logo, a diagram, a receipt,
    a phone, a computer, a camera, a toy, a tool, a machine, a musical instrument, furniture, a clock, a lamp,
    clothes, a shirt, a dress, trousers, a skirt, a coat, shoes, a hat, a bag, jewellery, glasses,
    fireworks, a fire, a Christmas tree, a fountain, a market, a farm, a tent, a ruin, a pattern, a texture
    """.replace("\n", " ").split(",")
)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Pictures that are like each other.

    Attributes:
        name: the word that tells it from the others; "" where words have run out.
        contrast: how much better the word fits than it fits clusters on the whole; below 0.01 it says little.
        size: pictures.
        ids: (size,) row ids, the nearest to the centre first.
        scores: (size,) cosines to the centre.
        paths: of the first few.
    """

    name: str
    contrast: float
    size: int
    ids: Ints
    scores: "np.ndarray[tuple[int], np.dtype[np.float32]]"
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClusterReport:
    """The clusters, largest first."""

    clusters: tuple[Cluster, ...]
    images: int
    seconds: float


def find_clusters(
    snapshot: Snapshot,
    encoder: Callable[[], Encoder],
    *,
    k: int | None = None,
    labels: Sequence[str] | None = None,
    allowed: Ints | None = None,
    seed: int = 0,
) -> ClusterReport:
    """Part the pictures of a version.

    Args:
        snapshot: the version.
        encoder: gives the encoder; called where there are labels to embed.
        k: clusters; None takes the square root of half the pictures, from 2 to 50.
        labels: words to take names from; None takes ``WORDS``, none leave the clusters without a name.
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
        raise InputError(f"{n:,} pictures cannot be parted into {k} clusters. Give --k from 1 to {n:,}.")
    found = spherical_kmeans(pictures.embeddings, n, k, seed=seed)
    names, contrasts = _names(found, WORDS if labels is None else labels, encoder)
    clusters = (
        _cluster(snapshot, pictures, found, place, name, contrast)
        for place, (name, contrast) in enumerate(zip(names, contrasts, strict=True))
    )
    return ClusterReport(tuple(clusters), n, time.monotonic() - start)


def _names(found: Clusters, labels: Sequence[str], encoder: Callable[[], Encoder]) -> tuple[list[str], list[float]]:
    words = list(dict.fromkeys(word for label in labels if (word := " ".join(label.split()))))
    k = len(found.centres)
    if not words:
        return [""] * k, [0.0] * k
    towards = np.asarray(encoder().encode_texts([PROMPT.format(word) for word in words]), np.float32)
    at, contrasts = distinct_labels(found.centres, towards)
    return [words[place] if place >= 0 else "" for place in at.tolist()], contrasts.tolist()


def _cluster(
    snapshot: Snapshot, pictures: Pictures, found: Clusters, place: int, name: str, contrast: float
) -> Cluster:
    at = np.flatnonzero(found.cluster == place)
    ids, scores = pictures.facts.ids[at], found.scores[at]
    order = np.lexsort((ids, -scores))
    ids, scores = ids[order], scores[order]
    paths = tuple(image_path(snapshot, row) for row in snapshot.rows("images", ids[:SHOWN]))
    return Cluster(name, round(contrast, 4), len(ids), ids, scores, paths)
