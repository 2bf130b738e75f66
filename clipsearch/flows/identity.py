"""Which encoder a collection was made with, and whether another one is it.

Embeddings of two encoders cannot be compared, and nothing would show: the scores would merely be wrong. So the manifest
keeps a record of the encoder, with a fingerprint of its weights, and every use begins with a look at it.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from clipsearch.embed.base import Encoder
from clipsearch.errors import ManifestMismatchError


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


def check_encoder(encoder: Encoder, record: Mapping[str, Any], path: str) -> None:
    """Refuse an encoder whose embeddings do not belong with the stored ones; say what differs."""
    found = {"name": encoder.name, "dim": encoder.dim, "fingerprint": encoder.fingerprint()}
    for what, value in found.items():
        if value != record[what]:
            raise ManifestMismatchError(
                f"The collection {path} was made with the model {record['name']!r} of {what} {record[what]!r},\n"
                f"but the model {encoder.name!r} here has {what} {value!r}: their scores cannot be compared.\n"
                "Get the model it was made with, or make a new collection and index into that."
            )
