"""A collection with planted concepts, and an encoder that knows them: what is there and what is not is exact."""

import hashlib
import os
from types import SimpleNamespace

import numpy as np

from clipsearch.collection import Collection
from clipsearch.embed.card import load_card
from clipsearch.embed.preprocess import Preprocess
from clipsearch.flows.identity import encoder_record
from clipsearch.store import ImageRow, Store, TextRow

DIM = 64
ENDING = {"keyword": "", "phrase": " in the {}", "sentence": " stands in the {} near a house today"}
PLACES = [f"{a}{b}" for a in ("north", "south", "east", "west", "upper") for b in ("field", "wood", "lake", "town")]


def unit(x):
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def noise(text, width=DIM):
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).standard_normal(width) / np.sqrt(width)


class PlantedEncoder:
    """A text is its concepts (words such as concept07), plus noise of its own; longer texts are noisier."""

    def __init__(self, spread=0.6):
        self.name, self.dim, self.card = "hashing", DIM, load_card("hashing")
        self.preprocess = Preprocess(size=8)
        self.logit_scale = self.logit_bias = None
        self.spread = spread
        self.encoded = 0

    def concept(self, number):
        return unit(noise(f"prototype {number}"))

    def picture(self, number, copy):
        return unit(self.concept(number) + self.spread * noise(f"picture {number} {copy}"))

    def encode_images(self, pixels):
        return unit(pixels.reshape(len(pixels), -1)[:, :DIM].astype(np.float64) + 1)

    def encode_texts(self, texts):
        self.encoded += len(texts)
        return np.array([self._text(text) for text in texts], np.float32).reshape(-1, DIM)

    def _text(self, text):
        words = text.lower().split()
        known = [self.concept(int(word[7:9])) for word in words if word.startswith("concept")]
        strength = 0.3 + 0.05 * len(words)
        return unit(sum(known, np.zeros(DIM)) + strength * noise(text))

    def fingerprint(self):
        return hashlib.sha256(f"planted {self.spread}".encode()).hexdigest()

    def covers_text(self, text):
        return text.isascii()


def text_of(kind, number, place):
    return (
        f"concept{number:02d} {place}{ENDING[kind].format('open')}"
        if kind != "keyword"
        else (f"concept{number:02d} {place}")
    )


def add(collection, encoder, concepts, copies, captions=True, start=0, order=None):
    """Add ``copies`` pictures of each concept, each with a sentence; ``order`` permutes the rows. Returns the ids."""
    pairs = [(number, copy) for number in concepts for copy in range(start, start + copies)]
    pairs = pairs if order is None else [pairs[i] for i in order(len(pairs))]
    with Store.open(collection.path).writer() as writer:
        root = writer.root_id(os.fsencode(os.path.dirname(collection.path)))
        ids = list(writer.new_ids(len(pairs)))
        images = [
            ImageRow(
                id=id_,
                root=root,
                path=f"{number:02d}-{copy:03d}.png".encode(),
                member=None,
                size=1,
                mtime_ns=1,
                ctime_ns=1,
                content_hash=hashlib.sha256(f"{number} {copy}".encode()).digest(),
                width=8,
                height=8,
                format="png",
                taken=None,
                camera=None,
                lens=None,
                latitude=None,
                longitude=None,
                embedding=encoder.picture(number, copy),
            )
            for id_, (number, copy) in zip(ids, pairs, strict=True)
        ]
        texts = []
        for id_, (number, copy) in zip(ids, pairs, strict=True) if captions else ():
            text = text_of("sentence", number, f"{PLACES[copy % len(PLACES)]}{copy}")
            texts.append(TextRow(writer.new_ids(1)[0], id_, text, b"", encoder._text(text)))
        writer.commit(images=images, texts=texts)
    collection.refresh()
    return ids


def planted(path, encoder=None, **rows):
    """Return a collection of planted pictures, not yet calibrated, and its encoder."""
    encoder = encoder or PlantedEncoder()
    collection = Collection(Store.create(path, encoder_record(encoder), DIM))
    collection._encoder = encoder
    if rows:
        add(collection, encoder, **rows)
    return collection, encoder


def term(value, kind="text", weight=1.0):
    return SimpleNamespace(kind=kind, value=value, weight=weight)
