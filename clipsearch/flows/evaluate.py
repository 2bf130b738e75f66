"""Measure a model on a collection: embed captions, rank, count.

Given pairs of an image and a caption, two questions are asked of the whole collection, not only of the pairs:

- *text to image*: at which rank does a caption find its picture among all live pictures?
- *image to text*: at which rank does a picture find the best of its captions among all captions of the pairs?

Ties count against the model (see ``evaluation.metrics``), and so do copies of a picture, which are ties.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clipsearch.embed.base import Encoder
from clipsearch.errors import InputError
from clipsearch.evaluation.ground_truth import best_ranks
from clipsearch.evaluation.metrics import mean_reciprocal_rank, median_rank, recall_at_k
from clipsearch.flows.captions import ImagePlaces, read_pairs
from clipsearch.present.text import count
from clipsearch.scan.captions import Problems
from clipsearch.store import Snapshot
from clipsearch.types import EmbeddingBlock, Floats, Ints

NAMED = 3  # missing pictures that the report names


@dataclass(frozen=True, slots=True)
class DirectionReport:
    """One direction: ``recall`` maps k to the share (0 to 1) of queries answered within the first k."""

    queries: int
    recall: Mapping[int, float]
    median_rank: float
    mrr: float


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """What was measured.

    Attributes:
        images: distinct pictures of the pairs that are in the collection.
        captions: pairs that were used.
        missing: pairs whose picture is not in the collection; ``missing_names``: the first few of them.
        notes: what could not be read.
    """

    images: int
    captions: int
    missing: int
    text_to_image: DirectionReport
    image_to_text: DirectionReport
    model: str
    missing_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def evaluate(
    snapshot: Snapshot,
    encoder: Encoder,
    pairs: Sequence[tuple[str, str]] | str | os.PathLike[str],
    *,
    ks: Sequence[int] = (1, 5, 10),
    batch_size: int = 256,
) -> EvaluationReport:
    """Measure retrieval in both directions.

    Args:
        snapshot: the version of the collection to measure.
        encoder: its encoder.
        pairs: (image, caption) pairs, or a CSV with the columns image and caption. The image is a path relative to
            an indexed folder or to the CSV, an absolute path, or a file or tar member name that occurs only once.
        ks: the ranks to give recall at.
        batch_size: captions per forward pass.

    Raises:
        InputError: no pair can be used.
    """
    is_file = isinstance(pairs, str | os.PathLike)
    problems = Problems()
    listed = list(read_pairs(pairs, problems) if is_file else pairs)
    beside = os.path.dirname(os.path.abspath(os.fsencode(pairs))) if is_file else os.fsencode(os.getcwd())
    found = _image_ids(snapshot, (image for image, _ in listed), beside)
    missing = [image for image, _ in listed if image not in found]
    used = [(found[image], caption) for image, caption in listed if image in found]
    if not used:
        if not listed:
            raise InputError("There is no pair to measure with. Give a picture and its caption in each row.")
        named = f" ({', '.join(missing[:NAMED])}{' ...' if len(missing) > NAMED else ''})"
        raise InputError(
            f"Of {count(len(listed), 'pair')} none names a picture of this collection{named}.\n"
            "Give paths relative to the indexed folder, or absolute ones."
        )
    image_of_text = np.array([image for image, _ in used], dtype=np.int64)
    xt = _embed_texts(encoder, [caption for _, caption in used], batch_size)
    image_ids, row_of_text = np.unique(image_of_text, return_inverse=True)
    xi = snapshot.embeddings("images", image_ids.tolist()).astype(np.float32)
    texts = np.arange(len(xt), dtype=np.int64)
    forward = best_ranks(xt, lambda: live_blocks(snapshot), texts, image_of_text)
    backward = best_ranks(xi, lambda: [EmbeddingBlock(texts, xt)], row_of_text, texts)
    return EvaluationReport(
        images=len(image_ids),
        captions=len(used),
        missing=len(missing),
        text_to_image=_direction(forward, ks),
        image_to_text=_direction(backward, ks),
        model=encoder.name,
        missing_names=tuple(dict.fromkeys(missing))[:NAMED],
        notes=problems.notes(os.fspath(pairs)) if is_file else (),
    )


def live_blocks(snapshot: Snapshot) -> Iterator[EmbeddingBlock]:
    """Yield the pictures of a collection that are not deleted."""
    deleted = snapshot.deleted_ids()
    for block in snapshot.blocks("images"):
        keep = ~np.isin(block.ids, deleted)
        yield block if keep.all() else EmbeddingBlock(block.ids[keep], block.embeddings[keep])


def _image_ids(snapshot: Snapshot, wanted: Iterable[str], beside: bytes) -> dict[str, int]:
    """Return the row id of each wanted picture that is there, found as captions find theirs."""
    places = ImagePlaces.of(snapshot)
    folders = [*(snapshot.root_path(root.id) for root in snapshot.manifest.roots), beside]
    found = {name: places.find(os.fsencode(name), folders) for name in dict.fromkeys(wanted)}
    return {name: row_id for name, row_id in found.items() if row_id is not None}


def _embed_texts(encoder: Encoder, texts: Sequence[str], batch_size: int) -> Floats:
    starts = range(0, len(texts), batch_size)
    return np.concatenate([encoder.encode_texts(list(texts[start : start + batch_size])) for start in starts])


def _direction(ranks: Ints, ks: Sequence[int]) -> DirectionReport:
    return DirectionReport(
        queries=len(ranks),
        recall={k: recall_at_k(ranks, k) for k in ks},
        median_rank=median_rank(ranks),
        mrr=mean_reciprocal_rank(ranks),
    )
