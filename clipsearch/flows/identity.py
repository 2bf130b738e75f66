"""Which encoder a collection was made with, and whether another one is it.

Embeddings of two encoders cannot be compared, and nothing would show: the scores would merely be wrong. So the manifest
keeps a record of the encoder, with a fingerprint of its weights, and every use begins with a look at it.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from clipsearch.embed.base import Encoder
from clipsearch.embed.card import load_card
from clipsearch.errors import InputError, ManifestMismatchError, MissingExtraError, WeightsNotFoundError

UNKNOWN = "unknown"


def encoder_record(encoder: Encoder) -> dict[str, Any]:
    """Return what the manifest keeps of an encoder: enough to load it again and to notice another one."""
    return {
        "name": encoder.name,
        "family": encoder.card.family,
        "fingerprint": encoder.fingerprint(),
        "dim": encoder.dim,
        "card": asdict(encoder.card),
        "preprocess": encoder.preprocess.spec(),
        "pixels": "scaled",
        "normalised": True,
    }


def record_for_embeddings(model: str | None, dim: int, load: Callable[[str], Encoder]) -> dict[str, Any]:
    """Return what the manifest keeps of an encoder whose embeddings were made elsewhere.

    Where its weights are on this machine they are taken to be the ones; else the fingerprint stays open.

    Args:
        model: its name as somebody gave it, or None where nobody knows.
        dim: numbers in an embedding.
        load: loads an encoder by its name.

    Raises:
        InputError: the model's embeddings have another dimension.
        UnknownNameError: no model has that name.
    """
    if model is None:
        return {"name": UNKNOWN, "family": "none", "fingerprint": None, "dim": dim, "normalised": True}
    card = load_card(model)
    if card.dim in (0, dim):
        try:
            encoder = load(model)
        except (WeightsNotFoundError, MissingExtraError):
            return {
                "name": card.name,
                "family": card.family,
                "fingerprint": None,
                "dim": dim,
                "card": asdict(card),
                "normalised": True,
            }
        if encoder.dim == dim:
            return encoder_record(encoder)
    raise InputError(
        f"The model {card.name!r} makes embeddings of {card.dim or load(model).dim} numbers, and these have {dim}.\n"
        "They are of another model: name that one with --model, or leave --model out to search by vectors only."
    )


def is_known(record: Mapping[str, Any]) -> bool:
    """Tell whether it is known which encoder made a collection's embeddings."""
    return record.get("family") != "none"


def check_known(record: Mapping[str, Any], path: str) -> None:
    """Refuse to embed anything for a collection of which nobody said what made its embeddings."""
    if not is_known(record):
        raise InputError(
            f"Nobody said which model made the embeddings of {path}, so it can be searched by vectors only:\n"
            "collection.search(vector=...) in Python. For words and pictures import them again and name the model:\n"
            "clipsearch index --embeddings SOURCE --model NAME -i OTHER"
        )


def check_encoder(encoder: Encoder, record: Mapping[str, Any], path: str) -> None:
    """Refuse an encoder whose embeddings do not belong with the stored ones; say what differs."""
    found = {"name": encoder.name, "dim": encoder.dim, "fingerprint": encoder.fingerprint()}
    for what, value in found.items():
        if record[what] is not None and value != record[what]:
            raise ManifestMismatchError(
                f"The collection {path} was made with the model {record['name']!r} of {what} {record[what]!r},\n"
                f"but the model {encoder.name!r} here has {what} {value!r}: their scores cannot be compared.\n"
                "Get the model it was made with, or make a new collection and index into that."
            )
