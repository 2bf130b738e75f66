"""A collection's calibration on disk: immutable files, and a pointer that is replaced in one step.

``calibration/CURRENT`` names one JSON file and its digest; that file says what the calibration was made on and with,
and names the arrays beside it: row ids and hubs of each target, the reference samples of each kind of query, and the
embeddings of the texts that were used, so that the next calibration need not embed them again. It is all derived:
whatever is missing or damaged makes a collection uncalibrated until the next index run, and nothing worse.
"""

import json
import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.flows.saved_files import SavedFile, is_whole, saved_file, stamped
from clipsearch.match.calibration import Queries
from clipsearch.match.verdict import KindNull
from clipsearch.npy import map_npy
from clipsearch.store.files import (
    CURRENT,
    DIR_MODE,
    derived_pointer,
    is_temporary,
    put_in_force,
    replace_file,
    sha256,
    sha256_of_file,
    storage_errors,
)
from clipsearch.store.stamps import Stamps
from clipsearch.types import Floats, Ints

FOLDER = "calibration"
METHOD = "hub5-top5-3"  # what is stored means this; another method's files are not read
_POINTER = re.compile(rb"(c\d{6,}-[0-9a-f]{8}\.json) sha256:([0-9a-f]{64})\n")
_FILE = re.compile(r"c(\d{6,})-[0-9a-f]{8}\b.*")


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """The calibration of one kind of rows: ids (n,) ascending, hubs and concepts (n,), and things by kind of query.

    ``kinds`` are the samples; ``queries`` those that they were made with, to ask them again of some of the rows.
    """

    ids: Ints
    hubs: Floats
    kinds: Mapping[str, KindNull]
    concepts: Ints
    queries: Mapping[str, Queries]
    owners: Ints | None = None  # (n,) of texts: the pictures, or -1


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What is known of a collection's scores.

    Attributes:
        version: manifest version that it was made on.
        fingerprint: of the encoder's weights.
        bank: hash of the bank of generic queries.
        targets: by kind of rows, "images" and "texts"; one that is too small is missing.
        corrected: whether hubs were measured; they are 0 where there are too few captions to make use of them.
        name: the JSON file's name.
    """

    version: int
    fingerprint: str
    bank: str
    targets: Mapping[str, Target]
    corrected: bool = False
    name: str = ""


@dataclass
class TextCache:
    """Embeddings of texts that were used to calibrate, by text."""

    known: dict[str, NDArray[Any]] = field(default_factory=dict)  # (D,) float16


def load_calibration(path: str, stamps: Stamps | None = None) -> Calibration | None:
    """Return the calibration of the collection at ``path``; None where there is none that can be read."""
    try:
        head = _head(path)
        if head is None:
            return None
        name, facts = head
        if not _are_whole(path, facts, stamps):
            return None
        samples = _array(path, facts["samples"])
        targets = {kind: _target(path, entry, samples) for kind, entry in facts["targets"].items()}
        return Calibration(facts["version"], facts["fingerprint"], facts["bank"], targets, facts["corrected"], name)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def pointer_of(path: str) -> bytes | None:
    """Return the pointer's content; it changes with every new calibration."""
    return derived_pointer(os.path.join(path, FOLDER))


def load_texts(path: str, fingerprint: str) -> TextCache:
    """Return the texts that the last calibration embedded, where it was made with the same weights."""
    try:
        head = _head(path)
        if head is None or head[1]["fingerprint"] != fingerprint:
            return TextCache()
        if not _are_whole(path, head[1], None):
            return TextCache()
        with open(os.path.join(path, FOLDER, head[1]["texts"]), encoding="utf-8") as file:
            texts = json.load(file)
        return TextCache(dict(zip(texts, _array(path, head[1]["text_embeddings"]), strict=True)))
    except (OSError, ValueError, KeyError, TypeError):
        return TextCache()


