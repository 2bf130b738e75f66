"""What was fitted and measured of a collection's rungs, on disk: immutable files and a pointer.

``augment/CURRENT`` names one JSON file and its digest; that says what was measured, on which rows and with which
weights of the encoder, and names the arrays beside it, with their digest too. It is all derived: whatever is missing
or damaged leaves searches as they are without it.
"""

import io
import json
import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.evaluation.paired import Change
from clipsearch.flows.augment_trial import Level, RungResult, Trial
from clipsearch.npy import load_npz
from clipsearch.store.files import (
    CURRENT,
    DIR_MODE,
    derived_pointer,
    is_temporary,
    put_in_force,
    read_bytes,
    replace_file,
    sha256,
    sha256_of_file,
    storage_errors,
)
from clipsearch.types import Ints

FOLDER = "augment"
METHOD = "reorder200-2"  # what is stored means this; another method's files are not read
_POINTER = re.compile(rb"(a\d{6,}-[0-9a-f]{8}\.json) sha256:([0-9a-f]{64})\n")
_FILE = re.compile(r"a\d{6,}-[0-9a-f]{8}\.(json|npz)")


@dataclass(frozen=True, slots=True)
class Imagining:
    """What was measured of pictures drawn for queries, on top of the rungs that are on.

    Attributes:
        generator: name of what drew; ``weights``: digest of its weights, or "".
        created: ISO 8601.
        asked: captions that pictures were to be drawn for.
        drawn: how many were; of the rest ``rejected`` did not show the caption, and others failed.
        trial: the figures; its one rung is ``imagined``.
    """

    generator: str
    weights: str
    created: str
    asked: int
    drawn: int
    rejected: int
    trial: Trial

    @property
    def rung(self) -> RungResult:
        """What was measured of it."""
        return self.trial.rungs[0]


@dataclass(frozen=True, slots=True)
class AugmentEvidence:
    """What was measured, when and on what.

    Attributes:
        version: manifest version; ``fingerprint``: of the encoder's weights.
        created: ISO 8601.
        pairs, pictures: captions that were held back in turn, and their pictures.
        among: pictures that each was ranked among, on average: those that nothing was fitted on.
        trial: the figures.
        off: switched off by hand.
        imagined: what was measured of pictures drawn for queries; None where that was not.
    """

    version: int
    fingerprint: str
    created: str
    pairs: int
    pictures: int
    among: int
    trial: Trial
    off: bool = False
    imagined: Imagining | None = None

    @property
    def on(self) -> tuple[RungResult, ...]:
        """The rungs that a search uses."""
        return () if self.off else tuple(rung for rung in self.trial.rungs if rung.on)

    @property
    def imagines(self) -> bool:
        """Whether a search that asks for it draws pictures for queries."""
        return self.imagined is not None and self.imagined.rung.on and not self.off


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """Evidence, the ids (n,) of the rows that it was made on by kind, ascending, and the arrays of the rungs on."""

    evidence: AugmentEvidence
    rows: Mapping[str, Ints]
    rungs: Mapping[str, Mapping[str, NDArray[Any]]]


def pointer_of(path: str) -> bytes | None:
    """Return the pointer's content; it changes with every new fit."""
    return derived_pointer(os.path.join(path, FOLDER))


def load_evidence(path: str) -> AugmentEvidence | None:
    """Return what was measured of the collection at ``path``; None where nothing was, or it cannot be read."""
    head = _evidence(path)
    return None if head is None else head[0]


def load_kept(path: str) -> Kept | None:
    """Return all of it; None where there is nothing, or it cannot be read."""
    head = _evidence(path)
    if head is None:
        return None
    evidence, facts = head
    try:
        data = read_bytes(os.path.join(path, FOLDER, os.path.basename(facts["arrays"])))
        if sha256(data) != facts["sha256"]:
            return None
        arrays = load_npz(data)
        rows = {kind: arrays[f"rows.{kind}"] for kind in ("images", "texts")}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    rungs: dict[str, dict[str, NDArray[Any]]] = {}
    for name, array in arrays.items():
        rung, _, what = name.partition(".")
        if rung != "rows":
            rungs.setdefault(rung, {})[what] = array
    return Kept(evidence, rows, rungs)


