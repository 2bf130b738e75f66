"""The queries that a calibration is made with: captions of the collection, its pictures, or the generic bank.

Samples are chosen by content, so the same pictures give the same calibration however they lie on the disk. A text goes
through the text tower once in a collection's life: what the collection or the package holds already is not embedded.
"""

from collections.abc import Callable, Mapping, Sequence
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
from clipsearch.match.calibration import MIN_QUERIES, Queries, max_queries
from clipsearch.match.scores import sample
from clipsearch.npy import load_npy
from clipsearch.types import Floats

_BATCH = 256
_SPARE = 6  # captions looked at for each query wanted: some are the same picture's, some yield none of a kind


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


def sample_captions(version: Version, images: Rows, texts: Rows) -> list[Caption]:
    """Return captions of live pictures to make queries of, one a picture, in an order that only contents decide."""
    at = sample(texts.keys, _SPARE * max_queries(len(images.ids)))
    found: dict[int, Caption] = {}
    stored = version.rows("texts", texts.ids[at])
    linked = np.array([-1 if row["image_id"] is None else row["image_id"] for row in stored], dtype=np.int64)
    live = images.positions(linked) >= 0
    for row, there in zip(stored, live, strict=True):
        if there:
            found.setdefault(row["image_id"], Caption(row["id"], row["image_id"], row["text"]))
    return list(found.values())


def captions_by_kind(captions: Sequence[Caption], limit: int, covers: Callable[[str], bool]) -> ByKind:
    """Return for each kind of text query up to ``limit`` different texts made of captions; few where there are few."""
    made: ByKind = {}
    for kind in bank.KINDS:
        found: dict[str, Caption] = {}
        for caption in captions:
            text = bank.as_kind(caption.text, kind)
            if text is not None and covers(text):
                found.setdefault(text, caption)
            if len(found) == limit:
                break
        made[kind] = found
    return made


def caption_queries(
    made: Mapping[str, Caption], kind: str, images: Rows, texts: Rows, target: Rows, tower: Texts
) -> Queries | None:
    """Return captions as queries of a kind, as many as ``target`` needs; None where there are too few."""
    if len(made) < MIN_QUERIES:
        return None
    used = list(made)[: max_queries(len(target.ids))]
    homes = np.array([made[text].image_id for text in used], dtype=np.int64)
    ids = np.array([made[text].id for text in used], dtype=np.int64)
    if kind == "sentence":  # a sentence is its caption as it stands, which was embedded when it was indexed
        tower.learn(used, texts.at(texts.positions(ids)).astype(np.float16))
    selves = ids if target.kind == "texts" else np.full(len(ids), -1, dtype=np.int64)
    return Queries(tower.embed(used), images.concepts[images.positions(homes)], selves, homes)


def image_queries(images: Rows, target: Rows) -> Queries:
    """Return pictures of the collection as queries, as if they were not in it: nor would be their captions."""
    at = sample(images.keys, max_queries(len(target.ids)) * 2 // 3)  # none of them is needed to choose a strength
    return Queries(images.at(at), images.concepts[at], images.ids[at], images.ids[at], pictures=True)