def save_calibration(path: str, calibration: Calibration, cache: TextCache, created: str) -> None:
    """Write a calibration and make it the one in force; the files of the one before the last are removed.

    Raises:
        StorageError: the folder cannot be written.
    """
    folder = os.path.join(path, FOLDER)
    stem = f"c{calibration.version:06d}-{secrets.token_hex(4)}"
    with storage_errors(path):
        os.makedirs(folder, DIR_MODE, exist_ok=True)
        before = _named(path)
        facts: dict[str, Any] = {
            "method": METHOD,
            "version": calibration.version,
            "fingerprint": calibration.fingerprint,
            "bank": calibration.bank,
            "corrected": calibration.corrected,
            "created": created,
            "targets": {},
        }
        samples: list[Floats] = []
        for kind, target in calibration.targets.items():
            facts["targets"][kind] = {
                "rows": len(target.ids),
                "ids": _write(folder, f"{stem}-{kind}.ids.npy", target.ids),
                "hubs": _write(folder, f"{stem}-{kind}.hubs.npy", target.hubs),
                "concepts": _write(folder, f"{stem}-{kind}.concepts.npy", target.concepts.astype(np.int16)),
                "owners": None if target.owners is None else _write(folder, f"{stem}-{kind}.owners.npy", target.owners),
                "kinds": {name: _describe(null, samples) for name, null in target.kinds.items()},
                "queries": _write_queries(folder, f"{stem}-{kind}", target.queries),
            }
        facts["samples"] = _write(folder, f"{stem}.samples.npy", np.concatenate([np.empty(0, np.float32), *samples]))
        texts = sorted(cache.known)
        embeddings = np.array([cache.known[text] for text in texts], dtype=np.float16)
        facts["text_embeddings"] = _write(folder, f"{stem}.texts.npy", embeddings)
        facts["texts"] = f"{stem}.texts.json"
        replace_file(os.path.join(folder, facts["texts"]), json.dumps(texts).encode())
        facts["files"] = [asdict(_noted(folder, name)) for name in os.listdir(folder) if name.startswith(f"{stem}")]
        data = (json.dumps(facts, indent=1) + "\n").encode()
        put_in_force(folder, f"{stem}.json", data)
        _clean(folder, calibration.version, keep={stem, before})


def saved_files(path: str) -> tuple[str, list[SavedFile]] | None:
    """Return the name of the file in force and the arrays beside it; None where there is no calibration.

    Raises:
        ValueError: the pointer or the file in force is damaged.
    """
    if pointer_of(path) is None:
        return None
    try:
        head = _head(path, any_method=True)
        if head is None:
            raise ValueError("the pointer or the file that it names is not what was written")
        return head[0], _files(head[1])
    except (OSError, KeyError, TypeError) as problem:
        raise ValueError(str(problem)) from problem


def withdraw_calibration(path: str) -> None:
    """Put the calibration out of force; the next run makes another."""
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(path, FOLDER, CURRENT))


def _files(facts: Mapping[str, Any]) -> list[SavedFile]:
    return [saved_file(file) for file in facts.get("files", ())]


def _are_whole(path: str, facts: Mapping[str, Any], stamps: Stamps | None) -> bool:
    stamps = Stamps(path) if stamps is None else stamps
    return all(is_whole(stamps, FOLDER, file) for file in _files(facts))


def _noted(folder: str, name: str) -> SavedFile:
    where = os.path.join(folder, name)
    return stamped(folder, name, os.path.getsize(where), sha256_of_file(where))


def _head(path: str, *, any_method: bool = False) -> tuple[str, dict[str, Any]] | None:
    """Return the name and content of the JSON file in force, its digest checked."""
    pointer = pointer_of(path)
    match = None if pointer is None else _POINTER.fullmatch(pointer)
    if match is None:
        return None
    name = match[1].decode()
    with open(os.path.join(path, FOLDER, name), "rb") as file:
        data = file.read()
    facts = json.loads(data) if sha256(data) == match[2].decode() else {}
    return (name, facts) if facts.get("method") == METHOD or (any_method and facts) else None


