"""What is asked for: turn the arguments of a search into queries, each a weighted sum of terms."""

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipsearch.errors import InputError


@dataclass(frozen=True, slots=True)
class Weighted:
    """A part of a query with a weight of its own: ``Weighted("sunset", 0.5)``."""

    value: Any  # Any: text, picture or vector, as Term has it
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a query.

    Attributes:
        kind: "text", "image" or "vector".
        value: a str; a path, encoded bytes, binary file or PIL image; an array (D,).
        weight: how much of it; negative to subtract.
    """

    kind: str
    value: Any  # Any: depends on the kind, see above
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Query:
    """The weighted sum of its terms' unit-norm embeddings, brought to unit norm."""

    terms: tuple[Term, ...]


def build_queries(
    text: Any = None,
    image: Any = None,
    vector: Any = None,
    add: Any = (),
    subtract: Any = (),
    weights: Sequence[float] | None = None,
) -> tuple[list[Query], bool]:
    """Return the queries that a call of ``search`` asks, and whether it asked for a list of answers.

    Lists of texts, lists of images and arrays (Q, D) ask Q queries; a single value beside a list is part of each.

    Args:
        text: a text or a list of them.
        image: a path, bytes, binary file or PIL image, or a list of them.
        vector: an array (D,) or (Q, D).
        add: parts to add to every query: str is a text, os.PathLike a picture's path; Weighted gives a weight.
        subtract: parts to take away from every query.
        weights: one for each of text, image and vector given, then each of ``add``, then each of ``subtract``.

    Raises:
        InputError: nothing is asked, lists differ in length, a text is empty or a weight is not a number.
    """
    columns = [
        (kind, value if many else [value], many)
        for kind, value, many in (
            ("text", text, isinstance(text, list | tuple)),
            ("image", image, isinstance(image, list | tuple)),
            ("vector", _as_vector(vector), np.ndim(vector) == 2),
        )
        if value is not None
    ]
    lengths = {len(values) for _, values, many in columns if many}
    if len(lengths) > 1:
        raise InputError(f"Lists of {sorted(lengths)} queries cannot be paired. Give lists of one length.")
    shared = [_term(part, 1.0) for part in _listed(add)] + [_term(part, -1.0) for part in _listed(subtract)]
    if not columns and not shared:
        raise InputError("Nothing is asked for. Give a text, an image or a vector.")
    factors = _check_weights(weights, len(columns) + len(shared))
    queries = []
    for row in range(lengths.pop() if lengths else 1):
        own = [_main_term(kind, values[row] if many else values[0]) for kind, values, many in columns]
        terms = (
            Term(term.kind, term.value, term.weight * factor)
            for term, factor in zip([*own, *shared], factors, strict=True)
        )
        queries.append(Query(tuple(terms)))
    return queries, any(many for _, _, many in columns)


def _as_vector(vector: Any) -> Any:
    if vector is None:
        return None
    try:
        array = np.asarray(vector, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError("A query vector must be numbers, an array (D,) or (Q, D).") from None
    if array.ndim not in (1, 2):
        raise InputError(f"A query vector has shape {array.shape}. Give (D,) for one query or (Q, D) for several.")
    return array


def _check_weights(weights: Sequence[float] | None, count: int) -> list[float]:
    try:
        factors = [1.0] * count if weights is None else [float(weight) for weight in weights]
    except (TypeError, ValueError):
        raise InputError(f"The weights are {weights!r}. Weights are finite numbers.") from None
    if len(factors) != count:
        raise InputError(f"{len(factors)} weights were given for {count} parts of the query. Give one for each.")
    if not all(map(math.isfinite, factors)):
        raise InputError(f"The weights are {factors}. Weights are finite numbers.")
    return factors


def _listed(parts: Any) -> Iterable[Any]:
    """Return parts as a list: a text, a path or a Weighted alone is a list of one, not of its letters."""
    if parts is None:
        return ()
    return parts if isinstance(parts, list | tuple) else (parts,)


def _term(part: Any, sign: float) -> Term:
    """Build a term of ``add`` or ``subtract``, where a str is a text and a path is a picture."""
    value, weight = (part.value, part.weight) if isinstance(part, Weighted) else (part, 1.0)
    if isinstance(value, str):
        kind = "text"
    elif isinstance(value, np.ndarray):
        kind = "vector"
    else:
        kind = "image"
    return _checked(Term(kind, value, sign * weight))


def _main_term(kind: str, value: Any) -> Term:
    if isinstance(value, Weighted):
        return _checked(Term(kind, value.value, value.weight))
    return _checked(Term(kind, value))


def _checked(term: Term) -> Term:
    if not math.isfinite(term.weight):
        raise InputError(f"A weight is {term.weight}. Weights are finite numbers.")
    if term.kind == "text":
        if not isinstance(term.value, str):
            raise InputError(f"A query text must be a str, not {type(term.value).__name__}.")
        if not term.value.strip():
            raise InputError("A query text is empty. Say in a few words what the picture shows.")
    if term.kind == "image" and not _is_image_like(term.value):
        raise InputError(
            f"A query image cannot be a {type(term.value).__name__}. Give a path, bytes, a binary file or a PIL image."
        )
    return term


def _is_image_like(value: Any) -> bool:
    return isinstance(value, str | bytes | os.PathLike) or hasattr(value, "read") or is_pil_image(value)


def is_pil_image(value: Any) -> bool:
    """Tell whether a value is a PIL image, without importing PIL."""
    return hasattr(value, "getbands") and hasattr(value, "convert")