def save(path: str, kept: Kept) -> None:
    """Write a fit and make it the one in force; what it replaces is removed.

    Raises:
        StorageError: the folder cannot be written.
    """
    folder = os.path.join(path, FOLDER)
    stem = f"a{kept.evidence.version:06d}-{secrets.token_hex(4)}"
    arrays = {f"rows.{kind}": ids for kind, ids in kept.rows.items()}
    arrays |= {f"{name}.{what}": array for name, rung in kept.rungs.items() for what, array in rung.items()}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # pyright: ignore[reportArgumentType]  # its stub lists allow_pickle among the arrays
    data = buffer.getvalue()
    facts = {"method": METHOD, **asdict(kept.evidence), "arrays": f"{stem}.npz", "sha256": sha256(data)}
    with storage_errors(path):
        os.makedirs(folder, DIR_MODE, exist_ok=True)
        replace_file(os.path.join(folder, f"{stem}.npz"), data)
        put_in_force(folder, f"{stem}.json", (json.dumps(facts, indent=1) + "\n").encode())
        for name in os.listdir(folder):
            if is_temporary(name) or (_FILE.fullmatch(name) and not name.startswith(stem)):
                with suppress(OSError):
                    os.unlink(os.path.join(folder, name))


def file_problems(path: str) -> dict[str, str | None]:
    """Return the files of the fit in force, by name in ``augment/``, and what is wrong with each, if anything."""
    pointer = pointer_of(path)
    if pointer is None:
        return {}
    head = _head(path, any_method=True)
    match = _POINTER.fullmatch(pointer)
    if match is None or head is None:
        return {CURRENT: "it, or the record that it names, is not what was written"}
    name = os.path.basename(head["arrays"])
    try:
        whole = sha256_of_file(os.path.join(path, FOLDER, name)) == head["sha256"]
    except OSError:
        whole = False
    return {CURRENT: None, match[1].decode(): None, name: None if whole else "it is missing, or its digest differs"}


def withdraw(path: str) -> None:
    """Put a fit out of force; its files go with the next one."""
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(path, FOLDER, CURRENT))


def _evidence(path: str) -> tuple[AugmentEvidence, dict[str, Any]] | None:
    """Return the evidence in force, its digest checked, and where its arrays are."""
    facts = _head(path)
    if facts is None:
        return None
    try:
        where = {name: facts.pop(name) for name in ("arrays", "sha256")}
        del facts["method"]
        imagined = facts.pop("imagined", None)  # files of before have none
        if imagined is not None:
            imagined = Imagining(**{**imagined, "trial": _trial(imagined["trial"])})
        return AugmentEvidence(**{**facts, "trial": _trial(facts["trial"])}, imagined=imagined), where
    except (ValueError, KeyError, TypeError):
        return None


def _head(path: str, *, any_method: bool = False) -> dict[str, Any] | None:
    """Return the content of the JSON file in force, its digest checked."""
    pointer = pointer_of(path)
    match = None if pointer is None else _POINTER.fullmatch(pointer)
    if match is None:
        return None
    try:
        with open(os.path.join(path, FOLDER, match[1].decode()), "rb") as file:
            data = file.read()
        facts = json.loads(data) if sha256(data) == match[2].decode() else {}
    except (OSError, ValueError):
        return None
    return facts if facts.get("method") == METHOD or (any_method and facts) else None


def _trial(document: Mapping[str, Any]) -> Trial:
    changes = ("r1", "r10", "mrr", "alone")
    rungs = tuple(
        RungResult(**{**rung, **{name: Change(**rung[name]) for name in changes}}) for rung in document["rungs"]
    )
    levels = {name: Level(**document[name]) for name in ("plain", "augmented")}
    return Trial(rungs, levels["plain"], levels["augmented"], Change(**document["change"]))
