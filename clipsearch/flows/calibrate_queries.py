"""The queries that a calibration is made with: captions of the collection, its pictures, or the generic bank.

Samples are chosen by content, so the same pictures give the same calibration however they lie on the disk. A text goes
through the text tower once in a collection's life: what the collection or the package holds already is not embedded.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.embed.base import Encoder
from clipsearch.flows.calibrate_rows import Rows, Version
from clipsearch.flows.progress import Progress
from clipsearch.match import bank
from clipsearch.match.calibration import MIN_QUERIES, Queries, max_queries, max_samples, max_words
from clipsearch.match.scores import sample
from clipsearch.npy import load_npy
from clipsearch.types import Floats

_BATCH = 512  # texts at a time, between two words on the progress
_SPARE = 6  # captions looked at for each query wanted: some are the same picture's, some yield none of a kind
_READ = 1_000  # of them at a time


class Texts:
    """The text tower with a memory of float16 embeddings, by text; ``used`` is what was asked for."""

    def __init__(
        self, encoder: Encoder, known: Mapping[str, NDArray[Any]], tell: Callable[[Progress], None] = lambda _: None
    ) -> None:
        self.encoder, self._known, self._tell = encoder, dict(known), tell
        self.used: dict[str, NDArray[Any]] = {}
        shipped = shipped_bank(encoder.fingerprint())
        if shipped is not None:
            self.learn(bank.all_queries(), shipped)

    def covers(self, text: str) -> bool:
        """Tell whether the encoder knows the language of a text."""
        return self.encoder.covers_text(text)

    def learn(self, texts: Sequence[str], embeddings: NDArray[Any]) -> None:
        """Remember embeddings (n, D) float16 that somebody has already."""
        for text, embedding in zip(texts, embeddings, strict=True):
            self._known.setdefault(text, embedding)

    def embed(self, texts: Sequence[str]) -> Floats:
        """Return embeddings (n, D) float32, as they come back from a float16 memory."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._known]
        for start in range(0, len(missing), _BATCH):
            part = missing[start : start + _BATCH]
            self._known.update(zip(part, self.encoder.encode_texts(part).astype(np.float16), strict=True))
            self._tell(Progress("calibrate", start + len(part), len(missing)))
        self.used.update((text, self._known[text]) for text in texts)
        return np.array([self.used[text] for text in texts], dtype=np.float32)


@cache
def shipped_bank(fingerprint: str) -> NDArray[Any] | None:
    """Return the bank's embeddings (B, D) float16 that ship for these weights (``scripts/embed_bank.py``), or None."""
    file = files("clipsearch.match").joinpath("embedded", bank_file(fingerprint))
    if not file.is_file():
        return None
    with file.open("rb") as handle:
        return load_npy(handle.read())


def bank_file(fingerprint: str) -> str:
    """Return the name of the file with the bank's embeddings by an encoder."""
    return f"{bank.bank_hash()[:12]}-{fingerprint[:12]}.npy"


@dataclass(frozen=True)
class Caption:
    """A caption of a live picture."""

    id: int
    image_id: int
    text: str


ByKind = dict[str, dict[str, Caption]]  # kind of query → text → the caption that it was made of


def sample_captions(version: Version, images: Rows, texts: Rows) -> Iterator[Caption]:
    """Yield captions of live pictures to make queries of, one a picture, in an order that only contents decide.

    Rows are read as they are asked for: mostly a few hundred are enough.
    """
    at = sample(texts.keys, _SPARE * max_queries(len(images.ids)))
    seen = {-1}
    for start in range(0, len(at), _READ):
        stored = version.rows("texts", texts.ids[at[start : start + _READ]])
        linked = np.array([-1 if row["image_id"] is None else row["image_id"] for row in stored], dtype=np.int64)
        live = images.positions(linked) >= 0
        for row, there in zip(stored, live, strict=True):
            if there and row["image_id"] not in seen:
                seen.add(row["image_id"])
                yield Caption(row["id"], row["image_id"], row["text"])


def captions_by_kind(captions: Iterable[Caption], most: Callable[[str], int], covers: Callable[[str], bool]) -> ByKind:
    """Return for each kind of text query up to ``most`` different texts made of captions; few where there are few."""
    made: ByKind = {kind: {} for kind in bank.KINDS}
    wanting = list(bank.KINDS)
    for caption in captions:
        for kind in wanting:
            text = bank.as_kind(caption.text, kind)
            if text is not None and text not in made[kind] and covers(text):
                made[kind][text] = caption
        wanting = [kind for kind in wanting if len(made[kind]) < most(kind)]
        if not wanting:
            break
    return made


def most_queries(kind: str, n: int, chosen: bool = False) -> int:
    """Return how many texts of a kind to calibrate with on ``n`` rows.

    ``chosen`` says that the strength of the hub correction is known; else a third of them is needed to choose it.
    """
    samples = max_samples(n) if kind == "sentence" else max_words(n)
    return samples if chosen else samples * 3 // 2


def caption_queries(
    made: Mapping[str, Caption],
    kind: str,
    images: Rows,
    texts: Rows,
    target: Rows,
    tower: Texts,
    chosen: bool = False,
) -> Queries | None:
    """Return captions as queries of a kind, as many as ``target`` needs; None where there are too few.

    ``chosen`` is that of ``most_queries``.
    """
    if len(made) < MIN_QUERIES:
        return None
    used = list(made)[: most_queries(kind, len(target.ids), chosen)]
    homes = np.array([made[text].image_id for text in used], dtype=np.int64)
    ids = np.array([made[text].id for text in used], dtype=np.int64)
    if kind == "sentence":  # a sentence is its caption as it stands, which was embedded when it was indexed
        tower.learn(used, texts.at(texts.positions(ids)).astype(np.float16))
    selves = ids if target.kind == "texts" else np.full(len(ids), -1, dtype=np.int64)
    return Queries(tower.embed(used), images.concepts[images.positions(homes)], selves, homes)


def image_queries(images: Rows, target: Rows) -> Queries:
    """Return pictures of the collection as queries, as if they were not in it: nor would be their captions."""
    at = sample(images.keys, max_samples(len(target.ids)))  # none of them is needed to choose a strength
    return Queries(images.at(at), images.concepts[at], images.ids[at], images.ids[at], pictures=True)