def _named(path: str) -> str:
    pointer = pointer_of(path)
    match = None if pointer is None else _POINTER.fullmatch(pointer)
    return "" if match is None else match[1].decode().removesuffix(".json")


def _array(path: str, name: str) -> NDArray[Any]:
    return map_npy(os.path.join(path, FOLDER, os.path.basename(name)))


def _write(folder: str, name: str, array: NDArray[Any]) -> str:
    """Write an array whole and return its name."""
    import io

    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    replace_file(os.path.join(folder, name), buffer.getvalue())
    return name


def _describe(null: KindNull, samples: list[Floats]) -> dict[str, Any]:
    """Append the two samples to the list, and say how long they are and where they start."""
    start = sum(map(len, samples))
    samples += [null.null, null.answerable]
    return {
        "start": start,
        "null": len(null.null),
        "answerable": len(null.answerable),
        "source": null.source,
        "concepts": null.concepts,
        "depth": null.depth,
        "hub": null.hub,
    }


def _write_queries(folder: str, stem: str, queries: Mapping[str, Queries]) -> dict[str, Any]:
    """Write the queries of all kinds one after the other; returns how many of each, and the files' names."""
    asked = list(queries.values())
    numbers = [np.stack([one.concepts, one.selves, one.homes], axis=1) for one in asked]
    return {
        "counts": {name: len(one) for name, one in queries.items()},
        "embeddings": _write(
            folder, f"{stem}.queries.npy", np.concatenate([one.embeddings.astype(np.float16) for one in asked])
        ),
        "numbers": _write(folder, f"{stem}.about.npy", np.concatenate(numbers)),
    }


def _queries(path: str, entry: Mapping[str, Any]) -> dict[str, Queries]:
    embeddings, numbers = _array(path, entry["embeddings"]), _array(path, entry["numbers"])
    if len(embeddings) != len(numbers) or len(numbers) != sum(entry["counts"].values()):
        raise ValueError("a calibration's queries do not fit")
    queries, start = {}, 0
    for name, count in entry["counts"].items():
        part = slice(start, start + count)
        about = (numbers[part, column] for column in range(3))
        queries[name] = Queries(embeddings[part], *about, pictures=name == "image")
        start += count
    return queries


def _target(path: str, entry: Mapping[str, Any], samples: NDArray[Any]) -> Target:
    ids, hubs = _array(path, entry["ids"]), _array(path, entry["hubs"])
    concepts = _array(path, entry["concepts"])
    if not len(ids) == len(hubs) == len(concepts) == entry["rows"]:
        raise ValueError("a calibration's arrays do not fit")
    kinds = {}
    for name, facts in entry["kinds"].items():
        middle = facts["start"] + facts["null"]
        end = middle + facts["answerable"]
        if end > len(samples) or min(facts["null"], facts["answerable"]) < 1:
            raise ValueError("a calibration's samples do not fit")
        kinds[name] = KindNull(
            samples[facts["start"] : middle],
            samples[middle:end],
            facts["source"],
            facts["concepts"],
            facts["depth"],
            facts["hub"],
        )
    owners = None if entry["owners"] is None else _array(path, entry["owners"])
    return Target(ids, hubs, kinds, concepts, _queries(path, entry["queries"]), owners)


def _clean(folder: str, version: int, keep: set[str]) -> None:
    """Remove older calibrations but those to keep; a reader that has mapped one keeps it until it lets go."""
    for name in os.listdir(folder):
        match = _FILE.fullmatch(name)
        old = match is not None and int(match[1]) <= version
        stem = "-".join(name.split(".", 1)[0].split("-")[:2])
        if is_temporary(name) or (old and stem not in keep):
            with suppress(OSError):
                os.unlink(os.path.join(folder, name))
