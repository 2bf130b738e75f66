"""Embed queries.

A query is a sum of parts. Each part, a text, a picture or a vector, becomes an embedding of unit norm; the parts are
added with their weights (negative to subtract), and the sum is brought to unit norm again, so that scores stay cosines:

    "a beach" + 0.5 * "sunset" - "people"   →   unit(e(beach) + 0.5 e(sunset) - e(people))
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from clipsearch.embed.base import Encoder
from clipsearch.errors import InputError, QueryImageError
from clipsearch.flows.query_terms import Query, Term, is_pil_image
from clipsearch.types import Floats, Pixels

IMAGE_BATCH = 32
CANCELLED = 1e-4  # a sum this short, of parts of norm 1, is rounding error and points nowhere


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
    images = read_images(queries) if images is None else images
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


def read_images(queries: Sequence[Query]) -> dict[int, Any]:
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


def file_digest(source: Any) -> bytes:
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


def _language_note(encoder: Encoder, text: str) -> str | None:
    """Say that the model does not know the language of a text, and which model does."""
    if encoder.covers_text(text):
        return None
    from clipsearch.embed.card import cards

    several = [card for card in cards().values() if "multi" in card.languages]
    best = min(several, key=lambda card: card.size_mb, default=None)
    advice = f" For other languages make a collection with the model {best.name!r}." if best else ""
    return f"The model {encoder.name!r} may not understand {text!r}.{advice}"
