"""Say in words what a picture shows, and which of three ways made each sentence.

1. ``caption``: the nearest texts of the collection, or of a caption bank, as they are, with score and verdict;
2. ``tags``: a sentence composed of tags, where no caption matches;
3. ``model``: what a vision-language model wrote, where one was asked for.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from clipsearch.describe.compose import compose
from clipsearch.describe.labels import default_labels, subgroups
from clipsearch.embed.base import Encoder
from clipsearch.errors import InputError
from clipsearch.flows.folding import words_of
from clipsearch.flows.sampling import sampled_ids
from clipsearch.flows.tag_learn import TagOptions, learn
from clipsearch.flows.tagger import Tagger, generic_words, load_tagger, widened
from clipsearch.match import calibration as match
from clipsearch.match.calibration import MIN_ROWS, Block, Queries
from clipsearch.match.concepts import MAX_CONCEPTS, concept_count, find_concepts
from clipsearch.match.scores import content_keys, sample
from clipsearch.match.verdict import KindNull, judge
from clipsearch.scan.captions import Problems, read_texts
from clipsearch.store import Snapshot
from clipsearch.types import Floats, SearchResult, Verdict

COMPOSE_LEVEL = 0.5  # of tags in a sentence: it says of itself that it was made of tags
_BATCH = 256
_PICTURES = 600  # of the collection, that a caption bank is calibrated on


@dataclass(frozen=True, slots=True)
class Description:
    """A sentence about a picture.

    Attributes:
        text: the sentence.
        source: "caption" (of the collection, or of a bank: ``origin``), "tags" or "model".
        origin: path of the picture that a caption belongs to, the bank's file, or the model; "" for none.
        score: cosine of picture and text; None for a model's.
        verdict: how sure; ``uncalibrated`` where nothing is known.
        p_value: chance of so good a score when no caption fits, or None.
    """

    text: str
    source: str
    origin: str = ""
    score: float | None = None
    verdict: Verdict = Verdict.UNCALIBRATED
    p_value: float | None = None


@dataclass(frozen=True, slots=True)
class Descriptions:
    """What can be said of one picture, the best first; ``tags`` are those that a composed sentence was made of."""

    picture: str
    sentences: tuple[Description, ...]
    tags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def from_captions(result: SearchResult) -> list[Description]:
    """Return the captions of an answer as they are; the verdict is that of the answer."""
    return [
        Description(hit.text or "", "caption", hit.path, hit.score, result.verdict, result.p_value) for hit in result
    ]


class Bank:
    """A caption bank in memory, calibrated on the collection's own pictures.

    A picture whose best caption lies in a concept of the bank is asked again with that concept taken out: so does a
    picture score that no caption of the bank describes.
    """

    def __init__(self, path: str, encoder: Encoder, pictures: Floats) -> None:
        self.path = path
        problems = Problems()
        spelt: dict[str, str] = {}
        for said in read_texts(path, problems):
            spelt.setdefault(words_of(said.text), said.text)  # of equal texts the first spelling, as search folds them
        self.texts = list(spelt.values())
        self.notes = problems.notes(path)
        if not self.texts:
            raise InputError(f"{path} holds no text, so there is nothing to describe with. Write a caption a line.")
        starts = range(0, len(self.texts), _BATCH)
        self.rows: Floats = np.concatenate(
            [encoder.encode_texts(self.texts[start : start + _BATCH]) for start in starts]
        )
        self.null = self._calibrated(pictures)

    def _calibrated(self, pictures: Floats) -> KindNull | None:
        n = len(self.texts)
        if n < MIN_ROWS or len(pictures) < MIN_ROWS:
            return None
        some = self.rows[sample(content_keys(self.rows), 4_096)]
        concepts = find_concepts(some, min(concept_count(n), MAX_CONCEPTS)).assign(self.rows)
        nowhere = np.full(len(pictures), -1, dtype=np.int64)
        best = concepts[(pictures @ self.rows.T).argmax(axis=1)]
        queries = Queries(pictures, best, nowhere, nowhere, pictures=True)
        block = Block(np.arange(n, dtype=np.int64), self.rows, np.zeros(n, np.float32), concepts)
        return match.from_images(queries, lambda: [block])

    def describe(self, row: Floats, k: int) -> list[Description]:
        """Return the ``k`` nearest texts to a picture (D,)."""
        scores = self.rows @ row
        order = np.argsort(-scores, kind="stable")[:k]
        verdict, p = (Verdict.UNCALIBRATED, None) if self.null is None else judge(float(scores[order[0]]), self.null)
        return [Description(self.texts[n], "caption", self.path, float(scores[n]), verdict, p) for n in order.tolist()]


def decoded(source: Any, encoder: Encoder) -> Any:  # Any: path or bytes; a PIL image
    """Return a picture as the encoder sees it, decoded once for all that is asked about it.

    Raises:
        QueryImageError: it cannot be read.
    """
    from PIL import Image

    from clipsearch.decode import decode_queries

    return Image.fromarray(decode_queries([source], encoder.preprocess)[0])


class Describer:
    """Describes pictures of or beside a collection; what is needed for it is made once, when it is first needed."""

    def __init__(self, snapshot: Snapshot, encoder: Encoder, bank: str | None = None) -> None:
        self._snapshot, self._encoder, self._bank_path = snapshot, encoder, bank

    @cached_property
    def _pictures(self) -> Floats:
        """A fair sample of the collection's pictures."""
        return widened(self._snapshot.embeddings("images", sampled_ids(self._snapshot, _PICTURES)))

    @cached_property
    def bank(self) -> Bank | None:
        """The caption bank, or None."""
        return None if self._bank_path is None else Bank(self._bank_path, self._encoder, self._pictures)

    @cached_property
    def _tagger(self) -> tuple[Tagger, Floats]:
        tagger = load_tagger(self._snapshot)
        if tagger is None:
            learnt, _ = learn(self._snapshot, self._encoder, default_labels(), TagOptions(COMPOSE_LEVEL))
            tagger = learnt.tagger
        return tagger, generic_words(self._snapshot.path, self._encoder)

    def composed(self, row: Floats) -> tuple[Description | None, tuple[str, ...]]:
        """Return a sentence made of a picture's tags, and the tags; None where it gets none."""
        if not self._snapshot.count("images"):
            return None, ()
        tagger, background = self._tagger
        evidence = tagger.evidence(row[None], background)[0]
        reached = np.flatnonzero(evidence >= tagger.threshold)
        names = [tagger.names[n] for n in reached[np.argsort(-evidence[reached], kind="stable")]]
        groups = {label.name: label.group for label in default_labels().labels}
        looks = {name for name, part in subgroups().items() if part == "look"}
        text = compose([(name, groups.get(name, "things")) for name in names if name not in looks])
        if text is None:
            return None, ()
        score = float(self._encoder.encode_texts([text])[0] @ row)
        return Description(text, "tags", score=score), tuple(names)

    def describe(self, picture: str, row: Floats, captions: SearchResult, k: int, *, always: bool) -> Descriptions:
        """Return what can be said of a picture (D,), given the nearest captions of the collection.

        Args:
            picture: how it is called.
            row: its embedding.
            captions: the answer of the collection's texts; unused where there is a bank.
            k: captions wanted.
            always: compose a sentence of tags even where a caption matches.
        """
        told = self.bank.describe(row, k) if self.bank is not None else from_captions(captions)[:k]
        matched = bool(told) and told[0].verdict == Verdict.MATCH
        made, tags = self.composed(row) if always or not matched else (None, ())
        unfit = bool(told) and told[0].verdict == Verdict.NONE
        sentences = [*([made] if made and unfit else []), *told, *([made] if made and not unfit else [])]
        notes = () if sentences else (self._nothing(),)
        if sentences and made is None and (always or unfit):
            notes = ("No tag is sure enough to make a sentence of.",)
        if self.bank is not None:
            notes = (*self.bank.notes, *notes)
        return Descriptions(picture, tuple(sentences), tags, notes)

    def _nothing(self) -> str:
        if self._snapshot.count("texts"):
            return "No caption is near, and no tag is sure enough to make a sentence of."
        return (
            "The collection has no captions, and no tag is sure enough to make a sentence of. Give --bank captions.txt."
        )


def with_model(found: Descriptions, text: str, model: str) -> Descriptions:
    """Return descriptions with a model's sentence in front."""
    return replace(found, sentences=(Description(text, "model", model), *found.sentences))
