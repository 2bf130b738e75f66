"""Exported towers: where they lie and what is known of them, without torch.

A tower is exported once for its weights and kept beside the model cache:

    clipsearch-exports/
    ├── checkpoints/<key>.json           which weights a checkpoint holds, by its place, size and time
    └── <fingerprint>-text-fp32-v1/      one tower: weights, tower, precision, version of the exporter
        ├── record.json                  what the encoder is, and size and SHA-256 of every other file
        ├── tower.onnx
        └── words.npy, vocabulary.txt    of a text tower: embeddings of all tokens, mapped into memory; the tokenizer

The folder is written beside its place and then renamed, so it is whole or not there. A file whose size and time are
those of the record is taken to be that file; otherwise its SHA-256 is computed, and where that differs the export
counts as absent.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clipsearch.embed.card import EncoderCard
from clipsearch.embed.locate import hub_cache, weights_path

VERSION = 1  # of the exporter: a change of the graphs or of their files is a new one
TOWERS = ("image", "text")
GRAPHS = ("fp32", "int8")
TOWER, RECORD, WORDS, VOCABULARY = "tower.onnx", "record.json", "words.npy", "vocabulary.txt"


@dataclass(frozen=True, slots=True)
class Export:
    """One exported tower.

    Attributes:
        folder: where its files lie.
        facts: of the encoder: ``fingerprint``, ``card``, ``preprocess``, ``logit_scale``, ``logit_bias``; of a text
            tower also ``text`` with ``pool``, ``eos``, ``context_length`` and ``clean``.
    """

    folder: str
    facts: Mapping[str, Any]  # Any: JSON

    def path(self, name: str) -> str:
        """Return the path of one of its files."""
        return os.path.join(self.folder, name)


def exports_home() -> str:
    """Return the folder of all exports."""
    return os.path.join(os.path.dirname(hub_cache()), "clipsearch-exports")


def export_folder(fingerprint: str, tower: str, graph: str) -> str:
    """Return where a tower's export belongs.

    Args:
        fingerprint: of the encoder.
        tower: one of ``TOWERS``.
        graph: one of ``GRAPHS``.
    """
    return os.path.join(exports_home(), f"{fingerprint[:32]}-{tower}-{graph}-v{VERSION}")


def find_export(card: EncoderCard, tower: str, graph: str = "fp32") -> Export | None:
    """Return the export of a tower, or None where there is none that is whole."""
    fingerprint = known_fingerprint(card)
    if fingerprint is None:
        return None
    return open_export(export_folder(fingerprint, tower, graph), fingerprint)


def open_export(folder: str, fingerprint: str) -> Export | None:
    """Return what lies in a folder, or None where it is not a whole export of these weights."""
    record = _read(os.path.join(folder, RECORD))
    if record is None or record.get("facts", {}).get("fingerprint") != fingerprint:
        return None
    whole = all(_is_whole(os.path.join(folder, name), file) for name, file in record["files"].items())
    return Export(folder, record["facts"]) if whole else None


def known_fingerprint(card: EncoderCard) -> str | None:
    """Return the fingerprint that a model had when it was exported, if its files are still those."""
    pointer = checkpoint_pointer(card)
    found = None if pointer is None else _read(pointer)
    return None if found is None else found.get("fingerprint")


def checkpoint_pointer(card: EncoderCard) -> str | None:
    """Return the file that says which weights a model's checkpoint holds; None where there is no checkpoint."""
    path = weights_path(card)
    if path is None:
        return None
    files = [path]
    if os.path.isdir(path):
        files = sorted(entry.path for entry in os.scandir(path) if entry.is_file())
    try:
        stamps = [(os.path.realpath(file), os.stat(file).st_size, os.stat(file).st_mtime_ns) for file in files]
    except OSError:
        return None
    key = json.dumps([card.architecture, card.pretrained, stamps])
    return os.path.join(exports_home(), "checkpoints", hashlib.sha256(key.encode()).hexdigest()[:32] + ".json")


def file_record(path: str) -> dict[str, Any]:  # Any: JSON
    """Return what ``record.json`` keeps of a file."""
    stat = os.stat(path)
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": _sha256(path)}


def _is_whole(path: str, file: Mapping[str, Any]) -> bool:  # Any: JSON
    try:
        stat = os.stat(path)
    except OSError:
        return False
    if stat.st_size != file["size"]:
        return False
    return stat.st_mtime_ns == file["mtime_ns"] or _sha256(path) == file["sha256"]


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: str) -> dict[str, Any] | None:  # Any: JSON
    """Return the object in a JSON file; None where it is absent or is no such thing."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
